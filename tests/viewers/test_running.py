"""Tests of showing what is running."""

import io
import time

import pytest

from eliot_etw.viewers._forest import Task
from eliot_etw.viewers._running import RunningView, running
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._text import Clock, width_of
from eliot_etw.viewers._tree import TreeText

pytest.importorskip("rich")


class Terminal(io.TextIOWrapper):
    """A stream that says that it is a terminal."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8", newline="\n")

    def isatty(self):
        return True


def task_of(messages, ago=None):
    """Make a task of messages, the first of which was logged so many seconds ago."""
    task = Task(messages[0]["task_uuid"], 1)
    shift = 0 if ago is None else time.time() - ago - messages[0]["timestamp"]
    for message in messages:
        message["timestamp"] += shift
        task.add(tuple(message["task_level"]), message)
    return task


def view_on(stream, **options):
    """Make a view that writes to a stream."""
    screen = Screen(stream, **options)
    view = RunningView(screen, TreeText(screen, Clock(utc=True)))

    def written():
        screen.flush()
        text = stream.buffer.getvalue().decode()
        stream.buffer.seek(0)
        stream.buffer.truncate()
        return text

    return view, written


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Give each test a usual terminal, whatever the tests run in."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return monkeypatch


class TestRunning:
    """Which actions are running."""

    def test_innermost(self, log):
        """What is waited for is the innermost action; those around it are its path."""
        story = """
            1 start a
            2.1 start b
            2.2.1 start c
            2.2.2 m
            3.1 start d
            3.2 end d
            4.1 start e
        """
        found = sorted(action.types for action in running([task_of(log(story))]))
        assert found == [("a", "b", "c"), ("a", "e")]

    def test_nothing(self, log):
        """Whole tasks and messages are not running."""
        stories = ["1 start a \n 2 end a", "1 m", "2.2 m", "2 end a"]
        assert list(running([task_of(log(story)) for story in stories])) == []

    def test_lost_start_on_the_path(self, log):
        """An action around it whose start is lost is left out of the path."""
        (action,) = running([task_of(log("1 start a \n 2.2.1 start c"))])
        assert action.types == ("a", "c")

    def test_time(self, log):
        """It has been running since its start; not at all if that is in the future or unknown."""
        (action,) = running([task_of(log("1 start a"))])
        began = action.start["timestamp"]
        times = [action.took(began + 5), action.took(began - 5)]
        action.start["timestamp"] = None
        assert [*times, action.took(began)] == [5, 0, 0]


class TestLiveView:
    """On a terminal."""

    def test_below_the_tree(self, log):
        """Each action is a line: for how long, which, its fields."""
        view, written = view_on(Terminal(), color="never")
        view.show([task_of(log("1 start a \n 2.1 start b n=5"), ago=60)])
        blank, line = written().splitlines()
        assert (blank, line[:14], line[-20:]) == (
            "",
            "◌ running for ",
            ": a → b [8c668cde] n=5"[-20:],
        )

    def test_taken_back(self, log):
        """What was shown is taken back before something else is."""
        view, written = view_on(Terminal(), color="never")
        view.show([task_of(log("1 start a"))])
        written()
        view.clear()
        view.clear()
        assert written() == "\x1b[2A\x1b[J"

    def test_drawn_anew(self, log):
        """Showing it again takes the old lines back."""
        view, written = view_on(Terminal(), color="never")
        view.show([task_of(log("1 start a")), task_of(log("1 start b", uuid="other"))])
        written()
        view.show([])
        assert written() == "\x1b[3A\x1b[J"

    def test_longest_first_and_not_too_many(self, log):
        """Of many actions those are shown that have been running longest."""
        view, written = view_on(Terminal(), color="never")
        tasks = [task_of(log(f"1 start a{n}", uuid=f"t{n}"), ago=n * 100) for n in range(20)]
        view.show(tasks)
        lines = written().splitlines()
        assert [" a19 " in lines[1], " a12 " in lines[8], lines[9]] == [
            True,
            True,
            "… and 12 more running",
        ]
        assert len(lines) == 10

    def test_lines_fit(self, log):
        """No line is wider than the terminal: a broken line could not be taken back."""
        view, written = view_on(Terminal(), color="never")
        messages = log("1 start a")
        messages[0] |= {"text": "東京" * 100, "evil\x1b[A": "\x1b[A\n\r"}
        view.show([task_of(messages)])
        text = written()
        assert max(map(width_of, text.splitlines())) < 80
        assert text.replace("\n", "").isprintable()


class TestPlainView:
    """Where nothing can be taken back."""

    @pytest.fixture
    def view(self):
        return view_on(io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n"))

    def test_only_what_takes_long(self, log, view):
        """An action is named when it has been running for some seconds, not at once."""
        view, written = view
        view.show(
            [task_of(log("1 start a", uuid="new"), ago=1), task_of(log("1 start b"), ago=60)]
        )
        (line,) = written().splitlines()
        assert ": b [8c668cde]" in line

    def test_not_again_and_again(self, log, view):
        """It is named again only when its time has doubled."""
        view, written = view
        task = task_of(log("1 start b"), ago=60)
        counts = []
        for older in (0, 0, 30, 40):
            task.rows[0][1]["timestamp"] -= older
            view.show([task])
            counts.append(len(written().splitlines()))
        assert counts == [1, 0, 0, 1]

    def test_nothing_to_take_back(self, log, view):
        """No escape sequences come out."""
        view, written = view
        view.show([task_of(log("1 start b"), ago=60)])
        view.clear()
        assert "\x1b" not in written()

    def test_dumb_terminal(self, log, environment):
        """A terminal that cannot do it is treated as none."""
        environment.setenv("TERM", "dumb")
        view, written = view_on(Terminal())
        view.show([task_of(log("1 start b"), ago=60)])
        view.clear()
        assert "\x1b" not in written()
