"""Tests of the count that says when a task is complete, and of the tree that is built then."""

import pytest

from eliot_etw._trace_context import FIRST_DRAWN as DRAWN
from eliot_etw._tree import TaskBuilder
from eliot_etw._written import WrittenMessage


def message(level, **fields):
    """Make a message of one task."""
    return {"task_uuid": "task", "task_level": level, "timestamp": 1.5, **fields}


def start(level):
    """Make the start of an action."""
    return message(level, action_type="app:work", action_status="started")


def end(level):
    """Make the end of an action."""
    return message(level, action_type="app:work", action_status="succeeded")


def completeness(*messages):
    """Say after each message whether the task was complete."""
    builder = TaskBuilder()
    seen = []
    for each in messages:
        builder.add(each, each["task_level"])
        seen.append(builder.is_complete)
    return seen


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([start([1]), end([2])], "no yes"),
        ([end([2]), start([1])], "no yes"),
        ([end([3]), start([1]), message([2])], "no no yes"),
        ([start([1]), end([3]), start([2, 1]), end([2, 2])], "no no no yes"),
        ([end([2, 2]), start([2, 1]), end([3]), start([1])], "no no no yes"),
        # An action that shows up behind the end has to be waited for again.
        ([start([1]), end([2]), start([3, 1]), end([3, 2])], "no yes no yes"),
        # A message is a task of its own until another comes.
        ([message([1]), start([1]), end([2])], "yes no yes"),
        # The position of a start is not the start.
        ([message([1]), end([2])], "yes no"),
        ([start([1, 1]), end([1, 2]), end([2]), start([1])], "no no no yes"),
        ([end([2]), start([1, 1]), end([1, 2]), start([1])], "no no no yes"),
        # What was begun elsewhere is known only by what continues it.
        ([start([DRAWN, 1]), end([DRAWN, 2])], "no yes"),
        ([message([DRAWN, 2]), end([DRAWN, 3]), start([DRAWN, 1])], "no no yes"),
        ([start([DRAWN, 1]), end([DRAWN, 2]), start([DRAWN + 7, 1])], "no yes no"),
        (
            [start([DRAWN, 1]), end([DRAWN, 2]), start([1]), end([3]), message([2])],
            "no yes no no yes",
        ),
        ([start([1]), end([2]), start([DRAWN, 1]), end([DRAWN, 2])], "no yes no yes"),
        ([end([DRAWN])], "no"),
        # The same within actions of which nothing else is known, as long as that is so.
        ([start([2, DRAWN, 1]), end([2, DRAWN, 2])], "no yes"),
        ([start([2, DRAWN, 1]), end([2, DRAWN, 2]), start([3, 4, DRAWN, 1])], "no yes no"),
        ([start([2, DRAWN, 1]), end([2, DRAWN, 2]), start([1]), end([3])], "no yes no no"),
        (
            [message([DRAWN, 2, DRAWN]), start([DRAWN, 3, DRAWN, 1]), message([DRAWN, 1])],
            "yes no no",
        ),
        (
            [
                start([1]),
                start([2, 1]),
                start([2, DRAWN, 1]),
                end([2, DRAWN, 2]),
                end([2, 2]),
                end([3]),
            ],
            "no no no no no yes",
        ),
    ],
)
def test_complete_when_all_is_there(messages, expected):
    """A task is complete while each action it knows has a start, an end and all between."""
    assert expected == " ".join("yes" if done else "no" for done in completeness(*messages))


def test_duplicates_are_told():
    """The builder says whether a message was new, and keeps only those that were."""
    builder = TaskBuilder()
    log = [start([1]), message([2]), start([1]), message([2], x=1), message([2], x=1)]
    assert [builder.add(m, m["task_level"]) for m in log] == [True, True, False, True, False]
    assert [log[0], log[1], log[3]] == builder.log


def test_made_of_messages():
    """A builder that begins with messages is as if they had been added."""
    log = [start([1]), message([2]), message([2], x=1), end([3])]
    builder = TaskBuilder()
    for each in log:
        builder.add(each, each["task_level"])
    assert builder.build() == TaskBuilder(log).build()


def test_message_without_a_place():
    """A builder can begin with one message that has no place, which is all of its task then."""
    builder = TaskBuilder([{"x": 1}])
    assert builder.is_complete
    assert WrittenMessage.from_dict({"x": 1}) == builder.build()


def test_building_leaves_the_builder_as_it_was():
    """A tree can be built at any time, and messages added afterwards."""
    builder = TaskBuilder([start([1]), message([3])])
    early = builder.build()
    builder.add(end([4]), [4])
    assert early == TaskBuilder([start([1]), message([3])]).build()
    assert builder.build() == TaskBuilder([start([1]), message([3]), end([4])]).build()
