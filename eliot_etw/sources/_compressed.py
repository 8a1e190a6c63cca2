"""Bytes as they were before compression, recognised by what they begin with, not by a name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from eliot_etw._require import require

# So little at a time that a file made to burst ("a zip bomb") gives a few megabytes each time.
_STEP_BYTES = 4096


class _Inflater(Protocol):
    """What the decompressors of gzip, xz and zstd have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def plain(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Give the bytes of a file, decompressed if they begin as gzip, xz or Zstandard does.

    Args:
        chunks: The bytes of the file.
        name: What to call the file in an error.

    Raises:
        OSError: If compressed data is damaged or ends too early, or if the text is UTF-16. What
            could be read has been given before.
        MissingDependency: If the data is Zstandard, and package zstandard is not installed.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= MAGIC_BYTES:
            break
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _unreadable(name, "is UTF-16 text; convert it to UTF-8 first")
    whole = _with_head(head, chunks)
    for magic, (label, prepare) in _FORMATS.items():
        if head.startswith(magic):
            return _inflated(whole, name, label, *prepare())
    return whole


def refuse_compressed(head: bytes, name: str) -> None:
    """Raise `OSError` if a file beginning like this is compressed."""
    for magic, (label, _) in _FORMATS.items():
        if head.startswith(magic):
            raise _unreadable(name, f"is compressed ({label}); only a plain file can be followed")


def _unreadable(name: str, why: str) -> OSError:
    """Make the error for a file that can be opened, but not read as what it is."""
    return OSError(errno.EIO, why, name)


def _with_head(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Put back what was read for looking at it."""
    if head:
        yield head
    yield from chunks


def _inflated(
    chunks: Iterator[bytes],
    name: str,
    label: str,
    new: Callable[[], _Inflater],
    error: type[Exception],
) -> Iterator[bytes]:
    """Decompress one stream, or several that were put one after another."""
    inflater = new()
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _STEP_BYTES):
                data = chunk[start : start + _STEP_BYTES]
                while data:
                    if inflater.eof:
                        inflater = new()
                    yield inflater.decompress(data)
                    # Padding with zeros after a stream is allowed by gzip and xz.
                    data = inflater.unused_data.lstrip(b"\0") if inflater.eof else b""
    except error as problem:
        raise _unreadable(name, f"is damaged ({label}: {problem})") from None
    if not inflater.eof:
        raise _unreadable(name, f"is cut off: its {label} data end too early")


def _gzip() -> tuple[Callable[[], _Inflater], type[Exception]]:
    import zlib  # noqa: PLC0415 - who reads plain files does not pay

    return lambda: zlib.decompressobj(wbits=31), zlib.error


def _xz() -> tuple[Callable[[], _Inflater], type[Exception]]:
    import lzma  # noqa: PLC0415 - who reads plain files does not pay

    return lzma.LZMADecompressor, lzma.LZMAError


def _zstd() -> tuple[Callable[[], _Inflater], type[Exception]]:
    zstandard: Any = require("zstandard", feature="Reading .zst", extra="cli")
    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError


# Sources: RFC 1952, section 2.3.1; the .xz file format 1.2.1, section 2.1.1.1; RFC 8878, 3.1.1.
_FORMATS = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"\xfd7zXZ\0": ("xz", _xz),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}
# How much of a file must be seen to know.
MAGIC_BYTES = max(map(len, _FORMATS))
