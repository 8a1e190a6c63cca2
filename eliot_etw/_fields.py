"""Typed fields: `Field`, `fields`, and what checks and serializes one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

from eliot_etw import _names as names
from eliot_etw._safe import safe_str, type_name
from eliot_etw.exceptions import ValidationError
from eliot_etw.typing import MessageDict

_JSON_CLASSES = frozenset({type(None), int, float, str, list, dict, bytes, bool})


class Field:
    """A named field that takes rich values and makes them JSON's.

    >>> Field("path", str, "The file.").serialize(12)
    '12'
    """

    def __init__(
        self,
        key: str,
        serializer: Callable[[Any], Any],
        description: str = "",
        extraValidator: Callable[[Any], object] | None = None,  # noqa: N803 - Eliot's name
    ) -> None:
        """Describe a field.

        Args:
            key: The field's name.
            serializer: Turns a value into what is logged; may raise `ValidationError`.
            description: What the field means, for people.
            extraValidator: Raises `ValidationError` for a wrong value. Called in tests only.
        """
        self.key = key
        self.description = description
        self._serializer = serializer
        self._extra_validator = extraValidator

    def validate(self, input: Any) -> None:  # noqa: A002 - Eliot's name
        """Check a value, as tests do.

        Raises:
            ValidationError: If it is wrong, or cannot be serialized.
        """
        self._serializer(input)
        if self._extra_validator is not None:
            self._extra_validator(input)

    def serialize(self, input: Any) -> Any:  # noqa: A002 - Eliot's name
        """Return what is logged for a value."""
        return self._serializer(input)

    @classmethod
    def for_value(cls, key: str, value: Any, description: str = "") -> Field:
        """Make a field that always has one value."""

        def validate(checked: Any) -> None:
            if checked != value:
                msg = f"Field {key!r} must be {value!r}, got {checked!r}."
                raise ValidationError(checked, msg)

        return cls(key, lambda _: value, description, validate)

    @classmethod
    def for_types(
        cls,
        key: str,
        classes: Iterable[type | None],
        description: str = "",
        extraValidator: Callable[[Any], object] | None = None,  # noqa: N803 - Eliot's name
    ) -> Field:
        """Make a field whose values are of the given JSON types.

        Args:
            key: The field's name.
            classes: Of `str`, `int`, `float`, `bool`, `bytes`, `list`, `dict` and None.
            description: What the field means.
            extraValidator: A further check.

        Raises:
            TypeError: If a class is not one of those.
        """
        allowed = tuple(type(None) if c is None else c for c in classes)
        for c in allowed:
            if c not in _JSON_CLASSES:
                msg = (
                    f"The type of field {key!r} must be one that JSON has, got {c!r}. "
                    "Use str, int, float, bool, bytes, list, dict or None, or Field(key, "
                    "serializer) for a rich type."
                )
                raise TypeError(msg)

        def validate(value: Any) -> None:
            if not isinstance(value, allowed):
                wanted = ", ".join(c.__name__ for c in allowed)
                msg = f"Field {key!r} must be of type {wanted}, got {value!r}."
                raise ValidationError(value, msg)
            if extraValidator is not None:
                extraValidator(value)

        return cls(key, lambda value: value, description, validate)


def fields(*fields: Field, **keys: type | None) -> list[Field]:
    """List the fields of a type: `Field` objects, and ``name=type`` for the simple ones.

    >>> [field.key for field in fields(Field("path", str), size=int)]
    ['path', 'size']
    """
    return [*fields, *(Field.for_types(key, [class_]) for key, class_ in keys.items())]


@final
class FieldsSerializer:
    """Checks and serializes the messages of one type.

    Args:
        fields: The fields that such a message has, ``message_type`` or ``action_type`` included.
        allow_additional_fields: Whether others may be there as well.

    Raises:
        TypeError: If something else than a `Field` is among them.
        ValueError: If two have one name, or a name is not allowed.
    """

    def __init__(self, fields: Iterable[Field], allow_additional_fields: bool = False) -> None:
        self.fields: dict[str, Field] = {}
        self.allow_additional_fields = allow_additional_fields
        for field in fields:
            self._add(field)
        if (names.ACTION_TYPE in self.fields) is (names.MESSAGE_TYPE in self.fields):
            msg = (
                "A type must have either the field 'action_type' or the field 'message_type', "
                f"got {sorted(self.fields)!r}. Use ActionType or MessageType."
            )
            raise ValueError(msg)

    def _add(self, field: Field) -> None:
        if not isinstance(field, Field):
            msg = f"A field must be a Field, got {field!r}. Use Field(...) or fields(name=type)."
            raise TypeError(msg)
        key = field.key
        if key in self.fields:
            msg = f"Field names must differ, got {key!r} twice. Rename or remove one of them."
            raise ValueError(msg)
        if key.startswith("_") or key in names.PLACE_FIELDS:
            msg = (
                f"A field name must not start with '_' nor be one of "
                f"{sorted(names.PLACE_FIELDS)!r}, got {key!r}. Choose another name."
            )
            raise ValueError(msg)
        self.fields[key] = field

    def serialize(self, message: MessageDict) -> None:
        """Convert the message's fields, in place.

        Raises:
            KeyError: If a field is missing.
        """
        for key, field in self.fields.items():
            message[key] = field.serialize(message[key])

    def validate(self, message: MessageDict) -> None:
        """Check a whole message.

        Raises:
            ValidationError: If a field is missing, unexpected or wrong.
        """
        for key, field in self.fields.items():
            if key not in message:
                raise ValidationError(message, f"Field {key!r} is missing.")
            field.validate(message[key])
        if self.allow_additional_fields:
            return
        for key in message:
            if key not in self.fields and key not in names.PLACE_FIELDS:
                raise ValidationError(message, f"Field {key!r} is not one of the type's fields.")


TRACEBACK_SERIALIZER = FieldsSerializer(
    [
        Field.for_value(names.MESSAGE_TYPE, names.TRACEBACK_TYPE, "The message type."),
        Field(names.REASON, safe_str, "The exception's text."),
        Field(names.TRACEBACK, safe_str, "The traceback, with its chain, notes and groups."),
        Field(names.EXCEPTION, type_name, "The dotted name of the exception's class."),
    ],
    # Extractors add more.
    allow_additional_fields=True,
)
