"""Tests of messages as spans and log records: what OpenTelemetry sees of a tree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._names import OTEL_SPAN_ID, TRACEPARENT, TRACESTATE
from eliot_etw._trace_context import span_id_of, task_uuid_of, trace_id_of
from eliot_etw.otlp import _spans_of
from eliot_etw.otlp._model import CLIENT, ERROR, INTERNAL, OK, SERVER, UNSET, Link, Log, Span
from eliot_etw.otlp._spans_of import IS_REMOTE, SpanMaker, messages_in
from tests.otlp._trees import messages_of, spans_of
from tests.test_parse import is_permutation, logs

UUID = "5b1f5a3e-3c0b-4a8e-9f0d-2f6c1f1d7a10"
TRACE = UUID.replace("-", "")
TIME = 1795181013.25
TIME_NS = 1795181013250000000
FOREIGN = "b7ad6b7169203331"


def message(level, *, uuid=UUID, time=TIME, **fields):
    """Make a message as it is logged."""
    return {"task_uuid": uuid, "task_level": level, "timestamp": time, **fields}


def start(level=(), **fields):
    """Make the start of the action at a level."""
    fields = {"action_type": "app:work", "action_status": "started", **fields}
    return message([*level, 1], **fields)


def end(level, **fields):
    """Make the end of an action."""
    fields = {"action_type": "app:work", "action_status": "succeeded", **fields}
    return message(level, time=TIME + 1, **fields)


def span_of(*log, **options):
    """Return the one span of a few messages."""
    (span,) = spans_of(log, **options)
    assert isinstance(span, Span)
    return span


class TestSpans:
    """An action is a span."""

    def test_whole(self):
        """A span has all that an action has, in the places where OpenTelemetry wants it."""
        span = span_of(
            start(x=1, y="a"),
            message([2], message_type="app:step", z=[1, 2]),
            end([3], x=2, w=True),
            resource={"service.name": "shop"},
        )
        assert (span.trace_id, span.span_id, span.parent_span_id) == (
            TRACE,
            span_id_of(UUID, ()),
            None,
        )
        assert (span.name, span.kind, span.status_code) == ("app:work", INTERNAL, UNSET)
        assert (span.start_ns, span.end_ns) == (TIME_NS, TIME_NS + 10**9)
        assert span.attributes == {
            "eliot.task_level": "/",
            "x": 1,
            "y": "a",
            "eliot.end_task_level": "/3",
            "eliot.end.x": 2,
            "w": True,
            "eliot.end_fields": ["w"],
        }
        (event,) = span.events
        assert (event.name, event.time_ns) == ("app:step", TIME_NS)
        assert event.attributes == {"eliot.task_level": "/2", "z": [1, 2]}
        assert (span.scope, span.resource) == ("eliot_etw", {"service.name": "shop"})

    def test_failure(self):
        """A failed action is an error, with an event that tells of the exception."""
        span = span_of(
            start(),
            end([2], action_status="failed", exception="app.Error", reason="broken", errno=5),
        )
        assert (span.status_code, span.status_message) == (ERROR, "broken")
        (event,) = span.events
        assert (event.name, event.time_ns) == ("exception", span.end_ns)
        assert event.attributes == {
            "eliot.task_level": "/2",
            "exception.type": "app.Error",
            "exception.message": "broken",
        }
        assert span.attributes["errno"] == 5
        assert not {"reason", "exception"} & span.attributes.keys()

    @pytest.mark.parametrize("messages", ["events", "logs", "spans"])
    def test_traceback(self, messages):
        """A traceback is an exception event, whatever other messages become."""
        traceback = {
            "message_type": "eliot:traceback",
            "exception": "app.Error",
            "reason": "broken",
            "traceback": "File ...",
        }
        (event,) = span_of(start(), message([2], **traceback), end([3]), messages=messages).events
        assert event.name == "exception"
        assert event.attributes == {
            "eliot.task_level": "/2",
            "exception.type": "app.Error",
            "exception.message": "broken",
            "exception.stacktrace": "File ...",
        }

    def test_parent(self):
        """An action's parent is the action around it, known by its place alone."""
        inner, outer = spans_of(
            [start(), start([2]), end([2, 2]), end([3])],
        )
        assert inner.parent_span_id == outer.span_id == span_id_of(UUID, ())
        assert not inner.flags & IS_REMOTE

    def test_continued(self):
        """So is one in another process, and known to be remote."""
        span = span_of(start([2, 3], action_type="eliot:remote_task"), end([2, 3, 2]))
        assert span.parent_span_id == span_id_of(UUID, (2,))
        assert span.flags & IS_REMOTE

    def test_foreign_parent(self):
        """What continues a foreign span is its child, and what is passed on is passed on."""
        traceparent = f"00-{TRACE}-{FOREIGN}-01"
        level = [1 << 51]
        inner, outer = spans_of(
            [
                start(level, **{TRACEPARENT: traceparent, TRACESTATE: "a=b"}),
                start([*level, 2]),
                end([*level, 2, 2]),
                end([*level, 3]),
            ]
        )
        assert (outer.parent_span_id, outer.trace_state) == (FOREIGN, "a=b")
        assert outer.flags & IS_REMOTE
        assert (inner.parent_span_id, inner.trace_state) == (outer.span_id, "a=b")

    @pytest.mark.parametrize(
        "traceparent", ["nonsense", 7, f"00-{'1' * 32}-{FOREIGN}-01", f"00-{TRACE}-{'0' * 16}-01"]
    )
    def test_wrong_foreign_parent(self, traceparent):
        """A parent that cannot be the parent is none."""
        span = span_of(start([2], **{TRACEPARENT: traceparent}), end([2, 2]))
        assert span.parent_span_id == span_id_of(UUID, ())

    def test_spans_of_opentelemetry(self):
        """An action that was made of a span has that span's id, and all that is known of it."""
        inner, outer = spans_of(
            [
                start(
                    **{
                        OTEL_SPAN_ID: FOREIGN,
                        "otel:kind": "server",
                        "otel:scope": "http",
                        "otel:links": [
                            {"trace_id": TRACE, "span_id": FOREIGN, "attributes": {"a": [1, ""]}},
                            {"trace_id": "1", "span_id": FOREIGN},
                            "nonsense",
                        ],
                    }
                ),
                start([2], **{"otel:parent_span_id": "00f067aa0ba902b7"}),
                end([2, 2], **{"otel:status": "ok"}),
                end([3], **{"otel:name": "GET /"}),
            ]
        )
        assert (outer.span_id, outer.kind, outer.scope) == (FOREIGN, SERVER, "http")
        assert (outer.name, outer.attributes["action_type"]) == ("GET /", "app:work")
        assert outer.links == [Link(TRACE, FOREIGN, {"a": '[1,""]', "eliot.json": ["a"]})]
        assert (inner.parent_span_id, inner.status_code) == ("00f067aa0ba902b7", OK)

    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({"action_type": "http:request"}, SERVER),
            ({"action_type": "http:call"}, CLIENT),
            ({"action_type": "http:call", "otel:kind": "server"}, SERVER),
            ({"otel:kind": "client"}, CLIENT),
            ({"otel:kind": "unspecified"}, INTERNAL),
            ({"otel:kind": ["client"]}, INTERNAL),
        ],
    )
    def test_kinds(self, fields, kind):
        """Requests and calls are of their kinds; of any action a field says it."""
        span = span_of(start(**fields), end([2]))
        assert kind == span.kind

    def test_resources(self):
        """What says which program made it is of that, and so is what is within it."""
        bank, own = {"service.name": "bank"}, {"service.name": "shop"}
        log, inner, outer, alone, last = spans_of(
            [
                start(**{"otel:resource": bank}),
                start([2]),
                message([2, 2], message_type="m"),
                end([2, 3]),
                end([3]),
                message([1], uuid=UUID[::-1], **{"otel:resource": bank}),
                message([1], uuid=UUID[::-1], **{"otel:resource": "no resource"}),
            ],
            messages="logs",
            resource=own,
        )
        assert [bank] * 4 + [own] == [x.resource for x in (log, inner, outer, alone, last)]

    def test_child_of_a_span(self):
        """The id of a span is that of its action's parent, too."""
        inner, _ = spans_of(
            [start(**{OTEL_SPAN_ID: FOREIGN}), start([2]), end([2, 2]), end([3])],
        )
        assert inner.parent_span_id == FOREIGN

    def test_clock_set_back(self):
        """A span does not end before it starts."""
        span = span_of(start(), {**end([2]), "timestamp": TIME - 5})
        assert span.end_ns == span.start_ns
        assert span.attributes["eliot.end_timestamp"] == f"[{TIME - 5}]"

    def test_no_uuid(self):
        """A task whose name is no UUID has a digest of it as its trace."""
        span = span_of(message([1], uuid="task", action_type="a", action_status="started"))
        assert span.trace_id == trace_id_of("task")
        assert task_uuid_of(span.trace_id) != "task"
        assert span.attributes["eliot.task_uuid"] == "task"


class TestLogs:
    """Messages that no span takes."""

    def test_lone(self):
        """A message outside of any action is a log record of a trace without spans."""
        log = message([1], message_type="app:lone", log_level="warning", x={"a": None})
        assert spans_of([log]) == [
            Log(
                time_ns=TIME_NS,
                severity_number=13,
                severity_text="WARN",
                body="app:lone",
                attributes={
                    "eliot.task_level": "/1",
                    "log_level": "warning",
                    "x": '{"a":null}',
                    "eliot.json": ["x"],
                },
                trace_id=TRACE,
                span_id=None,
                event_name="app:lone",
                scope="eliot_etw",
            )
        ]

    def test_body(self):
        """What it says to people is the body; of a traceback, the reason."""
        said, traceback = spans_of(
            [
                message([1], message_type="eliot:stdlib", message="Hello"),
                message([1], message_type="eliot:traceback", reason="broken"),
            ]
        )
        assert (said.body, said.attributes["eliot.body"]) == ("Hello", "message")
        assert "message" not in said.attributes
        assert (traceback.body, traceback.severity_text) == ("broken", "FATAL")

    def test_logs_of_actions(self):
        """With that option, messages in actions are log records that name the span."""
        log, span = spans_of(
            [start(), message([2], message_type="app:step"), end([3])], messages="logs"
        )
        assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
        assert span.events == []

    def test_late(self):
        """So is what comes when the action is over."""
        span, log = spans_of([start(), end([2]), message([3], message_type="app:late")])
        assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)

    def test_only_spans(self):
        """A receiver that knows nothing but spans gets spans of no length."""
        lone, outer, late = spans_of(
            [
                message([1], uuid="lone", message_type="app:lone"),
                start(),
                end([2]),
                message([3], message_type="eliot:traceback"),
            ],
            messages="spans",
        )
        assert (lone.name, lone.parent_span_id, lone.start_ns) == ("app:lone", None, lone.end_ns)
        assert (late.name, late.parent_span_id) == ("exception", outer.span_id)
        assert (lone.status_code, late.status_code) == (UNSET, ERROR)

    @pytest.mark.parametrize(
        ("level", "severity"),
        [
            ("debug", (5, "DEBUG")),
            ("info", (9, "INFO")),
            (25, (9, "INFO")),
            ("critical", (21, "FATAL")),
            (3, (1, "TRACE")),
            (-(10**30), (1, "TRACE")),
            (10**30, (21, "FATAL")),
        ],
    )
    def test_severity(self, level, severity):
        """The levels of `logging` are severities."""
        (log,) = spans_of([message([1], log_level=level)])
        assert severity == (log.severity_number, log.severity_text)


class TestBounds:
    """Memory is bounded, and what had to make room is counted."""

    def test_unfinished(self):
        """What is open at the end is given out, and says so."""
        maker = SpanMaker()
        log = [start(), message([2], time=TIME + 2, message_type="app:step"), start([3])]
        assert [item for each in log for item in maker.add(each)] == []
        outer, inner = maker.rest()
        assert outer.attributes["eliot.unfinished"]
        assert (outer.end_ns, inner.end_ns) == (TIME_NS + 2 * 10**9, TIME_NS)
        assert (maker.unfinished, maker.held) == (2, 0)
        assert is_permutation(log, messages_of([outer, inner]))

    def test_too_many_open(self):
        """When there are too many actions, the oldest makes room."""
        maker = SpanMaker(max_held=2)
        found = [item for number in (2, 3, 4) for item in maker.add(start([number]))]
        assert [span.attributes["eliot.task_level"] for span in found] == ["/2"]
        assert (maker.unfinished, maker.held) == (1, 2)

    def test_too_many_events(self):
        """A span has as many events as OpenTelemetry allows; more are log records."""
        most = _spans_of.MAX_EVENTS
        within = [message([number + 2], message_type="app:step") for number in range(most + 1)]
        log, span = spans_of([start(), *within, end([most + 3])])
        assert (len(span.events), log.span_id) == (most, span.span_id)

    @given(logs(), st.integers(1, 5))
    def test_never_more_than_allowed(self, log, most):
        """As many messages as allowed are held, and not one more."""
        maker = SpanMaker(max_held=most)
        given_out = 0
        for number, each in enumerate(log, 1):
            given_out += sum(map(messages_in, maker.add(each)))
            assert maker.held == number - given_out <= most
