"""Traces as files: the reader of those that Windows makes and of our own; and the writer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from heapq import merge
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO, final

from eliot_etw.etw._buffers import (
    BUFFER_HEADER_BYTES,
    Buffer,
    LogHeader,
    Stream,
    find_events,
    grouped,
    parse_buffer_header,
    parse_log_header,
)
from eliot_etw.etw._etl_writer import EtlWriter
from eliot_etw.etw._json_values import iso_time
from eliot_etw.etw._records import (
    DamagedRecord,
    EtlEvent,
    decode_record,
)
from eliot_etw.etw._xpress import decompress
from eliot_etw.exceptions import InvalidEvent, InvalidTrace

if TYPE_CHECKING:
    from eliot_etw.etw._decode import DecodedEvent

__all__ = ["EtlReader", "EtlWriter", "read_etl"]

_LONGEST_RECORD = 0xFFFF
_SEARCHED_BYTES = 1 << 20
_CIRCULAR = 0x2
_COMPRESSED_MODE = 0x4000000

# Bounds, so that no file can take all memory or time. Four million buffers are 256 GiB of
# Windows's usual ones, and 32 MiB of offsets here.
_MAX_BUFFERS = 4 * 1024 * 1024
_MAX_PROBLEMS = 100
# Real traces shrink to a tenth or so. A few bytes can claim to be 16 MiB: such a file is refused.
_FREE_INFLATION_BYTES = 64 * 1024 * 1024
_MAX_INFLATION = 200


def read_etl(path_or_file: str | os.PathLike[str] | BinaryIO) -> EtlReader:
    """Open a trace (``.etl``) to read its TraceLogging events, on any system.

    Args:
        path_or_file: A path, or a file that is open for reading bytes and can seek; it is not
            closed.

    Returns:
        The reader: an iterable of `EtlEvent`.

    Raises:
        OSError: If the file cannot be read.
        InvalidTrace: If it is no trace.
    """
    return EtlReader(path_or_file)


@final
class EtlReader:
    """The TraceLogging events of a trace, in the order of their times.

    Each iteration begins anew. A damaged trace gives what can be read of it. The memory needed
    is that of one buffer for each processor.

    Attributes:
        header: What the trace says of itself.
        skipped: How much the last iteration left out so far, by kind: ``system``, ``classic``,
            ``manifest`` and ``WPP`` records, which are no TraceLogging events; ``error``
            and ``unknown`` ones; and ``damaged`` records and buffers.
        problems: What was damaged and where, as text; the first hundred.
    """

    def __init__(self, path_or_file: str | os.PathLike[str] | BinaryIO) -> None:
        """Read the log header. Raises as `read_etl` does."""
        self._source = path_or_file
        self.skipped: Counter[str] = Counter()
        self.problems: list[str] = []
        self._stored_bytes = self._inflated_bytes = 0
        with self._open() as file:
            self.header = _read_log_header(file)

    def _open(self) -> AbstractContextManager[BinaryIO]:
        """Open the path, or take the file as it is."""
        if isinstance(self._source, (str, os.PathLike)):
            return open(self._source, "rb")
        return nullcontext(self._source)

    def __iter__(self) -> Iterator[EtlEvent]:
        """Read the events. Raises OSError if the file cannot be read any longer."""
        self.skipped.clear()
        self.problems.clear()
        self._stored_bytes = self._inflated_bytes = 0
        with self._open() as file:
            groups = list(grouped(self._find_streams(file)))
            if len(groups) > 1:
                self._report(f"too many processors to merge at once: in {len(groups)} groups,"
                             " the events are in order within each")  # fmt: skip
            for group in groups:
                # Of events at one moment, those of the first processor come first.
                streams = [self._read_stream(file, stream) for stream in group]
                yield from merge(*streams, key=attrgetter("ticks"))

    def decoded(self) -> Iterator[tuple[EtlEvent, DecodedEvent]]:
        """Read the events, each with its name and fields; what cannot be decoded is counted.

        Raises:
            OSError: If the file cannot be read any longer.
        """
        for event in self:
            try:
                decoded = event.decode()
            except InvalidEvent as error:
                self._damaged(f"an event of {iso_time(event.ticks) or event.ticks}: {error}")
            else:
                yield event, decoded

    def may_hold(self, data: bytes) -> bool:
        """Say whether bytes may be in the trace: quickly, by no more than looking for them.

        Raises:
            OSError: If the file cannot be read any longer.
        """
        if self.header.log_file_mode & _COMPRESSED_MODE:
            return True
        with self._open() as file:
            file.seek(0)
            seen = b""
            while chunk := file.read(_SEARCHED_BYTES):
                seen = seen[-len(data) :] + chunk
                if data in seen:
                    return True
        return False

    def _report(self, problem: str) -> None:
        """Keep what is to be said, within bounds."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)

    def _damaged(self, problem: str) -> None:
        """Count, and say, that something is lost."""
        self.skipped["damaged"] += 1
        self._report(problem)

    def _find_streams(self, file: BinaryIO) -> Iterable[Stream]:
        """Find the buffers of each processor, by their headers only."""
        streams: dict[int, Stream] = {}
        for buffer in self._find_buffers(file):
            stream = streams.get(buffer.cpu)
            if stream is None:
                stream = streams[buffer.cpu] = Stream(buffer.cpu)
            stream.add(buffer)
        if self.header.log_file_mode & _CIRCULAR:
            for stream in streams.values():
                stream.sort()
        return [streams[cpu] for cpu in sorted(streams)]

    def _find_buffers(self, file: BinaryIO) -> Iterator[Buffer]:
        """Go from buffer to buffer, to the end of what was written."""
        # In a trace that is not compressed all buffers are equally long, also damaged ones.
        usual = self.header.buffer_size_bytes
        if self.header.log_file_mode & _COMPRESSED_MODE or usual < BUFFER_HEADER_BYTES:
            usual = 0
        offset = 0
        for _ in range(_MAX_BUFFERS):
            file.seek(offset)
            head = file.read(BUFFER_HEADER_BYTES)
            if not any(head):  # the end, or space that Windows set aside and did not use
                return
            buffer = parse_buffer_header(head, offset)
            if buffer is not None:
                yield buffer
                offset += buffer.size_bytes
                continue
            self._damaged(f"at offset {offset}: this is no buffer")
            if not usual:
                return
            offset += usual
        self._report(f"only the first {_MAX_BUFFERS} buffers are read")

    def _read_stream(self, file: BinaryIO, stream: Stream) -> Iterator[EtlEvent]:
        """Read the events of one processor."""
        cpu = stream.cpu
        ticks = self.header.ticks
        for offset in stream.offsets:
            content = self._read_buffer(file, offset)
            found, damaged_at = find_events(content, self.skipped)
            if damaged_at is not None:
                self._damaged(
                    f"at offset {offset}: a record, {damaged_at} bytes into the buffer, does not"
                    " fit; the rest of the buffer is lost"
                )
            for raw_time, start in found:
                try:
                    event = decode_record(content, start, ticks(raw_time), cpu)
                except DamagedRecord:
                    self._damaged(
                        f"at offset {offset}: an event, {start} bytes into the buffer, is damaged"
                    )
                    continue
                if event is not None:
                    yield event
                else:
                    self.skipped["manifest"] += 1

    def _read_buffer(self, file: BinaryIO, offset: int) -> bytes:
        """Read the records of one buffer, as many as there are."""
        file.seek(offset)
        buffer = parse_buffer_header(file.read(BUFFER_HEADER_BYTES), offset)
        if buffer is None:  # somebody is writing to the file
            self._damaged(f"at offset {offset}: the buffer is gone")
            return b""
        stored = file.read(buffer.size_bytes - BUFFER_HEADER_BYTES)
        used = buffer.used_bytes - BUFFER_HEADER_BYTES
        content = self._inflate(stored, used, offset) if buffer.is_compressed else stored[:used]
        if len(content) < used:
            self._damaged(f"at offset {offset}: {used - len(content)} bytes are missing")
        return content

    def _inflate(self, stored: bytes, size_bytes: int, offset: int) -> bytes:
        """Decompress a buffer, unless the file is a bomb."""
        self._stored_bytes += len(stored)
        inflated = self._inflated_bytes + size_bytes
        if inflated > _FREE_INFLATION_BYTES + _MAX_INFLATION * self._stored_bytes:
            self._report(f"at offset {offset}: so few bytes cannot be so many; left out")
            return b""
        self._inflated_bytes = inflated
        return decompress(stored, size_bytes)


def _read_log_header(file: BinaryIO) -> LogHeader:
    """Read the header at the beginning. Raises InvalidTrace if there is none."""
    file.seek(0)
    start = file.read(BUFFER_HEADER_BYTES + _LONGEST_RECORD)
    buffer = parse_buffer_header(start, 0)
    header = parse_log_header(start[BUFFER_HEADER_BYTES:])
    if buffer is None or header is None:
        msg = (
            f"A trace must begin with a buffer that holds its log header, got {start[:16]!r}. "
            "Pass an .etl file, as Windows and EtlWriter make them."
        )
        raise InvalidTrace(msg)
    return header
