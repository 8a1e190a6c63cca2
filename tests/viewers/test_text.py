"""Tests of values, times and durations as text."""

import json
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.viewers._text import (
    MISSING_TIME,
    Clock,
    clip,
    duration_text,
    lines_of,
    one_line,
    safe_json,
    width_of,
)

pytest.importorskip("rich")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def is_safe(text):
    """Say whether every character of a text is shown, and none obeyed."""
    return text.isprintable()


class TestOneLine:
    """Values on one line."""

    @given(values, st.integers(0, 30))
    def test_safe(self, value, limit):
        """Whatever was logged: one line, without anything that could drive a terminal."""
        assert is_safe(one_line(value, limit))

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("GET", "GET"),
            ("/path/to-it", "/path/to-it"),
            ("2026-11-20", "2026-11-20"),
            ("10.0.0.1", "10.0.0.1"),
            ("東京", "東京"),
            ("two words", '"two words"'),
            ("", '""'),
            ('say "x"', '"say \\"x\\""'),
            ("a=b", '"a=b"'),
            ("[1]", '"[1]"'),
            ("{}", '"{}"'),
            ("5", '"5"'),
            ("-5.5e3", '"-5.5e3"'),
            ("None", '"None"'),
            ("True", '"True"'),
            ("nan", '"nan"'),
            ("-inf", '"-inf"'),
            ("\x1b[2J", '"\\x1b[2J"'),
            ("\u202egnp", '"\\u202egnp"'),
            ("\ud800", '"\\ud800"'),
            (5, "5"),
            (-5.5, "-5.5"),
            (10**30, "1" + "0" * 30),
            (None, "None"),
            (True, "True"),
            (float("nan"), "nan"),
            ({"a": [1, "\x9b", None]}, "{'a': [1, '\\x9b', None]}"),
        ],
    )
    def test_text(self, value, text):
        """Quotes tell a text from a number, a name or the next field; else there are none."""
        assert one_line(value, 0) == text

    def test_different_values_look_different(self):
        """A number and the text of its digits can be told apart, as can None and its name."""
        for value in (5, -1.5, None, True, float("inf"), [1], {"a": 1}):
            assert one_line(value, 0) != one_line(str(value), 0)

    def test_long_text(self):
        """Of a long text the beginning is shown, and how long it is."""
        assert one_line("x" * 5000, 10) == '"xxxxxxxxxx"… (5,000 characters)'

    def test_long_value(self):
        """The same for other values."""
        assert one_line([0] * 5000, 10) == "[0, 0, 0, … (15,000 characters)"

    def test_no_limit(self):
        """Limit 0 is none."""
        assert one_line("x" * 5000, 0) == "x" * 5000

    def test_too_deep(self):
        """Nesting too deep for Python to write is said to be that."""
        value = []
        for _ in range(200_000):
            value = [value]
        assert one_line(value, 0) == "(list, nested too deep to show)"


class TestLines:
    """Texts of several lines."""

    def test_lines(self):
        """Line ends of all systems end lines; tabs are blanks; the last line end is no line."""
        assert lines_of("a\r\nb\n\n\tc\n") == ["a", "b", "", "    c"]

    @given(st.text())
    def test_safe(self, text):
        """No line holds anything that could drive a terminal, or begin another line."""
        assert all(is_safe(line) for line in lines_of(text))


class TestJson:
    """JSON that is safe to show."""

    @given(values)
    def test_safe(self, value):
        """No character can drive a terminal."""
        assert is_safe(safe_json(value))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
            lambda inner: st.lists(inner) | st.dictionaries(st.text("ab\x9b\u202e"), inner),
            max_leaves=6,
        )
    )
    def test_same_value(self, value):
        """Programs read what was logged: escaping changes the look, not the value."""
        assert json.loads(safe_json(value)) == value

    def test_astral_characters(self):
        """A character beyond 16 bits becomes two escapes, as JSON has it."""
        assert safe_json("\U000e0041") == '"\\udb40\\udc41"'


class TestWidth:
    """Columns of a terminal."""

    @pytest.mark.parametrize(
        ("text", "width"), [("abc", 3), ("東京", 4), ("e\u0301", 1), ("é", 1), ("", 0)]
    )
    def test_width(self, text, width):
        """Chinese characters take two columns, combining ones none."""
        assert width_of(text) == width

    @pytest.mark.parametrize(
        ("text", "width", "clipped"),
        [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("東京都", 4, "東…"), ("東京都", 5, "東京…")],
    )
    def test_clip(self, text, width, clipped):
        """A text that is too wide ends in an ellipsis within the width."""
        assert clip(text, width) == clipped

    @given(st.text(), st.integers(1, 20))
    def test_clip_fits(self, text, width):
        """What comes out is never too wide."""
        assert width_of(clip(text, width)) <= width


class TestDuration:
    """Durations."""

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0µs"),
            (0.0000123, "12µs"),
            (0.0009996, "1.00ms"),
            (0.00123, "1.23ms"),
            (0.009996, "10.0ms"),
            (0.0456, "45.6ms"),
            (0.09996, "100ms"),
            (0.789, "789ms"),
            (0.9996, "1.00s"),
            (1.234, "1.23s"),
            (12.34, "12.3s"),
            (59.96, "1m00s"),
            (123, "2m03s"),
            (3599.6, "1h00m"),
            (3723, "1h02m"),
            (90000, "1d01h"),
            (-0.5, "-500ms"),
        ],
    )
    def test_text(self, seconds, text):
        """Three digits, the unit that suits; rounding never gives a fourth digit."""
        assert duration_text(seconds) == text


class TestClock:
    """Times of day."""

    def test_utc(self):
        """UTC if that is wanted."""
        assert Clock(utc=True).time(1_795_181_013.1079) == "13:23:33.108"

    def test_rounding_carries(self):
        """The last half millisecond of a second belongs to the next one."""
        assert Clock(utc=True).time(1_795_181_013.9996) == "13:23:34.000"

    @pytest.mark.skipif(os.name == "nt", reason="time begins in 1970 on Windows")
    def test_before_the_epoch(self):
        """Time goes on before 1970."""
        assert Clock(utc=True).time(-0.25) == "23:59:59.750"

    @pytest.mark.parametrize("timestamp", [None, 1e17, -1e17])
    def test_no_time(self, timestamp):
        """No time, or one that no calendar has, is dashes of the same width."""
        assert Clock(utc=True).time(timestamp) == MISSING_TIME

    def test_no_date(self):
        """A time that no calendar has is of no day."""
        assert Clock(utc=True).date(1e17) == ""

    @pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set")
    def test_dates(self, monkeypatch):
        """The date says in which zone it is."""
        monkeypatch.setenv("TZ", "EST5")
        time.tzset()
        try:
            dates = [Clock(utc=utc).date(1_795_140_000) for utc in (True, False)]
            local = Clock().time(1_795_140_000)
        finally:
            monkeypatch.undo()
            time.tzset()
        assert (dates, local) == (["2026-11-20 UTC", "2026-11-19 EST"], "21:00:00.000")
