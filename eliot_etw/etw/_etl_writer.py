"""Writing traces that Windows reads, on any system."""

from __future__ import annotations

import os
import struct
import threading
import time
import uuid
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, TypeAlias, final

from eliot_etw._counter import Counter
from eliot_etw._names import TIMESTAMP
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
    EVENT_HEADER_64,
    HEADER_BYTES,
    LANE_HEADER,
    LANE_THREAD,
    RELATED_ITEM,
    TICKS_PER_SECOND,
    EtlEvent,
    encode_items,
    encode_record,
)

if TYPE_CHECKING:
    from eliot_etw.etw._message_event import MessageEncoder
    from eliot_etw.typing import MessageDict

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
_PADDINGS = tuple(map(bytes, range(8)))
# A provider has few kinds of events; of one that has many we do not keep all.
_MOST_CHAINS = 10_000
_Event: TypeAlias = tuple[int, bytes, int]
"""When it happened in ticks, its padded record, and the boot time that the record goes by."""

# Where a descriptor has the level; events of level error, and worse, do not wait.
_LEVEL = 4
_ERROR = 2
_NO_ACTIVITY = bytes(16)
_pack = LANE_HEADER.pack
_join = b"".join
_TICKS = float(TICKS_PER_SECOND)


@final
class EtlWriter:
    """Writes TraceLogging events to a new trace, from several threads, on any system.

    **What is in the file when.** Unless `flush_interval_s` says otherwise, each event is handed to
    the operating system before `write` returns: the file can be read while it is being written,
    and has all events after the program was killed. With an interval, those that are younger may
    be lost then, and at exit without `close`. `close` adds the times and counts that a finished
    trace has. When the system itself fails, the last seconds may be lost.

    **When the disk is full** `write` raises, the event is not taken, and the file stays readable.
    Events that were taken before and still wait, up to one buffer of them, are tried again with
    each that comes; what waits still when `close` fails is lost, and counted by `waiting`.

    **Order.** Windows's tools ask that the events of one processor are in the order of their
    times. So an event that comes late goes to the next processor's buffers. There are up to 64 of
    them; that many would be needed only if each event was older than the one before it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        replaces: bool = True,
        logger_name: str = "eliot_etw",
        final_path: str | os.PathLike[str] | None = None,
        buffer_size_bytes: int = 64 * 1024,
        flush_interval_s: float = 0.0,
    ) -> None:
        """Begin a trace.

        Args:
            path: Where to write.
            replaces: Whether a file that is there is replaced; if not, it is an error.
            logger_name: What the trace says its session was called.
            final_path: Where the trace says that it is, if not there: where it will be moved to.
            buffer_size_bytes: An event must fit a buffer. 4 KiB to 1 MiB, in steps of 1 KiB.
            flush_interval_s: How long events may wait in memory, which saves two thirds of the
                time. After it a thread writes them; so do a full buffer, `flush` and `close`.

        Raises:
            OSError: If the file cannot be written, or is there and must not be replaced.
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
        told_path = os.path.abspath(final_path or path)
        self._names = "".join(
            f"{name[:_LONGEST_NAME]}\0" for name in (logger_name, told_path)
        ).encode("utf-16-le", "replace")
        self._process = os.getpid()
        # One that a signal handler can take again, which may come while its thread is writing.
        self._lock = threading.RLock()
        self._is_writing = False
        self._is_closed = False
        # Whether something waits that could not be written when it should.
        self._is_behind = False
        # Adding to it is atomic; all else is done with the lock.
        self._pending: deque[_Event] = deque()
        self._pending_bytes = 0  # about
        self._most_pending = buffer_size_bytes // 2
        self._timer: threading.Timer | None = None
        # Whether a timer will write what is added to the pending ones.
        self._is_calm = False
        self._streams: list[_Written] = []
        self._end = 0  # of what is whole in the file
        self._sequence = 0
        # The performance counter says how long the machine has been running.
        self._uptime = TICKS_PER_SECOND + time.monotonic_ns() // 100
        self._begin_at(_now())
        self._has_new_clock = False
        mode = "wb" if replaces else "xb"
        self._file = open(path, mode, buffering=0)  # noqa: SIM115 - close() closes it
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
        self._check_process()
        if len(event.payload) + len(event.metadata) > _LONGEST_RECORD:
            raise _too_long(_LONGEST_RECORD)
        if not 0 <= event.ticks < _END_OF_TIME:
            raise _refused(event.ticks)
        with self._lock:
            self._check_open()
            if event.ticks < self._start:
                self._start_earlier(event.ticks)
            try:
                record = encode_record(event, event.ticks - self._boot)
            except struct.error as error:
                raise _refused(event) from error
            if len(record) > self._longest:
                raise _too_long(self._longest)
            padded = record + _PADDINGS[-len(record) & 7]
            self._accept(event.ticks, padded, self._boot, at_once=False)

    def _sensible(self, ticks: int) -> int:
        """Make room for an event that comes before the trace's start; or let it happen now."""
        if not EPOCH <= ticks < _END_OF_TIME:
            return _now()
        with self._lock:
            self._check_open()
            if ticks < self._start:
                self._start_earlier(ticks)
        return ticks

    def _catch_up(self, record: bytes) -> None:
        """See to an event that was added just when others were written.

        Raises:
            ValueError: If it came too late for that, and nobody will write it any more.
        """
        with self._lock:
            if self._is_closed and self._drop(record):
                self._check_open()
            elif self._timer is None and self._pending and not self._is_closed:
                self._set_timer()

    def _accept(self, ticks: int, record: bytes, boot: int, at_once: bool) -> None:
        """Let an event wait, if there is room, and write what has waited long enough."""
        if self._is_writing:
            # We are a signal handler, within another call of this thread, which will find it.
            self._pending.append((ticks, record, boot))
            return
        self._is_writing = True
        try:
            if self._is_behind or self._pending_bytes + len(record) > self._most_pending:
                self._write_out(but_last=not self._is_behind)
            self._pending.append((ticks, record, boot))
            self._pending_bytes += len(record)
            if at_once or not self._interval_s:
                try:
                    self._write_out()
                except OSError:
                    self._take_back(record)
                    raise
            elif self._timer is None:
                self._set_timer()
        finally:
            self._is_writing = False

    def _take_back(self, record: bytes) -> None:
        """Let an event not wait any longer, since whoever logs it is told that it is not taken."""
        if not self._drop(record):
            for stream in self._streams:
                stream.take_back(record)

    def _drop(self, record: bytes) -> bool:
        """Take an event out of those that wait; say whether it was there."""
        for event in list(self._pending):
            if event[1] is record:
                self._pending.remove(event)
                return True
        return False

    def flush(self) -> None:
        """Hand all events to the operating system. Raises as `write` does."""
        self._check_process()
        with self._lock:
            self._check_open()
            self._write_out()

    @property
    def waiting(self) -> int:
        """How many events were taken and are not written yet; after `close`, how many are lost."""
        with self._lock:
            return len(self._pending) + sum(stream.waiting for stream in self._streams)

    def close(self) -> None:
        """Finish the trace: all events, when it ended, how many buffers it has.

        May be called twice. The file is closed also if this raises OSError.
        """
        if os.getpid() != self._process:
            self._file.close()
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed, self._is_calm = True, False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            with self._file:
                self._write_out()
                newest = max((stream.newest for stream in self._streams), default=0)
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
        if self._is_closed:
            msg = "An event must be written before close(). Begin a new trace."
            raise ValueError(msg)

    def _start_earlier(self, ticks: int) -> None:
        """Move the start back to the time of an event that is older than the trace."""
        before = self._start, self._boot
        if not self._streams and not self._pending:
            self._begin_at(ticks)  # an old log is being converted: the whole clock is older
            self._has_new_clock = True
        self._start = ticks
        try:
            self._put(0, self._encode_header_buffer(end_ticks=0))
        except OSError:  # records must not follow a clock that the file does not tell
            self._start, self._boot = before
            raise

    def _write_out(self, *, but_last: bool = False) -> None:
        """Write all that waits; what cannot be written waits on.

        Args:
            but_last: Leave the buffers that are not full to the timer.
        """
        self._is_behind, self._is_calm = True, False
        # No more than is there now: other threads may be adding.
        events = [self._pending.popleft() for _ in range(len(self._pending))]
        self._pending_bytes = 0
        events.sort(key=itemgetter(0))
        if self._has_new_clock:  # other threads may have used the old one
            events = [one if one[2] == self._boot else self._with_time(*one) for one in events]
        done = 0
        try:
            while done < len(events):
                stream, until = self._stream_for(events[done][0])
                end = bisect_left(events, until, done, key=itemgetter(0))
                for count in self._place(stream, events[done:end]):
                    done += count
        finally:
            self._pending.extendleft(reversed(events[done:]))
            self._pending_bytes += sum(len(record) for _, record, _ in events[done:])
        for stream in self._streams:
            if stream.waiting and not but_last:
                self._store(stream, FLUSH_MARKER | HAS_PROCESSOR_INDEX)
        self._is_behind, self._is_calm = False, self._timer is not None
        if self._pending and not self._is_calm:  # from a signal handler, or another thread
            self._write_out()

    def _with_time(self, ticks: int, record: bytes, _boot: int) -> _Event:
        """Let an event tell its time by the clock that the trace has now."""
        new = record[:_TIME_AT] + _TIME.pack(ticks - self._boot) + record[_TIME_AT + _TIME.size :]
        return ticks, new, self._boot

    def _set_timer(self) -> None:
        """Let a thread write out what waits; none is there while nothing waits."""
        self._timer = threading.Timer(self._interval_s, self._on_timer)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # the interpreter is going down
            self._timer = None
            self._write_out()
        else:
            self._is_calm = not self._is_behind

    def _on_timer(self) -> None:
        """Write out what waits. What fails now is told to whoever writes next."""
        with self._lock, suppress(OSError):
            self._timer, self._is_calm = None, False
            if not self._is_closed:
                self._write_out()

    def _stream_for(self, ticks: int) -> tuple[_Written, int]:
        """Find the first processor that is not past this time.

        Returns:
            The processor, and the time from which on an event belongs to one before it.
        """
        until = _END_OF_TIME
        for stream in self._streams:
            if stream.newest <= ticks:
                return stream, until
            until = min(until, stream.newest)
        if len(self._streams) < _MAX_STREAMS:
            return self._add_stream(), until
        # There are too many: the one that is least late.
        return min(self._streams, key=attrgetter("newest")), ticks + 1

    def _place(self, stream: _Written, events: list[_Event]) -> Iterator[int]:
        """Put events into the buffers of a processor; give how many at a time."""
        records = [record for _, record, _ in events]
        new = b"".join(records)
        if len(new) <= self._buffer_size - stream.used_bytes:
            stream.add(new, records[-1], len(records), events[-1][0])
            yield len(records)
            return
        ends = list(accumulate(map(len, records)))
        at = before = 0
        while at < len(records):
            room = self._buffer_size - stream.used_bytes
            following = bisect_right(ends, before + room, at)
            if following == at:
                self._store(stream, HAS_PROCESSOR_INDEX)
                stream.begin()
                continue
            count, end = following - at, ends[following - 1]
            stream.add(new[before:end], records[following - 1], count, events[following - 1][0])
            yield count
            at, before = following, end

    def _add_stream(self) -> _Written:
        """Begin another processor."""
        stream = _Written(len(self._streams), self._buffer_size)
        self._streams.append(stream)
        if stream.cpu:  # the header says how many there are
            self._put(0, self._encode_header_buffer(end_ticks=0))
        return stream

    def _store(self, stream: _Written, flags: int) -> None:
        """Write what is new in a buffer; its header last, so that it never promises too much."""
        used = stream.used_bytes
        if stream.offset is None:
            self._sequence += 1
            stream.sequence = self._sequence
        BUFFER_HEADER.pack_into(
            stream.content, 0, self._buffer_size, used, used, 0, stream.newest - self._boot,
            stream.sequence, stream.cpu, 0, _FLUSHED_STATE, used, flags, 0,
        )  # fmt: skip
        content = memoryview(stream.content)
        if stream.offset is None:
            stream.blank()
            stream.offset = self._append(content)
        else:
            # Of an event that was taken back a part may be in the file.
            stream.spoilt_bytes = max(stream.spoilt_bytes, used)
            new = content[stream.stored_bytes : stream.spoilt_bytes]
            self._put(stream.offset + stream.stored_bytes, new)
            self._put(stream.offset, content[:BUFFER_HEADER_BYTES])
        stream.stored_bytes = stream.spoilt_bytes = used
        stream.waiting = 0

    def _append(self, data: bytes | memoryview) -> int:
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

    def _put(self, offset: int, data: bytes | memoryview) -> None:
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


class MessageLane:
    """Writes messages to a trace, faster than `EtlWriter.write`: what is called for each of them.

    With an interval there is no lock: an event is only added to those that wait. A failure is
    written at once, and with it all that waits. Whether this is a forked process is not asked.
    """

    def __init__(self, provider_id: uuid.UUID, traits: bytes, encoder: MessageEncoder) -> None:
        """Prepare for events of a provider; `_use` says where to write them.

        Args:
            provider_id: The provider's GUID.
            traits: The provider's name and group, in TraceLogging's form.
            encoder: Makes the events.
        """
        self._provider = provider_id.bytes_le
        self._chains = _Chains(traits)
        self._encoder = encoder
        self._failed = Counter()

    def _use(self, writer: EtlWriter) -> None:
        """Write to this trace from now on.

        Raises:
            ValueError: If an event may be too long for its buffers.
        """
        if writer._longest < _LONGEST_RECORD:
            raise _too_long(writer._longest)
        self._writer = writer
        self._add = writer._pending.append
        self._most_pending = writer._most_pending
        self._thread = _Thread()
        self._known = self._encoder.known
        self._encode_unknown = self._encoder.encode_unknown

    def __call__(self, message: MessageDict) -> None:
        """Write a message. Raises as `EtlWriter.write` does if it is lost, and counts it."""
        try:
            try:
                event = self._known[tuple(message)](message, None, None)
                ticks = int(message[TIMESTAMP] * _TICKS) + EPOCH
            except Exception:  # noqa: BLE001 - as `MessageEncoder.encode_if` does it
                event, ticks = self._encode_unknown(message, None), _ticks_of(message)
            descriptor, metadata, payload, activity, related = event  # type: ignore[misc] # not None: it is wanted
            writer = self._writer
            if not writer._start <= ticks < _END_OF_TIME:
                ticks = writer._sensible(ticks)
            chain, size = self._chains[metadata]
            size += len(payload)
            if related is not None:
                chain = RELATED_ITEM + related + chain
                size += len(RELATED_ITEM) + len(related)
            waiting = writer._pending_bytes + size
            boot = writer._boot
            record = _join((
                _pack(size, self._thread.head, ticks - boot, self._provider, descriptor,
                      activity or _NO_ACTIVITY),
                chain, payload, _PADDINGS[-size & 7],
            ))  # fmt: skip
            if writer._is_calm and waiting <= self._most_pending and descriptor[_LEVEL] > _ERROR:
                writer._pending_bytes = waiting
                self._add((ticks, record, boot))
                if not writer._is_calm:
                    writer._catch_up(record)
                return
            with writer._lock:
                writer._check_open()
                writer._accept(ticks, record, boot, at_once=descriptor[_LEVEL] <= _ERROR)
        except Exception:
            self._failed.add()
            raise


@final
class EventLane:
    """Writes ready-made events of one provider to a trace, faster than `EtlWriter.write`.

    Attributes:
        writer: What writes the trace.
    """

    def __init__(self, writer: EtlWriter, provider_id: uuid.UUID, traits: bytes) -> None:
        """Prepare for events of a provider.

        Args:
            writer: What writes the trace; an event of any length must fit its buffers.
            provider_id: The provider's GUID.
            traits: The provider's name and group, in TraceLogging's form.
        """
        self.writer = writer
        self._provider = provider_id.bytes_le
        self._chains = _Chains(traits)
        self._thread = _Thread()

    def write(
        self,
        ticks: int,
        descriptor: bytes,
        metadata: bytes,
        payload: bytes,
        activity: bytes | None,
        related: bytes | None,
    ) -> None:
        """Write an event.

        Args:
            ticks: When it happened; a time that cannot be is taken for now.
            descriptor: 16 bytes, an ``EVENT_DESCRIPTOR``.
            metadata: What describes the event.
            payload: The values of its fields.
            activity: The 16 bytes of the activity's id, if there is one.
            related: The 16 bytes of the related activity's id, if there is one.

        Raises:
            OSError: If the disk is full, or otherwise cannot be written.
            ValueError: If the writer was closed.
        """
        writer = self.writer
        if not writer._start <= ticks < _END_OF_TIME:
            ticks = writer._sensible(ticks)
        chain, size = self._chains[metadata]
        size += len(payload)
        if related is not None:
            chain = RELATED_ITEM + related + chain
            size += len(RELATED_ITEM) + len(related)
        boot = writer._boot
        head = _pack(
            size, self._thread.head, ticks - boot, self._provider, descriptor,
            activity or _NO_ACTIVITY,
        )  # fmt: skip
        record = _join((head, chain, payload, _PADDINGS[-size & 7]))
        with writer._lock:
            writer._check_open()
            writer._accept(ticks, record, boot, at_once=descriptor[_LEVEL] <= _ERROR)

    @property
    def is_of_this_process(self) -> bool:
        """Whether the trace was begun by this process, not by one that it was forked from."""
        return self.writer._process == os.getpid()


class _Written:
    """The buffer of one processor that is being filled.

    Its memory is used again and again: to be given new memory costs more than to fill it.
    """

    def __init__(self, cpu: int, size_bytes: int) -> None:
        self.cpu = cpu
        self.newest = -1  # in ticks
        self._blank = b"\xff" * size_bytes
        self.content = bytearray(size_bytes)
        self.begin()

    def begin(self) -> None:
        """Begin the next buffer, which is nowhere in the file yet."""
        self.used_bytes = self.stored_bytes = self.spoilt_bytes = BUFFER_HEADER_BYTES
        self.waiting = 0  # records that are in the content, but not in the file
        self.last: bytes | None = None
        self.offset: int | None = None
        self.sequence = 0

    def add(self, new: bytes, last: bytes, count: int, newest: int) -> None:
        """Add so many records that fit, in the order of their times."""
        end = self.used_bytes + len(new)
        self.content[self.used_bytes : end] = new
        self.used_bytes = end
        self.waiting += count
        self.last = last
        self.newest = newest

    def blank(self) -> None:
        """Fill up what is not used."""
        self.content[self.used_bytes :] = self._blank[self.used_bytes :]

    def take_back(self, record: bytes) -> None:
        """Remove the last record, if it is this one."""
        if self.last is record:
            self.used_bytes -= len(record)
            self.blank()
            self.last = None
            self.waiting -= 1


class _Chains(dict[bytes, tuple[bytes, int]]):
    """The extended items of events of one provider, by their metadata.

    With them, how many bytes they and the header have together.
    """

    def __init__(self, traits: bytes) -> None:
        self._traits = traits

    def __missing__(self, metadata: bytes) -> tuple[bytes, int]:
        if len(self) == _MOST_CHAINS:
            self.clear()
        items = encode_items((), self._traits, metadata)
        found = self[metadata] = items, HEADER_BYTES + len(items)
        return found


class _Thread(threading.local):
    """Keeps what is the same for all events of a thread: its number takes a system call."""

    def __init__(self) -> None:
        self.head = LANE_THREAD.pack(EVENT_HEADER_64, 1, 0, threading.get_native_id(), os.getpid())


def _now() -> int:
    """Return the time in ticks."""
    return time.time_ns() // 100 + EPOCH


def _ticks_of(message: MessageDict) -> int:
    """Return when a message was logged; -1 if it does not say."""
    try:
        return int(message[TIMESTAMP] * _TICKS) + EPOCH
    except Exception:  # noqa: BLE001 - there may be anything, or nothing
        return -1


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
