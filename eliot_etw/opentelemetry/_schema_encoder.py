"""Records to events of Common Schema, whatever they hold, within the limits of ETW's tools."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias, final

from eliot_etw._counter import Counter
from eliot_etw._safe import name_beside, safe_str
from eliot_etw.etw._encode import EventEncoder, payload_limit_bytes
from eliot_etw.etw._message_event import MAX_SCHEMAS
from eliot_etw.etw._message_layout import REST, TRUNCATED
from eliot_etw.etw._schema import MAX_FIELDS, Field, Schema, encode_metadata
from eliot_etw.exceptions import InvalidEvent
from eliot_etw.opentelemetry._common_schema import (
    IDS_FIELD,
    LONGEST_NAME,
    NO_ID,
    NUMBER_BYTES,
    TYPES,
    UNFIT,
    VERSION_FIELD,
    Constant,
    Draft,
    FromAttribute,
    Json,
    Plan,
    ResourceParts,
    Slot,
    checked_names,
    encode_function,
    is_plain,
    json_text,
    plain,
    struct_field,
    text_field,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

Encoded: TypeAlias = tuple[bytes, bytes]
"""An event's metadata and payload."""

_MOST_RESOURCES = 16
# Of the names of all attributes in an event: metadata has 32 KiB, of which these are but a part.
_MOST_NAME_BYTES = 16_000
# ``__csver__``, PartA with two structs and five texts, PartB, PartC, and our two in it.
_FIELDS_OF_PARTS = 1 + 1 + 2 + 5 + 1 + 1 + 2
_MOST_ATTEMPTS = 20
_SLACK_BYTES = 64
_MOST_BYTES = 0xFFFF


class _Unusual(Exception):
    """A record is otherwise than most. Never leaves the encoder."""


@final
class SchemaEncoder:
    """Makes the events of one exporter. All threads may use it.

    What the names and types of values decide is decided once, and kept in `ResourceParts.plans`,
    where the exporter finds it by the shape of a record.
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
        self._names = checked_names(resource_attributes)
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

    def encode(
        self, draft: Draft, parts: ResourceParts, shape: tuple[Any, ...], own: Iterable[Any]
    ) -> Encoded:
        """Make the event of any record, and keep what records of its shape have in common.

        Args:
            draft: What the event is to say.
            parts: What its resource says.
            shape: What the event's fields depend on besides the resource, and the types of the
                attributes.
            own: What the function takes that encodes such events: the values of PartB that are
                neither constants nor attributes.

        Raises:
            Exception: If something happens that was not foreseen.
        """
        given = draft.attributes
        if not all(map(is_plain, given.values())):
            draft = draft._replace(attributes={key: plain(value) for key, value in given.items()})
        by_types = (shape, *map(type, draft.attributes.values()))
        try:
            plan = parts.plans_by_types.get(by_types) or self._plan(draft, parts)
            payload = plan.encode(
                draft.attributes.values(), draft.trace_id, draft.span_id, draft.time, *own
            )
        except (*UNFIT, InvalidEvent, _Unusual):
            return self._encode_carefully(draft._replace(attributes=given), parts)
        parts.plans[shape] = parts.plans_by_types[by_types] = plan
        return plan.metadata, payload

    def _plan(self, draft: Draft, parts: ResourceParts) -> Plan:
        """Plan the events of a draft's shape. Raises _Unusual if that takes more care."""
        names, left_out = self._choose_names(draft, parts)
        slots = self._slots(draft, parts, names)
        is_usual = all(type(slot.value) in TYPES for slot in slots)
        if left_out or not is_usual or not all(type(key) is str for key in draft.attributes):
            raise _Unusual
        metadata = self._metadata(draft, parts, slots)
        if not self._admit(metadata):
            raise _Unusual
        is_renamed = any(key != name for key, name in names.items())
        encode = encode_function(
            slots,
            has_ids=draft.trace_id != NO_ID,
            cloud=parts.cloud,
            own=sum(_is_own(value) for value in draft.part_b.values()),
            attributes=len(draft.attributes),
            limit_bytes=self._limit(metadata),
            count=self._renamed.add if is_renamed else None,
        )
        return Plan(metadata, encode)

    def _slots(
        self, draft: Draft, parts: ResourceParts, names: Mapping[Any, str], *others: Slot
    ) -> list[Slot]:
        """List the values behind PartA in their order.

        Args:
            draft: What the event is to say.
            parts: What its resource says.
            names: What the fields of PartC are called, by the keys of the attributes.
            others: What follows them in PartC.
        """
        given = draft.attributes
        variables = {key: f"a{number}" for number, key in enumerate(given)}
        part_b: list[Slot] = []
        numbers = count()
        for name, value in draft.part_b.items():
            variable = f"b{next(numbers)}" if _is_own(value) else ""
            if type(value) is FromAttribute:
                key = str(value)
                part_b.append(Slot("PartB", name, given[key], variables[key]))
            elif value is not None:
                part_b.append(Slot("PartB", name, value, variable))
        part_c = [
            *(Slot("PartC", name, value) for name, value in parts.attributes.items()),
            *(Slot("PartC", name, given[key], variables[key]) for key, name in names.items()),
            *others,
        ]
        return part_c + part_b if self._is_c_first else part_b + part_c

    def _metadata(self, draft: Draft, parts: ResourceParts, slots: Iterable[Slot]) -> bytes:
        """Describe an event. Raises InvalidEvent if it cannot be."""
        name = draft.event_name
        if not (type(name) is str and 0 < len(name) <= LONGEST_NAME) or "\0" in name:
            name = self._default_name
        ids = () if draft.trace_id == NO_ID else (IDS_FIELD,)
        part_a = struct_field("PartA", (*ids, *parts.cloud_fields, text_field("time")))
        members: dict[str, list[Field]] = {}
        for slot in slots:
            members.setdefault(slot.part, []).append(slot.field)
        others = (struct_field(part, found) for part, found in members.items())
        return encode_metadata(Schema(name, (VERSION_FIELD, part_a, *others)))

    def _limit(self, metadata: bytes) -> int:
        # As if there were a related activity, which there may be.
        return payload_limit_bytes(metadata, self._traits, has_related_activity=True)

    def _admit(self, metadata: bytes) -> bool:
        """Say whether there may be such a schema; from then on there is."""
        if metadata not in self._schemas and len(self._schemas) >= MAX_SCHEMAS:
            return False
        self._schemas.add(metadata)
        return True

    def _choose_names(
        self, draft: Draft, parts: ResourceParts
    ) -> tuple[dict[Any, str], list[Any]]:
        """Choose under which names attributes become fields of PartC; list those that cannot."""
        in_part_b = {str(v) for v in draft.part_b.values() if type(v) is FromAttribute}
        taken = {name.casefold() for name in (*parts.attributes, REST, TRUNCATED)}
        values = (*parts.attributes.values(), *draft.part_b.values())
        room = MAX_FIELDS - _FIELDS_OF_PARTS - sum(map(_field_count, values))
        room_bytes = _MOST_NAME_BYTES - sum(len(name.encode()) for name in parts.attributes)
        names: dict[Any, str] = {}
        left_out = []
        for key, value in draft.attributes.items():
            if key in in_part_b:
                continue
            name = safe_str(key)
            new = name
            while new.casefold() in taken:
                new += "_"
            size = len(new.encode("utf-8", "surrogatepass"))
            count = _field_count(value)
            if not name or "\0" in name or count > room or size > room_bytes:
                left_out.append(key)
                continue
            room -= count
            room_bytes -= size
            taken.add(new.casefold())
            names[key] = new
        return names, left_out

    # ---- records that need care -----------------------------------------------------------------

    def _encode_carefully(self, draft: Draft, parts: ResourceParts) -> Encoded:
        """Make the event of a record that has more, or longer, values than an event."""
        given = draft.attributes
        names, left_out = self._choose_names(draft, parts)
        draft = draft._replace(
            part_b={
                name: value if value is None or not _is_own(value) else plain(value)
                for name, value in draft.part_b.items()
            },
            attributes={key: plain(value) for key, value in given.items()},
        )
        slots = self._slots(draft, parts, names, *_rest(given, left_out))
        encoded = self._fit(draft, parts, slots, is_fallback=False)
        if encoded is not None:
            if any(key != name for key, name in names.items()):
                self._renamed.add()
            return encoded
        # There are as many schemas as there may be.
        self._fallbacks.add()
        draft = draft._replace(event_name=self._default_name)
        slots = self._slots(draft, parts, {}, *_rest(given, [*names, *left_out]))
        encoded = self._fit(draft, parts, slots, is_fallback=True)
        assert encoded is not None  # noqa: S101 - a fallback is always admitted
        return encoded

    def _fit(
        self, draft: Draft, parts: ResourceParts, slots: list[Slot], *, is_fallback: bool
    ) -> Encoded | None:
        """Cut the largest values until the event is short enough; None if it is not admitted."""
        head = parts.head[draft.trace_id != NO_ID]((), draft.trace_id, draft.span_id, draft.time)
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
            metadata = self._metadata(draft, parts, cut)
            length = len(head) + sum(_encoded_size(slot.value) for slot in cut)
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
        encode = EventEncoder(Schema("", tuple(slot.field for slot in cut))).payload
        return metadata, head + encode([slot.value for slot in cut])

    def _with_told(self, slots: list[Slot], told: dict[str, int]) -> list[Slot]:
        """Add to PartC what was cut."""
        last = Slot("PartC", TRUNCATED, Json(json_text(told)))
        at = sum(slot.part == "PartC" for slot in slots) if self._is_c_first else len(slots)
        return [*slots[:at], last, *slots[at:]]


def _is_own(value: Any) -> bool:
    """Say whether a value of PartB is one that the function takes that encodes."""
    return type(value) not in {Constant, FromAttribute}


def _field_count(value: Any) -> int:
    """Return as how many fields a value counts."""
    return 2 if isinstance(value, (bytes, bytearray, memoryview)) else 1


def _rest(given: Mapping[Any, Any], keys: Iterable[Any]) -> list[Slot]:
    """Return what has the attributes that are no fields of their own; nothing if there is none."""
    rest: dict[str, Any] = {}
    for key in keys:
        rest[name_beside(safe_str(key), rest)] = given[key]
    return [Slot("PartC", REST, Json(json_text(rest)))] if rest else []


def _size(value: Any) -> int:
    """Return how many bytes of a value may be cut."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return len(value) if isinstance(value, bytes) else 0


def _encoded_size(value: Any) -> int:
    """Return how many bytes a value has in the payload."""
    number = NUMBER_BYTES.get(type(value))
    return 2 + _size(value) if number is None else number


def _cut(slot: Slot, most: int) -> Slot:
    """Keep so many bytes of a value. JSON is none any more then, but text."""
    if _size(slot.value) <= most:
        return slot
    if isinstance(slot.value, bytes):
        return slot._replace(value=slot.value[:most])
    data = slot.value.encode("utf-8", "surrogatepass")
    return slot._replace(value=data[:most].decode("utf-8", "ignore"))


def _largest_that_fits(sizes: Sequence[int], room: int) -> int:
    """Return to which size all larger ones must be cut so that their sum fits."""

    def total(most: int) -> int:
        return sum(min(size, most) for size in sizes)

    return max(bisect_right(range(_MOST_BYTES), room, key=total) - 1, 0)
