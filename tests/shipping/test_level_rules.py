"""Tests of levels that a collector sets: for whom they are, and that they end."""

from math import inf

import pytest

pytest.importorskip("msgspec")

from eliot_etw.shipping._level_rules import LevelRules
from eliot_etw.shipping._protocol import LevelRule


@pytest.fixture
def rules():
    """Return the rules of a process."""
    return LevelRules(host="web-1", program="shop", pid=77)


@pytest.mark.parametrize(
    ("who", "is_for_us"),
    [
        ({}, True),
        ({"host": "web-*"}, True),
        ({"host": "db-*"}, False),
        ({"host": "WEB-1"}, False),
        ({"program": "sh?p"}, True),
        ({"program": "77"}, True),
        ({"program": "7"}, False),
        ({"host": "web-1", "program": "other"}, False),
    ],
)
def test_for_whom(rules, who, is_for_us):
    """A rule is for machines and programs that fit its patterns, or for a process's number."""
    rule = LevelRule("app.db*", 10, 1000, **who)
    assert rules.set([rule], 5.0) == is_for_us
    assert rules.in_force(5.0) == ((("app.db*", 10),) if is_for_us else ())


def test_ends(rules):
    """Each ends when its time is over."""
    assert rules.set([LevelRule("a", 10, 1000), LevelRule("b", 20, 500)], 100.0) == 2
    assert rules.in_force(100.4) == (("a", 10), ("b", 20))
    assert rules.next_end_s(100.4) == 100.5
    assert rules.in_force(100.5) == (("a", 10),)
    assert rules.next_end_s(100.5) == 101.0
    assert rules.in_force(101.0) == ()
    assert rules.next_end_s(101.0) == inf


def test_the_list_is_whole(rules):
    """What is not in the new list has ended."""
    rules.set([LevelRule("a", 10, 1000)], 0.0)
    rules.set([LevelRule("b", 20, 1000)], 0.1)
    assert rules.in_force(0.1) == (("b", 20),)
    assert rules.set([], 0.2) == 0
    assert rules.in_force(0.2) == ()
