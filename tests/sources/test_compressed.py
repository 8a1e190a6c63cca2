"""Tests of reading compressed files."""

import gzip
import io
import lzma
import sys
import zlib

import pytest

from eliot_etw._json import encode_line
from eliot_etw.exceptions import MissingDependency
from eliot_etw.sources import FileSource

zstandard = pytest.importorskip("zstandard")

MESSAGES = [
    {"task_uuid": "a-task", "task_level": [n], "timestamp": 1.5, "text": f"{n}" * 50}
    for n in range(1, 2000)
]
CONTENT = b"".join(map(encode_line, MESSAGES))
COMPRESSORS = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
each = pytest.mark.parametrize("form", COMPRESSORS)


def read(content):
    """Read bytes as a file."""
    return list(FileSource(io.BytesIO(content), name="app.log"))


def read_until_error(content):
    """Read bytes as a file that ends in an error; return both."""
    messages = []
    try:
        for message in FileSource(io.BytesIO(content), name="app.log"):
            messages.append(message)  # noqa: PERF402 - what came before the error is wanted
    except OSError as error:
        return messages, error
    pytest.fail("No error.")


@each
def test_recognised_by_content(form):
    """The name does not matter: it is read as what it is."""
    assert read(COMPRESSORS[form](CONTENT)) == MESSAGES


@each
def test_several_streams_in_one_file(form):
    """Files that were put one after another, as `cat a.gz b.gz` does, are read to the end."""
    half = CONTENT.index(b"\n", len(CONTENT) // 2) + 1
    compress = COMPRESSORS[form]
    assert read(compress(CONTENT[:half]) + compress(CONTENT[half:])) == MESSAGES


@each
def test_cut_off(form):
    """Of a file that ends too early, what is there is read, and then it is said."""
    whole = COMPRESSORS[form](CONTENT)
    messages, error = read_until_error(whole[: len(whole) - 5])
    assert messages == MESSAGES[: len(messages)]
    assert error.strerror == f"is cut off: its {form} data end too early"


@each
def test_damaged(form):
    """Of a file that is damaged, what is before that is read, and then it is said."""
    whole = bytearray(COMPRESSORS[form](CONTENT))
    middle = len(whole) // 2
    whole[middle : middle + 40] = b"\xff" * 40
    messages, error = read_until_error(bytes(whole))
    # gzip and zstd make something of damaged data, too, until a checksum does not fit.
    good = min(len(messages), len(MESSAGES) // 4)
    assert messages[:good] == MESSAGES[:good]
    assert error.strerror.startswith(f"is damaged ({form}: ")
    assert error.filename == "app.log"


@each
def test_only_its_beginning(form):
    """A file that stops within the magic number and the header is cut off, too."""
    messages, error = read_until_error(COMPRESSORS[form](CONTENT)[:7])
    assert (messages, error.filename) == ([], "app.log")


def test_padding():
    """Zeros after gzip data, as tapes have them, are no data."""
    assert read(gzip.compress(CONTENT) + b"\0" * 512) == MESSAGES


def test_bursting_file():
    """Data that were made to burst are read a little at a time."""
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(b" " * (1 << 20)) for _ in range(64))
    bomb += compressor.compress(b"\n" + CONTENT) + compressor.flush()
    assert len(bomb) < 200_000
    assert read(bomb) == MESSAGES


def test_utf_16():
    """UTF-16 is called by its name, not reported line by line."""
    messages, error = read_until_error(CONTENT.decode().encode("utf-16"))
    assert (messages, error.strerror) == ([], "is UTF-16 text; convert it to UTF-8 first")


def test_zstandard_is_not_installed(monkeypatch):
    """Only who reads such a file needs the package, and is told so."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert read(CONTENT) == MESSAGES
    with pytest.raises(MissingDependency, match=r"^Reading \.zst needs the package 'zstandard'"):
        read(COMPRESSORS["zstd"](CONTENT))
