"""What stands before a sink: a queue in memory, a spool on disk for when it is down, a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from itertools import chain
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import Final, NamedTuple, Protocol, TypeAlias, final

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

from eliot_etw import log_message
from eliot_etw._safe import safe_str
from eliot_etw.collector._batch import Batch, Origin
from eliot_etw.collector.sinks import MessagesRefused, Sink, SinkUnavailable
from eliot_etw.shipping._spool import DiskSpool, SpoolFull

# What is written at once, at most, if so much waits.
_GROUP_BYTES: Final = 4 << 20
_GROUP_MESSAGES: Final = 20_000
# How long after a failure the sink is tried again: the first time, and at most.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
# How long a sink may take to settle a batch before it counts as down.
_WRITE_TIMEOUT_S: Final = 60.0
# After how long without an answer it hangs: what waits goes to disk then, and nobody waits for it.
_HANGS_S: Final = 10.0
# How often a batch is tried that makes a sink fail in a way of its own, before it is taken apart.
_MOST_TRIES: Final = 3
# When there is nothing to write: how long until the sink may do what it has put off; how often.
_IDLE_S: Final = 0.05
_FLUSH_EVERY_S: Final = 1.0
_FLUSH_S: Final = 0.2
# How long each of the last two things may take that a sink does.
_CLOSE_S: Final = 1.0
# What a batch is on disk besides the texts in it, at most: all of it, a line, who sent some.
_BATCH_BYTES: Final = 64
_LINE_BYTES: Final = 16
_SENDER_BYTES: Final = 16

Done: TypeAlias = Callable[[], object]

_encode: Final = Encoder().encode
_decode: Final = Decoder(tuple[list[bytes], list[tuple[str, list[int]]]]).decode
# What a sink raises when it is its place that fails, not a message.
_OUTSIDE: Final = (SinkUnavailable, OSError, MemoryError, FutureTimeoutError)


class PutAside(Protocol):
    """Puts messages where somebody may look what is wrong with them."""

    def __call__(self, sink: str, refused: Sequence[tuple[bytes, str]]) -> None:
        """Keep lines, each with why. Raises OSError if that is not possible."""


class LaneOptions(NamedTuple):
    """How a sink is served.

    Attributes:
        required: Whether a message is acknowledged only when this sink has it.
        memory_bytes: How much may wait in memory.
        spool_bytes: How much may wait on disk, while the sink is down or too slow; 0 for nothing.
        spool_sync: Whether what waits on disk outlives also a loss of power.
    """

    required: bool = True
    memory_bytes: int = 16 << 20
    spool_bytes: int = 1 << 30
    spool_sync: bool = False


class Waiting(NamedTuple):
    """A batch that is not stored.

    Attributes:
        batch: The messages.
        done: What is called once they are stored.
    """

    batch: Batch
    done: Done


@final
class Lane:
    """Gives a sink what it is to store, in order, and holds it while the sink cannot.

    What waits on disk counts as stored: it outlives the process. It always is older than what
    waits in memory, so that the order stays.

    Args:
        name: What the sink is called.
        sink: The sink.
        folder: Where messages may wait.
        options: How it is served.
        put_aside: Takes what the sink will never store.

    Raises:
        OSError: If the folder cannot be used.
    """

    def __init__(
        self, name: str, sink: Sink, folder: Path, options: LaneOptions, put_aside: PutAside
    ) -> None:
        self.name = name
        self.options = options
        self.sink = sink
        self._put_aside = put_aside
        self._spool = (
            DiskSpool(folder, max_bytes=options.spool_bytes, sync=options.spool_sync)
            if options.spool_bytes
            else None
        )
        self._changed = Condition()
        self._queue: deque[Waiting] = deque()
        self._queued_bytes = 0
        # What the sink is just given, if it is not on disk; and if it is, up to which number.
        self._current: list[Waiting] = []
        self._current_through = 0
        # How many messages of it could not be read.
        self._current_damaged = 0
        # Since when the sink is at something; None while it is not.
        self._given_at: float | None = None
        self._is_down = False
        self._has_ended = False
        self._stop_at: float | None = None
        self._counts = dict.fromkeys(
            ("written", "written_bytes", "spooled", "dropped", "refused", "failures"), 0
        )
        self._thread = Thread(target=self._run, name=f"eliot_etw sink {name}", daemon=True)
        self._thread.start()

    # ---- what comes ----------------------------------------------------------------------------

    def has_room(self, batch: Batch) -> bool:
        """Say whether a batch would be taken now."""
        with self._changed:
            return self._fits_memory(batch) or self._fits_disk(batch)

    def fits_memory(self, batch: Batch) -> bool:
        """Say whether a batch would be taken now without a disk."""
        with self._changed:
            return self._fits_memory(batch)

    def offer(self, batch: Batch, done: Done) -> bool:
        """Take a batch.

        Args:
            batch: The messages.
            done: Called once they are stored, by the sink or on disk.

        Returns:
            Whether it was taken. If the sink is not required, what there is no room for is
            dropped, counted and done.
        """
        with self._changed:
            if self._fits_memory(batch):
                self._queue.append(Waiting(batch, done))
                self._queued_bytes += batch.size
            elif self._spill() and self._put_on_disk(batch):
                done()
            elif self.options.required:
                return False
            else:
                self._counts["dropped"] += len(batch)
                done()
            self._changed.notify()
            return True

    def _fits_memory(self, batch: Batch) -> bool:
        """Say whether a batch may wait in memory."""
        if self._is_on_disk() or (self._is_down and self._spool is not None):
            return False
        return not self._queue or (self._queued_bytes + batch.size <= self.options.memory_bytes)

    def _fits_disk(self, batch: Batch) -> bool:
        """Say whether a batch may wait on disk, after all that waits in memory."""
        spool = self._spool
        before = (waiting.batch for waiting in self._in_memory())
        room = sum(map(_most_on_disk, chain(before, [batch])))
        return spool is not None and spool.size_bytes + room <= self.options.spool_bytes

    def _is_on_disk(self) -> bool:
        return self._spool is not None and len(self._spool) > 0

    def _spill(self) -> bool:
        """Put on disk what waits in memory, oldest first; say whether all of it is there."""
        if self._current and not self._current_through:
            # All or nothing, so that nothing of it waits twice.
            if not self._put_on_disk(Batch.joined([waiting.batch for waiting in self._current])):
                return False
            assert self._spool is not None  # noqa: S101 - it took them
            self._current_through = self._spool.next - 1
            for waiting in self._current:
                waiting.done()
        while self._queue:
            waiting = self._queue[0]
            if not self._put_on_disk(waiting.batch):
                return False
            self._take_first()
            waiting.done()
        return self._spool is not None

    def _take_first(self) -> Waiting:
        waiting = self._queue.popleft()
        self._queued_bytes -= waiting.batch.size
        return waiting

    def _put_on_disk(self, batch: Batch) -> bool:
        """Append to the spool; say whether that was possible."""
        if self._spool is None or self._has_ended:
            return False
        origins = [(sender, list(numbers)) for sender, numbers in batch.origins]
        try:
            self._spool.append(_encode((batch.lines, origins)), len(batch))
        except (SpoolFull, OSError):
            return False
        self._counts["spooled"] += len(batch)
        return True

    # ---- what goes -----------------------------------------------------------------------------

    def _run(self) -> None:
        """Give the sink what waits, until the end; let go of all, whatever happens."""
        try:
            self._serve()
        finally:
            self._let_go()

    def _serve(self) -> None:
        """Give the sink what waits, until the end."""
        pause = _FIRST_PAUSE_S
        tries = 0
        while True:
            error: BaseException | None
            try:
                batch = self._next()
                if batch is None:
                    return
                error = self._write(batch, tries)
                if error is None:
                    pause, tries = _FIRST_PAUSE_S, 0
                    self._settle()
                    continue
            # What waits on disk cannot be read, or a sink of a user ends its thread.
            except BaseException as other_error:  # noqa: BLE001
                error = other_error
            tries += 1
            self._hold(error, pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _let_go(self) -> None:
        """Close the sink; keep on disk what waits."""
        for end in (self.sink.flush, self.sink.close):
            # All of it: what follows has to be done whatever a sink of a user raises.
            with suppress(BaseException):
                end(_CLOSE_S)
        with self._changed:
            self._spill()
            if self._spool is not None:
                self._spool.close()
            self._has_ended = True

    def _next(self) -> Batch | None:
        """Wait for what the sink is to be given next; None at the end."""
        idle_s = _IDLE_S
        while True:
            with self._changed:
                if self._has_to_end():
                    return None
                if self._is_on_disk():
                    return self._from_disk()
                if self._queue:
                    return self._from_memory()
                self._changed.wait(idle_s)
                if self._queue or self._is_on_disk() or self._stop_at is not None:
                    continue
            # Outside of the lock, so that nobody who has something waits for it.
            self._given_at = monotonic()
            with suppress(Exception):
                self.sink.flush(_FLUSH_S)
            self._given_at = None
            idle_s = _FLUSH_EVERY_S

    def _has_to_end(self) -> bool:
        """Say whether it is time to end: when nothing waits, or no longer may."""
        if self._stop_at is None:
            return False
        waits = bool(self._queue) or self._is_on_disk()
        return not waits or self._is_down or monotonic() >= self._stop_at

    def _from_memory(self) -> Batch:
        """Take a group of what waits in memory."""
        self._current = [self._take_first()]
        self._current_through = 0
        size = self._current[0].batch.size
        count = len(self._current[0].batch)
        while self._queue and size < _GROUP_BYTES and count < _GROUP_MESSAGES:
            waiting = self._take_first()
            self._current.append(waiting)
            size += waiting.batch.size
            count += len(waiting.batch)
        return Batch.joined([waiting.batch for waiting in self._current])

    def _from_disk(self) -> Batch:
        """Read a group of what waits on disk."""
        spool = self._spool
        assert spool is not None  # noqa: S101 - it was asked
        batches: list[Batch] = []
        at, size, damaged = spool.first, 0, 0
        while size < _GROUP_BYTES and (entry := spool.read(at)) is not None:
            at = entry.last + 1
            size += len(entry.blob)
            try:
                lines, origins = _decode(entry.blob)
            except DecodeError:  # another release wrote it
                damaged += entry.count
                continue
            batches.append(Batch(lines, [Origin(*origin) for origin in origins]))
        self._current = []
        self._current_through = at - 1
        self._current_damaged = damaged
        return Batch.joined(batches) if batches else Batch([])

    def _write(self, batch: Batch, tries: int) -> Exception | None:
        """Have the sink store a batch; return why it did not."""
        if not len(batch):
            return None
        self._given_at = monotonic()
        try:
            self.sink.write(batch).result(_WRITE_TIMEOUT_S)
        except MessagesRefused as error:
            return self._refuse(batch, error.refused)
        except _OUTSIDE as error:
            return error
        except Exception as error:  # noqa: BLE001 - a sink of a user may raise anything
            if tries + 1 < _MOST_TRIES:
                return error
            return self._one_by_one(batch)
        self._count(batch, {})
        return None

    def _one_by_one(self, batch: Batch) -> Exception | None:
        """Find out which messages it is that a sink fails at."""
        refused: dict[int, str] = {}
        for index in range(len(batch)):
            wanted = [False] * len(batch)
            wanted[index] = True
            try:
                self.sink.write(batch.only(wanted)).result(_WRITE_TIMEOUT_S)
            except _OUTSIDE as error:
                return error
            except Exception as error:  # noqa: BLE001 - as above
                refused[index] = safe_str(error)
        return self._refuse(batch, refused)

    def _refuse(self, batch: Batch, refused: Mapping[int, str]) -> Exception | None:
        """Put aside what the sink will never store; return why that was not possible."""
        try:
            if refused:
                self._put_aside(
                    self.name, [(batch.lines[index], why) for index, why in refused.items()]
                )
        except OSError as error:
            return error
        self._count(batch, refused)
        return None

    def _count(self, batch: Batch, refused: Mapping[int, str]) -> None:
        """Count a batch that the sink has, but for some messages."""
        self._counts["refused"] += len(refused)
        self._counts["written"] += len(batch) - len(refused)
        self._counts["written_bytes"] += batch.size - sum(len(batch.lines[i]) for i in refused)

    def look(self) -> None:
        """Have what waits go to disk if the sink hangs, for nobody else is to wait for it."""
        with self._changed:
            given_at = self._given_at
            if given_at is None or monotonic() < given_at + _HANGS_S:
                return
            # It is up again once it has stored something: where nothing waits, it would stay down.
            if not self._in_memory() and not self._is_on_disk():
                return
            if not self._is_down:
                self._go_down(f"it has not answered for {_HANGS_S:.0f} s")
            self._spill()

    def _go_down(self, why: str) -> None:
        """Take note that the sink takes nothing now."""
        self._is_down = True
        log_message("collector:sink_is_down", log_level="error", sink=self.name, reason=why)

    def _settle(self) -> None:
        """Say that what the sink was given is stored."""
        with self._changed:
            self._given_at = None
            if self._is_down:
                self._is_down = False
                log_message("collector:sink_is_back", log_level="warning", sink=self.name)
            if self._current_through and self._spool is not None:
                self._spool.release(self._current_through)
                self._counts["dropped"] += self._current_damaged
                self._current_damaged = 0
            else:
                for waiting in self._current:
                    waiting.done()
            self._current = []

    def _hold(self, error: BaseException, pause: float) -> None:
        """Keep what the sink did not take, and wait a while."""
        with self._changed:
            self._counts["failures"] += 1
            self._given_at = None
            if not self._is_down:
                self._go_down(safe_str(error))
            self._spill()
            if not self._current_through:
                self._queue.extendleft(reversed(self._current))
                self._queued_bytes += sum(waiting.batch.size for waiting in self._current)
            self._current = []
            until = monotonic() + pause
            while self._stop_at is None and (left := until - monotonic()) > 0:
                self._changed.wait(left)

    # ---- the end -------------------------------------------------------------------------------

    def stop(self, timeout_s: float) -> int:
        """Store what waits, as far as that is possible in time; keep the rest on disk.

        Returns:
            How many messages wait in memory still; nobody was told that they are stored.
        """
        with self._changed:
            self._stop_at = monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s + 2 * _CLOSE_S)
        with self._changed:
            if not self._has_ended:  # its sink does not come back; what it was given may
                self._spill()
            return sum(len(waiting.batch) for waiting in self._in_memory())

    def _in_memory(self) -> list[Waiting]:
        """List what is not on disk."""
        return [*(() if self._current_through else self._current), *self._queue]

    def give_away(self) -> list[Waiting]:
        """Give what waits in memory still, after `stop`, to whoever stores it from now on."""
        with self._changed:
            left = self._in_memory()
            self._current = []
            self._queue.clear()
            self._queued_bytes = 0
            return left

    def take_over(self, left: Sequence[Waiting]) -> None:
        """Take what another lane gave away, before anything is offered that is newer."""
        with self._changed:
            self._queue.extend(left)
            self._queued_bytes += sum(waiting.batch.size for waiting in left)
            self._changed.notify()

    def stats(self) -> dict[str, int]:
        """Count what happened, and what waits."""
        with self._changed:
            damaged = self._spool.dropped if self._spool is not None else 0
            dropped = self._counts["dropped"] + damaged
            return {**self._counts, "dropped": dropped, **self.sink.stats()}

    def gauges(self) -> dict[str, int]:
        """Say what waits now, and whether the sink is up."""
        with self._changed:
            on_disk = len(self._spool) if self._spool is not None else 0
            return {
                "waiting": sum(len(each.batch) for each in self._in_memory()) + on_disk,
                "waiting_bytes": self._queued_bytes,
                "spool_bytes": self._spool.size_bytes if self._spool is not None else 0,
                "up": int(not self._is_down and self._thread.is_alive()),
            }


def _most_on_disk(batch: Batch) -> int:
    """Return how many bytes a batch may take on disk."""
    senders = sum(_SENDER_BYTES + len(sender.encode()) for sender, _ in batch.origins)
    return _BATCH_BYTES + batch.size + _LINE_BYTES * len(batch) + senders
