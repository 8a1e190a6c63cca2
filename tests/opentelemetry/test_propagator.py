"""Tests of the headers that OpenTelemetry's calls carry."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eliot_etw import Action, log_message, start_action
from eliot_etw import _names as names
from eliot_etw._task_level import parse_task_id
from eliot_etw._trace_context import FIRST_DRAWN, TraceParent, span_id_of, trace_id_of
from eliot_etw.http import continue_from
from eliot_etw.opentelemetry import EliotPropagator
from tests._tracing import Tracing, paths, starts

TASK_UUID = "0af76519-16cd-43dd-8448-eb211c80319c"
TASK_ID = f"{TASK_UUID}@/2/3"
PARENT = TraceParent(trace_id_of(TASK_UUID), span_id_of(TASK_UUID, [2]), 1)
OTHER = TraceParent(PARENT.trace_id, "b7ad6b7169203331", 1)
OTHER_TRACE = TraceParent("4bf92f3577b34da6a3ce929d0e0e4736", "b7ad6b7169203331", 1)


@pytest.fixture
def tracing():
    """Have OpenTelemetry record spans."""
    return Tracing()


@pytest.fixture
def propagator():
    """Return what is tested."""
    return EliotPropagator()


def headers(parent=None, task_id=None, **more):
    """Return headers as they are received."""
    own = {"traceparent": parent and parent.to_string(), "x-eliot-task-id": task_id, **more}
    return {name: value for name, value in own.items() if value is not None}


def place_in(carrier):
    """Return the task that headers name, and the level of the action with the place."""
    uuid, level = parse_task_id(carrier["X-Eliot-Task-Id"])
    assert level[-1] >= FIRST_DRAWN
    return uuid, level[:-1]


class TestInject:
    """What goes out names the span, and a place in its action."""

    def test_in_an_action(self, propagator, messages):
        """Within an action, both headers are there; each time it is another place."""
        one, two = {}, {}
        with start_action(action_type="action") as action:
            propagator.inject(one)
            propagator.inject(two)
        assert action.traceparent() == one["traceparent"] == two["traceparent"]
        assert (action.task_uuid, ()) == place_in(one) == place_in(two)
        assert one["X-Eliot-Task-Id"] != two["X-Eliot-Task-Id"]
        # Nothing is missing if nobody goes on there.
        assert [[1], [2]] == [message["task_level"] for message in messages]

    def test_in_a_span(self, tracing, propagator, messages):
        """Within a span, it is that span, and a place in its action."""
        sent = {}
        started = tracing.tracer.start_as_current_span("span")
        with start_action(action_type="action") as action, started as span:
            propagator.inject(sent)
        span_id = f"{span.get_span_context().span_id:016x}"
        expected = TraceParent(trace_id_of(action.task_uuid), span_id, 1).to_string()
        assert (expected, (action.task_uuid, (2,))) == (sent["traceparent"], place_in(sent))

    def test_not_recorded(self, propagator, messages):
        """Within a span that is not recorded, it is a place in the action around it."""
        sent = {}
        span = Tracing(sampler=ALWAYS_OFF).tracer.start_as_current_span("span")
        with start_action(action_type="action") as action, span:
            propagator.inject(sent)
        assert sent["traceparent"].endswith("-00")
        assert (action.task_uuid, ()) == place_in(sent)

    def test_explicit_context(self, propagator, messages):
        """With a context given, it is what that context says."""
        with start_action(action_type="action") as action:
            context = otel_context.get_current()
        sent = {}
        propagator.inject(sent, context)
        assert action.traceparent() == sent["traceparent"]
        assert propagator.fields == {*sent, "tracestate"}

    def test_task_that_cannot_be_sent(self, propagator, messages):
        """A task with a name that no header can have is sent as a trace alone."""
        sent = {}
        with Action(None, "a\nb", (), "action"):
            propagator.inject(sent)
        assert ["traceparent"] == [*sent]

    def test_nothing(self, propagator):
        """Outside of any action and span, nothing goes out."""
        sent = {}
        propagator.inject(sent)
        assert {} == sent


class TestExtract:
    """What comes in is gone on from."""

    def test_both(self, tracing, propagator, messages):
        """A span has exactly the place that was sent, and the parent that was sent."""
        context = propagator.extract(headers(PARENT, TASK_ID, tracestate="vendor=x"))
        tracing.tracer.start_span("span", context=context).end()
        (start,) = starts(messages, "span")
        assert (TASK_UUID, [2, 3, 1]) == (start["task_uuid"], start["task_level"])
        assert "vendor=x" == start[names.TRACESTATE]
        assert not start.keys() & {names.TRACEPARENT, names.OTEL_PARENT_SPAN_ID}
        parent = tracing.spans["span"].parent
        assert (PARENT.parent_id, True) == (f"{parent.span_id:016x}", parent.is_remote)

    def test_sent_by_a_span(self, tracing, propagator, messages):
        """If the sender was in a span, what is written says which, as the place does not."""
        context = propagator.extract(headers(OTHER, TASK_ID))
        tracing.tracer.start_span("span", context=context).end()
        (start,) = starts(messages, "span")
        assert [2, 3, 1] == start["task_level"]
        assert OTHER.parent_id == start[names.OTEL_PARENT_SPAN_ID]

    def test_place_alone(self, tracing, propagator, messages):
        """From a peer that knows Eliot alone, the parent is what the place says."""
        context = propagator.extract(headers(task_id=TASK_ID))
        tracing.tracer.start_span("span", context=context).end()
        (start,) = starts(messages, "span")
        assert (TASK_UUID, [2, 3, 1]) == (start["task_uuid"], start["task_level"])
        parent = tracing.spans["span"].parent
        assert PARENT == TraceParent(f"{parent.trace_id:032x}", f"{parent.span_id:016x}", 1)

    def test_traceparent_alone(self, tracing, propagator, messages):
        """From a peer that knows OpenTelemetry alone, the place is drawn."""
        context = propagator.extract(headers(OTHER))
        tracing.tracer.start_span("span", context=context).end()
        (start,) = starts(messages, "span")
        assert TASK_UUID == start["task_uuid"]
        assert start["task_level"][0] >= FIRST_DRAWN
        assert OTHER.to_string() == start[names.TRACEPARENT]

    def test_two_traces(self, tracing, propagator, messages):
        """If both name another trace, traceparent counts, and the start tells of the other."""
        context = propagator.extract(headers(OTHER_TRACE, TASK_ID))
        tracing.tracer.start_span("span", context=context).end()
        (start,) = starts(messages, "span")
        assert OTHER_TRACE.trace_id == trace_id_of(start["task_uuid"])
        assert {"reason": "another trace", "task_id": TASK_ID} == start[names.NOT_CONTINUED]

    def test_second_span(self, tracing, propagator, messages):
        """A place is for one; the second span that goes on from it has one that is drawn."""
        context = propagator.extract(headers(task_id="nightly@/2/3"))
        for name in ("first", "second"):
            tracing.tracer.start_span(name, context=context).end()
        (first,), (second,) = starts(messages, "first"), starts(messages, "second")
        assert ("nightly", [2, 3, 1]) == (first["task_uuid"], first["task_level"])
        assert "nightly" == second["task_uuid"]
        above, drawn, one = second["task_level"]
        assert (2, True, 1) == (above, drawn >= FIRST_DRAWN, one)

    def test_without_a_span(self, propagator, messages):
        """What is logged without a span is at the place."""
        token = otel_context.attach(propagator.extract(headers(PARENT, TASK_ID)))
        log_message("hello")
        otel_context.detach(token)
        assert [(names.REMOTE_TASK,), (names.REMOTE_TASK, "hello")] == paths(messages)
        assert [[2, 3, 1], [2, 3, 2], [2, 3, 3]] == [m["task_level"] for m in messages]

    @pytest.mark.parametrize(
        "carrier",
        [
            {},
            headers(task_id="nonsense"),
            headers(task_id="x@" + 1_500 * "/1"),
            headers(task_id=f"x@/{2 * FIRST_DRAWN}"),
            headers(task_id="x\n@/1"),
            headers(task_id=["x@/1", "x@/2"]),
            headers(task_id=7),
            headers(traceparent="nonsense"),
            headers(traceparent="00-" + 32 * "0" + "-b7ad6b7169203331-01", task_id=""),
        ],
    )
    def test_nothing_valid(self, propagator, carrier):
        """Without anything valid the context is the one that was given."""
        given = Context({"key": 1})
        assert given is propagator.extract(carrier, given)
        assert Context() == propagator.extract(carrier)

    def test_as_sent(self, propagator):
        """A plain dict may have the header's name in the spelling in which it is sent."""
        context = propagator.extract({"X-Eliot-Task-Id": TASK_ID})
        assert get_current_span(context).get_span_context().is_valid

    @pytest.mark.parametrize("order", [1, -1])
    def test_beside_others(self, tracing, messages, order):
        """It is one among other propagators, in any order."""
        others = [W3CBaggagePropagator(), TraceContextTextMapPropagator(), EliotPropagator()]
        propagator = CompositePropagator(others[::order])
        carrier = headers(OTHER, TASK_ID, baggage="k=v")
        context = propagator.extract(carrier)
        tracing.tracer.start_span("span", context=context).end()
        assert [[2, 3, 1]] == [start["task_level"] for start in starts(messages, "span")]
        assert {"k": "v"} == baggage.get_all(context)


class TestBothWays:
    """What is injected and extracted is one tree."""

    def test_spans(self, tracing, propagator, messages):
        """A span that goes on from a span is in it, whatever is in between."""
        sent = {}
        with tracing.tracer.start_as_current_span("client"):
            propagator.inject(sent)
        token = otel_context.attach(propagator.extract(sent))
        with tracing.tracer.start_as_current_span("server"), start_action(action_type="action"):
            pass
        otel_context.detach(token)
        expected = [("client",), ("client", "server"), ("client", "server", "action")]
        assert expected == paths(messages)

    def test_from_eliot(self, propagator, tracing, messages):
        """An action that was continued by Eliot's own means goes on in OpenTelemetry's."""
        with start_action(action_type="action") as action:
            task_id = action.serialize_task_id()
        sent = {}
        with Action.continue_task(task_id=task_id, action_type="continued"):
            propagator.inject(sent)
        tracing.tracer.start_span("span", context=propagator.extract(sent)).end()
        expected = [("action",), ("action", "continued"), ("action", "continued", "span")]
        assert expected == paths(messages)


class TestMiddleware:
    """Beside what else reads headers, `eliot_etw.http`: each place is for one action."""

    CARRIERS = (headers(PARENT, TASK_ID), headers(task_id="x@/7"), headers(OTHER), headers())

    @pytest.mark.parametrize("carrier", CARRIERS)
    def test_within(self, tracing, propagator, messages, carrier):
        """Within a request's span, the request of the middleware is part of it."""
        token = otel_context.attach(propagator.extract(carrier))
        with (
            tracing.tracer.start_as_current_span("server", kind=SpanKind.SERVER),
            start_action(action_type="in between"),
        ):
            continue_from(carrier, action_type="http:request").finish()
        otel_context.detach(token)
        path = ("server", "in between", "http:request")
        assert [path[:1], path[:2], path] == paths(messages)

    @pytest.mark.parametrize("carrier", CARRIERS[:-1])
    def test_not_recorded(self, propagator, messages, carrier):
        """So it is where the span is sampled out."""
        token = otel_context.attach(propagator.extract(carrier))
        with Tracing(sampler=ALWAYS_OFF).tracer.start_as_current_span("server"):
            continue_from(carrier, action_type="http:request").finish()
        otel_context.detach(token)
        expected = [(names.REMOTE_TASK,), (names.REMOTE_TASK, "http:request")]
        assert expected == paths(messages)

    @pytest.mark.parametrize("carrier", CARRIERS)
    def test_around(self, tracing, messages, carrier):
        """The other way round, the span is part of the request of the middleware."""
        with continue_from(carrier, action_type="http:request"):
            tracing.tracer.start_span("server", kind=SpanKind.SERVER).end()
        assert [("http:request",), ("http:request", "server")] == paths(messages)


class TestEntryPoints:
    """OpenTelemetry's environment variables know our names."""

    def test_environment(self):
        """OTEL_PROPAGATORS and OTEL_PYTHON_CONTEXT choose ours, without a line of code."""
        code = (
            "from opentelemetry import context, propagate, trace\n"
            "from eliot_etw import start_action\n"
            "carrier = {}\n"
            "with start_action(action_type='action') as action:\n"
            "    assert trace.get_current_span().get_span_context().is_valid\n"
            "    propagate.inject(carrier)\n"
            "assert carrier['traceparent'] == action.traceparent()\n"
            "print(*carrier, type(context._RUNTIME_CONTEXT).__name__)"
        )
        chosen = {"OTEL_PROPAGATORS": "eliot,baggage", "OTEL_PYTHON_CONTEXT": "eliot"}
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | chosen,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert ("traceparent X-Eliot-Task-Id EliotRuntimeContext\n", "") == (
            result.stdout,
            result.stderr,
        )
