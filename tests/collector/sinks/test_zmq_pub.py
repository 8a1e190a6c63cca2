"""Tests of publishing over ZeroMQ: who listens gets what is of the types it wants, if it may."""

import time

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("zmq")

import zmq
from zmq.auth import create_certificates

from eliot_etw.collector.sinks import Batch
from eliot_etw.collector.sinks.zmq_pub import ZmqPubSink
from eliot_etw.sources import ZmqSubSource
from tests.collector._processes import lines_of, wait_until

ANY = "tcp://127.0.0.1:*"


@pytest.fixture
def publish():
    """Return a function that makes sinks; they are closed at the end."""
    made = []

    def publish(endpoint=ANY, **options):
        made.append(ZmqPubSink(endpoint, **options))
        return made[-1]

    yield publish
    for each in made:
        each.close(0.1)
        each.close(0.1)


@pytest.fixture
def listen():
    """Return a function that listens; what listens is closed at the end."""
    made = []

    def listen(sink, **options):
        made.append(ZmqSubSource(sink.endpoint, **options).follow())
        return made[-1]

    yield listen
    for each in made:
        each.close()


def heard(sink, listening, lines, wanted):
    """Publish lines again and again until all that are wanted were heard, and return all heard.

    One must be there first, and each topic reaches who publishes by itself.
    """
    numbers = []

    def hears():
        sink.write(Batch(lines)).result()
        listening.wait(0.05)
        numbers.extend(message["number"] for message in listening.poll())
        return wanted <= set(numbers)

    wait_until(hears)
    return numbers


def test_heard(publish, listen):
    """Who listens hears what is published from then on."""
    sink = publish()
    listening = listen(sink)
    heard(sink, listening, lines_of(3), wanted={1, 2, 3})
    before = sink.stats()["published"]
    sink.write(Batch(lines_of(500, start=1_000))).result()
    assert sink.stats()["published"] == before + 500
    numbers = []

    def hears():
        numbers.extend(message["number"] for message in listening.poll())
        return len([n for n in numbers if n >= 1_000]) == 500

    wait_until(hears)
    assert [n for n in numbers if n >= 1_000] == [*range(1_000, 1_500)]


def test_topics(publish, listen):
    """One that wants some types hears only those."""
    sink = publish()
    listening = listen(sink, topics=["shop:", "other:x"])
    lines = [
        line.replace(b"test:message", kind)
        for line, kind in zip(
            lines_of(4), [b"shop:a", b"sho", b"other:x1", b"other:y"], strict=True
        )
    ]
    assert set(heard(sink, listening, lines, wanted={1, 3})) == {1, 3}


def test_nobody_listens(publish):
    """Nobody is waited for, nor is one who does not read."""
    sink = publish(max_waiting=10)
    with zmq.Context() as context, context.socket(zmq.SUB) as lazy:
        lazy.setsockopt(zmq.RCVHWM, 1)
        lazy.setsockopt(zmq.LINGER, 0)
        lazy.subscribe("")
        lazy.connect(sink.endpoint)
        for _ in range(20):
            sink.write(Batch(lines_of(5_000))).result()
    assert sink.stats()["published"] == 100_000


def test_no_messages(publish, listen):
    """What is no message with a place is published, and left out by the source."""
    sink = publish()
    lines = [b"{", b"[]", b'{"number": 9}', *lines_of(1)]
    assert set(heard(sink, listen(sink), lines, wanted={1})) == {1}


class TestKeys:
    """With keys, only those who are allowed hear anything."""

    @pytest.fixture
    def keys(self, tmp_path):
        """Make keys for a collector, for one who is allowed, and for one who is not."""
        for name in ("collector", "allowed", "stranger"):
            create_certificates(tmp_path, name)
        (tmp_path / "allowed").mkdir()
        (tmp_path / "allowed.key").rename(tmp_path / "allowed" / "allowed.key")
        return tmp_path

    @pytest.fixture
    def sink(self, publish, keys):
        return publish(keys=str(keys / "allowed"), secret_key=str(keys / "collector.key_secret"))

    def test_allowed(self, sink, listen, keys):
        """One whose key is in the folder hears."""
        listening = listen(
            sink, server_key=keys / "collector.key", keys=str(keys / "allowed.key_secret")
        )
        heard(sink, listening, lines_of(1), wanted={1})

    @pytest.mark.parametrize("with_keys", [True, False])
    def test_stranger(self, sink, listen, keys, with_keys):
        """One with another key, or with none, hears nothing."""
        options = {
            "server_key": keys / "collector.key",
            "keys": str(keys / "stranger.key_secret"),
        }
        listening = listen(sink, **(options if with_keys else {}))
        if with_keys:
            wait_until(lambda: sink.stats()["denied"])
        allowed = listen(
            sink, server_key=keys / "collector.key", keys=str(keys / "allowed.key_secret")
        )
        heard(sink, allowed, lines_of(1), wanted={1})
        listening.wait(0.1)
        assert list(listening.poll()) == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"endpoint": "tcp://0.0.0.0:*"}, "endpoint must be on this machine"),
        ({"keys": "folder"}, "keys and secret_key must be given together"),
        ({"max_waiting": 0}, "max_waiting must be at least 1"),
    ],
)
def test_wrong_settings(options, why):
    """A wrong setting is named; without keys it listens on this machine only."""
    with pytest.raises(ValueError, match=why):
        ZmqPubSink(**options)


def test_taken(publish):
    """An address that is taken is an OSError that names it."""
    with pytest.raises(OSError, match=r"cannot listen at tcp://127\.0\.0\.1"):
        publish(publish().endpoint)


def test_iteration_ends(publish):
    """Without following, it is listened for a while."""
    sink = publish()
    begin = time.monotonic()
    assert list(ZmqSubSource(sink.endpoint, for_s=0.2)) == []
    assert time.monotonic() - begin >= 0.2


@pytest.mark.parametrize(
    "name",
    ["zmq+sub:", "zmq+sub:tcp://127.0.0.1:5517?x=y", "zmq+sub:tcp://127.0.0.1:5517?for_s=0",
     "zmq+sub:nothing", "zmq+sub:tcp://logs.example.com:5517"],
)  # fmt: skip
def test_wrong_names(name):
    """A name that says nothing to be listened to is refused."""
    with pytest.raises(ValueError, match="must"):
        ZmqSubSource.named(name)
