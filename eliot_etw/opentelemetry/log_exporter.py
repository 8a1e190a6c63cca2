"""OpenTelemetry's log records as events of Event Tracing for Windows, or in a trace (`.etl`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import time_ns
from typing import Any, Final, final
from uuid import UUID

from eliot_etw._require import require
from eliot_etw.opentelemetry._common_schema import (
    CRITICAL,
    ERROR,
    INFO,
    KEYWORD,
    NO_ID,
    SPAN_BITS,
    UNFIT,
    VERBOSE,
    WARNING,
    Constant,
    Draft,
    FromAttribute,
    Int16,
    descriptor,
    is_plain,
)
from eliot_etw.opentelemetry._event_exporter import EventExporter, EventProcessor
from eliot_etw.opentelemetry._event_output import TraceFile
from eliot_etw.opentelemetry._schema_encoder import Encoded
from eliot_etw.otlp._common_schema import LOG

require("opentelemetry.sdk", feature="EtwLogExporter", extra="otel")

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

__all__ = ["EtwLogExporter", "EtwLogRecordProcessor"]

_NOTHING: Final[dict[str, Any]] = {}
_EVENT_ID: Final = "event_id"


def _level_of(severity: int) -> int:
    """Return the level for the number of a severity; 0 is none, and there are four of each."""
    levels = (VERBOSE, VERBOSE, INFO, WARNING, ERROR, CRITICAL)
    return levels[(severity - 1) // 4] if severity else VERBOSE


# By the number of the severity.
_LEVELS: Final = {number.value: _level_of(number.value) for number in SeverityNumber}
_DESCRIPTORS: Final = {number: descriptor(level) for number, level in _LEVELS.items()}
_UNSPECIFIED: Final = SeverityNumber.UNSPECIFIED


@final
class EtwLogExporter(EventExporter, LogRecordExporter):
    """Writes each log record as one event, as Common Schema 4.0 says.

    Give it to an `EtwLogRecordProcessor`, which does nothing while nobody listens, or to any
    other processor of the SDK.

    The level of an event is 1 for ``FATAL``, 2 ``ERROR``, 3 ``WARN``, 4 ``INFO``, 5 for what is
    below or has no severity. The keyword is 1.

    Nothing raises in the call that logs. What is too long for an event is cut, which the field
    ``eliot:truncated`` of PartC says; attributes for which there is no field are together in
    ``eliot:rest``. What is not taken is lost, and counted by `stats`.
    """

    def __init__(
        self,
        provider_name: str,
        *,
        file: TraceFile | None = None,
        group: UUID | str | None = None,
        event_name: str = LOG,
        uses_record_names: bool = False,
        resource_attributes: Iterable[str] = (),
    ) -> None:
        """Register a provider with Windows, or open a trace.

        Args:
            provider_name: What the provider is called; its GUID is made from that.
            file: Where to write if not to Windows: the path of a trace, usually ``*.etl``, which
                all exporters of this process that are given the same path share; or an
                `EtlFileDestination`, whose trace it shares and does not close.
            group: The GUID of a group of providers that it belongs to.
            event_name: What events are called.
            uses_record_names: Whether events of records that have an event name are called by it.
            resource_attributes: Names of attributes of the resource that PartC is to have. (The
                service's name and instance are in PartA.)

        Raises:
            OSError: If this is not Windows, Windows refuses to register the provider, or the
                trace cannot be written.
            TypeError: If `file` is none of these, or `resource_attributes` is one text.
            ValueError: If the name is none that all tools can work with, the group is no GUID, or
                a name cannot be that of an event or a field.
        """
        super().__init__(
            provider_name,
            file=file,
            group=group,
            event_name=event_name,
            resource_attributes=resource_attributes,
            is_c_first=True,
        )
        self._uses_record_names = uses_record_names

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write records, those that somebody wants.

        Returns:
            Whether all of them were taken; those that nobody wants count as taken.
        """
        taken = [self.write(record) for record in batch]
        return LogRecordExportResult.SUCCESS if all(taken) else LogRecordExportResult.FAILURE

    def write(self, record: ReadableLogRecord | ReadWriteLogRecord) -> bool:
        """Write a record, if somebody wants it; say whether it was taken. Never raises."""
        try:
            log = record.log_record
            severity = log.severity_number or _UNSPECIFIED
            # The attribute of enums that is none of Python's slow properties.
            number = severity._value_
            if not self._output.listener.is_enabled(_LEVELS[number], KEYWORD):
                return True
            time = log.timestamp or log.observed_timestamp or time_ns()
            metadata, payload = self._encode(log, number, time, record.resource)
        except Exception:  # noqa: BLE001 - a record may hold anything; logging must not raise
            self._errors.add()
            return False
        return self._output.write(time, _DESCRIPTORS[number], metadata, payload)

    def _encode(self, log: LogRecord, severity: int, time: int, resource: Any) -> Encoded:
        """Make the event of a record."""
        attributes = log.attributes
        items = (
            attributes.copy()
            if type(attributes) is BoundedAttributes
            else dict(attributes or _NOTHING)
        )
        body, text, name = log.body, log.severity_text, log.event_name or None
        event_name = name if name and self._uses_record_names else self._event_name
        trace_id, span_id = log.trace_id or NO_ID, log.span_id or NO_ID
        parts = self._parts
        if parts.resource is not resource:
            parts = self._parts = self._encoder.parts_of(resource)
        values = items.values()
        kind = body.__class__
        if kind is str and trace_id and text is not None and name is None:
            shape: tuple[Any, ...] = tuple(items)  # as most are: a shorter way to the same
        else:
            shape = (event_name, not trace_id, kind, text is None, name is None, *items)
        plan = parts.plans.get(shape)
        if plan is not None:
            try:
                return plan.metadata, plan.encode(
                    values, trace_id, span_id, time, body, severity, text, name
                )
            except UNFIT:
                pass  # this one is too long, or a number too large
        event_id = items.get(_EVENT_ID)
        is_id = type(event_id) is int and is_plain(event_id)
        part_b = {
            "_typeName": Constant(LOG),
            "body": body,
            "severityNumber": Int16(severity),
            "severityText": text,
            **({"eventId": FromAttribute(_EVENT_ID)} if is_id else {}),
            "name": name,
        }
        draft = Draft(event_name, trace_id, span_id & SPAN_BITS, time, part_b, items)
        return self._encoder.encode(draft, parts, shape, (body, severity, text, name))


@final
class EtwLogRecordProcessor(EventProcessor, LogRecordProcessor):
    """Hands each log record to an exporter at once, and does nothing while nobody listens.

    A record is written before the call that logs returns, which takes less time than to put it
    into a queue. Nothing is attached to the context: to write an event calls nothing that
    could be instrumented.
    """

    def __init__(self, exporter: EtwLogExporter) -> None:
        """Take the exporter, which is shut down with this."""
        super().__init__(exporter)
        self._write = exporter.write

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Write a record, if somebody wants it. Never raises."""
        if self._output.listener.level >= 0:
            self._write(log_record)

    def enabled(
        self,
        *,
        context: Context | None = None,
        instrumentation_scope: InstrumentationScope | None = None,
        severity_number: SeverityNumber | None = None,
        event_name: str | None = None,
    ) -> bool:
        """Say whether a record of that severity would be written."""
        listener = self._output.listener
        if severity_number is None:
            return listener.level >= 0
        return listener.is_enabled(_LEVELS[severity_number.value], KEYWORD)
