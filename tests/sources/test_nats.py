"""Tests of the source that reads streams of NATS JetStream."""

from uuid import uuid4

import pytest

pytest.importorskip("nats")

from eliot_etw._json import encode_line
from eliot_etw.exceptions import MissingDependency
from eliot_etw.shipping import _nats_stream
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._nats_stream import NatsStream, NewStream
from eliot_etw.sources import NatsSource
from tests import _services


@pytest.fixture
def stream():
    """Make a stream that no other test uses."""
    made = NatsStream(
        _services.shared("nats").url,
        f"test-{uuid4()}",
        timeout_s=30,
        feature="a test",
        new=NewStream(),
    )
    yield made
    made.close()


def add(stream, *messages):
    """Add messages to a stream, each as an entry."""
    stream.append(Item(encode_line(m)[:-1], "", 0, uuid4().hex) for m in messages)


def message(number):
    return {"task_uuid": "a", "task_level": [number], "timestamp": 1.0, "message_type": "t"}


def test_more_than_one_step(stream):
    """A stream of any length is read in its order."""
    lines = [encode_line(message(n))[:-1] for n in range(1, 5_001)]
    stream.append(Item(line, "s", n, "") for n, line in enumerate(lines, 1))
    add(stream, *map(message, range(5_001, 5_101)))
    read = [m["task_level"] for m in NatsSource(stream.url, stream=stream.name)]
    assert read == [[n] for n in range(1, 5_101)]


def test_followed_over_a_restart(tmp_path):
    """What follows a stream goes on when the server is back."""
    server = _services.start("nats", tmp_path / "server")
    try:
        stream = NatsStream(server.url, "s", timeout_s=30, feature="a test", new=NewStream())
        add(stream, message(1))
        followed = NatsSource(stream.url, stream="s").follow()
        assert list(followed.poll()) == [message(1)]
        server.stop()
        with pytest.raises(OSError, match="nats://127"):
            list(followed.poll())
        server.start()
        add(stream, message(2))
        assert list(followed.poll()) == [message(2)]
        followed.close()
        stream.close()
    finally:
        server.stop()


def test_what_was_deleted(stream):
    """A stream of which the last entries are gone is read to what is left."""
    add(stream, message(1), message(2), message(3))
    stream._do(stream._manager().delete_msg(stream.name, 3))
    assert list(NatsSource(stream.url, stream=stream.name)) == [message(1), message(2)]


def test_entries_of_others(stream):
    """What is no message is left out: anybody may add to a stream."""
    for data in (
        b"",
        b"{",
        b"[1]\n{}",
        b"\n\n",
        encode_line(message(2)) + encode_line(message(3)),
    ):
        stream.append([Item(data, "", 0, uuid4().hex)])
    add(stream, message(4))
    assert list(NatsSource(stream.url, stream=stream.name)) == [message(n) for n in (2, 3, 4)]


def test_nothing_stays_in_the_stream(stream):
    """To read is no more to the server than somebody who will be forgotten."""
    add(stream, message(1))
    list(NatsSource(stream.url, stream=stream.name))
    readers = stream._do(stream._manager().consumers_info(stream.name))
    assert all(each.config.durable_name is None for each in readers)
    assert all(each.config.inactive_threshold for each in readers)


def test_no_such_stream():
    """A stream that is not there is an OSError, and is not made."""
    source = NatsSource(_services.shared("nats").url, stream=f"test-{uuid4()}")
    for _ in range(2):
        with pytest.raises(OSError, match="there is no stream"):
            list(source)


def test_file_that_is_not_there():
    """A file that a name says is looked for at once."""
    with pytest.raises(OSError, match="no-such-file"):
        NatsSource.named("nats://a?tls_certificate=no-such-file")


def test_not_all_installed(monkeypatch):
    """Without what nats-py needs for credentials, the constructor says what to install."""
    monkeypatch.setattr(_nats_stream, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"credentials needs .*nats-py\[nkeys\]"):
        NatsSource(credentials="x.creds")
