"""Tests that an event gives back the message that it was made of."""

import json
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eliot_etw._json import encode_line
from eliot_etw.etw import (
    EventEncoder,
    Field,
    InType,
    MessageEncoder,
    OutType,
    Schema,
    decode_event,
    message_of,
    provider_traits,
)
from eliot_etw.etw._records import EtlEvent
from tests.etw._schemas import PATIENT
from tests.test_hostile_values import HOSTILE

TRAITS = provider_traits("MyCompany.MyProgram")
PLACE = {"timestamp": 1.5, "task_uuid": "0b9c", "task_level": [2, 1]}


def event_of(encoded):
    """Return an event as it is read from a trace."""
    return EtlEvent(0, UUID(int=0), TRAITS, encoded.metadata, encoded.payload)


def read_back(message, **options):
    """Encode a message twice, as a new shape and as a known one, and read the events."""
    encoder = MessageEncoder(traits=TRAITS, **options)
    first, second = (encoder.encode(message) for _ in range(2))
    assert message_of(event_of(first)) == message_of(event_of(second))
    return message_of(event_of(second))


def in_file(message, **options):
    """Return what is read from a file of JSON."""
    return json.loads(encode_line(message, *options.values()))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.uuids()
    | st.datetimes()
    | st.datetimes(timezones=st.just(timezone.utc))
    | st.datetimes(
        timezones=st.builds(
            timezone,
            st.timedeltas(timedelta(minutes=-1439), timedelta(minutes=1439)),
        )
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers(), inner)
    ),
    max_leaves=5,
)
ODD_NAMES = st.sampled_from(
    [
        "", "\0", "a", "A", "ß", "SS", "eliot:rest", "eliot:action", "eliot:truncated",
        "Task_UUID", "task_uuid", "task_level", "timestamp", "message_type", "action_type",
        "action_status", "log_level", "\ud800", "x" * 8000, 1, None, b"a", True,
    ]
)  # fmt: skip
MESSAGES = st.dictionaries(ODD_NAMES | st.text(st.characters()), VALUES, max_size=8)
PLACES = st.fixed_dictionaries(
    {},
    optional={
        "task_uuid": st.text() | VALUES,
        "task_level": st.lists(st.integers(1, 30)) | st.lists(st.integers()) | VALUES,
        "timestamp": st.floats() | VALUES,
        "message_type": st.text() | VALUES,
        "action_type": st.text() | VALUES,
        "action_status": st.sampled_from(["started", "succeeded", "failed"]) | VALUES,
        "log_level": st.sampled_from(["WARNING", 10, 2**70]) | VALUES,
    },
)


class TestLaw:
    """What is read back is equal to what a file of JSON has."""

    @PATIENT
    @given(MESSAGES, PLACES)
    @example({"a": 2**64 - 1, "b": -(2**63), "c": 2**63, "d": 2**64}, PLACE)
    @example({"a": float("nan"), "b": "\ud800"}, PLACE)
    @example({"a": [float("inf")], "b": {"": None}}, {})
    @example({}, {**PLACE, "task_level": [10**400, 1]})
    @example({}, {**PLACE, "task_level": [1, 10**400]})
    @example({}, {**PLACE, "task_level": [1, 10**5000]})
    def test_message(self, fields, place):
        """Whatever the names, values and their types are."""
        message = {**fields, **place}
        assert in_file(message) == read_back(message)

    @PATIENT
    @given(st.lists(MESSAGES, max_size=6))
    def test_messages(self, messages):
        """One encoder keeps what it knows of one message out of the next."""
        encoder = MessageEncoder(traits=TRAITS, max_schemas=2)
        for message in [*messages, *messages]:
            assert in_file(message) == message_of(event_of(encoder.encode(message)))

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile(self, name):
        """Values whose methods raise, and cycles, are what they are in the file."""
        message = {**PLACE, "message_type": "t", "v": HOSTILE[name](), "n": 1}
        expected, back = in_file(message), read_back(message)
        sizes = back.pop("eliot:truncated", {})
        if sizes:
            assert len(back.pop("v")) < sizes["v"]
            del expected["v"]
        assert expected == back

    @pytest.mark.parametrize("depth", [100, 250, 256, 400, 498, 499, 500, 501, 900])
    def test_depth(self, depth):
        """What is nested deeply ends where it ends in the file."""
        value = []
        for _ in range(depth):
            value = [value]
        for message in [{**PLACE, "v": value}, {**PLACE, "v": value, "w": "\ud800", "": value}]:
            assert in_file(message) == read_back(message)

    def test_message_within_itself(self):
        """A cycle through the message ends where it ends in the file."""
        message = {**PLACE}
        message["self"] = {"again": message}
        assert in_file(message) == read_back(message)

    @pytest.mark.parametrize("value", [{1}, b"a", datetime(2026, 1, 1), UUID(int=1), 2**70])
    def test_json_default(self, value):
        """The user's own conversion is what counts."""
        message = {**PLACE, "v": value, "w": [value]}
        options = {"json_default": lambda value: ["mine", type(value).__name__]}
        assert in_file(message, **options) == read_back(message, **options)

    def test_types(self):
        """Numbers, booleans and nothing are not mixed up: JSON tells them apart."""
        values = {"a": True, "b": 1, "c": 1.0, "d": None, "e": "1", "f": 0, "g": False}
        back = read_back({**PLACE, **values})
        assert {name: (type(value), value) for name, value in values.items()} == {
            name: (type(back[name]), back[name]) for name in values
        }


class TestOthers:
    """Events that are no messages."""

    def test_foreign(self):
        """An event of another provider is None."""
        encoder = EventEncoder(Schema("e", (Field("a", InType.INT8),)))
        event = EtlEvent(0, UUID(int=0), b"", encoder.metadata, encoder.payload([1]))
        assert message_of(event) is None
        assert message_of(event, event.decode()) is None

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (Field("a", InType.SID), "S-1-5-18"),
            (Field("a", InType.INT64, is_array=True), [1]),
            (Field("a", InType.STRUCT, members=(Field("b", InType.INT8),)), (1,)),
            (Field("a", InType.UTF16, OutType.JSON), "{"),
            (Field("a", InType.FILETIME, OutType.DATETIME_UTC), 2**64 - 1),
            (Field("a", InType.FILETIME, OutType.DATETIME_UTC, tags=9999), 0),
            (Field("eliot:rest", InType.UTF16, OutType.JSON), "[]"),
            (Field("eliot:rest", InType.INT8), 1),
            (Field("eliot:truncated", InType.UTF16, OutType.JSON), "1"),
        ],
    )
    def test_damaged(self, field, value):
        """What looks like a message, but has what no message of ours has, is None."""
        text = InType.ANSI, OutType.UTF8
        place = Field("task_uuid", *text), Field("task_level", *text)
        time = Field("timestamp", InType.FLOAT64)
        encoder = EventEncoder(Schema("e", (*place, time, field)))
        payload = encoder.payload(["0b9c", "/1", 1.5, value])
        assert message_of(EtlEvent(0, UUID(int=0), b"", encoder.metadata, payload)) is None

    @PATIENT
    @given(st.binary(max_size=100))
    def test_cut_off(self, end):
        """Any bytes in the place of the payload are a message, or None."""
        encoded = MessageEncoder(traits=TRAITS).encode({**PLACE, "a": [1], "b": "c", "d": None})
        found = message_of(event_of(encoded._replace(payload=encoded.payload[:20] + end)))
        assert found is None or found["task_uuid"] == "0b9c"

    @pytest.mark.parametrize("level", ["", "/", "1", "/1/", "/x", "/1.5", "/1/ 2", "/-1"])
    def test_level(self, level):
        """A level that is none makes no message."""
        text = InType.ANSI, OutType.UTF8
        place = Field("task_uuid", *text), Field("task_level", *text)
        encoder = EventEncoder(Schema("e", (*place, Field("timestamp", InType.FLOAT64))))
        decoded = decode_event(encoder.metadata, encoder.payload(["0b9c", level, 1.5]))
        assert message_of(None, decoded) is None
