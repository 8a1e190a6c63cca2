"""Tests of reading messages back from traces."""

import io
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest

from eliot_etw.etw import EtlWriter, EventEncoder, Field, InType, OutType, Schema
from eliot_etw.exceptions import InvalidTrace
from eliot_etw.parse import Parser
from eliot_etw.sources import EtlSource, OtlpJsonSource, merge_by_time
from tests.etw._traces import CONTENTS, NOW, event, sample
from tests.sources._common_schema_events import (
    PARENT,
    TRACE,
    log_event,
    metrics_event,
    span_event,
)


def written(path, *events):
    """Write a trace."""
    with EtlWriter(path) as writer:
        for one in events:
            writer.write(one)
    return path


class TestSamples:
    """What Windows wrote."""

    @pytest.mark.parametrize("name", CONTENTS)
    def test_all_events(self, name):
        """Each event is a message, and what is left out is counted."""
        source = EtlSource(sample(name))
        count, skipped = CONTENTS[name]
        found = list(source)
        assert count == len(found)
        assert skipped == {kind: n for kind, n in source.skipped.items() if kind != "lost"}
        assert [] == source.problems
        assert found == list(source)

    def test_lost(self):
        """Events that were lost while they were recorded are counted."""
        source = EtlSource(sample("AMSITrace.etl"))
        list(source)
        assert 3 == source.skipped["lost"]

    def test_lost_buffers(self, tmp_path):
        """So are buffers, of which nobody knows how many events they had."""
        data = bytearray(Path(sample("AMSITrace.etl")).read_bytes())
        data[0x17C:0x180] = (7).to_bytes(4, "little")
        (tmp_path / "x.etl").write_bytes(data)
        source = EtlSource(tmp_path / "x.etl")
        list(source)
        assert 7 == source.skipped["lost_buffers"]


class TestFiles:
    """What is read from."""

    def test_open_file(self, tmp_path):
        """An open file is read too, and again from its start."""
        data = written(tmp_path / "x.etl", event(payload=b"x\0")).read_bytes()
        source = EtlSource(io.BytesIO(data), name="memory")
        assert "memory" == source.name
        assert ["x"] == [one["text"] for one in source] == [one["text"] for one in source]

    def test_name(self, tmp_path):
        """It is called what its path is."""
        assert str(tmp_path) == EtlSource(tmp_path).name

    def test_no_trace(self, tmp_path):
        """A file that is no trace raises when it is read, and one that is not there."""
        path = tmp_path / "x.etl"
        source = EtlSource(path)
        with pytest.raises(FileNotFoundError):
            list(source)
        path.write_bytes(b"{}\n" * 1000)
        with pytest.raises(InvalidTrace):
            list(source)


class TestDamage:
    """Events that cannot be read."""

    def test_fields(self, tmp_path):
        """An event whose fields do not fit is counted and said; the others are given."""
        path = written(tmp_path / "x.etl", event(payload=b"x\0"), event(NOW + 1))
        source = EtlSource(path)
        assert ["x"] == [one["text"] for one in source]
        assert 1 == source.skipped["damaged"]
        assert "2025-06-15T15:06:40.0000001Z: a payload must hold" in source.problems[0]

    def test_misplaced(self, tmp_path):
        """A message of ours whose place is none is counted, not given."""
        names = ("task_uuid", "task_level", "timestamp")
        fields = (
            *(Field(name, InType.ANSI, OutType.UTF8) for name in names[:2]),
            Field(names[2], InType.FLOAT64),
        )
        encoder = EventEncoder(Schema("t", fields))
        made = event(payload=encoder.payload(["x", "/0", 1.5]))._replace(metadata=encoder.metadata)
        source = EtlSource(written(tmp_path / "x.etl", made))
        assert [] == list(source)
        assert 1 == source.skipped["misplaced"]

    def test_counts_begin_anew(self, tmp_path):
        """Each iteration counts for itself, also one that is given up."""
        activity = UUID(int=1)
        path = written(tmp_path / "x.etl", event(), event(payload=b"x\0", activity_id=activity))
        source = EtlSource(path)
        for _ in range(2):
            iterator = iter(source)
            next(iterator)
            iterator.close()
            assert 1 == source.skipped["damaged"]


class TestOpenTelemetry:
    """What its exporters wrote, in whatever language."""

    def test_spans(self, tmp_path):
        """Spans are actions in one tree for each trace, log records messages in them, by time."""
        within = {"ext_dt": {"traceId": TRACE, "spanId": PARENT}}
        path = written(
            tmp_path / "x.etl",
            event(NOW - 10**6, payload=b"x\0"),
            log_event(part_a=within, part_c={"n": 1}, ticks=NOW + 2),
            span_event({"parentId": PARENT, "name": "inner"}, ticks=NOW + 10**7),
            span_event({"name": "outer", "startTime": "2025-06-15T15:06:39Z"}, span_id=PARENT,
                       part_a={"time": "2025-06-15T15:06:42Z"}, ticks=NOW + 2 * 10**7),
        )  # fmt: skip
        source = EtlSource(path)
        messages = list(source)
        assert messages == list(source)
        assert {} == +source.skipped - Counter(system=99)
        task = "5b8efff7-9803-8103-d269-b633813fc60c"
        assert [
            (task, [1], "outer"),
            (messages[1]["task_uuid"], [1], "an-event"),
            (task, [2, 1], "inner"),
            (task, [3], "otel:log"),
            (task, [2, 2], "inner"),
            (task, [4], "outer"),
        ] == [
            (m["task_uuid"], m["task_level"], m.get("action_type") or m["message_type"])
            for m in messages
        ]
        times = [message["timestamp"] for message in messages]
        assert sorted(times) == times
        assert ("Their-Provider", 1) == (messages[3]["etw:provider"], messages[3]["n"])

    def test_damaged(self, tmp_path):
        """One that is damaged is counted once."""
        made = span_event()
        path = written(tmp_path / "x.etl", made._replace(payload=made.payload[:-1]), log_event())
        source = EtlSource(path)
        assert 1 == len(list(source))
        assert 1 == source.skipped["damaged"]

    def test_metrics(self, tmp_path):
        """Each data point is a message; what cannot be decoded is one, too."""
        service = pytest.importorskip(
            "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"
        )
        request = service.ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="orders")
        for number in (1, 2):
            metric.gauge.data_points.add().as_int = number
        events = metrics_event(request.SerializeToString()), metrics_event(b"\xff", NOW + 1)
        source = EtlSource(written(tmp_path / "x.etl", *events))
        first, second, third = source
        assert ("orders", 1, [1]) == (first["message_type"], first["value"], first["task_level"])
        assert 2 == second["value"]
        assert first["task_uuid"] != second["task_uuid"]
        assert ("otlp_metrics", 1) == (third["message_type"], third["size_bytes"])
        (problem,) = source.problems
        assert "metrics must be a request of OTLP" in problem


class TestExporters:
    """Our own exporters for OpenTelemetry: what they wrote is read as what its SDK told."""

    @pytest.fixture(autouse=True)
    def sdk(self):
        """Skip where OpenTelemetry is not installed."""
        pytest.importorskip("opentelemetry.sdk")
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

    def traced(self, *exporters):
        """Run a small program that is instrumented."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import Link, SpanKind

        provider = TracerProvider(resource=Resource({"service.name": "shop"}))
        for exporter in exporters:
            provider.add_span_processor(exporter)
        tracer = provider.get_tracer("lib")
        with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            link = Link(outer.get_span_context())
            attributes = {"db.system.name": "sqlite", "n": 5, "list": [1, 2], "text": "é"}
            with tracer.start_as_current_span(
                "query", kind=SpanKind.CLIENT, attributes=attributes, links=[link]
            ) as query:
                query.add_event("found", {"rows": 3})
                self.context = query.get_span_context()
            with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("bad"):
                raise ValueError("no")
        provider.shutdown()

    @pytest.mark.parametrize("activities", [False, True])
    def test_spans(self, tmp_path, activities):
        """Spans come back with events, links, failures; each once, also if they are activities."""
        from eliot_etw.opentelemetry import EtwSpanExporter, EtwSpanProcessor

        path = tmp_path / "x.etl"
        self.traced(EtwSpanProcessor(EtwSpanExporter("Shop", file=path, activities=activities)))
        source = EtlSource(path)
        (task,) = Parser.parse_stream(source)
        assert task.is_complete()
        assert {} == {name: n for name, n in source.skipped.items() if name != "system"}
        outer = task.root()
        query, bad = outer.children
        assert ("outer", "query", "bad") == (outer.action_type, query.action_type, bad.action_type)
        start = query.start_message.contents
        assert ("sqlite", 5, [1, 2], "é") == tuple(
            start[name] for name in ("db.system.name", "n", "list", "text")
        )
        assert ("client", "Shop") == (start["otel:kind"], start["etw:provider"])
        (found,) = query.children
        assert ("found", 3) == (found.contents["message_type"], found.contents["rows"])
        assert ("failed", "ValueError", "no") == (bad.status, bad.exception, bad.reason)
        assert "Traceback" in bad.end_message.contents["traceback"]

    def test_same_as_otlp(self, tmp_path):
        """The tree is that of the file that OpenTelemetry's own exporter wrote."""
        exporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file.trace_exporter")
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        from eliot_etw.opentelemetry import EtwSpanExporter, EtwSpanProcessor

        etl, otlp = tmp_path / "x.etl", tmp_path / "x.json"
        self.traced(
            EtwSpanProcessor(EtwSpanExporter("Shop", file=etl)),
            SimpleSpanProcessor(exporter.FileSpanExporter(otlp)),
        )

        def told(source):
            # What only one of them has: where an event comes from, which library made a span.
            left_out = {"etw:provider", "etw:level", "etw:pid", "etw:tid", "otel:scope"}
            return [{k: v for k, v in one.items() if k not in left_out} for one in source]

        assert told(OtlpJsonSource(otlp)) == told(EtlSource(etl))
        assert 7 == len(told(merge_by_time([OtlpJsonSource(otlp), EtlSource(etl)])))

    def test_logs(self, tmp_path):
        """Log records are messages in their spans."""
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.sdk._logs import LoggerProvider

        from eliot_etw.opentelemetry import (
            EtwLogExporter,
            EtwLogRecordProcessor,
            EtwSpanExporter,
            EtwSpanProcessor,
        )

        path = tmp_path / "x.etl"
        logs = LoggerProvider()
        logs.add_log_record_processor(EtwLogRecordProcessor(EtwLogExporter("Shop", file=path)))
        self.traced(EtwSpanProcessor(EtwSpanExporter("Shop", file=path)))
        logs.get_logger("lib").emit(
            LogRecord(
                timestamp=1_750_000_000 * 10**9,
                trace_id=self.context.trace_id,
                span_id=self.context.span_id,
                trace_flags=self.context.trace_flags,
                severity_number=SeverityNumber.WARN,
                body="slow",
                attributes={"ms": 12, "nested": {"a": [1, None]}},
            )
        )
        logs.shutdown()
        (log,) = [one for one in EtlSource(path) if one.get("message_type") == "otel:log"]
        assert log["task_uuid"].replace("-", "") == f"{self.context.trace_id:032x}"
        assert 2 == log["task_level"][0]
        assert ("slow", "WARNING", 12, {"a": [1, None]}, 1_750_000_000.0) == tuple(
            log[name] for name in ("message", "log_level", "ms", "nested", "timestamp")
        )

    def test_metrics(self, tmp_path):
        """Data points are messages."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        from eliot_etw.opentelemetry import EtwMetricExporter

        path = tmp_path / "x.etl"
        reader = PeriodicExportingMetricReader(EtwMetricExporter(file=path), 1e9)
        provider = MeterProvider([reader])
        meter = provider.get_meter("lib")
        meter.create_counter("orders").add(3, {"country": "de"})
        meter.create_histogram("took", "s").record(0.5)
        provider.shutdown()
        orders, took = EtlSource(path)
        assert ("orders", 3, {"country": "de"}, "delta") == tuple(
            orders[name] for name in ("message_type", "value", "attributes", "temporality")
        )
        assert ("took", 1, 0.5, "s") == tuple(
            took[name] for name in ("message_type", "count", "sum", "unit")
        )
        assert "NativeMetricsExtension_Provider" == took["etw:provider"]
