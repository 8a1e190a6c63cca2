"""Tests of the calls of Windows, with C functions in their place that look at what arrives."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
from uuid import UUID

import pytest

from eliot_etw.etw import _win32
from eliot_etw.etw._win32 import (
    BUSY,
    INVALID_HANDLE,
    NOT_SUPPORTED,
    Session,
    Win32Api,
    Win32SessionApi,
    current_api,
    session_api,
)
from tests.etw._library import CALLBACK, FIRST_HANDLE, Library, SessionLibrary

GUID = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
DESCRIPTOR = bytes(range(16))
ACTIVITY = bytes(range(16, 32))
RELATED = bytes(range(32, 48))


@pytest.fixture
def library():
    """Return a library that notes what it is called with."""
    return Library()


@pytest.fixture
def api(library):
    """Return what calls it."""
    return Win32Api(library, ctypes.CFUNCTYPE)


def ignore(*_):
    """Be a listener that does nothing."""


class TestWrite:
    """Writing an event."""

    @pytest.mark.parametrize(
        ("activity", "related"), [(None, None), (ACTIVITY, None), (ACTIVITY, RELATED)]
    )
    def test_what_arrives(self, library, api, activity, related):
        """All of it arrives: the traits as type 2, the metadata as 1, the payload as 0."""
        handle = api.register(GUID, ignore)
        write = api.writer(handle, b"tra\0")
        assert write(DESCRIPTOR, b"", b"\0" * 70_000, activity, related) == 0
        pieces = [(2, b"tra\0"), (1, b""), (0, b"\0" * 70_000)]
        assert library.written == [(FIRST_HANDLE, DESCRIPTOR, activity, related, pieces)]

    @pytest.mark.parametrize("code", [8, 234, 0xFFFF_FFFF])
    def test_error(self, library, api, code):
        """What Windows returns is returned, with all its 32 bits."""
        handle = api.register(GUID, ignore)
        library.code = code
        assert api.writer(handle, b"")(DESCRIPTOR, b"", b"") == code

    @pytest.mark.parametrize("handle", [0, 1, FIRST_HANDLE])
    def test_no_such_registration(self, library, api, handle):
        """Windows is never called with a handle that it did not give, or took back."""
        api.unregister(api.register(GUID, ignore))
        assert api.writer(handle, b"")(DESCRIPTOR, b"", b"") == INVALID_HANDLE
        assert library.written == []

    def test_while_memory_is_freed(self, library, api):
        """What was passed is there until the call is over, whoever else lets go of it."""
        handle = api.register(GUID, ignore)
        given = [[b"%d" % number * 500 for number in range(3)]]

        def let_go():
            given.clear()
            gc.collect()
            assert [bytes([0]) * size for size in range(400, 600)]

        library.during_write = let_go
        write = api.writer(handle, given[0].pop(0))
        write(DESCRIPTOR, *given[0])
        assert [b"0" * 500, b"1" * 500, b"2" * 500] == [
            piece for _, piece in library.written[0].pieces
        ]

    def test_from_several_threads(self, library, api):
        """Threads that are in the call at one time do not see one another's events."""
        handle = api.register(GUID, ignore)
        together = threading.Barrier(4)
        library.during_write = together.wait

        def write(number):
            for turn in range(20):
                pieces = [b"%d %d %d" % (number, turn, piece) for piece in range(3)]
                api.writer(handle, pieces[0])(DESCRIPTOR, *pieces[1:])

        threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen = sorted(tuple(piece for _, piece in event.pieces) for event in library.written)
        expected = sorted(
            tuple(b"%d %d %d" % (number, turn, piece) for piece in range(3))
            for number in range(4)
            for turn in range(20)
        )
        assert expected == seen


class TestRegister:
    """Registrations, and what Windows calls back with."""

    def test_register(self, library, api):
        """Windows is told the GUID as its bytes lie in memory, and gives a handle of 64 bits."""
        assert [api.register(GUID, ignore) for _ in range(2)] == [FIRST_HANDLE, FIRST_HANDLE + 1]
        assert set(library.guids.values()) == {GUID.bytes_le}

    def test_refused(self, library, api):
        """A registration that Windows refuses is an error that says what to do."""
        library.code = 5
        with pytest.raises(OSError, match=r"refused 00010203-.* error 5\. .*helpmsg 5"):
            api.register(GUID, ignore)
        library.code = 8
        with pytest.raises(OSError, match=r"error 8\. .*use fewer"):
            api.register(GUID, ignore)

    def test_call_back(self, library, api):
        """Each registration is told what concerns it, with all bits of the keywords."""
        heard = []
        for name in "ab":
            api.register(GUID, lambda *change, name=name: heard.append((name, *change)))
        library.call_back(FIRST_HANDLE, 1, 255, (1 << 64) - 1, 1 << 63)
        library.call_back(FIRST_HANDLE + 1, 0, 0, 0, 0)
        assert heard == [("a", 1, 255, (1 << 64) - 1, 1 << 63), ("b", 0, 0, 0, 0)]

    def test_call_back_at_once(self, library, api):
        """Windows may call back before it has told the handle."""
        library.calls_back_at_once = 1, 4, 2, 0
        heard = []
        api.register(GUID, lambda *change: heard.append(change))
        assert heard == [(1, 4, 2, 0)]

    def test_call_back_on_a_thread_of_windows(self, library, api):
        """It does so on threads of its own, while others go on."""
        heard = []
        handle = api.register(GUID, lambda *change: heard.append(change))
        threads = [
            threading.Thread(target=library.call_back, args=[handle, 1, level])
            for level in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(heard) == [(1, level, 0, 0) for level in range(8)]

    def test_call_back_late(self, library, api):
        """After the end of a registration a call finds nobody, and does no harm."""
        heard = []
        handle = api.register(GUID, lambda *change: heard.append(change))
        library.during_unregister = lambda handle: library.call_back(handle, 1, 5)
        assert api.unregister(handle) == 0
        library.call_back(handle, 1, 5)
        assert heard == []

    def test_without_context(self, library, api):
        """A call that is for nobody does no harm."""
        handle = api.register(GUID, ignore)
        callback, _ = library.callbacks[handle]
        callback(None, 1, 5, 0, 0, None, None)

    def test_unregister_twice(self, library, api):
        """Windows takes back a handle once; the second time it is none."""
        handle = api.register(GUID, ignore)
        assert [api.unregister(handle), api.unregister(handle)] == [0, INVALID_HANDLE]
        assert library.guids == {}

    def test_unregister_within_the_callback(self, library, api):
        """Windows would wait for the callback that waits for it: it is left for later."""
        codes = []
        handle = api.register(GUID, lambda *_: codes.append(api.unregister(handle)))
        library.call_back(handle, 1, 5)
        library.call_back(handle, 1, 5)
        assert (codes, len(library.guids)) == ([BUSY], 1)
        assert api.writer(handle, b"")(DESCRIPTOR, b"", b"") == INVALID_HANDLE
        assert (api.unregister(handle), library.guids) == (0, {})

    def test_unregister_by_two_threads(self, library, api):
        """Of two that end a registration at a time one does, and Windows is asked once."""
        handle = api.register(GUID, ignore)
        codes = []
        library.during_unregister = lambda _: codes.append(api.unregister(handle))
        assert [api.unregister(handle), *codes] == [0, INVALID_HANDLE]


class TestTraits:
    """Telling a provider's name and group."""

    def test_set(self, library, api):
        """The blob arrives as it is, and the answer is returned."""
        handle = api.register(GUID, ignore)
        library.code = 87
        assert api.set_traits(handle, b"\5\0ab\0") == 87
        assert library.traits == {handle: b"\5\0ab\0"}

    def test_windows_without(self, library):
        """An old Windows has no such function: that is an answer, not a crash."""
        del library.EventSetInformation
        assert Win32Api(library, ctypes.CFUNCTYPE).set_traits(1, b"") == NOT_SUPPORTED


class TestCurrentApi:
    """Which functions are called."""

    @pytest.mark.skipif(os.name == "nt", reason="there is Windows")
    def test_no_windows(self):
        """On another system it says so, and what to use."""
        with pytest.raises(OSError, match=r"needs Windows, this is .*Use EtlFileDestination here"):
            current_api()

    @pytest.mark.skipif(os.name != "nt", reason="there is no Windows")
    def test_windows(self):
        """On Windows these are its own, loaded once."""
        assert current_api() is current_api()
        handle = current_api().register(GUID, ignore)
        assert current_api().unregister(handle) == 0

    def test_other_python(self, library, monkeypatch):
        """A Python that keeps bytes elsewhere in memory is refused, before anything is written."""
        monkeypatch.setattr(_win32, "_HEAD_BYTES", 16)
        with pytest.raises(OSError, match=r"needs CPython, .* this is \w+\. Use"):
            Win32Api(library, CALLBACK)

    def test_import_loads_nothing(self):
        """The module imports on every system, whether or not there are such functions."""
        program = (
            "import ctypes\n"
            "def refuse(*a, **k): raise OSError\n"
            "ctypes.CDLL = ctypes.WinDLL = refuse\n"
            "import eliot_etw.etw._win32, eliot_etw.etw._provider\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


class TestSessions:
    """Who listens to whom."""

    @pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="another layout")
    def test_layout(self):
        """The structures are as large as Windows's."""
        size = ctypes.sizeof(_win32._EventTraceProperties)
        assert (48, 120) == (ctypes.sizeof(_win32._WnodeHeader), size)
        assert _win32._EventTraceProperties.logger_name_offset.offset == 116

    @pytest.mark.parametrize("size", [0, 8, 4096, 4097, 20_000])
    def test_provider_info(self, size):
        """What Windows says of a provider arrives, however much it is."""
        library = SessionLibrary(os.urandom(size))
        assert Win32SessionApi(library).provider_info(GUID) == library.info
        assert library.guid == GUID.bytes_le

    def test_more_and_more_to_say(self):
        """If it never fits there is an error, not an endless loop."""
        library = SessionLibrary()
        library.code = 122
        with pytest.raises(OSError, match=r"EnumerateTraceGuidsEx .* error 122"):
            Win32SessionApi(library).provider_info(GUID)
        assert len(library.sizes) < 20

    def test_unknown_provider(self):
        """Of a provider that Windows does not know it says nothing."""
        library = SessionLibrary()
        library.code = 4200
        assert Win32SessionApi(library).provider_info(GUID) == b""

    def test_sessions(self):
        """All sessions are told, with what matters to events."""
        sessions = [
            Session(3, "one", "C:\\a.etl", 64, 0),
            Session(65_535, "Größe", "", 4, 7),
        ]
        assert Win32SessionApi(SessionLibrary(b"", sessions)).sessions() == sessions

    def test_many_sessions(self):
        """If there are more than there is room for, those for which there is are told."""
        sessions = [Session(number, "", "", 64, 0) for number in range(70)]
        assert Win32SessionApi(SessionLibrary(b"", sessions)).sessions() == sessions[:64]

    @pytest.mark.parametrize("method", ["provider_info", "sessions"])
    def test_denied(self, method):
        """What Windows refuses to say is an error with its code."""
        library = SessionLibrary()
        library.code = 5
        arguments = [GUID] if method == "provider_info" else []
        with pytest.raises(OSError, match="error 5"):
            getattr(Win32SessionApi(library), method)(*arguments)

    @pytest.mark.parametrize("method", ["provider_info", "sessions"])
    def test_missing_function(self, method):
        """So is a function that this Windows has not."""
        arguments = [GUID] if method == "provider_info" else []
        with pytest.raises(OSError, match="needs the function"):
            getattr(Win32SessionApi(object()), method)(*arguments)

    @pytest.mark.skipif(os.name == "nt", reason="there is Windows")
    def test_no_windows(self):
        """On another system there is nobody to ask."""
        with pytest.raises(OSError, match="needs Windows"):
            session_api()
