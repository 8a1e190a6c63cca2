"""Messages on their way to an event: bent as a line of JSON bends them, split, and cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple, final
from uuid import UUID

from orjson import Fragment, dumps

from eliot_etw import _names as names
from eliot_etw._json import VALUE_OPTIONS, decode_line, encode_carefully, value_text
from eliot_etw.etw._message_layout import ACTION, PLACE, REST, TRUNCATED, TYPES
from eliot_etw.etw._message_plan import Absent, Json, TightJson, Unfit, Unsigned, is_level, zoned
from eliot_etw.etw._schema import MAX_FIELDS
from eliot_etw.etw._values import FileTime
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

_INT64: Final = -(1 << 63), (1 << 63) - 1
_MINUTE: Final = timedelta(minutes=1)
_OURS: Final = frozenset({*PLACE, ACTION, REST, TRUNCATED})
MOST_FIELDS = MAX_FIELDS - len(_OURS) - len(TYPES)
"""How many fields of its own a message may have in an event; bytes count twice."""
# Of all fields together, and so of one: metadata has 32 KiB, and tools show names in full.
_MOST_NAME_CHARS = 7000


@final
class Fields(NamedTuple):
    """The fields of a message, in its order."""

    plain: MessageDict
    """The values as they are read from a line of JSON."""
    typed: MessageDict
    """The same with types that a field can have, such as bytes and times."""


def fields_of(message: MessageDict, default: JsonDefault) -> Fields:
    """Return the fields of any message."""
    plain: MessageDict = decode_line(encode_carefully(message, default))
    given = {name: value for name, value in dict.items(message) if type(name) is str}
    has_bytes = default is json_default  # else they may have become anything
    typed = {
        name: _typed(given.get(name), value, has_bytes=has_bytes) for name, value in plain.items()
    }
    return Fields(plain, typed)


def typed_fields(message: MessageDict, default: JsonDefault) -> MessageDict:
    """Return `Fields.typed` of a message that is easy, but for values that JSON does not know.

    It takes a third of the time, as all others are left as they are.

    Raises:
        Exception: If it is not so easy.
    """
    has_bytes = default is json_default
    typed = {}
    for name, value in message.items():
        kind = type(value)
        if kind in _LEFT or (kind is int and _INT64[0] <= value <= _INT64[1]):
            typed[name] = value
            continue
        # What any message has for a time, without the detour.
        text = None if kind is datetime else value_text(value, default).encode()
        plain = value.isoformat() if text is None else decode_line(text)
        typed[name] = better = _typed(value, plain, has_bytes=has_bytes)
        if type(better) is Json:  # under one of our names, it would be taken for ours
            raise Unfit
    return typed


def fallback_fields(message: MessageDict) -> MessageDict:
    """Do what `lay_out` does as a fallback, for a message that has all it should and is easy.

    Raises:
        KeyError, TypeError: If it is not so easy.
    """
    wire = {name: message[name] for name in PLACE}
    wire |= {name: message[name] for name in TYPES if name in message}
    rest = {name: value for name, value in message.items() if name not in wire}
    wire[REST] = Json(dumps(rest, None, VALUE_OPTIONS).decode())
    return wire


_LEFT: Final = frozenset({str, bool, float, type(None), list, tuple, dict})


def _typed(value: Any, plain: Any, *, has_bytes: bool) -> Any:
    """Return a value that is encoded with its own type, and read back as the plain one."""
    kind = type(value)
    try:
        if kind is datetime and value.tzinfo is not None:
            return _time(value, plain)
        if kind is UUID and str(value) == plain:
            return value
    except Exception:  # noqa: BLE001 - time zones may do anything
        return plain
    if (kind is bytes and has_bytes) or (kind is float and plain is None):
        return value
    if kind is tuple and type(plain) is list:
        return tuple(plain)
    if type(plain) is int and not _INT64[0] <= plain <= _INT64[1]:
        return Unsigned(plain) if 0 < plain < 1 << 64 else Json(plain)
    return plain


def _time(time: datetime, text: Any) -> Any:
    """Return a time as what is encoded in ticks, or its text if that could not be made again."""
    minutes = (time.utcoffset() or timedelta()) // _MINUTE
    ticks = FileTime.from_datetime(time)
    in_utc = ticks.to_datetime()
    again = in_utc.astimezone(timezone(minutes * _MINUTE))
    if ticks < 0 or again.isoformat() != text:
        return text
    return zoned(minutes)(ticks) if minutes else in_utc


def lay_out(
    fields: Fields,
    default: JsonDefault,
    sizes: dict[str, int],
    *,
    is_tight: bool = False,
    is_fallback: bool = False,
    most_fields: int = MOST_FIELDS,
    others: Iterable[str] = (),
) -> MessageDict:
    """Decide which fields become fields of the event; the others become one.

    Args:
        fields: The fields of the message.
        default: Converts values that JSON does not know.
        sizes: Names of what was cut, and how many bytes it had.
        is_tight: Whether to write JSON in UTF-8. Old decoders would not know that it is.
        is_fallback: Whether to leave out all that other messages do not have.
        most_fields: How many fields there is room for; bytes count twice.
        others: Names that the event has besides.

    Returns:
        Names and values of the event's fields.
    """
    json = TightJson if is_tight else Json
    wire: MessageDict = {}
    taken = {name.casefold() for name in (*_OURS, *TYPES, *others)}
    room, chars = (0, 0) if is_fallback else (most_fields, _MOST_NAME_CHARS)
    rest: MessageDict = {}
    for name, value in fields.typed.items():
        if name in _FITS:
            is_good = _FITS[name](value)
        else:
            folded = name.casefold()
            room -= 2 if type(value) is bytes else 1
            chars -= len(name)
            is_good = room >= 0 <= chars and folded not in taken and name != ""
            is_good = is_good and "\0" not in name
            taken.add(folded)
        if is_good and is_tight and name not in _FITS and isinstance(value, (list, tuple, dict)):
            wire[name] = json(value_text(value, default))
        elif is_good:
            wire[name] = value
        else:
            rest[name] = fields.plain[name]
    for name in PLACE:
        wire.setdefault(name, Absent())
    if is_fallback:
        wire = {name: wire[name] for name in (*PLACE, *TYPES) if name in wire}
    if rest:
        wire[REST] = json(_object(rest, default))
    if sizes:
        wire[TRUNCATED] = json(_object(sizes, default))
    return wire


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_place(value: Any) -> bool:
    return type(value) is list and bool(value) and is_level(value)


def _is_time(value: Any) -> bool:
    return type(value) is float


# What those fields must be to be what they are called.
_FITS: Final = {
    names.TASK_UUID: _is_text,
    names.TASK_LEVEL: _is_place,
    names.TIMESTAMP: _is_time,
    **dict.fromkeys(TYPES, _is_text),
}


def _object(members: MessageDict, default: JsonDefault) -> str:
    """Write an object of JSON, each value as it stands in a line."""
    parts = {name: Fragment(value_text(value, default)) for name, value in members.items()}
    return dumps(parts).decode()


def cuts(
    fields: Fields, default: JsonDefault, limit_bytes: int
) -> Iterator[tuple[Fields, dict[str, int]]]:
    """Give shorter and shorter forms of a message, until one is short enough.

    First the largest values are cut, to what would just fit; as text needs more room within JSON,
    then to half of that, and so on. If it is too long still, there are too many fields: the last
    ones are left out, more and more of them; in the end all but the place and the type.

    Args:
        fields: The fields of a message that is too long.
        default: Converts values that JSON does not know.
        limit_bytes: How long the metadata and the payload may be together.

    Yields:
        The fields, and what was cut of them: names, and sizes in bytes. The size of what was left
        out stands there as ``eliot:rest``.
    """
    texts = {name: _as_bytes(value, default) for name, value in fields.plain.items()}
    # Those of another event, read back and logged anew, would be taken for ours.
    left_out = len(texts.pop(TRUNCATED, b""))
    room = limit_bytes - _ROOM_FOR_THE_REST - min(_MOST_NAME_CHARS, sum(map(len, texts)))
    room -= _ROOM_FOR_A_FIELD * min(len(texts), MAX_FIELDS)
    most = _largest_that_fits([*map(len, texts.values())], room)
    while most > _SHORTEST:
        yield _cut(fields, texts, most, left_out)
        most //= 2
    for room in (limit_bytes // 4, limit_bytes // 16, 0):
        kept, left = {}, room
        for name, text in texts.items():
            left -= len(name.encode()) + min(len(text), _SHORTEST)
            if left >= 0 or name in _FITS:
                kept[name] = text
        rest = sum(len(name.encode()) + len(texts[name]) for name in texts.keys() - kept.keys())
        yield _cut(fields, kept, _SHORTEST, left_out + rest)


# Numbers of bytes.
_ROOM_FOR_THE_REST = 500
_ROOM_FOR_A_FIELD = 12
_SHORTEST = 64


def _as_bytes(value: Any, default: JsonDefault) -> bytes:
    """Return what a value is cut as: text, or its JSON."""
    return (value if type(value) is str else value_text(value, default)).encode()


def _largest_that_fits(sizes: list[int], room: int) -> int:
    """Return to which size all larger ones must be cut so that their sum is as great as `room`."""
    for count, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - count)
        if size > share:
            return share
        room -= size
    # It is too long for all that.
    return max(sizes, default=0)


def _cut(
    fields: Fields, texts: dict[str, bytes], most: int, left_out: int
) -> tuple[Fields, dict[str, int]]:
    """Keep so many bytes of each value, and only the fields of which there are texts."""
    long = {name: text for name, text in texts.items() if len(text) > most}
    cut = {name: text[:most].decode("utf-8", "ignore") for name, text in long.items()}
    plain, typed = (
        {name: cut.get(name, values[name]) for name in values if name in texts}
        for values in fields
    )
    sizes = {name: len(text) for name, text in long.items()}
    if left_out:
        sizes[REST] = sizes.get(REST, 0) + left_out
    return Fields(plain, typed), sizes
