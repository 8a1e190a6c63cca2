"""What waits to be taken elsewhere, in order and bounded: in memory, or in a folder on disk.

Both have the same methods, for one thread at a time. Messages are put in as blobs of several, and
numbered from 1. What is on disk is there before `append` returns, survives the process that wrote
it, and is found by the next one that opens the folder.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from secrets import token_bytes
from struct import Struct
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, final
from zlib import crc32

from eliot_etw.destinations._exclusive import only_one_has

WhenFull: TypeAlias = Literal["refuse", "drop_old"]

_SUFFIX: Final = ".spool"
_MAGIC: Final = b"EWSPOOL1"
# First number, number of messages, bytes of the blob; and the checksum of all that.
_HEAD: Final = Struct("<QII")
_CHECKSUM: Final = Struct("<I")
_HEAD_BYTES: Final = _HEAD.size + _CHECKSUM.size
_NUMBER: Final = Struct("<Q")
_MOST_SEGMENT_BYTES: Final = 16 << 20
_LEAST_SEGMENT_BYTES: Final = 1 << 10
# For all files that are written; those that Python opens have them anyway.
_FLAGS: Final = os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class SpoolFull(Exception):
    """There is no room for a blob."""


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """A blob in a spool.

    Attributes:
        first: The number of its first message.
        count: How many messages it has.
        blob: The messages.
    """

    first: int
    count: int
    blob: bytes

    @property
    def last(self) -> int:
        """The number of its last message."""
        return self.first + self.count - 1


class Spool(Protocol):
    """What both kinds have.

    Attributes:
        identity: 16 random bytes, others for each spool, that stay with a folder.
        first: The number of the first message that is not released.
        next: The number that the next message gets.
        size_bytes: How much room is taken.
        dropped: How many messages were dropped to make room, or are damaged on disk.
    """

    identity: bytes
    first: int
    next: int
    size_bytes: int
    dropped: int

    def __len__(self) -> int:
        """How many messages wait."""

    def append(self, blob: bytes, count: int) -> int:
        """Put messages in.

        Args:
            blob: The messages; one blob is taken even if it is larger than the room there is.
            count: How many, at least 1.

        Returns:
            The number of the first one.

        Raises:
            SpoolFull: If there is no room, and nothing is to be dropped for it.
            OSError: If the disk is full or broken. The spool is as it was before.
        """

    def read(self, at: int) -> Entry | None:
        """Give the blob that has the message of this number, or the next that there is.

        Costs the same wherever it is, if blobs are read one after another.
        """

    def release(self, through: int) -> int:
        """Forget all messages up to a number; return how many they were."""

    def close(self) -> None:
        """Close the files, if there are any. What waits on disk stays there."""


@final
class MemorySpool:
    """A spool that is gone with the process."""

    def __init__(self, *, max_bytes: int, when_full: WhenFull = "refuse") -> None:
        """Make an empty spool.

        Args:
            max_bytes: How many bytes all blobs may have.
            when_full: Whether the next blob is refused, or the oldest dropped.
        """
        self.identity = token_bytes(16)
        self.first = self.next = 1
        self.size_bytes = 0
        self.dropped = 0
        self._max_bytes = max_bytes
        self._when_full = when_full
        # By the number of the first message, in their order.
        self._entries: dict[int, Entry] = {}

    def __len__(self) -> int:
        return self.next - self.first

    def append(self, blob: bytes, count: int) -> int:
        """Put messages in."""
        while self._entries and self.size_bytes + len(blob) > self._max_bytes:
            if self._when_full == "refuse":
                raise SpoolFull
            oldest = next(iter(self._entries.values()))
            self.dropped += self.release(oldest.last)
        first = self.next
        self._entries[first] = Entry(first, count, blob)
        self.next += count
        self.size_bytes += len(blob)
        return first

    def read(self, at: int) -> Entry | None:
        """Give the blob that has the message of this number, or the next that there is."""
        at = max(at, self.first)
        exact = self._entries.get(at)
        if exact is not None or at >= self.next:
            return exact
        return next((entry for entry in self._entries.values() if entry.last >= at), None)

    def release(self, through: int) -> int:
        """Forget all messages up to a number; return how many they were."""
        through = min(through, self.next - 1)
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if oldest.last > through:
                break
            del self._entries[oldest.first]
            self.size_bytes -= len(oldest.blob)
        released = max(0, through + 1 - self.first)
        self.first += released
        return released

    def close(self) -> None:
        """Do nothing: there are no files."""


class _Cursor(NamedTuple):
    """Where the next blob is read from."""

    segment: int
    file: Any
    offset: int
    at: int


@final
class DiskSpool:
    """A spool in a folder, which one process at a time may have.

    It is written to files of several blobs each, which are appended to only, and removed as a
    whole when all that is in them is released. A blob whose write was cut short, because the
    process was killed, is cut off when the folder is opened again. What is damaged in another way
    is left out and counted; it stays in its file until what follows is released.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int,
        when_full: WhenFull = "refuse",
        sync: bool = False,
    ) -> None:
        """Open the folder, or make it.

        Args:
            folder: The folder; nothing else may be in it.
            max_bytes: How many bytes the files may have.
            when_full: Whether the next blob is refused, or the oldest ones are dropped: a whole
                file of them, an eighth of the room at most.
            sync: Whether `append` waits until the disk itself has the blob, so that it survives
                also if the machine stops.

        Raises:
            BlockingIOError: If another process has it, or another spool of this one.
            OSError: If it cannot be made, or not be read or written.
        """
        self.folder = os.path.abspath(os.fspath(folder))
        self.dropped = 0
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._when_full = when_full
        self._sync = sync
        self._segment_bytes = max(_LEAST_SEGMENT_BYTES, min(max_bytes // 8, _MOST_SEGMENT_BYTES))
        self._files = ExitStack()
        self._end = -1
        # Whether the last file ends in what could neither be written wholly nor be taken back.
        self._is_torn = False
        self._cursor: _Cursor | None = None
        # Numbers of messages that are damaged, each time from one to before another.
        self._damaged: list[tuple[int, int]] = []
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._lock()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return (
            self.next
            - self.first
            - sum(max(0, end - max(begin, self.first)) for begin, end in self._damaged)
        )

    # ---- opening -------------------------------------------------------------------------------

    def _lock(self) -> None:
        """Have the folder for this spool alone, until it is closed or the process is gone."""
        try:
            self._files.enter_context(only_one_has(self._path("lock")))
        except BlockingIOError as error:
            msg = (
                f"The folder of a spool must be free, got {self.folder!r}, which another has. "
                "Choose a folder for each."
            )
            raise BlockingIOError(msg) from error

    def _open(self) -> None:
        """Find what is in the folder."""
        self.identity = self._read_small("identity")
        if len(self.identity) != 16:
            self.identity = token_bytes(16)
            self._write_small("identity", self.identity)
        self._released_fd = os.open(self._path("released"), _FLAGS | os.O_RDWR, 0o600)
        self._files.callback(os.close, self._released_fd)
        released = os.read(self._released_fd, _NUMBER.size)
        through = _NUMBER.unpack(released)[0] if len(released) == _NUMBER.size else 0
        self._segments = sorted(
            int(name[: -len(_SUFFIX)])
            for name in os.listdir(self.folder)
            if name.endswith(_SUFFIX) and name[: -len(_SUFFIX)].isdigit()
        )
        self._sizes = {
            segment: os.path.getsize(self._path_of(segment)) for segment in self._segments
        }
        self.size_bytes = sum(self._sizes.values())
        self.next = through + 1
        kept: list[int] = []
        for segment in self._segments:
            is_empty = self._sizes[segment] <= len(_MAGIC)
            if kept and is_empty and self._scan(kept[-1])[1] > segment:
                # It could be neither begun nor removed, and the one before was written on.
                self._remove(segment)
            else:
                kept.append(segment)
        self._segments = kept
        if self._segments:
            self._continue(self._segments[-1])
        self.first = max(through + 1, self._segments[0]) if self._segments else self.next
        self.next = max(self.next, self.first)
        if self._end < 0:
            self._begin()

    def _continue(self, segment: int) -> None:
        """Go on in the last file, after the last whole blob, unless damage follows there."""
        offset, at, lost = self._scan(segment)
        self.next = max(self.next, at + lost)
        if at != self.next or not offset:
            return  # or nothing that is needed is in it
        self._end = os.open(self._path_of(segment), _FLAGS | os.O_WRONLY | os.O_APPEND, 0o600)
        os.ftruncate(self._end, offset)
        self._resize(segment, offset)

    def _scan(self, segment: int) -> tuple[int, int, int]:
        """Look through a file.

        Returns:
            Where the last whole blob ends, the number that comes after it, and how many messages
            are damaged that stand there, as far as can be told.
        """
        at = segment
        with open(self._path_of(segment), "rb", buffering=0) as file:
            if len(_read(file, len(_MAGIC))) < len(_MAGIC):
                return 0, at, 0
            while True:
                offset = file.tell()
                if (entry := _read_entry(file, at)) is not None:
                    at = entry.last + 1
                    continue
                file.seek(offset)
                found = _find_entry(file, at)
                if found is None:
                    file.seek(offset)
                    return offset, at, _damaged_in(file, at)
                at = found

    def _begin(self) -> None:
        """Begin a new file, unless there is nothing in the last one yet."""
        segment = self.next
        is_there = segment in self._sizes
        if is_there and self._end >= 0:
            return
        if self._is_torn:  # or it would be there under a number that is given again
            self._take_back(self._sizes[self._segments[-1]])
        end = os.open(
            self._path_of(segment),
            _FLAGS | os.O_WRONLY | os.O_APPEND | os.O_TRUNC,
            0o600,
        )
        try:
            _write_all(end, _MAGIC)
        except OSError:
            os.close(end)
            # One that was there before stays: its name may be all that tells the next number.
            if not is_there:
                with suppress(OSError):
                    os.remove(self._path_of(segment))
            raise
        # In this order: a child that is forked in between must close no file of another.
        old, self._end = self._end, end
        if old >= 0:
            os.close(old)
        self._is_torn = False
        if not is_there:
            self._segments.append(segment)
        self._resize(segment, len(_MAGIC))

    # ---- what is done with it ------------------------------------------------------------------

    def append(self, blob: bytes, count: int) -> int:
        """Put messages in."""
        head = _HEAD.pack(self.next, count, len(blob))
        record = b"".join([head, _CHECKSUM.pack(crc32(blob, crc32(head))), blob])
        self._make_room(len(record))
        segment = self._segments[-1]
        size = self._sizes[segment]
        if size > len(_MAGIC) and size + len(record) > self._segment_bytes:
            self._begin()
            segment = self._segments[-1]
            size = self._sizes[segment]
        if self._is_torn:
            self._take_back(size)
        try:
            _write_all(self._end, record)
            if self._sync:
                _to_disk(self._end)
        except OSError:
            self._take_back(size)
            raise
        self._resize(segment, size + len(record))
        first = self.next
        self.next += count
        return first

    def _take_back(self, size: int) -> None:
        """Cut off what was written of a blob: it must not stand before the next one."""
        self._is_torn = True
        os.ftruncate(self._end, size)
        self._is_torn = False

    def _make_room(self, size_bytes: int) -> None:
        """Make room for so much, if it may be made."""
        while len(self) and self.size_bytes + size_bytes > self._max_bytes:
            if self._when_full == "refuse":
                raise SpoolFull
            if len(self._segments) == 1:
                self._begin()
            self.dropped += self.release(self._segments[1] - 1)

    def read(self, at: int) -> Entry | None:
        """Give the blob that has the message of this number, or the next that there is."""
        while True:
            at = max(at, self.first)
            if at >= self.next:
                return None
            cursor = self._cursor_at(at)
            entry = _read_entry(cursor.file, cursor.at)
            if entry is None:
                at = max(at, self._skip(cursor))
                continue
            self._cursor = cursor._replace(offset=cursor.file.tell(), at=entry.last + 1)
            if entry.last >= at:
                return entry

    def _cursor_at(self, at: int) -> _Cursor:
        """Give the file that a message is in, at its place or before it."""
        segment = self._segments[max(0, bisect_right(self._segments, at) - 1)]
        cursor = self._cursor
        if cursor is None or cursor.segment != segment or cursor.at > at:
            self._close_cursor()
            # Without a buffer, which might hold the beginning of a blob that was then cut off.
            file = open(self._path_of(segment), "rb", buffering=0)  # noqa: SIM115 - kept open
            cursor = self._cursor = _Cursor(segment, file, len(_MAGIC), segment)
        cursor.file.seek(cursor.offset)
        return cursor

    def _skip(self, cursor: _Cursor) -> int:
        """Leave out what is damaged; return the number that comes after it."""
        following = bisect_right(self._segments, cursor.segment)
        limit = [*self._segments[following:], self.next][0]
        cursor.file.seek(cursor.offset)
        end = _find_entry(cursor.file, cursor.at)
        if end is not None and end < limit:
            self._cursor = cursor._replace(offset=cursor.file.tell(), at=end)
        else:
            if following == len(self._segments):
                self._begin()
            end = limit
        begin = max(cursor.at, self.first)
        if end > begin and all(end != known for _, known in self._damaged):
            self._damaged.append((begin, end))
            self.dropped += end - begin
        return end

    def release(self, through: int) -> int:
        """Forget all messages up to a number; return how many they were."""
        through = min(through, self.next - 1)
        if through < self.first:
            return 0
        waiting = len(self)
        self.first = through + 1
        released = waiting - len(self)
        self._damaged = [(begin, end) for begin, end in self._damaged if end > self.first]
        # If this does not get to the disk, the next process has some of it again.
        with suppress(OSError):
            os.lseek(self._released_fd, 0, os.SEEK_SET)
            os.write(self._released_fd, _NUMBER.pack(through))
        if self.first == self.next and self.size_bytes > self._segment_bytes // 2:
            with suppress(OSError):
                self._begin()
        while len(self._segments) > 1 and self._segments[1] <= self.first:
            self._remove(self._segments.pop(0))
        return released

    def _remove(self, segment: int) -> None:
        """Remove a file."""
        if self._cursor is not None and self._cursor.segment == segment:
            self._close_cursor()
        self.size_bytes -= self._sizes.pop(segment)
        with suppress(OSError):
            os.remove(self._path_of(segment))

    def close(self) -> None:
        """Close the files. What waits stays there, for whoever opens the folder."""
        self._close_cursor()
        end, self._end = self._end, -1
        if end >= 0:
            os.close(end)
        self._files.close()

    def remove(self) -> None:
        """Close the files, and remove the folder if nothing waits in it."""
        is_empty = not len(self)
        paths = [self._path_of(segment) for segment in self._segments]
        self.close()
        if is_empty:
            with suppress(OSError):
                # The lock last: who has the folder opened meanwhile finds it empty, and removed.
                for path in (*paths, *map(self._path, ("released", "identity", "lock"))):
                    os.remove(path)
                os.rmdir(self.folder)

    # ---- files ---------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _path_of(self, segment: int) -> str:
        return self._path(f"{segment:020d}{_SUFFIX}")

    def _resize(self, segment: int, size_bytes: int) -> None:
        self.size_bytes += size_bytes - self._sizes.get(segment, 0)
        self._sizes[segment] = size_bytes

    def _close_cursor(self) -> None:
        if self._cursor is not None:
            self._cursor.file.close()
            self._cursor = None

    def _read_small(self, name: str) -> bytes:
        try:
            with open(self._path(name), "rb") as file:
                return file.read(64)
        except FileNotFoundError:
            return b""

    def _write_small(self, name: str, content: bytes) -> None:
        with open(self._path(name), "wb") as file:
            file.write(content)


def _read_entry(file: Any, at: int) -> Entry | None:
    """Read the blob that a file is at; None if there is none, or it is damaged."""
    head = _read(file, _HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return None
    first, count, size_bytes = _HEAD.unpack_from(head)
    # Memory for so much is taken before it is read.
    if first != at or not count or size_bytes > os.fstat(file.fileno()).st_size - file.tell():
        return None
    blob = _read(file, size_bytes)
    checksum = crc32(blob, crc32(head[: _HEAD.size]))
    if _CHECKSUM.pack(checksum) != head[_HEAD.size :]:
        return None
    return Entry(first, count, blob)


def _find_entry(file: Any, at: int) -> int | None:
    """Find the next whole blob behind the damaged one that a file is at, and go there.

    Args:
        file: The file.
        at: The number that the damaged blob should have.

    Returns:
        The number of its first message; None if there is none.
    """
    offset = file.tell()
    data = _read(file, os.fstat(file.fileno()).st_size - offset)
    # Each number from here to the end of the file has the same upper half, which no text has; and
    # zeros, which a machine that lost power may leave, are none.
    upper = {re.escape((number >> 32).to_bytes(4, "little")) for number in (at, at + len(data))}
    for match in re.finditer(b"(?s)(?=(?!\\0{4}).{4}(?:%b))" % b"|".join(upper), data):
        start = match.start()
        (first,) = _NUMBER.unpack_from(data, start)
        if first > at:
            file.seek(offset + start)
            if _read_entry(file, first) is not None:
                file.seek(offset + start)
                return int(first)
    return None


def _damaged_in(file: Any, at: int) -> int:
    """Say how many messages are damaged in the rest of a file, at least, that has no whole blob.

    What was only begun to be written was never put in.
    """
    rest_bytes = os.fstat(file.fileno()).st_size - file.tell() - _HEAD_BYTES
    if rest_bytes < 0:
        return 0
    first, count, size_bytes = _HEAD.unpack_from(_read(file, _HEAD_BYTES))
    if first != at or not count:
        return 1
    return 0 if size_bytes > rest_bytes else max(1, min(count, size_bytes))


def _read(file: Any, size_bytes: int) -> bytes:
    """Read so much, or as much as there is; the system may give it in parts."""
    data: bytes = file.read(size_bytes)
    while len(data) < size_bytes and (more := file.read(size_bytes - len(data))):
        data += more
    return data


def _write_all(fd: int, data: bytes) -> None:
    """Write on until all is written; the system takes a part when a disk is almost full."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _to_disk(fd: int) -> None:
    """Wait until the disk itself has what was written."""
    sync = getattr(os, "fdatasync", os.fsync)  # Windows and macOS have no fdatasync
    sync(fd)
