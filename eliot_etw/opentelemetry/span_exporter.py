"""OpenTelemetry's spans as events of Event Tracing for Windows, or in a trace (`.etl`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from time import time_ns
from typing import Any, Final, final
from uuid import UUID

from eliot_etw._require import require
from eliot_etw._safe import name_beside
from eliot_etw.etw._activity import activity_id
from eliot_etw.opentelemetry._common_schema import (
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
    SpanId,
    Time,
    UInt8,
    descriptor,
    id_text,
    json_text,
    time_text,
)
from eliot_etw.opentelemetry._event_exporter import EventExporter, EventProcessor
from eliot_etw.opentelemetry._event_output import TraceFile
from eliot_etw.opentelemetry._schema_encoder import Encoded
from eliot_etw.otlp._common_schema import EVENTS, SPAN, SPAN_START, WELL_KNOWN

require("opentelemetry.sdk", feature="EtwSpanExporter", extra="otel")

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

__all__ = ["EtwSpanExporter", "EtwSpanProcessor"]

_TYPE_NAME: Final = Constant(SPAN)
_START_NAME: Final = Constant(SPAN_START)
_START, _STOP = 1, 2
_PLAIN: Final = descriptor(VERBOSE)
_STARTED: Final = descriptor(VERBOSE, _START)
_STOPPED: Final = descriptor(VERBOSE, _STOP)

# What the SDK's own spans have where their properties only look: a property takes as long as all
# of these.
_FIELDS: Final = (
    "_attributes", "_context", "_end_time", "_events", "_kind", "_links", "_name", "_parent",
    "_resource", "_start_time", "_status",
)  # fmt: skip
_SAMPLE: Final = ReadableSpan("", resource=Resource({}))
_OWN: Final = ReadableSpan if all(hasattr(_SAMPLE, name) for name in _FIELDS) else None
_LIST: Final[Any] = BoundedList if hasattr(BoundedList(0), "_dq") else None
# Where a context, which is a tuple, has them: the properties take thrice the time.
_TRACE_ID, _SPAN_ID, _FLAGS = 0, 1, 3
_SAMPLED: Final = TraceFlags.SAMPLED
_ERROR: Final = StatusCode.ERROR


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
            own: Any = span if type(span) is _OWN else _Seen(span)
            time = own._end_time or own._start_time or time_ns()
            metadata, payload = self._encode(own, time)
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

    def _encode(self, span: Any, time: int) -> Encoded:
        """Make the event of a span that has ended."""
        given: Any = span._attributes
        items: Any = given.copy() if type(given) is BoundedAttributes else dict(given or ())
        events, links = span._events, span._links
        if events._dq if type(events) is _LIST else events:
            items[name_beside(EVENTS, items)] = Json(json_text([*map(_event, events)]))
        links_text = None
        if links._dq if type(links) is _LIST else links:
            links_text = _links_text(links)
        name, kind, context, parent = span._name, span._kind._value_, span._context, span._parent
        trace_id, span_id = context[_TRACE_ID], context[_SPAN_ID]
        parent_id = None if parent is None else parent[_SPAN_ID]
        start, status = span._start_time or time, span._status
        success = status.status_code is not _ERROR
        message = None if success else status.description or None
        parts = self._parts
        if parts.resource is not span._resource:
            parts = self._parts = self._encoder.parts_of(span._resource)
        if trace_id and parent is not None and links_text is None and message is None:
            shape: tuple[Any, ...] = tuple(items)  # as most are: a shorter way to the same
        else:
            shape = (not trace_id, parent is None, links_text is None, message is None, *items)
        plan = parts.plans.get(shape)
        if plan is not None:
            try:
                return plan.metadata, plan.encode(
                    items.values(), trace_id, span_id, time,
                    name, kind, start, parent_id, links_text, message, success,
                )  # fmt: skip
            except UNFIT:
                pass  # this one is too long, or a number too large
        if parent_id is not None:
            parent_id &= SPAN_BITS
        known = {field: key for field, key in WELL_KNOWN.items() if key in items}
        part_b = {
            **_part_b(_TYPE_NAME, name, kind, start, parent_id),
            "links": links_text,
            "statusMessage": message,
            **{field: FromAttribute(key) for field, key in known.items()},
            "success": Boolean8(success),
        }
        draft = Draft(self._event_name, trace_id, span_id & SPAN_BITS, time, part_b, items)
        own = name, kind, start, parent_id, links_text, message, success
        return self._encoder.encode(draft, parts, shape, own)

    def _encode_start(self, span: ReadableSpan, time: int) -> Encoded:
        """Make the event of a span that has started."""
        parts = self._encoder.parts_of(span.resource)
        trace_id, span_id = span.context.trace_id, span.context.span_id & SPAN_BITS
        parent_id = None if span.parent is None else span.parent.span_id & SPAN_BITS
        own = span.name, span.kind._value_, time, parent_id
        shape = (_START_NAME, trace_id == NO_ID, parent_id is None)
        plan = parts.plans.get(shape)
        if plan is not None:
            try:
                return plan.metadata, plan.encode((), trace_id, span_id, time, *own)
            except UNFIT:
                pass  # its name is too long
        part_b = _part_b(_START_NAME, *own)
        draft = Draft(self._event_name, trace_id, span_id, time, part_b, {})
        return self._encoder.encode(draft, parts, shape, own)


def _part_b(
    type_name: Constant, name: str, kind: int, start: int, parent_id: int | None
) -> dict[str, Any]:
    """Return what is said of a span before its end and after it."""
    return {
        "_typeName": type_name,
        "name": name,
        "kind": UInt8(kind),
        "startTime": Time(time_text(start)),
        "parentId": None if parent_id is None else SpanId(id_text(parent_id)),
    }


@final
class _Seen:
    """A span of another class, with all that it has where the SDK's own have it."""

    def __init__(self, span: ReadableSpan) -> None:
        for name in _FIELDS:
            setattr(self, name, getattr(span, name[1:]))


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
class EtwSpanProcessor(EventProcessor, SpanProcessor):
    """Hands each span to an exporter at once, and does nothing while nobody listens.

    A span is written before the call that ends it returns, which takes less time than to put it
    into a queue. Spans that are not sampled are left out.
    """

    def __init__(self, exporter: EtwSpanExporter) -> None:
        """Take the exporter, which is shut down with this."""
        super().__init__(exporter)
        self._write = exporter.write
        self._write_start = exporter.write_start
        if exporter.activities:  # else what the SDK has, which does nothing
            self.on_start = self._on_start  # type: ignore[method-assign] # an attribute is quicker

    def _on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Write that a span has started, if somebody wants it. Never raises."""
        if self._output.listener.level >= VERBOSE and span.get_span_context().trace_flags.sampled:
            self._write_start(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Write a span that has ended, if somebody wants it. Never raises."""
        if self._output.listener.level >= VERBOSE:
            context: Any = span._context if type(span) is _OWN else span.context
            if context is not None and context[_FLAGS] & _SAMPLED:
                self._write(span)
