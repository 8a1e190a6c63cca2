"""The fields of an event, and the metadata blob that describes them within the event itself.

The blob is a size of 16 bits, event tags, the event's name, and then the fields one after the
other; the members of a struct follow it.

Source:
    The grammar in TraceLoggingDynamic.h, https://github.com/microsoft/tracelogging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

from eliot_etw.etw._types import InType, OutType
from eliot_etw.etw._values import decode_utf8, encode_utf8
from eliot_etw.exceptions import InvalidEvent

# Flags in the byte of the in type.
_TYPE, _FIXED, _VARIABLE, _CUSTOM, _CHAIN = 0x1F, 0x20, 0x40, 0x60, 0x80

MAX_FIELDS = 128
"""More fields than this most tools cannot decode. An array counts twice."""
MAX_DECODED_FIELDS = 1024
"""More than this are not even read: a hostile event could have 30,000, which take a second."""
MAX_MEMBERS = 127
"""The members of a struct are counted in 7 bits."""
MAX_METADATA_BYTES = 32_768
"""The longest metadata that Microsoft's own encoders make."""
MAX_DEPTH = 32
"""Structs may lie this deep within each other: nobody's do, and recursion has an end."""
MAX_TAGS = 0x0FFF_FFFF
"""Tags have 28 bits."""


@final
@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event, or of a struct within it.

    Attributes:
        name: What tools show; without NUL.
        in_type: How its value lies in the payload, one of `InType`.
        out_type: What its value means, one of `OutType`; a number of 7 bits if it is unknown.
        tags: 28 bits of the provider's own.
        is_array: Whether the payload holds a count (16 bits) and that many values.
        fixed_count: For an array whose length, 1 to 65,535, is the same in each event; else 0.
        members: The fields of a struct, 1 to 127.
        custom: For a value in an encoding of the provider's own: the description of it.
    """

    name: str
    in_type: int
    out_type: int = OutType.DEFAULT
    tags: int = 0
    is_array: bool = False
    fixed_count: int = 0
    members: tuple[Field, ...] = ()
    custom: bytes | None = None

    def __iter__(self) -> Iterator[Field]:
        """Give this field and all that lie within it, in the order of the metadata."""
        yield self
        for member in self.members:
            yield from member


@final
@dataclass(frozen=True, slots=True)
class Schema:
    """The name of an event and the fields that it has.

    Attributes:
        name: The event's name; without NUL.
        fields: Its outermost fields, in order.
        tags: 28 bits of the provider's own.
    """

    name: str
    fields: tuple[Field, ...] = ()
    tags: int = 0


def encode_metadata(schema: Schema) -> bytes:
    """Describe an event as ETW wants it (extended data item 11, data descriptor type 1).

    Returns:
        The metadata blob, its size in the first two bytes.

    Raises:
        InvalidEvent: If the schema is beyond what ETW's tools can decode.
    """
    fields = [field for outermost in schema.fields for field in outermost]
    count = len(fields) + sum(map(_counts_twice, fields))
    if count > MAX_FIELDS:
        msg = (
            f"an event must have at most {MAX_FIELDS} fields, got {count}. "
            "Put several values into one field as JSON."
        )
        raise InvalidEvent(msg)
    if max(map(_depth, schema.fields), default=0) > MAX_DEPTH:
        msg = f"structs must lie at most {MAX_DEPTH} deep, got {schema!r:.200}. Flatten them."
        raise InvalidEvent(msg)
    blob = b"".join(
        [_event_tags(schema.tags), _name(schema.name), *map(_encode_field, fields)],
    )
    size = len(blob) + 2
    if size > MAX_METADATA_BYTES:
        msg = (
            f"names of an event and its fields must fit into {MAX_METADATA_BYTES} bytes, "
            f"got {size}. Shorten the names."
        )
        raise InvalidEvent(msg)
    return size.to_bytes(2, "little") + blob


def _counts_twice(field: Field) -> bool:
    # A decoder shows the length of these as a field of its own.
    return field.is_array or field.fixed_count > 0 or field.in_type == InType.BINARY


def _depth(field: Field) -> int:
    return 1 + max(map(_depth, field.members)) if field.members else 0


def _name(name: str) -> bytes:
    if "\0" in name:
        msg = f"the name of an event or field must not contain NUL, got {name!r}. Remove it."
        raise InvalidEvent(msg)
    return encode_utf8(name) + b"\0"


def _encode_field(field: Field) -> bytes:
    in_type, out_type, tail = _checked(field), field.out_type, b""
    if in_type == InType.STRUCT:
        out_type = len(field.members)
    if field.custom is not None:
        in_type |= _CUSTOM
        tail = len(field.custom).to_bytes(2, "little") + field.custom
    elif field.fixed_count:
        in_type |= _FIXED
        tail = field.fixed_count.to_bytes(2, "little")
    elif field.is_array:
        in_type |= _VARIABLE
    if field.tags:
        types = bytes([in_type | _CHAIN, out_type | _CHAIN]) + _four_tag_bytes(field.tags)
    elif out_type:
        types = bytes([in_type | _CHAIN, out_type])
    else:
        types = bytes([in_type])
    return _name(field.name) + types + tail


def _checked(field: Field) -> int:
    """Return the in type of a field that can be encoded."""
    is_struct = field.in_type == InType.STRUCT
    rules = {
        "in_type must be one of InType": field.in_type in _IN_TYPES,
        "out_type must be 0 to 127": 0 <= field.out_type <= 127,
        "fixed_count must be 0 to 65535": 0 <= field.fixed_count <= 0xFFFF,
        "an array must have either is_array or fixed_count": not (
            field.is_array and field.fixed_count
        ),
        "custom must be at most 65535 bytes": len(field.custom or b"") <= 0xFFFF,
        "custom must stand alone": field.custom is None
        or not (is_struct or field.is_array or field.fixed_count),
        f"a struct must have 1 to {MAX_MEMBERS} members, anything else none": (
            1 <= len(field.members) <= MAX_MEMBERS if is_struct else not field.members
        ),
        "a struct must have no out_type": not (is_struct and field.out_type),
    }
    for rule, is_kept in rules.items():
        if not is_kept:
            msg = f"{rule}, got {field!r}. Make the field anew."
            raise InvalidEvent(msg)
    return field.in_type


_IN_TYPES = frozenset(InType)


def _check_tags(tags: int) -> None:
    if not 0 <= tags <= MAX_TAGS:
        msg = f"tags must be 0 to {MAX_TAGS:#x}, got {tags:#x}. Use the lowest 28 bits only."
        raise InvalidEvent(msg)


def _four_tag_bytes(tags: int) -> bytes:
    _check_tags(tags)
    groups = (tags >> 21 | 0x80, tags >> 14 | 0x80, tags >> 7 | 0x80, tags & 0x7F)
    return bytes(group & 0xFF for group in groups)


def _event_tags(tags: int) -> bytes:
    """Encode tags as short as Microsoft's encoders do: in 1, 2 or 4 bytes."""
    _check_tags(tags)
    if not tags & 0x1F_FFFF:
        return bytes([tags >> 21])
    if not tags & 0x3FFF:
        return bytes([tags >> 21 | 0x80, tags >> 14 & 0x7F])
    return _four_tag_bytes(tags)


def parse_metadata(metadata: bytes) -> Schema:
    """Read a metadata blob.

    Args:
        metadata: The blob, from a file that need not be sound. Bytes behind the size that it
            gives for itself are not looked at.

    Raises:
        InvalidEvent: If it is cut off, or has a type or nesting that nobody can decode.
    """
    return _MetadataParser(metadata).schema()


class _MetadataParser:
    """A place within a metadata blob."""

    __slots__ = ("_at", "_count_left", "_data")

    def __init__(self, metadata: bytes) -> None:
        size = int.from_bytes(metadata[:2], "little")
        if not 4 <= size <= len(metadata):
            msg = f"metadata must be as long as it says, got {len(metadata)} bytes for {size}."
            raise InvalidEvent(msg)
        self._data = metadata[:size]
        self._at = 2
        self._count_left = MAX_DECODED_FIELDS

    def schema(self) -> Schema:
        tags, name, fields = self._tags(), self._name(), []
        while self._at < len(self._data):
            fields.append(self._field(0))
        return Schema(name, tuple(fields), tags)

    def _bytes(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            msg = "metadata must not end within a field. The event is damaged."
            raise InvalidEvent(msg)
        return self._data[start : self._at]

    def _u8(self) -> int:
        return self._bytes(1)[0]

    def _u16(self) -> int:
        return int.from_bytes(self._bytes(2), "little")

    def _tags(self) -> int:
        tags, shift, more = 0, 21, True
        while more:
            group = self._u8()
            # Bits beyond 28 mean nothing.
            tags |= (group & 0x7F) << shift if shift >= 0 else 0
            more, shift = group >= 0x80, shift - 7
        return tags

    def _name(self) -> str:
        end = self._data.find(b"\0", self._at)
        # Behind the end where there is no NUL, for _bytes to refuse.
        size = (end if end >= 0 else len(self._data)) - self._at
        return decode_utf8(self._bytes(size + 1)[:-1])

    def _field(self, depth: int) -> Field:
        self._count_left -= 1
        if self._count_left < 0:
            msg = f"an event must have at most {MAX_DECODED_FIELDS} fields, got more."
            raise InvalidEvent(msg)
        name, byte, out_byte = self._name(), self._u8(), 0
        in_type, form = byte & _TYPE, byte & _CUSTOM
        if byte & _CHAIN:
            out_byte = self._u8()
        out_type, tags = out_byte & 0x7F, self._tags() if out_byte & _CHAIN else 0
        if in_type not in _IN_TYPES or (form == _CUSTOM and in_type == InType.STRUCT):
            msg = f"the type of a field must be a known one, got {byte:#04x} for {name!r}."
            raise InvalidEvent(msg)
        count = self._fixed_count(name) if form == _FIXED else 0
        custom = self._bytes(self._u16()) if form == _CUSTOM else None
        members: tuple[Field, ...] = ()
        if in_type == InType.STRUCT:
            members, out_type = tuple(self._members(name, out_type, depth + 1)), 0
        is_array = form == _VARIABLE
        return Field(name, in_type, out_type, tags, is_array, count, members, custom)

    def _fixed_count(self, name: str) -> int:
        # A value that takes no bytes could be repeated without end.
        count = self._u16()
        if not count:
            msg = f"an array of fixed length must not be empty, got {name!r} with 0 values."
            raise InvalidEvent(msg)
        return count

    def _members(self, name: str, count: int, depth: int) -> Iterable[Field]:
        if not count or depth > MAX_DEPTH:
            msg = (
                f"a struct must have members and lie at most {MAX_DEPTH} deep, "
                f"got {name!r} with {count} at depth {depth}."
            )
            raise InvalidEvent(msg)
        for _ in range(count):
            yield self._field(depth)
