"""Tests of what destinations around destinations share."""

import os
import signal
import sys
import threading
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eliot_etw import add_destinations, log_message
from eliot_etw._counter import Counter
from eliot_etw.destinations import (
    BackgroundDestination,
    FileDestination,
    LevelFilter,
    MemoryDestination,
    RateLimitedDestination,
    RedactedDestination,
    RotatingFileDestination,
    TailSampledDestination,
)
from eliot_etw.destinations.tail_sampled import marked, one_in
from eliot_etw.sources import FileSource
from tests._programs import run, run_forking


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


class Spy:
    """A destination that counts what comes to the one inside, and what that took.

    Attributes:
        came: How many messages came.
        took: How many of them were taken.
        reports: The tasks of those that tell of dropped ones.
    """

    is_leaf = True
    closes_in_time = True

    def __init__(self, inner):
        self.inner = inner
        self.came, self.took = Counter(), Counter()
        self.reports = set()

    def __call__(self, message):
        self.came.add()
        if message.get("message_type") == "eliot:dropped":
            self.reports.add(message["task_uuid"])
        self.inner(message)
        self.took.add()

    def close(self, timeout_s):
        if hasattr(self.inner, "close"):
            self.inner.close(timeout_s)


class Flaky:
    """The innermost destination, which takes what it does not refuse."""

    is_leaf = True

    def __init__(self):
        self.messages = []

    def __call__(self, message):
        if message.get("bad"):
            raise OSError("no")
        self.messages.append(message)


# What makes each wrapper, and the law that its counts obey: so many messages came, so many of
# them, or in their place, were sent on, and so many of what was sent on were taken.
WRAPPERS = {
    "levels": (
        lambda inner: LevelFilter(inner, types={"noise": "warning"}),
        lambda stats, came, sent, took: came == sent + stats["dropped"],
    ),
    "redacted": (RedactedDestination, lambda stats, came, sent, took: came == sent),
    "limited": (
        lambda inner: RateLimitedDestination(inner, burst=2, max_kinds=2),
        lambda stats, came, sent, took: came == sent - stats["told"] + stats["folded"],
    ),
    "sampled": (
        lambda inner: TailSampledDestination(
            inner, marked("kept") | one_in(2), max_messages=7, max_tasks=3
        ),
        lambda stats, came, sent, took: (
            (stats["held"], stats["held_bytes"], stats["kept"]) == (0, 0, took)
            and came == sent + stats["dropped"]
            and sent == stats["kept"] + stats["failed"]
        ),
    ),
    "drops new": (lambda inner: _background(inner, "drop_new"), lambda *counts: _adds_up(*counts)),
    "drops old": (lambda inner: _background(inner, "drop_old"), lambda *counts: _adds_up(*counts)),
}


def _background(inner, when_full):
    return BackgroundDestination(inner, max_queued=3, when_full=when_full)


def _adds_up(stats, came, sent, _):
    assert (stats["queued"], stats["dropped_as_reentrant"]) == (0, 0)
    return came == sent + stats["dropped"] and sent == stats["delivered"] + stats["failed"]


class Stack:
    """Wrappers in wrappers, with a spy before and behind each."""

    def __init__(self, names):
        self.innermost = Flaky()
        self.outermost = Spy(self.innermost)
        self.layers = []
        for name in names:
            make, law = WRAPPERS[name]
            wrapper = make(self.outermost)
            self.layers.append((name, wrapper, law, self.outermost))
            self.outermost = Spy(wrapper)

    def check(self):
        """Close all, and hold each against its law: nothing is lost uncounted."""
        self.outermost.close(30)
        before = self.outermost
        for name, wrapper, law, behind in reversed(self.layers):
            # Without the wrapper's own reports of what it dropped.
            sent = behind.came.value - len(behind.reports - before.reports)
            counts = wrapper.stats(), before.came.value, sent, behind.took.value
            assert law(*counts), (name, counts)
            before = behind
        assert len(self.innermost.messages) == before.took.value


stacks = st.lists(st.sampled_from(sorted(WRAPPERS)), max_size=6)
steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "end", "message", "noise"]),
        st.integers(0, 4),
        st.dictionaries(
            st.sampled_from(["bad", "kept", "password", "values"]),
            st.sampled_from([True, "x", ["x", {"secret": 1}]]),
        ),
    ),
    max_size=40,
)


def logged(steps):
    """Make the messages of some tasks that go on at the same time."""
    places, opened = {}, set()
    for what, task, fields in steps:
        places[task] = places.get(task, 0) + 1
        message = {**fields, "task_uuid": f"task {task}", "task_level": [places[task]]}
        if what == "start" and places[task] == 1:
            opened.add(task)
            message |= {"action_type": "a", "action_status": "started"}
        elif what == "end" and task in opened:
            opened.remove(task)
            message |= {"action_type": "a", "action_status": "succeeded"}
        else:
            message["message_type"] = what
        yield message


class TestAnyOrder:
    """However wrappers are nested: what came is what was taken, refused or counted as dropped."""

    @given(names=stacks, steps=steps)
    def test_adds_up(self, names, steps):
        """Whatever is logged, and whatever the innermost refuses."""
        stack = Stack(names)
        for message in logged(steps):
            with suppress(OSError):
                stack.outermost(message)
        stack.check()

    @given(names=stacks)
    @settings(max_examples=15)
    def test_threads(self, names):
        """With several threads that log at once."""
        stack = Stack(names)
        fields = [{"bad": True}, {}, {}]
        [*messages] = logged([("message", n % 5, fields[n % 3]) for n in range(90)])

        def log():
            for message in messages:
                with suppress(OSError):
                    stack.outermost(message)

        threads = [threading.Thread(target=log) for _ in range(4)]
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval_s)
        stack.check()

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
    @given(names=stacks)
    @settings(max_examples=15)
    def test_signals(self, names):
        """With the handler of a signal that logs in the midst of anything."""
        stack = Stack(names)
        [*messages] = logged([("message", n % 5, {}) for n in range(20)])

        def handle(*_):
            stack.outermost(messages[0])

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            for _ in range(50):
                for message in messages:
                    stack.outermost(message)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        stack.check()


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
    run(program, *arguments)
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


FAILING = """
from eliot_etw.destinations import _wrapper

class Holder:
    def __init__(self, name, fails):
        self.name, self.fails = name, fails
        _wrapper.finish_at_exit(self)

    def _finish(self, deadline):
        self.do("finished")

    def _forget(self):
        self.do("forgot")

    def do(self, what):
        if self.fails:
            raise OSError(f"{self.name} has not {what}")
        print(self.name, what, flush=True)

holders = [Holder("first", False), Holder("second", True), Holder("third", False)]
"""


def test_one_that_fails_at_the_end():
    """All others are finished, and what it raised is told."""
    done = run(FAILING)
    assert done.stdout.split("\n") == ["third finished", "first finished", ""]
    assert "OSError: second has not finished\n" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_one_that_fails_at_a_fork():
    """All others forget, and what it raised is told."""
    done = run_forking(FAILING + "in_child(lambda: None)\nholders.clear()")
    assert done.stdout.split("\n") == ["first forgot", "third forgot", ""]
    assert "OSError: second has not forgot\n" in done.stderr
