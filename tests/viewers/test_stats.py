"""Tests of counting what is in a log."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.viewers import _stats
from eliot_etw.viewers._stats import NO_TYPE, OTHER_TYPES, Stats

STORY = """
    1 @0 start app:request
    2.1 @1 start app:query
    2.2 @1.5 app:row
    2.3 @2 end app:query
    3.1 @2 start app:query
    3.2 @5 fail app:query
    4 @6 fail app:request
"""


def counted(messages, **options):
    """Count messages."""
    stats = Stats(**options)
    for message in messages:
        stats.add(message)
    stats.finish()
    return stats


def numbers(stats):
    """Return what is counted of each type of action."""
    return {
        name: (action.count, action.failed, action.no_start, action.no_end)
        for name, action in stats.actions.items()
    }


def test_actions(log):
    """Actions are counted by type, with how they ended and how long they took."""
    stats = counted(log(STORY))
    assert numbers(stats) == {"app:query": (2, 1, 0, 0), "app:request": (1, 1, 0, 0)}
    durations = stats.actions["app:query"].durations
    assert [durations.at(0.5), durations.longest, durations.total] == [1, 3, 4]


def test_messages(log):
    """Messages outside starts and ends are counted by type."""
    assert counted(log(STORY)).messages == {"app:row": 1}


def test_span(log):
    """The first and the last time are those of the whole log, in whatever order it is."""
    stats = counted(log("1 @5 m \n 2 @3 m \n 3 @9 m \n 4 @7 m"))
    assert (stats.count, stats.last - stats.first) == (4, 6)


def test_no_times(log):
    """A log without times has no span, and its actions no durations."""
    messages = log("1 start a \n 2 end a")
    for message in messages:
        message["timestamp"] = None
    stats = counted(messages)
    assert (stats.first, stats.last) == (None, None)
    assert stats.actions["a"].durations.count == 0
    assert numbers(stats) == {"a": (1, 0, 0, 0)}


def test_halves(log):
    """An action of which one half is missing is counted as that."""
    stats = counted(log("1 start a \n 2.1 start b \n 3.2 fail b"))
    assert numbers(stats) == {"a": (1, 0, 0, 1), "b": (2, 1, 1, 1)}


def test_end_before_start(log):
    """The order of the messages does not matter."""
    messages = log(STORY)
    for seed in range(20):
        random.Random(seed).shuffle(messages)
        stats = counted(messages)
        assert numbers(stats) == {"app:query": (2, 1, 0, 0), "app:request": (1, 1, 0, 0)}
        assert stats.actions["app:query"].durations.total == 4


def test_start_that_came_twice(log):
    """A start that is there twice is one start."""
    messages = log("1 start a \n 2 end a")
    assert numbers(counted([messages[0], *messages])) == {"a": (1, 0, 0, 0)}


def test_tasks_and_levels_are_told_apart(log):
    """A start and an end belong together only in one task at one level."""
    messages = log("1 start a \n 2.2 end a", uuid="one") + log("2 end a", uuid="two")
    assert numbers(counted(messages)) == {"a": (3, 0, 2, 1)}


def test_message_without_type(log):
    """What has no type is counted under a name of its own; a type that is no text by its text."""
    messages = log("1 n=1 \n 2 m")
    messages[1]["message_type"] = 5
    assert counted(messages).messages == {NO_TYPE: 1, "5": 1}


@pytest.mark.parametrize("most", [1, 2, 1000])
@given(chance=st.randoms(use_true_random=False))
def test_halves_on_disk(log_text, most, chance):
    """Nothing changes when starts have to wait for their ends on disk."""
    messages = log_text()
    chance.shuffle(messages)
    stats = counted(messages, most_halves=most)
    assert numbers(stats) == {"app:query": (60, 30, 0, 0), "app:request": (30, 30, 0, 0)}
    assert stats.actions["app:query"].durations.total == 30 * 4


@pytest.fixture(scope="module")
def log_text():
    """Return a function that makes the messages of thirty tasks."""
    roles = {"start": "started", "end": "succeeded", "fail": "failed"}

    def messages():
        made = []
        for uuid in range(30):
            for line in STORY.split("\n"):
                words = line.split()
                if words:
                    status = (
                        {"action_type": words[3], "action_status": roles[words[2]]}
                        if (words[2] in roles)
                        else {"message_type": words[2]}
                    )
                    made.append(
                        {
                            "task_uuid": str(uuid),
                            "task_level": [int(n) for n in words[0].split(".")],
                            "timestamp": float(words[1][1:]),
                            **status,
                        }
                    )
        return made

    return messages


def test_halves_that_stay_on_disk(log):
    """What waits on disk to the end is counted as well."""
    messages = []
    for n in range(100):
        messages += log("1 start a", uuid=f"task-{n}")
    assert numbers(counted(messages, most_halves=10)) == {"a": (100, 0, 0, 100)}


def test_too_many_types(log, monkeypatch):
    """A log that makes up types without end gets so many rows, and one for all others."""
    monkeypatch.setattr(_stats, "_MOST_TYPES", 3)
    messages = []
    for n in range(10):
        messages += log(f"1 start a{n} \n 2 m{n} \n 3 end a{n}", uuid=f"task-{n}")
    stats = counted(messages)
    assert stats.messages == {"m0": 1, "m1": 1, "m2": 1, OTHER_TYPES: 7}
    assert numbers(stats)[OTHER_TYPES] == (7, 0, 0, 0)
