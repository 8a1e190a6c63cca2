"""Tests of keys: how they are made, and who is allowed."""

import os
import stat

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")

from zmq.auth import load_certificate
from zmq.utils import z85

from eliot_etw.collector import _keys
from eliot_etw.collector._keys import AllowedKeys, make_keys, zap_reply


@pytest.fixture(autouse=True)
def look_always(monkeypatch):
    """Look at the folder each time."""
    monkeypatch.setattr(_keys, "_LOOK_EVERY_S", 0.0)


def public_key(path):
    return z85.decode(load_certificate(path)[0])


def test_make(tmp_path):
    """A pair is made; the secret is its owner's alone."""
    public, secret = make_keys(tmp_path / "new", "web-1")
    assert (public.name, secret.name) == ("web-1.key", "web-1.key_secret")
    assert load_certificate(public)[1] is None
    assert load_certificate(secret)[1] is not None
    if os.name == "posix":
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_make_twice(tmp_path):
    """Keys that are there are not replaced."""
    make_keys(tmp_path, "a")
    with pytest.raises(FileExistsError, match="is there already"):
        make_keys(tmp_path, "a")


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a"])
def test_odd_name(tmp_path, name):
    """A name must be that of a file."""
    with pytest.raises(ValueError, match="must be that of a file"):
        make_keys(tmp_path, name)


def test_allowed(tmp_path, messages):
    """Who has a key in the folder is allowed; the folder is read again when it changes."""
    public, _ = make_keys(tmp_path, "a")
    keys = AllowedKeys(tmp_path)
    assert keys.name_of(public_key(public)) == "a"
    other, _ = make_keys(tmp_path, "b")
    assert keys.name_of(public_key(other)) is None
    assert keys.refresh()
    assert keys.name_of(public_key(other)) == "b"
    assert not keys.refresh()
    gone = public_key(public)
    assert keys.name_of_user(gone.hex()) == "a"
    public.unlink()
    assert keys.refresh()
    assert keys.name_of(gone) is None
    assert keys.name_of_user(gone.hex()) is keys.name_of_user("") is None


def test_folder_is_gone(tmp_path, messages):
    """Without the folder, nobody is allowed."""
    folder = tmp_path / "keys"
    public, secret = make_keys(folder, "a")
    keys, gone = AllowedKeys(folder), public_key(public)
    public.unlink()
    secret.unlink()
    folder.rmdir()
    assert keys.refresh()
    assert keys.name_of(gone) is None
    with pytest.raises(FileNotFoundError):
        AllowedKeys(folder)


@pytest.mark.parametrize(
    "text",
    ["no key", *(f'curve\n    public-key = "{key}"\n' for key in ("abc", "~" * 40, "#" * 40))],
    ids=["no file of keys", "length", "character", "number"],
)
def test_no_key(tmp_path, messages, text):
    """A file that is none is left out, and told of."""
    (tmp_path / "odd.key").write_text(text)
    public, _ = make_keys(tmp_path, "a")
    assert AllowedKeys(tmp_path).name_of(public_key(public)) == "a"
    assert [m["file"] for m in messages if m["message_type"] == "collector:bad_key"] == ["odd.key"]


class TestZap:
    """What libzmq is told."""

    def reply(self, folder, *, key=b"\0" * 32, mechanism=b"CURVE", version=b"1.0"):
        request = [version, b"7", b"eliot_etw", b"127.0.0.1", b"", mechanism, key]
        return zap_reply(request, AllowedKeys(folder))

    def test_allowed(self, tmp_path):
        """The key becomes the user's id."""
        key = public_key(make_keys(tmp_path, "a")[0])
        assert self.reply(tmp_path, key=key)[2:5] == [b"200", b"OK", key.hex().encode()]

    @pytest.mark.parametrize(
        "options", [{}, {"key": b""}, {"mechanism": b"NULL"}, {"mechanism": b"PLAIN"}]
    )
    def test_denied(self, tmp_path, messages, options):
        """A key that is not there, and any other mechanism, is denied, and written down."""
        assert self.reply(tmp_path, **options)[2] == b"400"
        assert messages[-1]["message_type"] == "collector:denied"
        assert messages[-1]["address"] == "127.0.0.1"

    def test_who_was_denied(self, tmp_path, messages):
        """The key is written as its file has it, so that it can be found and allowed."""
        public, _ = make_keys(tmp_path / "other", "a")
        self.reply(tmp_path, key=public_key(public))
        assert messages[-1]["public_key"] in public.read_text()

    def test_no_question(self, tmp_path):
        """What is no question is answered with an error."""
        assert self.reply(tmp_path, version=b"9")[2] == b"500"
        assert zap_reply([], AllowedKeys(tmp_path))[2] == b"500"
