"""Tests of values that Windows has and Python has not."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.etw import FileTime
from eliot_etw.etw._values import sid_from_text, sid_to_text
from tests.etw._schemas import PATIENT

TIMES = st.datetimes(min_value=datetime(1601, 1, 2), timezones=st.timezones())


class TestFileTime:
    """Times in steps of 100 ns."""

    def test_unix_epoch(self):
        """The year 1970 begins at the number that Microsoft gives for it."""
        epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
        assert FileTime.from_datetime(epoch) == 116_444_736_000_000_000

    @PATIENT
    @given(TIMES)
    def test_datetime_there_and_back(self, time):
        """No microsecond is lost, whatever the time zone."""
        assert time.astimezone(timezone.utc) == FileTime.from_datetime(time).to_datetime()

    def test_steps_below_a_microsecond(self):
        """What a datetime cannot hold is cut off, not rounded up."""
        assert FileTime(19).to_datetime() - FileTime(0).to_datetime() == timedelta(microseconds=1)

    def test_repr(self):
        """It shows what it is, and can be typed in again."""
        assert repr(FileTime(19)) == "FileTime(19)"

    def test_no_time_zone(self):
        """A time that could be any is refused."""
        with pytest.raises(
            ValueError, match=r"time must have a time zone, got .*Use datetime.now"
        ):
            FileTime.from_datetime(datetime(2026, 1, 1))


class TestSid:
    """Security identifiers as text."""

    @pytest.mark.parametrize(
        ("text", "sid"),
        [
            ("S-1-5-32-544", "01 02 000000000005 20000000 20020000"),
            ("S-1-0x0100000000ff", "01 00 0100000000ff"),
            ("S-1-4294967295", "01 00 0000ffffffff"),
        ],
    )
    def test_known(self, text, sid):
        """They look as Windows shows them, and can be read again."""
        assert sid_to_text(bytes.fromhex(sid)) == text
        assert sid_from_text(text) == bytes.fromhex(sid)

    def test_something_else(self):
        """Other text is none."""
        with pytest.raises(ValueError, match="must begin with 'S-', got 'T-1-5'"):
            sid_from_text("T-1-5")
