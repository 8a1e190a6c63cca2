"""A journal of what a file has for certain: its length, and the last message of each sender.

Each record says what has changed. A record that is not whole, because the process was killed while
it wrote it, counts as not there, and so does all that follows it.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple, final

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

# Before each record: its length, and its checksum.
_HEADER: Final = Struct("<II")
# When so much has been written, the journal is written anew, as far as it is still of use.
_REWRITE_BYTES: Final = 1 << 20
# Of so many senders it is remembered what they sent: those that were silent longest are forgotten.
_MOST_SENDERS: Final = 10_000


class Commit(NamedTuple):
    """What is certain.

    Attributes:
        file: The number that the file system has for the file.
        size: How many bytes of it are whole messages.
        marks: For each sender the number of the last message that is in.
    """

    file: int
    size: int
    marks: dict[str, int]


_FLAGS: Final = (
    os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_encode: Final = Encoder().encode
_decode: Final = Decoder(Commit).decode


@final
class CommitJournal:
    """The journal, in a file of its own.

    Args:
        path: The file; it is made if it is not there.
        sync: Whether a commit waits until it is on the disk, and outlives a loss of power.

    Raises:
        OSError: If it cannot be read or written.

    Attributes:
        last: What the journal says now; None if it is new.
    """

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._fd = os.open(path, _FLAGS, 0o666)
        self._rewrite_at = _REWRITE_BYTES
        # Whether a commit that does not count may stand at the end.
        self._is_torn = False
        self.last: Commit | None = None
        self._size = self._read()
        # What a killed process left of a record would hide those that follow.
        os.ftruncate(self._fd, self._size)

    def _read(self) -> int:
        """Read all records; return where the last whole one ends."""
        data = self._path.read_bytes()
        at = 0
        while at + _HEADER.size <= len(data):
            length, checksum = _HEADER.unpack_from(data, at)
            start = at + _HEADER.size
            record = data[start : start + length]
            if len(record) < length or zlib.crc32(record) != checksum:
                break
            try:
                commit = _decode(record)
            except DecodeError:
                break
            self._keep(commit)
            at = start + length
        return at

    def _keep(self, commit: Commit) -> None:
        """Take over what a record says."""
        marks = {} if self.last is None else self.last.marks
        for sender, number in commit.marks.items():
            marks.pop(sender, None)  # so that who was silent longest stands first
            marks[sender] = number
        while len(marks) > _MOST_SENDERS:
            del marks[next(iter(marks))]
        self.last = Commit(commit.file, commit.size, marks)

    def commit(self, file: int, size: int, marks: Mapping[str, int]) -> None:
        """Write down what is certain from now on.

        Args:
            file: The number of the file.
            size: How many bytes of it count.
            marks: The senders of which more is in now, with the number of the last message.

        Raises:
            OSError: If it cannot be written; then it does not count, once `take_back` has
                succeeded.
        """
        commit = Commit(file, size, dict(marks))
        record = _encode(commit)
        data = _HEADER.pack(len(record), zlib.crc32(record)) + record
        if self._fd < 0:
            self._fd = os.open(self._path, _FLAGS, 0o666)
        if self._is_torn:
            self.take_back()
        self._is_torn = True
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            if self._sync:
                os.fsync(self._fd)
        except OSError:
            self.take_back()
            raise
        self._is_torn = False
        self._size += len(data)
        self._keep(commit)
        if self._size > self._rewrite_at:
            self._rewrite()

    def take_back(self) -> None:
        """Cut off a commit that failed: it might count, or hide those that follow.

        Raises:
            OSError: If that is not possible. Until it is, what it says must stay true.
        """
        if self._is_torn:
            os.ftruncate(self._fd, self._size)
            self._is_torn = False

    def _rewrite(self) -> None:
        """Put a journal with one record in the place of this one; if that fails, later."""
        self._rewrite_at = self._size + _REWRITE_BYTES
        new = self._path.with_name(f"{self._path.name}.new")
        record = _encode(self.last)
        data = _HEADER.pack(len(record), zlib.crc32(record)) + record
        with suppress(OSError):
            with open(new, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.close()  # Windows replaces no file that is open
            os.replace(new, self._path)
            self._size, self._rewrite_at = len(data), _REWRITE_BYTES

    def close(self) -> None:
        """Close the file; a later commit opens it again. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
