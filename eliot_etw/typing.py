"""The types that users of the library write in their own annotations."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

MessageDict: TypeAlias = dict[str, Any]
"""One logged message: text keys, JSON-shaped values."""

Destination: TypeAlias = Callable[[MessageDict], object]
"""Where messages go: any callable of one message, which it reads and never changes."""

Source: TypeAlias = Iterable[MessageDict]
"""What messages are read back from."""

JsonDefault: TypeAlias = Callable[[Any], Any]
"""Turns a value that JSON does not know into one that it does, or raises `TypeError`."""

ExceptionExtractor: TypeAlias = Callable[[Any], Mapping[str, Any]]
"""Takes an exception, returns the fields that describe it."""


class MessageSerializer(Protocol):
    """Checks and converts the fields of one type of message."""

    def serialize(self, message: MessageDict, /) -> object:
        """Convert the fields of the message, in place."""

    def validate(self, message: MessageDict, /) -> None:
        """Raise `eliot_etw.ValidationError` if the message is not of this type."""


@runtime_checkable
class Writer(Protocol):
    """What an `ILogger` does: take one message."""

    def write(
        self, dictionary: MessageDict, serializer: MessageSerializer | None = None
    ) -> object:
        """Take the message, which stays as it was.

        Args:
            dictionary: The message.
            serializer: What its type says about its fields, if it has a type.
        """
