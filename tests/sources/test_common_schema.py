"""Tests of what OpenTelemetry's exporters to ETW wrote, known by its form."""

import json
import sys

import pytest

from eliot_etw.etw import InType, OutType
from eliot_etw.otlp._model import ERROR, INTERNAL, SERVER, UNSET, Event, Link, Log, Span
from eliot_etw.sources._common_schema import (
    VERSION_FIELD,
    Metrics,
    is_metrics,
    span_or_log,
)
from tests.etw._traces import NOW, event
from tests.sources._common_schema_events import (
    PARENT,
    SPAN,
    TRACE,
    Typed,
    as_json,
    built,
    log_event,
    metrics_event,
    span_event,
    u8,
)

LINKS = f'[{{"toTraceId":"{TRACE}","toSpanId":"{PARENT}"}},5,{{"toTraceId":"x"}}]'
START_NS = 1_750_000_000 * 10**9
# What is known of every event.
ORIGIN = {"etw:provider": "Their-Provider", "etw:level": 5, "etw:pid": 0, "etw:tid": 0}


def read(made):
    """Read an event."""
    return span_or_log(made, made.decode())


class TestSpans:
    """Events with the type name `Span`."""

    def test_least(self):
        """What each has."""
        assert VERSION_FIELD in span_event().metadata
        assert read(span_event()) == Span(
            trace_id=TRACE,
            span_id=SPAN,
            parent_span_id=None,
            name="work",
            kind=INTERNAL,
            start_ns=START_NS,
            end_ns=START_NS + 10**9 + 250,
            attributes=ORIGIN,
            status_code=UNSET,
        )

    def test_everything(self):
        """What one may have; well-known attributes get their names back."""
        span = read(
            span_event(
                part_a={"ext_cloud": {"role": "shop", "roleInstance": "shop-1"}},
                part_b={
                    "kind": u8(1),
                    "parentId": PARENT,
                    "links": as_json(LINKS),
                    "statusMessage": "no",
                    "dbSystem": "sqlite",
                    "httpStatusCode": "500",
                    "success": u8(False, OutType.BOOLEAN),
                },
                part_c={"n": 5, "ok": True, "data": b"\xff", "list": as_json("[1,null]")},
            )
        )
        assert (SERVER, PARENT, ERROR, "no") == (
            span.kind, span.parent_span_id, span.status_code, span.status_message
        )  # fmt: skip
        assert [Link(TRACE, PARENT)] == span.links
        assert {"service.name": "shop", "service.instance.id": "shop-1"} == span.resource
        assert span.attributes == {
            "db.system.name": "sqlite",
            "http.response.status_code": "500",
            "n": 5,
            "ok": True,
            "data": b"\xff",
            "list": [1, None],
            **ORIGIN,
        }

    @pytest.mark.parametrize(("text", "links"), [(LINKS, [Link(TRACE, PARENT)]), ("[", [])])
    def test_links_as_text(self, text, links):
        """Links are JSON also where their field does not say so."""
        assert links == read(span_event({"links": text})).links

    def test_names_are_taken(self):
        """An attribute gives way to what has its name already."""
        span = read(span_event({"dbName": "a"}, {"db.namespace": "b", "etw:pid": 5}))
        expected = {"db.namespace": "a", "db.namespace_": "b", "etw:pid": 5}
        assert expected | ORIGIN | {"etw:pid": 5, "etw:pid_": 0} == span.attributes

    def test_rest(self):
        """What our exporters have no field for is an attribute like the others."""
        span = read(span_event(part_c={"a": 1, "eliot:rest": as_json('{"b":2,"a":3}')}))
        assert {"a": 1, "b": 2, "a_": 3} | ORIGIN == span.attributes

    def test_cut_json(self):
        """JSON that was cut off stays text."""
        assert "[1," == read(span_event(part_c={"a": as_json("[1,")})).attributes["a"]

    def test_events(self):
        """What happened within it, as our exporter tells."""
        told = [
            {"name": "e", "time": "2025-06-15T15:06:40.5Z", "attributes": {"n": 1}},
            {"time": "2025-06-15T15:06:41Z", "attributes": 5},
            {"name": "without a time"},
            5,
        ]
        span = read(span_event(part_c={"a": 1, "eliot:events": as_json(json.dumps(told))}))
        assert span.events == [
            Event("e", START_NS + 5 * 10**8, {"n": 1}),
            Event("", START_NS + 10**9),
        ]
        assert {"a": 1, **ORIGIN} == span.attributes

    def test_own_events(self):
        """An attribute of that name that is something else stays one."""
        span = read(span_event(part_c={"eliot:events": 5}))
        assert ([], 5) == (span.events, span.attributes["eliot:events"])

    def test_start(self):
        """That one has started is a span without an end."""
        span = read(span_event({"_typeName": "SpanStart"}))
        assert (START_NS, 0) == (span.start_ns, span.end_ns)

    @pytest.mark.parametrize("span_id", ["", "0" * 16, "xyz"])
    def test_no_id(self, span_id):
        """An event that does not say which span it is, is none."""
        assert read(span_event(span_id=span_id)) is None

    def test_other_types(self):
        """Values of types that OpenTelemetry has not become what they are in JSON."""
        part_c = {"when": Typed(5, InType.FILETIME)}
        attributes = read(span_event(part_c=part_c)).attributes
        assert "1601-01-01T00:00:00.0000005Z" == attributes["when"]


class TestTimes:
    """What is said of times."""

    @pytest.mark.parametrize(
        ("text", "after_ns"),
        [
            ("2025-06-15T15:06:40Z", 0),
            ("2025-06-15t15:06:40.1z", 10**8),
            ("2025-06-15T15:06:40.1234567891Z", 123_456_789),
            ("2025-06-15T17:06:40+02:00", 0),
            ("2025-06-15T13:36:40.5-01:30", 5 * 10**8),
        ],
    )
    def test_forms(self, text, after_ns):
        """RFC 3339 has fractions of any length, and offsets."""
        assert START_NS + after_ns == read(log_event(part_a={"time": text})).time_ns

    @pytest.mark.parametrize(
        "text",
        ["", "yesterday", "2025-02-30T00:00:00Z", "1960-01-01T00:00:00Z", "9999-01-01T00:00:00Z"],
    )
    def test_unusable(self, text):
        """A time that is none, or not one of ours, is that of the event."""
        log = read(log_event(part_a={"time": text}, ticks=NOW + 5))
        assert START_NS + 500 == log.time_ns

    def test_unusable_start(self):
        """A span without a start took no time."""
        span = read(span_event({"startTime": "?"}))
        assert span.start_ns == span.end_ns

    def test_far_ticks(self):
        """An event may have been written at any time."""
        log = read(log_event(part_a={"time": "?"}, ticks=2**62))
        assert 2**63 - 1 == log.time_ns
        assert 0 == read(log_event(part_a={"time": "?"}, ticks=0)).time_ns


class TestLogs:
    """Events with the type name `Log`."""

    def test_least(self):
        """What each has."""
        assert read(log_event()) == Log(
            time_ns=START_NS + 5 * 10**8,
            severity_number=9,
            severity_text="INFO",
            body="said",
            attributes=ORIGIN,
        )

    def test_everything(self):
        """What one may have."""
        log = read(
            log_event(
                part_a={"ext_dt": {"traceId": TRACE.upper(), "spanId": SPAN}},
                part_b={"eventId": 20, "name": "app:event"},
                part_c={"user": "x"},
                name="app:event",
            )
        )
        assert (TRACE, SPAN, "app:event") == (log.trace_id, log.span_id, log.event_name)
        assert {"event_id": 20, "user": "x", **ORIGIN} == log.attributes


class TestOthers:
    """What only looks like one."""

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"text": "x"},
            {"__csver__": 0x300},
            {"__csver__": 0x400},
            {"__csver__": 0x400, "PartA": 5, "PartB": {"_typeName": "Log"}},
            {"__csver__": 0x400, "PartA": {"time": ""}, "PartB": {"_typeName": "Request"}},
            {"__csver__": 0x400, "PartA": {"ext_dt": 5}, "PartB": {"_typeName": "Span"}},
        ],
    )
    def test_none(self, values):
        """An event of another form is neither span nor log record."""
        assert read(built("x", values)) is None

    def test_odd_parts(self):
        """What is of another type than it should be, says nothing."""
        values = {
            "__csver__": 0x400,
            "PartA": {"ext_dt": 5, "ext_cloud": 6, "time": 7},
            "PartB": {"_typeName": "Log", "severityNumber": "x"},
        }
        log = read(built("x", values))
        assert (0, None, {}, None) == (
            log.severity_number, log.trace_id, log.resource, log.body
        )  # fmt: skip


def point():
    """Make a request of OTLP with one point."""
    service = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    request = service.ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "shop.orders"
    metric.gauge.data_points.add().as_int = 3
    return request.SerializeToString()


class TestMetrics:
    """Events that hold OTLP's own bytes."""

    def test_known(self):
        """They are known by name, number and that they have no fields."""
        made = metrics_event(b"x")
        assert is_metrics(made, made.decode())
        assert not is_metrics(made._replace(id=80), made.decode())
        assert not is_metrics(event(payload=b"x\0", id=81), event(payload=b"x\0").decode())

    def test_points(self):
        """Each data point is what it says."""
        problems = []
        made = metrics_event(point())
        (found,) = Metrics(problems.append).points(made, made.decode())
        assert {"metric": "shop.orders", "kind": "gauge", "value": 3} == found
        assert [] == problems

    def test_damaged(self):
        """Of what cannot be decoded, the size is known; why is said each time."""
        pytest.importorskip("opentelemetry.proto")
        problems = []
        made = metrics_event(b"\xff\xff")
        metrics = Metrics(problems.append)
        assert [{"size_bytes": 2}] == metrics.points(made, made.decode())
        metrics.points(made, made.decode())
        assert 2 == len(problems)
        assert problems[0].startswith("an event of 2025-06-15T15:06:40.0000000Z: metrics must be")

    def test_package_is_missing(self, monkeypatch):
        """Without the package that decodes them, that is said once, with what to install."""
        monkeypatch.setitem(
            sys.modules, "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", None
        )
        problems = []
        made = metrics_event(b"\xff\xff")
        metrics = Metrics(problems.append)
        assert [{"size_bytes": 2}] * 2 == [*metrics.points(made, made.decode())] * 2
        metrics.points(made, made.decode())
        (problem,) = problems
        assert problem.startswith("Reading the metrics of OpenTelemetry in a trace needs the pack")
        assert problem.endswith("python -m pip install 'eliot-etw[otel]'")
