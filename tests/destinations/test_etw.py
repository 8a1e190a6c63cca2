"""Tests of messages on their way to Event Tracing for Windows."""

import gc
import sys
import threading
from uuid import UUID

import pytest

from eliot_etw import (
    add_destinations,
    log_message,
    remove_destination,
    start_action,
    start_task,
    to_file,
)
from eliot_etw.destinations import EtwDestination
from eliot_etw.etw import message_of, provider_guid
from eliot_etw.sources import FileSource
from eliot_etw.testing import RecordingEtw

NAME = "MyCompany.MyProgram"
GUID = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
PLACE = {"task_uuid": "0b9c", "task_level": [1], "timestamp": 1.5}
MESSAGE = {"message_type": "app:message", "n": 1, **PLACE}


@pytest.fixture
def etw():
    """Stand in for Windows, with a session that listens to all."""
    with RecordingEtw() as etw:
        yield etw


class TestEvents:
    """What arrives."""

    def test_program(self, etw, tmp_path):
        """What a program logs is, decoded, what a file of JSON has."""
        add_destinations(EtwDestination(NAME))
        to_file(tmp_path / "log")
        with start_task(action_type="app:request", size=7, values=[1, None]):
            log_message("app:note", text="é")
            with start_action(action_type="app:inner"):
                pass
        events = list(etw.events)
        assert list(map(message_of, events)) == list(FileSource(tmp_path / "log"))
        assert [event.opcode for event in events] == [1, 0, 1, 2, 2]
        outer, inner = events[0].activity_id, events[2].activity_id
        assert [event.activity_id for event in events] == [outer, outer, inner, inner, outer]
        assert [event.related_activity_id for event in events] == [None, None, outer, None, None]

    def test_provider(self, etw):
        """The provider has a name and a GUID made of it, or given, and perhaps a group."""
        destinations = [EtwDestination(), EtwDestination(NAME, guid=GUID, group=GUID)]
        for destination in destinations:
            destination(MESSAGE)
        found = [(e.provider_name, e.provider_id, e.provider_group) for e in etw.events]
        assert found == [("eliot_etw", provider_guid("eliot_etw"), None), (NAME, GUID, GUID)]
        assert [(d.provider_name, d.provider_guid) for d in destinations] == [f[:2] for f in found]

    def test_options(self, etw):
        """Levels, keywords, conversions and the bound on schemas are the user's."""
        destination = EtwDestination(
            NAME,
            levels={"app:*": "verbose"},
            keywords={"app:*": 0x40},
            json_default=lambda value: [*value],
            max_schemas=1,
        )
        destination({**MESSAGE, "v": {7}})
        destination({**MESSAGE, "w": {7}})
        assert [(event.level, event.keyword) for event in etw.events] == [(5, 0x40)] * 2
        assert [message_of(event).get("v") for event in etw.events] == [[7], None]
        assert destination.stats()["schema_fallbacks"] == 1

    def test_threads(self, etw):
        """Threads may log at once: all messages arrive, none is mixed up."""
        destination = EtwDestination(NAME)
        add_destinations(destination)
        go = threading.Barrier(4)

        def log(thread):
            go.wait(30)
            for n in range(250):
                log_message("t", thread=thread, n=n, **{f"f{n % 9}": n})

        threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [message_of(event) for event in etw.events]
        assert all(message[f"f{message['n'] % 9}"] == message["n"] for message in found)
        logged = sorted((message["thread"], message["n"]) for message in found)
        assert logged == [(thread, n) for thread in range(4) for n in range(250)]
        assert destination.stats()["written"] == 1000


class TestListening:
    """Who listens decides what is written, at any time."""

    def test_nobody(self):
        """While nobody listens, nothing is made."""
        with RecordingEtw(level=None) as etw:
            destination = EtwDestination(NAME)
            destination({"message": "that is none"})
            assert (0, []) == (etw.unwanted, etw.events)
            assert destination.stats() == {
                "written": 0,
                "failed": 0,
                "after_close": 0,
                "truncated": 0,
                "schema_fallbacks": 0,
                "rule_failures": 0,
                "schemas": 0,
            }

    def test_changes(self, etw):
        """Sessions come and go, with other levels and keywords."""
        destination = EtwDestination(NAME)
        add_destinations(destination)
        etw.disable()
        log_message("one")
        etw.enable(level=3)
        log_message("two")
        log_message("three", log_level="warning")
        etw.enable(level=5, match_any=1)
        log_message("four", log_level="error")
        with start_action(action_type="five"):
            pass
        etw.disable(NAME)
        log_message("six")
        found = [message_of(event) for event in etw.events]
        assert [m.get("message_type", m.get("action_type")) for m in found] == [
            "three", "five", "five"
        ]  # fmt: skip
        assert (0, 3) == (etw.unwanted, destination.stats()["written"])

    def test_calls(self):
        """With nobody listening a message is one call and one look, by a count of calls."""
        with RecordingEtw(level=None):
            destination = EtwDestination(NAME).__call__
            called = []
            sys.setprofile(lambda frame, event, what: called.append((event, frame.f_code.co_name)))
            try:
                destination(MESSAGE)
            finally:
                sys.setprofile(None)
        assert [name for event, name in called if event == "call"] == ["__call__"]
        assert len([event for event, _ in called if event == "c_call"]) <= 1

    def test_calls_of_an_event(self, etw):
        """An event of a known shape is two calls more: to make it, and to ask who wants it."""
        destination = EtwDestination(NAME)
        for _ in range(2):
            destination(MESSAGE)
        called = []
        sys.setprofile(lambda frame, event, _: called.append((event, frame.f_code.co_name)))
        try:
            destination(MESSAGE)
        finally:
            sys.setprofile(None)
        python = [name for event, name in called if event == "call"]
        assert python[:3] == ["__call__", "encode", "is_enabled"]


class TestTrouble:
    """What goes wrong is counted, and raises nothing."""

    def test_error_codes(self, etw):
        """What Windows refuses is counted by its error code."""
        destination = EtwDestination(NAME)
        for code in (8, 8, 234, 0):
            etw.fail_writes(code)
            destination(MESSAGE)
        stats = destination.stats()
        assert {name: stats[name] for name in stats if "failed" in name or name == "written"} == {
            "written": 1,
            "failed": 3,
            "failed_8": 2,
            "failed_234": 1,
        }

    def test_too_long(self, etw):
        """What is too long is cut: Windows would drop the event."""
        destination = EtwDestination(NAME)
        destination({**MESSAGE, "v": "x" * 10**6})
        [message] = map(message_of, etw.events)
        assert message["eliot:truncated"] == {"v": 10**6}
        assert (1, 1) == (destination.stats()["written"], destination.stats()["truncated"])

    def test_close(self, etw):
        """A closed destination takes no more, which is counted; nothing is registered any more."""
        destination = EtwDestination(NAME)
        assert etw.registered == [NAME]
        destination.close()
        destination.close()
        destination(MESSAGE)
        destination({**MESSAGE, "odd": {1}})
        assert ([], []) == (etw.registered, etw.events)
        assert (0, 2) == (destination.stats()["written"], destination.stats()["after_close"])

    def test_closed_while_nobody_listened(self):
        """What comes after the end is counted, whoever listened."""
        with RecordingEtw(level=None):
            destination = EtwDestination(NAME)
            destination.close()
            destination(MESSAGE)
            assert destination.stats()["after_close"] == 1

    def test_forgotten(self, etw):
        """A destination that nobody holds is no longer registered."""
        add_destinations(destination := EtwDestination(NAME))
        remove_destination(destination)
        del destination
        gc.collect()
        assert etw.registered == []

    def test_mistakes(self, etw):
        """Mistakes are said when it is made, and leave nothing registered."""
        with pytest.raises(ValueError, match="text without NUL"):
            EtwDestination("")
        with pytest.raises(ValueError, match="a level must be"):
            EtwDestination(NAME, levels={"*": "loud"})
        with pytest.raises(TypeError, match="keywords must be"):
            EtwDestination(NAME, keywords=7)
        with pytest.raises(ValueError, match="max_schemas must be"):
            EtwDestination(NAME, max_schemas=0)
        assert etw.registered == []

    def test_refused(self, etw):
        """Windows may refuse to register the provider."""
        etw.fail_register(8)
        with pytest.raises(OSError, match="refused"):
            EtwDestination(NAME)

    @pytest.mark.skipif(sys.platform == "win32", reason="here there is Windows")
    def test_other_system(self):
        """Where there is no Windows, it says what it needs and what to use instead."""
        with pytest.raises(OSError, match=r"needs Windows, this is .* Use EtlFileDestination"):
            EtwDestination(NAME)

    def test_function_that_logs(self, etw, messages):
        """A function of the user's may log: that does not come back to it."""

        def level(message):
            log_message("app:asked", about=message["n"])
            return 3

        destination = EtwDestination(NAME, levels=level)
        add_destinations(destination)
        log_message("app:message", n=1)
        assert [event.level for event in etw.events] == [3]
        assert [m["message_type"] for m in messages].count("app:asked") == 1
        remove_destination(destination)

    def test_conversion_that_logs(self, etw, messages):
        """So may a function that converts values."""

        def convert(value):
            log_message("app:converted", value=value)
            return "converted"

        destination = EtwDestination(NAME, json_default=convert)
        add_destinations(destination)
        log_message("app:message", v=object())
        found = [message_of(event) for event in etw.events]
        assert [m["message_type"] for m in found] == ["app:converted", "app:message"]
        assert found[1]["v"] == "converted"
        remove_destination(destination)
