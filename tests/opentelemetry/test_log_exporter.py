"""Tests of log records as events of Common Schema, with OpenTelemetry's SDK."""

import json
import logging
import os
import subprocess
import sys
from http import HTTPStatus
from importlib import import_module
from threading import Thread

import pytest

pytest.importorskip("opentelemetry.sdk")

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from eliot_etw.etw import provider_guid, read_etl
from eliot_etw.exceptions import MissingDependency
from eliot_etw.opentelemetry import EtwLogExporter, EtwLogRecordProcessor
from eliot_etw.testing import RecordingEtw
from tests.etw._schemas import PATIENT
from tests.opentelemetry._by_hand import JSON, UNSIGNED, build, microsoft
from tests.opentelemetry._calls import calls_of

__all__ = ["microsoft"]

PROVIDER = "MyCompany.MyProgram"
TIME = 1_795_181_013_000_000_007
TIME_TEXT = "2026-11-20T13:23:33.000000007Z"
TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7
RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i-1", "region": "eu", "n": 3})
SUCCESS, FAILURE = LogRecordExportResult.SUCCESS, LogRecordExportResult.FAILURE

CSVER = ("__csver__", "uint16", 0x400, UNSIGNED)
IDS = ("ext_dt", [("traceId", "str8", f"{TRACE_ID:032x}"), ("spanId", "str8", f"{SPAN_ID:016x}")])
CLOUD = ("ext_cloud", [("role", "str8", "shop"), ("roleInstance", "str8", "i-1")])
AT = ("time", "str8", TIME_TEXT)
TYPE = ("_typeName", "str8", "Log")
INFO = ("severityNumber", "int16", 9)


@pytest.fixture
def etw():
    """Return what stands in for Windows."""
    with RecordingEtw() as etw:
        yield etw


def record(resource=RESOURCE, **values):
    """Make a record as the SDK hands it over."""
    log = LogRecord(**{"timestamp": TIME, "severity_number": SeverityNumber.INFO, **values})
    return ReadableLogRecord(log, resource)


def in_span(**values):
    """Make a record that was logged within a span."""
    made = record(**values)
    made.log_record.trace_id, made.log_record.span_id = TRACE_ID, SPAN_ID
    return made


def export(etw, *records, **options):
    """Export records; return the events, and what the exporter counted."""
    exporter = EtwLogExporter(PROVIDER, **options)
    exporter.export(records)
    exporter.shutdown()
    return list(etw.events), exporter.stats()


def part_c(event):
    """Return what PartC of an event has."""
    return event.decode().as_dict()["PartC"]


# A record, options of the exporter, and its event as somebody types it.
GOLDEN = {
    "least": (record(Resource({})), {}, [CSVER, ("PartA", [AT]), ("PartB", [TYPE, INFO])]),
    "trace context": (
        in_span(resource=Resource({})),
        {},
        [CSVER, ("PartA", [IDS, AT]), ("PartB", [TYPE, INFO])],
    ),
    "resource": (record(), {}, [CSVER, ("PartA", [CLOUD, AT]), ("PartB", [TYPE, INFO])]),
    "role alone": (
        record(Resource({"service.name": "shop"})),
        {},
        [
            CSVER,
            ("PartA", [("ext_cloud", [("role", "str8", "shop")]), AT]),
            ("PartB", [TYPE, INFO]),
        ],
    ),
    "instance alone": (
        record(Resource({"service.instance.id": "i-1"})),
        {},
        [
            CSVER,
            ("PartA", [("ext_cloud", [("roleInstance", "str8", "i-1")]), AT]),
            ("PartB", [TYPE, INFO]),
        ],
    ),
    "resource attributes": (
        in_span(attributes={"a": "b"}),
        {"resource_attributes": ["n", "region", "missing"]},
        [
            CSVER,
            ("PartA", [IDS, CLOUD, AT]),
            ("PartC", [("n", "int64", 3), ("region", "str8", "eu"), ("a", "str8", "b")]),
            ("PartB", [TYPE, INFO]),
        ],
    ),
    "PartB": (
        record(
            Resource({}),
            body="Grüße",
            severity_text="INFO",
            event_name="greeting",
            attributes={"event_id": 7},
        ),
        {},
        [
            CSVER,
            ("PartA", [AT]),
            (
                "PartB",
                [
                    TYPE,
                    ("body", "str8", "Grüße"),
                    INFO,
                    ("severityText", "str8", "INFO"),
                    ("eventId", "int64", 7),
                    ("name", "str8", "greeting"),
                ],
            ),
        ],
    ),
    "event id that is text": (
        record(Resource({}), attributes={"event_id": "x"}),
        {},
        [CSVER, ("PartA", [AT]), ("PartC", [("event_id", "str8", "x")]), ("PartB", [TYPE, INFO])],
    ),
    "event id that is too large": (
        record(Resource({}), attributes={"event_id": 2**63}),
        {},
        [
            CSVER,
            ("PartA", [AT]),
            ("PartC", [("event_id", "str8", str(2**63), JSON)]),
            ("PartB", [TYPE, INFO]),
        ],
    ),
    "no severity": (
        record(Resource({}), severity_number=None),
        {},
        [CSVER, ("PartA", [AT]), ("PartB", [TYPE, ("severityNumber", "int16", 0)])],
    ),
    "body that is a map": (
        record(Resource({}), body={"a": [1, None]}),
        {},
        [
            CSVER,
            ("PartA", [AT]),
            ("PartB", [TYPE, ("body", "str8", '{"a":[1,null]}', JSON), INFO]),
        ],
    ),
    "values": (
        record(
            Resource({}),
            attributes={
                "bool": True,
                "int": -5,
                "float": 0.5,
                "str": "Grüße\0",
                "bytes": b"\0\xff",
                "list": [1, "a"],
                "map": {"a": {"b": 1.5}},
                "none": None,
                "large": 2**64,
            },
        ),
        {},
        [
            CSVER,
            ("PartA", [AT]),
            (
                "PartC",
                [
                    ("bool", "bool32", 1),
                    ("int", "int64", -5),
                    ("float", "float64", 0.5),
                    ("str", "str8", "Grüße\0"),
                    ("bytes", "binary_bytes", b"\0\xff"),
                    ("list", "str8", '[1,"a"]', JSON),
                    ("map", "str8", '{"a":{"b":1.5}}', JSON),
                    ("none", "str8", "null", JSON),
                    ("large", "str8", str(2**64), JSON),
                ],
            ),
            ("PartB", [TYPE, INFO]),
        ],
    ),
}


class TestGolden:
    """Each row of the schema, byte for byte what Microsoft's encoder makes of it."""

    @pytest.mark.parametrize("name", GOLDEN)
    def test_event(self, microsoft, etw, name):
        """An event has the fields, in the order and with the types, that the schema says.

        The first record of a shape takes another way than the next, with the same result.
        """
        made, options, fields = GOLDEN[name]
        events, _ = export(etw, made, made, **options)
        expected = build(microsoft, "Log", fields)
        assert [expected, expected] == [(event.metadata, event.payload) for event in events]

    def test_header(self, etw):
        """The provider's GUID is made from its name; keyword and opcode are the usual ones."""
        (event,), _ = export(etw, record())
        assert (PROVIDER, provider_guid(PROVIDER)) == (event.provider_name, event.provider_id)
        assert (1, 0, 0) == (event.keyword, event.opcode, event.id)

    def test_group(self, etw):
        """A provider may belong to a group."""
        group = "00010203-0405-0607-0809-0a0b0c0d0e0f"
        (event,), _ = export(etw, record(), group=group)
        assert group == str(event.provider_group)

    @pytest.mark.parametrize(
        ("level", "severities"),
        [
            (5, "TRACE TRACE2 TRACE3 TRACE4 DEBUG DEBUG2 DEBUG3 DEBUG4 UNSPECIFIED"),
            (4, "INFO INFO2 INFO3 INFO4"),
            (3, "WARN WARN2 WARN3 WARN4"),
            (2, "ERROR ERROR2 ERROR3 ERROR4"),
            (1, "FATAL FATAL2 FATAL3 FATAL4"),
        ],
    )
    def test_level(self, etw, level, severities):
        """The level follows from the severity, of which each has four grades."""
        numbers = [SeverityNumber[name] for name in severities.split()]
        events, _ = export(etw, *[record(severity_number=number) for number in numbers])
        assert [level] * len(numbers) == [event.level for event in events]
        written = [event.decode().as_dict()["PartB"]["severityNumber"] for event in events]
        assert [number.value for number in numbers] == written


class TestTime:
    """When it was."""

    @pytest.mark.parametrize(
        ("given", "observed", "expected"),
        [
            (TIME, 1, TIME_TEXT),
            (None, TIME, TIME_TEXT),
            (0, TIME, TIME_TEXT),
            (10**18, TIME, "2001-09-09T01:46:40.000000000Z"),
        ],
    )
    def test_first_there_is(self, etw, given, observed, expected):
        """It is the record's time, or when it was seen; a time of zero is none."""
        (event,), _ = export(etw, record(timestamp=given, observed_timestamp=observed))
        assert expected == event.decode().as_dict()["PartA"]["time"]

    def test_none_at_all(self, etw):
        """Without any it is now."""
        made = record(timestamp=0, observed_timestamp=0)
        (event,), _ = export(etw, made)
        assert not event.decode().as_dict()["PartA"]["time"].startswith("1970")

    @pytest.mark.parametrize("time", [-1, 1, 2**63, 2**70])
    def test_beyond_reason(self, etw, time):
        """A time that no calendar has is no reason to lose a record."""
        (event,), stats = export(etw, record(timestamp=time))
        text = event.decode().as_dict()["PartA"]["time"]
        assert len("2001-09-09T01:46:40.000000000Z") == len(text)
        assert text.endswith("Z")
        assert 0 == stats["errors"]


class TestNames:
    """What events and their fields are called."""

    def test_event_name(self, etw):
        """Events may be called otherwise."""
        (event,), _ = export(etw, record(event_name="a"), event_name="Entry")
        assert "Entry" == event.decode().name

    def test_record_names(self, etw):
        """Events are called as the records say, if that is wanted; else by the usual name."""
        names = ["order.placed", None, "", "a\0b", "x" * 1000]
        events, _ = export(etw, *[record(event_name=n) for n in names], uses_record_names=True)
        assert ["order.placed", *["Log"] * 4] == [event.decode().name for event in events]
        assert ["order.placed", "a\0b"] == [
            event.decode().as_dict()["PartB"]["name"] for event in (events[0], events[3])
        ]

    def test_resource_and_record(self, etw):
        """An attribute gives way to one of the resource that has its name, and is counted."""
        made = record(attributes={"region": "here", "Region_": 1})
        events, stats = export(etw, made, made, resource_attributes=["region"])
        expected = {"region": "eu", "region_": "here", "Region__": 1}
        assert [expected, expected] == [part_c(event) for event in events]
        assert (2, 0) == (stats["renamed"], stats["truncated"])

    def test_case(self, etw):
        """Names that differ in case only are told apart by tools that know no case."""
        (event,), stats = export(etw, record(attributes={"Name": 1, "name": 2, "NAME": 3}))
        assert {"Name": 1, "name_": 2, "NAME__": 3} == part_c(event)
        assert 1 == stats["renamed"]

    def test_ours(self, etw):
        """What we might add ourselves cannot be taken for a program's."""
        (event,), _ = export(etw, record(attributes={"eliot:rest": 1, "eliot:truncated": 2}))
        assert {"eliot:rest_": 1, "eliot:truncated_": 2} == part_c(event)

    @pytest.mark.parametrize("name", ["", "a\0b", "x" * 20_000])
    def test_no_field_can_have_it(self, etw, name):
        """An attribute that cannot be a field is kept in one for all such."""
        made = ReadableLogRecord(LogRecord(attributes={name: 1, "b": 2}), RESOURCE)
        (event,), stats = export(etw, made)
        assert {"b": 2, "eliot:rest": json.dumps({name: 1}, separators=(",", ":"))} == {
            **part_c(event)
        }
        assert 0 == stats["errors"]

    def test_no_text(self, etw):
        """A name that is no text is written as text."""
        made = ReadableLogRecord(LogRecord(attributes={1: "a", "1": "b", None: 3}), RESOURCE)
        (event,), _ = export(etw, made)
        assert {"1": "a", "1_": "b", "None": 3} == part_c(event)


class TestLimits:
    """Whatever a record holds, its event can be decoded, and says what is missing."""

    @pytest.mark.parametrize("count", [115, 116, 128, 1000])
    def test_many_attributes(self, etw, count):
        """Attributes for which there is no field are together in the last one."""
        given = {f"a{number}": number for number in range(count)}
        made = ReadableLogRecord(LogRecord(attributes=given), RESOURCE)
        (event,), stats = export(etw, made)
        found = dict(part_c(event))
        rest = json.loads(found.pop("eliot:rest", "{}"))
        assert given == found | rest
        assert len([*given]) - len(rest) > 100
        assert 0 == stats["truncated"] == stats["errors"]

    def test_many_bytes(self, etw):
        """Bytes count as two fields, to tools."""
        given = {f"a{number}": b"x" for number in range(100)}
        (event,), _ = export(etw, record(attributes=given))
        rest = json.loads(part_c(event)["eliot:rest"])
        assert dict.fromkeys([*given][-len(rest) :], "x") == rest

    @pytest.mark.parametrize("size", [60_000, 65_534, 65_536, 1_000_000])
    def test_long_body(self, etw, size):
        """A body that is too long is cut, and how long it was is said."""
        made = in_span(body="ä" * (size // 2), attributes={"a": "b"})
        (event,), stats = export(etw, made)
        decoded = event.decode().as_dict()
        assert "ä" * len(decoded["PartB"]["body"]) == decoded["PartB"]["body"]
        told = json.loads(decoded["PartC"].get("eliot:truncated", "{}"))
        assert told == ({} if size == 60_000 else {"PartB.body": size})
        assert len(decoded["PartB"]["body"]) > 29_000
        assert len(told) == stats["truncated"]

    @pytest.mark.parametrize(
        "value", ["x" * 70_000, b"x" * 70_000, ["x" * 70_000], {"x": "x" * 70_000}]
    )
    def test_long_attribute(self, etw, value):
        """A long value of each type is cut, others are not; JSON that is cut is text."""
        given = {"a": "y" * 100, "long": value, "z": 5}
        (event,), stats = export(etw, record(attributes=given))
        found = part_c(event)
        assert ("y" * 100, 5) == (found["a"], found["z"])
        assert 64_900 < len(found["long"]) < 65_400
        assert "PartC.long" in json.loads(found["eliot:truncated"])
        assert 1 == stats["truncated"]

    def test_many_long(self, etw):
        """Long values share the room; short ones are whole."""
        given = {f"long{number}": "x" * 20_000 for number in range(50)} | {"short": "y" * 50}
        (event,), _ = export(etw, record(attributes=given))
        found = part_c(event)
        assert "y" * 50 == found["short"]
        assert len({len(value) for name, value in found.items() if name[0] == "l"}) == 1
        assert 50 == len(json.loads(found["eliot:truncated"]))

    def test_many_long_names(self, etw):
        """Metadata has its limit too."""
        given = {f"{'n' * 1000}{number}": "x" * 2000 for number in range(100)}
        (event,), stats = export(etw, record(attributes=given))
        assert 0 == stats["errors"]
        assert "eliot:rest" in part_c(event)

    def test_long_role(self, etw):
        """The name of a service has its limit too."""
        (event,), _ = export(etw, record(Resource({"service.name": "ä" * 50_000})))
        assert "ä" * 1000 + "..." == event.decode().as_dict()["PartA"]["ext_cloud"]["role"]

    def test_too_many_shapes(self, etw, monkeypatch):
        """Records of ever new names share a schema, and lose nothing."""
        monkeypatch.setattr("eliot_etw.opentelemetry._schema_encoder.MAX_SCHEMAS", 3)
        records = [record(attributes={f"a{number}": number}, body="b") for number in range(5)]
        events, stats = export(etw, *records, *records, uses_record_names=True)
        assert {"a1": 1} == part_c(events[1])
        assert {"eliot:rest": '{"a4":4}'} == part_c(events[4]) == part_c(events[9])
        assert (3, 4) == (stats["schemas"], stats["schema_fallbacks"])

    def test_too_many_event_names(self, etw, monkeypatch):
        """So do those of ever new event names, which stay in PartB."""
        monkeypatch.setattr("eliot_etw.opentelemetry._schema_encoder.MAX_SCHEMAS", 3)
        records = [record(event_name=f"event{number}") for number in range(5)]
        events, _ = export(etw, *records, uses_record_names=True)
        names = [event.decode().name for event in events]
        assert ["event0", "event1", "event2", "Log", "Log"] == names
        assert "event4" == events[4].decode().as_dict()["PartB"]["name"]

    def test_types_that_change(self, etw):
        """An attribute whose type changes has the type that it has."""
        values = [1, "a", None, [1], True, 1.5, 2, b"x", {"a": 1}, "b", 2**63, False]
        events, _ = export(etw, *[record(attributes={"v": value}) for value in values * 2])
        shown = [v if type(v) in (int, str, bool, float, bytes) else json.dumps(v) for v in values]
        shown = ['{"a":1}' if v == '{"a": 1}' else v for v in shown]
        shown[10] = str(2**63)
        found = [part_c(event)["v"] for event in events]
        assert shown * 2 == found
        assert [*map(type, shown)] * 2 == [*map(type, found)]

    def test_kinds_of_numbers(self, etw, monkeypatch):
        """Values of a class of a program's own are what they are made of, without a detour."""
        given = {"status": HTTPStatus.OK, "large": 2**64, "name": Name("ada"), "part": Part(0.5)}
        exporter = EtwLogExporter(PROVIDER)
        monkeypatch.setattr(type(exporter._encoder), "_encode_carefully", None)
        exporter.export([record(attributes=given), record(attributes=given)])
        expected = {"status": 200, "large": str(2**64), "name": "ada", "part": 0.5}
        assert [expected] * 2 == [part_c(event) for event in etw.events]


class Name(str):
    """A program's own text."""

    __slots__ = ()


class Part(float):
    """A program's own number."""


class Hostile:
    """A value whose methods all raise."""

    def __repr__(self):
        raise RuntimeError

    __str__ = __eq__ = __bool__ = __repr__
    __hash__ = None


class TestHostile:
    """Nothing that a record holds raises, or is lost uncounted."""

    @pytest.mark.parametrize(
        "attributes",
        [
            {"a": 10**5000},
            {"a": Hostile()},
            {"a": [Hostile()]},
            {"a": {"b": Hostile()}},
            {"a": "\ud800"},
            None,
        ],
    )
    def test_attributes(self, etw, attributes):
        """A value of any kind has an event."""
        made = ReadableLogRecord(LogRecord(body="b", attributes=attributes), RESOURCE)
        (event,), stats = export(etw, made)
        assert "b" == event.decode().as_dict()["PartB"]["body"]
        assert 0 == stats["errors"]

    def test_ids_without_room(self, etw):
        """Ids of more bits than there are in one are cut, and the event can be decoded."""
        made = record()
        made.log_record.trace_id, made.log_record.span_id = 2**130 + 5, 2**70 + 7
        (event,), stats = export(etw, made)
        ids = event.decode().as_dict()["PartA"]["ext_dt"]
        assert {"traceId": f"{5:032x}", "spanId": f"{7:016x}"} == ids
        assert 0 == stats["errors"]

    @pytest.mark.parametrize("made", [None, object(), ReadableLogRecord(None, None)])
    def test_no_record(self, etw, made):
        """What is no record is counted."""
        exporter = EtwLogExporter(PROVIDER)
        assert FAILURE == exporter.export([made, record()])
        assert (1, 1) == (exporter.stats()["errors"], len(etw.events))

    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )

    @PATIENT
    @given(
        st.lists(
            st.builds(
                LogRecord,
                timestamp=st.none() | st.integers(0, 2**64),
                severity_text=st.none() | st.text(),
                severity_number=st.none() | st.sampled_from(SeverityNumber),
                body=values,
                attributes=st.none() | st.dictionaries(st.text(), values, max_size=5),
                event_name=st.none() | st.text(),
            ),
            max_size=5,
        ),
        st.booleans(),
    )
    def test_any(self, logs, uses_record_names):
        """What comes out is what went in."""
        with RecordingEtw() as etw:
            exporter = EtwLogExporter(PROVIDER, uses_record_names=uses_record_names)
            records = [ReadableLogRecord(log, RESOURCE) for log in logs]
            assert SUCCESS == exporter.export(records)
            for event, log in zip(etw.events, logs, strict=True):
                found = event.decode().as_dict()
                assert_same(log, found)
            exporter.shutdown()


def assert_same(log, found):
    """Compare a record with its event."""
    part_b, part_c = found["PartB"], dict(found.get("PartC", {}))
    assert (log.severity_text, log.event_name or None) == (
        part_b.get("severityText"),
        part_b.get("name"),
    )
    assert_value(log.body, part_b.get("body"))
    rest = json.loads(part_c.pop("eliot:rest", "{}"))
    given = dict(log.attributes or {})
    if "eventId" in part_b:
        assert given.pop("event_id") == part_b["eventId"]
    assert len(given) == len(part_c) + len(rest)
    for name, value in given.items():
        if name in rest:
            continue
        taken = next(other for other in (name, *(name + "_" * n for n in range(9)))
                     if other in part_c and is_like(value, part_c[other]))  # fmt: skip
        assert_value(value, part_c.pop(taken))


def is_like(value, found):
    """Say whether a value may have become another."""
    try:
        assert_value(value, found)
    except AssertionError:
        return False
    return True


def assert_value(value, found):
    """Compare a value with that of its field."""
    is_own = isinstance(value, (bool, float, str, bytes)) or (
        isinstance(value, int) and -(2**63) <= value < 2**63
    )
    if is_own:
        assert repr(value) == repr(found)
    elif value is None:
        assert found in (None, "null")
    else:
        assert isinstance(found, str)
        json.loads(found)


class TestProcessor:
    """The SDK's whole way, with our processor and with the SDK's own."""

    @pytest.mark.parametrize(
        "processor", [EtwLogRecordProcessor, SimpleLogRecordProcessor, BatchLogRecordProcessor]
    )
    def test_any_processor(self, etw, processor):
        """An exporter works with each processor."""
        exporter = EtwLogExporter(PROVIDER)
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        provider.add_log_record_processor(processor(exporter))
        provider.get_logger("app").emit(body="one", attributes={"a": 1})
        provider.shutdown()
        (event,) = etw.events
        assert ("one", {"a": 1}) == (event.decode().as_dict()["PartB"]["body"], part_c(event))
        assert [] == etw.registered

    def test_at_once(self, etw):
        """A record is written when the call that logs returns."""
        logger, _ = logger_of()
        logger.emit(body="one")
        assert 1 == len(etw.events)

    def test_within_span(self, etw):
        """A record has the ids of the span around it."""
        logger, _ = logger_of()
        with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s"):
            logger.emit(body="one")
            context = trace.get_current_span().get_span_context()
        expected = {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"}
        assert expected == etw.events[0].decode().as_dict()["PartA"]["ext_dt"]

    def test_nobody_listens(self, etw, monkeypatch):
        """Nothing is done then, and the SDK is told that nothing would be."""
        logger, exporter = logger_of()
        etw.disable()
        monkeypatch.setattr(type(exporter), "_encode", None)
        logger.emit(body="unheard", severity_number=SeverityNumber.FATAL)
        processor = EtwLogRecordProcessor(exporter)
        assert not processor.enabled(severity_number=SeverityNumber.FATAL)
        assert not processor.enabled()
        assert (0, 0) == (len(etw.events), etw.unwanted)
        assert 0 == exporter.stats()["errors"] == exporter.stats()["written"]

    def test_calls(self, etw):
        """A record takes so many calls of Python's, and one while nobody listens."""
        exporter = EtwLogExporter(PROVIDER)
        processor = EtwLogRecordProcessor(exporter)
        made = in_span(body="b", attributes={"a": 1, "b": "c"})
        made.log_record.attributes = BoundedAttributes(10, made.log_record.attributes)
        processor.on_emit(made)
        called = calls_of(lambda: processor.on_emit(made))
        ours = [
            "on_emit", "write", "is_enabled", "_encode", "copy", "encode", "write",
        ]  # fmt: skip
        assert ours == called[: called.index("_write")]
        etw.disable()
        assert ["on_emit"] == calls_of(lambda: processor.on_emit(made))

    def test_some_listen(self, etw):
        """What nobody wants is not made; the SDK is told what is wanted."""
        logger, exporter = logger_of()
        etw.enable(level=3)
        for number in (SeverityNumber.INFO4, SeverityNumber.WARN, SeverityNumber.FATAL):
            logger.emit(body=number.name, severity_number=number)
        assert ["WARN", "FATAL"] == [e.decode().as_dict()["PartB"]["body"] for e in etw.events]
        assert 0 == etw.unwanted
        processor = EtwLogRecordProcessor(exporter)
        assert processor.enabled()
        assert processor.enabled(severity_number=SeverityNumber.WARN)
        assert not processor.enabled(severity_number=SeverityNumber.INFO)

    def test_keyword(self, etw):
        """Who listens to other keywords gets nothing."""
        logger, _ = logger_of()
        etw.enable(match_any=2)
        logger.emit(body="unheard")
        assert (0, 0) == (len(etw.events), etw.unwanted)

    def test_unwanted_is_success(self, etw):
        """For the SDK, what nobody wants is no failure."""
        etw.disable()
        assert SUCCESS == EtwLogExporter(PROVIDER).export([record()])

    def test_standard_library(self, etw):
        """Records of `logging` come by the SDK's handler."""
        handler_module = pytest.importorskip("opentelemetry.instrumentation.logging.handler")
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        provider.add_log_record_processor(EtwLogRecordProcessor(EtwLogExporter(PROVIDER)))
        log = logging.Logger("app")
        log.addHandler(handler_module.LoggingHandler(logger_provider=provider))
        log.warning("hello %s", "world", extra={"user": "ada"})
        (event,) = etw.events
        decoded = event.decode().as_dict()
        assert ("hello world", "ada") == (decoded["PartB"]["body"], decoded["PartC"]["user"])
        assert (3, 13) == (event.level, decoded["PartB"]["severityNumber"])

    def test_threads(self, etw):
        """Records of several threads do not mix."""
        logger, exporter = logger_of()

        def work(thread):
            for number in range(200):
                logger.emit(body=f"{thread}", attributes={f"a{number % 7}": thread})

        threads = [Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 800 == len(etw.events) == exporter.stats()["written"]
        for event in etw.events:
            decoded = event.decode().as_dict()
            assert [int(decoded["PartB"]["body"])] == [*decoded["PartC"].values()]


def logger_of(**options):
    """Set up a logger of the SDK with our processor; return it and the exporter."""
    exporter = EtwLogExporter(PROVIDER, **options)
    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(EtwLogRecordProcessor(exporter))
    return provider.get_logger("app"), exporter


class TestEnd:
    """After the end, and where Windows refuses."""

    def test_shutdown(self, etw):
        """After it records are refused, and counted; it may be called twice."""
        exporter = EtwLogExporter(PROVIDER)
        processor = EtwLogRecordProcessor(exporter)
        processor.shutdown()
        exporter.shutdown()
        assert FAILURE == exporter.export([record()])
        processor.on_emit(record())
        assert ([], [], 2) == (etw.registered, etw.events, exporter.stats()["after_close"])
        assert processor.force_flush()

    def test_refused(self, etw):
        """What Windows refuses is counted by its code."""
        exporter = EtwLogExporter(PROVIDER)
        etw.fail_writes(8)
        assert FAILURE == exporter.export([record(), record()])
        etw.fail_writes(0)
        assert SUCCESS == exporter.export([record()])
        stats = exporter.stats()
        assert (1, 2, 2) == (stats["written"], stats["failed"], stats["failed_8"])

    def test_resource_that_changes(self, etw):
        """Each record has its own resource; many of them take no more memory than some."""
        exporter = EtwLogExporter(PROVIDER, resource_attributes=["n"])
        for number in range(40):
            exporter.export([record(Resource({"n": number}))])
        assert [*range(40)] == [part_c(event)["n"] for event in etw.events]
        assert len(exporter._encoder._parts) <= 16


class TestOptions:
    """What is wrong is said when it is set up, and leaves nothing behind."""

    @pytest.mark.parametrize(
        ("error", "text", "options"),
        [
            (ValueError, "a provider's name must be text", {"provider_name": ""}),
            (ValueError, "one form in upper case", {"provider_name": "straße"}),
            (ValueError, "must be a GUID", {"group": "none"}),
            (ValueError, "event_name must be text", {"event_name": ""}),
            (ValueError, "event_name must be text", {"event_name": "a\0"}),
            (TypeError, "must be several names", {"resource_attributes": "region"}),
            (ValueError, "different names", {"resource_attributes": ["a", "A"]}),
            (ValueError, "different names", {"resource_attributes": [""]}),
            (ValueError, "different names", {"resource_attributes": ["eliot:rest"]}),
            (ValueError, "at most 32 names", {"resource_attributes": map(str, range(33))}),
            (TypeError, "file must be a path", {"file": 5}),
        ],
    )
    def test_wrong(self, etw, error, text, options):
        """The constructor says what is wrong."""
        with pytest.raises(error, match=text):
            EtwLogExporter(**{"provider_name": PROVIDER, **options})
        assert [] == etw.registered

    @pytest.mark.skipif(os.name == "nt", reason="here is Windows")
    def test_no_windows(self):
        """Where there is no Windows, that is said at once."""
        with pytest.raises(OSError, match="needs Windows"):
            EtwLogExporter(PROVIDER)

    def test_no_package(self, monkeypatch):
        """Without the package it is said what to install."""
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
        monkeypatch.delitem(sys.modules, "eliot_etw.opentelemetry.log_exporter")
        with pytest.raises(MissingDependency, match=r"EtwLogExporter needs .*eliot-etw\[otel\]"):
            import_module("eliot_etw.opentelemetry.log_exporter")


AT_EXIT = """
import sys
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from eliot_etw.opentelemetry import EtwLogExporter
provider = LoggerProvider()
provider.add_log_record_processor(BatchLogRecordProcessor(EtwLogExporter("App", file=sys.argv[1])))
for number in range(100):
    provider.get_logger("app").emit(body=str(number))
"""


def test_rest_of_a_batch_at_exit(tmp_path):
    """What the SDK exports when the interpreter exits is in the trace."""
    path = tmp_path / "app.etl"
    subprocess.run([sys.executable, "-W", "error", "-c", AT_EXIT, path], check=True, timeout=60)
    bodies = [event.decode().as_dict()["PartB"]["body"] for event in read_etl(path)]
    assert [str(number) for number in range(100)] == bodies
