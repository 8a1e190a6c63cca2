"""What a log says in numbers: how often each type occurred, failed, and how long it took.

No trees are built: a start is kept until its end comes, by task and level. So a start that came
twice counts once, but an end that came twice is, the second time, one without a start; a message
that came twice counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from eliot_etw._names import (
    ACTION_STATUS,
    ACTION_TYPE,
    FAILED,
    MESSAGE_TYPE,
    TASK_LEVEL,
    TASK_UUID,
)
from eliot_etw.typing import MessageDict
from eliot_etw.viewers._nodes import MESSAGE, START, Level, role_of, time_of
from eliot_etw.viewers._quantiles import Quantiles

if TYPE_CHECKING:
    from eliot_etw.viewers._spill import HalfSpill

# A log that makes up types gets so many rows; what is beyond shares one.
_MOST_TYPES: Final = 2_000
OTHER_TYPES: Final = "(other types)"
NO_TYPE: Final = "(no type)"
# So many starts without an end, or ends without a start, are held in memory.
_MOST_HALVES: Final = 50_000


@final
class ActionStats:
    """The numbers of one type of action.

    Attributes:
        count: How many actions there were.
        failed: How many of them failed.
        no_end: Of how many there was no end.
        no_start: Of how many there was no start.
        durations: What those took of which there were both.
    """

    __slots__ = ("count", "durations", "failed", "no_end", "no_start")

    def __init__(self) -> None:
        self.count = self.failed = self.no_end = self.no_start = 0
        self.durations = Quantiles()


class Half(NamedTuple):
    """The start or the end of an action whose other half has not come yet."""

    type: str
    time: float | None
    is_start: bool
    has_failed: bool


@final
class Stats:
    """Counts messages, in memory that does not depend on how many there are.

    Attributes:
        actions: The numbers of each type of action.
        messages: How many messages of each type there were outside starts and ends.
        count: How many messages there were in all.
        first: The earliest time in the log; None if there is none.
        last: The latest time in the log.
    """

    def __init__(self, *, most_halves: int = _MOST_HALVES) -> None:
        self.actions: dict[str, ActionStats] = {}
        self.messages: dict[str, int] = {}
        self.count = 0
        self.first: float | None = None
        self.last: float | None = None
        self._halves: dict[tuple[str, Level], Half] = {}
        self._most_halves = most_halves
        self._spill: HalfSpill | None = None

    def add(self, message: MessageDict) -> None:
        """Count a message that has a place."""
        self.count += 1
        time = time_of(message)
        if time is not None:
            if self.first is None or self.last is None:
                self.first = self.last = time
            elif time > self.last:
                self.last = time
            elif time < self.first:
                self.first = time
        level = message[TASK_LEVEL]
        role = role_of(message, level[-1])
        if role == MESSAGE:
            kind = _name(message.get(MESSAGE_TYPE, message.get(ACTION_TYPE)), self.messages)
            self.messages[kind] = self.messages.get(kind, 0) + 1
            return
        half = Half(message[ACTION_TYPE], time, role == START, message[ACTION_STATUS] == FAILED)
        self._take((message[TASK_UUID], tuple(level[:-1])), half)

    def finish(self) -> None:
        """Count what has remained half."""
        for half in self._halves.values():
            self._count(half)
        self._halves.clear()
        if self._spill:
            for values in self._spill.all():
                self._count(Half(*values))
            self._spill.close()
            self._spill = None

    def _take(self, key: tuple[str, Level], half: Half) -> None:
        """Count an action if this completes it; else keep this half."""
        other = self._halves.pop(key, None)
        if other is None and self._spill:
            found = self._spill.take(*key)
            other = Half(*found) if found else None
        if other is None or other.is_start == half.is_start:
            self._halves[key] = other or half
            if len(self._halves) > self._most_halves:
                self._put_away()
        elif half.is_start:
            self._count(other, half)
        else:
            self._count(half, other)

    def _count(self, half: Half, start: Half | None = None) -> None:
        """Count an action by its end and its start, or by the one half that there is."""
        name = _name((start or half).type, self.actions)
        stats = self.actions.get(name)
        if stats is None:
            stats = self.actions[name] = ActionStats()
        stats.count += 1
        stats.failed += half.has_failed
        if half.is_start:
            stats.no_end += 1
        elif start is None:
            stats.no_start += 1
        elif start.time is not None and half.time is not None:
            stats.durations.add(half.time - start.time)

    def _put_away(self) -> None:
        """Move the halves to disk: most of them will be whole at some time, or never."""
        if self._spill is None:
            from eliot_etw.viewers._spill import HalfSpill  # noqa: PLC0415 - most logs need none

            self._spill = HalfSpill()
        self._spill.put((uuid, level, half) for (uuid, level), half in self._halves.items())
        self._halves.clear()


def _name(kind: Any, known: Mapping[str, object]) -> str:
    """Name a type; all of those beyond so many alike."""
    name = kind if type(kind) is str else NO_TYPE if kind is None else str(kind)
    if name in known or len(known) < _MOST_TYPES:
        return name
    return OTHER_TYPES
