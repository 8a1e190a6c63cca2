"""What a test logged as a tree to be read, drawn as ``eliot-etw tree`` draws it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO

from eliot_etw._json import decode_line, encode_line
from eliot_etw._logger import MemoryLogger
from eliot_etw._written import place_of
from eliot_etw.typing import MessageDict
from eliot_etw.viewers._forest import Forest, Task
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._text import Clock
from eliot_etw.viewers._tree import TreeText

# More is not read by anybody, and has to travel from worker to worker. What led to a failure
# mostly is at the end.
_MOST_LINES = 1_000


class _Paper(StringIO):
    """Takes the signs that standard output can write."""

    @property
    def encoding(self) -> str:  # type: ignore[override] # read-only here
        return getattr(sys.__stdout__, "encoding", None) or "ascii"


def tree_text(logger: MemoryLogger) -> str:
    """Draw the last 1,000 lines of what was logged.

    Args:
        logger: What it was logged to.

    Returns:
        Lines, each with its newline. Control characters and the like are escaped.
    """
    tree = TreeText(Screen(_Paper(), color="never", width=0), Clock())
    lines = [line for task in _tasks(logger) for line in tree.draw(task.uuid, task.nodes())]
    left_out = len(lines) - _MOST_LINES
    if left_out > 0:
        lines[:left_out] = [f"({left_out:,} lines before these are left out)\n"]
    return "".join(lines)


def _tasks(logger: MemoryLogger) -> Iterator[Task]:
    """Gather the messages into tasks; one that has no place becomes a task of its own."""
    forest = Forest()
    for message in _as_logged(logger):
        if place_of(message) is None:
            task = Task("", 0)
            task.add((1,), message)
            yield task
        else:
            yield from forest.add(message)
    yield from forest.rest()


def _as_logged(logger: MemoryLogger) -> Iterator[MessageDict]:
    """Give the messages as they would be read back from a file."""
    for message, serializer in zip(logger.messages, logger.serializers, strict=False):
        copy = dict(message)
        if serializer is not None:
            # It may be why the test fails: then the values are shown as they were logged.
            with suppress(Exception):
                serializer.serialize(copy)
        yield decode_line(encode_line(copy))
