"""Tests of the Redis sink: each message is in the stream once, and is read back as it was."""

import signal
from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("redis")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import encode_line
from eliot_etw.collector.sinks import Batch, Origin, SinkUnavailable
from eliot_etw.collector.sinks.redis import RedisSink
from eliot_etw.exceptions import MissingDependency
from eliot_etw.sources import RedisSource
from tests import _services
from tests.test_parse import odd_messages


def some(number):
    """Make messages of one task."""
    return [
        {"task_uuid": "a", "task_level": [n], "timestamp": 1.0, "message_type": f"t{n}"}
        for n in range(1, number + 1)
    ]


def batch_of(messages, *origins):
    return Batch([encode_line(message)[:-1] for message in messages], origins)


@pytest.fixture
def stream():
    """Name a stream that no other test uses."""
    return f"test-{uuid4()}"


@pytest.fixture
def sink(stream):
    server = _services.shared("redis")
    sink = RedisSink(server.url, stream)
    yield sink
    sink.close(5)


def stored(stream):
    """Read what is in a stream."""
    return list(RedisSource(_services.shared("redis").url, stream=stream))


class TestStored:
    """What the source reads is what the sink was given."""

    @given(st.lists(odd_messages, max_size=20))
    def test_law(self, messages):
        """Any messages come back as they went in, in their order, once each."""
        stream = f"test-{uuid4()}"
        sink = RedisSink(_services.shared("redis").url, stream)
        sink.write(batch_of(messages)).result()
        once = []
        for message in messages:
            if encode_line(message) not in once:
                once.append(encode_line(message))
        assert [encode_line(message) for message in stored(stream)] == once
        sink.close(5)

    def test_more_than_one_script(self, sink, stream):
        """A batch may be of any length."""
        messages = some(1_701)
        sink.write(batch_of(messages, Origin("s", range(1, 1_702)))).result()
        assert stored(stream) == messages


class TestOnce:
    """What comes again is there once."""

    def test_numbered(self, sink, stream):
        """A sender's numbers tell; those of another sender are others."""
        messages = some(3)
        sink.write(batch_of(messages[:2], Origin("s", [1, 2]))).result()
        sink.write(batch_of(messages, Origin("s", [1, 2, 3]))).result()
        sink.write(batch_of(messages[:1], Origin("other", [1]))).result()
        assert stored(stream) == [*messages, messages[0]]
        assert sink.stats() == {"repeated": 2}

    def test_not_numbered(self, sink, stream):
        """Without numbers, the place in the task and the content tell."""
        messages = some(2)
        conflict = {**messages[0], "x": 1}
        sink.write(batch_of([*messages, *messages, conflict])).result()
        assert stored(stream) == [*messages, conflict]

    def test_over_a_restart_of_the_sink(self, sink, stream):
        """Redis knows it, not the sink."""
        messages = some(2)
        sink.write(batch_of(messages, Origin("s", [1, 2]))).result()
        again = RedisSink(_services.shared("redis").url, stream)
        again.write(batch_of(messages, Origin("s", [1, 2]))).result()
        again.close(5)
        assert stored(stream) == messages

    def test_over_a_kill_of_redis(self, tmp_path, stream):
        """What was stored outlives Redis, and so does the knowledge of it."""
        server = _services.start("redis", tmp_path)
        try:
            sink = RedisSink(server.url, stream)
            messages = some(3)
            sink.write(batch_of(messages[:2], Origin("s", [1, 2]))).result()
            server.stop(signal.SIGKILL)
            failed = sink.write(batch_of(messages, Origin("s", [1, 2, 3])))
            assert isinstance(failed.exception(), SinkUnavailable)
            server.start()
            sink.write(batch_of(messages, Origin("s", [1, 2, 3]))).result()
            assert list(RedisSource(server.url, stream=stream)) == messages
            sink.close(5)
        finally:
            server.stop()


def test_bounded(stream):
    """A stream keeps about as many messages as it is told, the latest."""
    sink = RedisSink(_services.shared("redis").url, stream, max_messages=100)
    sink.write(batch_of(some(3_000), Origin("s", range(1, 3_001)))).result()
    left = stored(stream)
    assert 100 <= len(left) < 1_000
    assert left[-1]["task_level"] == [3_000]
    sink.close(5)


def test_something_else_under_the_name(sink, stream):
    """What is no stream makes the sink unavailable, as somebody may put that right."""
    import redis

    redis.Redis.from_url(_services.shared("redis").url).set(stream, "text")
    assert isinstance(sink.write(batch_of(some(1))).exception(), SinkUnavailable)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": "http://user:secret@host"}, "url must be one of Redis, got 'http://host'"),
        ({"stream": ""}, "must have a name"),
        ({"max_messages": 0}, "max_messages must be at least 1"),
        ({"timeout_s": 0}, "timeout_s must be more than 0"),
    ],
)
def test_wrong_settings(options, why):
    """A wrong setting is named, and a password is not."""
    with pytest.raises(ValueError, match="must") as caught:
        RedisSink(**options)
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)


def test_not_installed(monkeypatch):
    """Without redis, the constructor says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(MissingDependency, match=r"eliot-etw\[redis\]"):
        RedisSink()
