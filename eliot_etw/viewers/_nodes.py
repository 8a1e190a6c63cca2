"""The nodes of a task's tree, from its messages sorted by level: what belongs and what is missing.

A level is the path to a message, so the messages sorted by level are the tree, depth first. Going
through them from the last to the first, everything within an action comes before its start: when
its node is made, its end, its last child and its gaps are known. No more is held than one frame
for each action that the current message stands in.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias, final

from eliot_etw._names import (
    ACTION_STATUS,
    ACTION_TYPE,
    FAILED,
    MESSAGE_TYPE,
    STARTED,
    SUCCEEDED,
    TIMESTAMP,
    TRACEBACK_TYPE,
)
from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.typing import MessageDict

Level: TypeAlias = tuple[int, ...]
Row: TypeAlias = tuple[Level, MessageDict]

# What a node is.
MESSAGE: Final = 0
ACTION: Final = 1
# Positions of which nothing was logged, or what was logged is lost.
GAP: Final = 2
# Where the action ended, although more was logged in it.
AFTER_END: Final = 3

# What a message is to the action it stands in.
START: Final = 1
END: Final = 2

# A time beyond this (thirty thousand million years) is a broken one, and breaks arithmetic.
_LATEST: Final = 1e18


def role_of(message: MessageDict, position: int) -> int:
    """Say whether a message is the start or the end of the action it stands in, or neither."""
    status = message.get(ACTION_STATUS)
    if status is None or not isinstance(message.get(ACTION_TYPE), str):
        return MESSAGE
    if status == STARTED:
        return START if position == 1 else MESSAGE
    return END if status in (SUCCEEDED, FAILED) else MESSAGE


def time_of(message: MessageDict | None) -> float | None:
    """Return the seconds since the epoch, or None if there is no sensible number."""
    time = message.get(TIMESTAMP) if message else None
    if type(time) is not float and type(time) is not int:
        return None
    # Comparing leaves out NaN and infinities, and integers that no float can hold.
    return time if -_LATEST < time < _LATEST else None


@final
class Node:
    """One line of the tree: an action, a message, or something that should be there.

    Attributes:
        kind: `ACTION`, `MESSAGE`, `GAP` or `AFTER_END`.
        depth: How many actions it stands in.
        position: Its place in its parent, counted from 1; 0 for the root.
        start: The start of an action; the message itself if it is one.
        end: The end of an action.
        has_child: Whether anything is within it.
        is_elsewhere: Whether nothing of an action is here but what others continued from it, at
            positions that were drawn.
        until: The last position of a gap; the position of the end of an action, or 0.
        is_rival: Whether another message has the same place.
        is_last: Whether nothing follows it in its parent.
        is_match: Whether it was selected by itself.
        leads: Whether it, or anything within it, was selected.
        shows: Whether it may be the root of what is shown.
        is_last_lead: Whether nothing that leads follows it in its parent.
    """

    __slots__ = (
        "depth",
        "end",
        "has_child",
        "is_elsewhere",
        "is_last",
        "is_last_lead",
        "is_match",
        "is_rival",
        "kind",
        "leads",
        "position",
        "shows",
        "start",
        "until",
    )

    def __init__(
        self,
        kind: int,
        depth: int,
        position: int,
        start: MessageDict | None = None,
        end: MessageDict | None = None,
        until: int = 0,
    ) -> None:
        self.kind = kind
        self.depth = depth
        self.position = position
        self.start = start
        self.end = end
        self.until = until
        self.is_rival = self.has_child = self.is_elsewhere = False
        self.is_last = self.is_last_lead = True
        self.is_match = self.leads = self.shows = True

    @property
    def type(self) -> Any:
        """The type that was logged; None if there is none."""
        message = self.start or self.end
        if message is None:
            return None
        first, second = (
            (ACTION_TYPE, MESSAGE_TYPE) if self.kind == ACTION else (MESSAGE_TYPE, ACTION_TYPE)
        )
        return message.get(first, message.get(second))

    @property
    def status(self) -> str | None:
        """How an action ended, or ``started`` if it did not; None for everything else."""
        message = self.end or self.start
        if self.kind != ACTION or message is None:
            return None
        status: str = message[ACTION_STATUS]
        return status

    @property
    def timestamp(self) -> float | None:
        """Seconds since the epoch, of the start or else of the end."""
        return time_of(self.start or self.end)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, if both are known."""
        if self.end is None:
            return None
        start, end = time_of(self.start), time_of(self.end)
        return None if start is None or end is None else end - start

    @property
    def has_failed(self) -> bool:
        """Whether it is an action that failed, or the traceback of an exception."""
        if self.kind == ACTION:
            return self.end is not None and self.end[ACTION_STATUS] == FAILED
        return self.start is not None and self.start.get(MESSAGE_TYPE) == TRACEBACK_TYPE

    def as_tuple(self) -> tuple[Any, ...]:
        """Return the values of all attributes, as `from_tuple` takes them."""
        return tuple(getattr(self, name) for name in self.__slots__)

    @classmethod
    def from_tuple(cls, values: tuple[Any, ...]) -> Node:
        """Make the node again from what `as_tuple` returned."""
        node = cls.__new__(cls)
        for name, value in zip(cls.__slots__, values, strict=True):
            setattr(node, name, value)
        return node


@final
class _Frame:
    """An action that the backward pass is within."""

    __slots__ = (
        "end",
        "end_position",
        "has_child",
        "has_lead",
        "has_match",
        "has_own",
        "lowest",
        "position",
        "start",
    )

    def __init__(self, position: int) -> None:
        self.position = position
        self.start: MessageDict | None = None
        self.end: MessageDict | None = None
        self.end_position = 0
        # The lowest position that was seen; 0 for none.
        self.lowest = 0
        self.has_child = False
        self.has_lead = False
        self.has_match = False
        # Whether more of it is here than its start, its end and what others continued from it.
        self.has_own = False


Selector: TypeAlias = Callable[[Node], bool]


@final
class BackwardPass:
    """Makes the nodes of one task, the last first.

    Args:
        is_match: Says which actions and messages are selected; None for all.
        keeps_context: Whether whatever leads to a selected node may be a root of what is shown.
    """

    def __init__(self, is_match: Selector | None = None, *, keeps_context: bool = False) -> None:
        self._is_match = is_match
        self._keeps_context = keeps_context
        self._frames = [_Frame(0)]
        # What the current message has made: usually one node or none.
        self._made: list[Node] = []

    def nodes(self, rows: Iterable[Row]) -> Iterator[Node]:
        """Make the nodes.

        Args:
            rows: Levels and messages, sorted by level from the last to the first; of those with
                one level, first the one that came first.
        """
        frames, made = self._frames, self._made
        parents: Level = ()
        same: list[MessageDict] = []
        same_level: Level = ()
        is_lone = True
        for level, message in rows:
            if level != same_level:
                same_level = level
                same.clear()
            elif any(is_same(message, other) for other in same):
                continue
            same.append(message)
            if level[:-1] != parents:
                self._move(parents, level[:-1])
                parents = level[:-1]
            role = role_of(message, level[-1])
            is_lone = is_lone and role == MESSAGE and level == (1,) and len(same) == 1
            self._take(frames[-1], level[-1], message, role)
            if made:
                yield from made
                made.clear()
        # A message outside any action has no action around it, not even one of which all is lost.
        while len(frames) > is_lone:
            self._close()
        yield from made

    def _move(self, old: Level, new: Level) -> None:
        """Leave the actions that the next message is not in; enter those that it is in."""
        frames = self._frames
        common = 0
        for one, other in zip(old, new, strict=False):
            if one != other:
                break
            common += 1
        while len(frames) > common + 1:
            self._close()
        for position in new[common:]:
            self._reach(frames[-1], position)
            frames.append(_Frame(position))

    def _take(self, frame: _Frame, position: int, message: MessageDict, role: int) -> None:
        """Put a message where it belongs."""
        following = frame.lowest
        is_rival = following == position
        if not is_rival:
            self._reach(frame, position)
        if role == START and frame.start is None:
            frame.start = message
        elif role == END and frame.end is None:
            frame.end = message
            frame.end_position = position
            if 0 < following < FIRST_DRAWN:
                self._add(Node(AFTER_END, len(self._frames), position), frame)
        else:
            if position < FIRST_DRAWN:
                frame.has_own = True
            node = Node(MESSAGE, len(self._frames), position, message)
            node.is_rival = is_rival
            self._select(node, frame)

    def _reach(self, frame: _Frame, position: int) -> None:
        """Note the next lower position, and what is missing between it and the one before."""
        if frame.lowest - position > 1 and frame.lowest < FIRST_DRAWN:
            self._add_gap(frame, position + 1)
        frame.lowest = position

    def _add_gap(self, frame: _Frame, position: int) -> None:
        self._add(Node(GAP, len(self._frames), position, until=frame.lowest - 1), frame)

    def _add(self, node: Node, frame: _Frame) -> None:
        """Give a node its place among its siblings, those after it being known."""
        node.is_last = not frame.has_child
        frame.has_child = True
        if self._is_match and node.kind in (GAP, AFTER_END):
            node.is_match = node.leads = node.shows = node.is_last_lead = False
        self._made.append(node)

    def _select(self, node: Node, frame: _Frame, within: _Frame | None = None) -> None:
        """Let the selection look at an action or message, and tell its parent."""
        if self._is_match:
            node.is_match = self._is_match(node)
            node.leads = node.is_match or (within is not None and within.has_lead)
            node.shows = node.is_match or (
                within is not None and (within.has_match or (self._keeps_context and node.leads))
            )
            node.is_last_lead = not frame.has_lead
            frame.has_lead = frame.has_lead or node.leads
            frame.has_match = frame.has_match or (node.kind == MESSAGE and node.is_match)
        self._add(node, frame)

    def _close(self) -> None:
        """Make the node of the innermost action: everything within it is known now."""
        frames = self._frames
        frame = frames[-1]
        # Without its start, the action's first position is known to be missing from that alone.
        if 2 < frame.lowest < FIRST_DRAWN:
            self._add_gap(frame, 2)
        frames.pop()
        node = Node(
            ACTION, len(frames), frame.position, frame.start, frame.end, frame.end_position
        )
        node.has_child = frame.has_child
        around = frames[-1] if frames else _Frame(0)
        if not (frame.has_own or frame.start or frame.end):
            node.is_elsewhere = True
        elif frame.position < FIRST_DRAWN:
            around.has_own = True
        self._select(node, around, frame)


def is_same(message: MessageDict, other: MessageDict) -> bool:
    """Say whether two messages are the same in every value and its type, NaN included."""
    try:
        # Version 2: later ones write the same value in several ways.
        return marshal.dumps(message, 2) == marshal.dumps(other, 2)
    except ValueError:  # nested deeper than marshal goes
        return False
