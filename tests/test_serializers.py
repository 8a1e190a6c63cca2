"""Tests of the ready-made serializers."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.serializers import identity, md5hex, timestamp

pytest.importorskip("eliot.serializers")
eliot = pytest.importorskip("eliot")


def test_identity():
    """A value stays the very same object."""
    value = object()
    assert value is identity(value)


@given(st.datetimes(min_value=datetime(1000, 1, 1)))
def test_timestamp_as_eliot(dt):
    """A time without a timezone is written as Eliot does."""
    assert eliot.serializers.timestamp(dt) == timestamp(dt)


def test_timestamp_in_another_timezone():
    """The Z is true: a time of another timezone is converted to UTC."""
    noon = datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(noon) == "2024-02-29T10:00:00.000000Z"


@given(st.binary())
def test_md5hex_as_eliot(data):
    """The digest is Eliot's."""
    assert eliot.serializers.md5hex(data) == md5hex(data)
