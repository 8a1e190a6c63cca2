"""Functions that make events of messages: one for each set of keys and types of values."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from struct import Struct
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias, final
from uuid import UUID

from eliot_etw import _names as names
from eliot_etw.etw._activity import activity_id
from eliot_etw.etw._levels import LOG_LEVEL
from eliot_etw.etw._message_layout import ABSENT_TAG, ACTION, PLACE, ZONE_TAG
from eliot_etw.etw._schema import Field
from eliot_etw.etw._types import InType, OutType
from eliot_etw.etw._values import FileTime
from eliot_etw.typing import MessageDict

_U16: Final = Struct("<H").pack
_UTC: Final = timezone.utc

IsEnabled: TypeAlias = Callable[[int, int], bool]
"""Takes a level and a keyword, and says whether such an event is wanted."""


@final
class EncodedEvent(NamedTuple):
    """An event as ETW takes it."""

    descriptor: bytes
    """16 bytes, an ``EVENT_DESCRIPTOR``: level, opcode, keyword."""
    metadata: bytes
    """The event's name, and names and types of its fields."""
    payload: bytes
    """The values of its fields."""
    activity: bytes | None
    """16 bytes, the id of the action that it belongs to; None if the message does not say."""
    related: bytes | None
    """16 bytes, the id of the action above the one that starts; None for all other events."""


@final
class Form(NamedTuple):
    """What all events of one name, level and shape have in common."""

    descriptor: bytes
    metadata: bytes
    limit_bytes: int
    level: int
    keyword: int
    is_start: bool


class TooLong(Exception):
    """An event is longer than ETW takes. Never leaves the encoder."""


class _Unfit(ValueError):
    """A value is not as its type promises. Never leaves the encoder."""


# Types of values that messages do not have, for the type of a value decides how it is encoded.


class Json(str):
    """JSON, as text."""

    __slots__ = ()


class TightJson(str):
    """JSON, as text, for which there is too little room in UTF-16."""

    __slots__ = ()


class Unsigned(int):
    """A number that needs 64 bits without a sign."""

    __slots__ = ()


class Zoned(int):
    """A time in ticks since 1601; the class has the offset of its zone."""

    tags: ClassVar[int]


class Absent:
    """In the place of one of the first fields: the message has none of its type."""


@cache  # There are 2,879.
def zoned(minutes: int) -> type[Zoned]:
    """Return the type of times in a zone that is so far ahead of UTC."""
    return type("Zoned", (Zoned,), {"tags": minutes + ZONE_TAG})


def _utc_ticks(time: datetime) -> int:
    """Return a time as ticks, if its text says that it is UTC."""
    if time.tzinfo is not _UTC:
        raise _Unfit
    return FileTime.from_datetime(time)


_TEXT: Final = (InType.ANSI, OutType.UTF8)
_JSON: Final = (InType.UTF16, OutType.JSON)
_FIELD_TYPES: Final[dict[type, tuple[InType, OutType]]] = {
    str: _TEXT,
    int: (InType.INT64, OutType.DEFAULT),
    Unsigned: (InType.UINT64, OutType.DEFAULT),
    bool: (InType.UINT8, OutType.BOOLEAN),
    float: (InType.FLOAT64, OutType.DEFAULT),
    bytes: (InType.BINARY, OutType.DEFAULT),
    UUID: (InType.GUID, OutType.DEFAULT),
    datetime: (InType.FILETIME, OutType.DATETIME_UTC),
    list: _JSON,
    tuple: _JSON,
    dict: _JSON,
    type(None): _JSON,
    Json: _JSON,
    TightJson: (InType.ANSI, OutType.JSON),
}
# How a number is packed: the letter for the module `struct`, and what stands for the value.
_PACKED: Final[dict[type, tuple[str, str]]] = {
    int: ("q", "{}"),
    Unsigned: ("Q", "{}"),
    bool: ("B", "{}"),
    float: ("d", "{}"),
    datetime: ("Q", "ticks({})"),
}
# How the bytes are made that their number goes before.
_COUNTED: Final[dict[type, str]] = {
    str: "{}.encode()",
    bytes: "{}",
    list: "json({})",
    tuple: "json({})",
    dict: "json({})",
    Json: '{}.encode("utf-16-le")',
    TightJson: "{}.encode()",
}
_NULL: Final = _U16(8) + "null".encode("utf-16-le")


def field_type(kind: type) -> tuple[InType, OutType] | None:
    """Return the types of the field for values of a type; None if there is no field for them."""
    return _FIELD_TYPES.get(datetime if issubclass(kind, Zoned) else kind)


@final
class _Place(NamedTuple):
    """What all that is logged directly in one action has in common."""

    activity: bytes
    related: bytes | None
    task_uuid: bytes
    above: str
    action: bytes


# A start, its end and what is logged between ask for the same.
_PLACES: Final[dict[tuple[Any, ...], _Place]] = {}
_MOST_PLACES = 4096
_LONGEST_KEPT = 100


def _find_place(task_uuid: str, level: list[int]) -> _Place:
    """Work out what is the same for all of an action, and keep it."""
    above = level[:-1]
    if not is_level(above):
        raise _Unfit
    process = os.getpid()
    numbers = "".join(f"{number}/" for number in above)
    place = _Place(
        activity_id(task_uuid, above, process),
        activity_id(task_uuid, above[:-1], process) if above else None,
        _counted(task_uuid),
        f"/{numbers}",
        _counted(f"{task_uuid}@/{numbers[:-1]}"),
    )
    if len(task_uuid) <= _LONGEST_KEPT and len(above) <= _LONGEST_KEPT:
        if len(_PLACES) >= _MOST_PLACES:
            _PLACES.clear()
        key = (task_uuid, *above)
        _PLACES[key] = place
    return place


if hasattr(os, "register_at_fork"):
    # The ids have that of the process in them.
    os.register_at_fork(after_in_child=_PLACES.clear)


def is_level(level: list[Any]) -> bool:
    """Say whether a level has nothing but positions."""
    return all(type(number) is int and 0 <= number < 1 << 63 for number in level)


def _counted(text: str) -> bytes:
    data = text.encode()
    return _U16(len(data)) + data


def _level_text(level: list[int]) -> str:
    return "/" + "/".join(map(str, level))


@final
class Plan:
    """How messages with certain keys, and values of certain types, become events.

    Attributes:
        fields: The fields of the event.
        is_fallback: Whether it stands in for plans that there is no room for.
        forms: What was found for a message's type, status and ``log_level``.
        encode: Makes the event of a message, which must have these keys in this order and these
            types. Takes the message, what says whether the event is wanted, and the form unless it
            is to be found. Raises what it likes for a message that needs more care.
    """

    __slots__ = ("encode", "fields", "forms", "is_fallback")

    def __init__(
        self,
        wire: MessageDict,
        find_form: Callable[[Plan, MessageDict, Any], Form],
        json: Callable[[Any], bytes],
        *,
        is_fallback: bool,
        is_per_message: bool,
    ) -> None:
        """Make the function.

        Args:
            wire: A message of that shape, the three first fields among its keys.
            find_form: Finds the form for a plan, a message, and a key to keep it by, if any.
            json: Writes a list or dict as JSON in UTF-16.
            is_fallback: See above.
            is_per_message: Whether the form depends on all of the message.
        """
        self.is_fallback = is_fallback
        self.forms: dict[Any, Form] = {}
        program = _Program(wire, is_per_message=is_per_message)
        self.fields = tuple(program.fields)
        given = {"plan": self, "forms": self.forms, "find_form": find_form, "json": json}
        self.encode: Callable[[MessageDict, IsEnabled | None, Form | None], EncodedEvent | None]
        self.encode = program.function(given)


@final
class _Program:
    """The function that makes the events of one shape.

    For a message with a type and a number it would be::

        def encode(message, is_enabled, form):
            v0, v1, v2, v3, v4, = message.values()
            if form is None:
                form = forms.get((v1, )) or find_form(plan, message, (v1, ))
            descriptor, metadata, limit, level, keyword, is_start = form
            if is_enabled is not None and not is_enabled(level, keyword):
                return None
            place = places.get((v3, *v4[:-1]))
            if place is None:
                place = find_place(v3, v4)
            activity, related, task_uuid, above, action = place
            t = f"{above}{v4[-1]:d}".encode()
            bv1 = v1.encode()
            payload = join((task_uuid, p1(len(t)), t, p3(v2, v0, len(bv1)), bv1, ))
            if len(payload) > limit:
                raise TooLong
            return new(Event, (descriptor, metadata, payload, activity, None))

    To go through the fields one by one takes four times as long.
    To make the function takes as long as 300 calls of it.
    """

    def __init__(self, wire: MessageDict, *, is_per_message: bool) -> None:
        self._variables = {name: f"v{index}" for index, name in enumerate(wire)}
        self._kinds = {name: type(value) for name, value in wire.items()}
        self._is_per_message = is_per_message
        self._packers: dict[str, Any] = {}
        self._before: list[str] = []
        self._parts: list[str] = []
        self._run: list[tuple[str, str]] = []
        self.fields: list[Field] = []
        uuid, level, timestamp = PLACE
        self._has_place = Absent not in (self._kinds[uuid], self._kinds[level])
        if self._has_place:
            self._add_place(self._variables[uuid], self._variables[level])
        else:
            self._add_text_of_place(uuid, "{}.encode()")
            self._add_text_of_place(level, "level_text({}).encode()")
        self._add_timestamp(timestamp)
        for name, kind in self._kinds.items():
            if name not in PLACE:
                self._add(name, kind)
        self._end_run()

    def _add_place(self, task_uuid: str, level: str) -> None:
        """Begin with what is known of the message's action."""
        self._before += [
            f"place = places.get(({task_uuid}, *{level}[:-1]))",
            "if place is None:",
            f"    place = find_place({task_uuid}, {level})",
            "activity, related, task_uuid, above, action = place",
            f't = f"{{above}}{{{level}[-1]:d}}".encode()',
        ]
        self._parts.append("task_uuid")
        self._add_counted("t")
        self.fields += [Field(name, *_TEXT) for name in PLACE[:2]]

    def _add_text_of_place(self, name: str, made: str) -> None:
        """Begin with the task or the level alone, or with neither."""
        if self._kinds[name] is Absent:
            self.fields.append(Field(name, *_TEXT, ABSENT_TAG))
            self._run.append(("H", "0"))
        else:
            self.fields.append(Field(name, *_TEXT))
            self._make_counted(self._variables[name], made)

    def _add_timestamp(self, name: str) -> None:
        is_absent = self._kinds[name] is Absent
        tags = ABSENT_TAG if is_absent else 0
        self.fields.append(Field(name, *_FIELD_TYPES[float], tags))
        self._run.append(("d", "0.0" if is_absent else self._variables[name]))
        if (
            self._has_place
            and names.ACTION_TYPE in self._kinds
            and self._kinds.get(names.ACTION_STATUS) is str
        ):
            self.fields.append(Field(ACTION, *_TEXT))
            self._end_run()
            self._parts.append("action")

    def _add(self, name: str, kind: type) -> None:
        """Go on with a value."""
        variable = self._variables[name]
        types = field_type(kind)
        assert types is not None  # noqa: S101 - nothing else comes so far
        self.fields.append(Field(name, *types, kind.tags if issubclass(kind, Zoned) else 0))
        if kind in _PACKED:
            letter, value = _PACKED[kind]
            self._run.append((letter, value.format(variable)))
        elif kind in _COUNTED:
            self._make_counted(variable, _COUNTED[kind])
        elif issubclass(kind, Zoned):
            self._run.append(("Q", variable))
        else:
            self._end_run()
            self._parts.append("null" if kind is type(None) else f"{variable}.bytes_le")

    def _make_counted(self, variable: str, made: str) -> None:
        self._before.append(f"b{variable} = {made.format(variable)}")
        self._add_counted(f"b{variable}")

    def _add_counted(self, variable: str) -> None:
        self._run.append(("H", f"len({variable})"))
        self._end_run()
        self._parts.append(variable)

    def _end_run(self) -> None:
        """Pack the numbers that follow one another in one go."""
        if self._run:
            letters, values = zip(*self._run, strict=True)
            name = f"p{len(self._parts)}"
            self._packers[name] = Struct("<" + "".join(letters)).pack
            self._parts.append(f"{name}({', '.join(values)})")
            self._run.clear()

    def _found_form(self) -> str:
        """Write what finds the form."""
        if self._is_per_message:
            return "find_form(plan, message, None)"
        asked = [names.MESSAGE_TYPE, LOG_LEVEL]
        if names.ACTION_TYPE in self._kinds:
            asked = [names.ACTION_TYPE, names.ACTION_STATUS, LOG_LEVEL]
        # What is neither text nor a number says nothing.
        said = [self._variables[name] for name in asked if self._kinds.get(name) in (str, int)]
        key = f"({''.join(f'{variable}, ' for variable in said)})"
        return f"forms.get({key}) or find_form(plan, message, {key})"

    def function(self, given: dict[str, Any]) -> Callable[..., EncodedEvent | None]:
        """Return what takes a message, what says whether it is wanted, and its form or None."""
        related = "related if is_start else None"
        lines = [
            f"{', '.join(self._variables.values())}, = message.values()",
            "if form is None:",
            f"    form = {self._found_form()}",
            "descriptor, metadata, limit, level, keyword, is_start = form",
            "if is_enabled is not None and not is_enabled(level, keyword):",
            "    return None",
            *self._before,
            f"payload = join(({''.join(f'{part}, ' for part in self._parts)}))",
            "if len(payload) > limit:",
            "    raise TooLong",
            "return new(Event, (descriptor, metadata, payload, "
            f"{f'activity, {related}' if self._has_place else 'None, None'}))",
        ]
        source = "def encode(message, is_enabled, form):\n    " + "\n    ".join(lines)
        scope = {**_SCOPE, **given, **self._packers}
        exec(source, scope)  # noqa: S102 - no word in it is from outside
        encode: Callable[..., EncodedEvent | None] = scope["encode"]
        return encode


_SCOPE: Final[dict[str, Any]] = {
    "places": _PLACES,
    "find_place": _find_place,
    "level_text": _level_text,
    "ticks": _utc_ticks,
    "null": _NULL,
    "join": b"".join,
    "TooLong": TooLong,
    "new": tuple.__new__,
    "Event": EncodedEvent,
}
