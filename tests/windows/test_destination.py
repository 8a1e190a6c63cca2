"""Tests of EtwDestination on a Windows Python, of what arrives at Windows itself."""

import json
from collections import Counter
from uuid import UUID

import pytest

from eliot_etw.etw import activity_id, message_of, provider_guid
from tests.windows.conftest import NOTIFY

PROVIDER = (
    NOTIFY
    + """
import atexit, json, os, sys, threading
from eliot_etw import add_destinations, log_message, start_action, start_task
from eliot_etw._json import encode_line
from eliot_etw.destinations.etw import EtwDestination

def keep(message):  # as a file of JSON would have it
    sys.stdout.buffer.write(encode_line(message))

etw = EtwDestination("my-app")
add_destinations(etw)
"""
)
KEPT = PROVIDER + "add_destinations(keep)\n"
TREE = """
with start_task(action_type="app:request", path="/a", number=1) as task:
    log_message("app:note", text="one")
    try:
        with start_action(action_type="app:query", rows=3):
            1 / 0
    except ArithmeticError:
        pass
"""


def messages_of(done):
    """Return the messages that the events were made of."""
    return [message_of(event) for event in done.events()]


def test_messages_come_back(run):
    """Actions, messages and failures are, decoded, what a file of JSON has."""
    done = run(KEPT + TREE)
    assert done.errors == ""
    assert len(done.lines()) == 5
    assert messages_of(done) == done.lines()


def test_values_of_all_kinds_come_back(run):
    """Whatever a message holds, what comes back is what a file of JSON has."""
    done = run(
        KEPT
        + """
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

class Broken:
    def __repr__(self):
        raise ValueError

for number, value in enumerate([
    None, True, False, 0, -1, 2**31, -2**31, 2**63, 2**64, 10**40, -10**40, 0.5, -0.0, 1e300,
    float("nan"), float("inf"), "", "text", "\\0", "ä€😀", "\\ud800", "x" * 1000, b"", b"\\0\\xff",
    bytearray(b"abc"), [], [1, "two", None], {}, {"a": {"b": [1.5]}}, (1, 2), {3, 3},
    datetime(2025, 1, 2, 3, 4, 5, 678901), datetime(2025, 1, 2, tzinfo=timezone.utc),
    datetime(2025, 1, 2, tzinfo=timezone(timedelta(hours=-5, minutes=-30))), date(2025, 1, 2),
    UUID(int=5), Decimal("1.5"), Path("a"), object, Broken(),
]):
    log_message("app:value", number=number, value=value)
log_message("app:odd keys", **{"": 1, "with space": 2, "ä": 3, "a\\0b": 4, "x" * 300: 5})
log_message("", none=None)
"""
    )
    assert done.errors == ""
    assert len(done.lines()) == 42
    assert messages_of(done) == done.lines()


def test_ids_of_activities(run):
    """Each event has its action's id, and a start that of the parent; readers compute the same."""
    done = run(KEPT + TREE)

    def activity(message, level):
        made = activity_id(message["task_uuid"], level, done.events()[0].process_id)
        return UUID(bytes_le=made)

    expected = [
        (
            activity(message, message["task_level"][:-1]),
            activity(message, message["task_level"][:-2])
            if message.get("action_status") == "started" and len(message["task_level"]) > 1
            else None,
        )
        for message in done.lines()
    ]
    assert expected == [(event.activity_id, event.related_activity_id) for event in done.events()]


def test_headers(run):
    """Names, opcodes, levels and the channel are those that tools go by."""
    done = run(PROVIDER + TREE)
    assert [
        (event.decode().name, event.opcode, event.level, event.channel) for event in done.events()
    ] == [
        ("app:request", 1, 4, 11),
        ("app:note", 0, 4, 11),
        ("app:query", 1, 4, 11),
        ("app:query", 2, 2, 11),
        ("app:request", 2, 4, 11),
    ]


def test_provider(run):
    """Windows is told the provider's name, with the GUID that is made of it."""
    done = run(PROVIDER + TREE)
    (told,) = done.of("EventSetInformation")
    assert (told["class"], told["result"]) == (2, 0)
    assert bytes.fromhex(told["information"]) == b"\x09\0my-app\0"
    assert {("my-app", provider_guid("my-app"))} == {
        (event.provider_name, event.provider_id) for event in done.events()
    }


def test_threads(run):
    """Events of many threads do not mix, and none is missing."""
    done = run(
        PROVIDER
        + """
def work(number):
    with start_task(action_type="app:thread", number=number):
        for n in range(100):
            log_message("app:step", number=number, n=n, text="x" * n)
threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(etw.stats()))
"""
    )
    steps = [message for message in messages_of(done) if "n" in message]
    assert {"x" * message["n"] == message["text"] for message in steps} == {True}
    assert Counter((message["number"], message["n"]) for message in steps) == {
        (number, n): 1 for number in range(8) for n in range(100)
    }
    assert done.lines()[0]["written"] == 8 * 102
    assert done.is_balanced()


def test_nobody_listens(run):
    """Nothing is written, nor is Windows asked anything for each message."""
    done = run(PROVIDER + TREE + "print(json.dumps(etw.stats()))", level=-1)
    assert (done.status, done.lines()[0]["written"]) == (0, 0)
    assert [call["function"] for call in done.calls] == [
        "EventRegister",
        "EventSetInformation",
        "EventUnregister",
    ]


def test_level_of_the_session(run):
    """What is above the session's level is not written."""
    done = run(PROVIDER + TREE, level=3)
    assert [event.decode().name for event in done.events()] == ["app:query"]


def test_keywords_of_the_session(run):
    """What has none of the session's keywords is not written; here only failures are wanted."""
    done = run(PROVIDER + TREE, any=4)
    assert [message["action_status"] for message in messages_of(done)] == ["failed"]


def test_session_that_starts_and_stops(run):
    """A session may start and stop while the program runs."""
    done = run(
        PROVIDER
        + """
log_message("app:before")
notify(1, 5)
log_message("app:during")
notify(0, -1)
log_message("app:after")
notify(1, 4)
log_message("app:again")
""",
        level=-1,
    )
    assert [event.decode().name for event in done.events()] == ["app:during", "app:again"]


def test_session_that_comes_and_goes_while_threads_log(run):
    """Callbacks come from other threads at any time."""
    done = run(
        PROVIDER
        + """
stop = threading.Event()
def work():
    while not stop.is_set():
        with start_task(action_type="app:thread"):
            log_message("app:step", text="x" * 100)
threads = [threading.Thread(target=work) for n in range(4)]
for thread in threads: thread.start()
for n in range(50):
    notify(n % 2, 5 if n % 2 else -1)
stop.set()
for thread in threads: thread.join()
"""
    )
    assert (done.status, done.errors) == (0, "")
    assert None not in messages_of(done)
    assert done.is_balanced()


def test_other_callback(run):
    """A session that asks for a provider's state, which ours has none of, changes nothing."""
    done = run(PROVIDER + "notify(2, 5)\nlog_message('app:one')")
    assert [event.decode().name for event in done.events()] == ["app:one"]


@pytest.mark.parametrize("code", [8, 234, 534])
def test_write_error(run, code):
    """What Windows refuses is counted by its code; the program does not notice."""
    done = run(PROVIDER + TREE + "print(json.dumps(etw.stats()))", write_error=code)
    assert done.status == 0
    stats = done.lines()[0]
    assert (stats["written"], stats["failed"], stats[f"failed_{code}"]) == (0, 5, 5)


def test_registration_refused(run):
    """The constructor says what Windows answered, and leaves nothing behind."""
    done = run(PROVIDER, register_error=5)
    assert done.status == 1
    assert "[WinError 5] A provider must be registered" in done.errors.splitlines()[-1]
    assert done.of("EventUnregister") == []


def test_traits_refused(run):
    """A Windows that does not take the provider's name gets the events all the same."""
    done = run(PROVIDER + TREE, setinfo_error=87)
    assert (done.status, len(done.events())) == (0, 5)
    assert done.is_balanced()


@pytest.mark.parametrize(
    "end",
    [
        "",
        "etw.close()",
        "etw.close(); etw.close(); log_message('app:late')",
        "sys.exit()",
        "atexit.register(log_message, 'app:at exit')",
        "del etw",
        "threading.Thread(target=lambda: [log_message('app:n') for n in range(99)]).start()",
    ],
)
def test_end(run, end):
    """However a program ends, its provider is unregistered once, and nobody is called after."""
    done = run(PROVIDER + TREE + end)
    assert (done.status, done.errors) == (0, "")
    assert len(done.events()) >= 5
    assert done.is_balanced()
    assert done.calls[-1]["function"] == "EventUnregister"


def test_end_while_threads_log(run):
    """A thread that logs until the very end is no reason to crash, nor for a late event."""
    done = run(
        PROVIDER
        + """
def work():
    while True:
        log_message("app:step", text="x" * 100)
started = [threading.Thread(target=work, daemon=True).start() for n in range(4)]
"""
    )
    assert (done.status, done.errors) == (0, "")
    registered, ended = done.of("EventRegister"), done.of("EventUnregister")
    assert [call["handle"] for call in registered] == [call["handle"] for call in ended]


def test_uncaught_exception(run):
    """A program that fails is unregistered too."""
    done = run(PROVIDER + "log_message('app:one'); raise KeyError")
    assert (done.status, len(done.events())) == (1, 1)
    assert done.is_balanced()


def test_late_callback(run):
    """Windows may call back when the registration is over: nothing happens."""
    done = run(PROVIDER + "etw.close(); notify(1, 5, to_all=1); log_message('app:late')")
    assert (done.status, done.errors) == (0, "")
    assert len(done.of("callback")) == 2
    assert done.events() == []
    assert done.is_balanced()


def test_long_messages(run):
    """What is too long for an event is cut, and Windows refuses nothing."""
    done = run(
        PROVIDER
        + """
log_message("app:long", text="x" * 100_000, number=7)
log_message("app:wide", **{f"field{n}": n for n in range(500)})
log_message("app:both", text="ä" * 40_000, other="€" * 40_000)
print(json.dumps(etw.stats()))
"""
    )
    long, wide, both = messages_of(done)
    assert "eliot:truncated" in long
    assert wide.items() >= {f"field{n}": n for n in range(500)}.items()
    assert "eliot:truncated" in both
    assert done.lines()[0]["failed"] == 0


def test_many_schemas(run):
    """Thousands of different sets of keys come back, and do not exhaust what tools can take."""
    done = run(
        KEPT
        + """
for n in range(1000):
    log_message("app:many", **{f"key{n}": n})
"""
    )
    assert messages_of(done) == done.lines()


def test_callback_on_another_thread(run):
    """Windows calls back on threads of its own."""
    done = run(
        PROVIDER
        + """
thread = threading.Thread(target=notify, args=(1, 5))
thread.start()
log_message("app:one")
thread.join()
log_message("app:two")
""",
        level=-1,
    )
    assert done.status == 0
    assert [event.decode().name for event in done.events()][-1] == "app:two"


def test_subprocess(run):
    """An action that goes on in another process is the same activity's child there."""
    done = run(
        KEPT
        + """
import subprocess
child = '''
import sys
from eliot_etw import Action, add_destinations
from eliot_etw.destinations.etw import EtwDestination
add_destinations(EtwDestination("my-app"))
with Action.continue_task(task_id=sys.argv[1]):
    pass
'''
with start_task(action_type="app:parent") as action:
    task_id = action.serialize_task_id()
    subprocess.run([sys.executable, "-c", child, task_id], stdin=subprocess.DEVNULL, check=True)
"""
    )
    messages = messages_of(done)
    assert {message["task_uuid"] for message in messages} == {done.lines()[0]["task_uuid"]}
    assert json.dumps([message["task_level"] for message in messages]) == (
        "[[1], [2, 1], [2, 2], [3]]"
    )
    assert len(done.of("EventRegister")) == len(done.of("EventUnregister")) == 2
