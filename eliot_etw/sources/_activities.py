"""Events of other programs as messages: what starts and stops an activity becomes an action."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final, final
from uuid import UUID

from eliot_etw._names import (
    ACTION_STATUS,
    ACTION_TYPE,
    FAILED,
    MESSAGE_TYPE,
    PLACE_FIELDS,
    STARTED,
    SUCCEEDED,
    TASK_LEVEL,
    TASK_UUID,
    TIMESTAMP,
)
from eliot_etw._safe import name_beside
from eliot_etw.etw import DecodedEvent, EtlEvent
from eliot_etw.etw._json_values import json_value
from eliot_etw.typing import MessageDict

_OWN_NAMES: Final = PLACE_FIELDS | {MESSAGE_TYPE, ACTION_TYPE, ACTION_STATUS}
_OWN_PREFIX: Final = "etw:"
_INFO, _START, _STOP = 0, 1, 2
# Of Windows's levels: 1 is critical, 2 an error; 0 is none at all.
_ERROR_LEVELS: Final = (1, 2)

# Bounds, for traces in which nothing ever stops. What is open longest is given up first.
_MAX_OPEN_BYTES: Final = 32 * 1024 * 1024
_ACTIVITY_BYTES: Final = 1000
_MAX_OPEN_OF_ONE_ID: Final = 64
# What is started deeper than this is a task of its own.
_MAX_DEPTH: Final = 200

_Key = tuple[UUID, int]
"""An activity's id, and that of the process: ids of .NET are unique within a process only."""


@final
class _Activity:
    """An activity that was started and did not stop yet."""

    __slots__ = ("last", "level", "name", "origin", "provider", "task")

    def __init__(self, task: str, level: tuple[int, ...], event: EtlEvent, name: str) -> None:
        self.task = task
        self.level = level
        self.last = 0
        self.provider = event.provider_id
        self.name = name
        self.origin = origin(event)

    def next_level(self) -> list[int]:
        """Take the next place within it."""
        self.last += 1
        return [*self.level, self.last]

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return _ACTIVITY_BYTES + 8 * len(self.level) + 4 * len(self.name)


@final
class ActivityTracker:
    """Makes messages of the events of one trace, which come in the order of their times.

    An event with opcode start begins an action, in that of its related activity; stop ends it, as
    failed if its level is error or worse. What has the activity's id in between goes into it. All
    else is a message outside any action; so is what comes after a stop. A stop whose start was not
    seen is an action without its start.

    One id may be started again before it has stopped, as many of Windows's own providers do: by
    an event of another name this is an action within; by one of the same name the first is given
    up, and has no end.

    Args:
        seed: Distinguishes this trace from others: of it, and of the number of its event, the
            names of tasks are made. So they are the same each time the trace is read.

    Attributes:
        given_up: How many activities were forgotten because too many were open.
    """

    def __init__(self, seed: str) -> None:
        self._seed = blake2b(seed.encode("utf-8", "backslashreplace"), digest_size=16).digest()
        self._count = 0
        # Those that were used last are last.
        self._open: OrderedDict[_Key, list[_Activity]] = OrderedDict()
        self._open_bytes = 0
        # In which process an activity was started last, for those of which another goes on.
        self._process: dict[UUID, int] = {}
        self.given_up = 0

    def message(self, event: EtlEvent, decoded: DecodedEvent) -> MessageDict:
        """Make the message of an event."""
        self._count += 1
        opcode, activity_id = event.opcode, event.activity_id
        if activity_id is not None and opcode == _START:
            return self._start(event, decoded, activity_id)
        if activity_id is not None and opcode == _STOP:
            return self._stop(event, decoded, activity_id)
        activity = self._find(activity_id, event.process_id)
        task, level = (
            (self._new_task(), [1]) if activity is None else (activity.task, activity.next_level())
        )
        message: MessageDict = {MESSAGE_TYPE: json_value(decoded.name)}
        _add_fields(message, event, decoded.as_dict())
        if opcode != _INFO:
            message["etw:opcode"] = opcode
        if activity is None:
            _add_ids(message, event)
        return _placed(message, event, task, level)

    def beside(self, event: EtlEvent, name: str, fields: dict[str, Any]) -> MessageDict:
        """Make a message outside any action, of what an event holds in a form of its own."""
        self._count += 1
        message: MessageDict = {MESSAGE_TYPE: json_value(name)}
        _add_fields(message, event, fields)
        return _placed(message, event, self._new_task(), [1])

    def _start(self, event: EtlEvent, decoded: DecodedEvent, activity_id: UUID) -> MessageDict:
        """Begin an action, and give its first message."""
        key = activity_id, event.process_id
        name = json_value(decoded.name)
        stack = self._open.get(key, [])
        for number, other in enumerate(stack):
            if other.name == name and other.provider == event.provider_id:
                self._forget(key, stack[number:])
                break
        parent = self._find(event.related_activity_id, event.process_id)
        if parent is None and event.related_activity_id is None and key in self._open:
            parent = self._open[key][-1]
        if parent is None or len(parent.level) >= _MAX_DEPTH:
            activity = _Activity(self._new_task(), (), event, name)
        else:
            activity = _Activity(parent.task, tuple(parent.next_level()), event, name)
        self._remember(key, activity)
        message: MessageDict = {ACTION_TYPE: name, ACTION_STATUS: STARTED}
        _add_fields(message, event, decoded.as_dict())
        _add_ids(message, event)
        return _placed(message, event, activity.task, activity.next_level())

    def _stop(self, event: EtlEvent, decoded: DecodedEvent, activity_id: UUID) -> MessageDict:
        """End the action of this id and name, or else the innermost of this id."""
        key = activity_id, event.process_id
        name = json_value(decoded.name)
        stack = self._open.get(key)
        message: MessageDict = {
            ACTION_TYPE: name,
            ACTION_STATUS: FAILED if event.level in _ERROR_LEVELS else SUCCEEDED,
        }
        _add_fields(message, event, decoded.as_dict())
        if stack is None:
            _add_ids(message, event)
            # Its start would have been the first.
            return _placed(message, event, self._new_task(), [2])
        found = [number for number, activity in enumerate(stack) if activity.name == name]
        ended = stack[found[-1] if found else -1]
        if ended.name != name:  # as .NET's WorkStart and WorkStop
            message[ACTION_TYPE] = ended.name
            message["etw:event"] = name
        # As in any action, the end need not say again what the start said.
        for field, value in ended.origin.items():
            if message[field] == value:
                del message[field]
        level = ended.next_level()
        self._forget(key, [ended])
        return _placed(message, event, ended.task, level)

    def _find(self, activity_id: UUID | None, process_id: int) -> _Activity | None:
        """Find the innermost open action with an id, in this process or else in another."""
        if activity_id is None:
            return None
        key = activity_id, process_id
        stack = self._open.get(key)
        if stack is None:
            key = activity_id, self._process.get(activity_id, process_id)
            stack = self._open.get(key)
            if stack is None:
                return None
        self._open.move_to_end(key)
        return stack[-1]

    def _remember(self, key: _Key, activity: _Activity) -> None:
        """Take note of an open activity; give up others if there are too many."""
        stack = self._open.setdefault(key, [])
        self._open.move_to_end(key)
        stack.append(activity)
        self._process[key[0]] = key[1]
        self._open_bytes += activity.size_bytes
        if len(stack) > _MAX_OPEN_OF_ONE_ID:
            self._give_up(key)
        while self._open_bytes > _MAX_OPEN_BYTES:
            self._give_up(next(iter(self._open)))

    def _give_up(self, key: _Key) -> None:
        """Forget the outermost activity of an id."""
        self._forget(key, self._open[key][:1])
        self.given_up += 1

    def _forget(self, key: _Key, activities: list[_Activity]) -> None:
        """Let activities of one id be open no longer."""
        stack = self._open[key]
        for activity in activities:
            stack.remove(activity)
            self._open_bytes -= activity.size_bytes
        if not stack:
            del self._open[key]
            if self._process.get(key[0]) == key[1]:
                del self._process[key[0]]

    def _new_task(self) -> str:
        """Name a task."""
        number = self._count.to_bytes(8, "little")
        return str(UUID(bytes=blake2b(number, key=self._seed, digest_size=16).digest()))


def _add_fields(message: MessageDict, event: EtlEvent, values: dict[str, Any]) -> None:
    """Add the event's fields, and what is known besides; no name means two things."""
    fields: dict[str, Any] = json_value(values)
    for name, value in fields.items():
        if name in _OWN_NAMES or name.startswith(_OWN_PREFIX):
            taken = {*fields, *message}
            name = name_beside(f"event:{name}", taken)  # noqa: PLW2901 - the name it gets
        message[name] = value
    message.update(origin(event))


def origin(event: EtlEvent) -> MessageDict:
    """Say where an event comes from."""
    return {
        "etw:provider": json_value(event.provider_name) or str(event.provider_id),
        "etw:level": event.level,
        "etw:pid": event.process_id,
        "etw:tid": event.thread_id,
    }


def _add_ids(message: MessageDict, event: EtlEvent) -> None:
    """Add the ids of activities, by which others may know them."""
    if event.activity_id is not None:
        message["etw:activity"] = str(event.activity_id)
    if event.related_activity_id is not None:
        message["etw:related"] = str(event.related_activity_id)


def _placed(message: MessageDict, event: EtlEvent, task: str, level: list[int]) -> MessageDict:
    """Give a message its place and time."""
    message[TIMESTAMP] = event.timestamp
    message[TASK_UUID] = task
    message[TASK_LEVEL] = level
    return message
