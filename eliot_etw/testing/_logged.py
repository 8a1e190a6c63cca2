"""What a test logged as values to look at: `LoggedAction` and `LoggedMessage`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, final

from eliot_etw import _names as names
from eliot_etw._types import ActionType, MessageType
from eliot_etw._written import place_of
from eliot_etw.typing import MessageDict


@final
@dataclass(frozen=True)
class LoggedMessage:
    """A message that was logged.

    Attributes:
        message: Its fields, before they were serialized.
    """

    message: MessageDict

    @classmethod
    def of_type(
        cls,
        messages: Iterable[MessageDict],
        messageType: MessageType | str,  # noqa: N803 - Eliot's name
    ) -> list[LoggedMessage]:
        """Find all messages of a type, in the order of logging.

        Args:
            messages: Where to look, as `MemoryLogger.messages`.
            messageType: The type, or its name.
        """
        wanted = name_of(messageType)
        return [cls(message) for message in messages if message.get(names.MESSAGE_TYPE) == wanted]

    ofType = of_type  # noqa: N815 - Eliot's other spelling


@final
@dataclass(frozen=True, eq=False, repr=False)
class LoggedAction:
    """An action that was logged from start to end.

    Attributes:
        startMessage: The message that started it; also `start_message`.
        endMessage: The message that ended it, whether it succeeded or failed; also `end_message`.
        children: What was logged directly in it, in the order of logging.
    """

    startMessage: MessageDict  # noqa: N815 - Eliot's name
    endMessage: MessageDict  # noqa: N815 - Eliot's name
    children: list[LoggedAction | LoggedMessage]

    @classmethod
    def from_messages(
        cls, uuid: str, level: Iterable[int], messages: Iterable[MessageDict]
    ) -> LoggedAction:
        """Find an action, with all that was logged in it.

        Args:
            uuid: The task that the action belongs to.
            level: The ``task_level`` of its start message.
            messages: Where to look, as `MemoryLogger.messages`.

        Raises:
            ValueError: If the action, or one within it, has no start or no end there.
        """
        return _Actions(messages).at((uuid, tuple(level)[:-1]))

    fromMessages = from_messages  # noqa: N815 - Eliot's other spelling

    @classmethod
    def of_type(
        cls,
        messages: Iterable[MessageDict],
        actionType: ActionType | str,  # noqa: N803 - Eliot's name
    ) -> list[LoggedAction]:
        """Find all actions of a type, in the order in which they started.

        Args:
            messages: Where to look, as `MemoryLogger.messages`.
            actionType: The type, or its name.

        Raises:
            ValueError: If one of them, or an action within, has not ended.
        """
        return _Actions(messages).started(name_of(actionType))

    ofType = of_type  # noqa: N815 - Eliot's other spelling

    @property
    def start_message(self) -> MessageDict:
        """The message that started it."""
        return self.startMessage

    @property
    def end_message(self) -> MessageDict:
        """The message that ended it."""
        return self.endMessage

    @property
    def succeeded(self) -> bool:
        """Whether it ended without an exception."""
        return bool(self.endMessage[names.ACTION_STATUS] == names.SUCCEEDED)

    def descendants(self) -> Iterator[LoggedAction | LoggedMessage]:
        """Go through everything logged in it, at any depth: each action before what is in it."""
        waiting = [iter(self.children)]
        while waiting:
            for child in waiting[-1]:
                yield child
                if isinstance(child, LoggedAction):
                    waiting.append(iter(child.children))
                    break
            else:
                waiting.pop()

    def type_tree(self) -> dict[str, list[Any]]:
        """Return the types alone.

        Returns:
            The action's type, and as its value a list of what was logged in it: for a message its
            type, for an action such a dict again.
        """
        root: dict[str, list[Any]] = {}
        waiting: list[tuple[LoggedAction, dict[str, list[Any]]]] = [(self, root)]
        for action, tree in waiting:
            types = tree[action.startMessage[names.ACTION_TYPE]] = []
            for child in action.children:
                if isinstance(child, LoggedAction):
                    waiting.append((child, {}))
                    types.append(waiting[-1][1])
                else:
                    types.append(child.message.get(names.MESSAGE_TYPE, ""))
        return root

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LoggedAction):
            return NotImplemented
        # Side by side and not by comparing the children, which for a thousand nested actions
        # would end in a RecursionError.
        pairs: list[tuple[LoggedAction | LoggedMessage, LoggedAction | LoggedMessage]]
        pairs = [(self, other)]
        for a, b in pairs:
            if isinstance(a, LoggedMessage) or isinstance(b, LoggedMessage):
                if a != b:
                    return False
            elif a._own() != b._own():
                return False
            else:
                pairs += zip(a.children, b.children, strict=True)
        return True

    # The messages are dicts, which may change.
    __hash__: ClassVar[None]  # type: ignore[assignment] # what Python means by it

    def __repr__(self) -> str:
        start, end = self.startMessage, self.endMessage
        return (
            f"<LoggedAction {start.get(names.ACTION_TYPE)!r} {end.get(names.ACTION_STATUS)}: "
            f"{start!r}, {end!r}, {len(self.children)} children>"
        )

    def _own(self) -> tuple[MessageDict, MessageDict, int]:
        """What makes the action itself, without what is in its children."""
        return self.startMessage, self.endMessage, len(self.children)


def name_of(type_: ActionType | MessageType | str) -> str:
    """Return the name of a type, which may be the name already."""
    if isinstance(type_, str):
        return type_
    return type_.action_type if isinstance(type_, ActionType) else type_.message_type


def _status(message: MessageDict) -> str | None:
    """Return the status of an action's start or end; a message's field of that name is its own."""
    return message.get(names.ACTION_STATUS) if names.ACTION_TYPE in message else None


# An action: its task, and its level there.
_Place: TypeAlias = tuple[str, tuple[int, ...]]


@final
class _Actions:
    """The actions in some messages. Goes through the messages once, and makes each action once.

    Searching all messages for each action, as one would, took minutes for 10,000 messages.
    """

    def __init__(self, messages: Iterable[MessageDict]) -> None:
        # By action: the messages directly in it, and in the place of their first message the
        # actions directly in it.
        self._entries: dict[_Place, list[MessageDict | _Place]] = {}
        self._starts: list[tuple[_Place, MessageDict]] = []
        self._made: dict[_Place, LoggedAction] = {}
        for message in messages:
            place = place_of(message)
            if place is not None:
                self._add(place[0], tuple(place[1]), message)

    def _add(self, uuid: str, level: tuple[int, ...], message: MessageDict) -> None:
        action = (uuid, level[:-1])
        self._entries.setdefault(action, []).append(message)
        if level[-1] == 1 and len(level) > 1:
            self._entries.setdefault((uuid, level[:-2]), []).append(action)
        if _status(message) == names.STARTED:
            self._starts.append((action, message))

    def started(self, action_type: str) -> list[LoggedAction]:
        """Make all actions of a type."""
        return [
            self.at(place)
            for place, start in self._starts
            if start.get(names.ACTION_TYPE) == action_type
        ]

    def at(self, place: _Place) -> LoggedAction:
        """Make an action, those within it first."""
        wanted = [place] if place not in self._made else []
        for action in wanted:
            within = self._entries.get(action, [])
            wanted += [e for e in within if isinstance(e, tuple) and e not in self._made]
        for action in reversed(wanted):
            self._made[action] = self._make(action)
        return self._made[place]

    def _make(self, place: _Place) -> LoggedAction:
        start = end = None
        children: list[LoggedAction | LoggedMessage] = []
        for entry in self._entries.get(place, []):
            if isinstance(entry, tuple):
                children.append(self._made[entry])
                continue
            status = _status(entry)
            if status == names.STARTED:
                start = entry
            elif status in names.END_STATUSES:
                end = entry
            else:
                children.append(LoggedMessage(entry))
        if start is None:
            msg = f"An action must have a start message, got none for {place!r}."
            raise ValueError(f"{msg} Capture what it is logged to from before it starts.")
        if end is None:
            msg = f"An action must have an end message, got none for {start!r}."
            raise ValueError(f"{msg} Leave its block, or call finish(), before you look at it.")
        return LoggedAction(start, end, children)
