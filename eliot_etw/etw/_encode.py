"""Python values to TraceLogging events, for a schema that is encoded once and used often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, final
from uuid import UUID

from eliot_etw.etw._guid import as_guid, checked_name
from eliot_etw.etw._schema import Field, Schema, encode_metadata
from eliot_etw.etw._types import InType
from eliot_etw.etw._values import (
    Scalar,
    char_array_codec,
    encode_utf8,
    scalar,
    sid_from_text,
    text_codec,
)
from eliot_etw.exceptions import InvalidEvent

_Writer = Callable[[Any], bytes]

_U16: Final = Struct("<H").pack

MAX_EVENT_BYTES = 65_535
"""ETW drops an event that is longer than this with all its headers."""
_HEADER_BYTES = 80
_RELATED_ACTIVITY_BYTES = 24
_GROUP_TRAIT = 1

# What the writers raise for a value that the type of its field has no room for.
_UNFIT = (struct_error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@final
class EventEncoder:
    """Encodes events of one schema.

    Nothing changes after construction, so that all threads may share one.

    Attributes:
        schema: The event's name, tags and fields.
        metadata: The blob that describes them: extended data item 11, or data descriptor type 1.
    """

    __slots__ = ("_encode", "_writers", "metadata", "schema")

    def __init__(self, schema: Schema, pointer_size_bytes: int = 8) -> None:
        """Prepare for events of a schema.

        Args:
            schema: The event's name, tags and fields.
            pointer_size_bytes: 4 or 8, for fields of the type `InType.POINTER`.

        Raises:
            InvalidEvent: If the schema is beyond what ETW's tools can decode.
        """
        self.schema = schema
        self.metadata = encode_metadata(schema)
        self._writers = [_writer(field, pointer_size_bytes) for field in schema.fields]
        program = _Program()
        for field, write in zip(schema.fields, self._writers, strict=True):
            program.add(field, write, pointer_size_bytes)
        self._encode = program.function()

    def payload(self, values: Sequence[Any]) -> bytes:
        """Encode the values of one event.

        Args:
            values: One for each field, as in `DecodedEvent`. A `datetime` with a time zone will do
                for a `FileTime`.

        Raises:
            InvalidEvent: If a value does not fit the type of its field: text longer than 65,535
                bytes, a NUL in text that ends at a NUL, a number out of range.
        """
        try:
            return self._encode(values)
        except _UNFIT as error:
            raise self._explained(values, error) from error

    def _explained(self, values: Sequence[Any], error: Exception) -> InvalidEvent:
        """Find the value that cannot be written, by trying again."""
        for field, write, value in zip(self.schema.fields, self._writers, values, strict=False):
            try:
                write(value)
            except _UNFIT as cause:
                text = repr(value)
                return InvalidEvent(
                    f"the value of a field must fit its type, got "
                    f"{text if len(text) < 200 else text[:200] + '...'} for {field.name!r} "
                    f"({InType(field.in_type).name}: {cause}). Cut it, or choose another type."
                )
        return InvalidEvent(
            f"there must be one value for each of {len(self.schema.fields)} fields, "
            f"got {len(values)} ({error}). Pass all of them in the order of the schema."
        )


def payload_limit_bytes(metadata: bytes, traits: bytes, *, has_related_activity: bool) -> int:
    """Return how long a payload may be, in bytes, so that ETW does not drop the event.

    Less than 0 if not even the metadata fits.

    Args:
        metadata: What describes the event, from `EventEncoder.metadata`.
        traits: What describes the provider, from `provider_traits`.
        has_related_activity: Whether the event names another activity than its own.
    """
    items = sum(8 + (len(blob) + 7 & ~7) for blob in (metadata, traits))
    items += _RELATED_ACTIVITY_BYTES if has_related_activity else 0
    return MAX_EVENT_BYTES - _HEADER_BYTES - items


def provider_traits(name: str, group: UUID | str | None = None) -> bytes:
    """Describe a provider as ETW wants it (extended data item 12, data descriptor type 2).

    Args:
        name: What the provider is called.
        group: The GUID of a group of providers that it belongs to.

    Raises:
        ValueError: If the name is none that all tools can work with, or is too long, or the group
            is no GUID.
    """
    traits = checked_name(name).encode() + b"\0"
    if group is not None:
        traits += _U16(19) + bytes([_GROUP_TRAIT]) + as_guid(group).bytes_le
    size = len(traits) + 2
    if size > 0xFFFF:
        msg = f"a provider's name must be short, got {len(name)} characters. Take a shorter one."
        raise ValueError(msg)
    return _U16(size) + traits


@final
class _Program:
    """The function that writes all fields, numbers that follow one another in one go.

    For two texts and a number it would be::

        def encode(values):
            v0, v1, v2, = values
            b0 = v0.encode("utf-8", "surrogatepass")
            b1 = v1.encode("utf-8", "surrogatepass")
            return b"".join((p0(len(b0)), b0, p2(len(b1)), b1, p4(v2), ))

    To call a writer for each field takes four times as long (3 texts and 4 numbers).
    To make the function takes as long as 300 calls of it.
    """

    def __init__(self) -> None:
        self._names: dict[str, Any] = {}
        self._taken: list[str] = []
        self._texts: list[str] = []
        self._parts: list[str] = []
        self._run: list[tuple[str, str]] = []

    def add(self, field: Field, write: _Writer, pointer_size_bytes: int) -> None:
        """Go on with a field."""
        index = len(self._taken)
        self._taken.append(f"v{index}")
        packing = None if _is_many(field) else _little_endian(field, pointer_size_bytes)
        if packing is not None:
            number = f"v{index}"
            if packing.codec is not None:
                self._names[f"c{index}"] = packing.codec.encode
                number = f"c{index}(v{index})"
            self._run.append((packing.format[1:], number))
        elif write is _write_utf8:
            self._texts.append(f'    b{index} = v{index}.encode("utf-8", "surrogatepass")\n')
            self._run.append(("H", f"len(b{index})"))
            self._end_run()
            self._parts.append(f"b{index}")
        else:
            self._end_run()
            self._names[f"w{index}"] = write
            self._parts.append(f"w{index}(v{index})")

    def _end_run(self) -> None:
        if self._run:
            formats, numbers = zip(*self._run, strict=True)
            name = f"p{len(self._parts)}"
            self._names[name] = Struct("<" + "".join(formats)).pack
            self._parts.append(f"{name}({', '.join(numbers)})")
            self._run.clear()

    def function(self) -> Callable[[Sequence[Any]], bytes]:
        """Return what takes the values of all fields and gives the payload."""
        self._end_run()
        taken = "".join(f"{name}, " for name in self._taken) or "()"
        given = "".join(f"{part}, " for part in self._parts)
        source = (
            f"def encode(values):\n    {taken} = values\n{''.join(self._texts)}"
            f'    return b"".join(({given}))'
        )
        exec(source, self._names)  # noqa: S102 - no word in it is from outside
        encode: Callable[[Sequence[Any]], bytes] = self._names["encode"]
        return encode


def _is_many(field: Field) -> bool:
    return field.is_array or field.fixed_count > 0 or field.custom is not None


def _little_endian(field: Field, pointer_size_bytes: int) -> Scalar | None:
    """Return how a number is packed if it may be packed with others."""
    packing = scalar(field.in_type, field.out_type, pointer_size_bytes)
    return packing if packing is not None and packing.format[0] == "<" else None


def _writer(field: Field, pointer_size_bytes: int) -> _Writer:
    """Return what writes the values of a field."""
    if field.custom is not None:
        return _counted_writer(bytes)
    chars = char_array_codec(field.in_type, field.out_type)
    if chars is not None and _is_many(field):
        return _chars_writer(chars[0].encode, chars[1], field.fixed_count)
    if field.in_type == InType.STRUCT:
        write = _struct_writer([_writer(member, pointer_size_bytes) for member in field.members])
    else:
        write = _value_writer(field, pointer_size_bytes)
    if field.is_array:
        return _array_writer(write)
    if field.fixed_count:
        return _fixed_array_writer(write, field.fixed_count)
    return write


def _value_writer(field: Field, pointer_size_bytes: int) -> _Writer:
    in_type, out_type = field.in_type, field.out_type
    packing = scalar(in_type, out_type, pointer_size_bytes)
    if packing is not None:
        pack = Struct(packing.format).pack
        return pack if packing.codec is None else _scalar_writer(pack, packing.codec.encode)
    if in_type == InType.SID:
        return sid_from_text
    encode = text_codec(in_type, out_type).encode
    if in_type == InType.UTF16_Z:
        return _z_writer(encode, b"\0\0")
    if in_type == InType.ANSI_Z:
        return _z_writer(encode, b"\0")
    return _write_utf8 if encode is encode_utf8 else _counted_writer(encode)


def _scalar_writer(pack: Callable[[Any], bytes], convert: Callable[[Any], Any]) -> _Writer:
    def write(value: Any) -> bytes:
        return pack(convert(value))

    return write


def _write_utf8(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return _U16(len(data)) + data


def _counted_writer(encode: Callable[[Any], bytes]) -> _Writer:
    def write(value: Any) -> bytes:
        data = encode(value)
        return _U16(len(data)) + data

    return write


def _chars_writer(encode: Callable[[str], bytes], size: int, fixed_count: int) -> _Writer:
    def write(text: str) -> bytes:
        data = encode(text)
        count = len(data) // size
        if not fixed_count:
            return _U16(count) + data
        _check_count(count, fixed_count)
        return data

    return write


def _check_count(count: int, fixed_count: int) -> None:
    if count != fixed_count:
        msg = f"it must have {fixed_count} elements"
        raise ValueError(msg)


def _z_writer(encode: Callable[[str], bytes], end: bytes) -> _Writer:
    def write(text: str) -> bytes:
        if "\0" in text:
            msg = "it would end at its NUL"
            raise ValueError(msg)
        return encode(text) + end

    return write


def _struct_writer(writers: list[_Writer]) -> _Writer:
    def write(values: Sequence[Any]) -> bytes:
        return b"".join([write(value) for write, value in zip(writers, values, strict=True)])

    return write


def _array_writer(write_element: _Writer) -> _Writer:
    def write(elements: Sequence[Any]) -> bytes:
        return _U16(len(elements)) + b"".join(map(write_element, elements))

    return write


def _fixed_array_writer(write_element: _Writer, count: int) -> _Writer:
    def write(elements: Sequence[Any]) -> bytes:
        _check_count(len(elements), count)
        return b"".join(map(write_element, elements))

    return write
