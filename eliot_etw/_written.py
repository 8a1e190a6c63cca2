"""Messages and actions as they were logged: the values that a task's tree is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, final

from pyrsistent import pmap, pvector

from eliot_etw._names import (
    ACTION_STATUS,
    ACTION_TYPE,
    EXCEPTION,
    FAILED,
    PLACE_FIELDS,
    REASON,
    STARTED,
    SUCCEEDED,
    TASK_LEVEL,
    TASK_UUID,
    TIMESTAMP,
)
from eliot_etw._safe import safe_repr
from eliot_etw._task_level import TaskLevel
from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.exceptions import (
    DuplicateChild,
    InvalidStartMessage,
    InvalidStatus,
    InvalidTree,
    WrongActionType,
    WrongTask,
    WrongTaskLevel,
)
from eliot_etw.typing import MessageDict

if TYPE_CHECKING:
    from pyrsistent.typing import PMap, PVector

_INTEGERS_ONLY = {int}
# A time beyond this (thirty thousand million years) is a broken one, and breaks arithmetic.
_LATEST = 1e18


def place_of(message: Mapping[str, Any]) -> tuple[str, list[int]] | None:
    """Return the task and the level that a message names, or None if it names no usable ones.

    The task must be text; the level one or more whole numbers above 0 (`True` and `1.0` are not).
    """
    level = message.get(TASK_LEVEL)
    if type(level) is not list:
        if not isinstance(level, Sequence) or isinstance(level, str | bytes):
            return None
        level = list(level)
    uuid = message.get(TASK_UUID)
    if isinstance(uuid, str) and {*map(type, level)} == _INTEGERS_ONLY and min(level) > 0:
        return uuid, level
    return None


@final
class WrittenMessage:
    """One message that was logged. Never changes.

    Equal to another whose fields are the same in every value and type; `1` is not `1.0` here.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: MessageDict) -> None:
        # The caller hands the dict over: from_dict is what copies.
        self._fields = fields

    @classmethod
    def from_dict(cls, logged_dictionary: Mapping[str, Any]) -> WrittenMessage:
        """Take a copy of a message, as it was read back."""
        return cls(dict(logged_dictionary))

    def as_dict(self) -> MessageDict:
        """Return all fields, as they were logged, in a dict of the caller's own."""
        return self._fields.copy()

    @property
    def timestamp(self) -> float | None:
        """Seconds since the epoch; None if the message has no time that is a sensible number."""
        time = self._fields.get(TIMESTAMP)
        # Comparing leaves out NaN and infinities, and integers that no float can hold.
        if isinstance(time, int | float) and time is not True and time is not False:
            return time if -_LATEST < time < _LATEST else None
        return None

    @property
    def task_uuid(self) -> str:
        """The task that the message belongs to; empty if it names none."""
        uuid = self._fields.get(TASK_UUID)
        return uuid if isinstance(uuid, str) else ""

    @property
    def task_level(self) -> TaskLevel:
        """The place of the message in its task; empty if it has no usable one."""
        place = place_of(self._fields)
        return TaskLevel(place[1]) if place else TaskLevel()

    @property
    def contents(self) -> PMap[str, Any]:
        """The fields without task, level and time."""
        return pmap({k: v for k, v in self._fields.items() if k not in PLACE_FIELDS})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WrittenMessage):
            return NotImplemented
        return is_same(self._fields, other._fields)

    def __hash__(self) -> int:
        return fingerprint(self._fields)

    def __repr__(self) -> str:
        return f"WrittenMessage({safe_repr(self._fields)})"


def fingerprint(message: MessageDict) -> int:
    """Hash what can be hashed of any message: its time, its texts and whole numbers."""
    hashable = frozenset(item for item in message.items() if isinstance(item[1], str | int))
    return hash((WrittenMessage(message).timestamp, hashable))


def is_same(message: Any, other: Any) -> bool:
    """Say whether both are the same in every value and its type, NaN being the same as NaN.

    Python's own equality takes `1`, `1.0` and `True` for the same, and ends in a RecursionError
    for values nested deeply: neither may cost a message its place.
    """
    pairs = [(message, other)]
    seen = set()
    for a, b in pairs:
        if a is b or (id(a), id(b)) in seen:
            continue
        seen.add((id(a), id(b)))
        if type(a) is not type(b):
            return False
        if isinstance(a, dict):
            if a.keys() != b.keys():
                return False
            pairs += [(value, b[key]) for key, value in a.items()]
        elif isinstance(a, list | tuple):
            if len(a) != len(b):
                return False
            pairs += zip(a, b, strict=True)
        elif not _is_equal(a, b):
            return False
    return True


def _is_equal(a: Any, b: Any) -> bool:
    """Compare two values of one type that hold no other values."""
    if isinstance(a, float):
        return repr(a) == repr(b)  # tells 0.0 from -0.0, and takes NaN for NaN
    try:
        return bool(a == b)
    except Exception:  # noqa: BLE001 - a logged value may be of any type, and a numpy array raises
        return False


Written: TypeAlias = "WrittenAction | WrittenMessage"


@final
class WrittenAction:
    """An action that was logged, with everything logged in it. Never changes.

    Made by `from_messages`, or by `eliot_etw.parse.Task.root`.
    """

    __slots__ = (
        "_anchor",
        "_children",
        "_conflicts",
        "_depth",
        "_end",
        "_is_complete",
        "_is_elsewhere",
        "_start",
    )
    _is_complete: bool
    _is_elsewhere: bool

    def __init__(
        self,
        start: WrittenMessage | None,
        end: WrittenMessage | None,
        children: tuple[Written, ...],
        conflicts: tuple[WrittenMessage, ...],
        depth: int,
    ) -> None:
        self._start = start
        self._end = end
        self._children = children
        self._conflicts = conflicts
        self._depth = depth
        # Any one message knows the way here; a level of its own for each of thousands of nested
        # actions would take memory by the square of the depth.
        first = start or end or (children or conflicts)[0]
        self._anchor: WrittenMessage = first._anchor if isinstance(first, WrittenAction) else first
        is_whole = True
        # Actions that are known only by what others continued from them.
        bare = 0
        for child in children:
            if type(child) is WrittenAction:
                is_whole = is_whole and child._is_complete
                if child._is_elsewhere and _position(child, depth) < FIRST_DRAWN:
                    bare += 1
        self._is_elsewhere = start is end is None and bare == sum(
            _position(item, depth) < FIRST_DRAWN for item in (*children, *conflicts)
        )
        if not self._is_elsewhere:
            has_both = start is not None and end is not None
            is_whole = is_whole and has_both and not bare and not self.missing
        self._is_complete = is_whole

    @classmethod
    def from_messages(
        cls,
        start_message: WrittenMessage | None = None,
        children: Iterable[Written] = (),
        end_message: WrittenMessage | None = None,
    ) -> WrittenAction:
        """Make an action of messages that are known to fit together.

        Args:
            start_message: The message with status ``started``, whose level ends in 1.
            children: Messages and actions directly within the action, in any order.
            end_message: The message with status ``succeeded`` or ``failed``.

        Raises:
            InvalidTree: If there is no message at all.
            InvalidStartMessage: If the start has another status or another place.
            WrongTask: If a message is of another task than the first.
            WrongTaskLevel: If a message is not directly within the action.
            DuplicateChild: If two different children claim one place.
            WrongActionType: If the end has another type than the start.
            InvalidStatus: If the end has no status that ends an action.
        """
        kids = tuple(children)
        present = [m for m in (start_message, *kids, end_message) if m is not None]
        if not present:
            msg = "An action must have a message, got none. Give a start, an end or a child."
            raise InvalidTree(msg)
        if start_message is not None:
            _check_start(start_message)
        for message in present:
            _check_member(message, present[0])
        members: dict[TaskLevel, Written] = {}
        for child in kids:
            if members.setdefault(child.task_level, child) != child:
                msg = (
                    f"A place must have one child, got a second at {child.task_level}: {child!r}."
                )
                raise DuplicateChild(msg)
        if end_message is not None:
            _check_end(end_message, start_message)
        ordered = tuple(members[level] for level in sorted(members))
        return cls(start_message, end_message, ordered, (), len(present[0].task_level) - 1)

    @property
    def start_message(self) -> WrittenMessage | None:
        """The message that started the action; None if it is missing."""
        return self._start

    @property
    def end_message(self) -> WrittenMessage | None:
        """The message that ended the action; None if it is missing."""
        return self._end

    @property
    def children(self) -> PVector[Written]:
        """What was logged directly in the action, ordered by place, without start and end."""
        return pvector(self._children)

    @property
    def conflicts(self) -> PVector[WrittenMessage]:
        """Messages that claim a place which something else in this action holds already.

        Start, end and sub-actions hold their place against any other message; among equals it is
        who came first. They are ordered by place. Exact duplicates are not conflicts: they are
        counted once.
        """
        return pvector(self._conflicts)

    @property
    def task_uuid(self) -> str:
        """The task that the action belongs to."""
        return self._anchor.task_uuid

    @property
    def task_level(self) -> TaskLevel:
        """The place of the action in its task; empty for the root."""
        return TaskLevel(self._anchor.task_level[: self._depth])

    @property
    def action_type(self) -> str | None:
        """The type that the start (or else the end) names; None if both are missing."""
        message = self._start or self._end
        return message._fields.get(ACTION_TYPE) if message else None

    @property
    def status(self) -> str | None:
        """How it ended, or else ``started``; None if start and end are missing."""
        message = self._end or self._start
        return message._fields.get(ACTION_STATUS) if message else None

    @property
    def start_time(self) -> float | None:
        """Seconds since the epoch; None if unknown."""
        return self._start.timestamp if self._start else None

    @property
    def end_time(self) -> float | None:
        """Seconds since the epoch; None if unknown."""
        return self._end.timestamp if self._end else None

    @property
    def exception(self) -> Any:
        """The dotted name of the exception that made the action fail; None if none did."""
        return self._end._fields.get(EXCEPTION) if self._end else None

    @property
    def reason(self) -> Any:
        """The text of the exception that made the action fail; None if none did."""
        return self._end._fields.get(REASON) if self._end else None

    @property
    def began_elsewhere(self) -> bool:
        """Whether nothing that was logged in it is here but what others continued from it.

        That stands at positions that were drawn, see `eliot_etw.http`. If all of a task is like
        that, its log is somewhere else, and nothing of it is missing.
        """
        return self._is_elsewhere

    @property
    def missing(self) -> tuple[range, ...]:
        """The positions in this action from which nothing has been seen, as ranges in order.

        Known are those below the end; without an end, those below the highest position seen.
        Whether the end itself is missing says `end_message`. Positions that were drawn, for what
        goes on elsewhere, do not count.
        """
        if self._is_elsewhere:
            return ()
        depth = self._depth
        ends = [message for message in (self._start, self._end) if message is not None]
        held = [_position(item, depth) for item in (*ends, *self._children, *self._conflicts)]
        last = _position(self._end, depth) if self._end else FIRST_DRAWN - 1
        gaps = []
        expected = 1
        for position in sorted(held):
            if position > last:
                break
            if position > expected:
                gaps.append(range(expected, position))
            expected = position + 1
        return tuple(gaps)

    def is_complete(self) -> bool:
        """Say whether start, end and all between are there, and every sub-action is complete."""
        return self._is_complete

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WrittenAction):
            return NotImplemented
        # Side by side and not by comparing the children, which for thousands of nested actions
        # would end in a RecursionError.
        pairs: list[tuple[Written, Written]] = [(self, other)]
        for a, b in pairs:
            if a is b:
                continue
            if isinstance(a, WrittenMessage) or isinstance(b, WrittenMessage):
                if a != b:
                    return False
            elif a._own() != b._own() or len(a._children) != len(b._children):
                return False
            else:
                pairs += zip(a._children, b._children, strict=True)
        return True

    def __hash__(self) -> int:
        return hash((self._start, self._end, self._depth, len(self._children)))

    def __repr__(self) -> str:
        return (
            f"<WrittenAction {self.action_type!r} at {self.task_level.to_string()} of "
            f"{self.task_uuid}: {self.status}, {len(self._children)} children>"
        )

    def _own(self) -> tuple[object, ...]:
        """What makes the action itself, without its children."""
        return self._start, self._end, self._conflicts, self._depth


def _position(item: Written, depth: int) -> int:
    """The position of something within the action at that depth which it is part of."""
    message = item._anchor if isinstance(item, WrittenAction) else item
    position: int = message._fields[TASK_LEVEL][depth]
    return position


def _check_start(start: WrittenMessage) -> None:
    status = start._fields.get(ACTION_STATUS)
    if status != STARTED:
        msg = f"A start message must have the status {STARTED!r}, got {status!r} in {start!r}."
        raise InvalidStartMessage(msg)
    if start.task_level[-1:] != (1,):
        msg = f"A start message must have a level that ends in 1, got {start!r}."
        raise InvalidStartMessage(msg)


def _check_member(message: Written, first: Written) -> None:
    if message.task_uuid != first.task_uuid:
        msg = f"A message must be of the action's task {first.task_uuid!r}, got {message!r}."
        raise WrongTask(msg)
    if not message.task_level or not message.task_level.is_sibling_of(first.task_level):
        msg = f"A message must be directly in the action of {first.task_level}, got {message!r}."
        raise WrongTaskLevel(msg)


def _check_end(end: WrittenMessage, start: WrittenMessage | None) -> None:
    action_type = end._fields.get(ACTION_TYPE)
    if start is not None and start._fields.get(ACTION_TYPE) != action_type:
        wanted = start._fields.get(ACTION_TYPE)
        msg = f"An end message must have its start's type {wanted!r}, got {action_type!r}."
        raise WrongActionType(msg)
    status = end._fields.get(ACTION_STATUS)
    if status not in (SUCCEEDED, FAILED):
        msg = f"An end message must have a status of {SUCCEEDED!r} or {FAILED!r}, got {status!r}."
        raise InvalidStatus(msg)
