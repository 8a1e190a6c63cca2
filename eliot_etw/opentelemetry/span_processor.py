"""OpenTelemetry's spans as actions, in the tree where they happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from eliot_etw import _names as names
from eliot_etw._action import OVER, Action
from eliot_etw._counter import Counter
from eliot_etw._extract import beside
from eliot_etw._require import require
from eliot_etw._task_level import TaskLevel
from eliot_etw._trace_context import Continuation, task_uuid_of, trace_id_of
from eliot_etw.otlp._attributes import EXCEPTION_EVENT, seconds
from eliot_etw.typing import MessageDict

require("opentelemetry.sdk", feature="EliotSpanProcessor", extra="otel")

from opentelemetry.context import get_current
from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Link, SpanContext, StatusCode, format_span_id, format_trace_id

from eliot_etw.opentelemetry._runtime_context import install
from eliot_etw.opentelemetry._spans import (
    ContinuedAction,
    Remote,
    SpanAction,
    action_of,
    found_in,
    remote_of,
)
from eliot_etw.opentelemetry._values import (
    exception_of,
    is_suppressed,
    plain,
    plain_value,
)

_ERROR_TYPE: Final = "error.type"
_UNSET: Final = object()


@final
class EliotSpanProcessor(SpanProcessor):
    """Makes each span that is recorded an action, with the span's name as its type.

    A span that starts within an action is in that action, and what is logged while a span is the
    current one is in the span's action: spans and actions are one tree, across threads and tasks
    as each of the two is. A span in an action is in the trace that the task is, below the id that
    the action has for OpenTelemetry.

    The start has the span's attributes of then as its fields, the end those that came later or
    changed. Events are messages in it, logged when the span ends, with the timestamps they have.
    A span with the status ``ERROR`` is a failed action, with the exception it recorded last. What
    else a span has is in fields that begin with ``otel:``.

    What starts while instrumentation is suppressed, as exporters do their work, is left out.

    Nothing is held back, so there is nothing to flush. It never raises into the program.
    """

    def __init__(self) -> None:
        """Make it, and have actions and spans follow each other from here on.

        Raises:
            RuntimeError: If this version of OpenTelemetry keeps its context elsewhere.
        """
        install()
        self._errors = Counter()
        self._over = Counter()
        self._suppressed = Counter()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Log the start of a span's action. Never raises."""
        try:
            here = get_current()
            context = here if parent_context is None else parent_context
            if is_suppressed(context) or is_suppressed(here):
                self._suppressed.add()
            elif action_of(span.get_span_context()) is None:  # not by another processor of ours
                _start(span, context)
        except Exception:  # noqa: BLE001 - attributes may be anything; a span must not break
            self._errors.add()

    def on_end(self, span: ReadableSpan) -> None:
        """Log the span's events, and the end of its action. Never raises."""
        try:
            action = None if span.context is None else action_of(span.context)
            if isinstance(action, SpanAction) and not _end(action, span):
                self._over.add()
        except Exception:  # noqa: BLE001 - as above
            self._errors.add()

    def stats(self) -> dict[str, int]:
        """Count what was not as usual.

        Returns:
            ``errors``: spans of which the start or the end could not be logged; ``over``: spans
            whose action had been ended by somebody else before, so that their events and late
            attributes were not logged; ``suppressed``: spans that were started while
            instrumentation was suppressed.
        """
        return {
            "errors": self._errors.value,
            "over": self._over.value,
            "suppressed": self._suppressed.value,
        }


def _start(span: Span, context: Context) -> None:
    """Make the action of a span, and log its start."""
    found, around = _place_of(span, context)
    uuid, level = found.place
    action = SpanAction(span, uuid, level, span.name)
    action._parent = around
    attributes = plain(span.attributes or {})
    links = span.links
    action.attributes, action.links = attributes, len(links)
    fields = {
        **found.fields,
        names.OTEL_SPAN_ID: format_span_id(action.span_context.span_id),
        names.OTEL_KIND: span.kind.name.lower(),
        **_scope_of(span),
        **_links(links),
        names.ACTION_TYPE: span.name,
        names.ACTION_STATUS: names.STARTED,
        names.TIMESTAMP: seconds(span.start_time or 0),
        names.TASK_UUID: uuid,
        names.TASK_LEVEL: action.next_level(),
    }
    action._route.write(beside(attributes, fields))


def _place_of(span: Span, context: Context) -> tuple[Continuation, Action | None]:
    """Find where in which tree a span starts, and the action around it, if that is here."""
    parent = span.parent
    if parent is None:
        trace_id = format_trace_id(span.get_span_context().trace_id)
        return Continuation((task_uuid_of(trace_id), TaskLevel()), {}, ""), None
    found = found_in(context)
    if isinstance(found, ContinuedAction) and parent.is_remote:
        found = found.remote
    if found is None or not (isinstance(found, Remote) or _is_in_trace(found, parent)):
        # The SDK may call from a thread of its own, which has not the context.
        found = action_of(parent) or remote_of(parent)
    if isinstance(found, Remote):
        return found.take(), None
    fields: MessageDict = {}
    if action_of(parent) is not found:  # a span in between is not recorded
        fields[names.OTEL_PARENT_SPAN_ID] = format_span_id(parent.span_id)
    return Continuation((found.task_uuid, TaskLevel(found.next_level())), fields, ""), found


def _is_in_trace(action: Action, parent: SpanContext) -> bool:
    """Say whether an action is in the trace of a span, as all is that is not told otherwise."""
    if action_of(parent) is action:
        return True
    return trace_id_of(action.task_uuid) == format_trace_id(parent.trace_id)


def _end(action: SpanAction, span: ReadableSpan) -> bool:
    """Log the events of a span, and the end of its action; say whether it was not over already."""
    ending = action._ending
    if ending is OVER:
        return False
    action._ending = OVER
    events = list(span.events)
    end = _known_late(action, span)
    fields: MessageDict = {} if ending is None else ending.success_fields
    status = names.SUCCEEDED
    if span.status.status_code is StatusCode.ERROR:
        status = names.FAILED
        fields = _last_exception(events)
        end.update(_failure(span, exception_of(fields)))
    for event in events:
        _log_event(action, event)
    end[names.ACTION_TYPE] = action.action_type
    end[names.ACTION_STATUS] = status
    end[names.TIMESTAMP] = seconds(span.end_time or 0)
    end[names.TASK_UUID] = action.task_uuid
    end[names.TASK_LEVEL] = action.next_level()
    changed = _changed(action.attributes, span.attributes or {})
    action._route.write(beside(beside(fields, changed) if fields else changed, end))
    return True


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> MessageDict:
    """Return the attributes that are new or not what they were."""
    changed = {}
    for name, attribute in now.items():
        old, value = before.get(name, _UNSET), plain_value(attribute)
        # 1 and True are equal, but not the same attribute.
        if old is not value and (type(old) is not type(value) or old != value):
            changed[name] = value
    return changed


def _known_late(action: SpanAction, span: ReadableSpan) -> MessageDict:
    """Return what else only the end of a span can tell."""
    fields = _links(span.links[action.links :])
    if span.name != action.action_type:
        fields[names.OTEL_NAME] = span.name
    if span.status.status_code is StatusCode.OK:
        fields[names.OTEL_STATUS] = "ok"
    dropped = {
        "attributes": span.dropped_attributes,
        "events": span.dropped_events,
        "links": span.dropped_links,
    }
    if any(dropped.values()):
        fields[names.OTEL_DROPPED] = {name: number for name, number in dropped.items() if number}
    return fields


def _failure(span: ReadableSpan, exception: MessageDict) -> MessageDict:
    """Return what the end of a failed action says of the failure."""
    kind = exception.get(names.EXCEPTION) or (span.attributes or {}).get(_ERROR_TYPE)
    description = span.status.description or ""
    reason = exception.get(names.REASON, description)
    fields = {**exception, names.EXCEPTION: kind or str(StatusCode.ERROR), names.REASON: reason}
    # Mostly the SDK writes it, out of the same exception.
    short = str(kind).rpartition(".")[2]
    if description not in ("", reason, f"{kind}: {reason}", f"{short}: {reason}"):
        fields[names.OTEL_STATUS_MESSAGE] = description
    return fields


def _last_exception(events: list[Event]) -> MessageDict:
    """Take the exception that was recorded last from the events; its attributes."""
    for event in reversed(events):
        if event.name == EXCEPTION_EVENT:
            events.remove(event)
            return plain(event.attributes or {})
    return {}


def _log_event(action: SpanAction, event: Event) -> None:
    """Log an event of a span as a message."""
    attributes = plain(event.attributes or {})
    ours: MessageDict = {names.MESSAGE_TYPE: event.name}
    if event.name == EXCEPTION_EVENT:
        ours = {names.MESSAGE_TYPE: names.TRACEBACK_TYPE, **exception_of(attributes)}
    action.log_fields(beside(attributes, ours), timestamp=seconds(event.timestamp))


def _scope_of(span: ReadableSpan) -> MessageDict:
    """Return which library made a span."""
    scope = span.instrumentation_scope
    if scope is None:
        return {}
    fields = {names.OTEL_SCOPE: scope.name, names.OTEL_SCOPE_VERSION: scope.version}
    return {name: value for name, value in fields.items() if value}


def _links(links: Sequence[Link]) -> MessageDict:
    """Return the field that tells what else a span has to do with; none without links."""
    if not links:
        return {}
    told = [
        {
            "trace_id": format_trace_id(link.context.trace_id),
            "span_id": format_span_id(link.context.span_id),
            **({"attributes": plain(link.attributes)} if link.attributes else {}),
        }
        for link in links
    ]
    return {names.OTEL_LINKS: told}
