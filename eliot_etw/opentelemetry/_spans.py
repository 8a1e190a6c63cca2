"""Which action a span is, and which span an action is, as long as either is in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from itertools import count
from threading import RLock
from time import time
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from opentelemetry.context.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation import _SPAN_KEY

from eliot_etw import _names as names
from eliot_etw._action import Action
from eliot_etw._task_level import TaskLevel
from eliot_etw._trace_context import (
    SAMPLED,
    Continuation,
    TraceParent,
    continuation,
    drawn_position,
    span_id_of,
    trace_id_of,
)
from eliot_etw.opentelemetry._runtime_context import SEEN, Seen

REMOTE: Final = "eliot_etw.remote"
"""The key under which a context says where in our tree its remote span goes on: a `Remote`."""

# By trace and span id. Neither keeps an action alive: its span does, and any context that has it.
_by_id: WeakValueDictionary[tuple[int, int], Action] = WeakValueDictionary()
_of_spans: WeakKeyDictionary[Span, Action] = WeakKeyDictionary()
_of_actions: WeakKeyDictionary[Action, Span] = WeakKeyDictionary()
# What `within` returned last, here, and for what.
_last: ContextVar[tuple[Context, Action, Context] | None] = ContextVar("_last", default=None)


class SpanAction(Action):
    """What a span is in our tree."""

    __slots__ = ("_span", "attributes", "links", "span_context")
    __class__ = Action  # type: ignore[assignment] # its children are actions like any other

    def __init__(self, span: Span, task_uuid: str, level: TaskLevel, name: str) -> None:
        """Make the action of a span without logging its start.

        Args:
            span: The span, which keeps its action alive, and not the other way round.
            task_uuid: The task it belongs to.
            level: Its place there.
            name: Its type.
        """
        Action.__init__(self, None, task_uuid, level, name)
        self._span = ref(span)
        self.span_context = span.get_span_context()
        if self.span_context.trace_state:
            self._tracestate = self.span_context.trace_state.to_header()
        # What the start has said already.
        self.attributes: Mapping[str, object] = {}
        self.links = 0
        _of_spans[span] = self
        _by_id[_ids(self.span_context)] = self

    @property
    def span(self) -> Span:
        """The span; one that only has its ids, if it is gone."""
        return self._span() or NonRecordingSpan(self.span_context)

    @property
    def is_server(self) -> bool:
        """Whether it is a request that came in; `eliot_etw.http` asks, which knows no spans."""
        return getattr(self._span(), "kind", None) is SpanKind.SERVER

    def traceparent(self) -> str:
        """Return the header ``traceparent``, which names the span."""
        return traceparent_of(self.span_context).to_string()


class Remote:
    """A span of another process, and the place in our tree at which to go on."""

    __slots__ = ("_first", "_found", "_parent")

    def __init__(self, parent: SpanContext, found: Continuation) -> None:
        """Keep a place.

        Args:
            parent: The span.
            found: The place.
        """
        self._parent = parent
        self._found = found
        self._first = iter([found])

    @property
    def task_uuid(self) -> str:
        """The task that goes on."""
        return self._found.place[0]

    def is_of(self, parent: SpanContext) -> bool:
        """Say whether it is about this span."""
        return _ids(self._parent) == _ids(parent)

    def take(self) -> Continuation:
        """Take the place; whoever comes later gets one beside it."""
        first = next(self._first, None)
        if first is not None:
            return first
        uuid, level = self._found.place
        return self._found._replace(place=(uuid, TaskLevel((*level[:-1], drawn_position()))))


class _PlaceToTake:
    """The level of an action that takes its place, and logs its start, when it is first used."""

    __slots__ = ("_action", "_lock")

    def __init__(self, action: ContinuedAction) -> None:
        self._action = action
        self._lock = RLock()

    def __iter__(self) -> Iterator[int]:
        action = self._action
        with self._lock:
            is_first = action._level is self
            if is_first:
                found = action.remote.take()
                action._level = found.place[1]
        if is_first:
            action.start(found)
        return iter(action._level)


class ContinuedAction(Action):
    """What is logged between the arrival of a remote span and the start of one of our own.

    It is logged only if something is logged in it: mostly the next span starts at once, and takes
    the place. It is what remains of the tree if the spans are not recorded.
    """

    __slots__ = ("remote",)
    __class__ = Action  # type: ignore[assignment] # as above

    def __init__(self, remote: Remote) -> None:
        """Make it without logging its start.

        Args:
            remote: The span that it goes on from.
        """
        Action.__init__(self, None, remote.task_uuid, _PlaceToTake(self), names.REMOTE_TASK)
        self.remote = remote
        self._places = count(2)

    def start(self, found: Continuation) -> None:
        """Log its start, at the place that was found."""
        if found.tracestate:
            self._tracestate = found.tracestate
        self._route.write(
            {
                **found.fields,
                names.ACTION_TYPE: self.action_type,
                names.ACTION_STATUS: names.STARTED,
                names.TIMESTAMP: time(),
                names.TASK_UUID: self.task_uuid,
                names.TASK_LEVEL: [*found.place[1], 1],
            }
        )


def _ids(span_context: SpanContext) -> tuple[int, int]:
    return span_context.trace_id, span_context.span_id


def _valid_context_of(span: Span) -> SpanContext | None:
    """Return the ids of a span, which may be of anybody's making; None if they are none."""
    found: object = span.get_span_context()
    return found if isinstance(found, SpanContext) and found.is_valid else None


def traceparent_of(span_context: SpanContext) -> TraceParent:
    """Return what the header ``traceparent`` says of a span."""
    return TraceParent(
        format_trace_id(span_context.trace_id),
        format_span_id(span_context.span_id),
        span_context.trace_flags,
    )


def action_of(span_context: SpanContext) -> Action | None:
    """Return the action that has the ids of a span."""
    return _by_id.get(_ids(span_context))


def found_in(context: Context) -> Action | Remote | None:
    """Find what something that starts in a context is part of.

    Returns:
        The action of the context's span, or of the nearest one around it that is recorded; where
        it goes on from, if that span is one of another process; None if nothing is known.
    """
    span = context.get(_SPAN_KEY)
    seen = context.get(SEEN)
    around = None
    if type(seen) is Seen:
        around = seen.action
        if seen.span is span:
            return around
    if not isinstance(span, Span):
        return around
    parent = _valid_context_of(span)
    if parent is None:
        return around
    remote = context.get(REMOTE)
    if isinstance(remote, Remote) and remote.is_of(parent):
        return remote
    found = action_of(parent)
    if found is None and parent.is_remote:
        return remote_of(parent)
    return found or around


def action_in(context: Context) -> Action | None:
    """Return the action that is the current one in a context."""
    found = found_in(context)
    return found if isinstance(found, Action) else None


def remote_of(parent: SpanContext) -> Remote:
    """Return where it goes on from a span of which no more is known than its ids."""
    header, state = traceparent_of(parent), parent.trace_state.to_header()
    return Remote(parent, continuation(None, header.to_string(), state or None))


def entered(context: Context, current: Action | None) -> tuple[Context, Action | None, bool]:
    """Find the action that is the current one in a context that is about to be.

    Args:
        context: The context.
        current: The action that is the current one.

    Returns:
        The context, which knows its action; the action; and whether it was made here, and is to
        be given to `left`.
    """
    found = found_in(context)
    is_new = isinstance(found, Remote)
    action = ContinuedAction(found) if isinstance(found, Remote) else found or current
    span: Any = context.get(_SPAN_KEY)
    seen = context.get(SEEN)
    if action is None or (type(seen) is Seen and seen.span is span and seen.action is action):
        return context, action, is_new
    return Context({**context, SEEN: Seen(span, action)}), action, is_new


def left(action: Action) -> None:
    """End an action that `entered` made, if it was started at all."""
    if type(action._level) is not _PlaceToTake:
        action.finish()


def within(context: Context, action: Action) -> Context:
    """Return a context with the span of an action that is within it."""
    # Whoever starts a span asks for its context several times.
    last = _last.get()
    if last is not None and last[0] is context and last[1] is action:
        return last[2]
    span = _span_of(action, context)
    found = Context({**context, _SPAN_KEY: span, SEEN: Seen(span, action)})
    _last.set((context, action, found))
    return found


def _span_of(action: Action, context: Context) -> Span:
    """Return the span that an action is; for one that is no span, what stands for it."""
    if type(action) is SpanAction:
        return action.span
    known = _of_actions.get(action)
    if known is not None:
        return known
    uuid = action.task_uuid
    trace_id = int(trace_id_of(uuid), 16)
    # What was decided about recording holds here, too, even if this is another task.
    outer = _valid_context_of(get_current_span(context))
    span = NonRecordingSpan(
        SpanContext(
            trace_id,
            int(span_id_of(uuid, action._level), 16),
            is_remote=False,
            trace_flags=outer.trace_flags if outer else TraceFlags(SAMPLED),
            trace_state=outer.trace_state if outer and outer.trace_id == trace_id else None,
        )
    )
    _by_id[_ids(span.get_span_context())] = action
    return _of_actions.setdefault(action, span)
