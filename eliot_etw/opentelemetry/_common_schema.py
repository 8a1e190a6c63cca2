"""Common Schema 4.0: which fields an event has, and how the records of one shape become bytes.

An event has ``__csver__`` and three structs: PartA says when, where and in which span; PartB what
all logs, or all spans, have; PartC what the program gave.

Source:
    The exporters opentelemetry-etw-logs and opentelemetry-etw-traces in
    https://github.com/open-telemetry/opentelemetry-rust-contrib.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct, calcsize
from struct import error as struct_error
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from eliot_etw._counter import Counter
from eliot_etw._json import value_text
from eliot_etw._safe import name_beside, safe_str
from eliot_etw.etw._encode import EventEncoder, payload_limit_bytes
from eliot_etw.etw._message_event import MAX_SCHEMAS
from eliot_etw.etw._message_layout import REST, TRUNCATED
from eliot_etw.etw._records import TRACELOGGING_CHANNEL
from eliot_etw.etw._schema import MAX_FIELDS, Field, Schema, encode_metadata
from eliot_etw.etw._types import InType, OutType
from eliot_etw.exceptions import InvalidEvent
from eliot_etw.json import json_default

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

KEYWORD: Final = 1
CRITICAL, ERROR, WARNING, INFO, VERBOSE = range(1, 6)
NO_ID: Final = 0
"""What OpenTelemetry has for a trace or a span that there is not."""

_VERSION: Final = 0x400
_ROLE: Final = "service.name"
_ROLE_INSTANCE: Final = "service.instance.id"
_LONGEST_ROLE_BYTES = 2000
_LONGEST_NAME = 200
# Of the names of all attributes in an event: metadata has 32 KiB, in which these are but a part.
_MOST_NAME_BYTES = 16_000
_MOST_RESOURCES = 16
_MOST_RESOURCE_ATTRIBUTES = 32
INT64: Final = range(-(1 << 63), 1 << 63)

_U16: Final = Struct("<H").pack
_COUNT_BYTES = 2
_DESCRIPTOR: Final = Struct("<HBBBBHQ").pack


class Constant(str):
    """Text that is the same in all events, and that nobody need give."""

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


_JSON: Final = (InType.ANSI, OutType.JSON)
_TYPES: Final[dict[type, tuple[InType, OutType]]] = {
    str: (InType.ANSI, OutType.UTF8),
    Constant: (InType.ANSI, OutType.UTF8),
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
# How a number is packed: the letter for the module `struct`.
_PACKED: Final[dict[type, str]] = {
    int: "q", float: "d", bool: "i", Int16: "h", UInt8: "B", Boolean8: "B",
}  # fmt: skip
# How the bytes are made that their number goes before.
_COUNTED: Final[dict[type, str]] = {
    str: "{}.encode()",
    Json: "{}.encode()",
    bytes: "{}",
    **dict.fromkeys((list, tuple, dict, type(None)), "json({}).encode()"),
}


def descriptor(level: int, opcode: int = 0, event_id: int = 0) -> bytes:
    """Return what an event says of itself besides its fields: an ``EVENT_DESCRIPTOR``."""
    return _DESCRIPTOR(event_id, 0, TRACELOGGING_CHANNEL, level, opcode, 0, KEYWORD)


def json_text(value: Any) -> str:
    """Write any value as JSON."""
    return value_text(value, json_default)


# ---- what is written alike in all events --------------------------------------------------------

_BILLION = 1_000_000_000
_MOST_KEPT = 1000
_NO_TRACE: Final = _U16(_VERSION)
# The beginnings of events, by the ids of their traces; and of times, by their seconds.
_TRACES: Final[dict[int, bytes]] = {}
_SECONDS: Final[dict[int, bytes]] = {}


def time_text(time: int) -> str:
    """Write a time, in nanoseconds since 1970, as RFC 3339 does.

    >>> time_text(1_795_181_013_000_000_007)
    '2026-11-20T13:23:33.000000007Z'
    """
    start = _SECONDS.get(time // _BILLION) or _second(time // _BILLION)
    return f"{start[_COUNT_BYTES:].decode()}{time % _BILLION:09d}Z"


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
    return b"%b%016x%b%b%09dZ" % (trace, span_id, cloud, start, rest)


def _trace(trace_id: int) -> bytes:
    """Write what comes before the id of a span in all events of a trace."""
    if len(_TRACES) >= _MOST_KEPT:
        _TRACES.clear()
    _TRACES[trace_id] = start = b"%b%b%032x%b" % (_NO_TRACE, _U16(32), trace_id, _U16(16))
    return start


def _second(second: int) -> bytes:
    """Write what comes before the nanoseconds in all times of a second."""
    try:
        text = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
    except (OSError, OverflowError, ValueError):  # no calendar goes so far
        text = "1970-01-01T00:00:00."
    if len(_SECONDS) >= _MOST_KEPT:
        _SECONDS.clear()
    _SECONDS[second] = start = _U16(len(text) + len("000000000Z")) + text.encode()
    return start


def _text(name: str) -> Field:
    return Field(name, *_TYPES[str])


def _struct(name: str, members: Iterable[Field]) -> Field:
    return Field(name, InType.STRUCT, members=tuple(members))


def _field(name: str, value: Any) -> Field:
    return Field(name, *_TYPES[type(value)])


_CSVER_FIELD: Final = Field("__csver__", InType.UINT16, OutType.UNSIGNED)
_IDS_FIELD: Final = _struct("ext_dt", (_text("traceId"), _text("spanId")))


@final
class ResourceParts:
    """What a resource says in each of its events.

    Attributes:
        resource: The resource.
        cloud: The values of PartA's ``ext_cloud``, encoded.
        cloud_fields: The struct, or nothing.
        attributes: Those attributes that the user named.
        values: Their values alone.
        plans: What is known of the events of this resource, by their shapes.
    """

    def __init__(self, resource: Resource, names: Sequence[str]) -> None:
        """Look through a resource for the attributes of these names, and for the service's."""
        self.resource = resource
        known = resource.attributes
        roles = {"role": known.get(_ROLE), "roleInstance": known.get(_ROLE_INSTANCE)}
        given = {name: _cut_role(role) for name, role in roles.items() if role is not None}
        self.cloud = b"".join(_U16(len(role)) + role for role in given.values())
        self.cloud_fields = (_struct("ext_cloud", map(_text, given)),) if given else ()
        self.attributes = {name: _plain(known[name]) for name in names if name in known}
        self.values = (*self.attributes.values(),)
        self.plans: dict[tuple[Any, ...], Plan] = {}


def _cut_role(role: Any) -> bytes:
    data = safe_str(role).encode("utf-8", "backslashreplace")
    if len(data) <= _LONGEST_ROLE_BYTES:
        return data
    return data[:_LONGEST_ROLE_BYTES].decode("utf-8", "ignore").encode() + b"..."


def _plain(value: Any) -> Any:
    """Return a value of a type that a field can have, which says the same."""
    kind = type(value)
    if kind in {str, float, bool, bytes, Json, Constant, Int16, UInt8, Boolean8}:
        return value
    if isinstance(value, int) and value in INT64:
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return Json(json_text(value))


def _checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of attributes if all of them can be fields of an event."""
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
        is_good = isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and "\0" not in name
        if not is_good or name.casefold() in taken:
            msg = (
                f"resource_attributes must be different names of 1 to {_LONGEST_NAME} characters "
                f"without NUL, got {name!r}. Write it as the resource has it, once."
            )
            raise ValueError(msg)
        taken.add(name.casefold())
    return found


# Numbers of bytes as they stand before the bytes; to look one up is quicker than to pack it.
_COUNTS: Final = [_U16(count) for count in range(256)]

_Encode: TypeAlias = Callable[[bytes, Sequence[Any]], bytes]
"""Takes the bytes of PartA and the values behind it, and gives the payload."""


def _encoder_of(examples: Iterable[Any]) -> _Encode:
    """Make the function that encodes values of the types of others; no constants among them.

    For a text, a constant and two numbers it would be::

        def encode(head, values):
            v0, v2, v3, = values
            b0 = v0.encode()
            n0 = len(b0)
            return join((head, counts[n0] if n0 < 256 else count(n0), b0, c1, p4(v2, v3), ))

    `EventEncoder` takes 1.5 times as long for what records have (7 texts, 4 numbers), as it packs
    the length of each text. To make the function takes as long as 300 calls of it.
    """
    taken: list[str] = []
    before: list[str] = []
    parts = ["head"]
    run: list[tuple[str, str]] = []
    scope: dict[str, Any] = {"join": b"".join, "json": json_text, "counts": _COUNTS, "count": _U16}

    def end_run() -> None:
        if run:
            name = f"p{len(parts)}"
            scope[name] = Struct("<" + "".join(letter for letter, _ in run)).pack
            parts.append(f"{name}({', '.join(value for _, value in run)})")
            run.clear()

    for number, example in enumerate(examples):
        kind, value = type(example), f"v{number}"
        if kind is Constant:
            end_run()
            scope[f"c{number}"] = _U16(len(example)) + example.encode()
            parts.append(f"c{number}")
            continue
        taken.append(value)
        if kind in _PACKED:
            run.append((_PACKED[kind], value))
            continue
        end_run()
        before.append(f"b{number} = {_COUNTED[kind].format(value)}")
        before.append(f"n{number} = len(b{number})")
        size = f"counts[n{number}] if n{number} < {len(_COUNTS)} else count(n{number})"
        parts += [size, f"b{number}"]
    end_run()
    lines = [
        f"{''.join(f'{value}, ' for value in taken)} = values",
        *before,
        f"return join(({''.join(f'{part}, ' for part in parts)}))",
    ]
    source = "def encode(head, values):\n    " + "\n    ".join(lines)
    exec(source, scope)  # noqa: S102 - no word in it is from outside
    encode: _Encode = scope["encode"]
    return encode


# ---- events of one shape ------------------------------------------------------------------------


@final
class Plan(NamedTuple):
    """What all events of one shape have in common."""

    metadata: bytes
    encode: _Encode
    limit_bytes: int
    is_renamed: bool


@final
class Draft(NamedTuple):
    """What an event is to say."""

    event_name: str
    head: bytes
    """What `head_bytes` gave."""
    has_ids: bool
    part_b: Mapping[str, Any]
    attributes: Mapping[Any, Any]


class _Unusual(Exception):
    """A record is otherwise than most. Never leaves the encoder."""


class _Slot(NamedTuple):
    """A value on its way into an event."""

    part: str
    name: str
    value: Any


Encoded: TypeAlias = tuple[bytes, bytes]
"""An event's metadata and payload."""

# What is raised for a value that the type of its field has no room for.
_UNFIT_VALUE: Final = (struct_error, ArithmeticError, AttributeError, TypeError, ValueError)


@final
class SchemaEncoder:
    """Makes the events of one exporter, whatever the records hold.

    For records of a shape that is known, the exporter does it itself with what is in
    `ResourceParts.plans`. All threads may use it.
    """

    def __init__(
        self,
        traits: bytes,
        *,
        resource_attributes: Iterable[str],
        default_name: str,
        is_c_first: bool,
    ) -> None:
        """Prepare for events.

        Args:
            traits: What describes the provider.
            resource_attributes: Names of those attributes of the resource that go to PartC.
            default_name: What an event is called that cannot have the name that it should.
            is_c_first: Whether PartC comes before PartB.

        Raises:
            TypeError: If the names are one text.
            ValueError: If there are too many, or one is none that a field can have.
        """
        self._traits = traits
        self._names = _checked_names(resource_attributes)
        self._default_name = default_name
        self._is_c_first = is_c_first
        self._parts: dict[int, ResourceParts] = {}
        self._schemas: set[bytes] = set()
        self._truncated = Counter()
        self._renamed = Counter()
        self._fallbacks = Counter()

    def stats(self) -> dict[str, int]:
        """Count what was not as usual: see the exporters' ``stats``."""
        return {
            "truncated": self._truncated.value,
            "renamed": self._renamed.value,
            "schema_fallbacks": self._fallbacks.value,
            "schemas": len(self._schemas),
        }

    def parts_of(self, resource: Resource) -> ResourceParts:
        """Return what a resource says; it is worked out once."""
        found = self._parts.get(id(resource))
        # The parts keep the resource, so that nobody else gets its id.
        if found is None:
            if len(self._parts) >= _MOST_RESOURCES:
                self._parts.clear()
            found = self._parts[id(resource)] = ResourceParts(resource, self._names)
        return found

    def encode_known(self, plan: Plan, head: bytes, values: list[Any]) -> Encoded | None:
        """Make the event of a record of a known shape; None if that takes more care.

        Args:
            plan: What is known of the shape.
            head: What `head_bytes` gave.
            values: Those of the fields behind PartA, but for constants.
        """
        try:
            payload = plan.encode(head, values)
        except _UNFIT_VALUE:
            return None
        if len(payload) > plan.limit_bytes:
            return None
        if plan.is_renamed:
            self._renamed.add()
        return plan.metadata, payload

    def encode(self, draft: Draft, parts: ResourceParts, shape: tuple[Any, ...]) -> Encoded:
        """Make the event of any record, and remember what records of its shape have in common.

        Args:
            draft: What the event is to say.
            parts: What its resource says.
            shape: What the event's fields and their types depend on.

        Raises:
            Exception: If something happens that was not foreseen.
        """
        try:
            plan = self._plan(draft, parts)
        except (InvalidEvent, _Unusual):
            return self._encode_carefully(draft, parts)
        slots = self._slots(draft, parts, draft.attributes)
        values = [slot.value for slot in slots if type(slot.value) is not Constant]
        encoded = self.encode_known(plan, draft.head, values)
        if encoded is None:
            return self._encode_carefully(draft, parts)
        parts.plans[shape] = plan
        return encoded

    def _plan(self, draft: Draft, parts: ResourceParts) -> Plan:
        """Plan the events of a draft's shape. Raises _Unusual if that takes more care."""
        for name, value in (*draft.part_b.items(), *draft.attributes.items()):
            if type(name) is not str or type(value) not in _TYPES:
                raise _Unusual
        names, left_out = self._names_for(draft, parts)
        if left_out:
            raise _Unusual
        part_c = {names[name]: value for name, value in draft.attributes.items()}
        slots = self._slots(draft, parts, part_c)
        fields = self._fields(slots)
        metadata = self._metadata(draft, parts, fields)
        if not self._admit(metadata):
            raise _Unusual
        return Plan(
            metadata,
            _encoder_of([slot.value for slot in slots]),
            self._limit(metadata),
            is_renamed=any(name != new for name, new in names.items()),
        )

    def _slots(
        self, draft: Draft, parts: ResourceParts, attributes: Mapping[str, Any]
    ) -> list[_Slot]:
        """List the values behind PartA, in their order."""
        part_b = [_Slot("PartB", name, value) for name, value in draft.part_b.items()]
        part_c = [
            _Slot("PartC", name, value)
            for name, value in (*parts.attributes.items(), *attributes.items())
        ]
        return part_c + part_b if self._is_c_first else part_b + part_c

    def _fields(self, slots: Iterable[_Slot]) -> list[tuple[str, Field]]:
        return [(slot.part, _field(slot.name, slot.value)) for slot in slots]

    def _metadata(
        self, draft: Draft, parts: ResourceParts, fields: Iterable[tuple[str, Field]]
    ) -> bytes:
        """Describe an event. Raises InvalidEvent if it cannot be."""
        name = draft.event_name
        if not (type(name) is str and 0 < len(name) <= _LONGEST_NAME) or "\0" in name:
            name = self._default_name
        ids = (_IDS_FIELD,) if draft.has_ids else ()
        part_a = _struct("PartA", (*ids, *parts.cloud_fields, _text("time")))
        members: dict[str, list[Field]] = {}
        for part, field in fields:
            members.setdefault(part, []).append(field)
        others = (_struct(part, found) for part, found in members.items())
        return encode_metadata(Schema(name, (_CSVER_FIELD, part_a, *others)))

    def _limit(self, metadata: bytes) -> int:
        # As if there were a related activity, which there may be.
        return payload_limit_bytes(metadata, self._traits, has_related_activity=True)

    def _admit(self, metadata: bytes) -> bool:
        """Say whether there may be such a schema; from then on there is."""
        if metadata not in self._schemas and len(self._schemas) >= MAX_SCHEMAS:
            return False
        self._schemas.add(metadata)
        return True

    def _names_for(self, draft: Draft, parts: ResourceParts) -> tuple[dict[Any, str], list[Any]]:
        """Choose under which names attributes become fields; list those that cannot."""
        taken = {name.casefold() for name in (*parts.attributes, REST, TRUNCATED)}
        # Those that this encoder may add count as well.
        room = MAX_FIELDS - _FIELDS_OF_PARTS - len(draft.part_b) - len(parts.attributes)
        room -= sum(type(value) is bytes for value in parts.attributes.values())
        room_bytes = _MOST_NAME_BYTES - sum(len(name.encode()) for name in parts.attributes)
        names: dict[Any, str] = {}
        left_out = []
        for key, value in draft.attributes.items():
            name = safe_str(key)
            new = name
            while new.casefold() in taken:
                new += "_"
            cost = 2 if isinstance(value, (bytes, bytearray, memoryview)) else 1
            size = len(new.encode("utf-8", "surrogatepass"))
            if not name or "\0" in name or cost > room or size > room_bytes:
                left_out.append(key)
                continue
            room -= cost
            room_bytes -= size
            taken.add(new.casefold())
            names[key] = new
        return names, left_out

    # ---- records that need care -----------------------------------------------------------------

    def _encode_carefully(self, draft: Draft, parts: ResourceParts) -> Encoded:
        """Make the event of a record that has more, or longer, values than an event."""
        given = dict(draft.attributes)
        names, left_out = self._names_for(draft, parts)
        draft = draft._replace(part_b={name: _plain(v) for name, v in draft.part_b.items()})
        attributes = {names[key]: _plain(given[key]) for key in names}
        encoded = self._fit(draft, parts, attributes, _rest(given, left_out))
        if encoded is None:  # there are as many schemas as there may be
            self._fallbacks.add()
            draft = draft._replace(event_name=self._default_name)
            encoded = self._fit(draft, parts, {}, _rest(given, given), is_fallback=True)
        elif any(key != name for key, name in names.items()):
            self._renamed.add()
        assert encoded is not None  # noqa: S101 - a fallback is always admitted
        return encoded

    def _fit(
        self,
        draft: Draft,
        parts: ResourceParts,
        attributes: dict[str, Any],
        rest: dict[str, Any],
        *,
        is_fallback: bool = False,
    ) -> Encoded | None:
        """Cut the largest values until the event is short enough; None if it is not admitted."""
        if rest:
            attributes = {**attributes, REST: Json(json_text(rest))}
        slots = self._slots(draft, parts, attributes)
        sizes = [_size(slot.value) for slot in slots]
        most = max(sizes)
        for attempt in range(_MOST_ATTEMPTS):
            told = {
                f"{slot.part}.{slot.name}": size
                for slot, size in zip(slots, sizes, strict=True)
                if size > most
            }
            cut = [_cut(slot, most) for slot in slots]
            if told:
                cut = self._with_told(cut, told)
            fields = self._fields(cut)
            metadata = self._metadata(draft, parts, fields)
            length = len(draft.head) + sum(_encoded_size(slot.value) for slot in cut)
            excess = length - self._limit(metadata)
            if excess <= 0:
                break
            # The more is cut, the more there is to tell of it.
            room = sum(min(size, most) for size in sizes) - excess - _SLACK_BYTES * attempt
            most = min(_largest_that_fits(sizes, room), most - 1)
        else:
            raise _Unusual
        if not is_fallback and not self._admit(metadata):
            return None
        if told:
            self._truncated.add()
        encode = EventEncoder(Schema("", tuple(field for _, field in fields))).payload
        return metadata, draft.head + encode([slot.value for slot in cut])

    def _with_told(self, slots: list[_Slot], told: dict[str, int]) -> list[_Slot]:
        """Add to PartC what was cut."""
        last = _Slot("PartC", TRUNCATED, Json(json_text(told)))
        if not self._is_c_first:
            return [*slots, last]
        at = sum(slot.part == "PartC" for slot in slots)
        return [*slots[:at], last, *slots[at:]]


# ``__csver__``, PartA with two structs and five texts, PartB, PartC, and our two in it.
_FIELDS_OF_PARTS = 1 + 1 + 2 + 5 + 1 + 1 + 2
_MOST_ATTEMPTS = 20
_SLACK_BYTES = 64


def _rest(given: Mapping[Any, Any], keys: Iterable[Any]) -> dict[str, Any]:
    """Return the attributes that are no fields of their own."""
    rest: dict[str, Any] = {}
    for key in keys:
        rest[name_beside(safe_str(key), rest)] = given[key]
    return rest


def _size(value: Any) -> int:
    """Return how many bytes of a value may be cut."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return len(value) if isinstance(value, bytes) else 0


def _encoded_size(value: Any) -> int:
    """Return how many bytes a value has in the payload."""
    number = _NUMBER_BYTES.get(type(value))
    return 2 + _size(value) if number is None else number


_NUMBER_BYTES: Final = {kind: calcsize(f"<{letter}") for kind, letter in _PACKED.items()}


def _cut(slot: _Slot, most: int) -> _Slot:
    """Keep so many bytes of a value. JSON is none any more then, but text."""
    if _size(slot.value) <= most:
        return slot
    if isinstance(slot.value, bytes):
        return slot._replace(value=slot.value[:most])
    data = slot.value.encode("utf-8", "surrogatepass")
    return slot._replace(value=data[:most].decode("utf-8", "ignore"))


def _largest_that_fits(sizes: Sequence[int], room: int) -> int:
    """Return to which size all larger ones must be cut so that their sum fits."""
    return max(
        bisect_right(range(0x10000), room, key=lambda most: sum(min(s, most) for s in sizes)) - 1,
        0,
    )
