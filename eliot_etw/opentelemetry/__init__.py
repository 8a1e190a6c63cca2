"""OpenTelemetry and ETW: exporters of log records, metrics and spans to it, for any program.

A name is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from eliot_etw._late import late_names

if TYPE_CHECKING:
    from eliot_etw.opentelemetry.log_exporter import EtwLogExporter, EtwLogRecordProcessor

__all__ = [
    "EtwLogExporter",
    "EtwLogRecordProcessor",
]

_MODULES = {
    "EtwLogExporter": "log_exporter",
    "EtwLogRecordProcessor": "log_exporter",
}

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
