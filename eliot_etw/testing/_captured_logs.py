"""`CapturedLogs`: what the pytest fixture `captured_logs` gives to a test."""

from __future__ import annotations

from typing import final

from eliot_etw._logger import MemoryLogger
from eliot_etw._types import ActionType, MessageType
from eliot_etw.testing._logged import LoggedAction, LoggedMessage
from eliot_etw.testing._tree_text import tree_text
from eliot_etw.typing import MessageDict


@final
class CapturedLogs(MemoryLogger):
    """Everything that is logged during a test.

    The messages hold the very values that were logged, before any serializer took them.
    """

    def messages_of(self, message_type: MessageType | str) -> list[MessageDict]:
        """Return the messages of a type, in the order of logging.

        Args:
            message_type: The type, or its name.
        """
        return [found.message for found in LoggedMessage.of_type(self.messages, message_type)]

    def actions_of(self, action_type: ActionType | str) -> list[LoggedAction]:
        """Return the actions of a type, in the order in which they started.

        Args:
            action_type: The type, or its name.

        Raises:
            ValueError: If one of them, or an action within, has not ended.
        """
        return LoggedAction.of_type(self.messages, action_type)

    def tree(self) -> str:
        """Return what was logged as a tree to be read, as ``eliot-etw tree`` shows it."""
        return tree_text(self)
