"""Messages from a stream of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final, TypeAlias, final

from eliot_etw.collector.inputs import Batch, Origin
from eliot_etw.collector.inputs._pulled import PulledInput
from eliot_etw.shipping._redis_stream import DEFAULT_STREAM, DEFAULT_URL, RedisStream

DEFAULT_GROUP: Final = "eliot"
DEFAULT_READER: Final = "collector"

_STEP: Final = 1_000
# The number of an entry is its time in ms, and which it is in that; together they are below 2**53
# for a long time, which is as far as some sinks count.
_SAME_MS_BITS: Final = 11

Entries: TypeAlias = Sequence[tuple[bytes, bytes]]


@final
class RedisInput(PulledInput):
    """Takes what is in a stream, from its first entry on, and then what comes, as one of a group.

    Redis knows what was taken and not acknowledged, and after a restart that comes first, under
    the same numbers. An entry is acknowledged when every required sink has it; it stays in the
    stream. Several collectors may share a group, each under a name of its own; what one of them
    has not acknowledged for long, the others take over.

    Args:
        url: Where Redis is, as ``redis://user:password@host:port/database``.
        stream: The name of the stream.
        group: The name of the group.
        reader: Who we are in the group: no other collector, and the same after a restart.
        take_over_s: After how many seconds we take over what others have not acknowledged.
        timeout_s: How long Redis may take for an answer.

    Raises:
        MissingDependency: If redis is not installed.
        ValueError: If a setting is wrong.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        stream: str = DEFAULT_STREAM,
        *,
        group: str = DEFAULT_GROUP,
        reader: str = DEFAULT_READER,
        take_over_s: float = 600.0,
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__()
        for name, value in (("group", group), ("reader", reader)):
            if not value:
                raise ValueError(f"{name} must be a name, got {value!r}. Leave it out.")
        if not take_over_s > 0:
            msg = f"take_over_s must be more than 0, got {take_over_s!r}. Try 600.0."
            raise ValueError(msg)
        self._stream = RedisStream(url, stream, timeout_s=timeout_s, feature="The input redis")
        self._errors = self._stream.errors
        self._group = group
        self._reader = reader
        # What we took over is kept apart: among our own, its numbers would not grow.
        self._heir = f"{reader}:taken-over"
        self._take_over_s = take_over_s
        self._look_at = 0.0
        # The last entry of our own that was delivered; what was of others and is not settled.
        self._last = b""
        self._inherited: set[bytes] = set()
        # Up to where it was read what each of the two has taken; None if all of that was read.
        self._again: dict[str, bytes | None] = {}

    def _begin(self) -> None:
        self._stream.join(self._group)
        # An answer that was lost may have had entries in it, which Redis takes for ours.
        self._again = {self._reader: self._last, self._heir: b""}

    def _read(self, wait_s: float) -> Sequence[tuple[Batch, list[bytes]]]:
        if monotonic() >= self._look_at:
            ours = {self._reader, self._heir}
            self._stream.take_over(self._group, ours, self._heir, self._take_over_s)
            self._look_at = monotonic() + self._take_over_s / 2
            self._again[self._heir] = b""
        for who, after in self._again.items():
            if after is not None:
                entries = self._stream.taken(self._group, who, after, _STEP)
                self._again[who] = entries[-1][0] if entries else None
                return self._batches(who, entries)
        return self._batches(
            self._reader, self._stream.take(self._group, self._reader, _STEP, wait_s)
        )

    def _batches(self, who: str, entries: Entries) -> Sequence[tuple[Batch, list[bytes]]]:
        """Make a batch of entries, if there are any that are not under way."""
        if who == self._heir:
            entries = [each for each in entries if each[0] not in self._inherited]
            self._inherited.update(each for each, _ in entries)
        elif entries:
            self._last = entries[-1][0]
        return [self._batch(who, entries)] if entries else ()

    def _batch(self, who: str, entries: Entries) -> tuple[Batch, list[bytes]]:
        """Make a batch; what others have added without a message is acknowledged with it."""
        lines = [line for _, line in entries if line]
        numbers = [_number(each) for each, line in entries if line]
        sender = f"redis:{self._stream.name}:{self._group}:{self._reader}"
        if who == self._heir or None in numbers:
            sender = ""
        origin = Origin(sender, [number or 0 for number in numbers])
        return Batch(lines, [origin] if lines else ()), [each for each, _ in entries]

    def _acknowledge(self, settled: Sequence[list[bytes]]) -> None:
        done = [each for some in settled for each in some]
        self._stream.acknowledge(self._group, done)
        self._inherited.difference_update(done)

    def _end(self) -> None:
        self._stream.close()


def _number(entry: bytes) -> int | None:
    """Make a number of an entry's id; None if there were too many in one ms."""
    time_ms, _, same = entry.partition(b"-")
    if int(same) >> _SAME_MS_BITS:
        return None
    return int(time_ms) << _SAME_MS_BITS | int(same)
