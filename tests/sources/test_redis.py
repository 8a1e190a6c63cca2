"""Tests of the source that reads streams of Redis."""

from uuid import uuid4

import pytest

pytest.importorskip("redis")

from eliot_etw._json import encode_line
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._redis_stream import RedisStream
from eliot_etw.sources import RedisSource
from tests import _services


@pytest.fixture
def stream():
    """Make a stream that no other test uses."""
    name = f"test-{uuid4()}"
    made = RedisStream(_services.shared("redis").url, name, timeout_s=5, feature="a test")
    yield made
    made.close()


def add(stream, *messages):
    """Add messages to a stream."""
    stream.append(Item(encode_line(m)[:-1], "", 0, uuid4().hex) for m in messages)


def message(number):
    return {"task_uuid": "a", "task_level": [number], "timestamp": 1.0, "message_type": "t"}


def test_entries_of_others(stream):
    """What is no message is left out: anybody may add to a stream."""
    client = stream._client
    for fields in ({"x": "y"}, {"message": "{"}, {"message": "[1]"}, {"message": "{}"}):
        client.xadd(stream.name, fields)
    add(stream, message(1))
    assert list(RedisSource(stream.url, stream=stream.name)) == [message(1)]
