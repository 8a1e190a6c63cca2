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
from eliot_etw._levels import LOG_LEVEL
from eliot_etw.etw._activity import activity_id
from eliot_etw.etw._message_layout import ABSENT_TAG, ACTION, PLACE, TYPES, ZONE_TAG
from eliot_etw.etw._schema import Field
from eliot_etw.etw._types import InType, OutType
from eliot_etw.etw._values import FileTime
from eliot_etw.typing import MessageDict

_U16: Final = Struct("<H").pack
_UTC: Final = timezone.utc

IsEnabled: TypeAlias = Callable[[int, int], bool]
"""Takes a level and a keyword, and says whether such an event is wanted."""


Event: TypeAlias = tuple[bytes, bytes, bytes, bytes | None, bytes | None]
"""An `EncodedEvent` as a plain tuple."""


@final
class CommonForm(NamedTuple):
    """What all events of one name, level and shape have in common."""

    descriptor: bytes
    metadata: bytes
    limit_bytes: int
    level: int
    keyword: int
    is_start: bool


Form: TypeAlias = tuple[Any, ...]
"""A `CommonForm`, and then type and status of a message as they stand in the payload."""

EncodeFunction: TypeAlias = Callable[[MessageDict, IsEnabled | None, Form | None], Event | None]
"""Takes a message, what says whether its event is wanted, and its form if that is known."""


class TooLong(Exception):
    """An event is longer than ETW takes. Never leaves the encoder."""


class Unfit(ValueError):
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
        raise Unfit
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


# By a task and the place of an action in it, what all that is logged directly in that action has
# in common: its id, the id of the action above, the task, the level but for the last position, and
# the field that is alike in start and end.
_Place: TypeAlias = tuple[bytes, bytes | None, bytes, bytes, bytes]
_PLACES: Final[dict[tuple[Any, ...], _Place]] = {}
_MOST_PLACES = 4096
_LONGEST_KEPT = 100

_process_id = os.getpid()


def _find_place(task_uuid: str, level: list[int]) -> _Place:
    """Work out what is the same for all of an action, and keep it."""
    above = level[:-1]
    if above and not is_level(above):
        raise Unfit
    numbers = "/".join(map(str, above))
    place = (
        activity_id(task_uuid, above, _process_id),
        activity_id(task_uuid, above[:-1], _process_id) if above else None,
        _counted(task_uuid),
        f"/{numbers}/".encode() if above else b"/",
        _counted(f"{task_uuid}@/{numbers}"),
    )
    if len(task_uuid) <= _LONGEST_KEPT and len(above) <= _LONGEST_KEPT:
        if len(_PLACES) >= _MOST_PLACES:
            _PLACES.clear()
        key = (task_uuid, *above)
        _PLACES[key] = place
    return place


def _after_fork() -> None:
    """Forget the ids of the parent's process."""
    global _process_id  # noqa: PLW0603 - there is one process
    _process_id = os.getpid()
    _PLACES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

_DIGITS: Final = {number: b"%d" % number for number in range(1000)}


def _digits_of(number: int) -> bytes:
    """Write a position."""
    if not is_level([number]):
        raise Unfit
    return b"%d" % number


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
        encode: Makes the event of a message, as a plain tuple; it must have these keys in this
            order. Takes the message, what says whether the event is wanted, and the form unless it
            is to be found. Returns None if the event is not wanted. Raises what it likes for a
            message that needs more care, also if its values are not of these types.
    """

    __slots__ = ("_forms", "_said", "encode", "fields", "is_fallback")

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
        self._forms: dict[Any, Form] = {}
        program = _Program(wire, is_per_message=is_per_message)
        self.fields = tuple(program.fields)
        self._said = program.said
        given = {"plan": self, "forms": self._forms, "find_form": find_form, "json": json}
        self.encode = program.function(given)

    def form(self, common: CommonForm, message: MessageDict) -> Form:
        """Return the form of a message: what all events of its name have, and what it says."""
        return (*common, *[_counted(message[name]) for name in self._said])

    def keep(self, key: Any, form: Form, most: int) -> None:
        """Keep a form for messages to come."""
        if len(self._forms) < most:
            self._forms[key] = form


@final
class _Program:
    """The function that makes the events of one shape.

    For a message with a type and a number it would be::

        def encode(message, is_enabled, form):
            v0, v1, v2, v3, v4, = message.values()
            if not (type(v0) is int and type(v1) is str and ...):
                raise Unfit
            if form is None:
                form = forms.get(v1) or find_form(plan, message, v1)
            descriptor, metadata, limit, level, keyword, is_start, said1, = form
            if is_enabled is not None and not is_enabled(level, keyword):
                return None
            key = (v3, v4[0]) if len(v4) == 2 else (v3, *v4[:-1])
            place = places.get(key) or find_place(v3, v4)
            activity, related, task, above, action = place
            t = digits.get(v4[-1]) or digits_of(v4[-1])
            payload = join((task, count(len(above) + len(t)), above, t, p4(v2), said1, p6(v0)))
            if len(payload) > limit:
                raise TooLong
            return descriptor, metadata, payload, activity, None

    To go through the fields one by one takes four times as long.
    To make the function takes as long as 300 calls of it.

    Attributes:
        fields: The fields of the event.
        said: Names of the texts that are found, ready for the payload, in the form.
    """

    def __init__(self, wire: MessageDict, *, is_per_message: bool) -> None:
        self._variables = {name: f"v{index}" for index, name in enumerate(wire)}
        self._kinds = {name: type(value) for name, value in wire.items()}
        self._is_per_message = is_per_message
        self._scope: dict[str, Any] = {}
        self._before: list[str] = []
        self._parts: list[str] = []
        self._run: list[tuple[str, str]] = []
        self.fields: list[Field] = []
        is_action = names.ACTION_TYPE in self._kinds
        saying = TYPES if is_action else (names.MESSAGE_TYPE,)
        self.said = [name for name in saying if self._kinds.get(name) is str]
        uuid, level, timestamp = PLACE
        self._has_place = Absent not in (self._kinds[uuid], self._kinds[level])
        if self._has_place:
            self._add_place(self._variables[uuid], self._variables[level])
        else:
            self._add_text_of_place(uuid, "{}.encode()")
            self._add_text_of_place(level, "level_text({}).encode()")
        self._add_timestamp(timestamp)
        if self._has_place and is_action and names.ACTION_STATUS in self.said:
            self.fields.append(Field(ACTION, *_TEXT))
            self._add_bytes("action")
        for name, kind in self._kinds.items():
            if name not in PLACE:
                self._add(name, kind)
        self._end_run()

    def _add_place(self, uuid: str, level: str) -> None:
        """Begin with what is known of the message's action."""
        self._before += [
            # The first form takes half the time.
            f"key = ({uuid}, {level}[0]) if len({level}) == 2 else ({uuid}, *{level}[:-1])",
            f"place = places.get(key) or find_place({uuid}, {level})",
            "activity, related, task, above, action = place",
            f"t = digits.get({level}[-1]) or digits_of({level}[-1])",
        ]
        self._parts += ["task", "count(len(above) + len(t))", "above", "t"]
        self.fields += [Field(name, *_TEXT) for name in PLACE[:2]]

    def _add_text_of_place(self, name: str, made: str) -> None:
        """Begin with the task or the level alone, or with neither."""
        if self._kinds[name] is Absent:
            self.fields.append(Field(name, *_TEXT, ABSENT_TAG))
            self._run.append(("H", "0"))
        else:
            self.fields.append(Field(name, *_TEXT))
            self._add_counted(self._variables[name], made)

    def _add_timestamp(self, name: str) -> None:
        is_absent = self._kinds[name] is Absent
        tags = ABSENT_TAG if is_absent else 0
        self.fields.append(Field(name, *_FIELD_TYPES[float], tags))
        self._run.append(("d", "0.0" if is_absent else self._variables[name]))

    def _add(self, name: str, kind: type) -> None:
        """Go on with a value."""
        variable = self._variables[name]
        types = field_type(kind)
        assert types is not None  # noqa: S101 - nothing else comes so far
        self.fields.append(Field(name, *types, kind.tags if issubclass(kind, Zoned) else 0))
        if name in self.said:
            self._add_bytes(f"said{variable}")
        elif kind in _PACKED:
            letter, value = _PACKED[kind]
            self._run.append((letter, value.format(variable)))
        elif kind in _COUNTED:
            self._add_counted(variable, _COUNTED[kind])
        elif issubclass(kind, Zoned):
            self._run.append(("Q", variable))
        else:
            self._add_bytes("null" if kind is type(None) else f"{variable}.bytes_le")

    def _add_counted(self, variable: str, made: str) -> None:
        self._before.append(f"b{variable} = {made.format(variable)}")
        self._run.append(("H", f"len(b{variable})"))
        self._add_bytes(f"b{variable}")

    def _add_bytes(self, expression: str) -> None:
        self._end_run()
        self._parts.append(expression)

    def _end_run(self) -> None:
        """Pack the numbers that follow one another in one go."""
        if self._run:
            letters, values = zip(*self._run, strict=True)
            name = f"p{len(self._parts)}"
            self._scope[name] = Struct("<" + "".join(letters)).pack
            self._parts.append(f"{name}({', '.join(values)})")
            self._run.clear()

    def _types_are_good(self) -> str:
        """Write what says whether the values are of these types."""
        kinds = [*dict.fromkeys(self._kinds.values())]
        self._scope |= {f"k{index}": kind for index, kind in enumerate(kinds)}
        return " and ".join(
            f"type({self._variables[name]}) is k{kinds.index(kind)}"
            for name, kind in self._kinds.items()
        )

    def _found_form(self) -> str:
        """Write what finds the form."""
        if self._is_per_message:
            return "find_form(plan, message, None)"
        # A level that is neither text nor a number says nothing, and actions have none.
        is_action = names.ACTION_TYPE in self._kinds
        has_level = self._kinds.get(LOG_LEVEL) in (str, int) and not is_action
        key = [self._variables[name] for name in self.said]
        key += [self._variables[LOG_LEVEL]] if has_level else []
        name = key[0] if len(key) == 1 else f"({''.join(f'{variable}, ' for variable in key)})"
        return f"forms.get({name}) or find_form(plan, message, {name})"

    def function(self, given: dict[str, Any]) -> EncodeFunction:
        """Return what takes a message, what says whether it is wanted, and its form or None."""
        said = "".join(f"said{self._variables[name]}, " for name in self.said)
        ids = "activity, related if is_start else None" if self._has_place else "None, None"
        lines = [
            f"{', '.join(self._variables.values())}, = message.values()",
            f"if not ({self._types_are_good()}):",
            "    raise Unfit",
            "if form is None:",
            f"    form = {self._found_form()}",
            f"descriptor, metadata, limit, level, keyword, is_start, {said}= form",
            "if is_enabled is not None and not is_enabled(level, keyword):",
            "    return None",
            *self._before,
            f"payload = join(({''.join(f'{part}, ' for part in self._parts)}))",
            "if len(payload) > limit:",
            "    raise TooLong",
            f"return descriptor, metadata, payload, {ids}",
        ]
        source = "def encode(message, is_enabled, form):\n    " + "\n    ".join(lines)
        scope = {**_SCOPE, **given, **self._scope}
        exec(source, scope)  # noqa: S102 - no word in it is from outside
        encode: EncodeFunction = scope["encode"]
        return encode


_SCOPE: Final[dict[str, Any]] = {
    "places": _PLACES,
    "find_place": _find_place,
    "digits": _DIGITS,
    "digits_of": _digits_of,
    "level_text": _level_text,
    "ticks": _utc_ticks,
    "null": _NULL,
    "count": _U16,
    "join": b"".join,
    "Unfit": Unfit,
    "TooLong": TooLong,
}
