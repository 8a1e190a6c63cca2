"""The calls of Windows that a provider of events needs, and who looks after one, by ctypes.

This is the one module that knows how Windows is called. It imports on every system, and loads
nothing before `current_api` is asked for it. `eliot_etw.testing.RecordingEtw` takes its place in
tests.

Source:
    evntprov.h, evntrace.h and evntcons.h of the Windows SDK;
    https://learn.microsoft.com/windows/win32/api/evntprov/ and .../evntrace/.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from itertools import count
from struct import Struct
from threading import get_ident
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias, final
from uuid import UUID

OnChange: TypeAlias = Callable[[int, int, int, int], None]
"""Is called with a control code, a level, and the keywords of which any and all must match."""


class Writer(Protocol):
    """Writes one event, to all who listen. It never raises."""

    def __call__(
        self,
        descriptor: bytes,
        metadata: bytes,
        payload: bytes,
        activity: bytes | None = None,
        related: bytes | None = None,
        /,
    ) -> int:
        """Write an event.

        Args:
            descriptor: 16 bytes, an ``EVENT_DESCRIPTOR``.
            metadata: What describes the event.
            payload: The values of its fields.
            activity: The 16 bytes of the activity's id; None for the one of the thread.
            related: The 16 bytes of the related activity's id, if there is one.

        Returns:
            A Win32 error code: 0 for success, which it is also if nobody listens; 6 after the end
            of the registration; 8 if buffers cannot be written to disk fast enough, 234 if the
            event is longer than a session's buffers, 534 if it is longer than 64 KiB.
        """


# Codes of winerror.h.
SUCCESS: Final = 0
ACCESS_DENIED: Final = 5
INVALID_HANDLE: Final = 6
NOT_ENOUGH_MEMORY: Final = 8
NOT_SUPPORTED: Final = 50
INVALID_PARAMETER: Final = 87
INSUFFICIENT_BUFFER: Final = 122
BUSY: Final = 170
MORE_DATA: Final = 234
ARITHMETIC_OVERFLOW: Final = 534
GUID_NOT_FOUND: Final = 4200

# What the callback of a registration is told: nobody listens any more; somebody does, or does
# otherwise than before; and a third, that is none of these.
DISABLE: Final = 0
ENABLE: Final = 1

_SET_TRAITS = 2
_GUID_QUERY_INFO = 1
# Before Windows 10 there are no more, and to ask for more is an error.
_MOST_SESSIONS = 64
_NAME_CHARS = 1024
_SEARCH_SYSTEM32 = 0x800

_NEEDS_WINDOWS = (
    f"Event Tracing for Windows needs Windows, this is {sys.platform}. "
    "Use EtlFileDestination here, and RecordingEtw in tests."
)

# Address, size and type of each piece of an event.
_FIRST_PIECE: Final = Struct("=QII").pack
_THREE_PIECES: Final = Struct("=16sQIIQII").pack
# Where CPython has the first byte of a bytes object: behind its head, which is counted with the
# NUL at the end.
_HEAD_BYTES = bytes.__basicsize__ - 1


class EtwApi(Protocol):
    """What a provider needs of Windows. Handles are numbers, never 0."""

    def register(self, guid: UUID, on_change: OnChange) -> int:
        """Register a provider.

        Args:
            guid: Which provider it is.
            on_change: Is called whenever somebody begins or stops to listen, on any thread, and
                perhaps before this returns.

        Returns:
            The handle.

        Raises:
            OSError: If Windows refuses.
        """

    def set_traits(self, handle: int, traits: bytes) -> int:
        """Tell a provider's name and group. Returns a Win32 error code, 0 for success."""

    def unregister(self, handle: int) -> int:
        """End a registration, after which nothing calls back. Returns a Win32 error code."""

    def writer(self, handle: int, traits: bytes) -> Writer:
        """Return what writes events of a registered provider.

        Args:
            handle: What `register` returned.
            traits: What describes the provider: it goes with each event.
        """


@final
class Win32Api:
    """Calls the functions of a library that has what ``evntprov.h`` declares.

    All threads may call at any time. There is no lock, for Windows may wait in `unregister` until
    a callback is over, and in none of these calls may a callback have to wait for another thread.
    """

    def __init__(self, library: Any, function_type: Callable[..., Any]) -> None:
        """Prepare for calls.

        Args:
            library: As ctypes loads it; nobody else should use the same object.
            function_type: What makes the type of a callback: `ctypes.WINFUNCTYPE` for Windows.

        Raises:
            OSError: If this Python is not CPython.
        """
        probe = b"probe"
        if ctypes.cast(ctypes.c_char_p(probe), ctypes.c_void_p).value != id(probe) + _HEAD_BYTES:
            msg = (
                "Event Tracing for Windows needs CPython, where the place of bytes in memory is "
                f"known, this is {sys.implementation.name}. Use EtlFileDestination here."
            )
            raise OSError(msg)
        self._register = library.EventRegister
        self._unregister = library.EventUnregister
        self._write = library.EventWriteTransfer
        # Windows 7 before its updates has no such function.
        self._set_information = getattr(library, "EventSetInformation", None)
        for function in (self._register, self._unregister, self._write, self._set_information):
            if function is not None:
                function.restype = ctypes.c_uint32
        # One for all registrations, which lives as long as this object: what is called late is
        # still there, finds nobody who wants to know, and returns.
        self._callback = function_type(
            None,
            ctypes.c_void_p,  # the session's GUID
            ctypes.c_uint32,
            ctypes.c_ubyte,
            ctypes.c_uint64,
            ctypes.c_uint64,
            ctypes.c_void_p,  # a filter
            ctypes.c_void_p,  # the context: a number of ours
        )(self._on_change)
        self._numbers = count(1)
        self._listeners: dict[int, OnChange] = {}
        self._contexts: dict[int, int] = {}
        # What ctypes makes of a handle for a call; it takes a fifth of the call to make it anew.
        self._handles: dict[int, Any] = {}
        self._threads_in_callback: set[int] = set()

    def _on_change(
        self,
        _source: int | None,
        code: int,
        level: int,
        match_any: int,
        match_all: int,
        _filter: int | None,
        context: int | None,
    ) -> None:
        """Pass on what Windows calls back with."""
        listener = self._listeners.get(context or 0)
        if listener is None:
            return
        thread = get_ident()
        self._threads_in_callback.add(thread)
        try:
            listener(code, level, match_any, match_all)
        finally:
            self._threads_in_callback.discard(thread)

    def register(self, guid: UUID, on_change: OnChange) -> int:
        """Register a provider, as in `EtwApi`."""
        context = next(self._numbers)
        self._listeners[context] = on_change
        handle = ctypes.c_uint64()
        code = self._register(
            guid.bytes_le, self._callback, ctypes.c_void_p(context), ctypes.byref(handle)
        )
        if code:
            del self._listeners[context]
            raise registration_error(guid, code)
        number = handle.value
        self._contexts[number] = context
        self._handles[number] = ctypes.c_uint64.from_param(number)
        return number

    def set_traits(self, handle: int, traits: bytes) -> int:
        """Tell a provider's name and group, as in `EtwApi`."""
        if self._set_information is None:
            return NOT_SUPPORTED
        code: int = self._set_information(
            ctypes.c_uint64(handle),
            ctypes.c_uint32(_SET_TRAITS),
            traits,
            ctypes.c_uint32(len(traits)),
        )
        return code

    def unregister(self, handle: int) -> int:
        """End a registration, as in `EtwApi`.

        Within a callback it only has no more callbacks passed on, and returns `BUSY`: Windows
        would wait until the callback is over, which would be for ever.
        """
        self._handles.pop(handle, None)
        # Whoever takes it out is the only one who ends it.
        context = self._contexts.pop(handle, None)
        if context is None:
            return INVALID_HANDLE
        self._listeners.pop(context, None)
        if get_ident() in self._threads_in_callback:
            self._contexts[handle] = context
            return BUSY
        code: int = self._unregister(ctypes.c_uint64(handle))
        return code

    def writer(self, handle: int, traits: bytes) -> Writer:
        """Return what writes events, as in `EtwApi`.

        The three pieces of an event are passed where they lie, in bytes objects that never change
        and that live until the call is over, because the arguments of the function hold them.
        Their addresses and sizes are packed into a bytes object made for this event, which ctypes
        holds during the call. So nothing is shared between two events, though other threads run
        while Windows is called.

        To make an array of structures by ctypes takes three times as long for the whole call; to
        ask ctypes for the addresses, five times; to have it convert the arguments by ``argtypes``,
        1.6 times. None, bytes and what `from_param` gives need no conversion.
        """
        write_transfer, handles, head_bytes = self._write, self._handles, _HEAD_BYTES
        three = ctypes.c_uint32.from_param(3)
        first = _FIRST_PIECE(id(traits) + head_bytes, len(traits), 2)

        def write(
            descriptor: bytes,
            metadata: bytes,
            payload: bytes,
            activity: bytes | None = None,
            related: bytes | None = None,
            /,
            _held: bytes = traits,  # for as long as there is this function
        ) -> int:
            try:
                reference = handles[handle]
            except KeyError:
                return INVALID_HANDLE
            code: int = write_transfer(
                reference,
                descriptor,
                activity,
                related,
                three,
                _THREE_PIECES(
                    first,
                    id(metadata) + head_bytes,
                    len(metadata),
                    1,
                    id(payload) + head_bytes,
                    len(payload),
                    0,
                ),
            )
            return code

        return write


class Session(NamedTuple):
    """A trace session that runs now."""

    number: int
    name: str
    path: str  # "" if it writes to no file
    buffer_kb: int
    events_lost: int


class SessionApi(Protocol):
    """What there is to ask Windows about providers and sessions."""

    def provider_info(self, guid: UUID) -> bytes:
        """Return who has registered a provider, and who listens: a ``TRACE_GUID_INFO``.

        Raises:
            OSError: If Windows does not say.
        """

    def sessions(self) -> list[Session]:
        """Return the sessions that the user may see. Raises OSError if Windows does not say."""


class _WnodeHeader(ctypes.Structure):
    _fields_: ClassVar = [
        ("buffer_size", ctypes.c_uint32),
        ("provider_id", ctypes.c_uint32),
        ("historical_context", ctypes.c_uint64),  # the handle: the session's number
        ("time_stamp", ctypes.c_int64),
        ("guid", ctypes.c_ubyte * 16),
        ("client_context", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class _EventTraceProperties(ctypes.Structure):
    _fields_: ClassVar = [
        ("wnode", _WnodeHeader),
        ("buffer_kb", ctypes.c_uint32),
        ("minimum_buffers", ctypes.c_uint32),
        ("maximum_buffers", ctypes.c_uint32),
        ("maximum_file_mb", ctypes.c_uint32),
        ("log_file_mode", ctypes.c_uint32),
        ("flush_timer_s", ctypes.c_uint32),
        ("enable_flags", ctypes.c_uint32),
        ("age_limit", ctypes.c_int32),
        ("number_of_buffers", ctypes.c_uint32),
        ("free_buffers", ctypes.c_uint32),
        ("events_lost", ctypes.c_uint32),
        ("buffers_written", ctypes.c_uint32),
        ("log_buffers_lost", ctypes.c_uint32),
        ("real_time_buffers_lost", ctypes.c_uint32),
        ("logger_thread", ctypes.c_void_p),
        ("log_file_name_offset", ctypes.c_uint32),
        ("logger_name_offset", ctypes.c_uint32),
    ]


class _SessionRecord(ctypes.Structure):
    """The properties, and room for the two names behind them."""

    _fields_: ClassVar = [
        ("properties", _EventTraceProperties),
        ("name", ctypes.c_wchar * _NAME_CHARS),
        ("path", ctypes.c_wchar * _NAME_CHARS),
    ]


@final
class Win32SessionApi:
    """Calls the functions of a library that has what ``evntrace.h`` declares."""

    def __init__(self, library: Any) -> None:
        """Prepare for calls; a function that is missing is an OSError when it is needed."""
        self._library = library

    def _function(self, name: str) -> Any:
        function = getattr(self._library, name, None)
        if function is None:
            msg = f"Event Tracing needs the function {name}, this Windows has none."
            raise OSError(msg)
        function.restype = ctypes.c_uint32
        return function

    def provider_info(self, guid: UUID) -> bytes:
        """Ask who has registered a provider, as in `SessionApi`."""
        enumerate_guids = self._function("EnumerateTraceGuidsEx")
        size = 4096
        # Processes come and go meanwhile, but not for ever.
        for _ in range(10):
            buffer, needed = ctypes.create_string_buffer(size), ctypes.c_uint32()
            code = enumerate_guids(
                ctypes.c_uint32(_GUID_QUERY_INFO), guid.bytes_le, ctypes.c_uint32(16),
                buffer, ctypes.c_uint32(size), ctypes.byref(needed),
            )  # fmt: skip
            if code != INSUFFICIENT_BUFFER and needed.value <= size:
                break
            size = max(needed.value, size) * 2
        if code == GUID_NOT_FOUND:
            return b""
        _check("EnumerateTraceGuidsEx", code)
        return buffer.raw[: needed.value]

    def sessions(self) -> list[Session]:
        """Ask which sessions run, as in `SessionApi`."""
        query_all = self._function("QueryAllTracesW")
        records = [_SessionRecord() for _ in range(_MOST_SESSIONS)]
        for record in records:
            record.properties.wnode.buffer_size = ctypes.sizeof(_SessionRecord)
            record.properties.logger_name_offset = _SessionRecord.name.offset
            record.properties.log_file_name_offset = _SessionRecord.path.offset
        pointers = (ctypes.c_void_p * _MOST_SESSIONS)(*map(ctypes.addressof, records))
        count = ctypes.c_uint32()
        code = query_all(pointers, ctypes.c_uint32(_MOST_SESSIONS), ctypes.byref(count))
        if code != MORE_DATA:  # that is: there are more than these
            _check("QueryAllTracesW", code)
        return [
            Session(
                record.properties.wnode.historical_context & 0xFFFF,
                record.name,
                record.path,
                record.properties.buffer_kb,
                record.properties.events_lost,
            )
            for record in records[: count.value]
        ]


def _check(function: str, code: int) -> None:
    if code:
        msg = f"{function} must tell what there is, but ended with the error {code}."
        raise OSError(0, msg, None, code)


def session_api() -> SessionApi:
    """Return what can be asked about sessions. Raises OSError if this is not Windows."""
    if sys.platform != "win32":
        raise OSError(_NEEDS_WINDOWS)
    return Win32SessionApi(ctypes.WinDLL("advapi32.dll", winmode=_SEARCH_SYSTEM32))


def registration_error(guid: UUID, code: int) -> OSError:
    """Make the error for a provider that Windows does not register."""
    msg = (
        f"A provider must be registered with Windows, which refused {guid} with its error {code}. "
    )
    if code == NOT_ENOUGH_MEMORY:
        msg += "A process can have 1,024 of them: close providers, or use fewer."
    else:
        msg += f"Look it up with 'net helpmsg {code}'."
    return OSError(0, msg, None, code)


STAND_INS: Final[list[EtwApi]] = []
"""What is used in the place of Windows, the last of them: `RecordingEtw`."""


def current_api() -> EtwApi:
    """Return what a new provider is to use.

    Raises:
        OSError: If this is not Windows, and nothing stands in for it.
    """
    return STAND_INS[-1] if STAND_INS else _windows()


@cache
def _windows() -> EtwApi:
    """Load the library, once."""
    if sys.platform != "win32":
        raise OSError(_NEEDS_WINDOWS)
    try:
        library = ctypes.WinDLL(
            "api-ms-win-eventing-provider-l1-1-0.dll", winmode=_SEARCH_SYSTEM32
        )
    except OSError:  # Windows 7
        library = ctypes.WinDLL("advapi32.dll", winmode=_SEARCH_SYSTEM32)
    return Win32Api(library, ctypes.WINFUNCTYPE)
