"""Messages as lines of JSON in a file."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import write
from time import sleep
from typing import IO, Any

from orjson import dumps

from eliot_etw._counter import Counter
from eliot_etw._json import LINE_OPTIONS, choose_default, encode_carefully, encode_line, in_ascii
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

# How often, and how long in all, to look whether somebody ends an unfinished line.
_LOOKS = 10
_BETWEEN_LOOKS_S = 0.01


class FileDestination:
    """Writes each message as one line of JSON, with one write that reaches the operating system.

    Several processes may append to one path, and several threads may log at once: lines never
    interleave, and no lock is taken. When the program is killed, at most its last line is
    unfinished. While the disk is full or the file closed, each message is a destination failure,
    which is counted; the line that follows what was written of an unfinished one begins anew.
    """

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
        self.file: Any = file
        self._default = choose_default(encoder, json_default)
        self._failed = Counter()
        self._path: str | None = None
        # Written to is either a descriptor or, if that is negative, the file object; before that
        # the object is flushed, which keeps what the program itself writes to it in order, and
        # notices that it was closed.
        self._fd = -1
        self._flush: Callable[[], object] | None = None
        self._writes_text = False
        self._is_regular = False
        # Whether the file ends in the middle of a line, which the next one must not continue.
        self._torn = False
        if isinstance(file, (str, os.PathLike)):
            self._path = os.path.abspath(os.fspath(file))
            self._fd = self._open(self._path)
            self._torn = _ends_within_a_line(self._path)
            # A pipe that has others at its end takes so many bytes at once, and no more.
            self._is_regular = os.path.isfile(self._path)
        else:
            self._take(file)
        # To the dispatcher: nothing that is called here logs, as an object's write() may.
        self.is_leaf = self._fd >= 0
        # Whether a write to the descriptor is all there is to do.
        self._is_plain = self._flush is None and not self._torn

    @property
    def takes_batches(self) -> bool:
        """Whether `write_lines` writes many lines at once: to a path that is a regular file."""
        return self._is_plain and self._is_regular

    def _open(self, path: str) -> int:
        """Open the path; what else is to be done to a file that is written to comes in here."""
        return open_to_append(path)

    def _take(self, file: IO[Any]) -> None:
        """Find out how to write to an open file."""
        try:
            self._flush = file.flush
            self._writes_text = _takes_text(file)
        except (AttributeError, OSError, ValueError) as error:
            msg = f"The file must be open for writing, got {file!r}. Open it with mode 'ab'."
            raise RuntimeError(msg) from error
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
            line = dumps(message, None, LINE_OPTIONS)
        except TypeError:
            line = encode_carefully(message, self._default)
        try:
            if self._is_plain:
                written = write(self._fd, line)
                if written != len(line):
                    self._write_rest(line[written:], begun=True)
            else:
                self._write_carefully(line)
        except Exception:
            self._failed.add()
            raise

    def encode(self, message: MessageDict) -> bytes:
        """Make the line that a message becomes. Never raises for what the message holds."""
        return encode_line(message, self._default)

    def write_lines(self, lines: Sequence[bytes]) -> list[tuple[bytes, Exception]]:
        """Write lines that `encode` made; with one write, if `takes_batches`.

        Returns:
            The lines that were not, or not wholly, written, each with what was raised.
        """
        done = 0
        if len(lines) > 1 and self.takes_batches:
            batch = b"".join(lines)
            # What keeps it from being written is found again below, line by line.
            with suppress(OSError):
                done = write(self._fd, batch)
            if done == len(batch):
                return []
        failed: list[tuple[bytes, Exception]] = []
        for line in lines:
            if done >= len(line):
                done -= len(line)
                continue
            try:
                if self._is_plain:
                    self._write_rest(line[done:], begun=done > 0)
                else:
                    self._write_carefully(line)
            except Exception as error:  # noqa: BLE001 - whoever wrote the batch tells of each
                self._failed.add()
                failed.append((line, error))
            done = 0
        return failed

    def _write_carefully(self, line: bytes) -> None:
        """Write to a file object, or after a line that has no end."""
        if self._torn:
            line = b"\n" + line
        if self._flush is not None:
            self._flush()
        if self._fd >= 0:
            self._write_rest(line, begun=False)
        else:
            self._write_to_object(line)
        self._torn = False
        self._is_plain = self._flush is None

    def _write_to_object(self, line: bytes) -> None:
        """Write by the methods of the file object."""
        if self._writes_text:
            try:
                self.file.write(line.decode())
            except UnicodeEncodeError:  # its encoding is not UTF-8
                self.file.write(in_ascii(line))
        else:
            self.file.write(line)
        self.file.flush()

    def _write_rest(self, rest: bytes, begun: bool) -> None:
        """Write on until all is written; the system takes a part when a signal comes."""
        try:
            while rest:
                rest = rest[write(self._fd, rest) :]
                begun = True
        except BaseException:
            self._torn = self._torn or begun
            self._is_plain = False
            raise

    def reopen(self) -> None:
        """Open the path again, after it was renamed by logrotate; other threads may go on logging.

        Raises:
            RuntimeError: If the destination was given a file, not a path, or is closed.
            OSError: If the path cannot be opened; the old file stays in use.
        """
        if self._path is None:
            msg = f"reopen() needs a destination that was given a path, got {self.file!r}."
            raise RuntimeError(f"{msg} Pass the path to FileDestination.")
        if self._fd < 0:
            msg = f"The destination must not be closed, got that of {self.file!r}, which is."
            raise RuntimeError(f"{msg} Make a new FileDestination.")
        new = self._open(self._path)
        try:
            # Atomic: what other threads write meanwhile goes into the one file or the other.
            os.dup2(new, self._fd, inheritable=False)
        finally:
            os.close(new)
        self._torn = _ends_within_a_line(self._path)
        self._is_plain = not self._torn

    def close(self) -> None:
        """Close the file, if the destination opened it. What is logged later is a failure."""
        if self._path is not None and self._fd >= 0:
            # A number that is no file: the old one may soon be that of another.
            fd, self._fd = self._fd, -1
            self._is_plain = True
            os.close(fd)

    def stats(self) -> dict[str, int]:
        """Count what went wrong: ``failed``, the messages that were not or not wholly written."""
        return {"failed": self._failed.value}


def open_to_append(path: str) -> int:
    """Open a file so that each write lands at its end, whole, however many processes write."""
    if sys.platform == "win32":
        from eliot_etw.destinations import _windows_file  # noqa: PLC0415 - for nobody else

        return _windows_file.open_to_append(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


def _ends_within_a_line(path: str) -> bool:
    """Say whether the last line has no end: whoever wrote it was killed."""
    if not os.path.isfile(path):
        return False
    for _ in range(_LOOKS):
        if _last_byte(path) in (b"", b"\n"):
            return False
        # Perhaps another process is just writing it: a long line can be seen growing.
        sleep(_BETWEEN_LOOKS_S)
    return True


def _last_byte(path: str) -> bytes:
    """Read the end of a file; nothing if it is empty, or may not be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            return file.read(1)
    except OSError:
        return b""


def _takes_text(file: IO[Any]) -> bool:
    """Say whether a file takes text, or bytes.

    Raises:
        AttributeError, OSError, ValueError: If it takes neither.
    """
    if isinstance(file, io.IOBase) and not file.writable():
        raise io.UnsupportedOperation("not writable")
    if isinstance(file, (io.TextIOBase, io.BufferedIOBase, io.RawIOBase)):
        # Not by writing nothing: a datagram is sent even so, and a full device may refuse.
        return isinstance(file, io.TextIOBase)
    try:
        file.write(b"")
    except TypeError:
        return True
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
