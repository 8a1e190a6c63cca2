"""Messages as lines of JSON in a file."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable
from os import write
from typing import IO, Any

from orjson import dumps

from eliot_etw._counter import Counter
from eliot_etw._json import APPEND_NEWLINE, choose_default, encode_carefully
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict


class FileDestination:
    """Writes each message as one line of JSON, with one write that reaches the operating system.

    Several processes may append to one path, and several threads may log at once: lines never
    interleave, and no lock is taken. When the program is killed, at most its last line is
    unfinished. While the disk is full or the file closed, each message is a destination failure,
    which is counted; the line that follows what was written of an unfinished one begins anew.
    """

    is_leaf = True

    def __init__(
        self,
        file: IO[Any] | str | os.PathLike[str],
        encoder: type[Any] | None = None,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Open the file.

        Args:
            file: A path, which is appended to, or a file that is open for writing text or bytes,
                which is not closed by `close`.
            encoder: A `json.JSONEncoder` class, as older programs pass it.
            json_default: Converts values that JSON does not know. If it raises, the value's
                `repr` is written.

        Raises:
            RuntimeError: If the file is not open for writing, or both an encoder and a
                json_default are given.
            OSError: If the path cannot be opened.
        """
        self.file = file
        self._default = choose_default(encoder, json_default)
        self._failed = Counter()
        # Whether the file ends in the middle of a line, which the next one must not continue.
        self._torn = False
        self._path: str | None = None
        # One of two ways to write: to a descriptor, after a flush of the file object it belongs
        # to (which also notices that the file was closed); or by the file object's own write.
        self._fd: int | None = None
        self._flush: Callable[[], object] | None = None
        self._write_text = False
        if isinstance(file, (str, os.PathLike)):
            self._path = os.path.abspath(os.fspath(file))
            self._fd = _open_to_append(self._path)
            self._torn = _ends_within_a_line(self._path)
        else:
            self._take(file)

    def _take(self, file: IO[Any]) -> None:
        """Find out how to write to an open file."""
        if isinstance(file, io.IOBase) and not file.writable():
            msg = f"The file must be open for writing, got {file!r}. Open it with mode 'ab'."
            raise RuntimeError(msg)
        self._write_text = _takes_text(file)
        self._flush = file.flush
        if _is_utf8_descriptor(file):
            self._fd = file.fileno()

    def __eq__(self, other: object) -> bool:
        """Two destinations are equal if they write the same way to the same file."""
        return (
            isinstance(other, FileDestination)
            and self.file == other.file
            and self._default == other._default
        )

    def __hash__(self) -> int:
        return hash((FileDestination, self._path or id(self.file)))

    def __call__(self, message: MessageDict) -> None:
        """Write a message. Raises what the operating system does; the dispatcher reports it."""
        # Not by encode_line, which would be one call more for every message.
        try:
            line = dumps(message, self._default, APPEND_NEWLINE)
        except TypeError:
            line = encode_carefully(message, self._default)
        if self._torn:
            line = b"\n" + line
        try:
            if self._flush is not None:
                self._flush()
            if self._fd is None:
                self._write_to_object(line)
            elif (written := write(self._fd, line)) != len(line):
                self._write_rest(line[written:])
        except Exception:
            self._failed.add()
            raise
        if self._torn:
            self._torn = False

    def _write_rest(self, rest: bytes) -> None:
        """Write on after the system took a part only: a signal came, or the disk is full."""
        assert self._fd is not None  # noqa: S101 - for the type checker
        try:
            while rest:
                rest = rest[write(self._fd, rest) :]
        except BaseException:
            self._torn = True
            raise

    def _write_to_object(self, line: bytes) -> None:
        """Write with the methods of an object that is no plain file."""
        file: IO[Any] = self.file  # type: ignore[assignment] # a path has a descriptor
        file.write(line.decode() if self._write_text else line)
        file.flush()

    def reopen(self) -> None:
        """Open the path again, after it was renamed by logrotate; other threads may go on logging.

        Raises:
            RuntimeError: If the destination was given a file, not a path.
            OSError: If the path cannot be opened; the old file stays in use.
        """
        if self._path is None or self._fd is None:
            msg = f"reopen() needs a destination that was given a path, got {self.file!r}."
            raise RuntimeError(f"{msg} Pass the path to FileDestination.")
        new = _open_to_append(self._path)
        try:
            # Atomic: what other threads write meanwhile goes into the one file or the other.
            os.dup2(new, self._fd, inheritable=False)
        finally:
            os.close(new)
        self._torn = _ends_within_a_line(self._path)

    def close(self) -> None:
        """Close the file, if the destination opened it. What is logged later is a failure."""
        if self._path is not None and self._fd is not None and self._fd >= 0:
            # A number that is no file: the old one may soon be that of another.
            fd, self._fd = self._fd, -1
            os.close(fd)

    def stats(self) -> dict[str, int]:
        """Count what went wrong: ``failed``, the messages that were not or not wholly written."""
        return {"failed": self._failed.value}


def _open_to_append(path: str) -> int:
    """Open a file so that each write lands at its end, whole, however many processes write."""
    if sys.platform == "win32":
        return _open_to_append_on_windows(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


def _open_to_append_on_windows(path: str) -> int:
    """Open a file for appending only: O_APPEND of the C library is a seek and then a write.

    Source:
        CreateFileW: a handle with FILE_APPEND_DATA but without FILE_WRITE_DATA appends atomically.
    """
    import _winapi  # noqa: PLC0415 - there is none elsewhere
    import msvcrt  # noqa: PLC0415 - there is none elsewhere

    append_data, synchronize = 0x4, 0x100000
    share_read_write_delete = 0x7
    open_always, attribute_normal = 4, 0x80
    handle = _winapi.CreateFile(  # type: ignore[attr-defined,unused-ignore] # Windows only
        path,
        append_data | synchronize,
        share_read_write_delete,
        0,
        open_always,
        attribute_normal,
        0,
    )
    flags = os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
    fd: int = msvcrt.open_osfhandle(handle, flags)  # type: ignore[attr-defined,unused-ignore] # Windows only
    return fd


def _ends_within_a_line(path: str) -> bool:
    """Say whether the last line has no end: whoever wrote it was killed."""
    try:
        with open(path, "rb") as file:
            if not os.path.isfile(path) or file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # it may be for writing only
        return False


def _takes_text(file: IO[Any]) -> bool:
    """Say whether a file takes text, or bytes.

    Raises:
        RuntimeError: If it takes neither.
    """
    try:
        file.write(b"")
    except TypeError:
        return True
    except (AttributeError, OSError, ValueError) as error:
        msg = f"The file must be open for writing, got {file!r}. Open it with mode 'ab'."
        raise RuntimeError(msg) from error
    return False


def _is_utf8_descriptor(file: IO[Any]) -> bool:
    """Say whether bytes written to the file's descriptor are what the file itself would write."""
    if type(file) is io.TextIOWrapper:
        if codecs.lookup(file.encoding).name != "utf-8" or os.linesep != "\n":
            return False
        file = file.buffer
    # Subclasses may do anything with what is written, and not every file has a descriptor.
    raw: object = file
    if type(file) in (io.BufferedWriter, io.BufferedRandom):
        raw = getattr(file, "raw")  # noqa: B009 - the type of the parameter has none
    return type(raw) is io.FileIO
