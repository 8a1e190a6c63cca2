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
from itertools import groupby
from operator import itemgetter
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
from eliot_etw.otlp._common_schema import CLOUD

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

KEYWORD: Final = 1
CRITICAL, ERROR, WARNING, INFO, VERBOSE = range(1, 6)
NO_ID: Final = 0
"""What OpenTelemetry has for a trace or a span that there is not."""
SPAN_BITS: Final = (1 << 64) - 1
"""What an id of a span has: nobody else sees to it, and an event has no room for more."""
_TRACE_BITS: Final = (1 << 128) - 1
LONGEST_NAME = 200
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1

_LONGEST_ROLE_BYTES = 2000
_MOST_RESOURCE_ATTRIBUTES = 32
_MOST_HEAD_BYTES = 0xFFFF

_U16: Final = Struct("<H").pack
_DESCRIPTOR: Final = Struct("<HBBBBHQ").pack


# Types of values that records do not have, for the type of a value decides how it is encoded.


class Constant(str):
    """Text that is the same in all events of a shape."""

    __slots__ = ()


class SpanId(str):
    """The id of a span, which the exporter gives as a number."""

    __slots__ = ()


class Time(str):
    """A time, which the exporter gives in nanoseconds since 1970."""

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
    SpanId: _TEXT,
    Time: _TEXT,
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
# How numbers that are seldom large are written as text whose characters are bytes.
_AS_TEXT: Final[dict[type, str]] = {
    bool: "{{true if {} else false}}",
    Int16: "{{chr({})}}\\0",
    UInt8: "{{chr({})}}",
    Boolean8: "{{chr({})}}",
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
_NO_TRACE: Final = "\0\4"
_NO_DATE: Final = "1970-01-01T00:00:00."
_BEFORE_ID, _BEFORE_TIME = "\x10\0", "\x1e\0"
# Texts whose characters are bytes: the beginnings of events, by the ids of their traces; and of
# times, by their seconds.
_TRACES: Final[dict[int, str]] = {}
_SECONDS: Final[dict[int, str]] = {}


def id_text(span_id: int) -> str:
    """Write the id of a span."""
    return f"{span_id:016x}"


def time_text(time: int) -> str:
    """Write a time, in nanoseconds since 1970, as text of RFC 3339.

    >>> time_text(1_795_181_013_000_000_007)
    '2026-11-20T13:23:33.000000007Z'
    """
    second, rest = divmod(time, _BILLION)
    return f"{_second(second)[len(_BEFORE_TIME) :]}{int(rest):09d}Z"


def _trace(trace_id: int) -> str:
    """Write what comes before the id of a span in all events of a trace."""
    if len(_TRACES) >= _MOST_KEPT:
        _TRACES.clear()
    _TRACES[trace_id] = start = f"{_NO_TRACE}\x20\0{trace_id & _TRACE_BITS:032x}{_BEFORE_ID}"
    return start


def _second(second: int) -> str:
    """Write what comes before the nanoseconds in all times of a second."""
    text = _NO_DATE
    with suppress(OSError, OverflowError, ValueError):  # no calendar goes so far
        text = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
    if len(text) != len(_NO_DATE):  # nor RFC 3339, of which a year has four digits
        text = _NO_DATE
    if len(_SECONDS) >= _MOST_KEPT:
        _SECONDS.clear()
    _SECONDS[second] = start = _BEFORE_TIME + text
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
        head: Encode ``__csver__`` and PartA alone; by whether there are ids.
        plans: What is known of the events of this resource, by their shapes: the names of their
            attributes, and what else their fields depend on but the types of attributes.
        plans_by_types: The same by these as well.
    """

    def __init__(self, resource: Resource | None, names: Iterable[str]) -> None:
        """Look through a resource for the attributes of these names, and for the service's."""
        self.resource = resource
        known = {} if resource is None else resource.attributes
        roles = {name: known.get(attribute) for name, attribute in CLOUD.items()}
        given = {name: _cut_role(role) for name, role in roles.items() if role is not None}
        self.cloud = b"".join(_U16(len(role)) + role for role in given.values())
        self.cloud_fields = (struct_field("ext_cloud", map(text_field, given)),) if given else ()
        self.attributes = {name: plain(known[name]) for name in names if name in known}
        self.head = {
            has_ids: encode_function(
                (), has_ids=has_ids, cloud=self.cloud, own=0, attributes=0,
                limit_bytes=_MOST_HEAD_BYTES, count=None,
            )
            for has_ids in (False, True)
        }  # fmt: skip
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
    trace_id: int
    """0 if there is none."""
    span_id: int
    time: int
    """In nanoseconds since 1970."""
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
"""Takes the values of all attributes in their order, the ids of the trace and the span, the time,
and those values of PartB that differ from event to event; gives the payload. Raises one of `UNFIT`
if it cannot."""

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
    has_ids: bool,
    cloud: bytes,
    own: int,
    attributes: int,
    limit_bytes: int,
    count: Callable[[], object] | None,
) -> EncodeFunction:
    r"""Make the function that encodes the events of a shape.

    With a constant, a text in PartB, and two attributes that are numbers it would be::

        def encode(attributes, trace_id, span_id, time, b0):
            a0, a1, = attributes
            if not (type(b0) is str and type(a0) is type_int and type(a1) is type_int):
                raise TypeError
            t0 = f"{traces.get(trace_id) or trace(trace_id)}...{chr(len(b0))}\0{b0}"
            payload = join((
                t0.encode() if t0.isascii() else join((
                    f"{traces.get(trace_id) or trace(trace_id)}...".encode("latin-1"),
                    sizes[n] if (n := len(e := b0.encode())) < 256 else size(n), e,
                )),
                p1(a0, a1),
            ))
            if len(payload) > limit:
                raise ValueError
            return payload

    Texts that follow one another, and their lengths, become bytes in one go, if all of them are
    ASCII and have less than 128 characters: then all of it is ASCII, so that one question tells.
    Numbers that follow one another are packed in one go too.

    `EventEncoder` takes thrice as long for what records have (7 texts, 4 numbers), as it wants all
    values in one list, and packs the length of each text. To make the function takes as long as
    300 calls of it.

    Args:
        slots: The values of one such event behind PartA, in its order.
        has_ids: Whether it has the ids of a trace and a span.
        cloud: What `ResourceParts` has.
        own: How many values of PartB the function takes.
        attributes: How many attributes.
        limit_bytes: How long the payload may be.
        count: Is called for each event, if there is something to count.
    """
    program = _Program()
    if has_ids:
        program.add_text(f"{{traces.get(trace_id) or trace(trace_id)}}{_ID.format('span_id')}")
    else:
        program.add_constant(_NO_TRACE.encode())
    program.add_constant(cloud)
    program.add_time("time")
    for slot in slots:
        program.add(slot)
    return program.function(own, attributes, limit_bytes, count)


# Takes half as long as a format; whoever gives the id sees that it has no more than 64 bits.
_ID: Final = "{{{}.to_bytes(8, 'big').hex()}}"


class _Program:
    """The text of a function, and what it needs."""

    def __init__(self) -> None:
        self._scope: dict[str, Any] = {
            "billion": _BILLION, "false": "\0\0\0\0", "join": b"".join,
            "json": json_text, "second": _second, "seconds": _SECONDS, "size": _U16,
            "sizes": _SIZES,
            "trace": _trace, "traces": _TRACES, "true": "\1\0\0\0",
        }  # fmt: skip
        self._checks: list[str] = []
        self._before: list[str] = []
        self._parts: list[str] = []
        # What is to become bytes in one go: pieces of an f-string, and which variable is in each
        # that need not be ASCII.
        self._texts: list[tuple[str, str]] = []
        self._numbers: list[tuple[str, str]] = []

    def add(self, slot: Slot) -> None:
        """Go on with a value."""
        kind, variable = type(slot.value), slot.variable
        if not variable:
            self.add_constant(EventEncoder(Schema("", (slot.field,))).payload([slot.value]))
            return
        self._check(variable, kind, is_attribute=slot.is_attribute)
        if kind in _AS_TEXT and not self._numbers:
            self.add_text(_AS_TEXT[kind].format(variable))
        elif kind in _PACKED:
            self._end_texts()
            self._numbers.append((_PACKED[kind], variable))
        elif kind is SpanId:
            self.add_text(f"\\x10\\0{_ID.format(variable)}")
        elif kind is Time:
            self.add_time(variable)
        elif kind is bytes:
            self._end_texts()
            self._end_numbers()
            self._parts += [f"size(len({variable}))", variable]
        else:
            if kind in _WRITTEN_AS_JSON:
                self._before.append(f"{variable} = json({variable})")
            self.add_text(f"{{chr(len({variable}))}}\\0{{{variable}}}", variable)

    def add_text(self, piece: str, variable: str = "") -> None:
        """Go on with a piece of an f-string whose characters are bytes.

        Args:
            piece: The piece.
            variable: The text in it, with its length, for which this holds only if it is ASCII
                and short; empty if there is none.
        """
        self._end_numbers()
        self._texts.append((piece, variable))

    def add_constant(self, encoded: bytes) -> None:
        """Go on with bytes that are always the same."""
        name = f"c{len(self._scope)}"
        if encoded.isascii():
            self._scope[name] = encoded.decode()
            self.add_text(f"{{{name}}}")
        else:
            self._end_texts()
            self._end_numbers()
            self._scope[name] = encoded
            self._parts.append(name)

    def add_time(self, variable: str) -> None:
        """Go on with a time."""
        second = f"{variable} // billion"
        self.add_text(
            f"{{seconds.get({second}) or second({second})}}{{'%09d' % ({variable} % billion)}}Z"
        )

    def _check(self, variable: str, kind: type, *, is_attribute: bool) -> None:
        """Have a value refused that is not of its type."""
        if kind is str:
            self._checks.append(f"type({variable}) is str")
        elif is_attribute and kind in _WRITTEN_AS_JSON:
            self._scope["as_json"] = _WRITTEN_AS_JSON
            self._checks.append(f"type({variable}) in as_json")
        elif is_attribute:
            self._scope[f"type_{kind.__name__}"] = kind
            self._checks.append(f"type({variable}) is type_{kind.__name__}")

    def _end_texts(self) -> None:
        """Have the texts that follow one another become bytes."""
        if self._texts:
            name = f"t{len(self._before)}"
            self._before.append(f'{name} = f"{"".join(piece for piece, _ in self._texts)}"')
            self._parts.append(
                f"{name}.encode() if {name}.isascii() else join(({self._any_text()}))"
            )
            self._texts.clear()

    def _any_text(self) -> str:
        """Return the parts that texts become, whatever is in them."""
        parts = []
        for variable, pieces in groupby(self._texts, itemgetter(1)):
            if variable:
                parts.append(
                    f"sizes[n] if (n := len(e := {variable}.encode())) < {len(_SIZES)} "
                    "else size(n), e, "
                )
            else:
                parts.append(f'f"{"".join(piece for piece, _ in pieces)}".encode("latin-1"), ')
        return "".join(parts)

    def _end_numbers(self) -> None:
        """Pack the numbers that follow one another."""
        if self._numbers:
            letters, values = zip(*self._numbers, strict=True)
            name = f"p{len(self._parts)}"
            self._scope[name] = Struct("<" + "".join(letters)).pack
            self._parts.append(f"{name}({', '.join(values)})")
            self._numbers.clear()

    def function(
        self,
        own: int,
        attributes: int,
        limit_bytes: int,
        count: Callable[[], object] | None,
    ) -> EncodeFunction:
        """Return the function."""
        self._end_texts()
        self._end_numbers()
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
        source = f"def encode(attributes, trace_id, span_id, time{given}):\n    " + "\n    ".join(
            [*lines, "return payload"]
        )
        scope = {**self._scope, "limit": limit_bytes, "count": count}
        exec(source, scope)  # noqa: S102 - no word in it is from outside
        encode: EncodeFunction = scope["encode"]
        return encode
