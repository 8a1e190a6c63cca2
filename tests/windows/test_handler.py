"""Tests of EtwHandler on a Windows Python, of what arrives at Windows itself."""

import pytest

from eliot_etw.etw import activity_id, provider_guid
from tests.windows.conftest import NOTIFY

HANDLER = (
    NOTIFY
    + """
import json, logging, os, sys, threading
from eliot_etw.stdlib import EtwHandler

logging.basicConfig(level=1, handlers=[EtwHandler()])
log = logging.getLogger("app.db")
"""
)


def test_fields(run):
    """All fields of a record arrive, with what was given in `extra`, each with its type."""
    done = run(
        HANDLER
        + """
log.warning("hello %s", "Wörld\\0\\ud800", extra={"user": "ä", "n": -1, "part": 0.5, "ok": True})
print(json.dumps([os.getpid(), threading.get_ident()]))
"""
    )
    (event,) = done.events()
    process, thread = done.lines()[0]
    fields = event.decode().as_dict()
    expected = {
        "module": "<string>",
        "funcName": "<module>",
        "lineno": HANDLER.count("\n") + 2,
        "levelname": "WARNING",
        "levelno": 30,
        "name": "app.db",
        "thread": thread,
        "threadName": "MainThread",
        "user": "ä",
        "n": -1,
        "part": 0.5,
        "ok": True,
    }
    assert expected == {name: fields[name] for name in expected}
    assert fields["msg"].startswith("hello Wörld\0")
    assert (event.level, event.process_id) == (3, process)


def test_like_pyetw(run):
    """The first seven fields, and the provider's GUID, are those that pyetw writes."""
    done = run(
        HANDLER
        + """
import pyetw
log.addHandler(pyetw.LoggerHandler())
log.error("hello %s", "world")
"""
    )
    theirs, ours = done.events()
    assert [*theirs.decode().fields] == ours.decode().fields[:7]
    assert (theirs.provider_id, theirs.level) == (ours.provider_id, ours.level)


def test_provider_of_each_logger(run):
    """A logger's events are of the provider that has its name."""
    done = run(
        HANDLER
        + """
log.info("one")
logging.info("two")
"""
    )
    names = [(event.provider_name, event.provider_id) for event in done.events()]
    assert names == [("app.db", provider_guid("app.db")), ("root", provider_guid("root"))]


def test_action(run):
    """An event within an action has its ids."""
    done = run(
        HANDLER
        + """
from eliot_etw import start_task
with start_task(action_type="app:task") as action:
    log.info("within")
print(json.dumps(action.task_uuid))
"""
    )
    (event,) = done.events()
    task = done.lines()[0]
    assert event.activity_id.bytes_le == activity_id(task, (), event.process_id)
    assert event.decode().as_dict()["task_uuid"] == task


def test_exception(run):
    """The text of an exception arrives."""
    done = run(
        HANDLER
        + """
try:
    1 / 0
except ArithmeticError:
    log.exception("failed")
"""
    )
    (event,) = done.events()
    assert "ZeroDivisionError: division by zero" in event.decode().as_dict()["exc_text"]
    assert event.level == 2


def test_nobody_listens(run):
    """Nothing is written then."""
    done = run(HANDLER + "log.critical('unheard')", level=-1)
    assert (done.status, done.of("EventWriteTransfer")) == (0, [])


def test_level(run):
    """What nobody wants is not written."""
    done = run(HANDLER + "log.info('unheard'); log.warning('heard')", level=3)
    assert [event.decode().as_dict()["msg"] for event in done.events()] == ["heard"]


def test_session_that_starts_and_stops(run):
    """A session may start and stop while the program runs."""
    done = run(
        HANDLER
        + """
log.info("before")
notify(1, 5)
log.info("during")
notify(0, -1)
log.info("after")
""",
        level=-1,
    )
    assert [event.decode().as_dict()["msg"] for event in done.events()] == ["during"]


def test_threads(run):
    """Records of many threads do not mix, and none is missing."""
    done = run(
        HANDLER
        + """
def work(number):
    for n in range(100):
        log.info("%d %d %s", number, n, "x" * n)
threads = [threading.Thread(target=work, args=[n], name=f"T{n}") for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    )
    found = [event.decode().as_dict() for event in done.events()]
    assert sorted((fields["threadName"], fields["msg"]) for fields in found) == sorted(
        (f"T{number}", f"{number} {n} {'x' * n}") for number in range(8) for n in range(100)
    )
    assert done.is_balanced()


def test_closed_twice_and_called_late(run):
    """Nothing is written or called once it is closed, however often it is closed."""
    done = run(
        HANDLER
        + """
log.info("one")
handler = logging.root.handlers[0]
handler.close()
handler.close()
notify(1, 5, to_all=1)
log.info("late")
"""
    )
    assert (done.status, done.errors, len(done.events())) == (0, "", 1)
    assert done.is_balanced()


@pytest.mark.parametrize("end", ["", "logging.shutdown()", "os._exit(0)", "raise SystemExit(0)"])
def test_end(run, end):
    """However a program ends, it ends well, and leaves no registration unless it is killed."""
    done = run(HANDLER + f"log.info('one'); {end}")
    assert (done.status, len(done.events())) == (0, 1)
    assert done.is_balanced() == ("_exit" not in end)


def test_many_loggers(run):
    """Each of many loggers has its provider, and none is left registered."""
    done = run(HANDLER + "\nfor n in range(50): logging.getLogger(f'app.{n}').info('one')")
    assert {f"app.{n}" for n in range(50)} == {event.provider_name for event in done.events()}
    assert done.is_balanced()


def test_write_error(run):
    """What Windows refuses is counted by its code, and logging goes on."""
    program = HANDLER + "log.info('one'); log.info('two'); "
    done = run(program + "print(json.dumps(logging.root.handlers[0].stats()))", write_error=8)
    assert done.status == 0
    assert done.lines()[0]["failed_8"] == 2
    assert len(done.events(result=8)) == 2


def test_registration_refused(run):
    """A provider that Windows does not register is an error at set-up."""
    done = run(HANDLER, register_error=5)
    assert done.status == 1
    assert "[WinError 5] A provider must be registered" in done.errors.splitlines()[-1]
    assert done.of("EventUnregister") == []
