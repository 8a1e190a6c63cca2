"""Tests of sampling by tasks: nothing torn, nothing uncounted, memory bounded."""

import os
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import (
    Action,
    add_destinations,
    log_message,
    start_action,
    start_task,
    write_traceback,
)
from eliot_etw.destinations import MemoryDestination, TailSampledDestination, tail_sampled
from eliot_etw.destinations.tail_sampled import (
    Rule,
    failed,
    marked,
    one_in,
    slower_than,
    typed,
    unfinished,
)
from eliot_etw.parse import Parser
from tests._programs import run_forking
from tests.test_hostile_values import HOSTILE

ALL, NONE = Rule(lambda task: True), Rule(lambda task: False)


@pytest.fixture
def memory():
    """Return where tasks go that are kept."""
    return MemoryDestination()


@pytest.fixture
def sample(memory):
    """Return what adds a destination with a rule."""

    def sample(keep, **options):
        destination = TailSampledDestination(memory, keep, **options)
        add_destinations(destination)
        return destination

    return sample


def types_in(memory):
    """List the types of actions and messages that came."""
    return [m.get("action_type") or m.get("message_type") for m in memory.messages]


class TestWholeTasks:
    """All of a task, or nothing of it, when it is over."""

    def test_failed(self, sample, memory):
        """A task is kept for what happened in its depth, with all that came before."""
        sample(failed())
        for kind in ("good", "bad"):
            with suppress(ValueError), start_task(action_type=kind):
                log_message("message")
                with start_action(action_type="inner"):
                    if kind == "bad":
                        raise ValueError
        assert types_in(memory) == ["bad", "message", "inner", "inner", "bad"]
        [task] = Parser.parse_stream(memory.messages)
        assert task.is_complete()

    def test_waits_for_the_end(self, sample, memory):
        """Nothing is passed on before."""
        destination = sample(ALL)
        with start_action(action_type="a"):
            log_message("m")
            assert memory.messages == []
            assert destination.stats()["held"] == 2
        assert len(memory.messages) == 3
        assert destination.stats()["held"] == 0

    def test_single_messages(self, sample, memory):
        """A message outside of actions is a task of its own, decided about at once."""
        destination = sample(typed("k*"))
        log_message("keep")
        log_message("drop")
        assert types_in(memory) == ["keep"]
        stats = destination.stats()
        assert (stats["kept_tasks"], stats["dropped_tasks"], stats["decided_early"]) == (1, 1, 0)

    def test_messages_after_the_end(self, sample, memory):
        """What is logged in a task that is over goes where the task went."""
        sample(typed("kept"))
        for kind in ("kept", "dropped"):
            with start_action(action_type=kind) as action:
                pass
            action.log("late")
        assert types_in(memory) == ["kept", "kept", "late"]

    def test_continued_tasks(self, sample, memory):
        """What was continued from another process is over when all that was continued is."""
        sample(ALL)
        with Action.continue_task(task_id="x@/2"):
            with Action.continue_task(task_id="x@/3"), start_action(action_type="inner"):
                pass
            assert memory.messages == []
        assert len(memory.messages) == 6

    def test_as_it_was(self, sample, memory):
        """What was logged is what was true then, however long it was held."""
        sample(ALL)
        values = [1]
        with start_action(action_type="a", values=values):
            values.append(2)
        assert memory.messages[0]["values"] == [1]

    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["start", "end", "log"]))))
    def test_any_order(self, steps):
        """Whatever tasks do at the same time: each is whole, and what is counted adds up."""
        memory, everything = MemoryDestination(), MemoryDestination()
        destination = TailSampledDestination(memory, one_in(2), max_messages=8, max_tasks=2)

        def both(message):
            everything(message)
            destination(message)

        counts, opened = {}, {}
        for number, step in steps:
            uuid = f"task {number}"
            counts[uuid] = counts.get(uuid, 0) + 1
            message = {"task_uuid": uuid, "task_level": [counts[uuid]]}
            if step == "start" and counts[uuid] == 1:
                message |= {"action_type": "a", "action_status": "started"}
                opened[uuid] = True
            elif step == "end" and opened.pop(uuid, None):
                message |= {"action_type": "a", "action_status": "succeeded"}
            both(message)
        destination.close()
        kept = {m["task_uuid"] for m in memory.messages}
        assert sorted(map(repr, memory.messages)) == sorted(
            repr(m) for m in everything.messages if m["task_uuid"] in kept
        )
        stats = destination.stats()
        assert stats["held"] == 0
        assert stats["kept"] + stats["dropped"] == len(everything.messages)


class TestRules:
    """What tasks are kept for."""

    def kept(self, rule):
        """Say which of some tasks a rule keeps."""
        memory = MemoryDestination()
        destination = TailSampledDestination(memory, rule)
        add_destinations(destination)
        with start_task(action_type="plain"):
            pass
        with start_task(action_type="marked"):
            log_message("m", keep=True)
        with start_task(action_type="traced"):
            try:
                raise ValueError
            except ValueError:
                write_traceback()
        with suppress(ValueError), start_task(action_type="failed"):
            raise ValueError
        start_task(action_type="open")
        destination.close()
        return [kind for kind in types_in(memory) if kind not in ("m", "eliot:traceback")][::2]

    @pytest.mark.parametrize(
        ("expected", "rule"),
        [
            ("traced failed", failed()),
            ("marked", marked()),
            ("", marked("other")),
            ("open", unfinished()),
            ("plain", typed("pl*")),
            ("marked", typed("m")),
            ("traced failed open", failed() | unfinished()),
            ("failed", failed() & typed("f*")),
            ("plain marked open", ~failed()),
            ("plain marked traced failed open", one_in(1)),
            ("plain open", ~(failed() | marked())),
            ("plain marked traced failed open", slower_than(-1)),
            ("", slower_than(1000)),
        ],
    )
    def test_builders(self, expected, rule):
        """Each builder, and what combines them."""
        assert expected.split() == self.kept(rule)

    def test_slow(self, sample, memory, monkeypatch):
        """How long a task took does not depend on the time of day."""
        now = [100.0]
        monkeypatch.setattr(tail_sampled, "monotonic", lambda: now[0])
        sample(slower_than(2))
        for seconds in (1, 3):
            with start_task(action_type=f"{seconds} s"):
                now[0] += seconds
        assert types_in(memory) == ["3 s", "3 s"]

    def test_one_in_so_many(self):
        """The same tasks everywhere, and about as many as asked for."""
        rule = one_in(10)
        tasks = [tail_sampled.SampledTask(f"{n:032x}", (), 0.0, True) for n in range(10_000)]
        kept = [task for task in tasks if rule(task)]
        assert 800 < len(kept) < 1_200
        assert kept == [task for task in tasks if one_in(10)(task)]

    def test_own_function(self, sample, memory):
        """A rule may be any function of a task; such a one may log, so that it is guarded."""
        destination = sample(lambda task: len(task.messages) > 2)
        with start_task(action_type="short"):
            pass
        with start_task(action_type="long"):
            log_message("m")
        assert types_in(memory) == ["long", "m", "long"]
        assert not destination.is_leaf
        assert TailSampledDestination(memory, failed()).is_leaf

    def test_raises(self, sample, memory):
        """If a rule raises, the task is kept."""
        destination = sample(lambda task: 1 / 0)
        log_message("m")
        assert types_in(memory) == ["m"]
        assert destination.stats()["rule_failures"] == 1


class TestBounds:
    """Memory, time, and what becomes of tasks beyond."""

    def test_messages(self, sample, memory):
        """With too many messages, the oldest task is decided about, and stays whole."""
        destination = sample(typed("first"), max_messages=10)
        first = start_task(action_type="first")
        second = start_task(action_type="second")
        for _ in range(20):
            second.log("m")
            assert destination.stats()["held"] <= 10
        first.log("late")
        first.finish()
        second.finish()
        assert types_in(memory) == ["first", "late", "first"]
        assert destination.stats()["decided_early"] == 2

    @pytest.mark.parametrize(
        "value",
        [
            "x" * 100_000,
            b"x" * 100_000,
            ["x" * 100_000],
            {"a": [("x" * 50_000,), {"y" * 50_000}]},
            bytearray(100_000),
        ],
        ids=["text", "bytes", "list", "nested", "other"],
    )
    def test_bytes(self, sample, value):
        """With too many bytes of whatever kind, likewise; what is left counts, and no more."""
        destination = sample(NONE, max_bytes=1_000_000)
        tasks = [start_task(action_type="a") for _ in range(3)]
        for number in range(60):
            tasks[number % 3].log("m", value=value)
            stats = destination.stats()
            assert stats["held"] * 500 <= stats["held_bytes"] <= 1_000_000
        assert stats["decided_early"] == 3
        for task in tasks:
            task.finish()
        destination.close()
        assert (destination.stats()["held"], destination.stats()["held_bytes"]) == (0, 0)

    def test_values_of_which_nobody_knows_the_size(self, sample):
        """What has no end, no bound, or raises when it is asked, is held all the same."""
        destination = sample(NONE)
        circle, deep = {}, []
        circle["again"] = [circle]
        for _ in range(20_000):
            deep = [deep]
        with start_task(action_type="a") as task:
            for make in HOSTILE.values():
                task.log("m", value=make(), more=[make()], circle=circle, deep=deep)
            assert 0 < destination.stats()["held_bytes"] < 100_000_000
        assert destination.stats()["held_bytes"] == 0
        while deep:
            deep = deep.pop()  # to free it level by level

    def test_tasks(self, sample):
        """With too many tasks, likewise."""
        destination = sample(NONE, max_tasks=3)
        for _ in range(10):
            start_task(action_type="a")
        stats = destination.stats()
        assert (stats["held"], stats["dropped"], stats["decided_early"]) == (3, 7, 7)

    def test_tasks_that_never_end(self, sample, memory, monkeypatch):
        """After some time they are waited for no longer."""
        now = [100.0]
        monkeypatch.setattr(tail_sampled, "monotonic", lambda: now[0])
        sample(unfinished(), timeout_s=10)
        start_task(action_type="endless")
        now[0] += 9
        start_task(action_type="other")
        assert memory.messages == []
        now[0] += 2
        start_task(action_type="third")
        assert types_in(memory) == ["endless"]

    def test_million(self):
        """However many messages come, only so many are held, and remembered."""
        destination = TailSampledDestination(
            lambda message: None, failed(), max_messages=100, max_tasks=20
        )
        most = 0
        for number in range(30_000):
            destination(
                {
                    "task_uuid": str(number // 2),
                    "task_level": [number % 2 + 1],
                    "action_type": "a",
                    "action_status": ["started", "succeeded" if number % 3 else "odd"][number % 2],
                }
            )
            most = max(most, destination._held, len(destination._tasks))
        assert most <= 101
        assert len(destination._decided) <= 20

    def test_threads(self, memory):
        """Threads that log in one task, and in their own, lose nothing."""
        destination = TailSampledDestination(memory, one_in(2), max_messages=50, max_tasks=5)
        add_destinations(destination)
        with start_action(action_type="shared") as shared:

            def work():
                for _ in range(300):
                    with start_task(action_type="own"):
                        shared.log("m")

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        destination.close()
        stats = destination.stats()
        assert stats["held"] == stats["held_bytes"] == 0
        assert stats["kept"] + stats["dropped"] == 8 * 300 * 3 + 2
        assert stats["kept"] == len(memory.messages)
        tasks = list(Parser.parse_stream(memory.messages))
        assert all(task.is_complete() for task in tasks)


class TestEnd:
    """The end, and failures."""

    def test_close(self, sample, memory):
        """What is held is decided about as it is; later messages are not held."""
        destination = sample(unfinished() | typed("late"))
        action = start_task(action_type="open")
        destination.close()
        destination.close()
        assert types_in(memory) == ["open"]
        action.finish()
        log_message("late")
        log_message("later")
        assert types_in(memory) == ["open", "open", "late"]

    def test_inner_raises(self, memory):
        """The others of the task are passed on all the same, and the failure is told."""
        seen = []

        def inner(message):
            if message.get("message_type") == "bad":
                raise OSError("no")
            seen.append(message)

        destination = TailSampledDestination(inner, ALL)
        add_destinations(memory, destination)
        with start_action(action_type="a"):
            log_message("bad")
        destination.close()
        assert types_in(memory)[-1] == "eliot:destination_failure"
        assert [m["action_type"] for m in seen] == ["a", "a"]
        stats = destination.stats()
        assert (stats["kept"], stats["failed"]) == (2, 1)

    def test_interrupted(self):
        """What ends the program while a task is decided about or passed on loses nothing else."""
        seen, ends = [], ["rule", "send"]

        def keep(task):
            if ends and ends[0] == "rule":
                raise KeyboardInterrupt(ends.pop(0))
            return True

        def inner(message):
            if ends:
                raise KeyboardInterrupt(ends.pop(0))
            seen.append(message["task_level"])

        destination = TailSampledDestination(inner, keep, max_messages=3)
        add_destinations(destination)
        task = start_task(action_type="a")
        task.log("m")
        task.log("m")
        with pytest.raises(KeyboardInterrupt, match="rule"):
            task.log("m")
        with pytest.raises(KeyboardInterrupt, match="send"):
            task.log("m")
        task.finish()
        assert seen == [[2], [3], [4], [5], [6]]
        stats = destination.stats()
        assert (stats["held"], stats["kept"], stats["failed"], stats["dropped"]) == (0, 5, 1, 0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
    def test_forked(self):
        """A child has none of the messages that its parent holds."""
        run_forking("""
from eliot_etw import add_destinations, log_message, start_task
from eliot_etw.destinations import MemoryDestination, TailSampledDestination
from eliot_etw.destinations.tail_sampled import Rule

memory = MemoryDestination()
destination = TailSampledDestination(memory, Rule(lambda task: True))
add_destinations(destination)
action = start_task(action_type="a")
assert destination.stats()["held"] == 1

def work():
    assert destination.stats()["held"] == 0
    log_message("child")
    assert [message.get("message_type") for message in memory.messages] == ["child"]

in_child(work)
action.finish()
assert [message.get("action_type") for message in memory.messages] == ["a", "a"]
""")


@pytest.mark.parametrize(
    ("error", "words", "make"),
    [
        (TypeError, "keep must be a rule", lambda: TailSampledDestination(print, "failed")),
        (
            ValueError,
            "max_messages must",
            lambda: TailSampledDestination(print, ALL, max_messages=0),
        ),
        (ValueError, "max_tasks must be", lambda: TailSampledDestination(print, ALL, max_tasks=0)),
        (
            ValueError,
            "max_bytes must be",
            lambda: TailSampledDestination(print, ALL, max_bytes=0),
        ),
        (
            ValueError,
            "timeout_s must be above 0, got nan",
            lambda: TailSampledDestination(print, ALL, timeout_s=float("nan")),
        ),
        (ValueError, "at least 1, got 0", lambda: one_in(0)),
    ],
)
def test_refuses(error, words, make):
    """What makes no sense is refused at once."""
    with pytest.raises(error, match=words):
        make()
