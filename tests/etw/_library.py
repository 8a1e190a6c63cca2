"""A library with Windows's functions for providers, made of C functions that call Python.

ctypes calls them by their addresses alone, as it calls those of Windows: what it passes goes
through memory and registers, and arrives with the types that evntprov.h declares.
"""

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_ubyte,
    c_uint32,
    c_uint64,
    c_void_p,
    string_at,
)
from typing import NamedTuple

from eliot_etw.etw import _win32

CALLBACK = CFUNCTYPE(None, c_void_p, c_uint32, c_ubyte, c_uint64, c_uint64, c_void_p, c_void_p)
TYPES = {
    "register": (c_void_p, CALLBACK, c_void_p, POINTER(c_uint64)),
    "set_information": (c_uint64, c_uint32, c_void_p, c_uint32),
    "unregister": (c_uint64,),
    "write_transfer": (c_uint64, c_void_p, c_void_p, c_void_p, c_uint32, c_void_p),
}
# Above 32 bits, so that one that was cut is seen.
FIRST_HANDLE = 0xFEDC_BA98_0000_0001


class Written(NamedTuple):
    """What EventWriteTransfer was called with."""

    handle: int
    descriptor: bytes
    activity: bytes | None
    related: bytes | None
    pieces: list[tuple[int, bytes]]  # the type of each, and its bytes


class Library:
    """Stands for the DLL: an attribute for each function, as `ctypes.WinDLL` has."""

    def __init__(self):
        self.written = []
        self.traits = {}
        self.callbacks = {}
        self.guids = {}
        self.code = 0
        self.during_write = lambda: None
        self.during_unregister = lambda _: None
        self.calls_back_at_once = None
        self._kept = []
        for name, types in TYPES.items():
            function = CFUNCTYPE(c_uint32, *types)(getattr(self, f"_{name}"))
            self._kept.append(function)
            plain = CFUNCTYPE(c_uint32)(ctypes.cast(function, c_void_p).value)
            setattr(self, "Event" + name.title().replace("_", ""), plain)

    def call_back(self, handle, code, level, match_any=0, match_all=0):
        """Do what a session does that begins or stops to listen."""
        callback, context = self.callbacks[handle]
        callback(None, code, level, match_any, match_all, None, context)

    def _register(self, guid, callback, context, handle):
        if self.code:
            return self.code
        number = FIRST_HANDLE + len(self.callbacks)
        self.guids[number] = string_at(guid, 16)
        self.callbacks[number] = callback, context
        if self.calls_back_at_once is not None:
            self.call_back(number, *self.calls_back_at_once)
        handle[0] = number
        return 0

    def _set_information(self, handle, kind, data, size):
        assert kind == 2
        self.traits[handle] = string_at(data, size)
        return self.code

    def _unregister(self, handle):
        self.during_unregister(handle)
        return 0 if self.guids.pop(handle, None) else 6

    def _write_transfer(self, handle, descriptor, activity, related, count, pieces):
        self.during_write()
        array = (c_uint64 * (2 * count)).from_address(pieces)
        found = [
            (array[at + 1] >> 32, string_at(array[at], array[at + 1] & 0xFFFF_FFFF))
            for at in range(0, 2 * count, 2)
        ]
        ids = [None if guid is None else string_at(guid, 16) for guid in (activity, related)]
        self.written.append(Written(handle, string_at(descriptor, 16), *ids, found))
        return self.code


class SessionLibrary:
    """Stands for the DLL with what sessions and providers there are."""

    def __init__(self, info=b"", sessions=()):
        self.info = info
        self.sessions = sessions
        self.code = 0
        self.sizes = []
        enumerate_types = (c_uint32, c_void_p, c_uint32, c_void_p, c_uint32, POINTER(c_uint32))
        self._kept = [
            CFUNCTYPE(c_uint32, *enumerate_types)(self._enumerate),
            CFUNCTYPE(c_uint32, POINTER(c_void_p), c_uint32, POINTER(c_uint32))(self._query),
        ]
        self.EnumerateTraceGuidsEx, self.QueryAllTracesW = (
            CFUNCTYPE(c_uint32)(ctypes.cast(function, c_void_p).value) for function in self._kept
        )

    def _enumerate(self, kind, guid, guid_size, buffer, size, needed):
        assert (kind, guid_size) == (1, 16)
        self.guid = string_at(guid, 16)
        self.sizes.append(size)
        if self.code:
            return self.code
        needed[0] = len(self.info)
        if size < len(self.info):
            return 122
        ctypes.memmove(buffer, self.info, len(self.info))
        return 0

    def _query(self, pointers, room, count):
        if self.code:
            return self.code
        for index, session in enumerate(self.sessions[:room]):
            record = _win32._SessionRecord.from_address(pointers[index])
            assert record.properties.wnode.buffer_size == ctypes.sizeof(record)
            assert record.properties.logger_name_offset == type(record).name.offset
            record.properties.wnode.historical_context = 0xABCD_0000 | session.number
            record.properties.buffer_kb = session.buffer_kb
            record.properties.events_lost = session.events_lost
            record.name, record.path = session.name, session.path
        count[0] = len(self.sessions)
        return 234 if len(self.sessions) > room else 0
