"""Tests of the conditions on nodes."""

import time

import pytest

from eliot_etw.viewers import _conditions as conditions
from eliot_etw.viewers._nodes import ACTION, MESSAGE, Node


def message(**fields):
    """Make the node of a message."""
    return Node(MESSAGE, 0, 1, {"message_type": "app:said", "timestamp": 100.0, **fields})


def action(start=None, end=None):
    """Make the node of an action that ran from 100 to 103."""
    begun = {"action_type": "app:do", "action_status": "started", "timestamp": 100.0}
    ended = {"action_type": "app:do", "action_status": "succeeded", "timestamp": 103.0}
    return Node(ACTION, 0, 1, begun | (start or {}), ended | (end or {}))


class TestSeconds:
    """Durations on the command line."""

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("250ms", 0.25),
            ("1.5s", 1.5),
            ("2", 2),
            (".5", 0.5),
            ("3us", 3e-6),
            ("2m", 120),
            ("1h", 3600),
            ("1 d", 86400),
            ("1w", 604800),
        ],
    )
    def test_units(self, text, seconds):
        """A number and a unit; without a unit it is seconds."""
        assert conditions.seconds(text) == pytest.approx(seconds)

    @pytest.mark.parametrize("text", ["", "fast", "-1s", "1y", "1e3", "nan"])
    def test_nonsense(self, text):
        """Anything else is refused with an example."""
        with pytest.raises(ValueError, match=r"must look like 250ms, 1\.5s or 2m, got"):
            conditions.seconds(text)


class TestMoment:
    """Times on the command line."""

    @pytest.mark.parametrize(
        "text", ["2026-11-20T13:23:33Z", "2026-11-20 14:23:33+01:00", "2026-11-20T13:23:33+00:00"]
    )
    def test_iso_with_zone(self, text):
        """A time with a zone is what it says."""
        assert conditions.moment(text, utc=False) == 1_795_181_013

    def test_iso_utc(self):
        """A time without a zone is in UTC if that is shown."""
        assert conditions.moment("2026-11-20T13:23:33", utc=True) == 1_795_181_013

    @pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set")
    def test_iso_local(self, monkeypatch):
        """Else it is local time."""
        monkeypatch.setenv("TZ", "EST5")
        time.tzset()
        try:
            moment = conditions.moment("2026-11-20", utc=False)
        finally:
            monkeypatch.undo()
            time.tzset()
        assert moment == 1_795_132_800 + 5 * 3600

    def test_ago(self):
        """An amount of time is so long ago."""
        assert time.time() - conditions.moment("10m", utc=True) == pytest.approx(600, abs=60)

    @pytest.mark.parametrize("text", ["", "yesterday", "10", "5ms", "2026-13-01", "0001-01-01Z"])
    def test_nonsense(self, text):
        """Anything else is refused with examples."""
        with pytest.raises(ValueError, match=r"must look like 2026-11-20T13:30 or, for ago, 10m"):
            conditions.moment(text, utc=False)


class TestConditions:
    """What is selected."""

    @pytest.mark.parametrize(
        ("globs", "selected"),
        [
            (["app:do"], True),
            (["app:*"], True),
            (["App:*"], False),
            (["x", "*:do"], True),
            (["app"], False),
        ],
    )
    def test_type(self, globs, selected):
        """One of the patterns must match the whole type."""
        assert conditions.has_type(globs)(action()) == selected

    def test_no_type(self):
        """What has no type matches no pattern."""
        assert not conditions.has_type(["*"])(Node(ACTION, 0, 1))

    @pytest.mark.parametrize(
        ("since", "until", "selected"),
        [
            (99, None, True),
            (101, None, True),
            (104, None, False),
            (None, 99, False),
            (None, 101, True),
            (101, 102, False),
        ],
    )
    def test_time(self, since, until, selected):
        """An action is selected if it began or ended then, not if it was just going on."""
        assert conditions.is_within(since, until)(action()) == selected

    def test_time_of_message(self):
        """A message is selected by its one time, and never without one."""
        within = conditions.is_within(99, 101)
        assert [within(message()), within(message(timestamp=None))] == [True, False]

    @pytest.mark.parametrize(("least", "selected"), [(2.9, True), (3, True), (3.1, False)])
    def test_duration(self, least, selected):
        """What took as long is selected."""
        assert conditions.takes_at_least(least)(action()) == selected

    def test_no_duration(self):
        """A message takes no time, not even none."""
        assert not conditions.takes_at_least(0)(message())

    @pytest.mark.parametrize(
        ("spec", "value", "selected"),
        [
            ("x=abc", "abc", True),
            ("x=ab", "abc", False),
            ("x=a*", "abc", True),
            ("x=a?c", "abc", True),
            ("x=[1]", [1], True),
            ("x=a=b", "a=b", True),
            ("x=", "", True),
            ("x=5", 5, True),
            ("x=5", 5.0, True),
            ("x=5.0", 5, True),
            ("x=5", "5", True),
            ("x=5", 50, False),
            ("x=5*", 50, True),
            ("x=1", True, False),
            ("x=true", True, True),
            ("x=False", False, True),
            ("x=null", None, True),
            ("x=None", None, True),
            ("x=*", None, False),
            ("x=9007199254740993", 9007199254740993, True),
            ("x=9007199254740993", 9007199254740992, False),
            ("x=nan", "nan", True),
            ("x.y.z=1", {"y": {"z": 1}}, True),
            ("x.y.w=1", {"y": {"z": 1}}, False),
            ("x.y=1", "text", False),
        ],
    )
    def test_field(self, spec, value, selected):
        """Numbers compare as numbers, texts as texts or patterns, names by their names."""
        assert conditions.has_field(spec)(message(x=value)) == selected

    def test_field_with_dots_in_its_name(self):
        """A name with dots is itself before it is a path."""
        assert conditions.has_field("x.y=1")(message(**{"x.y": 1}))

    def test_fields_of_start_and_end(self):
        """An action has the fields of its start and of its end."""
        node = action(start={"x": 1}, end={"x": 2, "y": 3})
        selected = [conditions.has_field(spec)(node) for spec in ("x=1", "x=2", "y=3", "y=1")]
        assert selected == [True, True, True, False]

    @pytest.mark.parametrize("spec", ["x", "", "=5"])
    def test_bad_field(self, spec):
        """A field needs a name and a value."""
        with pytest.raises(ValueError, match="must be given as key=value, got"):
            conditions.has_field(spec)

    def test_all(self):
        """All conditions must be true of the same node; none at all select everything."""
        both = conditions.all_of([conditions.has_field("x=1"), conditions.has_field("y=2")])
        assert [both(message(x=1, y=2)), both(message(x=1)), both(message(y=2))] == [
            True,
            False,
            False,
        ]
        assert conditions.all_of([]) is None
