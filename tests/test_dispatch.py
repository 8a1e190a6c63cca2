"""Tests of the fan-out: every destination gets every message, whatever the others do."""

import os
import threading

import pytest

from eliot_etw import (
    Field,
    Logger,
    MessageType,
    add_destinations,
    add_global_fields,
    current_action,
    log_message,
    remove_destination,
    start_action,
    start_task,
)
from eliot_etw._dispatch import MAX_BUFFERED, Destinations
from eliot_etw._safe import UNPRINTABLE
from eliot_etw.destinations.memory import MemoryDestination
from tests._programs import run_forking


def stats():
    """Return what the program's destinations have counted."""
    return Logger._destinations.stats()


def types_of(messages):
    """Return the message types, in order."""
    return [message["message_type"] for message in messages]


class Odd(Exception):
    """What odd destinations raise."""


class Failing:
    """A destination that fails, always or a few times, after it kept the message."""

    def __init__(self, times=10**6):
        self.messages = []
        self.times = times

    def __call__(self, message):
        self.messages.append(message)
        if self.times:
            self.times -= 1
            raise Odd("no place")


class TestFanOut:
    """Adding and removing destinations."""

    def test_all_get_it(self):
        """Each destination gets the very same message, in the order in which they were added."""
        order = []
        add_destinations(lambda m: order.append(("one", m)), lambda m: order.append(("two", m)))
        log_message("t", x=1)
        (_, first), (_, second) = order
        assert [name for name, _ in order] == ["one", "two"]
        assert first is second
        assert first["x"] == 1

    def test_added_later(self, messages):
        """A destination gets what is logged from then on, and nothing older."""
        log_message("old")
        late = MemoryDestination()
        add_destinations(late)
        log_message("new")
        assert types_of(late.messages) == ["new"]
        assert types_of(messages) == ["old", "new"]

    def test_removed(self, messages):
        """A removed destination gets nothing any more; the others go on."""
        gone = MemoryDestination()
        add_destinations(gone)
        remove_destination(gone)
        log_message("t")
        assert not gone.messages
        assert types_of(messages) == ["t"]

    def test_added_twice(self):
        """A destination that was added twice gets each message twice, until it is removed once."""
        memory = MemoryDestination()
        add_destinations(memory, memory)
        log_message("t")
        remove_destination(memory)
        log_message("u")
        assert types_of(memory.messages) == ["t", "t", "u"]

    def test_equal_is_enough_to_remove(self):
        """A bound method is a new object at each access: the equal one is removed."""
        memory = MemoryDestination()
        add_destinations(memory.__call__)
        remove_destination(memory.__call__)
        log_message("t")
        assert not memory.messages

    def test_remove_unknown(self):
        """Removing what is not there is refused, with words that say what to pass."""
        with pytest.raises(ValueError, match=r"is not one of the destinations\. Pass the very"):
            remove_destination(print)

    def test_not_callable(self):
        """What cannot be called is refused at once, and none of the call's others is added."""
        memory = MemoryDestination()
        with pytest.raises(TypeError, match=r"must be callable with one message, got 'a\.log'\."):
            add_destinations(memory, "a.log")
        log_message("t")
        assert not memory.messages

    def test_add_none(self):
        """Adding no destination changes nothing: what was logged is still kept."""
        log_message("t")
        add_destinations()
        memory = MemoryDestination()
        add_destinations(memory)
        assert types_of(memory.messages) == ["t"]

    def test_removed_while_sending(self, messages):
        """A destination that removes itself gets no more; the others get the message at hand."""

        def once(message):
            calls.append(message)
            remove_destination(once)

        calls = []
        add_destinations(once)
        last = MemoryDestination()
        add_destinations(last)
        log_message("t")
        log_message("u")
        assert types_of(calls) == ["t"]
        assert types_of(last.messages) == types_of(messages) == ["t", "u"]

    def test_fails_while_others_come(self):
        """The rest get the message also if others are added before the failing one raises."""

        def failing(message):
            if not late.messages:
                add_destinations(late)
            raise Odd

        late, last = MemoryDestination(), MemoryDestination()
        add_destinations(failing, last)
        log_message("t")
        assert types_of(last.messages).count("t") == 1

    def test_removes_itself_and_fails(self, messages):
        """The others get the message also if a destination removes itself before it raises."""

        def once(message):
            remove_destination(once)
            raise Odd

        last = MemoryDestination()
        add_destinations(once, last)
        log_message("t")
        assert "t" in types_of(last.messages)
        assert types_of(messages).count("t") == 1

    def test_added_while_sending(self, messages):
        """A destination that is added by another one gets what is logged from then on."""
        late = MemoryDestination()

        def adding(message):
            if not late.messages:
                remove_destination(adding)
                add_destinations(late)

        add_destinations(adding)
        log_message("t")
        log_message("u")
        assert types_of(late.messages) == ["u"]


class TestStartUp:
    """Messages logged before there is a destination."""

    def test_kept(self):
        """They are delivered to the first destination, in order, and to it only."""
        for number in range(3):
            log_message("t", number=number)
        first, second = MemoryDestination(), MemoryDestination()
        add_destinations(first)
        add_destinations(second)
        assert [message["number"] for message in first.messages] == [0, 1, 2]
        assert not second.messages

    def test_all_that_are_added_together(self):
        """All that are added in the first call get them."""
        log_message("t")
        first, second = MemoryDestination(), MemoryDestination()
        add_destinations(first, second)
        assert types_of(first.messages) == types_of(second.messages) == ["t"]

    def test_bound(self):
        """The last 1,000 are kept; those that gave way are counted."""
        for number in range(MAX_BUFFERED + 7):
            log_message("t", number=number)
        memory = MemoryDestination()
        add_destinations(memory)
        numbers = [message["number"] for message in memory.messages]
        assert (len(numbers), MAX_BUFFERED) == (MAX_BUFFERED, 1000)
        assert list(range(7, MAX_BUFFERED + 7)) == numbers
        assert stats()["dropped_before_first_destination"] == 7

    def test_global_fields(self):
        """Global fields that are added before the first destination are in them."""
        log_message("t")
        add_global_fields(program="p")
        memory = MemoryDestination()
        add_destinations(memory)
        assert memory.messages[0]["program"] == "p"

    def test_failing_destination(self):
        """A destination that fails for one of them gets the others."""
        log_message("t")
        log_message("u")
        failing = Failing(1)
        add_destinations(failing)
        assert types_of(failing.messages) == ["t", "eliot:destination_failure", "u"]

    def test_logging_while_it_is_drained(self):
        """Whatever threads log while the first destination is being added arrives, once."""
        go = threading.Barrier(5)

        def log(thread):
            go.wait()
            for number in range(200):
                log_message("t", id=(thread, number))

        threads = [threading.Thread(target=log, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        go.wait()
        memory = MemoryDestination()
        add_destinations(memory)
        for thread in threads:
            thread.join()
        expected = [(thread, number) for thread in range(4) for number in range(200)]
        assert expected == sorted(message["id"] for message in memory.messages)

    def test_late_message_to_the_buffer(self):
        """A thread that looked up the buffer before it was drained still reaches a destination."""
        destinations = Destinations()
        buffer = destinations.call
        memory = MemoryDestination()
        destinations.add(memory)
        buffer({"message_type": "late"})
        assert types_of(memory.messages) == ["late"]


class TestFailures:
    """Destinations that raise."""

    def test_told_to_the_others(self, messages):
        """The others get the message, and one that tells of the failure, in the same action."""
        with start_action(action_type="a") as action:
            failing = Failing(1)
            add_destinations(failing)
            log_message("t", x="value")
        logged, report = messages[1:3]
        assert (logged["message_type"], logged["task_level"]) == ("t", [2])
        assert (report["task_uuid"], report["task_level"]) == (action.task_uuid, [3])
        assert report["message_type"] == "eliot:destination_failure"
        assert (report["reason"], report["exception"]) == ("no place", f"{Odd.__module__}.Odd")
        assert "value" in report["message"]

    def test_levels_without_gap(self, messages):
        """The report takes a level of its own: none is missing, none is there twice."""
        add_destinations(Failing())
        with start_action(action_type="a"):
            log_message("t")
        levels = [m["task_level"] for m in messages if m["task_uuid"] == messages[0]["task_uuid"]]
        assert sorted(levels) == [[1], [2], [3], [4]]

    @pytest.mark.parametrize("first", [True, False])
    def test_message_itself(self, first):
        """The others get the message whether they come before the failing one or after it."""
        failing, memory = Failing(), MemoryDestination()
        add_destinations(*([failing, memory] if first else [memory, failing]))
        log_message("t")
        assert sorted(types_of(memory.messages)) == ["eliot:destination_failure", "t"]

    def test_counted(self, messages):
        """Each call that raised is counted, and nothing else."""
        add_destinations(Failing())
        for _ in range(3):
            log_message("t")
        assert stats() == {
            "destination_failures": 3,
            "dropped_before_first_destination": 0,
            "dropped_as_reentrant": 0,
        }

    def test_resumes(self, messages):
        """A destination that raised gets the next message all the same."""
        failing = Failing(1)
        add_destinations(failing)
        log_message("t")
        log_message("u")
        assert types_of(failing.messages) == ["t", "u"]

    def test_alone(self):
        """A destination that is alone is told of its own failure, which may have passed."""
        failing = Failing(1)
        add_destinations(failing)
        log_message("t")
        assert types_of(failing.messages) == ["t", "eliot:destination_failure"]

    def test_all_fail(self):
        """If all fail always, each message ends there: no recursion, every failure is counted."""
        one, two = Failing(), Failing()
        add_destinations(one, two)
        log_message("t")
        assert sorted(types_of(one.messages)) == ["eliot:destination_failure", "t"]
        assert sorted(types_of(two.messages)) == ["eliot:destination_failure", "t"]
        assert stats()["destination_failures"] == 4

    def test_report_of_a_report(self, messages):
        """A message that is such a report itself, and fails, is not reported again."""
        add_destinations(Failing())
        log_message("eliot:destination_failure")
        assert types_of(messages) == ["eliot:destination_failure"]
        assert stats()["destination_failures"] == 1

    def test_wherever_it_happens(self):
        """Nothing is raised into the program, and the others get all, whatever is logged."""
        memory = MemoryDestination()
        add_destinations(Failing(), memory)
        start_action(action_type="a").finish()
        start_action(action_type="a").finish(Odd())
        with pytest.raises(KeyError), start_task(action_type="a"):
            raise KeyError
        with start_action(action_type="a") as action:
            action.add_success_fields(x=1)
            action.log("t")
            log_message("t")
        Logger().write({"message_type": "t"})
        statuses = [m.get("action_status", m.get("message_type")) for m in memory.messages]
        ends = ["succeeded", "failed", "failed", "t", "t", "succeeded"]
        assert statuses.count("eliot:destination_failure") == 11
        assert [s for s in statuses if s in ends] == [*ends, "t"]

    def test_with_global_fields(self, messages):
        """Global fields are in the message and in the report."""
        add_global_fields(program="p")
        add_destinations(Failing(1))
        log_message("t")
        assert [message["program"] for message in messages] == ["p", "p"]

    def test_unprintable_message(self, messages):
        """A message with values that have no text is reported too."""

        class NoRepr:
            def __repr__(self):
                raise Odd

        class OddText(str):
            __slots__ = ()

            def __repr__(self):
                raise Odd

        class OddRepr:
            def __repr__(self):
                return OddText("text")

        add_destinations(Failing(2))
        log_message("t", value=NoRepr())
        log_message("t", value=OddRepr())
        assert UNPRINTABLE in messages[1]["message"]
        assert "'value': text" in messages[3]["message"]

    def test_error_without_text(self, messages):
        """An error whose own text cannot be had is reported all the same."""

        class Mute(Exception):
            def __str__(self):
                raise Odd

        def failing(message):
            raise Mute

        add_destinations(failing)
        log_message("t")
        assert messages[1]["reason"] == UNPRINTABLE

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_interrupt(self, messages, error):
        """Ctrl-C and the like are the program's, not ours: they pass, and count as no failure."""

        def interrupted(message):
            raise error

        add_destinations(interrupted)
        with pytest.raises(error):
            log_message("t")
        assert types_of(messages) == ["t"]
        assert stats()["destination_failures"] == 0

    def test_interrupt_at_the_end(self):
        """After an interrupt in the end of an action, the action before it is the current one."""
        with start_action(action_type="outer") as outer:
            inner = start_action(action_type="inner")

            def interrupted(message):
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):  # noqa: SIM117 - the end is what raises
                with inner:
                    add_destinations(interrupted)
            assert outer is current_action()
            remove_destination(interrupted)


class TestReentrancy:
    """Destinations that log while they are called."""

    def test_no_recursion(self, messages):
        """What a destination logs goes to the others only, and is counted."""

        def logging(message):
            calls.append(message)
            log_message("from within")

        calls = []
        add_destinations(logging)
        log_message("t")
        assert types_of(calls) == ["t"]
        assert types_of(messages) == ["t", "from within"]
        assert stats()["dropped_as_reentrant"] == 1

    def test_two_that_log(self, messages):
        """Two such destinations get each what the other one logs, and there is an end to it."""

        def one(message):
            ones.append(message)
            log_message("from one")

        def two(message):
            twos.append(message)
            log_message("from two")

        ones, twos = [], []
        add_destinations(one, two)
        log_message("t")
        assert types_of(ones) == ["t", "from two"]
        assert types_of(twos) == ["from one", "t"]

    def test_after_a_failure(self, messages):
        """One that raised and one that logged itself before get the next message."""

        def logging(message):
            calls.append(message)
            log_message("from within")
            raise Odd

        calls = []
        add_destinations(logging)
        log_message("t")
        log_message("u")
        assert types_of(calls) == ["t", "u"]

    def test_other_threads(self):
        """While one thread is in a destination, what other threads log comes to it."""
        inside, leave = threading.Event(), threading.Event()
        calls = []

        def slow(message):
            calls.append(message)
            if message["message_type"] == "first":
                inside.set()
                leave.wait(30)

        add_destinations(slow)
        thread = threading.Thread(target=log_message, args=("first",))
        thread.start()
        inside.wait(30)
        log_message("second")
        leave.set()
        thread.join()
        assert types_of(calls) == ["first", "second"]
        assert stats()["dropped_as_reentrant"] == 0

    def test_while_other_threads_come_and_go(self):
        """A destination's own message does not come to it when another thread left it meanwhile.

        If it did, one with a lock would wait for itself for ever.
        """
        inside, leave = threading.Event(), threading.Event()
        calls = []

        def slow(message):
            calls.append(message)
            if message["message_type"] == "first":
                inside.set()
                leave.wait(30)
                log_message("from within")

        add_destinations(slow)
        thread = threading.Thread(target=log_message, args=("first",))
        thread.start()
        inside.wait(30)
        log_message("second")
        leave.set()
        thread.join()
        assert types_of(calls) == ["first", "second"]
        assert stats()["dropped_as_reentrant"] == 1

    def test_same_code(self, messages):
        """Two destinations made by one function are two: each gets what the other one logs."""

        def make(calls, log):
            def destination(message):
                calls.append(message)
                if log:
                    log_message("from within")

            return destination

        ones, twos = [], []
        add_destinations(make(ones, True), make(twos, False))
        log_message("t")
        assert types_of(ones) == ["t"]
        assert types_of(twos) == ["from within", "t"]

    def test_leaf(self):
        """A destination that says it is a leaf is called without a look at the stack."""
        destinations = Destinations()
        memory = MemoryDestination()
        destinations.add(memory)
        assert memory.__call__ == destinations.call


class TestGlobalFields:
    """Fields of every message."""

    def test_in_all(self, messages):
        """They are in every message from then on, of every kind."""
        log_message("before")
        add_global_fields(program="p", port=7)
        with start_action(action_type="a"):
            log_message("t")
        Logger().write({"message_type": "u"})
        assert "program" not in messages[0]
        assert [(m["program"], m["port"]) for m in messages[1:]] == [("p", 7)] * 4

    def test_more(self, messages):
        """Further ones are added to those that are there; the last of a name counts."""
        add_global_fields(a=1, b=1)
        add_global_fields(b=2)
        log_message("t")
        assert (messages[0]["a"], messages[0]["b"]) == (1, 2)

    def test_removed(self, messages):
        """One that is removed is in no message any more; one that is not there does not matter."""
        add_global_fields(a=1, b=1)
        Logger._destinations.remove_global_fields("a", "c")
        log_message("t")
        assert "a" not in messages[0]
        assert messages[0]["b"] == 1

    def test_own_field_wins(self, messages):
        """A message's own field of the same name is kept."""
        add_global_fields(x="global")
        log_message("t", x="own")
        assert messages[0]["x"] == "own"

    def test_any_name(self, messages):
        """Any text is a legal name of a field, also those of parameters."""
        add_global_fields(self=1, fields=2, message=3)
        log_message("t")
        assert tuple(messages[0][name] for name in ("self", "fields", "message")) == (1, 2, 3)

    def test_reserved(self, messages):
        """One with a reserved name gets an underscore: it must not make messages into actions."""
        add_global_fields(action_type="x", action_status="y", task_uuid="z")
        log_message("t")
        assert "action_type" not in messages[0]
        assert (messages[0]["action_type_"], messages[0]["task_uuid_"]) == ("x", "z")

    def test_logged_message_is_left_alone(self):
        """They are added to a copy: a message that was given to `Logger.write` stays as it was."""
        add_destinations(MemoryDestination())
        add_global_fields(x=1)
        message = {"message_type": "t"}
        Logger().write(message)
        assert message == {"message_type": "t"}


def refuse(value):
    """Serialize nothing."""
    raise Odd("cannot")


class TestSerializationFailures:
    """Types whose serializers raise."""

    MESSAGE = MessageType("t", [Field("x", refuse), Field("y", str)])

    def test_of_a_message(self, messages):
        """The failure is told with its traceback, and the message as text in its own place."""
        with start_action(action_type="a"):
            self.MESSAGE.log(x="secret", y=2)
        start, traceback, report, end = messages
        assert (traceback["message_type"], traceback["reason"]) == ("eliot:traceback", "cannot")
        assert report["message_type"] == "eliot:serialization_failure"
        assert "secret" in report["message"]
        assert sorted(m["task_level"] for m in messages) == [[1], [2], [3], [4]]
        assert {m["task_uuid"] for m in messages} == {start["task_uuid"]}
        assert end["action_status"] == "succeeded"

    def test_missing_field(self, messages):
        """A message without one of its fields is logged as text, and its traceback says which."""
        MessageType("t", [Field("x", str)]).log()
        assert types_of(messages) == ["eliot:traceback", "eliot:serialization_failure"]
        assert "'x'" in messages[0]["reason"]

    def test_written_without_a_place(self, messages):
        """A dictionary that was never given a place gets one with its failure."""
        Logger().write({"message_type": "t", "x": 1}, self.MESSAGE._serializer)
        report = messages[1]
        assert report["message_type"] == "eliot:serialization_failure"
        assert report["task_level"] == [1]
        assert {"task_uuid", "timestamp"} <= report.keys()

    def test_interrupt(self, messages):
        """Ctrl-C in a serializer passes."""

        def interrupted(value):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            MessageType("t", [Field("x", interrupted)]).log(x=1)

    def test_serializer_that_logs(self, messages):
        """A serializer that logs a message of another type does no harm."""

        def log(value):
            log_message("from within")
            return value

        MessageType("t", [Field("x", log)]).log(x=1)
        assert types_of(messages) == ["from within", "t"]


class TestOtherLoggers:
    """Loggers that are not ours."""

    def test_gets_the_message(self):
        """A logger that is passed gets the message and what its type says about it."""
        calls = []

        class Other:
            def write(self, dictionary, serializer=None):
                calls.append((dictionary["action_type"], serializer))

        start_action(Other(), "a").finish()
        assert calls == [("a", None)] * 2

    def test_that_raises(self, messages):
        """What it raises is told to the program's destinations, and counted by nobody else."""

        class Broken:
            def write(self, dictionary, serializer=None):
                raise Odd("no logger")

        with start_action(Broken(), "a") as action:
            action.log("t")
        assert types_of(messages) == ["eliot:destination_failure"] * 3
        assert {"no logger"} == {message["reason"] for message in messages}

    def test_that_is_none(self, messages):
        """Something that is no logger at all is told of too; nothing is raised."""
        start_action("forgot the keyword").finish()
        assert types_of(messages) == ["eliot:destination_failure"] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
class TestFork:
    """Forked children."""

    def test_lock_held_by_another_thread(self):
        """A child may add destinations though another thread of the parent was adding one."""
        run_forking("""
from eliot_etw import add_destinations, log_message
from eliot_etw._logger import DESTINATIONS
from eliot_etw.destinations import MemoryDestination

def work():
    memory = MemoryDestination()
    add_destinations(memory)
    log_message("t")
    assert [message["message_type"] for message in memory.messages] == ["t"]

with DESTINATIONS._lock:
    in_child(work)
""")
