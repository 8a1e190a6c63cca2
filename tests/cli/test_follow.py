"""Tests of `eliot-etw tree --follow`, on real files that grow and a real terminal."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from eliot_etw._json import encode_line
from eliot_etw.destinations import JournaldDestination
from eliot_etw.viewers._forest import Forest
from tests import _journal

_follow = pytest.importorskip("eliot_etw.cli._follow")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals")

# Nothing here waits for a time to pass: it waits for what is to come, at most so long.
PATIENCE_S = 60


def message(uuid, level, kind, status=None, ago=0.0):
    """Write a message of now as a line of a log."""
    named = {"action_type": kind, "action_status": status} if status else {"message_type": kind}
    return encode_line(
        {"task_uuid": uuid, "task_level": level, "timestamp": time.time() - ago, **named}
    )


def whole(uuid, kind):
    """Write a task that is finished."""
    return message(uuid, [1], kind, "started") + message(uuid, [2], kind, "succeeded")


class Reader:
    """Reads what a program writes until what is waited for is there."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self.text = ""

    def until(self, pattern):
        """Read until the pattern is there; return everything up to its end, and forget it."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.text, re.DOTALL)):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._descriptor], [], [], max(left, 0))
            assert ready, f"{pattern!r} did not come after {self.text!r}"
            data = os.read(self._descriptor, 65536)
            assert data, f"{pattern!r} did not come before the end: {self.text!r}"
            self.text += data.decode()
        before, self.text = self.text[: found.end()], self.text[found.end() :]
        return before


@pytest.fixture
def follow(start, tmp_path):
    """Return a function that follows files: the program, and a reader of its output."""

    def follow(*arguments):
        program = start("tree", "--follow", *arguments)
        return program, Reader(program.stdout.fileno())

    return follow


@pytest.fixture
def log(tmp_path):
    """Return a path, and a function that adds to the file there."""
    path = tmp_path / "app.log"

    def add(*lines):
        with path.open("ab") as file:
            file.write(b"".join(lines))

    return path, add


def interrupt(program):
    """End it as Ctrl-C does; return the status and what it said."""
    program.send_signal(signal.SIGINT)
    # First: what one that goes on has to say never ends.
    status = program.wait(PATIENCE_S)
    return status, program.stderr.read().decode()


def test_tasks_as_they_finish(follow, log):
    """What is there is shown, then each task when its end is written; Ctrl-C ends it quietly."""
    path, add = log
    add(whole("one", "app:one"))
    program, output = follow(path)
    output.until(r"✓ app:one \[one\]\n")
    add(message("two", [1], "app:two", "started"), whole("three", "app:three"))
    shown = output.until(r"✓ app:three \[three\]\n")
    assert "app:two" not in shown
    add(message("two", [2], "app:two", "succeeded"))
    output.until(r"✓ app:two \[two\]\n")
    assert interrupt(program) == (130, "")


def test_rotation(follow, log):
    """A log that is renamed and made anew is followed on."""
    path, add = log
    add(whole("one", "app:one"))
    _, output = follow(path)
    output.until("app:one")
    path.rename(path.with_suffix(".1"))
    add(whole("two", "app:two"))
    output.until("app:two")
    path.write_bytes(b"")
    add(whole("three", "app:three"))
    output.until("app:three")


def test_unfinished_line(follow, log):
    """Half a line is waited for."""
    path, add = log
    line = whole("one", "app:one")
    add(line[:-20])
    program, output = follow(path)
    add(line[-20:])
    output.until("app:one")
    assert interrupt(program) == (130, "")


def test_several_files(follow, log, tmp_path):
    """Several logs are followed as one; one that is not there yet may come."""
    path, add = log
    other = tmp_path / "other.log"
    _, output = follow(path, other)
    add(
        message("one", [1], "app:client", "started"),
        message("one", [3], "app:client", "succeeded"),
    )
    other.write_bytes(
        message("one", [2, 1], "app:server", "started")
        + message("one", [2, 2], "app:server", "succeeded")
    )
    output.until(r"app:client \[one\]\n[^\n]*└─ ✓ app:server\n")


def test_selection(follow, log):
    """Selecting works for what is to come."""
    path, add = log
    add(whole("one", "app:one"), whole("two", "app:two"))
    _, output = follow("--type", "app:two", path)
    assert "app:one" not in output.until("app:two")


def test_json(follow, log):
    """Programs get a line for each tree."""
    path, add = log
    add(message("zero", [1], "app:open", "started"), whole("one", "app:one"))
    _, output = follow("--json", path)
    assert json.loads(output.until("\n"))["task"] == "one"


def test_bad_lines(follow, log):
    """A line that is no message is reported when it comes."""
    path, add = log
    add(b"nonsense\n", whole("one", "app:one"))
    program, output = follow(path)
    output.until("app:one")
    assert interrupt(program)[1].startswith(f"{path}:1: not JSON")


def test_unreadable(follow, tmp_path):
    """When there is nothing left that can be read, it ends with status 2."""
    program, _ = follow(tmp_path)
    assert program.wait(PATIENCE_S) == 2
    assert program.stderr.read().decode() == f"eliot-etw: {tmp_path}: Is a directory\n"


def test_standard_input(start):
    """A pipe is followed until it is closed: each task is shown when it is finished."""
    program = start("tree", "--follow", stdin=subprocess.PIPE)
    output = Reader(program.stdout.fileno())
    program.stdin.write(whole("one", "app:one"))
    program.stdin.flush()
    output.until("app:one")
    program.stdin.write(message("two", [1], "app:two", "started"))
    program.stdin.close()
    output.until(r"app:two \[two\] \(no end\)")
    assert program.wait(PATIENCE_S) == 0


def test_journal(follow, log):
    """A journal is followed as a file is, and together with one."""
    path, add = log
    journal = _journal.shared()
    write = JournaldDestination(socket_path=journal.socket_path, identifier="followed")
    program, output = follow(path, f"journal:identifier=followed,directory={journal.logs}")
    add(whole("one", "app:one"))
    output.until("app:one")
    for line in whole("two", "app:two").splitlines():
        write(json.loads(line))
    output.until("app:two")
    assert interrupt(program) == (130, "")


def test_journal_that_cannot_be_read(follow):
    """It ends with an error, and with journalctl's reason."""
    _journal.shared()
    program, _ = follow("journal:directory=/no/such")
    assert program.wait(PATIENCE_S) == 2
    assert b"/no/such" in program.stderr.read()


def test_plain_lines(follow, log):
    """Without a terminal, what has been running for long is named in a line, without escapes."""
    path, add = log
    add(message("one", [1], "app:slow", "started", ago=100))
    _, output = follow(path)
    shown = output.until(r"◌ running for [^\n]*: app:slow \[one\][^\n]*\n")
    assert "\x1b" not in shown


def test_terminal(start, log):
    """On a terminal what is running stands below the tree, and gives way to what is finished."""
    path, add = log
    add(message("one", [1], "app:one", "started"))
    ours, theirs = os.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": ""}
    program = start("tree", "-F", path, stdout=theirs, env=environment)
    os.close(theirs)
    output = Reader(ours)
    output.until(r"\x1b\[33m◌ running for [^\n]*: app:one \[one\] ?\x1b\[0m\r\n")
    add(message("one", [2], "app:one", "succeeded"))
    # Two lines up, all below deleted, then the day and the finished task.
    output.until(r"\x1b\[2A\x1b\[J[^\n]*UTC?[^\n]*\r\n[^\n]*app:one")
    assert interrupt(program) == (130, "")
    os.close(ours)


class TestQuiet:
    """Tasks that have ended, but of which something is missing."""

    @pytest.fixture
    def clock(self, monkeypatch):
        """Return a clock that goes when it is told to."""
        now = [1000.0]
        monkeypatch.setattr(_follow.time, "monotonic", lambda: now[0])
        return now

    def test_shown_after_a_while(self, clock):
        """Such a task is shown when nothing has come for some seconds, and then forgotten."""
        forest = Forest(hold_bytes=0)
        place = {"task_uuid": "one", "timestamp": 1.0, "action_type": "app:one"}
        forest.add({**place, "task_level": [1], "action_status": "started"})
        forest.add({**place, "task_level": [3], "action_status": "succeeded"})
        quiet = _follow._Quiet(forest)
        shown = []
        for seconds in (0, 4, 2, 10):
            clock[0] += seconds
            shown.append([task.uuid for task in quiet.tasks()])
        assert shown == [[], [], ["one"], []]

    def test_something_came(self, clock):
        """A message that comes meanwhile makes it wait again."""
        forest = Forest(hold_bytes=0)
        place = {"task_uuid": "one", "timestamp": 1.0}
        ended = {"action_type": "app:one", "action_status": "succeeded"}
        forest.add({**place, **ended, "task_level": [9]})
        quiet = _follow._Quiet(forest)
        shown = []
        for level in (2, 3, 4, None, None):
            clock[0] += 4
            if level:
                forest.add({**place, "task_level": [level], "message_type": "app:said"})
            shown.append([task.uuid for task in quiet.tasks()])
        assert shown == [[], [], [], [], ["one"]]

    def test_running_tasks_are_waited_for(self, clock):
        """A task that has not ended is never given up."""
        forest = Forest(hold_bytes=0)
        forest.add(
            {
                "task_uuid": "one",
                "task_level": [1],
                "timestamp": 1.0,
                "action_type": "app:one",
                "action_status": "started",
            }
        )
        quiet = _follow._Quiet(forest)
        for _ in range(5):
            clock[0] += 100
            assert list(quiet.tasks()) == []
