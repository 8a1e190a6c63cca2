"""OpenTelemetry: its spans and log records in our tree, and exporters of what it has to ETW.

A name is imported when it is first asked for. OpenTelemetry is a package of its own:
``python -m pip install 'eliot-etw[otel]'``.
"""

from typing import TYPE_CHECKING

from eliot_etw._late import late_names

if TYPE_CHECKING:
    from eliot_etw.opentelemetry.log_exporter import EtwLogExporter, EtwLogRecordProcessor
    from eliot_etw.opentelemetry.log_record_processor import EliotLogRecordProcessor
    from eliot_etw.opentelemetry.metric_exporter import EtwMetricExporter
    from eliot_etw.opentelemetry.propagator import EliotPropagator
    from eliot_etw.opentelemetry.span_exporter import EtwSpanExporter, EtwSpanProcessor
    from eliot_etw.opentelemetry.span_processor import EliotSpanProcessor

__all__ = [
    "EliotLogRecordProcessor",
    "EliotPropagator",
    "EliotSpanProcessor",
    "EtwLogExporter",
    "EtwLogRecordProcessor",
    "EtwMetricExporter",
    "EtwSpanExporter",
    "EtwSpanProcessor",
]

_MODULES = {
    "EliotLogRecordProcessor": "log_record_processor",
    "EliotPropagator": "propagator",
    "EliotSpanProcessor": "span_processor",
    "EtwLogExporter": "log_exporter",
    "EtwLogRecordProcessor": "log_exporter",
    "EtwMetricExporter": "metric_exporter",
    "EtwSpanExporter": "span_exporter",
    "EtwSpanProcessor": "span_exporter",
}

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
