"""Tests of metrics as events that hold OTLP, with OpenTelemetry's SDK."""

import logging
import sys
from importlib import import_module
from uuid import UUID

import pytest

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.common")

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    InMemoryMetricReader,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from eliot_etw.etw import payload_limit_bytes, read_etl
from eliot_etw.exceptions import MissingDependency
from eliot_etw.opentelemetry import EtwMetricExporter
from eliot_etw.opentelemetry.metric_exporter import LONGEST_REQUEST_BYTES
from eliot_etw.testing import RecordingEtw
from tests.etw._schemas import PATIENT

DELTA = 1
RESOURCE = Resource({"service.name": "shop"}, "https://example.com/schema")
SCOPE = InstrumentationScope("app", "1.0")
SUCCESS, FAILURE = MetricExportResult.SUCCESS, MetricExportResult.FAILURE
EXPONENTIAL = {Histogram: ExponentialBucketHistogramAggregation()}


@pytest.fixture
def etw():
    """Return what stands in for Windows."""
    with RecordingEtw() as etw:
        yield etw


@pytest.fixture
def exporter(etw):
    """Return an exporter."""
    exporter = EtwMetricExporter(preferred_aggregation=EXPONENTIAL)
    yield exporter
    exporter.shutdown()


@pytest.fixture
def meters(exporter):
    """Return a provider of meters whose reader asks only when it is told to."""
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
    provider = MeterProvider(
        [reader],
        resource=RESOURCE,
        shutdown_on_exit=False,
        exemplar_filter=AlwaysOnExemplarFilter(),
    )
    yield provider
    provider.shutdown()


def requests(etw):
    """Return the requests that the events hold."""
    return [ExportMetricsServiceRequest.FromString(event.payload) for event in etw.events]


def the_metric(request):
    """Return the one metric of a request."""
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    (metric,) = scope.metrics
    return metric


def the_point(request):
    """Return the one data point of a request."""
    metric = the_metric(request)
    (point,) = getattr(metric, metric.WhichOneof("data")).data_points
    return point


def number(value, **attributes):
    """Make a data point."""
    return NumberDataPoint(attributes, 1, 2, value)


def data_of(*metrics):
    """Put metrics together as a reader does."""
    scopes = [ScopeMetrics(SCOPE, metrics, "")]
    return MetricsData([ResourceMetrics(RESOURCE, scopes, "")])


def gauge(*points, name="g"):
    """Make a metric."""
    return Metric(name, None, None, Gauge(points))


class TestEvent:
    """What each event is."""

    def test_header(self, etw, exporter):
        """Provider, event, id and level are those that agents listen to; there are no fields."""
        exporter.export(data_of(gauge(number(1))))
        (event,) = etw.events
        assert "NativeMetricsExtension_Provider" == event.provider_name
        assert UUID("EDC24920-E004-40F6-A8E1-0E6E48F39D84") == event.provider_id
        assert (81, 0, 4, 1, 11) == (
            event.id,
            event.version,
            event.level,
            event.keyword,
            event.channel,
        )
        assert b"\x10\0\0otlp_metrics\0" == event.metadata
        schema = event.decode().schema
        assert ("otlp_metrics", ()) == (schema.name, schema.fields)

    def test_request(self, etw, exporter):
        """A request is what the SDK's own encoder makes of that one data point."""
        points = [number(1, a="b"), number(2.5)]
        exporter.export(data_of(gauge(*points), gauge(points[0], name="h")))
        expected = [
            encode_metrics(data_of(gauge(points[0]))),
            encode_metrics(data_of(gauge(points[1]))),
            encode_metrics(data_of(gauge(points[0], name="h"))),
        ]
        assert expected == requests(etw)

    def test_resources_and_scopes(self, etw, exporter):
        """Each metric has its own resource and scope."""
        every = [
            ResourceMetrics(
                Resource({"n": resource}),
                [
                    ScopeMetrics(InstrumentationScope(f"scope{scope}"), [gauge(number(1))], "")
                    for scope in range(2)
                ],
                "",
            )
            for resource in range(2)
        ]
        exporter.export(MetricsData(every))
        found = [
            (
                request.resource_metrics[0].resource.attributes[0].value.int_value,
                request.resource_metrics[0].scope_metrics[0].scope.name,
            )
            for request in requests(etw)
        ]
        assert [(0, "scope0"), (0, "scope1"), (1, "scope0"), (1, "scope1")] == found

    @PATIENT
    @given(
        st.lists(
            st.tuples(
                st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
                st.dictionaries(st.text(min_size=1), st.text() | st.integers(0, 9), max_size=3),
            ),
            max_size=10,
        )
    )
    def test_any_points(self, points):
        """The points of a metric come out one by one, as they were."""
        metric = gauge(*[NumberDataPoint(attributes, 1, 2, v) for v, attributes in points])
        with RecordingEtw() as etw:
            exporter = EtwMetricExporter()
            assert SUCCESS == exporter.export(data_of(metric))
            exporter.shutdown()
        whole = encode_metrics(data_of(metric)) if points else None
        expected = [] if whole is None else [*the_metric(whole).gauge.data_points]
        assert expected == [the_point(request) for request in requests(etw)]


class TestInstruments:
    """Each instrument and each kind of data point of the SDK."""

    def test_delta(self, etw, meters):
        """Sums and histograms say what has changed since the time before."""
        meter = meters.get_meter("app")
        counter, up_down = meter.create_counter("c"), meter.create_up_down_counter("u")
        histogram = meter.create_histogram("h")
        totals = iter([10, 25, 25])
        meter.create_observable_counter("oc", [lambda _: [Observation(next(totals))]])
        levels = iter([4, 1, 1])
        meter.create_observable_up_down_counter("ou", [lambda _: [Observation(next(levels))]])
        for amount in (1, 2):
            counter.add(amount)
            up_down.add(-amount)
            histogram.record(amount)
            meters.force_flush()
        found = {}
        for request in requests(etw):
            metric = the_metric(request)
            data = getattr(metric, metric.WhichOneof("data"))
            assert DELTA == data.aggregation_temporality
            point = the_point(request)
            found.setdefault(metric.name, []).append(
                point.as_int if metric.HasField("sum") else point.sum
            )
        assert {"c": [1, 2], "u": [-1, -2], "h": [1, 2], "oc": [10, 15], "ou": [4, -3]} == found

    def test_gauges(self, etw, meters):
        """A gauge says what there is."""
        meter = meters.get_meter("app")
        meter.create_gauge("g", unit="s", description="how long").set(1.5)
        meter.create_observable_gauge("og", [lambda _: [Observation(2, {"a": True})]])
        meters.force_flush()
        one, two = requests(etw)
        assert ("g", "s", "how long") == (
            the_metric(one).name,
            the_metric(one).unit,
            the_metric(one).description,
        )
        assert (1.5, 2) == (the_point(one).as_double, the_point(two).as_int)
        assert the_point(two).attributes[0].value.bool_value is True

    def test_exponential_histogram(self, etw, meters):
        """An exponential histogram has its scale and its buckets on both sides."""
        histogram = meters.get_meter("app").create_histogram("h")
        for value in (0, 1.5, 3, 100, -2):
            histogram.record(value)
        meters.force_flush()
        point = the_point(requests(etw)[0])
        # The SDK takes no negative values.
        assert (4, 1, 104.5) == (point.count, point.zero_count, point.sum)
        assert (3, 0) == (sum(point.positive.bucket_counts), sum(point.negative.bucket_counts))

    def test_explicit_histogram(self, etw):
        """A histogram with fixed bounds has its buckets."""
        exporter = EtwMetricExporter()
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
        meters = MeterProvider([reader], shutdown_on_exit=False)
        histogram = meters.get_meter("app").create_histogram(
            "h", explicit_bucket_boundaries_advisory=[1, 10]
        )
        for value in (0.5, 5, 50, 60):
            histogram.record(value)
        meters.force_flush()
        point = the_point(requests(etw)[0])
        assert ([1, 1, 2], [1, 10]) == ([*point.bucket_counts], [*point.explicit_bounds])
        assert (0.5, 60) == (point.min, point.max)
        meters.shutdown()

    def test_exemplars(self, etw, meters):
        """A data point has the exemplars that the SDK took, with their span."""
        counter = meters.get_meter("app").create_counter("c")
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
        with tracer.start_as_current_span("one") as span:
            counter.add(3)
        meters.force_flush()
        (exemplar,) = the_point(requests(etw)[0]).exemplars
        assert (3, span.get_span_context().span_id.to_bytes(8, "big")) == (
            exemplar.as_int,
            exemplar.span_id,
        )

    def test_same_as_read_otherwise(self, etw, meters):
        """All data points together are what another reader of the same measurements gets."""
        reader = InMemoryMetricReader()
        others = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
        for provider in (meters, others):
            counter = provider.get_meter("app").create_counter("c")
            for place in range(5):
                counter.add(place, {"place": place})
        meters.force_flush()
        data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data
        expected = [(point.attributes["place"], point.value) for point in data.data_points]
        points = [the_point(request) for request in requests(etw)]
        assert expected == [(p.attributes[0].value.int_value, p.as_int) for p in points]
        others.shutdown()


class TestLimits:
    """What is not written, and who is told."""

    def test_room(self):
        """The longest request fits an event."""
        with RecordingEtw() as etw:
            exporter = EtwMetricExporter()
            exporter.export(data_of(gauge(number(1))))
            exporter.shutdown()
        (event,) = etw.events
        limit = payload_limit_bytes(event.metadata, event.traits, has_related_activity=False)
        assert LONGEST_REQUEST_BYTES == 65_360 <= limit

    def test_too_long(self, etw, exporter, caplog):
        """What is longer is left out, counted, and warned of once; others are written."""
        size = len(encode_metrics(data_of(gauge(number(1, a="x" * 60_000)))).SerializeToString())
        fits = "x" * (60_000 + LONGEST_REQUEST_BYTES - size)
        points = [number(1, a=fits + "x"), number(2, a=fits), number(3, a=fits * 2)]
        assert FAILURE == exporter.export(data_of(gauge(*points)))
        assert [2] == [the_point(request).as_int for request in requests(etw)]
        assert (1, 2) == (exporter.stats()["written"], exporter.stats()["too_long"])
        (warning,) = caplog.records
        assert (logging.WARNING, "eliot_etw.opentelemetry.metric_exporter") == (
            warning.levelno,
            warning.name,
        )
        assert "'g' has 65361 bytes" in warning.getMessage()

    @pytest.mark.parametrize(
        "bad", [Metric("bad", None, None, object()), gauge(number("x"), name="bad")]
    )
    def test_cannot_be_encoded(self, etw, exporter, caplog, bad):
        """A metric that cannot be encoded is counted, and warned of once; others are written."""
        caplog.set_level(logging.WARNING, "eliot_etw")
        assert FAILURE == exporter.export(data_of(bad, gauge(number(1)), bad))
        assert (1, 2) == (len(etw.events), exporter.stats()["errors"])
        ours = [r for r in caplog.records if r.name.startswith("eliot_etw")]
        assert ["bad" in record.getMessage() for record in ours] == [True]

    def test_nobody_listens(self, etw, exporter, monkeypatch):
        """Nothing is encoded then, which is no failure."""
        etw.enable(level=3)
        monkeypatch.setattr("eliot_etw.opentelemetry.metric_exporter.encode_metrics", None)
        assert SUCCESS == exporter.export(data_of(gauge(number(1))))
        assert (0, 0) == (etw.unwanted, exporter.stats()["errors"])

    def test_refused(self, etw, exporter):
        """What Windows refuses is counted by its code."""
        etw.fail_writes(8)
        assert FAILURE == exporter.export(data_of(gauge(number(1), number(2))))
        assert 2 == exporter.stats()["failed_8"]

    def test_shutdown(self, etw, exporter):
        """After it data points are refused, and counted; it may be called twice."""
        exporter.shutdown(timeout_millis=5, other=1)
        exporter.shutdown()
        assert FAILURE == exporter.export(data_of(gauge(number(1))), timeout_millis=5)
        assert ([], 1) == (etw.registered, exporter.stats()["after_close"])
        assert exporter.force_flush()

    def test_no_points(self, etw, exporter):
        """Without metrics nothing is written, which is no failure."""
        assert SUCCESS == exporter.export(MetricsData([]))
        assert SUCCESS == exporter.export(data_of(gauge()))
        assert [] == etw.events

    @pytest.mark.parametrize(
        "missing", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common"]
    )
    def test_no_package(self, monkeypatch, missing):
        """Without the packages it is said what to install."""
        monkeypatch.setitem(sys.modules, missing, None)
        monkeypatch.delitem(sys.modules, "eliot_etw.opentelemetry.metric_exporter")
        with pytest.raises(MissingDependency, match=r"EtwMetricExporter needs .*eliot-etw\[otel"):
            import_module("eliot_etw.opentelemetry.metric_exporter")


def test_trace(tmp_path):
    """In a trace a data point happens when it was taken."""
    exporter = EtwMetricExporter(file=tmp_path / "a.etl")
    time = 1_795_181_013_000_000_000
    exporter.export(data_of(gauge(NumberDataPoint({}, 1, time, 5))))
    exporter.shutdown()
    (event,) = read_etl(tmp_path / "a.etl")
    assert (time / 1e9, 81) == (event.timestamp, event.id)
    assert 5 == the_point(ExportMetricsServiceRequest.FromString(event.payload)).as_int
