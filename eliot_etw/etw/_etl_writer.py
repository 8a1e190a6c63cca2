"""Writing traces that Windows reads, on any system."""

from __future__ import annotations

import os
import struct
import threading
import time
from contextlib import suppress
from operator import attrgetter, itemgetter
from typing import final

from eliot_etw.etw._buffers import (
    BUFFER_HEADER,
    BUFFER_HEADER_BYTES,
    CLOCK_PERFORMANCE_COUNTER,
    FLUSH_MARKER,
    HAS_PROCESSOR_INDEX,
    HEADER_BUFFER,
    LOG_HEADER_64,
    SYSTEM_HEADER,
)
from eliot_etw.etw._records import (
    EPOCH,
    HEADER_BYTES,
    TICKS_PER_SECOND,
    EtlEvent,
    encode_record,
)

_LONGEST_RECORD = 0xFFFF
# What a writer says of itself, as a Windows 10 does.
_VERSION = bytes((10, 0, 1, 5))
_OS_BUILD = 19045
_TIMER_RESOLUTION = 156_250
_CPU_MHZ = 1000
_SEQUENTIAL = 0x1
_FLUSHED_STATE = 3
# Of names in the header, which must fit the smallest buffer.
_LONGEST_NAME = 500
_MAX_STREAMS = 64
_LONGEST_INTERVAL_S = 3600
# In the 16th millennium: later ticks might not fit the 64 bits of a record's time.
_END_OF_TIME = 2**62
_TIME = struct.Struct("<q")
_TIME_AT = 16
_PADDING = bytes(7)


@final
class EtlWriter:
    """Writes TraceLogging events to a new trace, from several threads, on any system.

    **What is in the file when.** Unless `flush_interval_s` says otherwise, each event is handed to
    the operating system before `write` returns: the file can be read while it is being written,
    and has all events after the program was killed. With an interval, those that are younger may
    be lost then, and at exit without `close`. `close` adds the times and counts that a finished
    trace has. When the system itself fails, the last seconds may be lost.

    **When the disk is full** `write` raises, and the file stays readable. Up to one buffer of
    events is kept, and is tried again with the next; beyond that events are refused.

    **Order.** Windows's tools ask that the events of one processor are in the order of their
    times. So an event that comes late goes to the next processor's buffers. There are up to 64 of
    them; that many would be needed only if each event was older than the one before it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        logger_name: str = "eliot_etw",
        buffer_size_bytes: int = 64 * 1024,
        flush_interval_s: float = 0.0,
    ) -> None:
        """Begin a trace. A file that is there is replaced.

        Args:
            path: Where to write.
            logger_name: What the trace says its session was called.
            buffer_size_bytes: An event must fit a buffer. 4 KiB to 1 MiB, in steps of 1 KiB.
            flush_interval_s: How long events may wait in memory, which saves two thirds of the
                time. After it a thread writes them; so do a full buffer, `flush` and `close`.

        Raises:
            OSError: If the file cannot be written.
            ValueError: If the buffer size or the interval is not allowed.
        """
        if not 4096 <= buffer_size_bytes <= 1024 * 1024 or buffer_size_bytes % 1024:
            msg = (
                "buffer_size_bytes must be a multiple of 1024 from 4096 to 1048576, "
                f"got {buffer_size_bytes!r}. Leave it out to have 65536."
            )
            raise ValueError(msg)
        if not 0 <= flush_interval_s <= _LONGEST_INTERVAL_S:
            msg = (
                f"flush_interval_s must be from 0 to {_LONGEST_INTERVAL_S}, "
                f"got {flush_interval_s!r}. Leave it out to write each event at once."
            )
            raise ValueError(msg)
        self._buffer_size = buffer_size_bytes
        self._longest = min(buffer_size_bytes - BUFFER_HEADER_BYTES, _LONGEST_RECORD)
        self._interval_s = flush_interval_s
        self._names = "".join(
            f"{name[:_LONGEST_NAME]}\0" for name in (logger_name, os.path.abspath(path))
        ).encode("utf-16-le", "replace")
        self._process = os.getpid()
        # One that a signal handler can take again, which may come while its thread is writing.
        self._lock = threading.RLock()
        self._is_writing = False
        self._pending: list[tuple[int, bytes]] = []
        self._pending_bytes = 0
        self._timer: threading.Timer | None = None
        self._streams: list[_Written] = []
        self._end = 0  # of what is whole in the file
        self._sequence = 0
        # The performance counter says how long the machine has been running.
        self._uptime = TICKS_PER_SECOND + time.monotonic_ns() // 100
        self._begin_at(_now())
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - close() closes it
        try:
            self._append(self._encode_header_buffer(end_ticks=0).ljust(buffer_size_bytes, b"\xff"))
        except OSError:
            self._file.close()
            raise

    def _begin_at(self, ticks: int) -> None:
        """Let the trace's clock have started before `ticks`."""
        self._start = ticks
        self._boot = ticks - self._uptime

    def write(self, event: EtlEvent) -> None:
        """Write an event; its `cpu` is chosen by the writer.

        Raises:
            ValueError: If the event is too long for a record or a buffer, if one of its numbers
                does not fit, if the writer was closed, or if this is a forked process.
            OSError: If the disk is full, or otherwise cannot be written.
        """
        if len(event.payload) + len(event.metadata) > _LONGEST_RECORD:
            raise _too_long(_LONGEST_RECORD)
        try:
            record = encode_record(event, 0)
        except struct.error as error:
            raise _refused(event) from error
        self.write_record(event.ticks, record)

    def write_record(self, ticks: int, record: bytes) -> None:
        """Write an event that was encoded already, for whoever can do that faster.

        Args:
            ticks: When it happened.
            record: What `encode_record` makes; its time is filled in here.

        Raises:
            ValueError: As for `write`.
            OSError: As for `write`.
        """
        self._check_process()
        if len(record) > self._longest:
            raise _too_long(self._longest)
        if not 0 <= ticks < _END_OF_TIME:
            raise _refused(ticks)
        with self._lock:
            self._check_open()
            if self._is_writing:
                # We are a signal handler, within another call of this thread, which will find it.
                self._add(ticks, record)
                return
            self._is_writing = True
            try:
                self._accept(ticks, record)
            finally:
                self._is_writing = False

    def _add(self, ticks: int, record: bytes) -> None:
        """Let an event wait."""
        self._pending.append((ticks - self._boot, record))
        self._pending_bytes += len(record)

    def _accept(self, ticks: int, record: bytes) -> None:
        """Let an event wait, if there is room, and write what has waited long enough."""
        if ticks < self._start:
            self._start_earlier(ticks)
        if self._pending_bytes + len(record) > self._buffer_size:
            self._write_out()
        self._add(ticks, record)
        if not self._interval_s:
            self._write_out()
        elif self._timer is None:
            self._set_timer()

    def flush(self) -> None:
        """Hand all events to the operating system. Raises as `write` does."""
        self._check_process()
        with self._lock:
            self._check_open()
            self._write_out()

    def close(self) -> None:
        """Finish the trace: all events, when it ended, how many buffers it has.

        May be called twice. The file is closed also if this raises OSError.
        """
        if os.getpid() != self._process:
            self._file.close()
            return
        with self._lock:
            if self._file.closed:
                return
            if self._timer is not None:
                self._timer.cancel()
            with self._file:
                self._write_out()
                newest = max((stream.newest + self._boot for stream in self._streams), default=0)
                self._put(0, self._encode_header_buffer(end_ticks=max(_now(), newest)))

    def __enter__(self) -> EtlWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_process(self) -> None:
        """Raise ValueError in a forked process: both would write to the same places."""
        if os.getpid() != self._process:
            msg = (
                f"An EtlWriter must be used in the process that made it, {self._process}, got "
                f"{os.getpid()}. Make one with another path after the fork."
            )
            raise ValueError(msg)

    def _check_open(self) -> None:
        """Raise ValueError if there is no file any longer."""
        if self._file.closed:
            msg = "An event must be written before close(). Make a new EtlWriter."
            raise ValueError(msg)

    def _start_earlier(self, ticks: int) -> None:
        """Move the start back to the time of an event that is older than the trace."""
        before = self._start, self._boot
        if not self._streams and not self._pending:
            self._begin_at(ticks)  # an old log is being converted: the whole clock is older
        self._start = ticks
        try:
            self._put(0, self._encode_header_buffer(end_ticks=0))
        except OSError:  # records must not follow a clock that the file does not tell
            self._start, self._boot = before
            raise

    def _write_out(self) -> None:
        """Write all that waits; what cannot be written waits on."""
        pending = sorted(self._pending, key=itemgetter(0))
        self._pending, self._pending_bytes = [], 0
        done = 0
        try:
            for raw_time, record in pending:
                self._place(raw_time, record)
                done += 1
        finally:
            left = pending[done:]
            self._pending[:0] = left
            self._pending_bytes += sum(len(record) for _, record in left)
        for stream in self._streams:
            if stream.stored_bytes != len(stream.content):
                self._store(stream, FLUSH_MARKER | HAS_PROCESSOR_INDEX)

    def _set_timer(self) -> None:
        """Let a thread write out what waits; none is there while nothing waits."""
        self._timer = threading.Timer(self._interval_s, self._on_timer)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # the interpreter is going down
            self._timer = None
            self._write_out()

    def _on_timer(self) -> None:
        """Write out what waits. What fails now is told to whoever writes next."""
        with self._lock, suppress(OSError):
            self._timer = None
            if not self._file.closed:
                self._write_out()

    def _place(self, raw_time: int, record: bytes) -> None:
        """Put a record into the buffer of the first processor that is not past its time."""
        for stream in self._streams:
            if stream.newest <= raw_time:
                break
        else:
            stream = self._add_stream()
        if len(stream.content) + len(record) > self._buffer_size:
            self._store(stream, HAS_PROCESSOR_INDEX)
            stream.begin()
        start = len(stream.content)
        stream.content += record
        stream.content += _PADDING[: -len(record) & 7]
        _TIME.pack_into(stream.content, start + _TIME_AT, raw_time)
        stream.newest = raw_time

    def _add_stream(self) -> _Written:
        """Begin another processor, or take the least late one if there are too many."""
        if len(self._streams) == _MAX_STREAMS:
            return min(self._streams, key=attrgetter("newest"))
        stream = _Written(len(self._streams))
        self._streams.append(stream)
        if stream.cpu:  # the header says how many there are
            self._put(0, self._encode_header_buffer(end_ticks=0))
        return stream

    def _store(self, stream: _Written, flags: int) -> None:
        """Write what is new in a buffer; its header last, so that it never promises too much."""
        used = len(stream.content)
        if stream.offset is None:
            self._sequence += 1
            stream.sequence = self._sequence
        header = BUFFER_HEADER.pack(
            self._buffer_size, used, used, 0, stream.newest, stream.sequence,
            stream.cpu, 0, _FLUSHED_STATE, used, flags, 0,
        )  # fmt: skip
        if stream.offset is None:
            whole = (header + stream.content[BUFFER_HEADER_BYTES:]).ljust(
                self._buffer_size, b"\xff"
            )
            stream.offset = self._append(whole)
        else:
            self._put(stream.offset + stream.stored_bytes, stream.content[stream.stored_bytes :])
            self._put(stream.offset, header)
        stream.stored_bytes = used

    def _append(self, data: bytes | bytearray) -> int:
        """Write a whole buffer to the end of the file, or nothing; return where it is."""
        try:
            self._put(self._end, data)
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise
        offset = self._end
        self._end += len(data)
        return offset

    def _put(self, offset: int, data: bytes | bytearray) -> None:
        """Write all of the data to its place; of a disk that fills up the system takes a part."""
        self._file.seek(offset)
        while data:
            data = data[self._file.write(data) :]

    def _encode_header_buffer(self, end_ticks: int) -> bytes:
        """Make the first buffer, without what fills it up."""
        size = SYSTEM_HEADER.size + LOG_HEADER_64.size + len(self._names)
        reference = self._start - self._boot
        record = SYSTEM_HEADER.pack(
            2, 2, 0xC0, size, 0, threading.get_native_id(), os.getpid(), reference, 0
        ) + LOG_HEADER_64.pack(
            self._buffer_size, _VERSION, _OS_BUILD, max(len(self._streams), 1), end_ticks,
            _TIMER_RESOLUTION, 0, _SEQUENTIAL, self._end // self._buffer_size if end_ticks else 0,
            1, 8, 0, _CPU_MHZ, 0, 0, 0, self._boot, TICKS_PER_SECOND, self._start,
            CLOCK_PERFORMANCE_COUNTER, 0,
        )  # fmt: skip
        padding = bytes(-size & 7)  # which etl-parser wants to find
        used = BUFFER_HEADER_BYTES + size + len(padding)
        header = BUFFER_HEADER.pack(
            self._buffer_size, used, used, 0, 0, 0, 0, 0, _FLUSHED_STATE, used,
            FLUSH_MARKER | HAS_PROCESSOR_INDEX, HEADER_BUFFER,
        )  # fmt: skip
        return header + record + self._names + padding


class _Written:
    """The buffer of one processor that is being filled."""

    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.newest = -(2**63)
        self.begin()

    def begin(self) -> None:
        """Begin the next buffer, which is nowhere in the file yet."""
        self.content = bytearray(BUFFER_HEADER_BYTES)
        self.stored_bytes = BUFFER_HEADER_BYTES
        self.offset: int | None = None
        self.sequence = 0


def _now() -> int:
    """Return the time in ticks."""
    return time.time_ns() // 100 + EPOCH


def _too_long(limit: int) -> ValueError:
    """Make the error for an event that does not fit."""
    return ValueError(
        f"An event must fit a record of {limit} bytes, with {HEADER_BYTES} for its header. "
        "Cut its payload."
    )


def _refused(what: EtlEvent | int) -> ValueError:
    """Make the error for a number that is too big for its place."""
    return ValueError(
        f"An event's numbers must fit their places in a record, got {what!r:.500}. Levels and "
        "opcodes have 8 bits, tasks 16, thread and process ids 32, ticks 62 from 0 on."
    )
