"""Files by their lines, whatever is in these: what sources of lines have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from json import JSONDecodeError
from typing import Any, BinaryIO, Generic, NamedTuple, TypeAlias, TypeVar

from eliot_etw.sources._compressed import plain

_T = TypeVar("_T")

_CHUNK_BYTES = 1 << 18
# A longer line is no message but, say, a device without an end: it is skipped, not kept in memory.
MAX_LINE_BYTES = 1 << 28
# Begins what stands for such a line: no JSON begins with it.
OVERLONG = b"\0overlong"


class BadLine(NamedTuple):
    """A line that is no message: where it is, and why it is none."""

    name: str
    number: int
    why: str

    def __str__(self) -> str:
        return f"{self.name}:{self.number}: {self.why}"


OnBadLine: TypeAlias = Callable[[BadLine], object]


class Lines(ABC, Generic[_T]):
    """Turns the bytes of one file into what its lines say, counting them.

    Args:
        name: What to call the file in reports.
        on_bad_line: Called for each line that says nothing.

    Attributes:
        name: What the file is called.
        number: Of the line that was read last.
    """

    def __init__(self, name: str, on_bad_line: OnBadLine | None) -> None:
        self.name = name
        self.number = 0
        self._on_bad_line = on_bad_line
        self._unfinished: list[bytes] = []
        self._unfinished_bytes = 0

    @abstractmethod
    def _decoded(self, lines: Iterable[bytes], *, ended: bool = True) -> Iterator[_T]:
        """Give what lines say; count them, and report those that say nothing."""

    def of(self, chunks: Iterator[bytes]) -> Iterator[_T]:
        """Give all of a file that does not grow."""
        try:
            yield from self.finished(plain(chunks, self.name))
        except OSError:
            # Damaged data may end within a line, or with a whole one.
            yield from self.rest()
            raise
        yield from self.rest()

    def finished(self, chunks: Iterable[bytes]) -> Iterator[_T]:
        """Give what is in all lines that have an end; keep the rest for the next call."""
        for chunk in chunks:
            lines = chunk.split(b"\n")
            if len(lines) == 1:
                self._keep(chunk)
                continue
            if self._unfinished:
                lines[0] = b"".join([*self._unfinished, lines[0]])
            self._unfinished.clear()
            self._unfinished_bytes = 0
            self._keep(lines.pop())
            yield from self._decoded(lines)

    def rest(self) -> Iterator[_T]:
        """Give what is in the last line, which has no end."""
        line = b"".join(self._unfinished)
        self._unfinished.clear()
        self._unfinished_bytes = 0
        yield from self._decoded([line] if line else [], ended=False)

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of a line for later."""
        self._unfinished_bytes += len(piece)
        if self._unfinished_bytes > MAX_LINE_BYTES:
            self._unfinished = [OVERLONG]
        elif piece:
            self._unfinished.append(piece)

    def _report(self, why: str, number: int | None = None) -> None:
        """Say that a line says nothing: the last, or another."""
        if self._on_bad_line:
            self._on_bad_line(BadLine(self.name, number or self.number, why))


def whole(lines: Lines[_T], file: str | os.PathLike[str] | BinaryIO) -> Iterator[_T]:
    """Give what is in a file that does not grow: a path, or one opened for bytes."""
    if isinstance(file, (str, os.PathLike)):
        # Unbuffered: of a pipe, what is there now is shown now.
        with open(file, "rb", buffering=0) as opened:
            yield from lines.of(chunks(opened.read))
    else:
        read: Callable[[int], bytes | None] = getattr(file, "read1", file.read)
        yield from lines.of(chunks(read))


def chunks(read: Callable[[int], bytes | None]) -> Iterator[bytes]:
    """Read until there is no more."""
    while chunk := read(_CHUNK_BYTES):
        yield chunk


def name_of(file: Any) -> str:
    """Name a file for reports."""
    if isinstance(file, (str, os.PathLike)):
        return os.fsdecode(file)
    return str(getattr(file, "name", "<stream>"))


def why_no_json(line: bytes, error: Exception, *, ended: bool) -> str:
    """Say why a line could not be decoded."""
    if line.startswith(OVERLONG):
        return f"longer than {MAX_LINE_BYTES >> 20} MiB"
    if not ended:
        return "the last line is unfinished"
    if isinstance(error, RecursionError):
        return "not JSON: nested too deep"
    if isinstance(error, JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return f"not JSON: {error}"
