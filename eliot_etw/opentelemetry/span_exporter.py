"""OpenTelemetry's spans as events of Event Tracing for Windows, or in a trace (`.etl`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from time import time_ns
from typing import Any, Final, cast, final
from uuid import UUID

from eliot_etw._require import require
from eliot_etw._safe import name_beside
from eliot_etw.etw._activity import activity_id
from eliot_etw.opentelemetry._common_schema import (
    ID_BYTES,
    KEYWORD,
    NO_ID,
    SPAN_BITS,
    UNFIT,
    VERBOSE,
    Boolean8,
    Constant,
    Draft,
    FromAttribute,
    Json,
    Ready,
    UInt8,
    descriptor,
    head_bytes,
    json_text,
    time_bytes,
    time_text,
)
from eliot_etw.opentelemetry._event_exporter import EventExporter
from eliot_etw.opentelemetry._event_output import TraceFile
from eliot_etw.opentelemetry._schema_encoder import Encoded

require("opentelemetry.sdk", feature="EtwSpanExporter", extra="otel")

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

__all__ = ["EtwSpanExporter", "EtwSpanProcessor"]

_TYPE_NAME: Final = Constant("Span")
_START_NAME: Final = Constant("SpanStart")
_EVENTS: Final = "eliot:events"
_START, _STOP = 1, 2
_PLAIN: Final = descriptor(VERBOSE)
_STARTED: Final = descriptor(VERBOSE, _START)
_STOPPED: Final = descriptor(VERBOSE, _STOP)

# Where a context, which is a tuple, has them: the properties take thrice the time.
_TRACE_ID, _SPAN_ID, _FLAGS = 0, 1, 3
_SAMPLED: Final = TraceFlags.SAMPLED
_ERROR: Final = StatusCode.ERROR

# Attributes that have fields of PartB, in the order of these.
_WELL_KNOWN: Final = {
    "db.system.name": "dbSystem",
    "db.namespace": "dbName",
    "db.query.text": "dbStatement",
    "http.request.method": "httpMethod",
    "url.full": "httpUrl",
    "http.response.status_code": "httpStatusCode",
    "messaging.system": "messagingSystem",
    "messaging.destination.name": "messagingDestination",
    "messaging.url": "messagingUrl",
    "rpc.system.name": "rpcSystem",
    "rpc.response.status_code": "rpcGrpcStatusCode",
}


@final
class EtwSpanExporter(EventExporter, SpanExporter):
    """Writes each span as one event when it has ended, as Common Schema 4.0 says.

    Give it to an `EtwSpanProcessor`, which does nothing while nobody listens, or to any other
    processor of the SDK. The level of an event is 5, and the keyword 1.

    With `activities`, the events have opcodes and activity ids, so that PerfView draws spans
    within one another: then a span is two events, and the one of its start is written by an
    `EtwSpanProcessor` only.

    Nothing raises in the program. What is too long for an event is cut, which the field
    ``eliot:truncated`` of PartC says; attributes for which there is no field are together in
    ``eliot:rest``. What is not taken is lost, and counted by `stats`.
    """

    def __init__(
        self,
        provider_name: str,
        *,
        file: TraceFile | None = None,
        group: UUID | str | None = None,
        event_name: str = _TYPE_NAME,
        resource_attributes: Iterable[str] = (),
        activities: bool = False,
    ) -> None:
        """Register a provider with Windows, or open a trace.

        Args:
            provider_name: What the provider is called; its GUID is made from that.
            file: Where to write if not to Windows: the path of a trace, usually ``*.etl``, which
                all exporters of this process that are given the same path share; or an
                `EtlFileDestination`, whose trace it shares and does not close.
            group: The GUID of a group of providers that it belongs to.
            event_name: What events are called.
            resource_attributes: Names of attributes of the resource that PartC is to have. (The
                service's name and instance are in PartA.)
            activities: Whether events are starts and stops of activities.

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
            is_c_first=False,
        )
        self.activities = activities

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write spans, if somebody wants them.

        Returns:
            Whether all of them were taken; those that nobody wants count as taken.
        """
        taken = [self.write(span) for span in spans]
        return SpanExportResult.SUCCESS if all(taken) else SpanExportResult.FAILURE

    def write(self, span: ReadableSpan) -> bool:
        """Write a span that has ended, if somebody wants it; say whether it was taken.

        Never raises.
        """
        if not self._output.listener.is_enabled(VERBOSE, KEYWORD):
            return True
        try:
            time = span.end_time or span.start_time or time_ns()
            metadata, payload = self._encode(span, time)
            if not self.activities:
                return self._output.write(time, _PLAIN, metadata, payload)
            activity = _activity_of(span.context)
        except Exception:  # noqa: BLE001 - a span may hold anything; the program goes on
            self._errors.add()
            return False
        return self._output.write(time, _STOPPED, metadata, payload, activity)

    def write_start(self, span: ReadableSpan) -> bool:
        """Write that a span has started, if somebody wants it; say whether it was taken.

        Never raises.
        """
        if not self._output.listener.is_enabled(VERBOSE, KEYWORD):
            return True
        try:
            time = span.start_time or time_ns()
            metadata, payload = self._encode_start(span, time)
            activity = _activity_of(span.context)
            related = None if span.parent is None else _activity_of(span.parent)
        except Exception:  # noqa: BLE001 - see above
            self._errors.add()
            return False
        return self._output.write(time, _STARTED, metadata, payload, activity, related)

    def _encode(self, span: ReadableSpan, time: int) -> Encoded:
        """Make the event of a span that has ended."""
        items, links = _attributes_of(span), span.links if getattr(span, "_links", True) else ()
        context, parent, status = span.context, span.parent, span.status
        start, message = span.start_time or time, status.description or None
        parts = self._parts
        if parts.resource is not span.resource:
            parts = self._parts = self._encoder.parts_of(span.resource)
        head = head_bytes(context[_TRACE_ID], context[_SPAN_ID], parts.cloud, time)
        values = items.values()
        name, kind, success = span.name, span.kind._value_, status.status_code is not _ERROR
        parent_id = None if parent is None else ID_BYTES % (parent.span_id & SPAN_BITS)
        links_text = _links_text(links) if links else None
        shape = (parent is None, not links, message is None, *items)
        plan = parts.plans.get(shape)
        if plan is not None:
            try:
                return plan.metadata, plan.encode(
                    head, values, name, kind, time_bytes(start), parent_id, links_text, message,
                    success,
                )  # fmt: skip
            except UNFIT:
                pass  # this one is too long, or a number too large
        known = {field: name for name, field in _WELL_KNOWN.items() if name in items}
        part_b = {
            **_part_b(span, _TYPE_NAME, start),
            "links": links_text,
            "statusMessage": message,
            **{field: FromAttribute(name) for field, name in known.items()},
            "success": Boolean8(success),
        }
        draft = Draft(self._event_name, head, context.trace_id != NO_ID, part_b, items)
        own = name, kind, time_bytes(start), parent_id, links_text, message, success
        return self._encoder.encode(draft, parts, shape, own)

    def _encode_start(self, span: ReadableSpan, time: int) -> Encoded:
        """Make the event of a span that has started."""
        context, parent = span.context, span.parent
        parts = self._encoder.parts_of(span.resource)
        head = head_bytes(context.trace_id, context.span_id, parts.cloud, time)
        parent_id = None if parent is None else ID_BYTES % (parent.span_id & SPAN_BITS)
        own = span.name, span.kind._value_, time_bytes(time), parent_id
        shape = (_START_NAME, parent is None)
        plan = parts.plans.get(shape)
        if plan is not None:
            try:
                return plan.metadata, plan.encode(head, (), *own)
            except UNFIT:
                pass  # its name is too long
        part_b = _part_b(span, _START_NAME, time)
        draft = Draft(self._event_name, head, context.trace_id != NO_ID, part_b, {})
        return self._encoder.encode(draft, parts, shape, own)


def _part_b(span: ReadableSpan, type_name: Constant, start: int) -> dict[str, Any]:
    """Return what is said of a span before its end and after it."""
    parent = span.parent
    return {
        "_typeName": type_name,
        "name": span.name,
        "kind": UInt8(span.kind._value_),
        "startTime": Ready(time_text(start)),
        "parentId": None if parent is None else Ready(f"{parent.span_id & SPAN_BITS:016x}"),
    }


# The SDK's own properties copy attributes, events and links, which takes a quarter of the time; so
# they are asked for only if there is something in them, or no such attribute.


def _attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of a span, and in one more its events."""
    given = getattr(span, "_attributes", span)
    if type(given) is BoundedAttributes:
        items = cast("dict[str, Any]", given.copy())
    else:
        items = dict(span.attributes or ())
    if getattr(span, "_events", True):
        events = span.events
        if events:
            items[name_beside(_EVENTS, items)] = Json(json_text([*map(_event, events)]))
    return items


def _event(event: Event) -> dict[str, Any]:
    """Return what is said of an event of a span."""
    told: dict[str, Any] = {"name": event.name, "time": time_text(event.timestamp)}
    if event.attributes:
        told["attributes"] = dict(event.attributes)
    return told


def _links_text(links: Iterable[Link]) -> str:
    """Write the links of a span as JSON."""
    return json_text([
        {
            "toTraceId": f"{link.context.trace_id:032x}",
            "toSpanId": f"{link.context.span_id:016x}",
        }
        for link in links
    ])  # fmt: skip


def _activity_of(context: SpanContext) -> bytes:
    """Return the activity id of a span: of the form that PerfView draws."""
    return activity_id(f"{context.trace_id:032x}", (context.span_id,), os.getpid())


@final
class EtwSpanProcessor(SpanProcessor):
    """Hands each span to an exporter at once, and does nothing while nobody listens.

    A span is written before the call that ends it returns, which takes less time than to put it
    into a queue. Spans that are not sampled are left out.
    """

    def __init__(self, exporter: EtwSpanExporter) -> None:
        """Take the exporter, which is shut down with this."""
        self._exporter = exporter
        self._output = exporter._output
        self._write = exporter.write
        if exporter.activities:  # else what the SDK has, which does nothing
            self.on_start = self._on_start  # type: ignore[method-assign] # an attribute is quicker

    def _on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Write that a span has started, if somebody wants it. Never raises."""
        if self._output.listener.level >= VERBOSE and span.get_span_context().trace_flags.sampled:
            self._exporter.write_start(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Write a span that has ended, if somebody wants it. Never raises."""
        if self._output.listener.level >= VERBOSE:
            context = span.context
            if context is not None and context[_FLAGS] & _SAMPLED:
                self._write(span)

    def shutdown(self) -> None:
        """Shut down the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)
