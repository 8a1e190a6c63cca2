"""Messages of several sources as one stream, in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter

from eliot_etw._names import TIMESTAMP
from eliot_etw.typing import MessageDict, Source


def merge_by_time(sources: Iterable[Source]) -> Iterator[MessageDict]:
    """Give the messages of all sources, the earliest first.

    Each source is read only as far as needed. Within a source the order stays as it is: a message
    with an earlier time than the one before it, or with none, counts as being of the same time.

    Args:
        sources: Iterables of messages. A single one is passed through untouched.
    """
    streams = list(sources)
    if len(streams) == 1:
        yield from streams[0]
        return
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
