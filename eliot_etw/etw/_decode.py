"""TraceLogging events, from the two blobs of which each consists to Python values.

What is read here comes from files of any origin: every count and size is held against what is
there, each value takes at least one byte, and nesting has an end, so that time and memory are
bounded by the length of the event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, NamedTuple, final

from eliot_etw.etw._schema import Field, Schema, parse_metadata
from eliot_etw.etw._types import InType
from eliot_etw.etw._values import Scalar, char_array_codec, scalar, sid_to_text, text_codec
from eliot_etw.exceptions import InvalidEvent

_Reader = Callable[[bytes, int, list[Any]], int]
"""Takes a payload, a place in it, and a list to which it adds the values that are there.

Returns the place behind them.
"""

_U16: Final = Struct("<H").unpack_from


@final
class DecodedEvent(NamedTuple):
    """An event: what its fields are, and what stands in them.

    A value is text, a number, a boolean, bytes, or one of `uuid.UUID`, `FileTime`, `SystemTime`,
    `ipaddress.IPv4Address` and `ipaddress.IPv6Address`; a SID is text. An array is a list, but
    text if it is of characters. A struct is a tuple with the values of its members, in their
    order: names may occur twice.
    """

    schema: Schema
    """The event's name, tags and fields with their types."""
    values: tuple[Any, ...]
    """The value of each of ``schema.fields``."""
    rest: bytes
    """What the payload has behind the last field; nothing in a sound event."""

    @property
    def name(self) -> str:
        """The name of the event."""
        return self.schema.name

    @property
    def tags(self) -> int:
        """28 bits of the provider's own, 0 if it uses none."""
        return self.schema.tags

    @property
    def fields(self) -> list[tuple[str, Any]]:
        """Name and value of each field in order; a name may occur twice."""
        return [
            (field.name, value)
            for field, value in zip(self.schema.fields, self.values, strict=True)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return all values by name, structs as dicts.

        A name that was there before gets the first free number: ``a``, ``a#2``, ``a#3``.
        """
        return _by_name(self.schema.fields, self.values)


def _by_name(fields: Sequence[Field], values: Sequence[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for field, value in zip(fields, values, strict=True):
        name = field.name
        while name in result:
            seen[field.name] = number = seen.get(field.name, 1) + 1
            name = f"{field.name}#{number}"
        result[name] = _named(field, value)
    return result


def _named(field: Field, value: Any) -> Any:
    if not field.members:
        return value
    if field.is_array or field.fixed_count:
        return [_by_name(field.members, element) for element in value]
    return _by_name(field.members, value)


def decode_event(metadata: bytes, payload: bytes, pointer_size_bytes: int = 8) -> DecodedEvent:
    """Decode a TraceLogging event.

    Args:
        metadata: Extended data item 11 of the event.
        payload: The event's own data.
        pointer_size_bytes: 4 if the event's header says that a 32-bit process wrote it, else 8.

    Raises:
        InvalidEvent: If the two are cut off or do not fit together.

    Source:
        The grammar in TraceLoggingDynamic.h, https://github.com/microsoft/tracelogging.
    """
    schema, readers = _KNOWN.find(metadata, pointer_size_bytes)
    values: list[Any] = []
    at = 0
    try:
        for read in readers:
            at = read(payload, at, values)
    except (struct_error, IndexError) as error:
        raise _too_short(payload) from error
    return DecodedEvent(schema, tuple(values), payload[at:])


def _too_short(payload: bytes) -> InvalidEvent:
    return InvalidEvent(
        f"a payload must hold all fields that the metadata names, got {len(payload)} bytes, "
        "which is too short. The event is damaged."
    )


@final
class _Known:
    """What was made of metadata seen before: parsing it takes longer than decoding by it."""

    # A field of 3 bytes takes some 500 in memory, so that a hostile file can make us keep 40 MB.
    # Sound metadata has 100 to 200 bytes: room for more than a thousand.
    MAX_BYTES = 1 << 18

    def __init__(self) -> None:
        self._found: dict[tuple[bytes, int], tuple[Schema, list[_Reader]]] = {}
        self._size_bytes = 0

    def find(self, metadata: bytes, pointer_size_bytes: int) -> tuple[Schema, list[_Reader]]:
        key = metadata, pointer_size_bytes
        found = self._found.get(key)
        if found is None:
            schema = parse_metadata(metadata)
            found = schema, _readers(schema.fields, pointer_size_bytes)
            # Two threads at a time may count wrongly; the next clearing puts it right.
            self._size_bytes += len(metadata)
            if self._size_bytes > self.MAX_BYTES:
                self._found = {}
                self._size_bytes = len(metadata)
            self._found[key] = found
        return found


_KNOWN = _Known()


def _readers(fields: Sequence[Field], pointer_size_bytes: int) -> list[_Reader]:
    """Return what reads fields one after the other, plain numbers side by side in one go."""
    readers: list[_Reader] = []
    letters = ""
    for field in fields:
        letter = _plain_number(field, pointer_size_bytes)
        if letter is None and letters:
            readers.append(_numbers_reader(letters))
            letters = ""
        if letter is None:
            readers.append(_reader(field, pointer_size_bytes))
        else:
            letters += letter
    if letters:
        readers.append(_numbers_reader(letters))
    return readers


def _plain_number(field: Field, pointer_size_bytes: int) -> str | None:
    """Return the letter of a number that is nothing but a number, as most are."""
    if field.is_array or field.fixed_count or field.custom is not None:
        return None
    packing = scalar(field.in_type, field.out_type, pointer_size_bytes)
    if packing is None or packing.codec is not None or packing.format[0] != "<":
        return None
    return packing.format[1:]


def _numbers_reader(letters: str) -> _Reader:
    packing = Struct("<" + letters)
    unpack, size = packing.unpack_from, packing.size

    def read(payload: bytes, at: int, values: list[Any]) -> int:
        values += unpack(payload, at)
        return at + size

    return read


def _reader(field: Field, pointer_size_bytes: int) -> _Reader:
    """Return what reads the values of a field."""
    if field.custom is not None:
        return _counted_reader(bytes)
    is_many = field.is_array or field.fixed_count > 0
    chars = char_array_codec(field.in_type, field.out_type)
    if chars is not None and is_many:
        return _chars_reader(chars[0].decode, chars[1], field.fixed_count)
    if field.in_type == InType.STRUCT:
        read = _struct_reader(_readers(field.members, pointer_size_bytes))
    else:
        read = _value_reader(field, pointer_size_bytes)
    return _array_reader(read, field.fixed_count) if is_many else read


def _value_reader(field: Field, pointer_size_bytes: int) -> _Reader:
    in_type, out_type = field.in_type, field.out_type
    packing = scalar(in_type, out_type, pointer_size_bytes)
    if packing is not None:
        return _scalar_reader(packing)
    if in_type == InType.SID:
        return _read_sid
    decode = text_codec(in_type, out_type).decode
    if in_type == InType.UTF16_Z:
        return _utf16_z_reader(decode)
    if in_type == InType.ANSI_Z:
        return _ansi_z_reader(decode)
    return _counted_reader(decode)


def _scalar_reader(scalar: Scalar) -> _Reader:
    packing = Struct(scalar.format)
    unpack, size = packing.unpack_from, packing.size
    convert = scalar.codec.decode if scalar.codec is not None else None

    def read(payload: bytes, at: int, values: list[Any]) -> int:
        (value,) = unpack(payload, at)
        values.append(value if convert is None else convert(value))
        return at + size

    return read


def _counted_reader(decode: Callable[[bytes], Any]) -> _Reader:
    def read(payload: bytes, at: int, values: list[Any]) -> int:
        end: int = at + 2 + _U16(payload, at)[0]
        if end > len(payload):
            raise _too_short(payload)
        values.append(decode(payload[at + 2 : end]))
        return end

    return read


def _chars_reader(decode: Callable[[bytes], str], size: int, fixed_count: int) -> _Reader:
    def read(payload: bytes, at: int, values: list[Any]) -> int:
        count = fixed_count
        if not count:
            count, at = _U16(payload, at)[0], at + 2
        end = at + count * size
        if end > len(payload):
            raise _too_short(payload)
        values.append(decode(payload[at:end]))
        return end

    return read


def _read_sid(payload: bytes, at: int, values: list[Any]) -> int:
    end: int = at + 8 + 4 * payload[at + 1]
    if end > len(payload):
        raise _too_short(payload)
    values.append(sid_to_text(payload[at:end]))
    return end


def _ansi_z_reader(decode: Callable[[bytes], str]) -> _Reader:
    def read(payload: bytes, at: int, values: list[Any]) -> int:
        end = payload.find(b"\0", at)
        if end < 0:
            end = _end_without_nul(payload, at)
        values.append(decode(payload[at:end]))
        return end + 1

    return read


def _utf16_z_reader(decode: Callable[[bytes], str]) -> _Reader:
    def read(payload: bytes, at: int, values: list[Any]) -> int:
        end = payload.find(b"\0\0", at)
        while end >= 0 and (end - at) % 2:
            end = payload.find(b"\0\0", end + 1)
        if end < 0:
            end = _end_without_nul(payload, at)
        values.append(decode(payload[at:end]))
        return end + 2

    return read


def _end_without_nul(payload: bytes, at: int) -> int:
    """Return where text ends that some providers write last, without its NUL."""
    if at >= len(payload):
        raise _too_short(payload)
    return len(payload)


def _struct_reader(readers: list[_Reader]) -> _Reader:
    def read(payload: bytes, at: int, values: list[Any]) -> int:
        members: list[Any] = []
        for read_member in readers:
            at = read_member(payload, at, members)
        values.append(tuple(members))
        return at

    return read


def _array_reader(read_element: _Reader, fixed_count: int) -> _Reader:
    def read(payload: bytes, at: int, values: list[Any]) -> int:
        count = fixed_count
        if not count:
            count, at = _U16(payload, at)[0], at + 2
        elements: list[Any] = []
        for _ in range(count):
            at = read_element(payload, at, elements)
        values.append(elements)
        return at

    return read
