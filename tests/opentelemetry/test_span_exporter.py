"""Tests of spans as events of Common Schema, with OpenTelemetry's SDK."""

import json
import sys
from importlib import import_module
from operator import attrgetter
from threading import Thread

import pytest

pytest.importorskip("opentelemetry.sdk")

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from eliot_etw.etw import provider_guid, read_etl
from eliot_etw.exceptions import MissingDependency
from eliot_etw.opentelemetry import EtwSpanExporter, EtwSpanProcessor
from eliot_etw.opentelemetry._common_schema import json_text
from eliot_etw.testing import RecordingEtw
from tests.etw._schemas import PATIENT
from tests.opentelemetry._by_hand import BOOLEAN, JSON, UNSIGNED, build, microsoft
from tests.opentelemetry._calls import calls_of

__all__ = ["microsoft"]

PROVIDER = "MyCompany.MyProgram"
START, END = 1_795_181_013_000_000_007, 1_795_181_014_500_000_000
START_TEXT, END_TEXT = "2026-11-20T13:23:33.000000007Z", "2026-11-20T13:23:34.500000000Z"
TRACE_ID, SPAN_ID, PARENT_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7, 0xB8
RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i-1", "region": "eu"})
NOBODYS = Resource({})
SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE

CSVER = ("__csver__", "uint16", 0x400, UNSIGNED)
IDS = ("ext_dt", [("traceId", "str8", f"{TRACE_ID:032x}"), ("spanId", "str8", f"{SPAN_ID:016x}")])
PART_A = ("PartA", [IDS, ("time", "str8", END_TEXT)])
TYPE = ("_typeName", "str8", "Span")
NAME = ("name", "str8", "GET /")
STARTED = ("startTime", "str8", START_TEXT)
SUCCEEDED = ("success", "uint8", 1, BOOLEAN)
WELL_KNOWN = {
    "db.system.name": "dbSystem",
    "db.namespace": "dbName",
    "db.query.text": "dbStatement",
    "http.request.method": "httpMethod",
    "url.full": "httpUrl",
    "http.response.status_code": "httpStatusCode",
    "messaging.system": "messagingSystem",
    "messaging.destination.name": "messagingDestination",
    "messaging.url": "messagingUrl",
    "rpc.system.name": "rpcSystem",
    "rpc.response.status_code": "rpcGrpcStatusCode",
}


def context_of(span_id, trace_id=TRACE_ID, flags=TraceFlags.SAMPLED):
    """Return the context of a span."""
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))


def kind(number):
    """Return the field for a kind."""
    return ("kind", "uint8", number)


def span(resource=NOBODYS, **values):
    """Make a span as the SDK hands it over when it has ended."""
    made = {"context": context_of(SPAN_ID), "start_time": START, "end_time": END, **values}
    return ReadableSpan("GET /", resource=resource, **made)


@pytest.fixture
def etw():
    """Return what stands in for Windows."""
    with RecordingEtw() as etw:
        yield etw


def export(etw, *spans, **options):
    """Export spans; return the events, and what the exporter counted."""
    exporter = EtwSpanExporter(PROVIDER, **options)
    exporter.export(spans)
    exporter.shutdown()
    return list(etw.events), exporter.stats()


def assert_value(value, found):
    """Compare the value of an attribute with that of its field."""
    is_own = isinstance(value, (bool, float, str, bytes)) or (
        isinstance(value, int) and -(2**63) <= value < 2**63
    )
    assert repr(found) == repr(value if is_own else json_text(value))


def part(event, name):
    """Return what a part of an event has."""
    return event.decode().as_dict()[name]


# A span, options of the exporter, and its event as somebody types it.
GOLDEN = {
    "least": (span(), {}, [CSVER, PART_A, ("PartB", [TYPE, NAME, kind(0), STARTED, SUCCEEDED])]),
    **{
        f"kind {name}": (
            span(kind=SpanKind[name]),
            {},
            [CSVER, PART_A, ("PartB", [TYPE, NAME, kind(number), STARTED, SUCCEEDED])],
        )
        for number, name in enumerate(["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"])
    },
    "resource": (
        span(RESOURCE, attributes={"a": 1}),
        {"resource_attributes": ["region"]},
        [
            CSVER,
            (
                "PartA",
                [
                    IDS,
                    ("ext_cloud", [("role", "str8", "shop"), ("roleInstance", "str8", "i-1")]),
                    ("time", "str8", END_TEXT),
                ],
            ),
            ("PartB", [TYPE, NAME, kind(0), STARTED, SUCCEEDED]),
            ("PartC", [("region", "str8", "eu"), ("a", "int64", 1)]),
        ],
    ),
    "parent, links and status": (
        span(
            parent=context_of(PARENT_ID),
            links=[Link(context_of(1, 2)), Link(context_of(3, 4))],
            status=Status(StatusCode.ERROR, "no luck"),
        ),
        {},
        [
            CSVER,
            PART_A,
            (
                "PartB",
                [
                    TYPE,
                    NAME,
                    kind(0),
                    STARTED,
                    ("parentId", "str8", f"{PARENT_ID:016x}"),
                    (
                        "links",
                        "str8",
                        f'[{{"toTraceId":"{2:032x}","toSpanId":"{1:016x}"}},'
                        f'{{"toTraceId":"{4:032x}","toSpanId":"{3:016x}"}}]',
                    ),
                    ("statusMessage", "str8", "no luck"),
                    ("success", "uint8", 0, BOOLEAN),
                ],
            ),
        ],
    ),
    "well-known attributes, in the order of the schema": (
        span(attributes={"z": 1, **dict.fromkeys(reversed(WELL_KNOWN), "x"), "a": 2}),
        {},
        [
            CSVER,
            PART_A,
            (
                "PartB",
                [
                    TYPE,
                    NAME,
                    kind(0),
                    STARTED,
                    *((name, "str8", "x") for name in WELL_KNOWN.values()),
                    SUCCEEDED,
                ],
            ),
            ("PartC", [("z", "int64", 1), ("a", "int64", 2)]),
        ],
    ),
    "values": (
        span(
            attributes={
                "http.response.status_code": 200,
                "db.query.text": None,
                "rpc.system.name": True,
                "float": 0.5,
                "bytes": b"\xff",
                "list": (1, "a"),
            },
            status=Status(StatusCode.OK),
        ),
        {},
        [
            CSVER,
            PART_A,
            (
                "PartB",
                [
                    TYPE,
                    NAME,
                    kind(0),
                    STARTED,
                    ("dbStatement", "str8", "null", JSON),
                    ("httpStatusCode", "int64", 200),
                    ("rpcSystem", "bool32", 1),
                    SUCCEEDED,
                ],
            ),
            (
                "PartC",
                [
                    ("float", "float64", 0.5),
                    ("bytes", "binary_bytes", b"\xff"),
                    ("list", "str8", '[1,"a"]', JSON),
                ],
            ),
        ],
    ),
    "events": (
        span(
            events=[
                Event("one", {"a": 1}, timestamp=START),
                Event("two", timestamp=END),
            ],
            attributes={"eliot:events": "mine"},
        ),
        {},
        [
            CSVER,
            PART_A,
            ("PartB", [TYPE, NAME, kind(0), STARTED, SUCCEEDED]),
            (
                "PartC",
                [
                    ("eliot:events", "str8", "mine"),
                    (
                        "eliot:events_",
                        "str8",
                        f'[{{"name":"one","time":"{START_TEXT}","attributes":{{"a":1}}}},'
                        f'{{"name":"two","time":"{END_TEXT}"}}]',
                        JSON,
                    ),
                ],
            ),
        ],
    ),
}


class TestGolden:
    """Each row of the schema, byte for byte what Microsoft's encoder makes of it."""

    @pytest.mark.parametrize("name", GOLDEN)
    def test_event(self, microsoft, etw, name):
        """An event has the fields, in the order and with the types, that the schema says.

        The first span of a shape takes another way than the next, with the same result.
        """
        made, options, fields = GOLDEN[name]
        events, _ = export(etw, made, made, **options)
        expected = build(microsoft, "Span", fields)
        assert [expected, expected] == [(event.metadata, event.payload) for event in events]

    def test_header(self, etw):
        """All events have level 5 and keyword 1; without activities no opcode and no id."""
        (event,), _ = export(etw, span())
        assert (PROVIDER, provider_guid(PROVIDER)) == (event.provider_name, event.provider_id)
        assert (5, 1, 0, None) == (event.level, event.keyword, event.opcode, event.activity_id)

    def test_event_name(self, etw):
        """Events may be called otherwise."""
        (event,), _ = export(etw, span(), event_name="Work")
        assert "Work" == event.decode().name

    def test_attributes_of_the_sdk(self, etw):
        """The SDK's own kind of attributes takes the same way as a dict."""
        given = {"a": 1, "url.full": "x", "list": [1]}
        events, _ = export(
            etw,
            span(attributes=given),
            span(attributes=BoundedAttributes(10, given)),
            span(attributes=BoundedAttributes(10, given)),
        )
        assert 1 == len({(event.metadata, event.payload) for event in events})


class TestActivities:
    """Spans as activities, which PerfView draws within one another."""

    def test_nesting(self, etw):
        """Start and stop of a span have its id, and the start that of the span around it."""
        tracer, exporter = tracer_of(activities=True)
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
            pass
        events = etw.events
        assert [1, 1, 2, 2] == [event.opcode for event in events]
        outer, inner = (event.activity_id for event in events[:2])
        assert [outer, inner, inner, outer] == [event.activity_id for event in events]
        assert [None, outer, None, None] == [event.related_activity_id for event in events]
        assert 1 == len({(e.decode().name, e.level, e.keyword, e.provider_id) for e in events})
        assert 4 == exporter.stats()["written"]

    def test_ids_are_paths(self, etw):
        """Ids are of the form that PerfView draws: of a process, and with a checksum."""
        tracer, _ = tracer_of(activities=True)
        with tracer.start_as_current_span("outer"):
            pass
        event = etw.events[0]
        words = [int.from_bytes(event.activity_id.bytes_le[at : at + 4], "little")
                 for at in range(0, 16, 4)]  # fmt: skip
        assert (sum(words[:3]) + 0x599D99AD) % 2**32 ^ event.process_id == words[3]
        assert 5 == event.provider_id.bytes_le[7] >> 4

    def test_start(self, microsoft, etw):
        """The event of a start says what is known by then."""
        exporter = EtwSpanExporter(PROVIDER, activities=True, resource_attributes=["region"])
        for _ in range(2):
            exporter.write_start(span(RESOURCE, parent=context_of(PARENT_ID), attributes={"a": 1}))
        expected = build(
            microsoft,
            "Span",
            [
                CSVER,
                (
                    "PartA",
                    [
                        IDS,
                        ("ext_cloud", [("role", "str8", "shop"), ("roleInstance", "str8", "i-1")]),
                        ("time", "str8", START_TEXT),
                    ],
                ),
                (
                    "PartB",
                    [
                        ("_typeName", "str8", "SpanStart"),
                        NAME,
                        kind(0),
                        STARTED,
                        ("parentId", "str8", f"{PARENT_ID:016x}"),
                    ],
                ),
                ("PartC", [("region", "str8", "eu")]),
            ],
        )
        assert [expected] * 2 == [(event.metadata, event.payload) for event in etw.events]

    def test_without_our_processor(self, etw):
        """Another processor of the SDK has ends written, and no starts."""
        exporter = EtwSpanExporter(PROVIDER, activities=True)
        tracer = tracer_with(SimpleSpanProcessor(exporter))
        with tracer.start_as_current_span("one"):
            pass
        assert [2] == [event.opcode for event in etw.events]

    def test_long_name(self, etw):
        """A start with a name that is too long has its event too."""
        tracer, exporter = tracer_of(activities=True)
        for _ in range(2):
            with tracer.start_as_current_span("x" * 100_000):
                pass
        assert [1, 2, 1, 2] == [event.opcode for event in etw.events]
        assert {"PartB.name": 100_000} == json.loads(
            part(etw.events[2], "PartC")["eliot:truncated"]
        )
        assert (4, 0) == (exporter.stats()["truncated"], exporter.stats()["errors"])


class TestLimits:
    """Whatever a span holds, its event can be decoded, and says what is missing."""

    def test_many_attributes(self, etw):
        """Attributes for which there is no field are together in the last one."""
        given_all = {f"a{number}": number for number in range(1000)}
        given_all["url.full"] = "x"
        (event,), stats = export(etw, span(attributes=given_all))
        found = dict(part(event, "PartC"))
        rest = json.loads(found.pop("eliot:rest"))
        assert given_all == found | rest | {"url.full": part(event, "PartB")["httpUrl"]}
        assert (0, 0) == (stats["truncated"], stats["errors"])

    def test_long_statement(self, etw):
        """A well-known attribute that is too long is cut."""
        made = span(attributes={"db.query.text": "x" * 70_000, "a": "b"})
        (event,), stats = export(etw, made)
        assert {"PartB.dbStatement": 70_000} == json.loads(part(event, "PartC")["eliot:truncated"])
        assert 64_000 < len(part(event, "PartB")["dbStatement"])
        assert 1 == stats["truncated"]

    @pytest.mark.parametrize("text", ["", "x" * 127, "x" * 128, "x" * 255, "x" * 256, "ä€😀", "é"])
    def test_texts(self, etw, text):
        """A text is the same whatever its length and its characters, the first time and later."""
        attributes = {"b": True, "text": text, "n": 1, "c": False, "bytes": b"\xff", "last": text}
        made = span(attributes=attributes, status=Status(StatusCode.ERROR, text or "no"))
        events, stats = export(etw, span(attributes=attributes | {"text": "a"}), made, made)
        for event in events[1:]:
            assert attributes == part(event, "PartC")
            assert (text or "no") == part(event, "PartB")["statusMessage"]
        assert (3, 0) == (stats["written"], stats["errors"])

    @pytest.mark.parametrize(
        ("time", "text"),
        [
            (1, "1970-01-01T00:00:00.000000001Z"),
            (10**9, "1970-01-01T00:00:01.000000000Z"),
            (1.5 * 10**18, "2017-07-14T02:40:00.000000000Z"),
        ],
    )
    def test_times(self, etw, time, text):
        """A time is written in nine digits behind the point, be it a float by mistake."""
        events, _ = export(etw, *[span(end_time=time)] * 2)
        assert [text] * 2 == [part(event, "PartA")["time"] for event in events]

    def test_all_long(self, etw):
        """Name, status, links and events share the room."""
        made = span(
            links=[Link(context_of(number, number)) for number in range(1, 2000)],
            status=Status(StatusCode.ERROR, "x" * 70_000),
            events=[Event("x" * 70_000, timestamp=START)],
            attributes={"a": "b"},
        )
        (event,), stats = export(etw, made)
        told = json.loads(part(event, "PartC")["eliot:truncated"])
        assert {"PartB.links", "PartB.statusMessage", "PartC.eliot:events"} == told.keys()
        assert "b" == part(event, "PartC")["a"]
        assert 0 == stats["errors"]

    @pytest.mark.parametrize(
        "values",
        [{"end_time": None}, {"end_time": None, "start_time": None}, {"start_time": None}],
    )
    def test_unfinished(self, etw, values):
        """A span of which a time is not known has its event."""
        (event,), stats = export(etw, span(**values))
        assert part(event, "PartB")["startTime"][:2] == "20" == part(event, "PartA")["time"][:2]
        assert 0 == stats["errors"]

    def test_ids_without_room(self, etw):
        """Ids of more bits than there are in one are cut, and the events can be decoded."""
        large = context_of(2**70 + 7, 2**130 + 5)
        events, stats = export(etw, *[span(context=large, parent=large)] * 2)
        for event in events:
            ids = {"traceId": f"{5:032x}", "spanId": f"{7:016x}"}
            assert ids == part(event, "PartA")["ext_dt"]
            assert f"{7:016x}" == part(event, "PartB")["parentId"]
        assert 0 == stats["errors"]

    @pytest.mark.parametrize("made", [None, span(context=None), object()])
    def test_no_span(self, etw, made):
        """What is no span is counted; others are not lost with it."""
        exporter = EtwSpanExporter(PROVIDER, activities=True)
        assert FAILURE == exporter.export([made, span()])
        exporter.write_start(made)
        assert (2, 1) == (exporter.stats()["errors"], exporter.stats()["written"])

    values = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
        | st.lists(st.integers() | st.text(), max_size=3)
    )  # fmt: skip

    @PATIENT
    @given(
        st.lists(
            st.dictionaries(st.sampled_from([*WELL_KNOWN, "a", "b", "C", "c"]), values), max_size=6
        )
    )
    def test_any_attributes(self, every):
        """Each attribute is in one of the parts, whatever the spans before had."""
        with RecordingEtw() as etw:
            exporter = EtwSpanExporter(PROVIDER)
            assert SUCCESS == exporter.export([span(attributes=given) for given in every])
            for event, given in zip(etw.events, every, strict=True):
                decoded = event.decode().as_dict()
                known = [name for name in WELL_KNOWN if name in given]
                found = [*decoded["PartB"]][4:-1]
                assert [WELL_KNOWN[name] for name in known] == found
                for name in known:
                    assert_value(given[name], decoded["PartB"][WELL_KNOWN[name]])
                others = [name for name in given if name not in WELL_KNOWN]
                assert len(others) == len(decoded.get("PartC", {}))
            exporter.shutdown()


def tracer_with(*processors, **options):
    """Set up a tracer of the SDK."""
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False, **options)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer("app")


def tracer_of(**options):
    """Set up a tracer of the SDK with our processor; return it and the exporter."""
    exporter = EtwSpanExporter(PROVIDER, **options)
    return tracer_with(EtwSpanProcessor(exporter)), exporter


class TestProcessor:
    """The SDK's whole way, with our processor and with the SDK's own."""

    @pytest.mark.parametrize(
        "processor", [EtwSpanProcessor, SimpleSpanProcessor, BatchSpanProcessor]
    )
    def test_any_processor(self, etw, processor):
        """An exporter works with each processor."""
        made = processor(EtwSpanExporter(PROVIDER))
        with tracer_with(made).start_as_current_span("one", attributes={"a": 1}):
            pass
        assert made.force_flush()
        made.shutdown()
        (event,) = etw.events
        assert ("one", {"a": 1}) == (part(event, "PartB")["name"], part(event, "PartC"))
        assert [] == etw.registered

    def test_roots_are_traces(self, etw):
        """Each root is a trace of its own, and a child in that of its parent."""
        tracer, _ = tracer_of()
        for _ in range(3):
            with tracer.start_as_current_span("root"), tracer.start_as_current_span("child"):
                pass
        traces = [part(event, "PartA")["ext_dt"]["traceId"] for event in etw.events]
        assert 3 == len({*traces})
        assert traces[::2] == traces[1::2]

    def test_exception(self, etw):
        """What a span recorded of an exception is in the event."""
        tracer, _ = tracer_of()
        with pytest.raises(ZeroDivisionError), tracer.start_as_current_span("one"):
            raise ZeroDivisionError
        (event,) = etw.events
        (told,) = json.loads(part(event, "PartC")["eliot:events"])
        assert ("exception", "ZeroDivisionError") == (
            told["name"],
            told["attributes"]["exception.type"],
        )
        assert part(event, "PartB")["success"] is False

    def test_not_sampled(self, etw):
        """A span that is not sampled has no event."""
        exporter = EtwSpanExporter(PROVIDER, activities=True)
        tracer = tracer_with(EtwSpanProcessor(exporter), sampler=ALWAYS_OFF)
        with tracer.start_as_current_span("one"):
            pass
        processor = EtwSpanProcessor(exporter)
        processor.on_end(span(context=context_of(1, flags=0)))
        assert [] == etw.events

    @pytest.mark.parametrize("activities", [False, True])
    @pytest.mark.parametrize("level", [None, 4])
    def test_nobody_listens(self, etw, monkeypatch, activities, level):
        """Nothing is done while nobody wants events of level 5."""
        etw.disable()
        if level:
            etw.enable(level=level)
        tracer, exporter = tracer_of(activities=activities)
        monkeypatch.setattr(type(exporter), "_encode", None)
        monkeypatch.setattr(type(exporter), "_encode_start", None)
        with tracer.start_as_current_span("one"):
            pass
        assert SUCCESS == exporter.export([span()])
        assert exporter.write_start(span())
        assert (0, 0, 0) == (len(etw.events), etw.unwanted, exporter.stats()["errors"])

    def test_calls(self, etw):
        """A span takes so many calls of Python's when it ends, and one while nobody listens."""
        exporter = EtwSpanExporter(PROVIDER)
        processor = EtwSpanProcessor(exporter)
        made = span(attributes=BoundedAttributes(10, {"a": 1, "b": "c"}))
        processor.on_end(made)
        called = calls_of(lambda: processor.on_end(made))
        ours = [
            "on_end",
            "write",
            "is_enabled",
            "_encode",
            "copy",
            "status_code",
            "encode",
            "write",
        ]
        assert ours == called[: called.index("_write")]
        etw.disable()
        assert ["on_end"] == calls_of(lambda: processor.on_end(made))

    def test_threads(self, etw):
        """Spans of several threads do not mix."""
        tracer, exporter = tracer_of(activities=True)

        def work(thread):
            for _ in range(100):
                with tracer.start_as_current_span(f"{thread}", attributes={"thread": thread}):
                    pass

        threads = [Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 800 == len(etw.events) == exporter.stats()["written"]
        for event in etw.events:
            if event.opcode == 2:
                assert part(event, "PartB")["name"] == str(part(event, "PartC")["thread"])

    def test_shutdown(self, etw):
        """After it spans are refused, and counted; it may be called twice."""
        tracer, exporter = tracer_of()
        exporter.shutdown()
        exporter.shutdown()
        with tracer.start_as_current_span("late"):
            pass
        assert FAILURE == exporter.export([span()])
        assert ([], 2) == (etw.events, exporter.stats()["after_close"])

    def test_without_private_attributes(self, etw):
        """A span that has nothing but what the interface promises has the same event."""

        class Plain:
            """Has the properties of a span, and nothing else."""

            names = ("name context parent kind start_time end_time status attributes events links "
                     "resource")  # fmt: skip

            def __init__(self, whole):
                for name in self.names.split():
                    setattr(self, name, attrgetter(name)(whole))

        whole = span(
            attributes={"a": 1},
            links=[Link(context_of(1, 2))],
            events=[Event("e", timestamp=START)],
        )
        events, _ = export(etw, whole, Plain(whole))
        assert 1 == len({(event.metadata, event.payload) for event in events})

    def test_no_package(self, monkeypatch):
        """Without the package it is said what to install."""
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
        monkeypatch.delitem(sys.modules, "eliot_etw.opentelemetry.span_exporter")
        with pytest.raises(MissingDependency, match=r"EtwSpanExporter needs .*eliot-etw\[otel\]"):
            import_module("eliot_etw.opentelemetry.span_exporter")


def test_times_in_a_trace(tmp_path):
    """In a trace an event happens when the span ended, and that of a start when it started."""
    exporter = EtwSpanExporter(PROVIDER, file=tmp_path / "a.etl", activities=True)
    exporter.write_start(span())
    exporter.export([span()])
    exporter.shutdown()
    times = [event.timestamp for event in read_etl(tmp_path / "a.etl")]
    assert [START / 1e9, END / 1e9] == pytest.approx(times, abs=1e-6)
