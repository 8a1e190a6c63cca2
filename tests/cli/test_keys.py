"""Tests of ``eliot-etw keys``."""

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")


def test_new(call, tmp_path):
    """A pair is made, and it says where."""
    status, out, errors = call("keys", "new", "web-1", "--folder", tmp_path)
    public, secret = tmp_path / "web-1.key", tmp_path / "web-1.key_secret"
    assert (status, errors) == (0, "")
    assert out == f"public: {public}\nsecret: {secret}\n"
    assert public.exists()
    assert secret.exists()


def test_twice(call, tmp_path):
    """What is there is not replaced."""
    call("keys", "new", "a", "--folder", tmp_path)
    before = (tmp_path / "a.key").read_bytes()
    status, _, errors = call("keys", "new", "a", "--folder", tmp_path)
    assert status == 2
    assert "is there already. Choose another name, or remove it." in errors
    assert (tmp_path / "a.key").read_bytes() == before


def test_odd_name(call, tmp_path):
    """A name that is none is refused."""
    status, _, errors = call("keys", "new", "../a", "--folder", tmp_path)
    assert status == 2
    assert "must be that of a file" in errors


def test_no_verb(call):
    """Without a verb, the help is shown."""
    status, out, errors = call("keys")
    assert (status, errors) == (0, "")
    assert out.startswith("Usage: ")
    assert "eliot-etw keys new web-1" in out
