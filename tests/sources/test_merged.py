"""Tests of reading several sources as one."""

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.sources import merge_by_time


def at(*times):
    """Make messages of these times."""
    return [{"timestamp": time} for time in times]


def test_one_source_is_passed_through():
    """A single source keeps its order, whatever its times are."""
    messages = at(3, 1, 2)
    assert list(merge_by_time([messages])) == messages


def test_earlier_messages_come_first():
    """Two sources that are each in order become one that is in order."""
    assert list(merge_by_time([at(1, 4, 5), at(2, 3, 6)])) == at(1, 2, 3, 4, 5, 6)


def test_order_within_a_source_is_kept():
    """A time that goes back, or that is none, does not move a message before its predecessor."""
    client = at(10, 3, None, float("nan"), "noon", 11)
    merged = list(merge_by_time([client, at(10.5)]))
    assert [message for message in merged if message["timestamp"] != 10.5] == client
    assert merged[-2:] == at(10.5, 11)


def test_sources_are_read_only_as_far_as_needed():
    """What is not asked for is not read: logs need not fit into memory."""
    read = []

    def source(name):
        for time in range(1000):
            read.append(name)
            yield {"timestamp": time}

    merged = merge_by_time([source("a"), source("b")])
    next(merged)
    assert read == ["a", "b"]


@given(st.lists(st.lists(st.none() | st.floats() | st.integers()), max_size=4))
def test_nothing_is_lost(times):
    """Every message comes out exactly once."""
    sources = [
        [{"timestamp": time, "id": (s, i)} for i, time in enumerate(many)]
        for s, many in enumerate(times)
    ]
    merged = [message["id"] for message in merge_by_time(sources)]
    assert sorted(merged) == [message["id"] for source in sources for message in source]
