"""`MessageType` and `ActionType`: messages and actions whose fields are declared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eliot_etw import _names as names
from eliot_etw._action import Action, ActionSerializers, place_of_its_own, start_action, start_task
from eliot_etw._context import current_action
from eliot_etw._fields import Field, FieldsSerializer
from eliot_etw._message import Message
from eliot_etw.typing import Writer


class MessageType:
    """A type of messages, with its fields.

    Tests check each message against its type; production only serializes the fields.

    >>> STARTED = MessageType("app:started", fields(port=int), "The server listens.")
    >>> STARTED.log(port=80)
    """

    def __init__(self, message_type: str, fields: Iterable[Field], description: str = "") -> None:
        """Declare a type.

        Args:
            message_type: Its name, like ``app:part:what``.
            fields: Its fields, as from `eliot_etw.fields`.
            description: What such a message means, for people.

        Raises:
            TypeError: If something else than a `Field` is among the fields.
            ValueError: If two fields have one name, or a name is not allowed.
        """
        self.message_type = message_type
        self.description = description
        self._serializer = FieldsSerializer(
            [*fields, Field.for_value(names.MESSAGE_TYPE, message_type, "The message type.")]
        )

    def __call__(self, /, **fields: Any) -> Message:
        """Make a message of this type, to be logged by `Message.write`."""
        fields[names.MESSAGE_TYPE] = self.message_type
        return Message(fields, self._serializer)

    def log(self, /, **fields: Any) -> None:
        """Log a message of this type within the current action."""
        fields[names.MESSAGE_TYPE] = self.message_type
        (current_action() or place_of_its_own(None)).log_fields(fields, self._serializer)


class ActionType:
    """A type of actions, with the fields of its start and of its success.

    >>> COPY = ActionType("app:copy", fields(path=str), fields(size_bytes=int), "Copies a file.")
    >>> with COPY(path="a.txt") as action:
    ...     action.add_success_fields(size_bytes=12)
    """

    def __init__(
        self,
        action_type: str,
        startFields: Iterable[Field],  # noqa: N803 - Eliot's name
        successFields: Iterable[Field],  # noqa: N803 - Eliot's name
        description: str = "",
    ) -> None:
        """Declare a type.

        Args:
            action_type: Its name, like ``app:part:what``.
            startFields: The fields of the start message.
            successFields: The fields of the end message, if the action succeeds.
            description: What such an action is, for people.

        Raises:
            TypeError: If something else than a `Field` is among the fields.
            ValueError: If two fields have one name, or a name is not allowed.
        """
        self.action_type = action_type
        self.description = description

        def serializer(
            status: str, fields: Iterable[Field], allow_additional_fields: bool = False
        ) -> FieldsSerializer:
            type_field = Field.for_value(names.ACTION_TYPE, action_type, "The action type.")
            status_field = Field.for_value(names.ACTION_STATUS, status, "The action status.")
            return FieldsSerializer([*fields, type_field, status_field], allow_additional_fields)

        failure = [
            Field.for_types(names.REASON, [str], "The exception's text."),
            Field.for_types(names.EXCEPTION, [str], "The dotted name of the exception's class."),
        ]
        self._serializers = ActionSerializers(
            start=serializer(names.STARTED, startFields),
            success=serializer(names.SUCCEEDED, successFields),
            # Extractors add more.
            failure=serializer(names.FAILED, failure, allow_additional_fields=True),
        )

    def __call__(self, logger: Writer | None = None, /, **fields: Any) -> Action:
        """Start an action of this type within the current one; ``logger`` may be given by name."""
        return start_action(logger, self.action_type, self._serializers, **fields)

    def as_task(self, logger: Writer | None = None, /, **fields: Any) -> Action:
        """Start an action of this type that is a task of its own."""
        return start_task(logger, self.action_type, self._serializers, **fields)
