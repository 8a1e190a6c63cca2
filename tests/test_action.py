"""Tests of actions: a start, an end, and a place in the tree for all in between."""

import copy
import gc
import pickle
import sys
import threading
import weakref
from collections import defaultdict
from time import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import (
    Action,
    ActionType,
    Field,
    Message,
    add_destinations,
    current_action,
    fields,
    log_message,
    remove_destination,
    start_action,
    start_task,
)
from eliot_etw._task_level import TaskLevel
from eliot_etw._trace_context import FIRST_DRAWN, parse_traceparent, span_id_of
from eliot_etw.destinations import MemoryDestination
from eliot_etw.exceptions import InvalidTaskID


class CopyError(Exception):
    """What actions of these tests fail with."""


def levels_of(messages):
    """Return the places, in order of logging."""
    return [message["task_level"] for message in messages]


def without_time(message):
    """Return a message without its time."""
    return {key: value for key, value in message.items() if key != "timestamp"}


class TestMessages:
    """What is logged."""

    def test_start(self, messages):
        """The start has the type, the status, the fields, and the first place in the action."""
        action = start_action(action_type="a", x=1)
        assert without_time(messages[0]) == {
            "action_type": "a",
            "action_status": "started",
            "task_uuid": action.task_uuid,
            "task_level": [1],
            "x": 1,
        }

    def test_success(self, messages):
        """The end has the type, the status and the next place, and not the fields of the start."""
        with start_action(action_type="a", x=1) as action:
            pass
        assert without_time(messages[1]) == {
            "action_type": "a",
            "action_status": "succeeded",
            "task_uuid": action.task_uuid,
            "task_level": [2],
        }

    def test_failure(self, messages):
        """An action fails if its block raises; the end says with what, and the error passes."""
        error = CopyError("no room")
        with pytest.raises(CopyError) as raised, start_action(action_type="a"):
            raise error
        assert raised.value is error
        end = messages[1]
        assert (end["action_status"], end["reason"]) == ("failed", "no room")
        assert end["exception"] == f"{CopyError.__module__}.CopyError"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_interrupt(self, messages, error):
        """An interrupt is a failure, too, and passes."""
        with pytest.raises(error), start_action(action_type="a"):
            raise error
        assert messages[1]["exception"] == f"builtins.{error.__name__}"

    def test_timestamps(self, messages):
        """Each message has the time at which it was logged, in seconds since the epoch."""
        before = time()
        with start_action(action_type="a"):
            log_message("t")
        times = [before, *(message["timestamp"] for message in messages), time()]
        assert sorted(times) == times

    def test_success_fields(self, messages):
        """They are in the end; of a name that is given twice the last value counts."""
        with start_action(action_type="a") as action:
            action.add_success_fields(x=1, y=1)
            action.add_success_fields(y=2)
        assert (messages[1]["x"], messages[1]["y"]) == (1, 2)

    def test_success_fields_of_a_failure(self, messages):
        """They are not in the end of an action that failed."""
        action = start_action(action_type="a")
        action.add_success_fields(x=1)
        action.finish(CopyError())
        assert "x" not in messages[1]

    @pytest.mark.parametrize("name", ["self", "exception", "fields"])
    def test_success_fields_of_any_name(self, messages, name):
        """Any text is a legal name."""
        with start_action(action_type="a") as action:
            action.add_success_fields(**{name: 1})
        assert messages[1][name] == 1

    def test_nobody_shares(self, messages):
        """A destination that gets a message may keep it: no other message is the same object."""
        with start_action(action_type="a") as action:
            action.add_success_fields(x=[1])
            log_message("t")
        assert len({id(message) for message in messages}) == 3
        assert len({id(message["task_level"]) for message in messages}) == 3


class TestFinish:
    """Ends that are logged by hand."""

    def test_once(self, messages):
        """A second end is none: the first one counts."""
        action = start_action(action_type="a")
        action.finish()
        action.finish(CopyError())
        assert [m["action_status"] for m in messages] == ["started", "succeeded"]

    def test_failed(self, messages):
        """An action that is ended with an exception has failed with it."""
        start_action(action_type="a").finish(CopyError("no room"))
        assert (messages[1]["action_status"], messages[1]["reason"]) == ("failed", "no room")

    def test_within_the_block(self, messages):
        """An action that was ended in its block is not ended by the block."""
        with start_action(action_type="a") as action:
            action.finish(CopyError())
        assert [m["action_status"] for m in messages] == ["started", "failed"]

    @pytest.mark.skipif(
        sys.version_info < (3, 11),
        reason="3.10 changes threads between any two steps, and to lock costs every action",
    )
    def test_once_in_many_threads(self, messages):
        """Of several threads that end an action at the same time, one does."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(2_000):
                action = start_action(action_type="a")
                go = threading.Barrier(4)
                threads = [
                    threading.Thread(target=lambda go=go, end=end: (go.wait(30), end()))
                    for end in [action.finish] * 3 + [lambda a=action: a.add_success_fields(x=1)]
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                action.finish()
        finally:
            sys.setswitchinterval(before)
        assert len(messages) == 2 * 2_000

    def test_log_after_it(self, messages):
        """What is logged to an action after its end still has its own place there."""
        action = start_action(action_type="a")
        action.finish()
        action.log("late")
        assert levels_of(messages) == [[1], [2], [3]]


class TestPlaces:
    """The tree."""

    def test_nested(self, messages):
        """The n-th item of an action has the place n; the items of a child are within it."""
        with start_action(action_type="outer") as outer:
            log_message("one")
            with start_action(action_type="inner") as inner:
                log_message("two")
            log_message("three")
        assert levels_of(messages) == [[1], [2], [3, 1], [3, 2], [3, 3], [4], [5]]
        assert {outer.task_uuid} == {m["task_uuid"] for m in messages} == {inner.task_uuid}
        assert (TaskLevel(()), TaskLevel([3])) == (outer.task_level, inner.task_level)

    def test_task(self, messages):
        """A task is one of its own, whatever the current action is."""
        with start_action(action_type="outer") as outer, start_task(action_type="t") as task:
            log_message("within")
        assert levels_of(messages) == [[1], [1], [2], [3], [2]]
        assert outer.task_uuid != task.task_uuid
        assert str(UUID(task.task_uuid)) == task.task_uuid

    def test_outside(self, messages):
        """A message outside of any action is a task of its own."""
        log_message("one")
        log_message("two")
        assert levels_of(messages) == [[1], [1]]
        assert messages[0]["task_uuid"] != messages[1]["task_uuid"]

    def test_log(self, messages):
        """`log` logs to its action, whatever the current one is."""
        action = start_action(action_type="a")
        with start_action(action_type="b"):
            action.log("t", x=1)
        assert without_time(messages[2]) == {
            "message_type": "t",
            "x": 1,
            "task_uuid": action.task_uuid,
            "task_level": [2],
        }

    def test_child(self, messages):
        """`child` takes a place, and logs nothing yet."""
        action = start_action(action_type="a")
        child = action.child(None, "b")
        child.log("t")
        child.finish()
        assert (action.task_uuid, "b") == (child.task_uuid, child.action_type)
        assert levels_of(messages) == [[1], [2, 1], [2, 2]]

    def test_child_of_a_subclass(self):
        """A child made by `child` has its parent's class, even one with Eliot's constructor."""

        class Own(Action):
            def __init__(self, logger, task_uuid, task_level, action_type, serializers=None):
                super().__init__(logger, task_uuid, task_level, action_type, serializers)

        child = Own(None, "uuid", TaskLevel(()), "a").child(None, "b")
        assert (Own, TaskLevel([1])) == (type(child), child.task_level)

    @given(st.recursive(st.just("message"), lambda inner: st.lists(inner, min_size=1)))
    def test_any_tree(self, tree):
        """In any tree each place from the first to the last of each action is taken once."""

        def log(item):
            if item == "message":
                log_message("t")
            else:
                with start_action(action_type="a"):
                    for part in item:
                        log(part)

        memory = MemoryDestination()
        add_destinations(memory)
        with start_action(action_type="root"):
            log(tree)
        remove_destination(memory)
        levels = [tuple(level) for level in levels_of(memory.messages)]
        assert len(set(levels)) == len(levels)
        places = defaultdict(set)
        for level in levels:
            for depth, place in enumerate(level):
                places[level[:depth]].add(place)
        assert {
            within: set(range(1, len(taken) + 1)) for within, taken in places.items()
        } == places

    def test_in_many_threads(self, messages):
        """Eight threads may log to one action: each place is taken once, none is left out."""
        go = threading.Barrier(8)

        def log(action):
            go.wait(30)
            for _ in range(500):
                action.log("t")

        with start_action(action_type="a") as action:
            threads = [threading.Thread(target=log, args=(action,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(levels_of(messages)) == [[place] for place in range(1, 4_003)]

    def test_first_of_many_threads_while_it_ends(self, messages):
        """The places are unique, and none is left out, if an action's block ends meanwhile."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(1_000):
                action = start_action(action_type="a")
                go = threading.Barrier(3)
                threads = [
                    threading.Thread(target=lambda go=go, a=action: (go.wait(30), a.log("t")))
                    for _ in range(2)
                ]
                for thread in threads:
                    thread.start()
                with action:
                    go.wait(30)
                for thread in threads:
                    thread.join()
        finally:
            sys.setswitchinterval(before)
        taken = defaultdict(list)
        for message in messages:
            taken[message["task_uuid"]].append(message["task_level"])
        assert [sorted(levels) for levels in taken.values()] == [[[1], [2], [3], [4]]] * 1_000


class TestCurrent:
    """The action that is the current one."""

    def test_block(self):
        """An action is the current one within its block, and the one before it after it."""
        assert current_action() is None
        with start_action(action_type="outer") as outer:
            assert current_action() is outer
            with start_action(action_type="inner") as inner:
                assert current_action() is inner
            assert current_action() is outer
        assert current_action() is None

    def test_after_a_failure(self):
        """The one before it is the current one again also if the block raised."""
        with pytest.raises(CopyError), start_action(action_type="a"):
            raise CopyError
        assert current_action() is None

    def test_start_alone(self):
        """Starting an action does not make it the current one."""
        start_action(action_type="a")
        assert current_action() is None

    def test_block_within_itself(self, messages):
        """An action whose block is entered again within itself is left as often, and ends once."""
        with start_action(action_type="outer") as outer:
            with start_action(action_type="a") as action:
                with action:
                    assert current_action() is action
                assert current_action() is action
            assert current_action() is outer
        assert [m["action_status"] for m in messages] == ["started"] * 2 + ["succeeded"] * 2

    def test_block_in_two_threads(self, messages):
        """Threads that are in one action at a time each have their own one before it back."""
        entered, left = threading.Event(), threading.Event()
        after = []

        def other(action):
            with start_task(action_type="other") as task:
                with action:
                    entered.set()
                    left.wait(30)
                after.append(current_action() is task)

        with start_action(action_type="outer") as outer:
            action = start_action(action_type="a")
            thread = threading.Thread(target=other, args=(action,))
            with action:
                thread.start()
                entered.wait(30)
            assert current_action() is outer
            left.set()
            thread.join()
        assert after == [True]

    def test_left_without_being_entered(self, messages):
        """Leaving a block that was never entered ends the action, and nothing else."""
        with start_action(action_type="outer") as outer:
            start_action(action_type="a").__exit__(None, None, None)
            assert current_action() is outer
        assert messages[2]["action_status"] == "succeeded"

    def test_context(self, messages):
        """`context` makes it the current one for a block, which does not end it."""
        action = start_action(action_type="a")
        with action.context() as entered:
            assert entered is action is current_action()
        assert current_action() is None
        assert len(messages) == 1

    def test_context_that_raises(self, messages):
        """The same if the block raises."""
        action = start_action(action_type="a")
        with pytest.raises(CopyError), action.context():
            raise CopyError
        assert current_action() is None
        assert len(messages) == 1

    def test_run(self, messages):
        """`run` calls a function within the action, which does not end with it."""
        action = start_action(action_type="a")
        assert action.run(lambda *args, **kwargs: (current_action(), args, kwargs), 1, f=2) == (
            action,
            (1,),
            {"f": 2},
        )
        assert current_action() is None
        assert len(messages) == 1

    def test_run_that_raises(self):
        """The one before it is the current one again also if the function raised."""

        def fail():
            raise CopyError

        with start_action(action_type="outer") as outer:
            with pytest.raises(CopyError):
                start_action(action_type="a").run(fail)
            assert current_action() is outer


class TestCopies:
    """What becomes of an action within something that is copied or sent."""

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_copy(self, copied):
        """A copy is the action itself: it has one place, and one end."""
        action = start_action(action_type="a")
        assert copied(action) is action

    def test_pickle(self):
        """It cannot be pickled, and the error says what to send instead."""
        with pytest.raises(TypeError, match=r"serialize_task_id\(\)"):
            pickle.dumps(start_action(action_type="a"))


class TestParameters:
    """What may be given by place, by name, or not at all."""

    @pytest.mark.parametrize("start", [start_action, start_task])
    def test_positions(self, messages, start):
        """Logger, type and serializers may be given by place, as in Eliot."""
        calls = []

        class Other:
            def write(self, dictionary, serializer=None):
                calls.append(dictionary["x"])

        start(Other(), "a", None, x=1)
        assert calls == [1]
        assert not messages

    @pytest.mark.parametrize("start", [start_action, start_task])
    def test_names(self, messages, start):
        """They may be given by name as well."""
        type_ = ActionType("a", fields(x=int), [])
        action = start(logger=None, action_type="a", _serializers=type_._serializers, x=1)
        assert "a" == action.action_type == messages[0]["action_type"]
        assert not {"logger", "_serializers"} & messages[0].keys()

    def test_message_type_by_name(self, messages):
        """The type of a message may be given by name."""
        with start_action(action_type="a") as action:
            log_message(message_type="t")
            action.log(message_type="u")
        assert [m["message_type"] for m in messages[1:3]] == ["t", "u"]

    def test_current_action_has_another_logger(self, messages):
        """What is logged within an action goes to the logger of that action."""
        calls = []

        class Other:
            def write(self, dictionary, serializer=None):
                calls.append(dictionary)

        with start_action(Other(), "a"):
            log_message("t")
            Message.log(message_type="u")
        assert [call.get("message_type") for call in calls] == [None, "t", "u", None]
        assert not messages


class TestTaskID:
    """Actions that go on elsewhere."""

    def test_serialize(self):
        """The id is the task and a place that nobody else takes, as ASCII bytes."""
        with start_action(action_type="outer"), start_action(action_type="inner") as inner:
            ids = [inner.serialize_task_id(), inner.serialize_task_id()]
        assert ids == [f"{inner.task_uuid}@/2/{place}".encode() for place in (2, 3)]

    @pytest.mark.parametrize("kind", [bytes, str])
    def test_continue(self, messages, kind):
        """The continuing action starts at that place, below the action that gave the id out."""
        with start_action(action_type="a") as action:
            task_id = action.serialize_task_id()
        task_id = task_id if kind is bytes else task_id.decode()
        with Action.continue_task(task_id=task_id, x=1) as continued:
            log_message("t")
        assert levels_of(messages) == [[1], [3], [2, 1], [2, 2], [2, 3]]
        assert {action.task_uuid} == {m["task_uuid"] for m in messages}
        start = messages[2]
        assert (start["action_type"], start["x"]) == ("eliot:remote_task", 1)
        assert continued.action_type == "eliot:remote_task"

    def test_continue_with_a_type(self, messages):
        """It may have a type of its own, and a logger given by place or by name."""
        Action.continue_task(None, "x@/1", action_type="a")
        Action.continue_task(logger=None, task_id="x@/1", action_type="a")
        assert ["a", "a"] == [message["action_type"] for message in messages]

    def test_no_id(self):
        """Without an id there is an error that says what to pass."""
        with pytest.raises(RuntimeError, match=r"argument task_id or traceparent, got neither"):
            Action.continue_task()

    def test_wrong_id(self, messages):
        """A wrong id is an error, and logs nothing."""
        with pytest.raises(InvalidTaskID, match="must look like"):
            Action.continue_task(task_id="nonsense")
        assert not messages

    def test_odd_task(self, messages):
        """A task with a name that is not ASCII is serialized, if not as itself."""
        task_id = Action(None, "\ud800é", TaskLevel([1]), "a").serialize_task_id()
        assert task_id.isascii()

    def test_within_another_action(self, messages):
        """The place is that of the id, whatever the current action is."""
        with start_action(action_type="a"):
            Action.continue_task(task_id="x@/7")
        assert (messages[1]["task_uuid"], messages[1]["task_level"]) == ("x", [7, 1])


class TestTraceParent:
    """Actions that go on elsewhere, and those who know no more than W3C's Trace Context."""

    FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    TASK = "0af76519-16cd-43dd-8448-eb211c80319c"

    def test_names_the_action(self):
        """The header names the task as the trace and the action as the parent, each time alike."""
        with start_action(action_type="a") as outer, start_action(action_type="b") as action:
            header = parse_traceparent(action.traceparent())
            assert outer.traceparent() != action.traceparent() == action.traceparent()
        assert header.trace_id == UUID(action.task_uuid).hex
        assert header.parent_id == span_id_of(action.task_uuid, [2])
        assert header.flags == 1

    def test_takes_no_place(self, messages):
        """Nothing is missing in the tree if nobody continues it."""
        with start_action(action_type="a") as action:
            action.traceparent()
        assert levels_of(messages) == [[1], [2]]

    def test_both(self, messages):
        """The exact place wins if both name one trace."""
        with start_action(action_type="a") as action:
            headers = {"task_id": action.serialize_task_id(), "traceparent": action.traceparent()}
        with Action.continue_task(**headers, x=1):
            log_message("t")
        assert levels_of(messages) == [[1], [3], [2, 1], [2, 2], [2, 3]]
        assert messages[2].keys() == {*messages[0], "x"}
        assert messages[2]["action_type"] == "eliot:remote_task"

    def test_foreign(self, messages):
        """Below a foreign span, the trace is the task, and the start tells the span."""
        with Action.continue_task(traceparent=self.FOREIGN, action_type="a") as action:
            log_message("t")
        (position,) = action.task_level
        assert position >= FIRST_DRAWN
        assert levels_of(messages) == [[position, 1], [position, 2], [position, 3]]
        assert {self.TASK} == {m["task_uuid"] for m in messages}
        assert [m.get("eliot:traceparent") for m in messages] == [self.FOREIGN, None, None]

    def test_foreign_twice(self):
        """Two that continue one span have places of their own."""
        actions = [Action.continue_task(traceparent=self.FOREIGN) for _ in range(2)]
        assert len({action.task_level for action in actions}) == 2

    @pytest.mark.parametrize("traceparent", ["", "00-nonsense", FOREIGN.upper(), 7, b"\xff"])
    @pytest.mark.parametrize("task_id", [None, "nonsense", 7])
    def test_refused(self, messages, traceparent, task_id):
        """What is no such header starts a new task, whose start says what came."""
        with Action.continue_task(task_id=task_id, traceparent=traceparent) as action:
            pass
        assert levels_of(messages) == [[1], [2]]
        assert UUID(action.task_uuid).version == 4
        said = messages[0]["eliot:not_continued"]
        assert said["reason"] == "refused"
        assert said["traceparent"] == (
            traceparent if isinstance(traceparent, str) else repr(traceparent)
        )
        assert said.get("task_id") == (None if task_id is None else str(task_id))

    @pytest.mark.parametrize(
        "task_id", ["x@" + "/1" * 1_024, f"x@/{1 << 52}", b"x@/0", "x\n@/1", " x@/1"]
    )
    def test_place_that_nobody_makes(self, messages, task_id):
        """A place that makes every message long, or is beyond all numbers, is not followed."""
        Action.continue_task(task_id=task_id, traceparent=None)
        assert messages[0]["task_level"] == [1]
        said = messages[0]["eliot:not_continued"]
        assert len(said["task_id"]) <= 256
        longest = "x@" + "/1" * 1_023
        Action.continue_task(task_id=longest, traceparent=None)
        assert len(messages[1]["task_level"]) == 1_024

    def test_refused_beside_a_place(self, messages):
        """A place is a place whatever was made of the other header."""
        Action.continue_task(task_id="x@/7", traceparent="00-nonsense")
        assert (messages[0]["task_uuid"], messages[0]["task_level"]) == ("x", [7, 1])
        expected = {"reason": "refused", "traceparent": "00-nonsense"}
        assert messages[0]["eliot:not_continued"] == expected

    @pytest.mark.parametrize(
        ("task_id", "reason"), [(f"{TASK[:-1]}d@/2", "another trace"), ("nonsense", "refused")]
    )
    def test_place_that_does_not_fit(self, messages, task_id, reason):
        """A place in another trace is not followed: on the way, somebody began a new trace."""
        Action.continue_task(task_id=task_id, traceparent=self.FOREIGN)
        assert messages[0]["task_uuid"] == self.TASK
        expected = {"reason": reason, "task_id": task_id}
        assert messages[0]["eliot:not_continued"] == expected

    def test_task_that_is_no_uuid(self, messages):
        """The place in a task with a name of another kind is found, too."""
        action = Action(None, "request-7", TaskLevel(), "a")
        task_id = action.serialize_task_id()
        Action.continue_task(task_id=task_id, traceparent=action.traceparent())
        assert (messages[0]["task_uuid"], messages[0]["task_level"]) == ("request-7", [1, 1])

    @pytest.mark.parametrize("task_id", [None, "x@/7"])
    def test_no_header(self, messages, task_id):
        """Without the header it is as if nobody had asked for it; without both, a new task."""
        with Action.continue_task(task_id=task_id, traceparent=None) as action:
            pass
        assert levels_of(messages) == ([[7, 1], [7, 2]] if task_id else [[1], [2]])
        assert "eliot:not_continued" not in messages[0]
        assert action.tracestate == ""

    def test_what_is_logged_of_it_is_short(self, messages):
        """Nobody makes a log grow by sending nonsense."""
        Action.continue_task(traceparent="x" * 100_000)
        assert len(messages[0]["eliot:not_continued"]["traceparent"]) == 256

    def test_a_field_of_that_name(self, messages):
        """A field that is called like one of ours is no error."""
        fields = {"eliot:traceparent": "mine", "tracestate": "mine"}
        Action.continue_task(task_id="x@/7", **fields)
        Action.continue_task(traceparent=self.FOREIGN, **fields)
        assert [m["eliot:traceparent"] for m in messages] == ["mine", self.FOREIGN]
        assert [m.get("tracestate") for m in messages] == ["mine", None]

    def test_tracestate(self, messages):
        """What came beside the header is logged, and known to all actions within."""
        headers = {"traceparent": self.FOREIGN, "tracestate": "congo=t61,rojo=00f"}
        with Action.continue_task(**headers) as action, start_action(action_type="b") as inner:
            pass
        assert action.tracestate == inner.tracestate == "congo=t61,rojo=00f"
        states = [m.get("eliot:tracestate") for m in messages]
        assert states == ["congo=t61,rojo=00f", None, None, None]
        exact = Action.continue_task(task_id=f"{self.TASK}@/2", **headers)
        assert exact.tracestate == "congo=t61,rojo=00f"

    @pytest.mark.parametrize(
        ("traceparent", "tracestate"),
        [(None, "a=1"), ("00-nonsense", "a=1"), (FOREIGN, "A=1"), (FOREIGN, ""), (FOREIGN, None)],
    )
    def test_no_tracestate(self, messages, traceparent, tracestate):
        """Without the header that it goes with, or against the rules, it is left out."""
        headers = {"traceparent": traceparent, "tracestate": tracestate}
        assert Action.continue_task(**headers).tracestate == ""
        assert "eliot:tracestate" not in messages[0]


def refuse(value):
    """Serialize nothing."""
    raise CopyError("cannot")


class TestSerializationFailures:
    """Types of actions whose serializers raise: the tree is without gaps."""

    GOOD = Field.for_types("x", [int])
    BAD = Field("x", refuse)

    def logged(self, messages, type_, fail=False):
        """Run an action of a type within another one, and return what was logged within it."""
        with start_action(action_type="outer") as outer:
            try:
                with type_(x=1) as action:
                    log_message("within")
                    action.add_success_fields(x=2)
                    if fail:
                        raise CopyError("failed")
            except CopyError:
                pass
        assert {outer.task_uuid} == {m["task_uuid"] for m in messages}
        ours = [m for m in messages if len(m["task_level"]) == 2]
        assert [[2, n + 1] for n in range(len(ours))] == sorted(levels_of(ours))
        others = [m["task_level"][0] for m in messages if len(m["task_level"]) == 1]
        assert sorted([*others, 2]) == list(range(1, len(others) + 2))
        return ours

    def test_of_the_start(self, messages):
        """The start is logged without its fields, and why is told before the action."""
        start, *_ = self.logged(messages, ActionType("a", [self.BAD], [self.GOOD]))
        assert (start["action_type"], start["action_status"]) == ("a", "started")
        assert "x" not in start
        types = [m["message_type"] for m in messages if "message_type" in m]
        assert types == ["eliot:traceback", "eliot:serialization_failure", "within"]

    def test_of_the_success(self, messages):
        """The end is logged without its fields."""
        ours = self.logged(messages, ActionType("a", [self.GOOD], [self.BAD]))
        ends = [m for m in ours if m.get("action_status") == "succeeded"]
        assert len(ends) == 1
        assert "x" not in ends[0]

    def test_of_a_missing_field(self, messages):
        """A success field that was never added is told of, too."""
        ours = self.logged(messages, ActionType("a", [self.GOOD], [Field("z", str)]))
        assert [m["action_status"] for m in ours if "action_status" in m] == [
            "started",
            "succeeded",
        ]
        assert any("'z'" in m.get("reason", "") for m in messages)

    def test_failure(self, messages):
        """The end of a failed action is logged whatever its success fields are."""
        ours = self.logged(messages, ActionType("a", [self.GOOD], [self.BAD]), fail=True)
        assert [m["reason"] for m in ours if "reason" in m] == ["failed"]


class TestObject:
    """The action itself."""

    def test_repr(self):
        """The repr tells type and place."""
        assert repr(Action(None, "x", [2, 3], "a")) == "<Action 'a' x@/2/3>"

    def test_freed(self):
        """An action goes away with the last reference to it: it is in no cycle."""
        gc.disable()
        try:
            with start_action(action_type="outer"), start_action(action_type="a") as action:
                log_message("t")
            gone = weakref.ref(action)
            del action
            assert gone() is None
        finally:
            gc.enable()

    def test_no_attributes(self):
        """It has no room for attributes of somebody's own: a typing error is an error."""
        with pytest.raises(AttributeError):
            start_action(action_type="a").typo = 1

    def test_made_by_hand(self, messages):
        """An action that is made by its class logs no start, and may log all else."""
        with Action(None, "x", TaskLevel([1]), "a") as action:
            action.log("t")
        assert levels_of(messages) == [[1, 1], [1, 2]]
