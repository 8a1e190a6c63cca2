"""Tests of OpenTelemetry's context and the current action, which are kept in step."""

import sys

import pytest

pytest.importorskip("opentelemetry.context")

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from eliot_etw import current_action, start_action, start_task
from eliot_etw.opentelemetry._runtime_context import EliotRuntimeContext, install

# The calls in Python that OpenTelemetry makes to return its context.
OWN = 2


@pytest.fixture(autouse=True)
def fresh_context(monkeypatch):
    """Give each test OpenTelemetry's own runtime context, and put back what was there."""
    monkeypatch.setattr(otel_context, "_RUNTIME_CONTEXT", ContextVarsRuntimeContext())


class TestInstall:
    """Installing it puts it around what is there."""

    def test_twice(self):
        """It is there once, however often it is installed."""
        install()
        there = otel_context._RUNTIME_CONTEXT
        install()
        assert there is otel_context._RUNTIME_CONTEXT
        assert isinstance(there, EliotRuntimeContext)

    def test_attached_before(self):
        """What is the current context stays so, and can still be left."""
        token = otel_context.attach(Context({"key": 1}))
        install()
        assert otel_context.get_value("key") == 1
        otel_context.detach(token)
        assert otel_context.get_value("key") is None

    def test_unknown_version(self, monkeypatch):
        """Where OpenTelemetry keeps no runtime context, the error says what else to do."""
        monkeypatch.setattr(otel_context, "_RUNTIME_CONTEXT", None)
        with pytest.raises(RuntimeError, match=r"got None.* OTEL_PYTHON_CONTEXT to 'eliot'"):
            install()


class TestContext:
    """The innermost of spans and actions is the current one, for both."""

    @pytest.fixture(autouse=True)
    def installed(self):
        """Have it around OpenTelemetry's own."""
        install()

    def test_without_actions(self):
        """Where there is no action, a context is the one that was attached."""
        assert otel_context.get_current() == {}
        context = Context({"key": 1})
        token = otel_context.attach(context)
        assert otel_context.get_value("key") == 1
        otel_context.detach(token)
        assert otel_context.get_current() == {}

    def test_values(self):
        """Values of the context are there within actions, too."""
        token = otel_context.attach(otel_context.set_value("key", 1))
        with start_action(action_type="action"):
            assert otel_context.get_value("key") == 1
            inner = otel_context.attach(otel_context.set_value("key", 2))
            assert otel_context.get_value("key") == 2
            otel_context.detach(inner)
            assert otel_context.get_value("key") == 1
        otel_context.detach(token)

    def test_attached_in_an_action(self):
        """A value that is attached changes neither the action nor the span."""
        with start_action(action_type="action") as action:
            span = trace.get_current_span()
            token = otel_context.attach(otel_context.set_value("key", 1))
            assert (action, span) == (current_action(), trace.get_current_span())
            with start_action(action_type="inner") as inner:
                assert trace.get_current_span() is not span
                assert current_action() is inner
            otel_context.detach(token)
            assert (action, span) == (current_action(), trace.get_current_span())

    def test_empty_context(self):
        """An empty context has no span; what is logged in it stays where it was."""
        with start_action(action_type="action") as action:
            token = otel_context.attach(Context())
            assert trace.get_current_span() is trace.INVALID_SPAN
            assert current_action() is action
            otel_context.detach(token)
            assert trace.get_current_span() is not trace.INVALID_SPAN

    def test_invalid_span(self):
        """The same holds for a context with an invalid span."""
        with start_action(action_type="action") as action:
            token = otel_context.attach(set_span_in_context(trace.INVALID_SPAN))
            assert trace.get_current_span() is trace.INVALID_SPAN
            assert current_action() is action
            otel_context.detach(token)

    def test_odd_span(self):
        """A span without ids, of whoever's making, is as none."""
        with start_action(action_type="action") as action:
            token = otel_context.attach(set_span_in_context(NonRecordingSpan(None)))
            assert current_action() is action
            with start_action(action_type="inner"):
                assert trace.get_current_span().get_span_context().is_valid
            otel_context.detach(token)

    def test_another_task(self):
        """A task of its own is a trace of its own."""
        with start_action(action_type="action"):
            outer = trace.get_current_span().get_span_context()
            with start_task(action_type="task"):
                inner = trace.get_current_span().get_span_context()
        assert outer.trace_id != inner.trace_id

    def test_left_in_another_order(self):
        """Contexts and actions that are left in the wrong order leave nothing behind."""
        action = start_action(action_type="action")
        action.__enter__()
        token = otel_context.attach(otel_context.get_current())
        action.__exit__(None, None, None)
        otel_context.detach(token)
        assert current_action() is None
        assert otel_context.get_current() == {}

    def test_unknown_span(self, messages):
        """A span of nobody's, and not of another process, changes no action."""
        stray = NonRecordingSpan(SpanContext(1, 1, False, TraceFlags(1)))
        with start_action(action_type="action") as action:
            token = otel_context.attach(set_span_in_context(stray))
            assert trace.get_current_span() is stray
            assert current_action() is action
            otel_context.detach(token)

    def test_calls(self):
        """To ask for the context costs one call in Python more, and two within an action."""
        assert calls_of(otel_context.get_current) == OWN + 1
        with start_action(action_type="action"):
            otel_context.get_current()
            assert calls_of(otel_context.get_current) == OWN + 2


def calls_of(function):
    """Count the calls in Python that a call of a function takes."""
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(frame) if event == "call" else None)
    try:
        function()
    finally:
        sys.setprofile(None)
    return len(calls)
