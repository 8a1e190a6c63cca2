"""Tests of spans and log records as messages: ours as they were, others in one tree a trace."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import decode_line, encode_line
from eliot_etw._trace_context import FIRST_DRAWN, task_uuid_of
from eliot_etw.otlp._messages_of import MessageMaker
from eliot_etw.otlp._model import CLIENT, ERROR, OK, UNSET, Event, Link, Log, Span
from eliot_etw.otlp._spans_of import messages_in
from eliot_etw.parse import Parser, WrittenMessage
from tests.otlp._trees import hostile_logs, messages_of, spans_of
from tests.test_parse import damaged_logs, is_permutation, logs, task_of

options = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.sampled_from(["events", "logs", "spans"]),
        "max_held": st.integers(1, 5),
    },
)


TRACE = "0af7651916cd43dd8448eb211c80319c"
UUID = task_uuid_of(TRACE)
# Times that a float of seconds says exactly enough.
TIME_NS = 1_795_181_013_000_000_000
STEP_NS = 1_000_000


def an_id(number):
    """Make the id of a span."""
    return f"{number + 1:016x}"


def a_span(number, parent=None, **more):
    """Make a span as others do."""
    fields = {
        "trace_id": TRACE,
        "span_id": an_id(number),
        "parent_span_id": None if parent is None else an_id(parent),
        "name": f"span {number}",
        "start_ns": TIME_NS + number * STEP_NS,
        "end_ns": TIME_NS + 1000 * STEP_NS - number * STEP_NS,
    }
    return Span(**{**fields, **more})


@st.composite
def foreign_traces(draw):
    """The spans of one trace, each within one that began before it, in any order."""
    spans = [a_span(0)]
    for number in range(1, draw(st.integers(1, 12))):
        parent = draw(st.integers(0, number - 1))
        kind, status = draw(st.integers(1, 5)), draw(st.sampled_from([UNSET, OK]))
        spans.append(a_span(number, parent, kind=kind, status_code=status))
    return draw(st.permutations(spans))


class TestOurs:
    """What was a message of ours."""

    @given(logs() | damaged_logs() | hostile_logs, options)
    def test_law(self, log, options):
        """Messages come back, each once and with every value, whatever they are."""
        log = [decode_line(encode_line(message)) for message in log]
        items = spans_of(log, **options)
        assert sum(map(messages_in, items)) == len(log)
        assert is_permutation(log, messages_of(items))

    @pytest.mark.parametrize(
        "fields",
        [
            {"x": "\ud800", "\ud800": 1, "y": ["\ud800"], "é": "é", "z": ["é"]},
            {"x": float("nan"), "y": [float("inf")], "z": [1.0, None]},
            {"x": 2**63, "y": [2**70], "z": -(2**63)},
            {"x": [[], {}, [1, True]], "y": [], "z": {"": None}},
            {"": 1, "eliot.json": 2, "eliot.field.": 3, "eliot.end.x": 4, "eliot.task_level": 5},
            {"message_type": "eliot:message"},
            {"message_type": "exception", "exception.type": "E"},
            {"message_type": ["eliot:traceback"], "message": "\ud800"},
            {
                "message_type": "eliot:traceback",
                "exception": ["E"],
                "reason": "\ud800",
                "exception.type": "E",
                "exception.message": 7,
            },
        ],
    )
    @pytest.mark.parametrize("messages", ["events", "logs", "spans"])
    def test_odd_fields(self, fields, messages):
        """Logs of other programs hold what ours do not: it comes back all the same."""
        place = {"task_uuid": UUID, "timestamp": 1.5}
        of_action = {**place, "action_type": "a", **fields}
        log = [
            {**of_action, "task_level": [1], "action_status": "started"},
            {**place, **fields, "task_level": [2]},
            {**of_action, "task_level": [3], "action_status": "failed"},
            {**place, **fields, "task_level": [4]},
            {**fields, "task_uuid": 7},
        ]
        assert is_permutation(log, messages_of(spans_of(log, messages=messages)))

    def test_added_event(self):
        """An event that somebody added to a span of ours is a message in its action."""
        start = {
            "task_uuid": UUID,
            "task_level": [1],
            "action_type": "a",
            "action_status": "started",
        }
        (span,) = spans_of([start])
        added = replace(span, events=[Event("added", TIME_NS, {"x": 1})])
        first, more = messages_of([added])
        assert first == start
        assert (more["otel:event_name"], more["x"]) == ("added", 1)
        assert more["task_level"] > [FIRST_DRAWN]

    @pytest.mark.parametrize(
        "attributes",
        [
            {"eliot.task_level": 7},
            {"eliot.task_level": "/x"},
            {"eliot.task_level": "/0"},
            {"eliot.task_level": "2"},
            {"eliot.task_level": "/", "eliot.json": 7, "eliot.end_fields": "x"},
            {"eliot.task_level": "/", "eliot.json": ["x"], "x": "{"},
            {"eliot.task_level": "/", "eliot.json": ["x"], "x": [1]},
            {"eliot.task_level": "/", "eliot.timestamp": "7"},
            {"eliot.task_level": "/", "eliot.field.": 1, "eliot.end_task_level": "/1/1"},
            {"eliot.task_level": "", "eliot.body": 7, "eliot.task_uuid": 7},
        ],
    )
    def test_forged(self, attributes):
        """Attributes that look like ours and are not break nothing."""
        assert messages_of([a_span(0, attributes=attributes)])
        assert messages_of([Log(time_ns=TIME_NS, attributes=attributes, body=[1])])


class TestOthers:
    """What never was a message."""

    @given(foreign_traces())
    def test_one_tree(self, spans):
        """A trace is one tree, with nothing missing, each span within its parent."""
        (task,) = Parser.parse_stream(messages_of(spans))
        assert task.is_complete()
        assert task.task_uuid == UUID
        waiting = [(None, task.root())]
        found = {}
        for parent, action in waiting:
            own_id = action.start_message.contents["otel:span_id"]
            found[own_id] = parent
            waiting += [(own_id, child) for child in action.children]
        assert found == {span.span_id: span.parent_span_id for span in spans}

    @given(foreign_traces())
    def test_and_back(self, spans):
        """Spans that are made of its messages are the same in all that OpenTelemetry knows."""

        def known(span):
            return (
                *(span.trace_id, span.span_id, span.parent_span_id, span.name, span.kind),
                # A float of seconds is exact to some 200 ns.
                *(round(span.start_ns, -3), round(span.end_ns, -3), span.status_code),
            )

        log = messages_of(spans)
        log.sort(key=lambda message: (message["timestamp"], message["task_level"]))
        assert sorted(map(known, spans)) == sorted(map(known, spans_of(log)))

    def test_resources(self):
        """What program made it is said of what has another one than what is around it."""
        shop, bank = {"service.name": "shop"}, {"service.name": "bank"}
        place = {"trace_id": TRACE, "span_id": an_id(1), "time_ns": TIME_NS + 2 * STEP_NS}
        log = messages_of(
            [
                a_span(0, resource=shop),
                a_span(1, 0, resource=shop),
                a_span(2, 1, resource=bank),
                Log(body="same", resource=shop, **place),
                Log(body="other", resource=bank, **place),
                Log(body="alone", resource=bank, time_ns=TIME_NS),
                Log(body="unknown", time_ns=TIME_NS),
            ]
        )
        said = {
            message.get("otel:span_id") or message["message"]: message.get("otel:resource")
            for message in log
            if message.get("action_status", "started") == "started"
        }
        assert said == {
            an_id(0): shop,
            an_id(1): None,
            an_id(2): bank,
            "same": None,
            "other": bank,
            "alone": bank,
            "unknown": None,
        }

    def test_resources_in_ours(self):
        """So it is in actions of ours, whose program is known."""
        shop, bank = {"service.name": "shop"}, {"service.name": "bank"}
        ours = a_span(0, attributes={"eliot.task_level": "/"}, resource=shop)
        log = messages_of([ours, a_span(1, 0, resource=shop), a_span(2, 0, resource=bank)])
        assert {an_id(1): None, an_id(2): bank} == {
            message["otel:span_id"]: message.get("otel:resource")
            for message in log
            if "otel:span_id" in message
        }

    def test_no_time(self):
        """What says no time has none, rather than the year 1970."""
        log = messages_of(
            [
                a_span(0, events=[Event("hm", 0)], start_ns=0, end_ns=0),
                Log(time_ns=0, body="well"),
            ]
        )
        assert 3 == len(log)
        assert not any("timestamp" in message for message in log)

    def test_event_without_body(self):
        """A log record that is an event, and says no more, has no message."""
        (message,) = messages_of([Log(time_ns=TIME_NS, event_name="device.crash")])
        assert "message" not in message
        assert "device.crash" == message["otel:event_name"]

    def test_span(self):
        """A span is an action with all that is known of it."""
        span = a_span(
            1,
            0,
            name="GET",
            kind=CLIENT,
            attributes={"url": "/a", "task_uuid": "x", "otel:kind": 7, "raw": b"a", "nan": 1e999},
            events=[Event("retry", TIME_NS + 5 * STEP_NS, {"n": 2, "message_type": "own"})],
            links=[Link("1" * 32, an_id(7), {"a": 1})],
            status_code=OK,
            trace_state="a=b",
            scope="requests",
            resource={"service.name": "shop"},
        )
        start, event, end = messages_of([span])
        assert start == {
            "task_uuid": UUID,
            "task_level": [1],
            "timestamp": 1795181013.001,
            "action_type": "GET",
            "action_status": "started",
            "otel:span_id": an_id(1),
            "otel:parent_span_id": an_id(0),
            "otel:kind": "client",
            "otel:scope": "requests",
            "otel:links": [{"trace_id": "1" * 32, "span_id": an_id(7), "attributes": {"a": 1}}],
            "otel:resource": {"service.name": "shop"},
            "eliot:tracestate": "a=b",
            "url": "/a",
            "task_uuid_": "x",
            "otel:kind_": 7,
            "raw": "a",
            "nan": None,
        }
        assert event == {
            "task_uuid": UUID,
            "task_level": [2],
            "timestamp": 1795181013.005,
            "message_type": "retry",
            "message_type_": "own",
            "n": 2,
        }
        assert end == {
            "task_uuid": UUID,
            "task_level": [3],
            "timestamp": 1795181013.999,
            "action_type": "GET",
            "action_status": "succeeded",
            "otel:status": "ok",
        }

    def test_failure(self):
        """An error is a failed action; the last exception is why, others are tracebacks."""
        exceptions = [
            Event(
                "exception",
                TIME_NS + number,
                {
                    "exception.type": f"Error{number}",
                    "exception.message": "why",
                    "exception.stacktrace": "File ...",
                    "exception.escaped": "True",
                    "try": number,
                },
            )
            for number in range(2)
        ]
        span = a_span(0, status_code=ERROR, status_message="Error1: why", events=exceptions)
        _, traceback, end = messages_of([span])
        told = {"reason": "why", "traceback": "File ..."}
        for message, more in (
            (traceback, {"message_type": "eliot:traceback", "exception": "Error0", "try": 0}),
            (end, {"action_status": "failed", "exception": "Error1", "try": 1}),
        ):
            assert {**told, **more}.items() <= message.items()
            assert "exception.escaped" not in message
        assert "otel:status_message" not in end

    @pytest.mark.parametrize(
        ("attributes", "exception"), [({"error.type": "timeout"}, "timeout"), ({}, "ERROR")]
    )
    def test_failure_without_exception(self, attributes, exception):
        """Without one, it is what the attributes or the status say."""
        span = a_span(0, status_code=ERROR, status_message="late", attributes=attributes)
        end = messages_of([span])[-1]
        assert (end["exception"], end["reason"]) == (exception, "late")

    @pytest.mark.parametrize(
        ("record", "fields"),
        [
            ({"body": "hi"}, {"message": "hi"}),
            ({"body": {"a": [1, None]}}, {"message": {"a": [1, None]}}),
            ({"severity_text": "warning"}, {"log_level": "warning"}),
            ({"severity_number": 18}, {"log_level": "ERROR"}),
            ({"severity_number": 1, "severity_text": "T"}, {"otel:severity": "T"}),
            ({"scope": "shop", "event_name": "e"}, {"logger": "shop", "otel:event_name": "e"}),
            ({"attributes": {"exception.type": "E", "a": 1}}, {"exception": "E", "a": 1}),
        ],
    )
    def test_log(self, record, fields):
        """A log record is a message; one outside of any trace is a task of its own."""
        (message,) = messages_of([Log(time_ns=TIME_NS, **record)])
        assert fields.items() <= message.items()
        assert (message["message_type"], message["task_level"]) == ("otel:log", [1])
        (task,) = Parser.parse_stream([message])
        assert isinstance(task.root(), WrittenMessage)

    def test_logs_of_a_span(self):
        """Log records stand in their span, by time; those that name none, in the root."""
        logs = [
            Log(time_ns=TIME_NS + time, trace_id=TRACE, span_id=own_id, body=time)
            for time, own_id in ((3 * STEP_NS, an_id(1)), (2 * STEP_NS, None), (1, an_id(0)))
        ]
        (task,) = Parser.parse_stream(messages_of([*logs, a_span(1, 0), a_span(0)]))
        first, inner, last = task.root().children
        assert [m.contents["message"] for m in (first, *inner.children, last)] == [
            1,
            3 * STEP_NS,
            2 * STEP_NS,
        ]

    def test_logs_alone(self):
        """Log records of a trace without spans are in one tree all the same."""
        logs = [Log(time_ns=TIME_NS, trace_id=TRACE, span_id=an_id(n), body=n) for n in (0, 1)]
        (task,) = Parser.parse_stream(messages_of(logs))
        assert [m.contents["message"] for m in task.root().children] == [0, 1]
        (message,) = messages_of(logs[:1])
        assert message["task_level"] == [1]

    def test_several_beginnings(self):
        """What is within nothing that is known stands side by side."""
        log = messages_of([a_span(1, 7), a_span(2, 8), a_span(3, 2)])
        (task,) = Parser.parse_stream(log)
        assert [child.action_type for child in task.root().children] == ["span 1", "span 2"]
        assert log[0]["otel:parent_span_id"] == an_id(7)

    def test_within_ours(self):
        """What others did within an action of ours stands in it, in the same tree."""
        start = {"task_uuid": UUID, "task_level": [1], "action_type": "a"}
        log = [{**start, "action_status": "started"}, {"task_uuid": UUID, "task_level": [2]}]
        end = {**start, "task_level": [3], "action_status": "succeeded"}
        (ours,) = spans_of([*log, end])
        theirs = a_span(1, parent_span_id=ours.span_id)
        for items in ([ours, theirs], [theirs, ours]):
            _, inner = task_of(messages_of(items)).root().children
            assert inner.is_complete()
            assert inner.action_type == "span 1"

    def test_cycles(self):
        """Spans that are within each other, or themselves, are there once."""
        spans = [a_span(1, 2), a_span(2, 1), a_span(3, 3)]
        found = [m.get("otel:span_id") for m in messages_of(spans)]
        assert sorted(filter(None, found)) == [an_id(1), an_id(2), an_id(3)]

    def test_too_deep(self):
        """A chain that no tree holds goes on at its root."""
        spans = [a_span(number, number - 1 if number else None) for number in range(1100)]
        log = messages_of(spans)
        assert len(log) == 2200
        assert max(len(message["task_level"]) for message in log) <= 1002

    def test_unfinished(self):
        """A span that has no end is an action that has none."""
        (message,) = messages_of([a_span(0, end_ns=0)])
        assert message["action_status"] == "started"

    def test_bounded(self):
        """When too much is held, the trace that came first is given out."""
        maker = MessageMaker(max_held=2)
        others = [replace(a_span(0), trace_id=f"{number:032x}") for number in (1, 2, 3)]
        first = [m for span in others for m in maker.add(span)]
        assert {message["task_uuid"] for message in first} == {task_uuid_of(f"{1:032x}")}
        assert maker.split == 1
        assert len(list(maker.rest())) == 4
