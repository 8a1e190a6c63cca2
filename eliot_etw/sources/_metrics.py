"""Metrics of OpenTelemetry in traces: OTLP's own bytes, from Protocol Buffers to plain values.

Source:
    opentelemetry-proto: metrics/v1/metrics.proto, collector/metrics/v1/metrics_service.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from eliot_etw._require import require
from eliot_etw.etw._json_values import iso_time, json_value
from eliot_etw.etw._records import EPOCH

_KINDS: Final = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_TEMPORALITIES: Final = {1: "delta", 2: "cumulative"}
_NS_PER_TICK: Final = 100
# What a point's fields are called where their own names would say too much.
_NAMES: Final = {
    "as_int": "value",
    "as_double": "value",
    "start_time_unix_nano": "start",
    "time_unix_nano": "time",
}


def points_of(payload: bytes) -> list[dict[str, Any]]:
    """Decode a request of OTLP for metrics.

    Args:
        payload: An ``ExportMetricsServiceRequest``.

    Returns:
        One dict for each data point: ``metric``, its name; ``kind`` and ``unit``; ``value``, or
        what the kind has in its place (``count``, ``sum``, ``bucket_counts``, ...); ``start`` and
        ``time`` in ISO 8601; ``attributes``, ``scope`` and ``resource``. What is not said is left
        out, and so may be what is zero. All values are as JSON has them.

    Raises:
        MissingDependency: If opentelemetry-proto is not installed.
        ValueError: If the bytes are no such request.
    """
    service: Any = require(
        "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2",
        feature="Reading the metrics of OpenTelemetry in a trace",
        extra="otel",
    )
    request = service.ExportMetricsServiceRequest()
    try:
        request.ParseFromString(payload)
    except Exception as error:  # noqa: BLE001 - its DecodeError is in a package of its own
        msg = f"metrics must be a request of OTLP, got {payload[:20]!r} ({error})"
        raise ValueError(msg) from None
    return list(_points(request))


def _points(request: Any) -> Iterator[dict[str, Any]]:
    """Give each data point, with all that is said of it further out."""
    for group in request.resource_metrics:
        resource = _attributes(group.resource.attributes)
        for part in group.scope_metrics:
            origin = {"scope": part.scope.name, "resource": resource}
            for metric in part.metrics:
                for fields in _points_of_metric(metric):
                    yield fields | {name: value for name, value in origin.items() if value}


def _points_of_metric(metric: Any) -> Iterator[dict[str, Any]]:
    """Give the data points of a metric, with what is said of all of them."""
    kind = metric.WhichOneof("data")
    if kind not in _KINDS:
        return
    data = getattr(metric, kind)
    fields: dict[str, Any] = {"metric": metric.name, "kind": kind}
    if metric.unit:
        fields["unit"] = metric.unit
    if kind == "sum":
        fields["monotonic"] = data.is_monotonic
    temporality = _TEMPORALITIES.get(getattr(data, "aggregation_temporality", 0))
    if temporality:
        fields["temporality"] = temporality
    for point in data.data_points:
        yield fields | _fields(point)


def _fields(message: Any) -> dict[str, Any]:
    """Return what is said in a message of Protocol Buffers, by name."""
    return {
        _NAMES.get(field.name, field.name): _value(field.name, value)
        for field, value in message.ListFields()
    }


def _value(name: str, value: Any) -> Any:
    """Convert the value of a field to what JSON has."""
    if name.endswith("attributes"):
        return _attributes(value)
    if name.endswith("time_unix_nano"):
        return iso_time(EPOCH + value // _NS_PER_TICK) or value
    if hasattr(value, "ListFields"):
        return _fields(value)
    if isinstance(value, (str, bytes, int, float)):
        return json_value(value)
    return [_value(name, item) for item in value]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _any_value(pair.value) for pair in pairs}


def _any_value(value: Any) -> Any:
    """Convert the value of an attribute to what JSON has."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "array_value":
        return [_any_value(item) for item in found.values]
    if kind == "kvlist_value":
        return _attributes(found.values)
    return json_value(found)
