"""Tests of the otlp sink: what a receiver gets, and gets again after it was ill."""

import sys

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from eliot_etw import add_destinations, log_message, start_action
from eliot_etw._json import decode_line, encode_line
from eliot_etw.collector.sinks import Batch, SinkUnavailable
from eliot_etw.collector.sinks.otlp import OtlpSink
from eliot_etw.destinations import MemoryDestination
from eliot_etw.exceptions import MissingDependency
from tests._otlp_receiver import grpc_receiver, http_receiver
from tests.otlp._trees import messages_of
from tests.test_parse import is_permutation

REFUSED = 400
ILL = 503


@pytest.fixture
def receiver():
    """Return a receiver that speaks HTTP."""
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def sink(receiver):
    sink = OtlpSink(receiver.url, timeout_s=1)
    yield sink
    sink.close(5)


def lines_of(actions):
    """Log so many actions, each with a message, and a message outside of any."""
    memory = MemoryDestination()
    add_destinations(memory)
    for number in range(actions):
        with start_action(action_type=f"a{number}"):
            log_message("inside", number=number)
    log_message("outside")
    return [encode_line(message)[:-1] for message in memory.messages]


def received(receiver):
    """Return the lines of what was received, as messages."""
    return [encode_line(message)[:-1] for message in messages_of(receiver.items)]


@pytest.mark.parametrize("messages", ["events", "logs", "spans"])
def test_stored(receiver, messages):
    """What the receiver gets is the messages that the sink was given."""
    sink = OtlpSink(receiver.url, messages=messages, service_name="shop")
    lines = lines_of(3)
    sink.store(Batch(lines))
    assert is_permutation([decode_line(line) for line in lines], list(messages_of(receiver.items)))
    assert {span.resource["service.name"] for span in receiver.spans} == {"shop"}
    sink.close(5)


def test_over_grpc():
    """A receiver may speak gRPC."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")
    with grpc_receiver() as receiver:
        sink = OtlpSink(receiver.url, protocol="grpc")
        lines = lines_of(2)
        sink.store(Batch(lines))
        assert sorted(received(receiver)) == sorted(lines)
        sink.close(5)


def test_actions_over_batches(sink, receiver):
    """An action is sent when it is over, whichever batches its messages are in."""
    lines = lines_of(1)
    for line in lines:
        sink.store(Batch([line]))
    assert sorted(received(receiver)) == sorted(lines)
    assert len(receiver.spans) == 1
    assert sink.stats() == {"sent": 2, "dropped": 0}


def test_receiver_ill(sink, receiver):
    """What the receiver does not take is sent again, and nothing is made twice."""
    lines = lines_of(4)
    receiver.answer = ILL
    for _ in range(5):
        with pytest.raises(SinkUnavailable, match="did not take 4 traces"):
            sink.store(Batch(lines))
    receiver.answer = 200
    sink.store(Batch(lines))
    assert sorted(received(receiver)) == sorted(lines)


def test_receiver_gone(sink, receiver):
    """A receiver that is not there is one that does not take anything."""
    receiver.is_gone = True
    with pytest.raises(SinkUnavailable):
        sink.store(Batch(lines_of(1)))


def test_refused(sink, receiver):
    """What the receiver refuses, while it takes others, is dropped, and counted."""
    lines = lines_of(4)
    # The first tries as a whole; then one by one, and the last that was taken again.
    receiver.answers.extend([REFUSED] * 3 + [200, REFUSED, 200, 200, 200])
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            sink.store(Batch(lines))
    sink.store(Batch(lines))
    assert {span.name for span in receiver.spans} == {"a0", "a2", "a3"}
    assert sink.stats() == {"sent": 4, "dropped": 1}


def test_gone_while_sorted_out(sink, receiver):
    """A receiver that goes away meanwhile has refused nothing."""
    lines = lines_of(4)
    receiver.answers.extend([REFUSED] * 3 + [200, REFUSED, REFUSED, REFUSED, REFUSED])
    for _ in range(3):
        with pytest.raises(SinkUnavailable):
            sink.store(Batch(lines))
    sink.store(Batch(lines))
    assert {span.name for span in receiver.spans} == {"a0", "a1", "a2", "a3"}
    assert sink.stats() == {"sent": 5, "dropped": 0}


def test_end(receiver):
    """At the end, actions that are open are sent as they are."""
    sink = OtlpSink(receiver.url)
    lines = lines_of(1)
    sink.store(Batch(lines[:2]))
    assert receiver.items == []
    sink.close(5)
    sink.close(5)
    assert sorted(received(receiver)) == sorted(lines[:2])


def test_end_with_a_receiver_that_hangs(receiver):
    """A receiver that hangs holds up the end no longer than it may."""
    sink = OtlpSink(receiver.url, timeout_s=60)
    sink.store(Batch(lines_of(1)[:2]))
    receiver.answer = ILL  # the SDK would try again for a minute
    sink.close(0.1)
    assert receiver.items == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_held": 0}, "max_held must be at least 1"),
        ({"endpoint": "here"}, "endpoint must be a URL"),
        ({"protocol": "carrier pigeon"}, "protocol must be one of"),
        ({"messages": "letters"}, "messages must be one of"),
    ],
)
def test_wrong_settings(options, why):
    """A wrong setting is named."""
    with pytest.raises(ValueError, match="must be") as caught:
        OtlpSink(**options)
    assert why in str(caught.value)


def test_not_installed(monkeypatch):
    """Without OpenTelemetry, the constructor says what to install."""
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"eliot-etw\[otel\]"):
        OtlpSink()
