"""Tests of locks between processes; those of rotated files are tested with them."""

import os

import pytest

from eliot_etw.destinations import _exclusive


class TestOnlyOneHas:
    """A file that is there to be had by one."""

    def test_by_one(self, tmp_path):
        """It is made, stays, and can be had again, but not by two at a time."""
        path = str(tmp_path / "lock")
        for _ in range(2):
            with (
                _exclusive.only_one_has(path),
                pytest.raises(BlockingIOError),
                _exclusive.only_one_has(path),
            ):
                pass
        assert os.path.exists(path)

    def test_made_by_another(self, tmp_path, monkeypatch):
        """Of two that make it at the same time, who cannot open it for that finds it made."""
        path, really_open, refused = str(tmp_path / "lock"), os.open, []

        def refuse(*arguments):
            monkeypatch.undo()
            refused.append(arguments)
            os.close(really_open(*arguments))
            raise PermissionError(13, "denied", path)

        monkeypatch.setattr(os, "open", refuse)
        with _exclusive.only_one_has(path):
            assert refused

    def test_cannot_be_made(self, tmp_path, monkeypatch):
        """Where nobody may make it, that is said."""
        path = str(tmp_path / "lock")

        def refuse(*_arguments):
            raise PermissionError(13, "denied", path)

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(PermissionError, match="denied"), _exclusive.only_one_has(path):
            pass
