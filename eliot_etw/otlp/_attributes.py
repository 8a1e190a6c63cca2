"""The fields of a message as attributes that every back end takes, and back, each value exactly.

A value that is a text, a bool, a float, an integer of 64 bits or a list of one of those is an
attribute as it is. Any other (null, nested, large) is one as JSON text, and `IN_JSON` names those.
Attributes of ours are called ``eliot.something``; a field with such a name, or one that cannot be
the name of an attribute, is one behind `FIELD`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from eliot_etw import _names as names
from eliot_etw._json import value_text
from eliot_etw.json import json_default
from eliot_etw.otlp._model import Attributes
from eliot_etw.typing import MessageDict

# The numbers of severities, and what each four of them are called here.
_SEVERITIES: Final = range(1, 25)
_LEVELS: Final = ("DEBUG", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_OURS: Final = "eliot."
TASK_UUID: Final = "eliot.task_uuid"
"""The task's UUID, where the trace's id is a digest of it."""
TASK_LEVEL: Final = "eliot.task_level"
"""Of a span the action's level, of an event or log record the message's; empty if it has none.

That this is there says that it was a message of ours."""
END_LEVEL: Final = "eliot.end_task_level"
"""The level of the message that ended the action; missing if none did."""
TIMESTAMP: Final = "eliot.timestamp"
"""The time of the message, if nanoseconds do not say it: a list in JSON, empty if it has none."""
END_TIMESTAMP: Final = "eliot.end_timestamp"
"""The same of the message that ended the action."""
END_FIELDS: Final = "eliot.end_fields"
"""Which of the attributes came with the end of the action."""
UNFINISHED: Final = "eliot.unfinished"
"""True if the end of the action was not seen."""
IS_MESSAGE: Final = "eliot.is_message"
"""True of a span that is no action, but a message."""
BODY: Final = "eliot.body"
"""The field that is the body of the log record."""
IN_JSON: Final = "eliot.json"
"""Which of the attributes are JSON text."""
FIELD: Final = "eliot.field."
"""Before the name of a field that cannot be the name of an attribute."""
END_FIELD: Final = "eliot.end."
"""Before the name of a field of the end that the start has too."""

EXCEPTION_EVENT: Final = "exception"
"""What OpenTelemetry calls the event that tells of an exception."""
EXCEPTION_ATTRIBUTES: Final = {
    names.EXCEPTION: "exception.type",
    names.REASON: "exception.message",
    names.TRACEBACK: "exception.stacktrace",
}
"""What it calls what we say of one.

Source:
    OpenTelemetry's semantic conventions 1.38, "Exceptions".
"""
EXCEPTION_ESCAPED: Final = "exception.escaped"
"""Says nothing any more, and SDKs set it nevertheless."""
_EXCEPTION_FIELDS: Final = {name: field for field, name in EXCEPTION_ATTRIBUTES.items()}

# What stands for the type of a message or action that has none, or none that can be a name.
_NO_TYPE: Final = "eliot:message"
_NO_ACTION_TYPE: Final = "eliot:action"

_INT64: Final = range(-(2**63), 2**63)
_SCALARS: Final = frozenset({str, bool, int, float})


def put(attributes: Attributes, name: str, value: Any) -> None:
    """Add an attribute; as JSON text if its value is none that every back end takes."""
    if _is_simple(value) or (type(value) is list and _is_simple_list(value)):
        attributes[name] = value
    else:
        attributes[name] = _json_text(value)
        attributes.setdefault(IN_JSON, []).append(name)


def _is_simple(value: Any) -> bool:
    """Say whether a value is one that every back end takes."""
    kind = type(value)
    if kind is str:
        return is_unicode(value)
    return kind in _SCALARS and (kind is not int or value in _INT64)


def _is_simple_list(values: list[Any]) -> bool:
    """Say whether a list has such values of one type."""
    return len(set(map(type, values))) <= 1 and all(map(_is_simple, values))


def is_unicode(text: str) -> bool:
    """Say whether a text can be written in UTF-8, which has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_text(value: Any) -> str:
    """Write any JSON value so that Python's json reads it back, lone surrogates and NaN too."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text if is_unicode(text) else json.dumps(value, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError):
        return value_text(value, json_default)


def put_field(attributes: Attributes, name: str, value: Any) -> None:
    """Add an attribute for a field of a message."""
    put(attributes, _attribute_name(name), value)


def _attribute_name(field: str) -> str:
    """Name the attribute for a field."""
    if field and not field.startswith(_OURS) and is_unicode(field):
        return field
    return _escaped(field)


def _escaped(field: str) -> str:
    return FIELD + json.dumps(field)[1:-1]


def put_end_field(attributes: Attributes, name: str, value: Any) -> None:
    """Add an attribute for a field of the message that ended the action, after those before."""
    attribute = _attribute_name(name)
    if attribute in attributes:
        attribute = END_FIELD + attribute
    else:
        attributes.setdefault(END_FIELDS, []).append(attribute)
    put(attributes, attribute, value)


def put_exception(attributes: Attributes, message: MessageDict) -> set[str]:
    """Add what a message says of an exception, as the semantic conventions want it.

    Returns:
        The fields that are said by that.
    """
    said = set()
    for field, name in EXCEPTION_ATTRIBUTES.items():
        value = message.get(field)
        if type(value) is str and is_unicode(value):
            attributes[name] = value
            said.add(field)
    return said


def put_traceback_fields(attributes: Attributes, fields: MessageDict) -> None:
    """Add attributes for the fields of a message that tells of an exception."""
    said = put_exception(attributes, fields)
    for field, value in fields.items():
        if field in _EXCEPTION_FIELDS:
            put(attributes, _escaped(field), value)
        elif field not in said:
            put_field(attributes, field, value)


def fields_of(attributes: Attributes) -> tuple[MessageDict, MessageDict]:
    """Return the fields that attributes of ours say: of the message, and of the action's end."""
    fields: MessageDict = {}
    end_fields: MessageDict = {}
    in_json = _listed(attributes, IN_JSON)
    of_end = _listed(attributes, END_FIELDS)
    for attribute, value in attributes.items():
        said = _from_json(value) if attribute in in_json else value
        if attribute in of_end:
            end_fields[_field_name(attribute)] = said
        elif attribute.startswith(END_FIELD):
            end_fields[_field_name(attribute.removeprefix(END_FIELD))] = said
        elif attribute.startswith(FIELD) or not attribute.startswith(_OURS):
            fields[_field_name(attribute)] = said
    return fields, end_fields


def message_of(attributes: Attributes, name: str, time_ns: int) -> MessageDict:
    """Return the message of ours that has these attributes, without its place."""
    if name == EXCEPTION_EVENT and names.MESSAGE_TYPE not in attributes:
        message = _traceback_fields_of(attributes)
    else:
        message = fields_of(attributes)[0]
    kind = _type_named(name)
    if kind is not None:
        message.setdefault(names.MESSAGE_TYPE, kind)
    put_back_time(message, attributes, time_ns)
    return message


def task_uuid_of(attributes: Attributes) -> str | None:
    """Return the task that attributes of ours name; None if the trace's id says it."""
    uuid = attributes.get(TASK_UUID)
    said = _from_json(uuid) if TASK_UUID in _listed(attributes, IN_JSON) else uuid
    return said if isinstance(said, str) else None


def _listed(attributes: Attributes, name: str) -> list[Any]:
    """Return a list of ours; whoever passed it on may have made something else of it."""
    listed = attributes.get(name)
    return listed if isinstance(listed, list) else []


def _traceback_fields_of(attributes: Attributes) -> MessageDict:
    """Return the fields that the attributes of an event ``exception`` of ours say."""
    plain = {k: v for k, v in attributes.items() if k not in _EXCEPTION_FIELDS}
    return exception_fields_of(attributes) | fields_of(plain)[0]


def exception_fields_of(attributes: Attributes) -> MessageDict:
    """Return what the semantic conventions' attributes say of an exception, as our fields."""
    return {f: attributes[name] for name, f in _EXCEPTION_FIELDS.items() if name in attributes}


def _from_json(text: Any) -> Any:
    """Read a value; what is no JSON stays as it is."""
    try:
        return json.loads(text)
    except (RecursionError, TypeError, ValueError):
        return text


def _field_name(attribute: str) -> str:
    """Name the field that an attribute was made of."""
    if not attribute.startswith(FIELD):
        return attribute
    return str(_from_json(f'"{attribute.removeprefix(FIELD)}"'))


def put_message_name(attributes: Attributes, message: MessageDict) -> str:
    """Return the name for a message; add the message's type if the name does not say it."""
    kind = message.get(names.MESSAGE_TYPE)
    name = EXCEPTION_EVENT if is_traceback(message) else _name_or(_NO_TYPE, kind)
    if names.MESSAGE_TYPE in message and (kind is None or _type_named(name) != kind):
        put(attributes, names.MESSAGE_TYPE, kind)
    return name


def put_action_name(attributes: Attributes, action_type: str, other: Any = None) -> str:
    """Return the name for an action; add the action's type if the name does not say it.

    Args:
        attributes: Of the action.
        action_type: Its type.
        other: How it is called besides, if it is.
    """
    name = _name_or(_name_or(_NO_ACTION_TYPE, action_type), other)
    if name != action_type:
        put(attributes, names.ACTION_TYPE, action_type)
    return name


def _name_or(other: str, name: Any) -> str:
    """Return what can be a name, or else the other one."""
    return name if type(name) is str and name and is_unicode(name) else other


def is_traceback(message: MessageDict) -> bool:
    """Say whether a message tells of an exception that did not end an action."""
    return bool(message.get(names.MESSAGE_TYPE) == names.TRACEBACK_TYPE)


def _type_named(name: str) -> str | None:
    """Return the type of the message that has a name; None if it has none."""
    if name == EXCEPTION_EVENT:
        return names.TRACEBACK_TYPE
    return None if name == _NO_TYPE else name


def put_time(attributes: Attributes, message: MessageDict, name: str = TIMESTAMP) -> int:
    """Return the time of a message in nanoseconds since the epoch; add what that does not say."""
    time_ns = nanoseconds(message)
    put_exact_time(attributes, message, time_ns, name)
    return time_ns


def put_exact_time(
    attributes: Attributes, message: MessageDict, time_ns: int, name: str = TIMESTAMP
) -> None:
    """Add the time of a message, if the nanoseconds that stand for it do not say it."""
    time = message.get(names.TIMESTAMP)
    if type(time) is not float or not time_ns or seconds(time_ns) != time:
        attributes[name] = _json_text([time] if names.TIMESTAMP in message else [])


def nanoseconds(message: MessageDict) -> int:
    """Return the time of a message as OTLP has it; 0 if it has none that OTLP can say.

    Source:
        A float of today has a step of 238 ns. Multiplied as a whole, it would lose half of one.
    """
    time: Any = message.get(names.TIMESTAMP)
    if type(time) not in (int, float) or not 0 < time < _MAX_TIME_S:
        return 0
    whole = int(time)
    part: int = round((time - whole) * 1e9)
    return whole * 10**9 + part


# Readers take 63 bits.
_MAX_TIME_S: Final = 2**63 / 10**9 - 1


def level_of_severity(number: int) -> str | None:
    """Return what the number of a severity is called here; None if it is none.

    >>> level_of_severity(13), level_of_severity(0)
    ('WARNING', None)
    """
    return _LEVELS[(number - 1) // 4] if number in _SEVERITIES else None


def seconds(time_ns: int) -> float:
    """Convert nanoseconds, to the nearest float."""
    return time_ns / 10**9


def put_back_time(
    message: MessageDict, attributes: Attributes, time_ns: int, name: str = TIMESTAMP
) -> None:
    """Give a message its time back."""
    said = _from_json(attributes[name]) if name in attributes else [seconds(time_ns)]
    if isinstance(said, list) and said:
        message[names.TIMESTAMP] = said[0]
