"""Tests of putting values into order."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.sources import _sorted
from eliot_etw.sources._sorted import Sorted

keys = st.tuples(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=2),
    st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.5]),
)


def sorted_by_it(items, size_bytes):
    """Put names and times through it; give them with their number."""
    with closing(Sorted()) as waiting:
        for number, (name, time) in enumerate(items):
            waiting.add((name, time, number), name, time, size_bytes)
        return list(waiting)


@given(st.lists(keys))
def test_order(items):
    """Values come by name, then by time, then as they were given."""
    expected = sorted((*key, number) for number, key in enumerate(items))
    assert expected == sorted_by_it(items, 1)


@given(st.lists(keys))
def test_order_on_disk(items):
    """The same where there are too many for the memory."""
    expected = sorted((*key, number) for number, key in enumerate(items))
    assert expected == sorted_by_it(items, _sorted._BUDGET_BYTES // 3)


def test_bounded():
    """Beyond the budget nothing stays in memory."""
    with closing(Sorted()) as waiting:
        for number in range(100):
            waiting.add(number, "", number, _sorted._BUDGET_BYTES // 10)
            assert len(waiting._items) <= 10
        assert list(range(100)) == list(waiting)


def test_deep():
    """A message that is nested deeper than can be written comes back, its depths as text."""
    value = []
    for _ in range(5_000):
        value = [value]
    with closing(Sorted()) as waiting:
        waiting.add({"task_level": [1], "deep": value}, "", 0, _sorted._BUDGET_BYTES + 1)
        (message,) = waiting
    assert [1] == message["task_level"]
    assert isinstance(message["deep"][0][0], list)


def test_disk_is_full(monkeypatch):
    """A full disk is said as such."""
    monkeypatch.setattr(_sorted, "_SCHEMA", "PRAGMA max_page_count = 1;" + _sorted._SCHEMA)
    with closing(Sorted()) as waiting, pytest.raises(OSError, match=r"temporary file: .*full"):
        waiting.add("x" * 100_000, "", 0, _sorted._BUDGET_BYTES + 1)
