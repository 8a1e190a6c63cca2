"""Spans and log records as messages in the order of their times, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import groupby
from types import TracebackType
from typing import Final, NamedTuple, final
from uuid import UUID

from eliot_etw._json import encode_line
from eliot_etw._names import ACTION_STATUS, OTEL_SPAN_ID, STARTED, TASK_LEVEL, TASK_UUID
from eliot_etw._task_level import TaskLevel
from eliot_etw._trace_context import span_id_of, trace_id_of
from eliot_etw._written import WrittenMessage, place_of
from eliot_etw.otlp._messages_of import MessageMaker
from eliot_etw.otlp._model import Log, Span
from eliot_etw.sources._sorted import Sorted
from eliot_etw.typing import MessageDict

_NS_PER_S: Final = 10**9
# What a place takes, about.
_PLACE_BYTES: Final = 200


@final
class _Place(NamedTuple):
    """Where an action of ours is, which is a span to others."""

    trace_id: str
    span_id: str
    task_uuid: str
    level: tuple[int, ...]


@final
class SpanMessages:
    """Takes spans and log records in any order, and gives the messages that they tell of.

    A program tells of a span when it is over, and perhaps of each in another file: so all must be
    known before the first message can be given. Traces are looked at one by one.

    Args:
        seed: Distinguishes what is read from other such: of it, and of their numbers, the tasks of
            log records are named that belong to no trace. So they are the same each time.
    """

    def __init__(self, seed: str) -> None:
        self._seed = blake2b(seed.encode("utf-8", "backslashreplace"), digest_size=16).digest()
        self._alone = 0
        self._items: Sorted[Span | Log | _Place] = Sorted()
        self._messages: Sorted[MessageDict] = Sorted()
        self.count = 0
        """How many spans and log records there are."""
        self.skipped: Counter[str] = Counter()
        """How many messages were ``misplaced``, for they have no usable place in a task; how many
        spans were ``repeated``; and how many traces were ``split``, for there was more of each
        than fits into memory."""

    def add(self, item: Span | Log, size_bytes: int) -> None:
        """Take a span or log record.

        Args:
            item: Which.
            size_bytes: About how long it was where it was read.

        Raises:
            OSError: If the disk for temporary files is full.
        """
        self.count += 1
        self._items.add(item, item.trace_id or "", _time_s(item), size_bytes)

    def know(self, message: MessageDict) -> None:
        """Look at a message of ours, which comes from elsewhere: others' spans may be in it.

        Raises:
            OSError: If the disk for temporary files is full.
        """
        if message.get(ACTION_STATUS) != STARTED:
            return
        uuid, level = message[TASK_UUID], tuple(message[TASK_LEVEL][:-1])
        span_id = message.get(OTEL_SPAN_ID)
        if not isinstance(span_id, str):
            span_id = span_id_of(uuid, level)
        place = _Place(trace_id_of(uuid), span_id, uuid, level)
        self._items.add(place, place.trace_id, float("-inf"), _PLACE_BYTES)

    def __iter__(self) -> Iterator[MessageDict]:
        """Give all messages. Raises OSError as `add` does."""
        for _, items in groupby(self._items, key=lambda item: item.trace_id):
            maker = MessageMaker()
            for item in self._told_once(items):
                if isinstance(item, _Place):
                    level = TaskLevel(item.level)
                    maker.know(item.trace_id, item.task_uuid, item.span_id, level)
                    continue
                for message in maker.add(item):
                    self._sort_in(message, item)
            for message in maker.rest():
                if not isinstance(item, _Place):
                    self._sort_in(message, item)
            self.skipped += Counter(split=maker.split)
        yield from self._messages

    def __enter__(self) -> SpanMessages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._items.close()
        self._messages.close()

    def _told_once(self, items: Iterable[Span | Log | _Place]) -> Iterator[Span | Log | _Place]:
        """Leave out spans that were told of before, and starts of spans that have ended."""
        started: dict[str, Span] = {}
        ended = set()
        for item in items:
            if not isinstance(item, Span):
                yield item
            elif not item.end_ns:
                started.setdefault(item.span_id, item)
            elif (item.span_id, item.start_ns) in ended:
                self.skipped["repeated"] += 1
            else:
                ended.add((item.span_id, item.start_ns))
                yield item
        known = {span_id for span_id, _ in ended}
        yield from (span for span_id, span in started.items() if span_id not in known)

    def _sort_in(self, message: MessageDict, item: Span | Log) -> None:
        """Keep a message; one without a time has that of what it was made of."""
        if not place_of(message):
            self.skipped["misplaced"] += 1
            return
        if item.trace_id is None:
            self._alone += 1
            number = self._alone.to_bytes(8, "little")
            digest = blake2b(number, key=self._seed, digest_size=16).digest()
            message[TASK_UUID] = str(UUID(bytes=digest))
        time = WrittenMessage(message).timestamp
        time_s = _time_s(item) if time is None else time
        self._messages.add(message, "", time_s, len(encode_line(message)))


def _time_s(item: Span | Log) -> float:
    return (item.start_ns if isinstance(item, Span) else item.time_ns) / _NS_PER_S
