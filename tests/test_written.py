"""Tests of messages and actions as values, and of what makes an action of messages."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap, pvector

from eliot_etw import exceptions
from eliot_etw._task_level import TaskLevel
from eliot_etw._trace_context import FIRST_DRAWN as DRAWN
from eliot_etw._written import WrittenAction, WrittenMessage, place_of

PLACE = {"task_uuid": "task", "task_level": [1], "timestamp": 1.5}


def message(level, **fields):
    """Make a message of one task."""
    return WrittenMessage.from_dict({**PLACE, "task_level": level, **fields})


def start(level=(1,), **fields):
    """Make the start of an action."""
    fields = {"action_type": "app:work", "action_status": "started", **fields}
    return message([*level], **fields)


def end(level=(9,), **fields):
    """Make the end of an action."""
    fields = {"action_type": "app:work", "action_status": "succeeded", **fields}
    return message([*level], **fields)


fields = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=4,
    ),
    max_size=4,
)


class TestWrittenMessage:
    """One message that was logged."""

    @given(fields)
    def test_round_trip(self, logged):
        """What comes out is what went in, place and all."""
        assert {**logged, **PLACE} == WrittenMessage.from_dict({**logged, **PLACE}).as_dict()

    @given(fields)
    def test_contents(self, logged):
        """The contents are the fields without the three of the place, as a persistent map."""
        rest = {k: v for k, v in logged.items() if k not in PLACE}
        assert pmap(rest) == WrittenMessage.from_dict({**logged, **PLACE}).contents

    def test_place(self):
        """The place is at hand as attributes."""
        written = message([2, 1])
        assert ("task", TaskLevel([2, 1]), 1.5) == (
            written.task_uuid,
            written.task_level,
            written.timestamp,
        )

    def test_any_mapping(self):
        """A message may be given as any mapping, its level as any sequence."""
        logged = pmap({"task_uuid": "task", "task_level": pvector([1, 2]), "x": 1})
        written = WrittenMessage.from_dict(logged)
        assert logged == written.as_dict()
        assert TaskLevel([1, 2]) == written.task_level

    def test_never_changes(self):
        """Neither the dict that it was made of nor the one it gives reaches into it."""
        logged = {**PLACE, "x": 1}
        written = WrittenMessage.from_dict(logged)
        logged["x"] = 2
        written.as_dict()["x"] = 3
        assert written.as_dict()["x"] == 1
        with pytest.raises(AttributeError):
            written.timestamp = 7

    @pytest.mark.parametrize(
        "time", [None, "noon", True, False, math.nan, math.inf, 10**400, 1e300, [], {}]
    )
    def test_time_that_is_none(self, time):
        """What cannot be calculated with is no time; the message still holds it."""
        written = message([1], timestamp=time)
        assert written.timestamp is None
        assert written.as_dict()["timestamp"] is time

    @pytest.mark.parametrize("time", [0, -1, 1.25, 2**40])
    def test_time(self, time):
        """Whole and negative numbers are times too."""
        assert time == message([1], timestamp=time).timestamp

    @given(fields, fields)
    def test_equality(self, one, two):
        """Messages are equal if all is the same, types included; equal ones hash alike."""
        first, again = WrittenMessage.from_dict(one), WrittenMessage.from_dict(one)
        assert (first, hash(first)) == (again, hash(again))
        # The repr shows types and signs, and takes NaN for NaN.
        same = one.keys() == two.keys() and all(repr(one[k]) == repr(two[k]) for k in one)
        if same or one != two:
            assert same == (first == WrittenMessage.from_dict(two))

    @pytest.mark.parametrize("other", [1.0, True, "1", [1], None])
    def test_lookalikes(self, other):
        """A value of another type makes another message."""
        assert message([1], x=1) != message([1], x=other)

    def test_not_equal_to_its_dict(self):
        """A message is not its dict."""
        assert message([1]) != message([1]).as_dict()

    def test_circular_values(self):
        """Values that hold themselves can be compared."""
        one, two = [], []
        one.append(one)
        two.append(two)
        assert message([1], x=one) == message([1], x=two)

    def test_value_that_does_not_compare(self):
        """A value whose comparison raises is the same as itself, and as no other."""

        class Touchy:
            def __eq__(self, other):
                raise ZeroDivisionError

            __hash__ = None

        value = Touchy()
        assert message([1], x=value) == message([1], x=value)
        assert message([1], x=value) != message([1], x=Touchy())

    def test_repr(self):
        """The repr shows the fields, or a stand-in if one of them cannot be shown."""

        class Rude:
            def __repr__(self):
                raise ZeroDivisionError

        assert "'x': 7" in repr(message([1], x=7))
        assert "WrittenMessage(" in repr(message([1], x=Rude()))


class TestPlace:
    """Which places are usable."""

    @given(st.text(), st.lists(st.integers(1), min_size=1))
    def test_usable(self, uuid, level):
        """Any text names a task, and any whole numbers above 0 a place in it."""
        assert (uuid, level) == place_of({"task_uuid": uuid, "task_level": level})

    @pytest.mark.parametrize(
        "level", [None, [], "1", b"1", 1, [0], [-1], [1, 0], [1.0], [True], ["1"], [[1]], {1: 1}]
    )
    def test_level_that_is_none(self, level):
        """Anything else is no place."""
        assert place_of({"task_uuid": "task", "task_level": level}) is None

    @pytest.mark.parametrize("uuid", [None, 7, b"task", ["task"]])
    def test_task_that_is_none(self, uuid):
        """What is not text names no task."""
        broken = {"task_uuid": uuid, "task_level": [1]}
        assert place_of(broken) is None
        assert WrittenMessage.from_dict(broken).task_uuid == ""


class TestWrittenAction:
    """An action made of messages that are known to fit."""

    def test_from_start(self):
        """A start alone makes an action that goes on."""
        action = WrittenAction.from_messages(start([2, 1], timestamp=3.5))
        assert (
            action.action_type,
            action.status,
            action.start_time,
            action.end_time,
        ) == ("app:work", "started", 3.5, None)
        assert ("task", TaskLevel([2])) == (action.task_uuid, action.task_level)
        assert not action.is_complete()

    def test_from_end(self):
        """An end alone makes an action of which the start is missing."""
        failed = end([3], action_status="failed", exception="app.Broken", reason="why")
        action = WrittenAction.from_messages(end_message=failed)
        assert (
            action.status,
            action.start_time,
            action.end_time,
            action.exception,
            action.reason,
        ) == ("failed", None, 1.5, "app.Broken", "why")

    def test_begun_elsewhere(self):
        """An action known only by what continues it from elsewhere is complete if that is."""
        places = [[DRAWN, 1], [DRAWN, 2]]
        inner = WrittenAction.from_messages(start(places[0]), [], end(places[1]))
        outer = WrittenAction.from_messages(None, [inner])
        assert (outer.began_elsewhere, outer.missing, outer.is_complete()) == (True, (), True)
        assert not inner.began_elsewhere
        torn = WrittenAction.from_messages(None, [WrittenAction.from_messages(start(places[0]))])
        assert (torn.began_elsewhere, torn.is_complete()) == (True, False)
        for other in [message([2]), message([DRAWN - 1])]:
            mixed = WrittenAction.from_messages(None, [inner, other])
            assert (mixed.began_elsewhere, mixed.is_complete()) == (False, False)
            assert mixed.missing == (range(1, other.task_level[0]),)
        within = [[2, DRAWN, 1], [2, DRAWN, 2]]
        deep = WrittenAction.from_messages(start(within[0]), [], end(within[1]))
        second = WrittenAction.from_messages(None, [deep])
        outer = WrittenAction.from_messages(None, [second])
        assert (outer.began_elsewhere, outer.missing, outer.is_complete()) == (True, (), True)
        # With the sender's log it shows that something of it is lost.
        whole = WrittenAction.from_messages(start([1]), [second], end([3]))
        assert (whole.began_elsewhere, whole.is_complete()) == (False, False)

    def test_from_child(self):
        """A child alone makes an action of which nothing else is known."""
        action = WrittenAction.from_messages(children=[message([2])])
        assert (
            action.action_type,
            action.status,
            action.exception,
            action.reason,
        ) == (None, None, None, None)

    @given(st.permutations(range(2, 7)))
    def test_children_are_ordered(self, order):
        """Children are ordered by place, messages and actions alike."""
        inner = {4: WrittenAction.from_messages(start([4, 1]))}
        children = [inner.get(n) or message([n]) for n in order]
        action = WrittenAction.from_messages(start(), children, end([7]))
        assert [TaskLevel([n]) for n in range(2, 7)] == [c.task_level for c in action.children]

    def test_complete(self):
        """With all there, an action is complete; with an incomplete action in it, it is not."""
        inner = WrittenAction.from_messages(start([2, 1]), (), end([2, 2]))
        assert WrittenAction.from_messages(start(), [inner], end([3])).is_complete()
        inner = WrittenAction.from_messages(start([2, 1]))
        assert not WrittenAction.from_messages(start(), [inner], end([3])).is_complete()

    def test_nothing(self):
        """An action needs a message."""
        with pytest.raises(exceptions.InvalidTree, match="must have a message"):
            WrittenAction.from_messages()

    @pytest.mark.parametrize("status", ["succeeded", "failed", "eaten", None, ["started"]])
    def test_invalid_start_status(self, status):
        """A start says that it is one."""
        with pytest.raises(exceptions.InvalidStartMessage, match="must have the status"):
            WrittenAction.from_messages(start(action_status=status))

    @pytest.mark.parametrize("level", [[2], [1, 2], []])
    def test_invalid_start_level(self, level):
        """A start has the first place."""
        with pytest.raises(exceptions.InvalidStartMessage, match="must have a level"):
            WrittenAction.from_messages(start(level))

    @pytest.mark.parametrize("status", ["started", "eaten", None, ["failed"]])
    def test_invalid_end_status(self, status):
        """An end says how the action ended."""
        with pytest.raises(exceptions.InvalidStatus, match="must have a status"):
            WrittenAction.from_messages(start(), (), end(action_status=status))

    def test_end_of_another_type(self):
        """An end has the type of its start."""
        with pytest.raises(exceptions.WrongActionType, match="'app:work', got 'app:play'"):
            WrittenAction.from_messages(start(), (), end(action_type="app:play"))

    def test_another_task(self):
        """All messages are of one task."""
        with pytest.raises(exceptions.WrongTask):
            WrittenAction.from_messages(start(), [message([2], task_uuid="other")])

    @pytest.mark.parametrize("level", [[2, 1], [3, 2, 1], []])
    def test_another_action(self, level):
        """All messages are directly in the action."""
        with pytest.raises(exceptions.WrongTaskLevel):
            WrittenAction.from_messages(start(), [message(level)])

    def test_only_a_message_without_a_place(self):
        """A message that has no place is in no action, not even in one of its own."""
        with pytest.raises(exceptions.WrongTaskLevel):
            WrittenAction.from_messages(children=[message([])])

    def test_duplicate_child(self):
        """Two different children cannot have one place; one child given twice is one."""
        with pytest.raises(exceptions.DuplicateChild):
            WrittenAction.from_messages(start(), [message([2], x=1), message([2], x=2)])
        twice = WrittenAction.from_messages(start(), [message([2]), message([2])])
        assert pvector([message([2])]) == twice.children

    def test_equality(self):
        """Actions are equal if all in them is; equal ones hash alike."""

        def tree(value):
            inner = WrittenAction.from_messages(start([2, 1]), [message([2, 2], x=value)])
            return WrittenAction.from_messages(start(), [inner])

        assert (tree(1), hash(tree(1))) == (tree(1), hash(tree(1)))
        assert tree(1) != tree(2)
        assert tree(1) != tree(1).start_message
        assert tree(1) != WrittenAction.from_messages(start(), [message([2])])

    def test_repr(self):
        """The repr says where it is and how it went."""
        action = WrittenAction.from_messages(start([3, 1]), [message([3, 2])])
        assert repr(action) == "<WrittenAction 'app:work' at /3 of task: started, 1 children>"
