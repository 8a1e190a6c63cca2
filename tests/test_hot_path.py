"""The hot path's budget: how many calls a message takes, so that a slowdown needs no clock."""

import sys
from contextlib import closing

import pytest

from eliot_etw import _task_level, add_destinations, log_message, start_action, start_task
from eliot_etw.destinations.file import FileDestination
from eliot_etw.destinations.journald import JournaldDestination
from tests import _journal

FILE = ["__call__"]
# One call is the guard against re-entrance, which only what is not our own needs.
FUNCTION = ["call", "<lambda>"]


@pytest.fixture(autouse=True)
def names_for_tasks():
    """Have some at hand: they are made many at a time, with calls of their own."""
    _task_level._spare.clear()
    _task_level.new_task_uuid()


def message():
    log_message(message_type="app:message", key=123, other="abc")


def child():
    with start_action(action_type="app:child", key=123, other="abc"):
        pass


def task():
    with start_task(action_type="app:task", key=123, other="abc"):
        pass


def calls_of(work):
    """Return the names of the Python functions that are called, and how many of C's are."""
    python, c = [], []

    def note(frame, event, function):
        if event == "call":
            python.append(frame.f_code.co_name)
        elif event == "c_call":
            c.append(function)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    # Without the work itself, and without the call that ended the counting.
    return python[1:], len(c) - 1


@pytest.mark.parametrize(
    ("work", "python", "most_of_c"),
    [
        (message, ["log_message", *FILE], 6),
        (child, ["start_action", *FILE, "__enter__", "__exit__", *FILE], 14),
        (
            task,
            ["start_task", "new_task_uuid", "start_action", *FILE, "__enter__", "__exit__", *FILE],
            13,
        ),
    ],
)
def test_to_a_file(work, python, most_of_c, tmp_path):
    """To a file, a message is two calls of Python's, an action five, a task two more."""
    add_destinations(FileDestination(tmp_path / "log"))
    with start_action(action_type="app:outer"):
        work()  # what is done once only is done
        called, of_c = calls_of(work)
    assert python == called
    assert of_c <= most_of_c


@pytest.mark.parametrize(
    ("work", "python", "most_of_c"),
    [
        (message, ["log_message", *FUNCTION], 3),
        (child, ["start_action", *FUNCTION, "__enter__", "__exit__", *FUNCTION], 8),
        (
            task,
            [
                "start_task",
                "new_task_uuid",
                "start_action",
                *FUNCTION,
                "__enter__",
                "__exit__",
                *FUNCTION,
            ],
            7,
        ),
    ],
)
def test_to_a_function(work, python, most_of_c):
    """To somebody else's destination, each message is one call of Python's more."""
    add_destinations(lambda _message: None)
    with start_action(action_type="app:outer"):
        work()
        called, of_c = calls_of(work)
    assert python == called
    assert of_c <= most_of_c


@pytest.mark.parametrize(
    ("work", "python", "most_of_c"),
    [
        (message, ["log_message", *FILE], 7),
        (child, ["start_action", *FILE, "__enter__", "__exit__", *FILE], 19),
    ],
)
def test_to_a_journal(work, python, most_of_c):
    """To a journal, a message is two calls of Python's, too."""
    journal = _journal.shared()
    with closing(JournaldDestination(socket_path=journal.socket_path)) as destination:
        add_destinations(destination)
        with start_action(action_type="app:outer"):
            work()
            called, of_c = calls_of(work)
    assert python == called
    assert of_c <= most_of_c


def test_counting_tells():
    """One call more is seen: the budget is none that any number of calls would keep."""

    def more():
        message()

    add_destinations(lambda _message: None)
    with start_action(action_type="app:outer"):
        message()
        assert len(calls_of(more)[0]) == len(calls_of(message)[0]) + 1
