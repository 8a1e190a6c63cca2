"""Values of fields, both ways: what stands in the payload <-> what Python has for it."""

from __future__ import annotations

from codecs import charmap_build, charmap_decode, charmap_encode
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Any, Final, NamedTuple, final
from uuid import UUID

from eliot_etw.etw._types import InType, OutType

_FILETIME_EPOCH = datetime(1601, 1, 1, tzinfo=timezone.utc)


@final
class FileTime(int):
    """A time as Windows counts it: steps of 100 ns since 1601-01-01 UTC.

    A number, as `datetime` has neither the resolution nor the range.

    >>> FileTime(133_170_048_000_000_001)
    FileTime(133170048000000001)
    >>> FileTime(133_170_048_000_000_001).to_datetime()
    datetime.datetime(2023, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    >>> FileTime.from_datetime(datetime(2023, 1, 1, tzinfo=timezone.utc)) + 1
    133170048000000001
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"FileTime({int(self)})"

    @classmethod
    def from_datetime(cls, time: datetime) -> FileTime:
        """Count the steps up to a time, exactly.

        Raises:
            ValueError: If it has no time zone: it would mean another time on another machine.
        """
        if time.tzinfo is None:
            msg = (
                f"a datetime must have a time zone, got {time!r}. Use datetime.now(timezone.utc)."
            )
            raise ValueError(msg)
        since = time - _FILETIME_EPOCH
        return cls((since.days * 86_400 + since.seconds) * 10_000_000 + since.microseconds * 10)

    def to_datetime(self) -> datetime:
        """Return the time in UTC, cut to whole microseconds.

        Raises:
            OverflowError: If it is after the year 9999.
        """
        return _FILETIME_EPOCH + timedelta(microseconds=self // 10)


@final
class SystemTime(NamedTuple):
    """A date as Windows has it in 16 bytes; nobody has checked that there is such a date."""

    year: int
    month: int
    day_of_week: int
    """0 for Sunday."""
    day: int
    hour: int
    minute: int
    second: int
    millisecond: int


_SYSTEM_TIME = Struct("<8H")
_SID_FIRST = Struct(">Q")


def sid_to_text(sid: bytes) -> str:
    """Write a security identifier as Windows shows it.

    >>> sid_to_text(bytes([1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]))
    'S-1-5-18'

    Source:
        [MS-DTYP] 2.4.2.1; the authority is in hexadecimal from 2**32 on.
    """
    authority = int.from_bytes(sid[2:8], "big")
    parts = [str(sid[0]), str(authority) if authority < 1 << 32 else f"{authority:#014x}"]
    parts += [str(int.from_bytes(sid[at : at + 4], "little")) for at in range(8, len(sid), 4)]
    return "-".join(["S", *parts])


def sid_from_text(text: str) -> bytes:
    """Read what `sid_to_text` wrote.

    Raises:
        ValueError: If it is not of that form.
        OverflowError: If one of the numbers is too large for its place.
    """
    letter, revision, authority, *rest = text.split("-")
    if letter != "S":
        msg = f"a SID must begin with 'S-', got {text!r}. Pass it as Windows shows it."
        raise ValueError(msg)
    head = bytes([int(revision), len(rest)]) + int(authority, 0).to_bytes(6, "big")
    return head + b"".join(int(number).to_bytes(4, "little") for number in rest)


# What Windows does with the five bytes that cp1252 leaves open: they stay what they are.
_CP1252: Final = "".join(
    bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)
)
_CP1252_BACK: Final = charmap_build(_CP1252)


def _decode_cp1252(text: bytes) -> str:
    return charmap_decode(text, "strict", _CP1252)[0]


def _encode_cp1252(text: str) -> bytes:
    return charmap_encode(text, "strict", _CP1252_BACK)[0]


def decode_utf8(text: bytes) -> str:
    r"""Read UTF-8, with lone surrogates; what is no UTF-8 at all is shown as ``\x..``."""
    try:
        return text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return text.decode("utf-8", "backslashreplace")


def encode_utf8(text: str) -> bytes:
    """Write UTF-8, with lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def _decode_utf16(text: bytes) -> str:
    try:
        return text.decode("utf-16-le", "surrogatepass")
    except UnicodeDecodeError:
        return text.decode("utf-16-le", "backslashreplace")


def _encode_utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


@final
class Codec(NamedTuple):
    """How the bytes of one value are read and written."""

    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]


_UTF8 = Codec(decode_utf8, encode_utf8)
_UTF16 = Codec(_decode_utf16, _encode_utf16)
_ANSI = Codec(_decode_cp1252, _encode_cp1252)
_BYTES = Codec(bytes, bytes)


def _ipv6_or_bytes(data: bytes) -> IPv6Address | bytes:
    return IPv6Address(data) if len(data) == 16 else data


def _packed(value: IPv6Address | bytes) -> bytes:
    return value.packed if isinstance(value, IPv6Address) else bytes(value)


_IPV6 = Codec(_ipv6_or_bytes, _packed)

# Of these out types, text of one byte a character is UTF-8.
_ARE_UTF8 = (OutType.UTF8, OutType.XML, OutType.JSON)


def text_codec(in_type: int, out_type: int) -> Codec:
    """Return how text or bytes of this type are read and written, without count and NUL."""
    if in_type in {InType.UTF16, InType.UTF16_Z}:
        return _UTF16
    if in_type in {InType.ANSI, InType.ANSI_Z}:
        return _UTF8 if out_type in _ARE_UTF8 else _ANSI
    return _IPV6 if out_type == OutType.IPV6 else _BYTES


def char_array_codec(in_type: int, out_type: int) -> tuple[Codec, int] | None:
    """Return how an array of characters is text, and their size in bytes; None for others."""
    if out_type != OutType.STRING:
        return None
    if in_type == InType.UINT16:
        return _UTF16, 2
    return (_ANSI, 1) if in_type in {InType.INT8, InType.UINT8} else None


def _to_ticks(time: datetime | int) -> int:
    return FileTime.from_datetime(time) if isinstance(time, datetime) else time


def _guid_from(data: bytes) -> UUID:
    return UUID(bytes_le=data)


def _guid_to(guid: UUID) -> bytes:
    return guid.bytes_le


def _ansi_char_from(number: int) -> str:
    return _CP1252[number & 0xFF]


def _uint8_char_to(char: str) -> int:
    return _encode_cp1252(char)[0]


def _int8_char_to(char: str) -> int:
    return int.from_bytes(_encode_cp1252(char), "little", signed=True)


@final
class Scalar(NamedTuple):
    """How a value of a fixed number of bytes is packed, and what it is besides a number."""

    format: str
    """As the module `struct` wants it."""
    codec: Codec | None = None


_BOOL = Codec(bool, bool)

_SCALARS: Final[dict[int, Scalar]] = {
    InType.INT8: Scalar("<b"),
    InType.UINT8: Scalar("<B"),
    InType.INT16: Scalar("<h"),
    InType.UINT16: Scalar("<H"),
    InType.INT32: Scalar("<i"),
    InType.UINT32: Scalar("<I"),
    InType.INT64: Scalar("<q"),
    InType.UINT64: Scalar("<Q"),
    InType.FLOAT32: Scalar("<f"),
    InType.FLOAT64: Scalar("<d"),
    InType.BOOL32: Scalar("<i", _BOOL),
    InType.GUID: Scalar("<16s", Codec(_guid_from, _guid_to)),
    InType.FILETIME: Scalar("<Q", Codec(FileTime, _to_ticks)),
    InType.SYSTEMTIME: Scalar(
        "<16s",
        Codec(
            lambda data: SystemTime._make(_SYSTEM_TIME.unpack(data)),
            lambda time: _SYSTEM_TIME.pack(*time),
        ),
    ),
    InType.HEX_INT32: Scalar("<I"),
    InType.HEX_INT64: Scalar("<Q"),
}

_SHOWN_OTHERWISE: Final[dict[tuple[int, int], Scalar]] = {
    (InType.INT8, OutType.BOOLEAN): Scalar("<b", _BOOL),
    (InType.UINT8, OutType.BOOLEAN): Scalar("<B", _BOOL),
    (InType.INT8, OutType.STRING): Scalar("<b", Codec(_ansi_char_from, _int8_char_to)),
    (InType.UINT8, OutType.STRING): Scalar("<B", Codec(_ansi_char_from, _uint8_char_to)),
    (InType.UINT16, OutType.STRING): Scalar("<H", Codec(chr, ord)),
    (InType.UINT16, OutType.PORT): Scalar(">H"),
    (InType.UINT32, OutType.IPV4): Scalar(
        "<4s", Codec(IPv4Address, lambda address: address.packed)
    ),
}


def scalar(in_type: int, out_type: int, pointer_size_bytes: int) -> Scalar | None:
    """Return how values of this type are packed, or None if their size differs."""
    if in_type == InType.POINTER:
        in_type = InType.HEX_INT64 if pointer_size_bytes == 8 else InType.HEX_INT32
    return _SHOWN_OTHERWISE.get((in_type, out_type)) or _SCALARS.get(in_type)
