"""Tests of a provider: who listens, what is written, and how it ends."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.etw import Provider, _win32, provider_guid, provider_traits
from eliot_etw.etw._provider import NOBODY
from eliot_etw.testing import RecordingEtw
from tests._programs import run_forking
from tests.etw._library import FIRST_HANDLE, Library
from tests.etw._schemas import PATIENT

GUID = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
GROUP = UUID("10111213-1415-1617-1819-1a1b1c1d1e1f")
NAME = "MyCompany.MyProgram"
DESCRIPTOR = bytes(16)
METADATA = b"\5\0\0e\0"
KEYWORDS = st.integers(0, 15) | st.integers(0, (1 << 64) - 1)


@pytest.fixture
def etw():
    """Return what stands in for Windows, with nobody listening."""
    with RecordingEtw(level=None) as etw:
        yield etw


@pytest.fixture
def library(monkeypatch):
    """Return a library of C functions that providers call."""
    library = Library()
    api = _win32.Win32Api(library, ctypes.CFUNCTYPE)
    monkeypatch.setattr(_win32, "STAND_INS", [api])
    monkeypatch.setattr("eliot_etw.etw._provider.current_api", lambda: api)
    return library


class TestProvider:
    """What it is."""

    def test_name(self, etw):
        """The GUID is made from the name, as all tools make it."""
        provider = Provider(NAME)
        assert (NAME, provider_guid(NAME)) == (provider.name, provider.guid)
        assert (provider_traits(NAME), 0) == (provider.traits, provider.traits_error)
        assert [NAME] == etw.registered

    def test_guids_as_text(self, etw):
        """They may be given as tools show them."""
        provider = Provider(NAME, guid=f"{{{GUID}}}", group=str(GROUP).upper())
        assert (GUID, provider_traits(NAME, GROUP)) == (provider.guid, provider.traits)

    @pytest.mark.parametrize("which", ["guid", "group"])
    @pytest.mark.parametrize("given", ["", "nonsense", 5])
    def test_no_guid(self, etw, which, given):
        """What is no GUID is refused before Windows hears of it."""
        with pytest.raises(ValueError, match=rf"must be a GUID, got {given!r}\. Pass a UUID"):
            Provider(NAME, **{which: given})
        assert etw.registered == []

    def test_guid_and_group(self, etw):
        """Both may be chosen."""
        provider = Provider(NAME, guid=GUID, group=GROUP)
        assert (GUID, provider_traits(NAME, GROUP)) == (provider.guid, provider.traits)
        assert [NAME] == etw.registered

    def test_no_name(self, etw):
        """A name that tools cannot work with is refused, and nothing is registered."""
        with pytest.raises(ValueError, match="text without NUL"):
            Provider("", guid=GUID)
        assert etw.registered == []

    def test_refused(self, etw):
        """When Windows refuses there is no provider."""
        etw.fail_register(8)
        with pytest.raises(OSError, match="use fewer"):
            Provider(NAME)
        assert etw.registered == []

    def test_traits_refused(self, library):
        """An old Windows takes no traits; the provider works without, and says so."""
        library.code = 0
        api = _win32.STAND_INS[0]
        api._set_information = None
        provider = Provider(NAME)
        assert (50, 0) == (provider.traits_error, provider.write(DESCRIPTOR, METADATA, b""))


class TestListening:
    """Who listens."""

    def test_nobody(self, etw):
        """With nobody listening no event is wanted, not even one of level 0."""
        provider = Provider(NAME)
        assert (NOBODY, False) == (provider.level, provider.is_enabled(0, 0))

    def test_somebody_before(self, etw):
        """Who listens before the provider is there is known at once."""
        etw.enable(3, 6, 4)
        provider = Provider(NAME)
        assert (3, 6, 4) == (provider.level, provider.match_any, provider.match_all)

    def test_changes(self, etw):
        """It follows whatever changes."""
        provider = Provider(NAME)
        seen = []
        for change in (etw.enable, lambda: etw.enable(0), lambda: etw.enable(2, 1), etw.disable):
            change()
            seen.append((provider.level, provider.match_any))
        everything = (1 << 64) - 1
        assert [(5, everything), (255, everything), (2, 1)] == seen[:3]
        assert seen[3][0] == NOBODY

    def test_capture_state(self, library):
        """A session that asks for the state of things changes nothing."""
        provider = Provider(NAME)
        library.call_back(FIRST_HANDLE, 1, 4, 2, 0)
        library.call_back(FIRST_HANDLE, 2, 0, 0, 0)
        assert (4, 2) == (provider.level, provider.match_any)

    @PATIENT
    @given(st.integers(0, 255), KEYWORDS, KEYWORDS, st.integers(0, 255), KEYWORDS)
    def test_rule(self, level, match_any, match_all, event_level, keyword):
        """What it says is enabled is what a session takes, and nothing else."""
        with RecordingEtw(level=None) as etw:
            etw.enable(level, match_any, match_all)
            provider = Provider(NAME)
            descriptor = bytes([0, 0, 0, 11, event_level, 0, 0, 0]) + keyword.to_bytes(8, "little")
            provider.write(descriptor, METADATA, b"")
            assert len(etw.events) == provider.is_enabled(event_level, keyword)
            provider.close()


class TestWrite:
    """Writing events."""

    def test_event(self, etw):
        """The event gets to who listens, with the provider's traits."""
        etw.enable()
        provider = Provider(NAME, guid=GUID, group=GROUP)
        assert provider.write(DESCRIPTOR, METADATA, b"", GUID.bytes_le, GROUP.bytes_le) == 0
        (event,) = etw.events
        assert (NAME, GUID, GROUP) == (
            event.provider_name, event.provider_id, event.provider_group
        )  # fmt: skip
        assert (GUID, GROUP) == (event.activity_id, event.related_activity_id)

    def test_error(self, etw):
        """An error is returned, not raised."""
        etw.fail_writes(234)
        assert Provider(NAME).write(DESCRIPTOR, METADATA, b"") == 234


class TestEnd:
    """No registration is left, and nothing is called back that is gone."""

    def test_close(self, etw):
        """A closed provider is not registered, wants nothing, and writes nothing."""
        etw.enable()
        provider = Provider(NAME)
        provider.close()
        provider.close()
        assert ([], NOBODY) == (etw.registered, provider.level)
        assert provider.write(DESCRIPTOR, METADATA, b"") == 6

    def test_dropped(self, etw):
        """A provider that nobody has any more is not registered either."""
        Provider(NAME)
        gc.collect()
        assert etw.registered == []

    def test_call_back_while_closing(self, library):
        """What is called back during the end changes nothing."""
        provider = Provider(NAME)
        library.during_unregister = lambda handle: library.call_back(handle, 1, 5)
        provider.close()
        library.call_back(FIRST_HANDLE, 1, 5)
        assert provider.level == NOBODY

    def test_close_waits_for_a_callback(self, library):
        """Windows waits for the callback in `close`, which must not wait for it in turn."""
        provider = Provider(NAME)
        release, waiting = threading.Event(), threading.Event()

        def wait(_):
            waiting.set()
            assert release.wait(30)

        def call_back():
            assert waiting.wait(30)
            library.call_back(FIRST_HANDLE, 1, 5)
            release.set()

        library.during_unregister = wait
        thread = threading.Thread(target=call_back)
        thread.start()
        provider.close()
        thread.join()
        assert provider.level == NOBODY

    def test_dropped_within_its_callback(self, library, monkeypatch):
        """A provider that goes away within its own callback is unregistered at exit."""
        provider = [Provider(NAME)]
        api = _win32.STAND_INS[0]
        (context,) = api._listeners
        on_change = api._listeners[context]

        def drop(*change):
            provider.clear()
            on_change(*change)

        api._listeners[context] = drop
        library.call_back(FIRST_HANDLE, 1, 5)
        left = len(library.guids)
        from eliot_etw.etw import _provider

        monkeypatch.setattr(_provider, "_EXITING", [])
        _provider._unregister_all()
        assert (1, {}) == (left, library.guids)

    def test_exit(self):
        """At exit all are unregistered, also one that is made then; nobody's exit is spoiled."""
        program = (
            "import atexit\n"
            "from eliot_etw.etw._provider import Provider\n"
            "from eliot_etw.testing import RecordingEtw\n"
            "etw = RecordingEtw()\n"
            "etw.__enter__()\n"
            "import eliot_etw.etw._provider as module\n"
            "atexit.unregister(module._unregister_all)\n"
            "@atexit.register\n"
            "def last(): print(etw.registered, Provider('late').level, etw.registered)\n"
            "atexit.register(module._unregister_all)\n"
            "providers = [Provider(name) for name in 'abc']\n"
            "@atexit.register\n"
            "def first(): print(etw.registered)\n"
        )
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        assert result.stdout.splitlines() == ["['a', 'b', 'c']", "[] -1 []"]
        assert result.stderr == ""

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_fork(self):
        """A forked child ends its own copy, and leaves the parent's alone."""
        run_forking("""
from eliot_etw.etw import Provider
from eliot_etw.testing import RecordingEtw

with RecordingEtw(level=None) as etw:
    etw.enable()
    provider = Provider("App")

    def work():
        provider.close()
        assert etw.registered == []

    in_child(work)
    assert etw.registered == ["App"]
    assert provider.level == 5
""")
