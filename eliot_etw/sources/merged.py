"""Messages of several sources as one stream, in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from eliot_etw._names import TIMESTAMP
from eliot_etw.typing import MessageDict, Source

if TYPE_CHECKING:
    from collections import Counter

    from eliot_etw.sources._spans import SpanMessages


@runtime_checkable
class SpanSource(Protocol):
    """A source that has spans or log records: of their traces other sources may have parts."""

    skipped: Counter[str]

    def __iter__(self) -> Iterator[MessageDict]:
        """Give all messages."""

    def gather(self, spans: SpanMessages) -> None:
        """Put all spans and log records there. Raises as iterating does."""

    def others(self) -> Iterable[MessageDict]:
        """Give the messages of all else. Raises as iterating does."""


@runtime_checkable
class Repeatable(Protocol):
    """A source that may be able to give all its messages twice."""

    def again(self) -> Iterable[MessageDict]:
        """Give the messages beforehand, and report nothing; none if they can be had but once."""


def merge_by_time(sources: Iterable[Source]) -> Iterator[MessageDict]:
    """Give the messages of all sources, the earliest first.

    Each source is read only as far as needed. Within a source the order stays as it is: a message
    with an earlier time than the one before it, or with none, counts as being of the same time.

    What sources have of OpenTelemetry, `EtlSource` and `OtlpJsonSource`, is put into one tree for
    each trace, whichever of them has which part of it; for that these are read beforehand. If they
    have something, files of messages are looked through, too: spans may be within their actions.

    Args:
        sources: Iterables of messages. A single one is passed through untouched.
    """
    streams = list(sources)
    if len(streams) == 1:
        yield from streams[0]
        return
    of_spans = [source for source in streams if isinstance(source, SpanSource)]
    if not of_spans:
        yield from _merged(streams)
        return
    from eliot_etw.sources._spans import SpanMessages  # noqa: PLC0415 - most logs have none

    with SpanMessages(" ".join(str(getattr(source, "name", "")) for source in of_spans)) as spans:
        for source in of_spans:
            source.gather(spans)
        if spans.count:
            for other in streams:
                if isinstance(other, Repeatable):
                    for message in other.again():
                        spans.know(message)
        rest = (one.others() if isinstance(one, SpanSource) else one for one in streams)
        yield from _merged([spans, *rest])
        of_spans[0].skipped += spans.skipped


def _merged(streams: Iterable[Source]) -> Iterator[MessageDict]:
    """Give messages, the earliest first."""
    for _, message in merge(*map(_with_time, streams), key=itemgetter(0)):
        yield message


def _with_time(source: Source) -> Iterator[tuple[float, MessageDict]]:
    """Give each message with a time that never goes back."""
    latest = float("-inf")
    for message in source:
        time = message.get(TIMESTAMP)
        # False for NaN, too, which would upset the order of everything.
        if isinstance(time, (int, float)) and time > latest:
            latest = time
        yield latest, message
