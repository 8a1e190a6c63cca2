"""Tests of OpenTelemetry's exporters on a Windows Python, of what arrives at Windows itself."""

import json
from uuid import UUID

import pytest

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.proto")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from eliot_etw.etw import provider_guid
from tests.opentelemetry._by_hand import UNSIGNED
from tests.windows.conftest import NOTIFY

PROGRAM = (
    NOTIFY
    + """
import json, os, sys
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from eliot_etw.opentelemetry import *

resource = Resource({"service.name": "shop"})
log_exporter = EtwLogExporter("App")
loggers = LoggerProvider(resource)
loggers.add_log_record_processor(EtwLogRecordProcessor(log_exporter))
log = loggers.get_logger("app")
span_exporter = EtwSpanExporter("App", activities=True)
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(EtwSpanProcessor(span_exporter))
tracer = tracers.get_tracer("app")
metric_exporter = EtwMetricExporter()
reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=float("inf"))
meters = MeterProvider([reader], resource)
counter = meters.get_meter("app").create_counter("orders")

def emit(text, number=SeverityNumber.INFO, **attributes):
    log.emit(timestamp=1795181013000000007, severity_number=number, body=text,
             attributes=attributes)

def told():
    print(json.dumps([log_exporter.stats(), span_exporter.stats(), metric_exporter.stats()]))
"""
)
# What Microsoft's encoder is given on that very Python, and recorded beside ours.
BY_HAND = f"""
import traceloggingdynamic
builder = traceloggingdynamic.EventBuilder()
builder.reset(b"Log", 4, 1)
builder.add_uint16(b"__csver__", 0x400, {UNSIGNED})
builder.add_struct(b"PartA", 2)
builder.add_struct(b"ext_cloud", 1)
builder.add_str8(b"role", "shop")
builder.add_str8(b"time", "2026-11-20T13:23:33.000000007Z")
builder.add_struct(b"PartC", 4)
builder.add_str8(b"greeting", "Grüße")
builder.add_int64(b"count", -5)
builder.add_float64(b"part", 0.5)
builder.add_bool32(b"good", 1)
builder.add_struct(b"PartB", 3)
builder.add_str8(b"_typeName", "Log")
builder.add_str8(b"body", "hello")
builder.add_int16(b"severityNumber", 9)
provider = traceloggingdynamic.Provider(b"App")
provider.write(builder)
"""


def fields(event):
    """Return the fields of an event."""
    return event.decode().as_dict()


def test_all_three(run):
    """Log records, spans and metrics arrive, each from its provider, and none is left over."""
    done = run(
        PROGRAM
        + """
with tracer.start_as_current_span("order", attributes={"customer": "C-17"}):
    emit("price found", total=59.9)
    counter.add(2, {"country": "FR"})
meters.force_flush()
told()
"""
    )
    start, log, stop, metric = done.events()
    assert ["App"] * 3 == [event.provider_name for event in (start, log, stop)]
    assert provider_guid("App") == log.provider_id == stop.provider_id
    assert UUID("EDC24920-E004-40F6-A8E1-0E6E48F39D84") == metric.provider_id
    assert {"total": 59.9} == fields(log)["PartC"]
    assert ("order", True) == (fields(stop)["PartB"]["name"], fields(stop)["PartB"]["success"])
    assert fields(log)["PartA"]["ext_dt"] == fields(stop)["PartA"]["ext_dt"]
    assert (81, 4, b"\x10\0\0otlp_metrics\0") == (metric.id, metric.level, metric.metadata)
    request = ExportMetricsServiceRequest.FromString(metric.payload)
    (sent,) = request.resource_metrics[0].scope_metrics[0].metrics
    assert ("orders", 2) == (sent.name, sent.sum.data_points[0].as_int)
    assert [1, 2, 1] == [stats["written"] for stats in done.lines()[0]]
    assert (0, True) == (done.status, done.is_balanced())


def test_same_as_microsofts(run):
    """An event is byte for byte that of Microsoft's encoder on the same Python."""
    done = run(
        PROGRAM
        + "\nemit('hello', greeting='Grüße', count=-5, part=0.5, good=True)\n"
        + "emit('hello', greeting='Grüße', count=-5, part=0.5, good=True)\n"
        + BY_HAND
    )
    one, two, theirs = done.events()
    for ours in (one, two):
        assert (theirs.metadata, theirs.payload) == (ours.metadata, ours.payload)
        assert (theirs.traits, theirs.level, theirs.keyword, theirs.channel) == (
            ours.traits,
            ours.level,
            ours.keyword,
            ours.channel,
        )


def test_activities(run):
    """Spans nest by the ids of their events."""
    done = run(
        PROGRAM
        + """
with tracer.start_as_current_span("outer"):
    with tracer.start_as_current_span("inner"):
        pass
"""
    )
    events = done.events()
    assert [1, 1, 2, 2] == [event.opcode for event in events]
    outer, inner = (event.activity_id for event in events[:2])
    assert [outer, inner, inner, outer] == [event.activity_id for event in events]
    assert [None, outer, None, None] == [event.related_activity_id for event in events]


def test_nobody_listens(run):
    """Nothing is written then."""
    done = run(
        PROGRAM
        + """
emit("unheard", SeverityNumber.FATAL)
with tracer.start_as_current_span("unheard"): pass
counter.add(1)
meters.force_flush()
print(json.dumps(log.enabled()))
""",
        level=-1,
    )
    assert (0, [], [False]) == (done.status, done.of("EventWriteTransfer"), done.lines())


def test_session_that_starts_and_stops(run):
    """A session may start and stop while the program runs."""
    done = run(
        PROGRAM
        + """
emit("before")
notify(1, 3, to_all=1)
emit("unheard")
emit("during", SeverityNumber.WARN)
notify(0, -1, to_all=1)
emit("after")
""",
        level=-1,
    )
    assert ["during"] == [fields(event)["PartB"]["body"] for event in done.events()]


def test_too_long(run):
    """What is too long for Windows is cut before."""
    done = run(PROGRAM + "\nemit('x' * 100_000, a='b')\ntold()")
    (event,) = done.events()
    assert {"PartB.body": 100_000} == json.loads(fields(event)["PartC"]["eliot:truncated"])
    assert 1 == done.lines()[0][0]["truncated"]


def test_refused(run):
    """What Windows refuses is counted by its code, and the program goes on."""
    done = run(PROGRAM + "\nemit('one'); emit('two'); told()", write_error=8)
    assert (0, 2) == (done.status, done.lines()[0][0]["failed_8"])


@pytest.mark.parametrize("end", ["", "os._exit(0)"])
def test_end(run, end):
    """However a program ends, it ends well, and leaves no registration unless it is killed."""
    done = run(PROGRAM + f"\nemit('one')\n{end}")
    assert (0, 1) == (done.status, len(done.events()))
    assert done.is_balanced() == ("_exit" not in end)
