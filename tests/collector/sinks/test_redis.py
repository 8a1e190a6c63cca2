"""Tests of what only the Redis sink has; what all have that store in engines is elsewhere."""

from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("redis")

from eliot_etw.collector.sinks import Origin, SinkUnavailable
from eliot_etw.collector.sinks.redis import RedisSink
from eliot_etw.sources import RedisSource
from tests import _services
from tests.collector.sinks._batches import batch_of, some


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
