"""`Message`: fields that are put together first and logged later."""

from __future__ import annotations

from typing import Any

from eliot_etw import _names as names
from eliot_etw._action import Action, place_of_its_own
from eliot_etw._context import current_action
from eliot_etw.typing import MessageDict, MessageSerializer, Writer


class Message:
    """A message that is not logged yet. `log_message` logs one at once."""

    def __init__(self, contents: MessageDict, serializer: MessageSerializer | None = None) -> None:
        """Make a message.

        Args:
            contents: Its fields, which are copied.
            serializer: What its type says about them; `MessageType` fills it in.
        """
        self._contents = dict(contents)
        self._serializer = serializer

    @classmethod
    def new(cls, _serializer: MessageSerializer | None = None, /, **fields: Any) -> Message:
        """Make a message of the given fields."""
        return cls(fields, _serializer)

    @classmethod
    def log(cls, /, **fields: Any) -> None:
        """Log a message of the given fields within the current action."""
        cls(fields).write()

    def bind(self, /, **fields: Any) -> Message:
        """Make a message with these fields besides its own."""
        return Message({**self._contents, **fields}, self._serializer)

    def contents(self) -> MessageDict:
        """Return a copy of the fields."""
        return dict(self._contents)

    def write(self, logger: Writer | None = None, action: Action | None = None) -> None:
        """Log the message.

        Args:
            logger: What to write it to; None for the action's logger.
            action: The action it belongs to; None for the current one.
        """
        action = action or current_action() or place_of_its_own(logger)
        fields = {names.MESSAGE_TYPE: "", **self._contents}
        action.log_fields(fields, self._serializer, logger)
