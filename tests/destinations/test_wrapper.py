"""Tests of what destinations around destinations share."""

import os
import subprocess
import sys

import pytest

from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import (
    FileDestination,
    LevelFilter,
    MemoryDestination,
    RotatingFileDestination,
)
from eliot_etw.sources import FileSource


class Closable:
    """A destination that knows how often it was closed."""

    closed = 0

    def __call__(self, message):
        raise OSError("gone")

    def close(self):
        self.closed += 1


def test_closes_what_is_inside():
    """Closing the outermost closes the innermost."""
    inner = Closable()
    LevelFilter(LevelFilter(inner)).close(timeout_s=1)
    assert inner.closed == 1


def test_closes_in_time():
    """All that is inside has to be done within the time of the outermost."""

    class Slow:
        closes_in_time = True
        timeouts = ()

        def __call__(self, message):
            pass

        def close(self, timeout_s=1000):
            self.timeouts += (timeout_s,)

    inner = Slow()
    LevelFilter(LevelFilter(inner)).close(timeout_s=7)
    assert all(0 < timeout_s <= 7 for timeout_s in inner.timeouts)
    assert len(inner.timeouts) == 1
    assert RotatingFileDestination.closes_in_time


def test_inside_need_not_be_closable():
    """A function has no close()."""
    LevelFilter(print).close()


def test_not_callable():
    """What is inside must be a destination."""
    with pytest.raises(TypeError, match="LevelFilter needs a destination inside, got 'file'"):
        LevelFilter("file")


def test_leaf(tmp_path):
    """A wrapper logs nothing itself: it is called directly if what is inside may be."""
    file = FileDestination(tmp_path / "log")
    assert LevelFilter(LevelFilter(file)).is_leaf
    assert not LevelFilter(LevelFilter(print)).is_leaf
    file.close()


def test_inside_may_log(messages):
    """What a function inside logs does not come to it again."""
    seen = []

    def inner(message):
        seen.append(message["message_type"])
        log_message("inner")

    add_destinations(LevelFilter(inner))
    log_message("outer")
    assert (seen, len(messages)) == (["outer"], 2)


def test_failure_inside_is_reported():
    """What the destination inside raises comes to the dispatcher, which tells the others."""
    memory = MemoryDestination()
    add_destinations(memory, LevelFilter(Closable()))
    log_message("t")
    assert [m["message_type"] for m in memory.messages] == ["t", "eliot:destination_failure"]


ALL_OF_THEM = """
import os, sys
from eliot_etw import FileDestination, add_destinations, log_message, start_task
from eliot_etw.destinations import *
from eliot_etw.destinations.tail_sampled import one_in, unfinished

add_destinations(
    LevelFilter(
        RedactedDestination(
            RateLimitedDestination(
                TailSampledDestination(
                    BackgroundDestination(FileDestination(sys.argv[1])), unfinished() | one_in(1)
                )
            )
        ),
        types={"app:noise": "warning"},
    )
)
task = start_task(action_type="app:task")
for number in range(100):
    task.log("app:step", number=number, password="hunter2")
    task.log("app:noise")
if len(sys.argv) > 2 and not os.fork():
    start_task(action_type="app:child").log("app:step", number=-1)
    sys.exit()
"""


def logged_by(program, *arguments):
    """Run a program to its end, and return the fields of what it logged that tell about it."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    subprocess.run(command, check=True, timeout=60)
    return [
        (
            message.get("action_type", message.get("message_type")),
            message.get("password"),
            message.get("eliot:repeated", {}).get("times"),
        )
        for message in FileSource(arguments[0])
    ]


def test_all_of_them(tmp_path):
    """Wrappers in wrappers do what each does, and all that is held is there after the end."""
    gone = "[redacted: key *password*]"
    assert logged_by(ALL_OF_THEM, tmp_path / "log") == [
        ("app:task", None, None),
        ("app:step", gone, None),
        ("app:step", gone, 99),
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_all_of_them_in_a_child(tmp_path):
    """A forked child delivers what it has logged itself, and nothing of its parent's."""
    logged = logged_by(ALL_OF_THEM, tmp_path / "log", "fork")
    kinds = sorted((kind, times) for kind, _, times in logged if kind != "app:step")
    assert kinds == [("app:child", None), ("app:task", None)]
    assert sorted(times or 1 for kind, _, times in logged if kind == "app:step") == [1, 1, 99]
