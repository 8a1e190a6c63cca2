"""Tests of putting values into the order of their times."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.sources import _by_time
from eliot_etw.sources._by_time import ByTime

keys = st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), st.integers(-2, 2))


def sorted_by_it(items, size_bytes):
    """Put times and ranks through it; give them with their number."""
    with closing(ByTime()) as waiting:
        for number, (time_ns, rank) in enumerate(items):
            waiting.add((time_ns, rank, number), time_ns, rank, size_bytes=size_bytes)
        return list(waiting)


@given(st.lists(keys))
def test_order(items):
    """Values come by time, then by rank, then as they were given."""
    expected = sorted((*key, number) for number, key in enumerate(items))
    assert expected == sorted_by_it(items, 1)


@given(st.lists(keys))
def test_order_on_disk(items):
    """The same where there are too many for the memory."""
    expected = sorted((*key, number) for number, key in enumerate(items))
    assert expected == sorted_by_it(items, _by_time._BUDGET_BYTES // 3)


def test_bounded():
    """Beyond the budget nothing stays in memory."""
    with closing(ByTime()) as waiting:
        for number in range(100):
            waiting.add(number, number, size_bytes=_by_time._BUDGET_BYTES // 10)
            assert len(waiting._items) <= 10
        assert list(range(100)) == list(waiting)


def test_disk_is_full(monkeypatch):
    """A full disk is said as such."""
    monkeypatch.setattr(_by_time, "_SCHEMA", "PRAGMA max_page_count = 1;" + _by_time._SCHEMA)
    with closing(ByTime()) as waiting, pytest.raises(OSError, match=r"temporary file: .*full"):
        waiting.add("x" * 100_000, 0, size_bytes=_by_time._BUDGET_BYTES + 1)
