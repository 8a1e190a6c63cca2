"""Tests of quantiles in little room."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.viewers._quantiles import Quantiles

SHARES = (0.01, 0.5, 0.9, 0.99, 1)


def quantiles(values):
    """Take all values."""
    taken = Quantiles()
    for value in values:
        taken.add(value)
    return taken


def exact(values, share):
    """Find the shortest value that so large a share of all does not exceed."""
    return sorted(values)[max(ceil(share * len(values)), 1) - 1]


def test_none():
    """Of nothing there are no quantiles."""
    assert [quantiles([]).at(share) for share in SHARES] == [None] * 5


@given(st.lists(st.floats(-10, 1e6), min_size=1, max_size=200))
def test_few_are_exact(values):
    """Up to 200 values the answers are values that came."""
    assert [quantiles(values).at(share) for share in SHARES] == [
        exact(values, share) for share in SHARES
    ]


@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60),
    st.integers(4, 20),
)
def test_many_are_within_one_percent(values, times):
    """Of any number of values the answers are within 1%."""
    many = (values * 60)[: 60 * times]
    taken = quantiles(many)
    for share in SHARES:
        assert taken.at(share) == pytest.approx(exact(many, share), rel=0.0100001)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1))
def test_count_total_and_longest(values):
    """These are exact, whatever the values are."""
    taken = quantiles(values)
    assert (taken.count, taken.longest) == (len(values), max(values))
    assert taken.total == pytest.approx(sum(values))


def test_out_of_range():
    """Durations that are zero, negative or longer than any life do no harm."""
    taken = quantiles([0.0, -5.0, 1e300] * 100)
    assert taken.at(0.5) == pytest.approx(1e-9, rel=0.01)
    assert taken.at(1) == pytest.approx(1e9, rel=0.01)


def test_little_room():
    """However many different values there are, few numbers are kept."""
    taken = quantiles(1.0001**n for n in range(50_000))
    assert len(taken._buckets) < 300
    assert len(taken._exact) == 0
