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


def test_each_iteration_reads_anew(stream):
    """What was added in between is there the next time."""
    source = RedisSource(stream.url, stream=stream.name)
    assert list(source) == []
    add(stream, message(1))
    assert list(source) == [message(1)]
    add(stream, message(2))
    assert list(source) == [message(1), message(2)]


def test_followed(stream):
    """What follows a stream gives each message once, as it comes."""
    add(stream, message(1))
    followed = RedisSource(stream.url, stream=stream.name).follow()
    assert list(followed.poll()) == [message(1)]
    assert list(followed.poll()) == []
    add(stream, message(2))
    assert list(followed.poll()) == [message(2)]
    followed.close()


def test_entries_of_others(stream):
    """What is no message is left out: anybody may add to a stream."""
    client = stream._client
    for fields in ({"x": "y"}, {"message": "{"}, {"message": "[1]"}, {"message": "{}"}):
        client.xadd(stream.name, fields)
    add(stream, message(1))
    assert list(RedisSource(stream.url, stream=stream.name)) == [message(1)]


def test_cannot_be_reached():
    """A Redis that is not there is an OSError that says where it should be, without a password."""
    source = RedisSource("redis://user:secret@127.0.0.1:1/0")
    with pytest.raises(OSError, match=r"redis://127\.0\.0\.1:1/0") as caught:
        list(source)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("redis://127.0.0.1:6379/2?stream=x", "redis://127.0.0.1:6379/2?stream=x"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0?stream=eliot"),
        ("rediss://user:secret@host/0?stream=x", "rediss://host/0?stream=x"),
    ],
)
def test_names(name, expected):
    """A name says where Redis is and which stream is meant; its password is not shown."""
    assert RedisSource.named(name).name == expected


@pytest.mark.parametrize(
    "name", ["redis:", "redis://127.0.0.1?stream=", "redis://127.0.0.1?x=y", "redis:here"]
)
def test_wrong_names(name):
    """A name that says nothing to be read is refused with one that would do."""
    with pytest.raises(ValueError, match="redis://127"):
        RedisSource.named(name)
