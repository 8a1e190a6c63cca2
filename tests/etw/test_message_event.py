"""Tests of the events that messages become: layout, names, ids, limits and bounds."""

import json
import os
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from struct import unpack
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import Action, log_message, start_action, write_traceback
from eliot_etw._json import encode_line
from eliot_etw.etw import (
    EventEncoder,
    FileTime,
    InType,
    MessageEncoder,
    OutType,
    activity_id,
    decode_event,
    message_of,
    payload_limit_bytes,
    provider_traits,
)
from eliot_etw.etw._message_plan import _PLACES
from eliot_etw.etw._records import EtlEvent
from tests._programs import run_forking
from tests.etw import test_encode
from tests.etw._schemas import PATIENT

TRAITS = provider_traits("MyCompany.MyProgram")
PLACE = {"timestamp": 1.5, "task_uuid": "0b9c", "task_level": [2, 1]}
MESSAGE = {"message_type": "app:message", **PLACE}
START = {"action_type": "app:work", "action_status": "started", **PLACE}
microsoft = test_encode.microsoft
NOW = datetime(2026, 2, 3, 4, 5, 6, 789012, timezone.utc)


@pytest.fixture
def encoder():
    return MessageEncoder(traits=TRAITS)


def decoded(event):
    """Decode the fields of an event."""
    return decode_event(event.metadata, event.payload)


def read_back(event):
    """Return the message of an event."""
    return message_of(EtlEvent(0, UUID(int=0), TRAITS, event.metadata, event.payload))


def in_file(message):
    """Return what is read from a file of JSON."""
    return json.loads(encode_line(message))


def descriptor(event):
    """Take an event's descriptor apart."""
    names = ("id", "version", "channel", "level", "opcode", "task", "keyword")
    return dict(zip(names, unpack("<HBBBBHQ", event.descriptor), strict=True))


def opcode(event):
    return descriptor(event)["opcode"]


class TestLayout:
    """Which fields an event has, and of which types."""

    def test_fields(self, encoder):
        """First the place, then the message's own fields in their order."""
        event = encoder.encode({"b": 1, "a": "text", **MESSAGE})
        assert decoded(event).fields == [
            ("task_uuid", "0b9c"),
            ("task_level", "/2/1"),
            ("timestamp", 1.5),
            ("b", 1),
            ("a", "text"),
            ("message_type", "app:message"),
        ]

    def test_action(self, encoder):
        """Start and end have a field that is the same in both, and in no other action."""
        start = decoded(encoder.encode(START)).as_dict()
        end = {**START, "action_status": "failed", "task_level": [2, 7]}
        assert start["eliot:action"] == decoded(encoder.encode(end)).as_dict()["eliot:action"]
        assert start["eliot:action"] == "0b9c@/2"
        root = decoded(encoder.encode({**START, "task_level": [1]}))
        assert root.fields[3] == ("eliot:action", "0b9c@/")

    @pytest.mark.parametrize(
        ("value", "in_type", "out_type", "found"),
        [
            ("é", InType.ANSI, OutType.UTF8, "é"),
            (-1, InType.INT64, 0, -1),
            (2**63, InType.UINT64, 0, 2**63),
            (2**64, InType.UTF16, OutType.JSON, "18446744073709551616"),
            (True, InType.UINT8, OutType.BOOLEAN, True),
            (0.5, InType.FLOAT64, 0, 0.5),
            (b"\xff", InType.BINARY, 0, b"\xff"),
            (UUID(int=1), InType.GUID, 0, UUID(int=1)),
            (NOW, InType.FILETIME, OutType.DATETIME_UTC, FileTime.from_datetime(NOW)),
            (None, InType.UTF16, OutType.JSON, "null"),
            ([1, "é"], InType.UTF16, OutType.JSON, '[1,"é"]'),
            ((1,), InType.UTF16, OutType.JSON, "[1]"),
            ({"a": {2}}, InType.UTF16, OutType.JSON, '{"a":[2]}'),
            ({3}, InType.UTF16, OutType.JSON, "[3]"),
            (NOW.replace(tzinfo=None), InType.ANSI, OutType.UTF8, "2026-02-03T04:05:06.789012"),
        ],
        ids=repr,
    )
    def test_type(self, encoder, value, in_type, out_type, found):
        """A value has the type of a field that says most of it."""
        for _ in range(2):
            event = decoded(encoder.encode({**MESSAGE, "v": value}))
            field = event.schema.fields[-1]
            assert ("v", in_type, out_type) == (field.name, field.in_type, field.out_type)
            assert (found, type(found)) == (event.values[-1], type(event.values[-1]))

    @pytest.mark.parametrize("minutes", [-1439, -90, 1, 120, 1439])
    def test_time_elsewhere(self, encoder, minutes):
        """A time in another zone is a time too, whose field says where."""
        time = NOW.astimezone(timezone(timedelta(minutes=minutes)))
        event = decoded(encoder.encode({**MESSAGE, "v": time}))
        field = event.schema.fields[-1]
        assert (InType.FILETIME, 1440 + minutes) == (field.in_type, field.tags)
        assert event.values[-1].to_datetime() == NOW

    @pytest.mark.parametrize(
        "time",
        [
            datetime(1600, 12, 31, tzinfo=timezone.utc),
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1))),
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
        ],
    )
    def test_time_that_is_text(self, encoder, time):
        """A time that has no such form is its text."""
        event = encoder.encode({**MESSAGE, "v": time})
        assert decoded(event).values[-1] == time.isoformat()

    def test_custom_default(self):
        """Bytes are bytes only as long as nobody converts them otherwise."""
        encoder = MessageEncoder(traits=TRAITS, json_default=bytes.hex)
        assert decoded(encoder.encode({**MESSAGE, "v": b"\xff"})).values[-1] == "ff"

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "a\0b",
            "A",
            "eliot:rest",
            "eliot:action",
            "ELIOT:TRUNCATED",
            "Timestamp",
            "x" * 8000,
        ],
    )
    def test_names_that_no_field_has(self, encoder, name):
        """Fields that cannot have their name, or would be mixed up, are in one of JSON."""
        message = {"a": 1, name: [b"\xff", {"b": 2**70}], **MESSAGE}
        event = encoder.encode(message)
        fields = decoded(event).fields
        assert fields[-1] == (
            "eliot:rest",
            json.dumps(in_file({name: message[name]})).replace(" ", ""),
        )
        assert len(fields) == 6
        assert in_file(message) == read_back(event)

    @pytest.mark.parametrize(
        ("place", "rest"),
        [
            ({}, None),
            ({"task_uuid": 7}, '{"task_uuid":7}'),
            ({"task_level": []}, '{"task_level":[]}'),
            ({"task_level": [1, -1]}, '{"task_level":[1,-1]}'),
            ({"task_level": "/1", "timestamp": 1}, '{"task_level":"/1","timestamp":1}'),
            ({"task_level": [True, 1.5], "timestamp": None},
             '{"task_level":[true,1.5],"timestamp":null}'),
        ],
    )  # fmt: skip
    def test_no_place(self, encoder, place, rest):
        """The first three fields are there even if the message has no such, tagged as absent."""
        event = encoder.encode({"message_type": "t", **place})
        assert (None, None) == (event.activity, event.related)
        fields = decoded(event).schema.fields
        assert [field.name for field in fields[:3]] == ["task_uuid", "task_level", "timestamp"]
        assert [field.tags for field in fields[:3]] == [1, 1, 1]
        assert decoded(event).values[:3] == ("", "", 0.0)
        assert decoded(event).as_dict().get("eliot:rest") == rest

    def test_half_a_place(self, encoder):
        """What there is of a place is told."""
        event = encoder.encode({"task_level": [3, 4]})
        assert decoded(event).fields[:2] == [("task_uuid", ""), ("task_level", "/3/4")]
        event = encoder.encode({"task_uuid": "é"})
        assert decoded(event).fields[:2] == [("task_uuid", "é"), ("task_level", "")]


class TestBytes:
    """Each byte is the one that the encoder of single events writes, and Microsoft's."""

    @PATIENT
    @given(
        st.dictionaries(
            st.text(max_size=9),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.binary()
            | st.uuids()
            | st.datetimes(timezones=st.just(timezone.utc))
            | st.lists(st.text()),
        )
    )
    def test_encoder(self, fields):
        """From its schema and values the same event is made again."""
        encoder = MessageEncoder(traits=TRAITS)
        for message in ({**fields, **MESSAGE}, {**START, **fields}):
            for _ in range(2):
                event = encoder.encode(message)
                found = decoded(event)
                again = EventEncoder(found.schema)
                assert (event.metadata, event.payload) == (
                    again.metadata, again.payload(found.values)
                )  # fmt: skip

    def test_microsoft(self, encoder, microsoft):
        """An event with all types, its descriptor too, is as Microsoft's encoder makes it."""
        guid = UUID(int=1)
        fields = {"a": "é", "b": -1, "c": 2**63, "d": True, "e": 0.5, "f": b"\xff", "g": guid}
        event = encoder.encode({**START, **fields, "h": NOW, "i": [1]})
        builder = microsoft.EventBuilder(32768, 65536)
        builder.reset(b"app:work", 4, 1, opcode=1)
        builder.add_str8(b"task_uuid", "0b9c")
        builder.add_str8(b"task_level", "/2/1")
        builder.add_float64(b"timestamp", 1.5)
        builder.add_str8(b"eliot:action", "0b9c@/2")
        builder.add_str8(b"action_type", "app:work")
        builder.add_str8(b"action_status", "started")
        builder.add_str8(b"a", "é")
        builder.add_int64(b"b", -1)
        builder.add_uint64(b"c", 2**63)
        builder.add_uint8(b"d", 1, OutType.BOOLEAN)
        builder.add_float64(b"e", 0.5)
        builder.add_binary_bytes(b"f", b"\xff")
        builder.add_guid(b"g", guid)
        builder.add_filetime_int64(b"h", FileTime.from_datetime(NOW), OutType.DATETIME_UTC)
        builder.add_str16(b"i", "[1]", OutType.JSON)
        microsoft.Provider(b"Provider").write(builder)
        assert bytes(builder._meta)[: builder._meta_pos] == event.metadata
        assert bytes(builder._data)[: builder._data_pos] == event.payload
        assert bytes(builder._get_event_desc()) == event.descriptor


class TestHeader:
    """What the event says besides its fields."""

    def test_logged(self, encoder, messages):
        """Starts and stops have the name of the action, and the levels of their outcomes."""
        with suppress(ZeroDivisionError), start_action(action_type="app:work"):
            log_message("app:note")
            with start_action(action_type="app:inner"):
                pass
            write_traceback()
            raise ZeroDivisionError
        events = [encoder.encode(message) for message in messages]
        assert [(decoded(event).name, opcode(event)) for event in events] == [
            ("app:work", 1),
            ("app:note", 0),
            ("app:inner", 1),
            ("app:inner", 2),
            ("eliot:traceback", 0),
            ("app:work", 2),
        ]
        assert [descriptor(event)["level"] for event in events] == [4, 4, 4, 4, 1, 2]
        assert [descriptor(event)["keyword"] for event in events] == [1, 2, 1, 1, 6, 5]
        assert {descriptor(event)["channel"] for event in events} == {11}

    def test_ids(self, encoder, messages):
        """All of an action has its id, its start also that of the one above; both are computed."""
        with start_action(action_type="app:work") as action:
            log_message("app:note")
            with start_action(action_type="app:inner"):
                log_message("app:note")
        events = [encoder.encode(message) for message in messages]
        outer, inner = (activity_id(action.task_uuid, at, os.getpid()) for at in [(), (3,)])
        assert [event.activity for event in events] == [outer, outer, inner, inner, inner, outer]
        assert [event.related for event in events] == [None, None, outer, None, None, None]

    def test_continued(self, encoder, messages):
        """An action that goes on in another thread belongs to the one that it comes from."""
        with start_action(action_type="app:work") as action:
            task_id = action.serialize_task_id()
        with Action.continue_task(task_id=task_id):
            pass
        events = [encoder.encode(message) for message in messages[2:]]
        outer, inner = (activity_id(action.task_uuid, at, os.getpid()) for at in [(), (2,)])
        found = [(event.activity, event.related) for event in events]
        assert found == [(inner, outer), (inner, None)]

    @pytest.mark.parametrize(
        "level", [[1], [1000], [12345, 6], [2, 3, 4, 5], [9] * 200, [2**62, 1]]
    )
    def test_levels(self, encoder, level):
        """Levels of any depth and number have their text and id."""
        for _ in range(2):
            event = encoder.encode({**START, "task_level": level})
            assert decoded(event).values[1] == "/" + "/".join(map(str, level))
            assert event.activity == activity_id("0b9c", level[:-1], os.getpid())

    @pytest.mark.parametrize(
        ("opcode_expected", "message"),
        [
            (0, {"message_type": "t", "action_status": "started"}),
            (0, {"action_type": "a", "action_status": "unknown"}),
            (0, {"action_type": "a", "action_status": ["started"]}),
            (0, {"action_type": "a"}),
            (1, {"action_type": ["odd"], "action_status": "started"}),
            (2, {"action_type": None, "action_status": "succeeded"}),
        ],
    )
    def test_opcode(self, encoder, opcode_expected, message):
        """Only actions start and stop."""
        for _ in range(2):
            assert opcode_expected == opcode(encoder.encode({**message, **PLACE}))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("eliot:message", {}),
            ("eliot:message", {"message_type": ""}),
            ("eliot:message", {"message_type": "a\0b"}),
            ("eliot:message", {"message_type": "x" * 201}),
            ("eliot:message", {"message_type": 7}),
            ("eliot:message", {"action_type": None}),
            ("eliot:action", {"action_type": ["a"], "action_status": "started"}),
            ("eliot:action", {"action_type": "", "action_status": "failed"}),
            ("x" * 200, {"message_type": "x" * 200}),
            ("é\\ud800", {"message_type": "é\ud800"}),
            ("a", {"action_type": "a", "message_type": "b"}),
        ],
    )
    def test_name(self, encoder, name, message):
        """The type is the name, if it can be; it is among the fields in any case."""
        for _ in range(2):
            event = encoder.encode({**message, **PLACE})
            assert name == decoded(event).name
            assert in_file({**message, **PLACE}) == read_back(event)

    def test_level_of_a_message(self, encoder):
        """Each level that messages of one shape have is found."""
        levels = ["error", "debug", 30, "error", "x", 10**30]
        events = [encoder.encode({**MESSAGE, "log_level": level}) for level in levels]
        assert [descriptor(event)["level"] for event in events] == [2, 5, 3, 2, 4, 1]
        assert [encoder.level_and_keyword({"log_level": 10}), (5, 2)] == [(5, 2), (5, 2)]

    def test_functions(self):
        """Functions of the user's are asked for each message."""
        encoder = MessageEncoder(
            traits=TRAITS, levels=lambda m: m["n"], keywords=lambda m: m["n"] * 16
        )
        for number in (1, 2, 3, "x"):
            found = descriptor(encoder.encode({**MESSAGE, "n": number}))
            expected = (4, 2) if number == "x" else (number, number * 16)
            assert expected == (found["level"], found["keyword"])
        assert encoder.stats()["rule_failures"] == 0

    def test_functions_see_the_message(self):
        """What a function is asked about is the message as it was logged."""
        seen = []
        encoder = MessageEncoder(traits=TRAITS, levels=lambda m: seen.append(type(m["v"])))
        for _ in range(3):
            encoder.encode({**MESSAGE, "v": {1}})
        assert seen == [set] * 3

    def test_unwanted(self, encoder):
        """An event that nobody wants is not made; what is asked is its level and keyword."""
        asked = []

        def refuse(*which):
            asked.append(which)
            return False

        for message in (MESSAGE, MESSAGE, START, {**MESSAGE, "odd": {1}}):
            assert encoder.encode_if(message, refuse) is None
        assert asked == [(4, 2), (4, 2), (4, 1), (4, 2)]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    def test_fork(self):
        """The ids are those of the process that encodes."""
        run_forking("""
from eliot_etw.etw import MessageEncoder, activity_id, provider_traits

encoder = MessageEncoder(traits=provider_traits("App"))

def check():
    message = {"message_type": "t", "timestamp": 1.5, "task_uuid": "0b9c", "task_level": [2, 1]}
    assert encoder.encode(message).activity == activity_id("0b9c", (2,), os.getpid())

check()
in_child(check)
""")


def longest(encoder, message):
    """Return how many bytes an event is below the limit."""
    event = encoder.encode(message)
    limit = payload_limit_bytes(
        event.metadata, TRAITS, has_related_activity=event.related is not None
    )
    return limit - len(event.payload)


class BadZone(tzinfo):
    """A time zone that raises what nobody foresees."""

    def utcoffset(self, _):
        raise LookupError

    def __repr__(self):
        return "BadZone()"


class TestHard:
    """Values that need care, again and again."""

    @pytest.mark.parametrize(
        "value",
        [
            (1, "a", {2}),
            NOW.replace(tzinfo=BadZone()),
            NOW.replace(tzinfo=None),
            2**63,
            2**64,
            "\ud800",
            Path("a"),
            OrderedDict(a=1),
            [{Path("a")}],
            float("nan"),
        ],
        ids=repr,
    )
    def test_same_schema(self, encoder, value):
        """A value has one schema, whether its kind is new, known, or beside another hard one."""
        message = {"v": value, "w": {1}, **MESSAGE}
        events = [encoder.encode({**message, "w": w}) for w in ([1], {1}, {1}, "\ud800", {1})]
        assert len({decoded(event).schema.fields[3] for event in events}) == 1
        assert [read_back(event) for event in events[1:3]] == [in_file(message)] * 2

    def test_types_that_take_turns(self, encoder):
        """A value that is of another type each time is what it is."""
        values = [1, None, "a", 0.5, {1}, (1,), b"a", 2**63, NOW, [1], True] * 3
        backs = [read_back(encoder.encode({"v": value, **MESSAGE})) for value in values]
        assert [in_file({"v": value})["v"] for value in values] == [back["v"] for back in backs]


class TestLimits:
    """What is too long is cut, and says so."""

    @pytest.mark.parametrize("message", [MESSAGE, START])
    def test_to_the_byte(self, encoder, message):
        """The longest event is whole, and with one byte more it is cut."""
        spare = longest(encoder, {**message, "v": ""})
        assert longest(encoder, {**message, "v": "x" * spare}) == 0
        assert encoder.stats()["truncated"] == 0
        cut = read_back(encoder.encode({**message, "v": "x" * (spare + 1)}))
        assert cut["eliot:truncated"] == {"v": spare + 1}
        assert len(cut["v"]) > spare - 1000
        assert encoder.stats()["truncated"] == 1

    @pytest.mark.parametrize(
        ("value", "size"),
        [
            ("x" * 10**6, 10**6),
            ("\N{SNOWMAN}" * 10**5, 3 * 10**5),
            (b"\xff" * 10**5, 4 * 10**5),
            ([1] * 10**5, 2 * 10**5 + 1),
            ({"a": ["é" * 10**5]}, 2 * 10**5 + 10),
        ],
    )
    def test_value(self, encoder, value, size):
        """The largest value is cut, JSON as text; the rest of the message is whole."""
        message = {"a": 1, "v": value, "b": {"c": None}, **MESSAGE}
        for _ in range(2):
            back = read_back(encoder.encode(message))
            whole = back.pop("v"), in_file({"v": value})["v"]
            cut, text = whole if isinstance(whole[1], str) else (whole[0], dumped(whole[1]))
            assert text.startswith(cut)
            assert len(cut.encode()) > 60_000
            assert back.pop("eliot:truncated") == {"v": size}
            expected = in_file(message)
            del expected["v"]
            assert expected == back

    def test_json_that_just_fits(self, encoder):
        """JSON for which there is no room in UTF-16 is written in UTF-8 before it is cut."""
        message = {**MESSAGE, "v": ["x" * 50_000]}
        event = encoder.encode(message)
        field = decoded(event).schema.fields[-1]
        assert (InType.ANSI, OutType.JSON) == (field.in_type, field.out_type)
        assert message == read_back(event)
        assert encoder.stats()["truncated"] == 0

    @pytest.mark.parametrize("count", [119, 120, 1000])
    def test_many_fields(self, encoder, count):
        """More fields than tools can decode are in one of JSON; nothing is lost."""
        message = {**{f"f{n}": n for n in range(count)}, **MESSAGE}
        event = encoder.encode(message)
        assert message == read_back(event)
        assert len(decoded(event).values) <= 128
        assert ("eliot:rest" in decoded(event).as_dict()) == (count > 119)

    def test_many_bytes_fields(self, encoder):
        """Fields that count twice do."""
        message = {**{f"f{n}": b"" for n in range(70)}, **MESSAGE}
        event = decoded(encoder.encode(message))
        assert in_file(message) == read_back(encoder.encode(message))
        assert 60 <= len(event.values) <= 64

    @pytest.mark.parametrize(
        "fields",
        [
            {f"f{n}": n for n in range(100_000)},
            {f"f{n}": "\n" * 1000 for n in range(1000)},
            {"\0" * n: "\0" * 1000 for n in range(1000)},
            {"x" * 100_000: 1, "y": 2},
            {"eliot:rest": "x" * 10**6, "eliot:truncated": "y", "": "z"},
        ],
        ids=["many", "many long", "odd", "long name", "ours"],
    )
    def test_fields_left_out(self, encoder, fields):
        """If cutting is not enough, the last fields are left out, and it is said how much."""
        message = {**MESSAGE, **fields}
        back = read_back(encoder.encode(message))
        assert {name: back[name] for name in MESSAGE} == MESSAGE
        assert sum(back["eliot:truncated"].values()) > 10_000
        assert set(back) <= {*message, "eliot:truncated"}

    @pytest.mark.parametrize(
        "name", ["task_uuid", "task_level", "message_type", "action_type", "action_status"]
    )
    def test_place_and_type(self, encoder, name):
        """Even these may be a megabyte."""
        value = [7] * 10**6 if name == "task_level" else "7" * 10**6
        back = read_back(encoder.encode({**START, "a": 1, name: value}))
        assert (1, 1.5) == (back["a"], back["timestamp"])
        assert back["eliot:truncated"][name] >= 10**6
        assert len(_PLACES) < 5000

    @PATIENT
    @given(
        st.dictionaries(
            st.text(max_size=3),
            st.builds(
                lambda text, times: text * times,
                st.text(min_size=1, max_size=2) | st.lists(st.text(max_size=2), min_size=1),
                st.sampled_from([1, 100, 10_000, 40_000]),
            ),
            max_size=5,
        )
    )
    def test_always_valid(self, fields):
        """An event is no longer than it may be, and what is not cut is as it was."""
        message = {**fields, **MESSAGE}
        encoder = MessageEncoder(traits=TRAITS)
        assert longest(encoder, message) >= 0
        back = read_back(encoder.encode(message))
        sizes = back.pop("eliot:truncated", {})
        expected = in_file(message)
        whole = {name: value for name, value in back.items() if name not in sizes}
        assert {name: expected[name] for name in whole} == whole
        assert expected.keys() - back.keys() == set() or "eliot:rest" in sizes


def dumped(value):
    """Write JSON as our files have it."""
    return encode_line({"v": value})[5:-2].decode()


class TestBounds:
    """How many schemas there may be, so that PerfView can open the trace."""

    def test_key_sets(self):
        """Beyond the bound messages share a schema, under the names that there were before."""
        encoder = MessageEncoder(traits=TRAITS, max_schemas=3)
        messages = [{**MESSAGE, f"f{n}": n, "x": n} for n in range(50)]
        events = [encoder.encode(message) for message in [*messages, *messages]]
        assert [read_back(event) for event in events] == [*messages, *messages]
        assert {decoded(event).name for event in events} == {"app:message"}
        assert len({event.metadata for event in events}) == 4
        assert decoded(events[-1]).fields[3:] == [
            ("message_type", "app:message"), ("eliot:rest", '{"f49":49,"x":49}')
        ]  # fmt: skip
        assert (94, 4) == (encoder.stats()["schema_fallbacks"], encoder.stats()["schemas"])

    def test_levels(self):
        """Beyond the bound events have the same levels and ids, and are made only if wanted."""
        encoder = MessageEncoder(traits=TRAITS, max_schemas=1)
        for n in range(4):
            message = {**MESSAGE, f"f{n}": n, "log_level": "error"}
            assert descriptor(encoder.encode(message))["level"] == 2
            start = encoder.encode({**START, f"f{n}": n})
            above = activity_id("0b9c", (), os.getpid())
            assert (opcode(start), start.related) == (1, above)
            assert encoder.encode_if({**message, "g": n}, lambda level, _: level < 2) is None

    def test_names(self):
        """Beyond the bound events of a known shape keep their fields, but not the name."""
        encoder = MessageEncoder(traits=TRAITS, max_schemas=3)
        messages = [{**MESSAGE, "message_type": f"app:{n}"} for n in range(50)]
        events = [encoder.encode(message) for message in [*messages, *messages]]
        assert [read_back(event) for event in events] == [*messages, *messages]
        names = ["app:0", "app:1", "app:2", *["eliot:message"] * 47]
        assert [*names, *names] == [decoded(event).name for event in events]
        assert (94, 4) == (encoder.stats()["schema_fallbacks"], encoder.stats()["schemas"])

    @PATIENT
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["message_type", "action_type"]),
                st.integers(0, 9).map(str),
                st.sampled_from(["started", "failed"]),
                st.integers(0, 9).map(str),
                st.sampled_from([1, "a", None, "x" * 70_000]),
            ),
            max_size=60,
        )
    )
    def test_both(self, drawn):
        """Names and keys together keep to twice the bound, and some; nothing is lost."""
        encoder = MessageEncoder(traits=TRAITS, max_schemas=5)
        seen = set()
        for kind, name, status, key, value in drawn:
            message = {kind: name, "action_status": status, key: value, **PLACE}
            event = encoder.encode(message)
            seen.add((opcode(event), event.metadata))
            back = read_back(event)
            if back.pop("eliot:truncated", None):
                message.pop(key), back.pop(key)
            assert message == back
        assert len(seen) <= encoder.stats()["schemas"] <= 2 * 5 + 20

    def test_memory(self, encoder):
        """Types, keys and levels that never come again do not fill the memory."""
        encoder = MessageEncoder(traits=TRAITS, max_schemas=2)
        for n in range(500):
            encoder.encode({**MESSAGE, "message_type": f"{n}", "log_level": n, f"f{n}": n})
            encoder.encode({**MESSAGE, "log_level": str(n), "task_uuid": "x" * 1000 + str(n)})
        kept = [len(vars(encoder)[name]) for name in vars(encoder) if name not in {"_traits"}
                and hasattr(vars(encoder)[name], "__len__")]  # fmt: skip
        assert max(kept) < 30
        assert not any(len(key[0]) > 100 for key in _PLACES)

    def test_bound_of_places(self, encoder):
        """Actions that are over are forgotten."""
        for n in range(5000):
            encoder.encode({**MESSAGE, "task_level": [n, 1]})
        assert 0 < len(_PLACES) <= 4096

    @pytest.mark.parametrize("max_schemas", [0, -1, 30_001])
    def test_out_of_range(self, max_schemas):
        """A bound that PerfView could not keep is none."""
        with pytest.raises(ValueError, match="max_schemas must be from 1 to 30000, got"):
            MessageEncoder(traits=TRAITS, max_schemas=max_schemas)

    def test_threads(self):
        """Threads that meet new shapes at once make sound events."""
        encoder = MessageEncoder(traits=TRAITS, max_schemas=50)
        messages = [{**MESSAGE, f"f{n % 60}": n, "v": [n][n % 2 :] or n} for n in range(600)]
        wrong = []
        go = threading.Barrier(4)

        def encode():
            go.wait(30)
            wrong.extend(m for m in messages if read_back(encoder.encode(m)) != m)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=encode) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
        assert wrong == []
