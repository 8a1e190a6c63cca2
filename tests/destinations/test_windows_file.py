"""Tests of files that are opened as only Windows can."""

import os

import pytest

pytest.importorskip("_winapi", reason="is about Windows")

from eliot_etw.destinations import _windows_file


@pytest.mark.parametrize("opened", [_windows_file.open_to_append, _windows_file.open_alone])
def test_missing(opened, tmp_path):
    """What cannot be opened is told of with its path."""
    path = str(tmp_path / "missing" / "log")
    with pytest.raises(FileNotFoundError) as raised:
        opened(path)
    assert raised.value.filename == path


def test_alone(tmp_path):
    """While one has it, nobody else has; after that it is there again, and may be removed."""
    path = tmp_path / "log"
    path.write_bytes(b"text")
    for _ in range(2):
        fd = _windows_file.open_alone(str(path))
        with pytest.raises(BlockingIOError, match="in use"):
            _windows_file.open_alone(str(path))
        with pytest.raises(PermissionError):
            path.read_bytes()
        assert os.read(fd, 10) == b"text"
        os.close(fd)
    path.unlink()


def test_append(tmp_path):
    """Several may append at a time, each behind what is there."""
    path = tmp_path / "log"
    first, second = (_windows_file.open_to_append(str(path)) for _ in range(2))
    for fd, text in ((first, b"1"), (second, b"2"), (first, b"3")):
        os.write(fd, text)
    os.close(first)
    os.close(second)
    assert path.read_bytes() == b"123"
