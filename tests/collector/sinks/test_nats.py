"""Tests of the NATS sink: each message is in the stream once, and is read back as it was."""

from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("nats")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import encode_line
from eliot_etw.collector.sinks import MessagesRefused, Origin, SinkUnavailable
from eliot_etw.collector.sinks.nats import NatsSink
from eliot_etw.shipping import _nats_stream
from eliot_etw.sources import NatsSource
from tests import _services
from tests.collector.sinks._batches import batch_of, some
from tests.test_parse import odd_messages


@pytest.fixture
def stream():
    """Name a stream that no other test uses."""
    return f"test-{uuid4()}"


@pytest.fixture
def open_sink(stream):
    """Return a function that makes sinks for the stream; they are closed at the end."""
    made = []

    def open_sink(**options):
        made.append(NatsSink(_services.shared("nats").url, stream, timeout_s=30, **options))
        return made[-1]

    yield open_sink
    for each in made:
        each.close(5)
        each.close(5)


@pytest.fixture
def sink(open_sink):
    return open_sink()


def stored(stream):
    """Read what is in a stream."""
    return list(NatsSource(_services.shared("nats").url, stream=stream))


def numbers(stream):
    return [message["task_level"][0] for message in stored(stream)]


class TestStored:
    """What the source reads is what the sink was given."""

    @given(st.lists(odd_messages, max_size=20))
    def test_law(self, messages):
        """Any numbered messages come back as they went in, in their order."""
        stream = f"test-{uuid4()}"
        sink = NatsSink(_services.shared("nats").url, stream, timeout_s=30)
        sink.write(batch_of(messages, Origin("s", range(1, len(messages) + 1)))).result()
        assert [*map(encode_line, stored(stream))] == [*map(encode_line, messages)]
        sink.close(5)

    def test_several_senders(self, sink, stream):
        """A batch has messages of many, in pieces; those of each stay in their order."""
        messages = some(900)
        origins = [Origin(f"s{n % 7}", range(n * 10 + 1, n * 10 + 11)) for n in range(90)]
        sink.write(batch_of(messages, *origins)).result()
        found = numbers(stream)
        assert sorted(found) == [*range(1, 901)]
        for sender in range(7):
            of_it = [n for n in found if (n - 1) // 10 % 7 == sender]
            assert of_it == sorted(of_it)

    def test_larger_than_an_entry(self, sink, stream):
        """Long lines are entries of their own."""
        messages = [{**message, "text": "x" * 100_000} for message in some(9)]
        sink.write(batch_of(messages, Origin("s", range(1, 10)))).result()
        assert stored(stream) == messages


class TestOnce:
    """What comes again is there once."""

    def test_in_one_batch(self, sink, stream):
        """What came again before it was stored is in one batch twice."""
        messages = some(3)
        origins = [Origin("s", [1, 2]), Origin("s", [1, 2, 3])]
        sink.write(batch_of([*messages[:2], *messages], *origins)).result()
        assert stored(stream) == messages

    def test_over_a_restart_of_the_sink(self, open_sink, stream):
        """The stream knows it, not the sink, and not for a while only."""
        messages = some(3)
        first = open_sink(duplicate_window_s=0.1)
        first.write(batch_of(messages[:2], Origin("s", [1, 2]))).result()
        second = open_sink()
        second.write(batch_of(messages, Origin("s", [1, 2, 3]))).result()
        assert stored(stream) == messages
        # The first does not know that the second was there: the stream does.
        first.write(batch_of(messages, Origin("s", [1, 2, 3]))).result()
        assert stored(stream) == messages

    def test_answer_that_did_not_come(self, open_sink, stream, monkeypatch):
        """An entry of which nobody said whether it is in is sent again as it was."""
        sent = []
        publish = _nats_stream.NatsStream._publish

        async def lose_the_first(self, token, data, headers):
            sent.append(headers["Nats-Msg-Id"])
            ack = await publish(self, token, data, headers)
            if len(sent) == 1:
                raise TimeoutError
            # As if the server had not come to it yet when it was asked what it has.
            return ack

        monkeypatch.setattr(_nats_stream.NatsStream, "_publish", lose_the_first)
        sink = open_sink()
        messages = some(5)
        failed = sink.write(batch_of(messages[:3], Origin("s", [1, 2, 3])))
        assert isinstance(failed.exception(), SinkUnavailable)
        monkeypatch.setattr(sink._stream, "_place_of", _never_any(sink._stream._place_of))
        sink.write(batch_of(messages, Origin("s", range(1, 6)))).result()
        assert stored(stream) == messages
        assert sent[0] == sent[1]


def _never_any(place_of):
    """Make what finds nothing of a sender the first time."""
    asked = []

    async def find(sender):
        asked.append(sender)
        return _nats_stream._Place() if len(asked) == 1 else await place_of(sender)

    return find


def test_server_that_hangs(tmp_path, stream):
    """A server that does not answer makes the sink unavailable, in time."""
    server = _services.start("nats", tmp_path / "server")
    try:
        sink = NatsSink(server.url, stream, timeout_s=0.5)
        sink.write(batch_of(some(1), Origin("s", [1]))).result()
        server.pause()
        for _ in range(2):
            failed = sink.write(batch_of(some(2), Origin("s", [1, 2])))
            assert isinstance(failed.exception(), SinkUnavailable)
        server.go_on()
        sink._stream._timeout_s = 30
        sink.write(batch_of(some(2), Origin("s", [1, 2]))).result()
        assert list(NatsSource(server.url, stream=stream)) == some(2)
        sink.close(5)
    finally:
        server.go_on()
        server.stop()


def test_too_large(sink, stream):
    """What is larger than the server takes is refused; all others are stored."""
    messages = some(4)
    messages[1]["text"] = "x" * (2 << 20)
    messages[2]["text"] = "x" * (1 << 19)
    with pytest.raises(MessagesRefused) as caught:
        sink.write(batch_of(messages, Origin("s", [1, 2, 3, 4]))).result()
    assert [*caught.value.refused] == [1]
    assert stored(stream) == [messages[0], *messages[2:]]


def test_bounded(open_sink, stream):
    """A stream keeps as many bytes as it is told, the latest."""
    sink = open_sink(max_bytes=200_000)
    for number in range(1, 40):
        message = {**some(number)[-1], "text": "x" * 10_000}
        sink.write(batch_of([message], Origin("s", [number]))).result()
    found = numbers(stream)
    assert found == [*range(found[0], 40)]
    assert found[0] > 10
