"""Tests of keeping messages on disk."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.viewers import _spill
from eliot_etw.viewers._nodes import MESSAGE, Node
from eliot_etw.viewers._spill import HalfSpill, Spill

levels = st.lists(st.integers(1) | st.integers(1, 3), min_size=1, max_size=5).map(tuple)


@given(levels, levels)
def test_keys_sort_as_levels_do(one, other):
    """The order of the bytes is the order of the levels, whatever their positions and lengths."""
    assert (_spill._key(one) < _spill._key(other)) == (one < other)


def test_absurd_positions():
    """A position of thousands of digits can be kept; its place among such is no matter."""
    spill = Spill()
    spill.put(1, "t", (), [((1, 10**4000), {"n": 1}), ((1, 2), {"n": 2})])
    assert [message["n"] for _, message in spill.rows(1)] == [1, 2]
    spill.close()


@given(st.lists(levels, unique=True), st.text())
def test_rows_come_back_sorted(levels, uuid):
    """Rows come back from the last level to the first, of one level the first first."""
    spill = Spill()
    rows = [(level, {"n": (n, turn)}) for turn in (1, 2) for n, level in enumerate(levels)]
    spill.put(7, uuid, (1, 2**70, True), rows)
    spill.put(8, f"{uuid}x", (), [((1,), {"n": "another task"})])
    assert list(spill.rows(7)) == sorted(rows, key=lambda row: row[0], reverse=True)
    assert spill.state(uuid) == (7, (1, 2**70, True))
    spill.close()


def test_unknown_task():
    """A task that is not here has no state."""
    spill = Spill()
    assert (spill.state("t"), list(spill.rows(1)), list(spill.tasks())) == (None, [], [])
    spill.close()


def test_dropped_task():
    """A task that was dropped is gone, the others are not."""
    spill = Spill()
    for number in (1, 2):
        spill.put(number, f"t{number}", (), [((1,), {"n": number})])
    spill.drop(1)
    assert (spill.state("t1"), list(spill.rows(1)), list(spill.tasks())) == (
        None,
        [],
        [(2, "t2", ())],
    )
    spill.close()


def test_turned():
    """Nodes come back in the opposite order, as often as needed."""
    spill = Spill()
    nodes = [Node(MESSAGE, 1, n, {"n": n}) for n in range(100)]
    for _ in range(2):
        assert [node.position for node in spill.turned(nodes)] == list(range(99, -1, -1))
    spill.close()


def test_halves():
    """A value is there until it is taken."""
    halves = HalfSpill()
    halves.put([("t", (), ("a", 1.5)), ("t", (2,), ("b", None)), ("u", (), ("c", 2))])
    taken = [halves.take("t", (2,)), halves.take("t", (2,)), halves.take("t", (3,))]
    assert taken == [("b", None), None, None]
    assert sorted(halves.all()) == [("a", 1.5), ("c", 2)]
    halves.close()


def test_full_disk():
    """No room for temporary files is said to be that."""
    spill = Spill()
    spill._database.execute("PRAGMA max_page_count = 20")
    rows = [((n,), {"text": "x" * 1000}) for n in range(1, 1000)]
    with pytest.raises(OSError, match="temporary file: database or disk is full"):
        spill.put(1, "t", (), rows)
    spill.close()


def test_closed():
    """A closed spill has given its room back."""
    spill = Spill()
    spill.close()
    with pytest.raises(sqlite3.ProgrammingError):
        spill.state("t")
