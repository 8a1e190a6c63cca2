"""Tests of spans as actions, with OpenTelemetry's SDK."""

import asyncio
import gc
import os
import sys
from dataclasses import dataclass, replace
from itertools import count
from threading import Barrier, Thread

import pytest

pytest.importorskip("opentelemetry.sdk")

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from eliot_etw import (
    Action,
    add_destinations,
    current_action,
    log_message,
    remove_destination,
    start_action,
)
from eliot_etw import _names as names
from eliot_etw._trace_context import FIRST_DRAWN, span_id_of, trace_id_of
from eliot_etw.destinations.memory import MemoryDestination
from eliot_etw.exceptions import MissingDependency
from eliot_etw.opentelemetry import EliotSpanProcessor
from eliot_etw.otlp._model import Span
from eliot_etw.otlp._spans_of import SpanMaker
from eliot_etw.sources import FileSource
from tests._programs import run_forking
from tests._tracing import Tracing, ends, ids_of, paths, starts

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
TASK_UUID = "0af76519-16cd-43dd-8448-eb211c80319c"
SPAN_ID = 0xB7AD6B7169203331


@pytest.fixture
def tracing():
    """Have OpenTelemetry record spans."""
    return Tracing()


def remote(flags=1, state=None):
    """Return a context in which a span of another process is the current one."""
    parent = SpanContext(TRACE_ID, SPAN_ID, True, TraceFlags(flags), state)
    return set_span_in_context(NonRecordingSpan(parent), Context())


class NotDropped(Sampler):
    """Records each span but those whose name says not to, whatever their parents are."""

    def should_sample(self, parent_context, trace_id, name, *args, **kwargs):
        keep = not name.startswith("dropped")
        return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.DROP)

    def get_description(self):
        return "NotDropped"


class TestNesting:
    """Spans and actions are one tree."""

    def test_action_in_a_span(self, tracing, messages):
        """An action started within a span is in the span's action, and so is a message."""
        with tracing.tracer.start_as_current_span("span"), start_action(action_type="action"):
            log_message("hello")
        assert [("span",), ("span", "action"), ("span", "action", "hello")] == paths(messages)

    def test_span_in_an_action(self, tracing, messages):
        """A span started within an action is in it: in the tree, and for OpenTelemetry."""
        span = tracing.tracer.start_as_current_span("span")
        with start_action(action_type="action") as action, span:
            log_message("hello")
        assert [("action",), ("action", "span"), ("action", "span", "hello")] == paths(messages)
        span = tracing.spans["span"]
        assert int(trace_id_of(action.task_uuid), 16) == span.context.trace_id
        assert int(span_id_of(action.task_uuid, ()), 16) == span.parent.span_id
        assert not span.parent.is_remote

    def test_root_span(self, tracing, messages):
        """A span of its own is a task, and both have one id."""
        with tracing.tracer.start_as_current_span("span"):
            pass
        span = tracing.spans["span"]
        expected = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
        assert expected == ids_of(messages, "span")
        assert [[1]] == [start["task_level"] for start in starts(messages, "span")]
        assert ["succeeded"] == [end["action_status"] for end in ends(messages, "span")]

    def test_not_current(self, tracing, messages):
        """A span that is not made the current one has nothing in it."""
        with start_action(action_type="action"):
            span = tracing.tracer.start_span("span")
            log_message("hello")
            span.end()
        assert [("action",), ("action", "hello"), ("action", "span")] == paths(messages)

    def test_use_span(self, tracing, messages):
        """What is logged while a span is made the current one is in it, however often that is."""
        span = tracing.tracer.start_span("span")
        for name in ("one", "two"):
            with trace.use_span(span):
                log_message(name)
            log_message("outside")
        span.end()
        assert [("outside",), ("outside",), ("span",), ("span", "one"), ("span", "two")] == paths(
            messages
        )

    def test_current_action(self, tracing, messages):
        """Within a span, its action is at hand; what it is told is in the end of it."""
        with tracing.tracer.start_as_current_span("span") as span:
            action = current_action()
            action.add_success_fields(told=1)
            assert action.traceparent().split("-")[2] == f"{span.get_span_context().span_id:016x}"
            assert type(action.child(None, "child")) is Action
        assert [1] == [end["told"] for end in ends(messages, "span")]

    def test_ended_by_hand(self, tracing, messages):
        """The action of a span ends once, also if somebody ends it before the span."""
        with tracing.tracer.start_as_current_span("span"):
            current_action().finish()
        assert len(ends(messages, "span")) == 1
        assert {"errors": 0, "over": 1, "suppressed": 0} == tracing.processor.stats()

    def test_current_span(self, tracing, messages):
        """Where a span's action is made the current one, so is the span itself."""
        with tracing.tracer.start_as_current_span("span") as span:
            action = current_action()
        with action.context():
            assert trace.get_current_span() is span
        assert trace.get_current_span() is trace.INVALID_SPAN

    def test_span_of_an_action(self, tracing, messages):
        """An action always is the same span, which is sampled and records nothing."""
        with start_action(action_type="action"):
            span = trace.get_current_span()
            assert trace.get_current_span() is span
            assert not span.is_recording()
            assert span.get_span_context().trace_flags.sampled

    def test_odd_task_uuid(self, tracing, messages):
        """A task with a name that is no UUID keeps it, and its trace has a digest as its id."""
        span = tracing.tracer.start_as_current_span("span")
        with Action.continue_task(task_id="nightly@/1", action_type="action"), span:
            pass
        assert int(trace_id_of("nightly"), 16) == tracing.spans["span"].context.trace_id
        assert ["nightly"] == [start["task_uuid"] for start in starts(messages, "span")]


class TestExplicitParent:
    """A span started with a context is where that context says."""

    def test_other_span(self, tracing, messages):
        """The parent is the span of the context, not what is the current action."""
        parent = tracing.tracer.start_span("parent")
        with start_action(action_type="action"):
            tracing.tracer.start_span("child", context=set_span_in_context(parent)).end()
        parent.end()
        assert [("action",), ("parent",), ("parent", "child")] == paths(messages)

    def test_ended_span(self, tracing, messages):
        """A span may have children after it has ended."""
        with tracing.tracer.start_as_current_span("parent") as parent:
            pass
        with tracing.tracer.start_as_current_span("child", context=set_span_in_context(parent)):
            log_message("hello")
        expected = [("parent",), ("parent", "child"), ("parent", "child", "hello")]
        assert expected == paths(messages)

    @pytest.mark.parametrize("is_remote", [False, True])
    def test_ids_alone(self, tracing, messages, is_remote):
        """The parent is found by its ids, whoever made a span of them."""
        parent = tracing.tracer.start_span("parent")
        ids = parent.get_span_context()
        same = NonRecordingSpan(SpanContext(ids.trace_id, ids.span_id, is_remote, TraceFlags(1)))
        tracing.tracer.start_span("child", context=set_span_in_context(same, Context())).end()
        assert [("parent",), ("parent", "child")] == paths(messages)

    def test_nothing(self, tracing, messages):
        """With an empty context it is a task of its own."""
        with start_action(action_type="action"):
            tracing.tracer.start_span("span", context=Context()).end()
        assert [("action",), ("span",)] == paths(messages)

    def test_context_of_an_action(self, tracing, messages):
        """A context that was taken within an action leads back to it, in any thread."""
        with start_action(action_type="action"):
            context = otel_context.get_current()

        def work():
            tracing.tracer.start_span("span", context=context).end()
            token = otel_context.attach(context)
            log_message("hello")
            otel_context.detach(token)
            assert current_action() is None

        in_a_thread(work)
        assert [("action",), ("action", "hello"), ("action", "span")] == paths(messages)


class TestRemoteParent:
    """A span that goes on from another process is in the tree of that trace."""

    def test_place(self, tracing, messages):
        """It has a place that nobody else has, and says what it goes on from."""
        for _ in range(2):
            tracing.tracer.start_span("span", context=remote()).end()
        first, second = starts(messages, "span")
        for start in (first, second):
            assert TASK_UUID == start["task_uuid"]
            assert f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01" == start[names.TRACEPARENT]
            position, one = start["task_level"]
            assert one == 1
            assert FIRST_DRAWN <= position < 2 * FIRST_DRAWN
        assert first["task_level"] != second["task_level"]

    def test_tracestate(self, tracing, messages):
        """What was passed on beside it is noted, and passed on to what is within."""
        context = remote(state=TraceState([("vendor", "x")]))
        span = tracing.tracer.start_as_current_span("span", context=context)
        with span, start_action(action_type="action") as action:
            state = trace.get_current_span().get_span_context().trace_state
            assert {"vendor": "x"} == dict(state)
            assert "vendor=x" == action.tracestate
        assert ["vendor=x"] == [start[names.TRACESTATE] for start in starts(messages, "span")]

    def test_nothing_between(self, tracing, messages):
        """A span that starts as soon as the context is there takes the place itself."""
        token = otel_context.attach(remote())
        with tracing.tracer.start_as_current_span("span"):
            log_message("hello")
        otel_context.detach(token)
        assert [("span",), ("span", "hello")] == paths(messages)

    def test_without_a_span(self, tracing, messages):
        """What is logged without one is in an action that was continued, until it is left."""
        token = otel_context.attach(remote(flags=0, state=TraceState([("vendor", "x")])))
        log_message("before")
        with start_action(action_type="action") as action:
            assert "vendor=x" == action.tracestate
            # Nobody records the trace, and this does not change it.
            assert not trace.get_current_span().get_span_context().trace_flags.sampled
        otel_context.detach(token)
        log_message("after")
        remote_task = names.REMOTE_TASK
        expected = [
            ("after",),
            (remote_task,),
            (remote_task, "action"),
            (remote_task, "before"),
        ]
        assert sorted(expected) == paths(messages)
        (start,) = starts(messages, remote_task)
        assert TASK_UUID == start["task_uuid"]
        assert f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-00" == start[names.TRACEPARENT]
        assert len(ends(messages, remote_task)) == 1

    def test_many_at_once(self, messages):
        """However many threads log there first, it is one action."""
        EliotSpanProcessor()
        token = otel_context.attach(remote())
        context = otel_context.get_current()
        together = Barrier(8)

        def log():
            otel_context.attach(context)
            together.wait(60)
            log_message("hello")

        threads = [Thread(target=log) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        otel_context.detach(token)
        remote_task = (names.REMOTE_TASK,)
        assert [remote_task, *[(*remote_task, "hello")] * 8] == paths(messages)
        levels = {tuple(message["task_level"]) for message in messages}
        assert (1, 10) == (len(starts(messages, names.REMOTE_TASK)), len(levels))

    def test_left_in_another_thread(self, messages):
        """It ends where the headers came in, and not where the context was taken to."""
        EliotSpanProcessor()
        token = otel_context.attach(remote())
        context = otel_context.get_current()

        def work():
            inner = otel_context.attach(context)
            log_message("there")
            otel_context.detach(inner)

        in_a_thread(work)
        log_message("here")
        otel_context.detach(token)
        said = [m.get("message_type") or m["action_status"] for m in messages]
        assert ["started", "there", "here", "succeeded"] == said

    def test_not_recorded(self, messages):
        """If the sender does not record the trace, nor do we; the tree is one all the same."""
        tracing = Tracing()
        token = otel_context.attach(remote(flags=0))
        server = tracing.tracer.start_as_current_span("server")
        with server, start_action(action_type="action"):
            tracing.tracer.start_span("client").end()
        otel_context.detach(token)
        assert [(names.REMOTE_TASK,), (names.REMOTE_TASK, "action")] == sorted(paths(messages))
        assert {} == tracing.spans

    def test_parent_is_gone(self, tracing, messages):
        """A parent that nothing else is known of any more is gone on from by its ids."""
        span = tracing.tracer.start_span("gone")
        ids = span.get_span_context()
        span.end()
        del span
        gc.collect()
        context = set_span_in_context(NonRecordingSpan(ids), Context())
        tracing.tracer.start_span("span", context=context).end()
        (start,) = starts(messages, "span")
        assert [f"{ids.trace_id:032x}", f"{ids.span_id:016x}"] == start[names.TRACEPARENT].split(
            "-"
        )[1:3]
        assert [trace_id_of(start["task_uuid"])] == [f"{ids.trace_id:032x}"]


class TestNotRecorded:
    """Spans that are sampled out are no actions."""

    def test_nearest(self, messages):
        """What is within is in the nearest that is recorded; OpenTelemetry's parent is noted."""
        start = Tracing(sampler=NotDropped()).tracer.start_as_current_span
        with start_action(action_type="action"), start("dropped") as dropped:
            log_message("hello")
            with start("span"):
                log_message("there")
        expected = [
            ("action",),
            ("action", "hello"),
            ("action", "span"),
            ("action", "span", "there"),
        ]
        assert expected == paths(messages)
        parent = f"{dropped.get_span_context().span_id:016x}"
        assert [parent] == [start[names.OTEL_PARENT_SPAN_ID] for start in starts(messages, "span")]

    def test_decision_holds(self, messages):
        """What is within an action is not recorded either, if the span around it is not."""
        tracing = Tracing(sampler=ALWAYS_OFF)
        with tracing.tracer.start_as_current_span("span"), start_action(action_type="action"):
            assert not trace.get_current_span().get_span_context().trace_flags.sampled
        assert [("action",)] == paths(messages)

    def test_recorded_only(self, messages):
        """A span that is recorded is an action, also if it is not sampled and not exported."""
        tracing = Tracing(sampler=StaticSampler(Decision.RECORD_ONLY))
        tracing.tracer.start_span("span").end()
        assert [("span",)] == paths(messages)
        assert {} == tracing.spans

    def test_sampler_of_actions(self, messages):
        """Within an action, the sampler for local parents that are sampled decides."""
        none = TraceIdRatioBased(0)
        samplers = [ParentBased(none), ParentBased(none, local_parent_sampled=none)]
        for sampler in samplers:
            with start_action(action_type="action"):
                Tracing(sampler=sampler).tracer.start_span("span").end()
        assert [("action",), ("action",), ("action", "span")] == paths(messages)

    def test_in_another_thread(self, messages):
        """The nearest one goes along with the context."""
        start = Tracing(sampler=NotDropped()).tracer.start_as_current_span
        with start("span"), start("dropped"):
            context = otel_context.get_current()

        def work():
            otel_context.attach(context)
            log_message("hello")

        in_a_thread(work)
        assert [("span",), ("span", "hello")] == paths(messages)

    def test_another_trace(self, messages):
        """A span that is recorded is in its own trace, whatever the current action is."""
        tracer = Tracing(sampler=NotDropped()).tracer
        outer = tracer.start_as_current_span("dropped", context=Context())
        with start_action(action_type="action"), outer as dropped:
            tracer.start_span("span").end()
        (start,) = starts(messages, "span")
        assert trace_id_of(start["task_uuid"]) == f"{dropped.get_span_context().trace_id:032x}"
        assert names.TRACEPARENT in start

    def test_suppressed(self, tracing, messages):
        """What an exporter does is neither recorded nor logged, but counted."""
        context = otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True)
        tracing.tracer.start_span("span", context=context).end()
        token = otel_context.attach(context)
        tracing.tracer.start_span("span", context=Context()).end()
        otel_context.detach(token)
        assert [] == messages
        assert {"errors": 0, "over": 0, "suppressed": 2} == tracing.processor.stats()


class TestFields:
    """What a span says is in the fields of its action."""

    def test_start_and_end(self, tracing, messages):
        """The start has what is known then, the end what is new or has changed."""
        attributes = {"same": 1, "changed": 1, "list": ["a", "b"]}
        with tracing.tracer.start_as_current_span(
            "span", kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            span.set_attributes({"same": 1, "changed": True, "late": (1.5,)})
            span.update_name("GET /")
        (start,), (end,) = starts(messages, "span"), ends(messages, "span")
        own = {"timestamp", "task_uuid", "task_level", "action_type", "action_status"}
        assert {
            **attributes,
            "otel:kind": "server",
            "otel:scope": "shop.tests",
            "otel:scope_version": "1.2",
            "otel:span_id": f"{span.get_span_context().span_id:016x}",
        } == {name: value for name, value in start.items() if name not in own}
        assert {"changed": True, "late": [1.5], "otel:name": "GET /"} == {
            name: value for name, value in end.items() if name not in own
        }
        assert end["changed"] is True

    def test_times(self, tracing, messages):
        """Messages have the times of the span and its events."""
        span = tracing.tracer.start_span("span", start_time=1_700_000_000_123_456_000)
        span.add_event("event", timestamp=1_700_000_000_223_456_000)
        span.end(1_700_000_001_123_456_000)
        assert [1700000000.123456, 1700000000.223456, 1700000001.123456] == [
            message["timestamp"] for message in messages
        ]

    def test_reserved_names(self, tracing, messages):
        """Attributes that have a name of ours get an underscore."""
        given = dict.fromkeys(["timestamp", "task_uuid", "action_type", "otel:kind"], "mine")
        with tracing.tracer.start_as_current_span("span", attributes=given) as span:
            span.add_event("event", {"message_type": "mine", "task_level": "mine"})
            span.set_attribute("action_status", "mine")
        (start,), (end,) = starts(messages, "span"), ends(messages, "span")
        renamed = ["timestamp_", "task_uuid_", "action_type_", "otel:kind_"]
        assert ["mine"] * 4 == [start[name] for name in renamed]
        assert "mine" == end["action_status_"]
        (event,) = (m for m in messages if m.get("message_type") == "event")
        assert ["mine"] * 2 == [event["message_type_"], event["task_level_"]]

    def test_links(self, tracing, messages):
        """Links are a field: of the start, and of the end if they came later."""
        one = Link(SpanContext(TRACE_ID, SPAN_ID, True), {"n": 1})
        with tracing.tracer.start_as_current_span("span", links=[one]) as span:
            span.add_link(SpanContext(TRACE_ID, 1, False))
        ids = {"trace_id": f"{TRACE_ID:032x}"}
        assert [[{**ids, "span_id": f"{SPAN_ID:016x}", "attributes": {"n": 1}}]] == [
            start[names.OTEL_LINKS] for start in starts(messages, "span")
        ]
        assert [[{**ids, "span_id": f"{1:016x}"}]] == [
            end[names.OTEL_LINKS] for end in ends(messages, "span")
        ]

    def test_limits(self, messages):
        """What the SDK has dropped is told."""
        tracing = Tracing(span_limits=SpanLimits(max_attributes=1, max_events=1, max_links=1))
        with tracing.tracer.start_as_current_span("span", attributes={"a": 1, "b": 1}) as span:
            for name in "xyz":
                span.add_event(name)
        (end,) = ends(messages, "span")
        assert {"attributes": 1, "events": 2} == end[names.OTEL_DROPPED]


def int_of(text):
    """Raise an exception of which the text is the reason."""
    raise ValueError(text)


class TestFailures:
    """A span with an error is a failed action."""

    def test_exception(self, tracing, messages):
        """An exception that leaves a span is in the end of its action."""
        span = tracing.tracer.start_as_current_span("span")
        with pytest.raises(ValueError, match="boom"), span:
            int_of("boom")
        (end,) = ends(messages, "span")
        assert ("failed", "ValueError", "boom") == (
            end["action_status"],
            end["exception"],
            end["reason"],
        )
        assert end["traceback"].endswith("ValueError: boom\n")
        assert names.OTEL_STATUS_MESSAGE not in end
        assert [("span",)] == paths(messages)

    def test_recorded_only(self, tracing, messages):
        """An exception that did not fail the span is a traceback in it."""
        with tracing.tracer.start_as_current_span("span") as span:
            span.record_exception(KeyError("k"), {"attempt": 1})
        assert ["succeeded"] == [end["action_status"] for end in ends(messages, "span")]
        (told,) = (m for m in messages if m.get("message_type") == "eliot:traceback")
        assert ("KeyError", "'k'", 1) == (told["exception"], told["reason"], told["attempt"])
        assert "KeyError" in told["traceback"]

    def test_status_alone(self, tracing, messages):
        """Without an exception, the status says what went wrong."""
        with tracing.tracer.start_as_current_span("span") as span:
            span.set_attribute("error.type", "500")
            span.set_status(StatusCode.ERROR, "no luck")
        (end,) = ends(messages, "span")
        assert ("failed", "500", "no luck") == (
            end["action_status"],
            end["exception"],
            end["reason"],
        )

    def test_nothing_said(self, tracing, messages):
        """A failed action has an exception and a reason in any case."""
        with tracing.tracer.start_as_current_span("span") as span:
            span.set_status(StatusCode.ERROR)
        (end,) = ends(messages, "span")
        assert ("StatusCode.ERROR", "") == (end["exception"], end["reason"])

    def test_other_description(self, tracing, messages):
        """What the status says besides the exception is kept."""
        with tracing.tracer.start_as_current_span("span") as span:
            span.record_exception(KeyError("first"))
            span.record_exception(KeyError("second"), {"attempt": 2})
            span.set_status(Status(StatusCode.ERROR, "gave up"))
        (end,) = ends(messages, "span")
        assert ("'second'", "gave up", 2) == (
            end["reason"],
            end[names.OTEL_STATUS_MESSAGE],
            end["attempt"],
        )
        assert [("span",), ("span", "eliot:traceback")] == paths(messages)

    def test_ok(self, tracing, messages):
        """A status that was set to OK is told."""
        with tracing.tracer.start_as_current_span("span") as span:
            span.set_status(StatusCode.OK)
        (end,) = ends(messages, "span")
        assert ("succeeded", "ok") == (end["action_status"], end[names.OTEL_STATUS])


class TestEnds:
    """However a span ends, its action does once."""

    def test_in_another_thread(self, tracing, messages):
        """A span may end elsewhere than it started."""
        span = tracing.tracer.start_span("span")
        in_a_thread(span.end)
        assert len(ends(messages, "span")) == 1

    def test_twice(self, tracing, messages):
        """A second end is not logged."""
        span = tracing.tracer.start_span("span")
        span.end()
        span.end()
        assert len(ends(messages, "span")) == 1

    def test_never(self, tracing, messages):
        """A span that does not end is an action without an end, and is not kept."""
        span = tracing.tracer.start_span("span")
        with trace.use_span(span):
            log_message("hello")
        del span
        gc.collect()
        assert [("span",), ("span", "hello")] == paths(messages)
        assert [] == ends(messages, "span")

    def test_before_what_is_in_it(self, tracing, messages):
        """What still comes after the end stays in the action."""
        with tracing.tracer.start_as_current_span("span") as span:
            span.end()
            log_message("hello")
        assert [("span",), ("span", "hello")] == paths(messages)

    def test_detached_elsewhere(self, tracing, messages):
        """A generator's steps may be made in other contexts; what is current there comes back."""

        def steps():
            with tracing.tracer.start_as_current_span("span"):
                yield log_message("hello")

        async def main():
            generator = steps()
            await asyncio.create_task(one_step(generator))
            await asyncio.create_task(one_step(generator))
            assert current_action() is None

        async def one_step(generator):
            next(generator, None)

        asyncio.run(main())
        assert [("span",), ("span", "hello")] == paths(messages)


class TestProcessor:
    """The processor itself breaks nothing."""

    def test_two_of_them(self, tracing, messages):
        """Two processors of one provider make one action of a span."""
        provider = TracerProvider(shutdown_on_exit=False)
        for _ in range(2):
            provider.add_span_processor(EliotSpanProcessor())
        with provider.get_tracer("t").start_as_current_span("span"):
            pass
        assert 2 == len(messages)
        assert provider.force_flush()
        provider.shutdown()

    def test_concurrent(self, messages):
        """Where the SDK calls processors in threads of its own, spans find their places too."""
        concurrently = ConcurrentMultiSpanProcessor()
        tracing = Tracing(active_span_processor=concurrently)
        span = tracing.tracer.start_as_current_span
        with start_action(action_type="action"), span("outer"), span("inner"):
            log_message("hello")
        path = ("action", "outer", "inner", "hello")
        assert [path[:length] for length in range(1, 5)] == paths(messages)
        concurrently._executor.shutdown()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_forked(self, tmp_path):
        """What a forked child logs is in the span it was forked in, which the parent ends."""
        log = tmp_path / "log"
        run_forking(
            """
import sys
from opentelemetry.sdk.trace import TracerProvider
from eliot_etw import log_message, to_file
from eliot_etw.opentelemetry import EliotSpanProcessor

to_file(sys.argv[1])
provider = TracerProvider()
provider.add_span_processor(EliotSpanProcessor())
with provider.get_tracer("test").start_as_current_span("span") as span:

    def work():
        log_message("child")
        span.end()

    in_child(work)
    log_message("parent")
""",
            log,
        )
        messages = list(FileSource(log))
        assert [("span",), ("span", "child"), ("span", "parent")] == paths(messages)
        assert len(ends(messages, "span")) == 1

    def test_destination_fails(self, tracing, messages):
        """A destination that raises does not reach the program."""

        def broken(message):
            raise RuntimeError

        add_destinations(broken)
        with tracing.tracer.start_as_current_span("span"):
            pass
        remove_destination(broken)
        assert 1 == len(ends(messages, "span"))

    def test_errors(self, tracing, messages):
        """What cannot be logged is counted, and does not reach the program."""
        tracing.processor.on_end(object())
        tracing.processor.on_start(object())
        assert {"errors": 2, "over": 0, "suppressed": 0} == tracing.processor.stats()

    def test_no_package(self, monkeypatch):
        """Without the SDK, importing it says what to install."""
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
        monkeypatch.delitem(sys.modules, "eliot_etw.opentelemetry.span_processor")
        with pytest.raises(MissingDependency, match=r"EliotSpanProcessor .*eliot-etw\[otel\]"):
            from eliot_etw.opentelemetry import EliotSpanProcessor  # noqa: F401


def in_a_thread(f, *args):
    """Call a function in a thread that knows of nothing, and have it done."""
    failures = []

    def call():
        try:
            f(*args)
        except BaseException as error:  # noqa: BLE001 - raised below, in the test
            failures.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert [] == failures


# What a program does: kinds of steps, and the steps within.
KINDS = ["action", "span", "dropped", "message", "task", "thread by span", "thread by action"]
programs = st.recursive(
    st.just(()),
    lambda inner: st.lists(st.tuples(st.sampled_from(KINDS), inner), max_size=4),
    max_leaves=12,
)


@dataclass(frozen=True)
class Where:
    """Where a step of a program is.

    Attributes:
        path: The names of the actions and recorded spans around it.
        nearest: The trace id and span id of the innermost of them.
        parent: Those of what OpenTelemetry takes for the parent, recorded or not.
    """

    path: tuple[str, ...] = ()
    nearest: tuple[int, int] | None = None
    parent: tuple[int, int] | None = None


class Program:
    """Runs steps, and notes where each belongs.

    Attributes:
        paths: The path to each action and message.
        parents: What the parent of each recorded span has to be, by its name.
    """

    def __init__(self, tracer):
        self.paths = []
        self.parents = {}
        self._tracer = tracer
        self._numbers = count()

    async def run(self, steps, where):
        """Run steps, tasks beside one another and all else one after the other."""
        tasks = []
        for kind, inner in steps:
            if kind == "task":
                tasks.append(asyncio.create_task(self.run(inner, where)))
            elif kind == "thread by span":
                in_a_thread(self._attached, otel_context.get_current(), inner, where)
            elif kind == "thread by action":
                there = replace(where, parent=where.nearest)
                action = current_action()
                in_a_thread(*([action.run] if action else []), self._in_a_loop, inner, there)
            else:
                await self._named(kind, inner, where)
        await asyncio.gather(*tasks)

    async def _named(self, kind, inner, where):
        name = f"{kind} {next(self._numbers)}"
        path = (*where.path, name)
        if kind != "dropped":
            self.paths.append(path)
        if kind == "message":
            log_message(name)
        elif kind == "action":
            with start_action(action_type=name) as action:
                uuid, level = action.task_uuid, action.task_level
                ids = int(trace_id_of(uuid), 16), int(span_id_of(uuid, level), 16)
                await self.run(inner, Where(path, ids, ids))
        else:
            with self._tracer.start_as_current_span(name) as span:
                ids = span.get_span_context().trace_id, span.get_span_context().span_id
                if kind == "span":
                    self.parents[name] = where.parent
                    await self.run(inner, Where(path, ids, ids))
                else:
                    await self.run(inner, replace(where, parent=ids))

    def _attached(self, context, inner, where):
        token = otel_context.attach(context)
        self._in_a_loop(inner, where)
        otel_context.detach(token)

    def _in_a_loop(self, inner, where):
        asyncio.run(self.run(inner, where))


class TestAnyNesting:
    """However actions and spans are nested, also across threads and tasks."""

    @given(programs)
    def test_tree(self, steps):
        """The tree of what was logged is the nesting, and OpenTelemetry has the same one."""
        destination = MemoryDestination()
        add_destinations(destination)
        tracing = Tracing(sampler=NotDropped())
        program = Program(tracing.tracer)
        try:
            asyncio.run(program.run(steps, Where()))
        finally:
            remove_destination(destination)
        assert sorted(program.paths) == paths(destination.messages)
        assert program.parents == {
            name: span.parent and (span.parent.trace_id, span.parent.span_id)
            for name, span in tracing.spans.items()
        }
        maker = SpanMaker()
        made = [span for message in destination.messages for span in maker.add(message)]
        made = [span for span in made if isinstance(span, Span)]
        ours = {span.name: (span.trace_id, span.span_id, span.parent_span_id) for span in made}
        for name, span in tracing.spans.items():
            theirs = span.context.trace_id, span.context.span_id
            parent = span.parent and f"{span.parent.span_id:016x}"
            assert (f"{theirs[0]:032x}", f"{theirs[1]:016x}", parent) == ours[name]
        assert {"errors": 0, "over": 0, "suppressed": 0} == tracing.processor.stats()
