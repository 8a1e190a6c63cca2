"""Tests of values of any event as JSON has them."""

import json
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import decode_line, encode_line
from eliot_etw.etw import FileTime, SystemTime
from eliot_etw.etw._json_values import iso_time, json_value

values = st.recursive(
    st.integers(-(2**63), 2**64)
    | st.booleans()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=20)
    | st.uuids()
    | st.integers(0, 2**64 - 1).map(FileTime)
    | st.builds(SystemTime, *[st.integers(0, 65_535)] * 8)
    | st.ip_addresses(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_json(value):
    """Whatever an event holds comes out of JSON as it went in."""
    converted = json_value(value)
    assert converted == decode_line(encode_line({"value": converted}))["value"]
    assert converted == json.loads(json.dumps(converted, allow_nan=False))


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("2021-09-09T14:59:35.7990001Z", FileTime(132_756_731_757_990_001)),
        (2**64 - 1, FileTime(2**64 - 1)),
        ("2021-09-09T14:59:35.034", SystemTime(2021, 9, 4, 9, 14, 59, 35, 34)),
        ("0000-00-00T00:00:00.000", SystemTime(0, 0, 0, 0, 0, 0, 0, 0)),
        ("0ad614c4-0ef4-4225-8013-f44f37cb0397", UUID("0ad614c40ef442258013f44f37cb0397")),
        ("127.0.0.1", IPv4Address("127.0.0.1")),
        ("::1", IPv6Address("::1")),
        ("00ff", b"\x00\xff"),
        ("NaN", float("nan")),
        ("Infinity", float("inf")),
        ("-Infinity", float("-inf")),
        ("\\udc80é", "\udc80é"),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_forms(expected, value):
    """Each type has one form, and nothing of a value is lost."""
    assert (expected, [expected]) == (json_value(value), json_value([value]))


def test_names_that_become_alike():
    """A name that is made visible does not take the place of another."""
    assert {"\\ud800": 1, "\\ud800_": 2} == json_value({"\ud800": 1, "\\ud800": 2})


@pytest.mark.parametrize("ticks", [-(10**18), 2**62, 2**63])
def test_times_without_a_date(ticks):
    """A time that the calendar does not have is none."""
    assert iso_time(ticks) is None
