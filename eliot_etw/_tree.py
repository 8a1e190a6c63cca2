"""The messages of one task on their way to a tree: counts what is missing, builds the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias, final

from eliot_etw._names import ACTION_STATUS, ACTION_TYPE, FAILED, STARTED, SUCCEEDED, TASK_LEVEL
from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw._written import (
    Written,
    WrittenAction,
    WrittenMessage,
    fingerprint,
    is_same,
    place_of,
)
from eliot_etw.typing import MessageDict

_MESSAGE: Final = 0
_START: Final = 1
_END: Final = 2
# Names an action, but is neither its start nor its end: kept in its place, and never a whole task.
_ODD: Final = 3


def _kind(message: MessageDict, position: int) -> int:
    """Say what a message is to the action that it stands in."""
    action_type = message.get(ACTION_TYPE)
    if action_type is None:
        return _MESSAGE
    if isinstance(action_type, str):
        status = message.get(ACTION_STATUS)
        if status == STARTED:
            return _START if position == 1 else _ODD
        if status in (SUCCEEDED, FAILED):
            return _END
    return _ODD


@final
class _Part:
    """The part of a task that one service logged: what is not within another drawn position.

    Attributes:
        unknown: Of how many actions it is known that they are there, as long as that is all that
            is known of the part; 0 from its first message on.
    """

    __slots__ = ("unknown",)

    def __init__(self) -> None:
        self.unknown = 1


@final
class _Node:
    """An action while its messages come in."""

    __slots__ = (
        "conflicts",
        "end",
        "end_position",
        "is_whole",
        "kids",
        "missing",
        "part",
        "start",
    )

    def __init__(self, part: _Part) -> None:
        self.part = part
        # What holds each position; the start and the end are in here too, unless an action has
        # taken their position from them.
        self.kids: dict[int, MessageDict | _Node] = {}
        self.start: MessageDict | None = None
        self.end: MessageDict | None = None
        self.end_position = 0
        self.missing = 0
        self.is_whole = False
        self.conflicts: list[MessageDict] = []


Kid: TypeAlias = MessageDict | _Node


@final
class TaskBuilder:
    """Takes the messages of one task in any order, and knows at each whether all are there.

    An action is whole when it has its start, its end and something at each position up to its
    end. Once whole it stays whole, so the task is complete exactly when the number of known
    actions that are not whole is zero: a count, kept up to date in constant time.

    Args:
        messages: What to begin with: messages of one task, or one message that has no place.
    """

    __slots__ = ("_disputed", "_elsewhere", "_root", "_unfinished", "is_lone_message", "log")

    def __init__(self, messages: Iterable[MessageDict] = ()) -> None:
        self.log: list[MessageDict] = []
        self.is_lone_message = False
        self._root = _Node(_Part())
        self._unfinished = 1
        # How many of those are in parts of which nothing is here: no end of theirs is waited for.
        self._elsewhere = 1
        self._disputed: dict[int, list[MessageDict]] = {}
        for message in messages:
            place = place_of(message)
            if place is not None:
                self.add(message, place[1])
            else:
                self.log.append(message)
                self.is_lone_message = True

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return bool(self.log) and (self._unfinished == self._elsewhere or self.is_lone_message)

    def add(self, message: MessageDict, level: list[int]) -> bool:
        """Take a message.

        Args:
            message: The message, from now on the builder's own.
            level: Its level, which `place_of` found to be a valid one.

        Returns:
            False if it is an exact duplicate of one that is there already.
        """
        node = self._root
        for position in level[:-1]:
            kid = node.kids.get(position)
            node = kid if isinstance(kid, _Node) else self._open(node, position, kid)
        position = level[-1]
        kind = _kind(message, position)
        if kind == _START and node.start is None:
            node.start = message
            self._seize(node, 1, message)
        elif kind == _END and node.end is None:
            node.end = message
            node.end_position = position
            self._seize(node, position, message)
            node.missing = position - _count_up_to(position, node.kids)
        elif position in node.kids:
            if not self._dispute(node, position, message):
                return False
        else:
            self._fill(node, position, message)
        if node.end is not None:
            self._settle(node)
        if node.part.unknown and (position < FIRST_DRAWN or kind == _END):
            self._elsewhere -= node.part.unknown
            node.part.unknown = 0
        self.is_lone_message = not self.log and kind == _MESSAGE and level == [1]
        self.log.append(message)
        return True

    def build(self) -> Written:
        """Build the tree of what has been added, from the leaves up and without recursion."""
        if self.is_lone_message:
            return WrittenMessage(self.log[0])
        nodes: list[tuple[_Node, int]] = [(self._root, 0)]
        for node, depth in nodes:
            nodes.extend((k, depth + 1) for k in node.kids.values() if isinstance(k, _Node))
        built: dict[_Node, WrittenAction] = {}
        for node, depth in reversed(nodes):
            children: list[Written] = []
            for position in sorted(node.kids):
                kid = node.kids[position]
                if isinstance(kid, _Node):
                    children.append(built.pop(kid))
                elif kid is not node.start and kid is not node.end:
                    children.append(WrittenMessage(kid))
            built[node] = WrittenAction(
                None if node.start is None else WrittenMessage(node.start),
                None if node.end is None else WrittenMessage(node.end),
                tuple(children),
                tuple(map(WrittenMessage, _by_position(node.conflicts, depth))),
                depth,
            )
        return built[self._root]

    def _open(self, node: _Node, position: int, held: MessageDict | None) -> _Node:
        """Make the action at a position that was free, or that only a message held."""
        part = node.part
        if position >= FIRST_DRAWN:
            part = _Part()
            self._elsewhere += 1
        elif part.unknown:
            part.unknown += 1
            self._elsewhere += 1
        action = _Node(part)
        self._unfinished += 1
        self._seize(node, position, action)
        self._settle(node)
        return action

    def _seize(self, node: _Node, position: int, kid: Kid) -> None:
        """Give a position to who has the better claim; a plain message makes way."""
        held = node.kids.get(position)
        if held is None:
            self._fill(node, position, kid)
        elif not isinstance(held, _Node):
            node.kids[position] = kid
            # If it was the start or the end, that is still known, and so this is a duplicate.
            self._dispute(node, position, held)

    def _fill(self, node: _Node, position: int, kid: Kid) -> None:
        """Put something where nothing was."""
        node.kids[position] = kid
        if position < node.end_position:
            node.missing -= 1

    def _settle(self, node: _Node) -> None:
        """Count the action as whole from the moment on that it is."""
        if not (node.is_whole or node.start is None or node.end is None or node.missing):
            node.is_whole = True
            self._unfinished -= 1

    def _dispute(self, node: _Node, position: int, message: MessageDict) -> bool:
        """Keep a message whose position another holds; say False if both say exactly the same."""
        rivals = self._disputed.setdefault(fingerprint(message), [])
        holders = [node.kids[position]] + [e for e in (node.start, node.end) if e is not None]
        if any(is_same(message, other) for other in (*holders, *rivals)):
            return False
        rivals.append(message)
        node.conflicts.append(message)
        return True


def _by_position(messages: list[MessageDict], depth: int) -> list[MessageDict]:
    """Order messages of the action at that depth; those of one position as they came."""
    return sorted(messages, key=lambda message: message[TASK_LEVEL][depth])


def _count_up_to(position: int, kids: dict[int, Kid]) -> int:
    """Count the held positions up to one; nearly always that is all of them."""
    return len(kids) if max(kids) <= position else sum(1 for held in kids if held <= position)
