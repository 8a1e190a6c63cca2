"""Tests of the metrics of OpenTelemetry in traces."""

import pytest

from eliot_etw.sources._metrics import points_of

pytest.importorskip("opentelemetry.proto")
export = pytest.importorskip("opentelemetry.sdk.metrics.export")
encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.metrics_encoder")


@pytest.fixture
def points():
    """Return a function that gives what was recorded with instruments, decoded, by metric."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource

    view = View(instrument_name="exp", aggregation=ExponentialBucketHistogramAggregation())
    reader = export.InMemoryMetricReader()
    provider = MeterProvider([reader], Resource({"service.name": "shop"}), views=[view])

    def points(record):
        record(provider.get_meter("lib"))
        request = encoder.encode_metrics(reader.get_metrics_data())
        return {point["metric"]: point for point in points_of(request.SerializeToString())}

    return points


def test_counter(points):
    """A counter's point has its value, what it counts, and where it is from."""
    found = points(lambda meter: meter.create_counter("orders", unit="1").add(3, {"a": [1, "b"]}))
    point = found["orders"]
    assert point.pop("start") < point.pop("time")
    assert {
        "metric": "orders",
        "kind": "sum",
        "unit": "1",
        "monotonic": True,
        "temporality": "cumulative",
        "value": 3,
        "attributes": {"a": [1, "b"]},
        "scope": "lib",
        "resource": {"service.name": "shop"},
    } == point


def test_gauge(points):
    """A gauge has neither sum nor temporality."""
    point = points(lambda meter: meter.create_gauge("load").set(0.5))["load"]
    assert ("gauge", 0.5) == (point["kind"], point["value"])
    assert not {"temporality", "monotonic", "unit"} & point.keys()


def test_histogram(points):
    """A histogram has its buckets."""
    point = points(lambda meter: meter.create_histogram("took", "s").record(7.0))["took"]
    assert (1, 7.0, 7.0, 7.0) == tuple(point[key] for key in ("count", "sum", "min", "max"))
    assert len(point["bucket_counts"]) == len(point["explicit_bounds"]) + 1


def test_exponential_histogram(points):
    """One with exponential buckets has these in parts."""
    point = points(lambda meter: meter.create_histogram("exp").record(7.0))["exp"]
    assert "exponential_histogram" == point["kind"]
    assert [1] == point["positive"]["bucket_counts"]


def test_values():
    """Attributes may be of any type, and points many; what says nothing is left out."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

    request = metrics_service_pb2.ExportMetricsServiceRequest()
    part = request.resource_metrics.add().scope_metrics.add()
    part.metrics.add().name = "nothing"
    metric = part.metrics.add()
    metric.name = "load"
    for number in (float("nan"), 2.0):
        metric.gauge.data_points.add().as_double = number
    attributes = metric.gauge.data_points[0].attributes
    attributes.add().key = "none"
    attributes.add(key="bytes").value.bytes_value = b"\xff"
    attributes.add(key="map").value.kvlist_value.values.add(key="x").value.bool_value = True
    summary = part.metrics.add(name="sizes").summary.data_points.add()
    summary.quantile_values.add(quantile=0.5, value=7.0)
    said = {"none": None, "bytes": "ff", "map": {"x": True}}
    assert [
        {"metric": "load", "kind": "gauge", "value": "NaN", "attributes": said},
        {"metric": "load", "kind": "gauge", "value": 2.0},
        {
            "metric": "sizes",
            "kind": "summary",
            "quantile_values": [{"quantile": 0.5, "value": 7.0}],
        },
    ] == points_of(request.SerializeToString())


def test_damaged():
    """What is no request says so."""
    with pytest.raises(ValueError, match=r"metrics must be a request of OTLP, got b'\\xff'"):
        points_of(b"\xff")
