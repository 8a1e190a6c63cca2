"""Tests of spans as actions, with OpenTelemetry's SDK."""

import pytest

pytest.importorskip("opentelemetry.sdk")

from eliot_etw import log_message, start_action
from eliot_etw._trace_context import span_id_of, trace_id_of
from tests._tracing import Tracing, ends, ids_of, paths, starts


@pytest.fixture
def tracing():
    """Have OpenTelemetry record spans."""
    return Tracing()


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
