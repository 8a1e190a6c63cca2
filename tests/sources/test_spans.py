"""Tests of spans and log records as messages."""

import pytest

from eliot_etw.otlp._messages_of import MessageMaker
from eliot_etw.otlp._model import Log, Span
from eliot_etw.otlp._spans_of import SpanMaker
from eliot_etw.sources import _spans
from eliot_etw.sources._spans import SpanMessages


def through(*messages):
    """Make spans of messages, and messages of these; return them and what was left out."""
    maker = SpanMaker()
    with SpanMessages("x") as spans:
        for message in messages:
            for item in maker.add(message):
                spans.add(item, 10)
        for item in maker.rest():
            spans.add(item, 10)
        return list(spans), spans.skipped


def message(task="a-task", level=(1,), **fields):
    """Make a message."""
    return {"timestamp": 5.0, "task_uuid": task, "task_level": [*level], **fields}


def test_ours():
    """What was made of messages is the same messages, by time; those without one, too."""
    start = message(action_type="do", action_status="started")
    late = message(level=(3,), message_type="late", timestamp=9.0)
    early = message(level=(2,), message_type="early", timestamp=7.0)
    found, skipped = through(late, start, early)
    assert [start, early, late] == found
    assert {} == skipped
    timeless = {"task_uuid": "x", "task_level": [1], "timestamp": None, "message_type": "m"}
    assert [timeless, start] == through(start, timeless)[0]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_started(order):
    """A span that is told of at its start and at its end is told once; one without an end, too."""
    ids = {"trace_id": "1" * 32, "parent_span_id": None, "start_ns": 10**9}
    told = [
        Span(span_id="2" * 16, name="whole", end_ns=0, **ids),
        Span(span_id="2" * 16, name="whole", end_ns=2 * 10**9, **ids),
        Span(span_id="3" * 16, name="endless", end_ns=0, **ids),
    ]
    with SpanMessages("x") as spans:
        for number in order:
            spans.add(told[number], 10)
        found = [(message["action_type"], message["action_status"]) for message in spans]
    assert sorted(found) == [
        *(("endless", "started"), ("whole", "started"), ("whole", "succeeded")),
    ]


def test_repeated():
    """A span that was exported twice is given once, and counted; one of the same id later is."""
    ids = {"trace_id": "1" * 32, "parent_span_id": None, "span_id": "2" * 16, "name": "x"}
    with SpanMessages("x") as spans:
        for start_ns in (1, 1, 5):
            spans.add(Span(start_ns=start_ns, end_ns=9, **ids), 10)
        assert 4 == len(list(spans))
        assert {"repeated": 1} == spans.skipped


def test_misplaced():
    """A message without a place in a task is counted, not given."""
    assert ([], {"misplaced": 1}) == through({"message_type": "nowhere", "timestamp": 1.0})


def test_split(monkeypatch):
    """Traces that are too large are counted, each for itself."""
    monkeypatch.setattr(_spans, "MessageMaker", lambda: MessageMaker(max_held=2))
    logs = [Log(time_ns=n, trace_id=f"{n % 2 + 1:032x}", body="x") for n in range(10)]
    with SpanMessages("x") as spans:
        for log in logs:
            spans.add(log, 10)
        assert 10 == len(list(spans))
        assert 2 <= spans.skipped["split"] <= 8


@pytest.mark.parametrize("count", [0, 1])
def test_closed(count):
    """One that nobody has read to the end gives its room back."""
    with SpanMessages("x") as spans:
        for n in range(count):
            spans.add(Log(time_ns=n), 1 << 30)
    assert count == bool(spans._items._database)


def test_alone():
    """A log record of no trace is a task, of the same name each time, and of no other's name."""
    names = []
    for seed in ("x", "x", "y"):
        with SpanMessages(seed) as spans:
            for n in range(2):
                spans.add(Log(time_ns=n, body="same"), 10)
            names.append([message["task_uuid"] for message in spans])
    assert names[0] == names[1]
    assert 4 == len({*names[1], *names[2]})
