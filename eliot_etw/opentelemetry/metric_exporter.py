"""OpenTelemetry's metrics as events of Event Tracing for Windows, or in a trace (`.etl`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from time import time_ns
from typing import Any, Final, final
from uuid import UUID

from eliot_etw._counter import Counter
from eliot_etw._require import require
from eliot_etw.etw._schema import Schema, encode_metadata
from eliot_etw.opentelemetry._common_schema import INFO, KEYWORD, descriptor
from eliot_etw.opentelemetry._event_output import TraceFile, open_output

require("opentelemetry.sdk", feature="EtwMetricExporter", extra="otel")
require("opentelemetry.exporter.otlp.proto.common", feature="EtwMetricExporter", extra="otel")

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import (
    Counter as CounterInstrument,
)
from opentelemetry.sdk.metrics import (
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
    _Gauge,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import Aggregation

__all__ = ["EtwMetricExporter"]

_PROVIDER: Final = "NativeMetricsExtension_Provider"
_GUID: Final = UUID("EDC24920-E004-40F6-A8E1-0E6E48F39D84")
_DESCRIPTOR: Final = descriptor(INFO, event_id=81)
# There are no fields: what follows is the message of protobuf, and nothing else.
_METADATA: Final = encode_metadata(Schema("otlp_metrics"))
LONGEST_REQUEST_BYTES = 65_360
"""A longer request is not written; events have room for little more."""

_DELTA: Final[dict[type, AggregationTemporality]] = dict.fromkeys(
    (
        CounterInstrument,
        UpDownCounter,
        Histogram,
        ObservableCounter,
        ObservableUpDownCounter,
        ObservableGauge,
        _Gauge,
    ),
    AggregationTemporality.DELTA,
)

_logger = logging.getLogger(__name__)


@final
class EtwMetricExporter(MetricExporter):
    """Writes each data point as one event, a request of OTLP with nothing else in it.

    Give it to a ``PeriodicExportingMetricReader`` of the SDK. Provider, event and temporality
    are those that agents on Windows listen to: ``NativeMetricsExtension_Provider`` with the GUID
    ``EDC24920-E004-40F6-A8E1-0E6E48F39D84``, ``otlp_metrics`` with the id 81, and delta: each
    data point says what has changed since the one before.

    Nothing raises. A data point of more than 65,360 bytes is not written: a warning says so the
    first time, and it is counted, as is all that is not taken.
    """

    def __init__(
        self,
        *,
        file: TraceFile | None = None,
        preferred_aggregation: Mapping[type, Aggregation] | None = None,
    ) -> None:
        """Register the provider with Windows, or open a trace.

        Args:
            file: Where to write if not to Windows: the path of a trace, usually ``*.etl``, which
                all exporters of this process that are given the same path share; or an
                `EtlFileDestination`, whose trace it shares and does not close.
            preferred_aggregation: By kind of instrument, how measurements are put together:
                exponential histograms, for example.

        Raises:
            OSError: If this is not Windows, Windows refuses to register the provider, or the
                trace cannot be written.
            TypeError: If `file` is none of these.
        """
        super().__init__({**_DELTA}, dict(preferred_aggregation or {}))
        self._too_long = Counter()
        self._errors = Counter()
        self._warned: set[str] = set()
        self._output = open_output(_PROVIDER, guid=_GUID, file=file)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        """Write the data points, if somebody wants them.

        Args:
            metrics_data: What the reader has collected.
            timeout_millis: Is not needed: nothing here waits for anybody.

        Returns:
            Whether all of them were taken; those that nobody wants count as taken.
        """
        if not self._output.listener.is_enabled(INFO, KEYWORD):
            return MetricExportResult.SUCCESS
        is_good = True
        for metric, alone in _each_metric(metrics_data):
            name = metric.name
            try:
                requests = [*_requests(metric, alone)]
            except Exception as error:  # noqa: BLE001 - a metric may hold anything
                self._errors.add()
                self._warn("cannot be encoded", f"The metric {name!r} is left out: {error!r:.500}")
                is_good = False
                continue
            taken = [self._write(name, time, request) for time, request in requests]
            is_good &= all(taken)
        return MetricExportResult.SUCCESS if is_good else MetricExportResult.FAILURE

    def _write(self, name: str, time: int, request: bytes) -> bool:
        """Write a data point; say whether it was taken."""
        if len(request) > LONGEST_REQUEST_BYTES:
            self._too_long.add()
            self._warn(
                "too long",
                f"A data point of the metric {name!r} has {len(request)} bytes, more than the "
                f"{LONGEST_REQUEST_BYTES} that fit an event, and is left out. Give it fewer or "
                "shorter attributes, or fewer buckets.",
            )
            return False
        return self._output.write(time, _DESCRIPTOR, _METADATA, request)

    def _warn(self, kind: str, text: str) -> None:
        """Warn, once for each kind of trouble: counts tell the rest."""
        if kind not in self._warned:
            self._warned.add(kind)
            _logger.warning("%s", text)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Hand to the operating system what waits for a trace; say whether it took all.

        Args:
            timeout_millis: Is not needed: nothing here waits for anybody.
        """
        return self._output.flush()

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Take no more: end the registration, or finish the trace. May be called twice."""
        self._output.close()

    def stats(self) -> dict[str, int]:
        """Count data points since the start, but for those that nobody wanted.

        Returns:
            ``written``: what Windows, or the trace, took; ``failed``: what it refused, and the
            same by Windows's error code, such as ``failed_8``; ``after_close``: what came too
            late; ``too_long``: what did not fit an event; ``errors``: metrics that could not be
            encoded.
        """
        return {
            **self._output.stats(),
            "too_long": self._too_long.value,
            "errors": self._errors.value,
        }


def _each_metric(data: MetricsData) -> Iterator[tuple[Metric, MetricsData]]:
    """Give each metric, and what a reader would have if there was no other."""
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield metric, _alone(metric, scope, resource)


def _alone(metric: Metric, scope: ScopeMetrics, resource: ResourceMetrics) -> MetricsData:
    of_scope = ScopeMetrics(scope.scope, [metric], scope.schema_url)
    return MetricsData([ResourceMetrics(resource.resource, [of_scope], resource.schema_url)])


def _requests(metric: Metric, alone: MetricsData) -> Iterator[tuple[int, bytes]]:
    """Encode a metric: one request for each data point, with its time in ns since 1970."""
    if not metric.data.data_points:
        return
    request = encode_metrics(alone)
    encoded = request.resource_metrics[0].scope_metrics[0].metrics[0]
    kind = encoded.WhichOneof("data")
    if kind is None:
        msg = f"it must be of a kind that OTLP knows, got {encoded}"
        raise TypeError(msg)
    points = getattr(encoded, kind).data_points
    whole = [*points]
    for point in whole:
        del points[:]
        points.append(point)
        yield point.time_unix_nano or time_ns(), request.SerializeToString()
