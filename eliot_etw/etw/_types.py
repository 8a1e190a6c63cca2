"""What a field of a TraceLogging event can be: in types (its bytes) and out types (its meaning).

Source:
    TraceLoggingDynamic.h in https://github.com/microsoft/tracelogging, and TDH_IN_TYPE and
    TDH_OUT_TYPE in the Windows SDK.
"""

from enum import IntEnum
from typing import final


@final
class InType(IntEnum):
    """How the value of a field lies in the payload. Numbers are little-endian."""

    UTF16_Z = 1
    """UTF-16 text up to a NUL."""
    ANSI_Z = 2
    """Text of one byte a character (cp1252), or UTF-8 if the out type says so, up to a NUL."""
    INT8 = 3
    UINT8 = 4
    INT16 = 5
    UINT16 = 6
    INT32 = 7
    UINT32 = 8
    INT64 = 9
    UINT64 = 10
    FLOAT32 = 11
    FLOAT64 = 12
    BOOL32 = 13
    BINARY = 14
    """Bytes, after their number as 16 bits."""
    GUID = 15
    POINTER = 16
    """A number as wide as a pointer of the process that wrote the event."""
    FILETIME = 17
    """Steps of 100 ns since 1601-01-01 UTC, as 64 bits without a sign."""
    SYSTEMTIME = 18
    """Year, month, day of the week, day, hour, minute, second, millisecond: 16 bits each."""
    SID = 19
    HEX_INT32 = 20
    HEX_INT64 = 21
    UTF16 = 22
    """UTF-16 text, after the number of its bytes as 16 bits."""
    ANSI = 23
    """Text like that of `ANSI_Z`, after the number of its bytes as 16 bits."""
    STRUCT = 24
    """The fields that follow; nothing in the payload."""
    COUNTED_BINARY = 25
    """Like `BINARY`, but for decoders from Windows 10 1809 on."""


@final
class OutType(IntEnum):
    """How a tool shall show the value of a field."""

    DEFAULT = 0
    NO_PRINT = 1
    STRING = 2
    """A number that is one character."""
    BOOLEAN = 3
    HEX = 4
    PID = 5
    TID = 6
    PORT = 7
    """A 16-bit number in network byte order."""
    IPV4 = 8
    IPV6 = 9
    SOCKET_ADDRESS = 10
    XML = 11
    JSON = 12
    WIN32_ERROR = 13
    NTSTATUS = 14
    HRESULT = 15
    DATETIME = 16
    SIGNED = 17
    UNSIGNED = 18
    DATETIME_CULTURE_INSENSITIVE = 33
    UTF8 = 35
    PKCS7 = 36
    CODE_POINTER = 37
    DATETIME_UTC = 38
