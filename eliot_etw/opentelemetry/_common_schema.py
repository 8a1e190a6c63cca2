"""Common Schema 4.0: which fields an event has, and the functions that encode their values.

An event has ``__csver__`` and three structs: PartA says when, where and in which span; PartB what
all logs, or all spans, have; PartC what the program gave.

Source:
    The exporters opentelemetry-etw-logs and opentelemetry-etw-traces in
    https://github.com/open-telemetry/opentelemetry-rust-contrib.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from struct import Struct, calcsize
from struct import error as struct_error
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from eliot_etw._json import value_text
from eliot_etw._safe import safe_str
from eliot_etw.etw._encode import EventEncoder
from eliot_etw.etw._message_layout import REST, TRUNCATED
from eliot_etw.etw._records import TRACELOGGING_CHANNEL
from eliot_etw.etw._schema import Field, Schema
from eliot_etw.etw._types import InType, OutType
from eliot_etw.json import json_default

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

KEYWORD: Final = 1
CRITICAL, ERROR, WARNING, INFO, VERBOSE = range(1, 6)
NO_ID: Final = 0
"""What OpenTelemetry has for a trace or a span that there is not."""
SPAN_BITS: Final = (1 << 64) - 1
"""What an id of a span has: nobody else sees to it, and an event has no room for more."""
_TRACE_BITS: Final = (1 << 128) - 1
ID_BYTES: Final = b"\x10\0%016x"
"""What becomes the id of a span as it stands in an event, by the operator ``%``."""
LONGEST_NAME = 200
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

_VERSION: Final = 0x400
_ROLE: Final = "service.name"
_ROLE_INSTANCE: Final = "service.instance.id"
_LONGEST_ROLE_BYTES = 2000
_MOST_RESOURCE_ATTRIBUTES = 32

_U16: Final = Struct("<H").pack
_DESCRIPTOR: Final = Struct("<HBBBBHQ").pack


# Types of values that records do not have, for the type of a value decides how it is encoded.


class Constant(str):
    """Text that is the same in all events of a shape."""

    __slots__ = ()


class Ready(str):
    """Text that the exporter gives as it stands in the payload: as bytes, after their number."""

    __slots__ = ()


class FromAttribute(str):
    """The name of an attribute which has a field of PartB."""

    __slots__ = ()


class Json(str):
    """JSON, as text."""

    __slots__ = ()


class Int16(int):
    """A number that has 16 bits in the event."""


class UInt8(int):
    """A number that has 8 bits without a sign in the event."""


class Boolean8(int):
    """A truth that has 8 bits in the event."""


_TEXT: Final = (InType.ANSI, OutType.UTF8)
_JSON: Final = (InType.ANSI, OutType.JSON)
TYPES: Final[dict[type, tuple[InType, OutType]]] = {
    str: _TEXT,
    Constant: _TEXT,
    Ready: _TEXT,
    int: (InType.INT64, OutType.DEFAULT),
    float: (InType.FLOAT64, OutType.DEFAULT),
    bool: (InType.BOOL32, OutType.DEFAULT),
    bytes: (InType.BINARY, OutType.DEFAULT),
    Json: _JSON,
    list: _JSON,
    tuple: _JSON,
    dict: _JSON,
    type(None): _JSON,
    Int16: (InType.INT16, OutType.DEFAULT),
    UInt8: (InType.UINT8, OutType.DEFAULT),
    Boolean8: (InType.UINT8, OutType.BOOLEAN),
}
"""The types of the fields for values of a type."""
# How a number is packed: the letter for the module `struct`.
_PACKED: Final[dict[type, str]] = {
    int: "q", float: "d", bool: "i", Int16: "h", UInt8: "B", Boolean8: "B",
}  # fmt: skip
NUMBER_BYTES: Final = {kind: calcsize(f"<{letter}") for kind, letter in _PACKED.items()}
"""How long numbers of these types are in the payload."""
# How the bytes are made that their number goes before.
_COUNTED: Final[dict[type, str]] = {
    str: "{}.encode()",
    Json: "{}.encode()",
    bytes: "{}",
    **dict.fromkeys((list, tuple, dict, type(None)), "json({}).encode()"),
}
_WRITTEN_AS_JSON: Final = frozenset({list, tuple, dict, type(None)})


def descriptor(level: int, opcode: int = 0, event_id: int = 0) -> bytes:
    """Return what an event says of itself besides its fields: an ``EVENT_DESCRIPTOR``."""
    return _DESCRIPTOR(event_id, 0, TRACELOGGING_CHANNEL, level, opcode, 0, KEYWORD)


def json_text(value: Any) -> str:
    """Write any value as JSON."""
    return value_text(value, json_default)


def is_plain(value: Any) -> bool:
    """Say whether a value has a type that a field can have, and fits it."""
    kind = type(value)
    return kind in TYPES and (kind is not int or _LEAST <= value <= _MOST)


def plain(value: Any) -> Any:
    """Return a value of a type that a field can have, which says the same."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, int):
        number = int(value)
        return number if _LEAST <= number <= _MOST else Json(json_text(number))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return Json(json_text(value))


_PLAIN: Final = TYPES.keys() - {int, *_WRITTEN_AS_JSON}


# ---- what is written alike in all events --------------------------------------------------------

_BILLION = 1_000_000_000
_MOST_KEPT = 1000
_NO_TRACE: Final = _U16(_VERSION)
_NO_DATE: Final = "1970-01-01T00:00:00."
# The beginnings of events, by the ids of their traces; and of times, by their seconds.
_TRACES: Final[dict[int, bytes]] = {}
_SECONDS: Final[dict[int, bytes]] = {}


def time_bytes(time: int) -> bytes:
    """Encode a time, in nanoseconds since 1970, as text of RFC 3339.

    >>> time_bytes(1_795_181_013_000_000_007)[2:]
    b'2026-11-20T13:23:33.000000007Z'
    """
    second, rest = divmod(time, _BILLION)
    return b"%b%09dZ" % (_SECONDS.get(second) or _second(second), rest)


def time_text(time: int) -> str:
    """Write a time as `time_bytes` does."""
    return time_bytes(time)[2:].decode()


def head_bytes(trace_id: int, span_id: int, cloud: bytes, time: int) -> bytes:
    """Encode the values of ``__csver__`` and PartA.

    Args:
        trace_id: The id of the trace; 0 if there is none.
        span_id: The id of the span.
        cloud: What `ResourceParts` has.
        time: In nanoseconds since 1970.
    """
    second, rest = divmod(time, _BILLION)
    start = _SECONDS.get(second) or _second(second)
    if trace_id == NO_ID:
        return b"%b%b%b%09dZ" % (_NO_TRACE, cloud, start, rest)
    trace = _TRACES.get(trace_id) or _trace(trace_id)
    return b"%b%016x%b%b%09dZ" % (trace, span_id & SPAN_BITS, cloud, start, rest)


def _trace(trace_id: int) -> bytes:
    """Write what comes before the id of a span in all events of a trace."""
    if len(_TRACES) >= _MOST_KEPT:
        _TRACES.clear()
    _TRACES[trace_id] = start = b"%b%b%032x%b" % (
        _NO_TRACE, _U16(32), trace_id & _TRACE_BITS, _U16(16),
    )  # fmt: skip
    return start


def _second(second: int) -> bytes:
    """Write what comes before the nanoseconds in all times of a second."""
    text = _NO_DATE
    with suppress(OSError, OverflowError, ValueError):  # no calendar goes so far
        text = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
    if len(text) != len(_NO_DATE):  # nor RFC 3339, of which a year has four digits
        text = _NO_DATE
    if len(_SECONDS) >= _MOST_KEPT:
        _SECONDS.clear()
    _SECONDS[second] = start = _U16(len(text) + len("000000000Z")) + text.encode()
    return start


def text_field(name: str) -> Field:
    """Return a field for text."""
    return Field(name, *_TEXT)


def struct_field(name: str, members: Iterable[Field]) -> Field:
    """Return a field that has others."""
    return Field(name, InType.STRUCT, members=tuple(members))


VERSION_FIELD: Final = Field("__csver__", InType.UINT16, OutType.UNSIGNED)
IDS_FIELD: Final = struct_field("ext_dt", map(text_field, ("traceId", "spanId")))


@final
class ResourceParts:
    """What a resource says in each of its events.

    Attributes:
        resource: The resource; None for what no record has.
        cloud: The values of PartA's ``ext_cloud``, encoded.
        cloud_fields: The struct, or nothing.
        attributes: Those attributes that the user named.
        plans: What is known of the events of this resource, by their shapes: the names of their
            attributes, and what else their fields depend on but the types of attributes.
        plans_by_types: The same by these as well.
    """

    def __init__(self, resource: Resource | None, names: Iterable[str]) -> None:
        """Look through a resource for the attributes of these names, and for the service's."""
        self.resource = resource
        known = {} if resource is None else resource.attributes
        roles = {"role": known.get(_ROLE), "roleInstance": known.get(_ROLE_INSTANCE)}
        given = {name: _cut_role(role) for name, role in roles.items() if role is not None}
        self.cloud = b"".join(_U16(len(role)) + role for role in given.values())
        self.cloud_fields = (struct_field("ext_cloud", map(text_field, given)),) if given else ()
        self.attributes = {name: plain(known[name]) for name in names if name in known}
        self.plans: dict[tuple[Any, ...], Plan] = {}
        self.plans_by_types: dict[tuple[Any, ...], Plan] = {}


def _cut_role(role: Any) -> bytes:
    data = safe_str(role).encode("utf-8", "backslashreplace")
    if len(data) <= _LONGEST_ROLE_BYTES:
        return data
    return data[:_LONGEST_ROLE_BYTES].decode("utf-8", "ignore").encode() + b"..."


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of attributes of a resource if all of them can be fields of an event.

    Raises:
        TypeError: If the names are one text.
        ValueError: If there are too many, or one is none that a field can have.
    """
    if isinstance(names, str):
        msg = f"resource_attributes must be several names, got {names!r}. Write [{names!r}]."
        raise TypeError(msg)
    found = tuple(names)
    if len(found) > _MOST_RESOURCE_ATTRIBUTES:
        msg = (
            f"resource_attributes must be at most {_MOST_RESOURCE_ATTRIBUTES} names, got "
            f"{len(found)}: they are in every event. Name those that you search for."
        )
        raise ValueError(msg)
    taken = {REST, TRUNCATED}
    for name in found:
        is_good = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and "\0" not in name
        if not is_good or name.casefold() in taken:
            msg = (
                f"resource_attributes must be different names of 1 to {LONGEST_NAME} characters "
                f"without NUL, got {name!r}. Write it as the resource has it, once."
            )
            raise ValueError(msg)
        taken.add(name.casefold())
    return found


# ---- events of one shape ------------------------------------------------------------------------


@final
class Draft(NamedTuple):
    """What an event is to say."""

    event_name: str
    head: bytes
    """What `head_bytes` gave."""
    has_ids: bool
    part_b: Mapping[str, Any]
    """Values by the names of their fields; None for a field that is not there."""
    attributes: Mapping[Any, Any]


@final
class Slot(NamedTuple):
    """A value on its way into an event."""

    part: str
    name: str
    value: Any
    variable: str = ""
    """What has such a value in the function that encodes: ``b0`` is the first that it takes of
    PartB, ``a0`` the first attribute. Empty if the value is always this."""

    @property
    def is_attribute(self) -> bool:
        """Whether the value is that of an attribute."""
        return self.variable.startswith("a")

    @property
    def field(self) -> Field:
        """The field for such a value."""
        return Field(self.name, *TYPES[type(self.value)])


EncodeFunction: TypeAlias = Callable[..., bytes]
"""Takes the bytes of PartA, the values of all attributes in their order, and those values of PartB
that differ from event to event; gives the payload. Raises one of `UNFIT` if it cannot."""

UNFIT: Final = (struct_error, ArithmeticError, AttributeError, TypeError, ValueError)
"""What is raised for a value that the type of its field, or the event, has no room for."""


@final
class Plan(NamedTuple):
    """What all events of one shape have in common."""

    metadata: bytes
    encode: EncodeFunction


# Numbers of bytes as they stand before the bytes; to look one up is quicker than to pack it.
_SIZES: Final = [_U16(size) for size in range(256)]


def encode_function(
    slots: Iterable[Slot],
    *,
    own: int,
    attributes: int,
    limit_bytes: int,
    count: Callable[[], object] | None,
) -> EncodeFunction:
    """Make the function that encodes the events of a shape.

    With a constant, a text in PartB, and two attributes that are numbers it would be::

        def encode(head, attributes, b0):
            a0, a1, = attributes
            if not (type(a0) is type_int and type(a1) is type_int):
                raise TypeError
            e1 = b0.encode()
            n1 = len(e1)
            payload = join((head, c0, sizes[n1] if n1 < 256 else size(n1), e1, p4(a0, a1), ))
            if len(payload) > limit:
                raise ValueError
            return payload

    `EventEncoder` takes twice as long for what records have (7 texts, 4 numbers), as it wants all
    values in one list, and packs the length of each text. To make the function takes as long as
    300 calls of it.

    Args:
        slots: The values of one such event, in its order.
        own: How many values of PartB the function takes.
        attributes: How many attributes.
        limit_bytes: How long the payload may be.
        count: Is called for each event, if there is something to count.
    """
    program = _Program()
    for slot in slots:
        program.add(slot)
    return program.function(own, attributes, limit_bytes, count)


class _Program:
    """The text of a function, and what it needs."""

    def __init__(self) -> None:
        self._scope: dict[str, Any] = {
            "join": b"".join, "json": json_text, "sizes": _SIZES, "size": _U16,
        }  # fmt: skip
        self._checks: list[str] = []
        self._before: list[str] = []
        self._parts = ["head"]
        self._run: list[tuple[str, str]] = []

    def add(self, slot: Slot) -> None:
        """Go on with a value."""
        kind, variable, number = type(slot.value), slot.variable, len(self._parts)
        if slot.is_attribute:
            self._check(variable, kind)
        if variable and kind in _PACKED:
            self._run.append((_PACKED[kind], variable))
            return
        self._end_run()
        if not variable:
            name = f"c{number}"
            self._scope[name] = EventEncoder(Schema("", (slot.field,))).payload([slot.value])
            self._parts.append(name)
        elif kind is Ready:
            self._parts.append(variable)
        else:
            encoded, size = f"e{number}", f"n{number}"
            self._before += [
                f"{encoded} = {_COUNTED[kind].format(variable)}",
                f"{size} = len({encoded})",
            ]
            self._parts += [
                f"sizes[{size}] if {size} < {len(_SIZES)} else size({size})", encoded,
            ]  # fmt: skip

    def _check(self, variable: str, kind: type) -> None:
        """Have a value refused that is not of its type; text has a method that others have not."""
        if kind in _WRITTEN_AS_JSON:
            self._scope["as_json"] = _WRITTEN_AS_JSON
            self._checks.append(f"type({variable}) in as_json")
        elif kind is not str:
            self._scope[f"type_{kind.__name__}"] = kind
            self._checks.append(f"type({variable}) is type_{kind.__name__}")

    def _end_run(self) -> None:
        """Pack the numbers that follow one another in one go."""
        if self._run:
            letters, values = zip(*self._run, strict=True)
            name = f"p{len(self._parts)}"
            self._scope[name] = Struct("<" + "".join(letters)).pack
            self._parts.append(f"{name}({', '.join(values)})")
            self._run.clear()

    def function(
        self,
        own: int,
        attributes: int,
        limit_bytes: int,
        count: Callable[[], object] | None,
    ) -> EncodeFunction:
        """Return the function."""
        self._end_run()
        lines = [
            f"{''.join(f'a{number}, ' for number in range(attributes)) or '()'} = attributes",
            f"if not ({' and '.join(self._checks) or True}):",
            "    raise TypeError",
            *self._before,
            f"payload = join(({''.join(f'{part}, ' for part in self._parts)}))",
            "if len(payload) > limit:",
            "    raise ValueError",
        ]
        if count is not None:
            lines.append("count()")
        given = "".join(f", b{number}" for number in range(own))
        source = f"def encode(head, attributes{given}):\n    " + "\n    ".join(lines)
        scope = {**self._scope, "limit": limit_bytes, "count": count}
        exec(f"{source}\n    return payload", scope)  # noqa: S102 - no word in it is from outside
        encode: EncodeFunction = scope["encode"]
        return encode
