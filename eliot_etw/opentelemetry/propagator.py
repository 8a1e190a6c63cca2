"""A task's place in the headers of OpenTelemetry's calls, beside W3C's Trace Context."""

from __future__ import annotations

from typing import final

from eliot_etw._require import require
from eliot_etw._task_level import TaskLevel
from eliot_etw._trace_context import (
    SAMPLED,
    continuation,
    drawn_task_id,
    sent_place,
    span_id_of,
    trace_id_of,
)

require("opentelemetry", feature="EliotPropagator", extra="otel")

from opentelemetry.context import get_current
from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eliot_etw.http._headers import TASK_ID
from eliot_etw.opentelemetry._runtime_context import install
from eliot_etw.opentelemetry._spans import REMOTE, Remote, action_in, traceparent_of


@final
class EliotPropagator(TextMapPropagator):
    """Sends the exact place in the task along with ``traceparent``, and goes on there.

    Whoever knows Eliot finds ``X-Eliot-Task-Id``, and whoever knows OpenTelemetry ``traceparent``
    and ``tracestate``: this does what OpenTelemetry's own propagator for those two does as well.

    Whoever may send these headers can write into any tree: use it where they come from programs
    that you trust.
    """

    def __init__(self) -> None:
        """Make it, and have actions and spans follow each other from here on.

        Raises:
            RuntimeError: If this version of OpenTelemetry keeps its context elsewhere.
        """
        install()
        self._w3c = TraceContextTextMapPropagator()

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Put the headers into a carrier; each call draws a new place in the action."""
        if context is None:
            context = get_current()
        self._w3c.inject(carrier, context, setter)
        action = action_in(context)
        if action is not None:
            task_id = drawn_task_id(action.task_uuid, action.task_level)
            if task_id:
                setter.set(carrier, TASK_ID, task_id)

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Return a context with what the headers say; unchanged, if they say nothing valid.

        If only the place is there, the span that it goes on from is made of it. If it is in
        another task than the trace that ``traceparent`` names, ``traceparent`` counts.
        """
        if context is None:
            context = Context()
        # A plain dict may have the names as they are sent, or as they are received.
        sent = getter.get(carrier, TASK_ID) or getter.get(carrier, TASK_ID.lower())
        # Of several none is followed, as everywhere.
        task_id = ",".join(map(str, sent or ())) or None
        parent = get_current_span(self._w3c.extract(carrier, Context(), getter)).get_span_context()
        if not parent.is_valid:
            place = sent_place(task_id)
            if place is None:
                return context
            parent = _parent_of(*place)
        state = parent.trace_state.to_header()
        found = continuation(task_id, traceparent_of(parent).to_string(), state or None)
        remote = Remote(parent, found)
        return set_span_in_context(NonRecordingSpan(parent), Context({**context, REMOTE: remote}))

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` sets."""
        return {*self._w3c.fields, TASK_ID}


def _parent_of(task_uuid: str, level: TaskLevel) -> SpanContext:
    """Return the span that stands for the action in which a place was taken."""
    return SpanContext(
        int(trace_id_of(task_uuid), 16),
        int(span_id_of(task_uuid, level[:-1]), 16),
        is_remote=True,
        trace_flags=TraceFlags(SAMPLED),
    )
