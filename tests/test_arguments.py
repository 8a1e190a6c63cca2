"""Tests of what `log_call` logs of a call: which arguments, and how much of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import log_call
from eliot_etw._arguments import shortened
from tests._stories import ended, started


class TestWhatIsLogged:
    """Arguments and results are left out, hidden or cut as asked for."""

    def test_include(self, messages):
        """Only those that are listed."""
        log_call(include_args=["x"])(lambda x, y: None)(1, 2)
        assert started(messages) == {"x": 1}

    def test_exclude(self, messages):
        """All but those that are listed."""
        log_call(exclude_args=["x"])(lambda x, y: None)(1, 2)
        assert started(messages) == {"y": 2}

    def test_no_result(self, messages):
        """The result can be left out."""
        log_call(include_result=False)(lambda: 1)()
        assert "result" not in ended(messages)

    def test_redact(self, messages):
        """A hidden value is nowhere in the log, but it is said that there was one."""

        @log_call(redact=["password", "result"], max_length=3)
        def login(user, password="hunter2"):
            return password + user

        assert login("me") == "hunter2me"
        login("me", "hunter2")
        assert "hunter" not in repr(messages)
        assert (messages[0]["password"], messages[1]["result"]) == ("[redacted]", "[redacted]")

    @pytest.mark.parametrize("option", ["include_args", "exclude_args", "redact"])
    @pytest.mark.parametrize("given", [["y", "nobody"], "password"])
    def test_name_that_is_not_there(self, option, given):
        """A typing error in a name is loud at once: it might be a secret's."""
        with pytest.raises(ValueError, match=rf"{option} must name arguments .*\bx, y\b"):

            @log_call(**{option: given})
            def f(x, y):
                pass

    def test_longest(self, messages):
        """Arguments and results are cut alike, each by itself."""
        log_call(max_length=3)(lambda x, y: x + x)("abcd", "abc")
        assert started(messages) == {"x": "abc… (4 characters)", "y": "abc"}
        assert ended(messages)["result"] == "abc… (8 characters)"

    @pytest.mark.parametrize("length", [0, -1, True, 1.5, "9"])
    def test_length_that_is_none(self, length):
        """A length is a whole number above 0."""
        with pytest.raises(ValueError, match="max_length must be a whole number above 0, got"):
            log_call(int, max_length=length)


class Hostile:
    """What has no text, and does not even say what it is."""

    def __repr__(self):
        raise RuntimeError

    @property
    def __class__(self):
        raise RuntimeError


class Terse(str):
    """Text that is longer than it says."""

    __slots__ = ()

    def __repr__(self):
        return "..."

    def __len__(self):
        return 0


class TestShortened:
    """Long values are cut, visibly."""

    @given(st.text(), st.integers(1, 20))
    def test_text(self, text, length):
        """Text up to that length stays; of longer text, so much is left and the length told."""
        cut = shortened(text, length)
        if len(text) <= length:
            assert text is cut
        else:
            assert cut == f"{text[:length]}… ({len(text)} characters)"

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"abcd", "abc… (4 bytes)"),
            (b"\xff" * 4, "\\xff\\xff\\xff… (4 bytes)"),
            (bytearray(b"abcd"), "abc… (4 bytes)"),
            ([1000], "[10… (6 characters)"),
            (Terse("abcd"), "abc… (4 characters)"),
            (12345, "123… (5 characters)"),
        ],
    )
    def test_other_values(self, value, expected):
        """Bytes are counted as such; of anything else it is the repr that counts."""
        assert expected == shortened(value, 3)

    @pytest.mark.parametrize("make", [lambda: None, lambda: 1, lambda: b"abc", list, Hostile])
    def test_short_values(self, make):
        """What is short enough stays the object it is; so does what cannot be printed."""
        value = make()
        assert shortened(value, 80) is value
