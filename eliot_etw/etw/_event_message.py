"""Events of ours back to messages, equal to those in a file of JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta, timezone
from math import isfinite
from typing import Any, Final

from eliot_etw import _names as names
from eliot_etw._json import decode_line
from eliot_etw.etw._decode import DecodedEvent
from eliot_etw.etw._message_layout import (
    ABSENT_TAG,
    ACTION,
    PLACE,
    REST,
    TRUNCATED,
    ZONE_TAG,
)
from eliot_etw.etw._records import EtlEvent
from eliot_etw.etw._schema import Field
from eliot_etw.etw._types import InType, OutType
from eliot_etw.etw._values import FileTime
from eliot_etw.exceptions import InvalidEvent
from eliot_etw.typing import MessageDict

_LEVEL: Final = re.compile(r"(?:/[0-9]+)+")


def message_of(event: EtlEvent, decoded: DecodedEvent | None = None) -> MessageDict | None:
    """Return the message that an event was made of, as a file of JSON would have it.

    Args:
        event: An event of a trace.
        decoded: Its fields, if they were decoded already.

    Returns:
        The message; None if the event is damaged, or of another provider that has nothing to do
        with messages.
    """
    try:
        fields = event.decode() if decoded is None else decoded
        return _message(fields)
    except (InvalidEvent, ArithmeticError, LookupError, TypeError, ValueError):
        return None


def _message(decoded: DecodedEvent) -> MessageDict | None:
    fields = decoded.schema.fields
    if tuple(field.name for field in fields[:3]) != PLACE:
        return None
    message: MessageDict = {}
    added: list[dict[str, Any]] = []
    for field, value in zip(fields, decoded.values, strict=True):
        name = field.name
        plain = _of_json(field, value)
        if name in (REST, TRUNCATED):
            added.append(_members(name, plain))
        elif name != ACTION and not (field.tags == ABSENT_TAG and name in PLACE):
            message[name] = _level(plain) if name == names.TASK_LEVEL else plain
    for members in added:
        message.update(members)
    return message


def _members(name: str, found: Any) -> dict[str, Any]:
    """Return what a field of our own adds to a message."""
    if not isinstance(found, dict):
        msg = f"{name} must be an object, got {found!r:.80}. The event is damaged."
        raise InvalidEvent(msg)
    return {TRUNCATED: found} if name == TRUNCATED else found


def _level(text: str) -> list[int]:
    """Read a level, ``/2/1``."""
    if not _LEVEL.fullmatch(text):
        msg = f"a level must look like '/2/1', got {text!r:.80}. The event is damaged."
        raise InvalidEvent(msg)
    return [int(part) for part in text[1:].split("/")]


def _of_json(field: Field, value: Any) -> Any:
    """Return what JSON has for the value of a field. Raises LookupError if it is none of ours."""
    if field.is_array or field.fixed_count or field.custom is not None:
        raise LookupError
    convert = _WAYS_BACK[field.in_type, field.out_type]
    if field.in_type == InType.FILETIME:
        return _time(value, field.tags)
    return convert(value)


def _same(value: Any) -> Any:
    return value


def _float(number: float) -> float | None:
    return number if isfinite(number) else None


def _bytes(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _from_json(text: str) -> Any:
    return decode_line(text.encode("utf-8", "surrogatepass"))


def _time(ticks: FileTime, tags: int = 0) -> str:
    """Write a time as it was: the offset of its zone is in the field's tags."""
    time = ticks.to_datetime()
    if tags:
        time = time.astimezone(timezone(timedelta(minutes=tags - ZONE_TAG)))
    return time.isoformat()


# Each kind of field that is made of a value, and how to make the value of it.
_WAYS_BACK: Final[dict[tuple[int, int], Callable[[Any], Any]]] = {
    (InType.ANSI, OutType.UTF8): _same,
    (InType.INT64, OutType.DEFAULT): _same,
    (InType.UINT64, OutType.DEFAULT): _same,
    (InType.UINT8, OutType.BOOLEAN): _same,
    (InType.FLOAT64, OutType.DEFAULT): _float,
    (InType.BINARY, OutType.DEFAULT): _bytes,
    (InType.GUID, OutType.DEFAULT): str,
    (InType.FILETIME, OutType.DATETIME_UTC): _time,
    (InType.UTF16, OutType.JSON): _from_json,
    (InType.ANSI, OutType.JSON): _from_json,
}
