"""Tests of the rules about levels that are in force."""

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector._level_rules import LevelRules
from eliot_etw.shipping._protocol import MAX_RULES, LevelRule


class Clock:
    """A clock that a test sets."""

    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def rules(tmp_path, clock):
    return LevelRules(tmp_path / "sub" / "levels.json", clock)


def patterns(rules):
    return [rule.pattern for rule in rules.in_force()]


def test_latest_first(rules):
    """What was set last counts first; one for the same is replaced."""
    rules.set(LevelRule("a", 10, 5_000))
    rules.set(LevelRule("b", 10, 5_000))
    rules.set(LevelRule("a", 20, 5_000, program="x"))
    rules.set(LevelRule("a", 30, 5_000))
    assert [(r.pattern, r.level, r.program) for r in rules.in_force()] == [
        ("a", 30, "*"),
        ("a", 20, "x"),
        ("b", 10, "*"),
    ]
    assert rules.revision == 4


def test_time(rules, clock):
    """A rule ends by itself."""
    rules.set(LevelRule("a", 10, 5_000))
    clock.now += 3
    assert rules.in_force()[0].remaining_ms == 2_000
    assert not rules.expire()
    clock.now += 2
    assert rules.expire()
    assert patterns(rules) == []
    assert rules.revision == 2


def test_clear(rules):
    """Rules end when they are told to: one pattern, or all."""
    for pattern in "abc":
        rules.set(LevelRule(pattern, 10, 5_000))
    rules.clear("b")
    assert patterns(rules) == ["c", "a"]
    rules.clear("")
    assert patterns(rules) == []


def test_restart(rules, tmp_path, clock):
    """A restart ends no rule, and does not make it longer."""
    rules.set(LevelRule("a", 10, 5_000, "p*", "h*"))
    clock.now += 1
    again = LevelRules(tmp_path / "sub" / "levels.json", clock)
    assert again.in_force() == (LevelRule("a", 10, 4_000, "p*", "h*"),)
    assert again.revision == rules.revision


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"revision": 1}', b"\xff"])
def test_damaged(tmp_path, content):
    """A damaged file counts as empty."""
    path = tmp_path / "levels.json"
    path.write_bytes(content)
    assert LevelRules(path).in_force() == ()


def test_too_many(rules):
    """There is a limit."""
    for number in range(MAX_RULES):
        rules.set(LevelRule(f"a{number}", 10, 5_000))
    with pytest.raises(ValueError, match="at most 1,000 rules"):
        rules.set(LevelRule("b", 10, 5_000))
    rules.set(LevelRule("a0", 20, 5_000))
