"""A trace's buffers and what is in them: the log header, the clock, and where each record is."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, final

from eliot_etw.etw._records import (
    EVENT_HEADER_32,
    EVENT_HEADER_64,
    HEADER_BYTES,
    TICKS_PER_SECOND,
)

# What Windows allows a session. A longer "buffer" is damage, or somebody's try to fill our memory.
MAX_BUFFER_BYTES = 16 * 1024 * 1024

# What is merged at one time: the buffers of so many processors, and of so many bytes.
_MAX_MERGED_STREAMS = 2048
_MAX_MERGED_BYTES = 128 * 1024 * 1024

# Size, saved offset, current offset, references, time of flushing, sequence number, processor,
# logger, state, offset, flags, type; elsewhere is what the kernel happened to have there.
BUFFER_HEADER = Struct("<IIIIqq8xHHIIHH16x")
BUFFER_HEADER_BYTES = BUFFER_HEADER.size
COMPRESSED = 0x40
FLUSH_MARKER = 0x01
HAS_PROCESSOR_INDEX = 0x20
HEADER_BUFFER = 4

CLOCK_PERFORMANCE_COUNTER = 1
_CLOCK_SYSTEM_TIME = 2
_CLOCK_CPU_CYCLES = 3
_CYCLES_PER_MHZ_IN_TICKS = 10  # a tick of 100 ns is a tenth of a microsecond

# Version, type, flags, size, hook, thread, process, time, processor time.
SYSTEM_HEADER = Struct("<HBBHHIIqQ")
# Buffer size, version, build, processors, end, timer resolution, file size, mode, buffers,
# start buffers, pointer size, events lost, MHz, two pointers, time zone, boot, frequency, start,
# clock, buffers lost.
LOG_HEADER_64 = Struct("<I4sIIqIIIIIIIIQQi168x4xqqqII")
_LOG_HEADER_32 = Struct("<I4sIIqIIIIIIIIIIi168x4xqqqII")

# As many as the longest look-ahead below; the markers of the last records can be read without
# asking each time whether they are whole.
_SLACK = bytes(24)
_MARKER = Struct("<IH2x8xq")


@dataclass(frozen=True)
class LogHeader:
    """What a trace says of itself. Times are in ticks of 100 ns since 1601-01-01 UTC."""

    logger_name: str
    log_file_name: str
    start_ticks: int
    end_ticks: int  # 0 in a trace that was never closed
    boot_ticks: int
    reference: int  # what the raw clock said at the start
    clock_type: int  # 1: performance counter, 2: system time, 3: CPU cycles
    frequency: int  # of the performance counter, per second
    cpu_mhz: int
    processors: int
    pointer_size_bytes: int
    buffer_size_bytes: int
    buffers_written: int
    events_lost: int
    buffers_lost: int
    log_file_mode: int
    version: tuple[int, int, int, int]
    os_build: int
    bias_minutes: int  # UTC is local time plus this

    @property
    def lost(self) -> Counter[str]:
        """What Windows lost while it recorded: events, and buffers with all that was in them."""
        return Counter(lost=self.events_lost, lost_buffers=self.buffers_lost)

    def ticks(self, raw: int) -> int:
        """Convert a reading of the trace's clock, in whole numbers so that nothing is rounded."""
        if self.clock_type == _CLOCK_SYSTEM_TIME:
            return raw
        since = raw - self.reference
        if self.clock_type == _CLOCK_CPU_CYCLES and self.cpu_mhz:
            return self.start_ticks + since * _CYCLES_PER_MHZ_IN_TICKS // self.cpu_mhz
        if self.frequency in (0, TICKS_PER_SECOND):
            return self.start_ticks + since
        return self.start_ticks + since * TICKS_PER_SECOND // self.frequency


class Buffer(NamedTuple):
    """Where a buffer is in its file, as its header says it."""

    offset: int
    size_bytes: int
    used_bytes: int  # with the header; of a compressed buffer, when it is decompressed
    cpu: int
    flushed: int
    is_compressed: bool


def parse_buffer_header(head: bytes, offset: int) -> Buffer | None:
    """Read a buffer's header; None if it cannot be one."""
    if len(head) < BUFFER_HEADER_BYTES:
        return None
    size, saved, _, _, flushed, _, cpu, _, _, filled, flags, _ = BUFFER_HEADER.unpack_from(head)
    if not BUFFER_HEADER_BYTES <= size <= MAX_BUFFER_BYTES:
        return None
    compressed = bool(flags & COMPRESSED)
    used = saved if compressed else min(max(saved, min(filled, size)), size)
    if used > MAX_BUFFER_BYTES:
        return None
    return Buffer(offset, size, max(used, BUFFER_HEADER_BYTES), cpu, flushed, compressed)


@final
class Stream:
    """Where the buffers of one processor are."""

    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.offsets = array("Q")
        self._flushed = array("q")
        self.longest_bytes = 0

    def add(self, buffer: Buffer) -> None:
        """Take note of the next buffer."""
        self.offsets.append(buffer.offset)
        self._flushed.append(buffer.flushed)
        self.longest_bytes = max(self.longest_bytes, buffer.used_bytes)

    def sort(self) -> None:
        """Order the buffers by time: a circular file begins with the latest ones."""
        pairs = sorted(zip(self._flushed, self.offsets, strict=True))
        self.offsets = array("Q", (offset for _, offset in pairs))


def grouped(streams: Iterable[Stream]) -> Iterator[list[Stream]]:
    """Put together what can be merged within bounds: nearly always everything."""
    group: list[Stream] = []
    size = 0
    for stream in streams:
        size += stream.longest_bytes
        if group and (size > _MAX_MERGED_BYTES or len(group) == _MAX_MERGED_STREAMS):
            yield group
            group, size = [], stream.longest_bytes
        group.append(stream)
    yield group


def parse_log_header(record: bytes) -> LogHeader | None:
    """Read the first record of a trace; None if it is not a log header."""
    if len(record) < SYSTEM_HEADER.size:
        return None
    _, kind, flags, size, hook, _, _, reference, _ = SYSTEM_HEADER.unpack_from(record)
    if flags != 0xC0 or kind not in (1, 2) or hook:
        return None
    layout = LOG_HEADER_64 if kind == 2 else _LOG_HEADER_32
    names_at = SYSTEM_HEADER.size + layout.size
    if min(size, len(record)) < names_at:
        return None
    (
        buffer_size, version, build, processors, end, _, _, mode, written, _, pointer_size,
        events_lost, mhz, _, _, bias, boot, frequency, start, clock, buffers_lost,
    ) = layout.unpack_from(record, SYSTEM_HEADER.size)  # fmt: skip
    names = record[names_at:size].decode("utf-16-le", "replace").split("\0")
    return LogHeader(
        logger_name=names[0],
        log_file_name=names[1] if len(names) > 1 else "",
        start_ticks=start,
        end_ticks=end,
        boot_ticks=boot,
        reference=reference,
        clock_type=clock,
        frequency=max(frequency, 0),
        cpu_mhz=mhz,
        processors=processors,
        pointer_size_bytes=pointer_size,
        buffer_size_bytes=buffer_size,
        buffers_written=written,
        events_lost=events_lost,
        buffers_lost=buffers_lost,
        log_file_mode=mode,
        version=(version[0], version[1], version[2], version[3]),
        os_build=build,
        bias_minutes=bias,
    )


_EVENTS = frozenset((EVENT_HEADER_32, EVENT_HEADER_64))
# What is no event, by the type in its marker.
_SIZE_FIRST = {10: "classic", 20: "classic", 11: "classic", 21: "classic", 13: "error"}
_SIZE_LATER = dict.fromkeys((1, 2, 3, 4, 16, 17), "system")


def find_events(content: bytes, skipped: Counter[str]) -> tuple[list[tuple[int, int]], int | None]:
    """Walk over the records of a buffer.

    Args:
        content: The records, without the buffer's header.
        skipped: Counts records of other kinds, by kind.

    Returns:
        The raw time and the offset of each event, sorted by time; and where the walk met
        a record that does not fit, which ends it, or None.
    """
    found: list[tuple[int, int]] = []
    end = len(content)
    content += _SLACK
    unpack = _MARKER.unpack_from
    at = 0
    damaged_at = None
    while at + 8 <= end:
        marker, later_size, raw_time = unpack(content, at)
        kind = marker >> 16
        size = marker & 0xFFFF
        if kind in _EVENTS:
            if size < HEADER_BYTES or at + size > end:
                damaged_at = at
                break
            found.append((raw_time, at))
        else:
            if marker in (0, 0xFFFFFFFF):
                break
            name, size = _classify(marker, later_size)
            if size < 8 or at + size > end:
                damaged_at = at
                break
            skipped[name] += 1
        at += size + 7 & -8
    # By time only: of two events at one moment the first written comes first, and offsets rise.
    found.sort()
    return found, damaged_at


def _classify(marker: int, later_size: int) -> tuple[str, int]:
    """Return the kind and the size of a record that is no event; 0 if it can be no record."""
    size, kind, family = marker & 0xFFFF, marker >> 16 & 0xFF, marker >> 24
    if family == 0x90:
        return "WPP", size
    if family != 0xC0:
        return "", 0
    if kind in _SIZE_LATER:
        return _SIZE_LATER[kind], later_size
    return _SIZE_FIRST.get(kind, "unknown"), size
