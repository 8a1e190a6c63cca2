"""What every sink keeps to that stores in an engine: each message once, read back as it was."""

import sys
from functools import partial

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import encode_line
from eliot_etw.collector.sinks import Batch, Origin, SinkUnavailable
from eliot_etw.collector.sinks.clickhouse import ClickHouseSink
from eliot_etw.collector.sinks.mongodb import MongoSink
from eliot_etw.collector.sinks.nats import NatsSink
from eliot_etw.collector.sinks.redis import RedisSink
from eliot_etw.exceptions import MissingDependency
from tests._engines import PACKAGES, STREAMS, Place, Server, skip_without
from tests.collector._processes import lines_of, wait_until
from tests.collector.sinks._batches import batch_of, some
from tests.collector.sinks._killed import kill_and_resume
from tests.test_parse import json_values, odd_messages

SINKS = {
    "nats": NatsSink,
    "redis": RedisSink,
    "clickhouse": partial(ClickHouseSink, every_s=0),
    "mongodb": MongoSink,
}
_MESSAGES = st.builds(
    lambda message, fields: {**fields, **message},
    odd_messages,
    st.dictionaries(st.text(), json_values, max_size=3),
)


@pytest.fixture(params=SINKS)
def place(request):
    """Name a place in each engine in turn."""
    place = Place(request.param)
    yield place
    place.drop()


@pytest.fixture
def open_sink(place):
    """Return a function that makes sinks; they are closed at the end."""
    made = []

    def open_sink(**options):
        made.append(SINKS[place.engine](place.url, place.name, **{"timeout_s": 30, **options}))
        return made[-1]

    yield open_sink
    for each in made:
        each.close(5)
        each.close(5)


class TestStored:
    """What the source reads is what the sink was given."""

    @pytest.mark.parametrize("engine", SINKS)
    @given(messages=st.lists(_MESSAGES, max_size=15))
    def test_law(self, engine, messages):
        """Any messages come back as they went in, once each; in order if they are numbered."""
        place = Place(engine)
        sink = SINKS[engine](place.url, place.name, timeout_s=30)
        sink.write(batch_of(messages)).result()
        once = [*dict.fromkeys(map(encode_line, messages))]
        in_order = sorted if engine == "nats" else list
        assert in_order(map(encode_line, place.stored())) == in_order(once)
        sink.close(5)
        place.drop()

    def test_any_length(self, open_sink, place):
        """A batch may be of any length."""
        origin = Origin("s", range(1, 5_001))
        open_sink().write(Batch(lines_of(5_000), [origin])).result()
        assert [message["number"] for message in place.stored()] == [*range(1, 5_001)]


class TestOnce:
    """What comes again is there once."""

    def test_repeated(self, open_sink, place):
        """Without numbers, the place in the task and the content tell."""
        sink, messages = open_sink(), some(2)
        conflict = {**messages[0], "x": 1}
        sink.write(batch_of([*messages, *messages, conflict])).result()
        sink.write(batch_of([*messages, conflict])).result()
        assert sorted(map(str, place.stored())) == sorted(map(str, [*messages, conflict]))
        # ClickHouse does not tell what it has already.
        assert sink.stats()["repeated"] == (2 if place.engine == "clickhouse" else 5)

    @pytest.mark.parametrize("place", STREAMS, indirect=True)
    def test_numbered(self, open_sink, place):
        """In a stream, a sender's numbers tell; those of another sender are others."""
        sink, messages = open_sink(), some(3)
        sink.write(batch_of(messages[:2], Origin("s", [1, 2]))).result()
        sink.write(batch_of(messages, Origin("s", [1, 2, 3]))).result()
        sink.write(batch_of(messages[:1], Origin("other", [1]))).result()
        assert place.stored() == [*messages, messages[0]]
        assert sink.stats() == {"repeated": 2}

    def test_over_a_restart_of_the_sink(self, open_sink, place):
        """The engine knows it, not the sink."""
        open_sink().write(batch_of(some(2), Origin("s", [1, 2]))).result()
        open_sink().write(batch_of(some(3), Origin("s", [1, 2, 3]))).result()
        assert sorted(map(str, place.stored())) == sorted(map(str, some(3)))

    @pytest.mark.parametrize("engine", SINKS)
    def test_over_a_kill_of_the_engine(self, engine, tmp_path):
        """What was stored outlives the engine; the batch that failed is stored later."""
        server = Server(engine, tmp_path)
        place = Place(engine, server.url)
        try:
            sink = SINKS[engine](place.url, place.name, timeout_s=5)
            sink.write(batch_of(some(2), Origin("s", [1, 2]))).result()
            server.stop()
            batch = batch_of(some(3), Origin("s", [1, 2, 3]))
            failed = sink.write(batch).exception()
            assert isinstance(failed, SinkUnavailable)
            assert server.url in str(failed)
            server.start()
            wait_until(lambda: sink.write(batch).exception() is None)
            assert sorted(map(str, place.stored())) == sorted(map(str, some(3)))
            sink.close(5)
        finally:
            server.stop()

    def test_over_a_kill_of_the_collector(self, place, collector, shipper):
        """A collector that is killed in mid-stream leaves each message once, and none out."""
        pytest.importorskip("zmq")
        what = {"clickhouse": "table", "mongodb": "collection"}.get(place.engine, "stream")
        sink = f"{{kind: {place.engine}, url: '{place.url}', {what}: '{place.name}'}}"
        numbers = kill_and_resume(collector, shipper, f"  store: {sink}\n")
        assert sorted(message["number"] for message in place.stored()) == numbers


@pytest.mark.parametrize(
    ("engine", "options", "why"),
    [
        ("nats", {"url": "http://user:secret@host"}, "url must be one of NATS, got 'http://host'"),
        ("nats", {"stream": "a.b"}, "must have a name"),
        ("nats", {"replicas": 0}, "replicas must be from 1 to 5"),
        ("nats", {"max_bytes": 0}, "max_bytes must be more than 0"),
        ("redis", {"url": "http://user:secret@host"}, "must be one of Redis, got 'http://host'"),
        ("redis", {"stream": ""}, "must have a name"),
        ("redis", {"max_messages": 0}, "max_messages must be at least 1"),
        ("clickhouse", {"url": "http://user:secret@"}, "url must be one of ClickHouse"),
        ("clickhouse", {"url": "ftp://user:secret@host"}, "url must be one of ClickHouse"),
        ("clickhouse", {"url": "http://user:secret@host:x"}, "url must be one of ClickHouse"),
        ("clickhouse", {"url": "http://user:secret@host/a/b"}, "url must be one of ClickHouse"),
        ("clickhouse", {"table": ""}, "table must have a name"),
        ("clickhouse", {"every_s": -1}, "every_s must be at least 0"),
        ("mongodb", {"url": "http://u:secret@host"}, "must be one of MongoDB, got 'http://host'"),
        ("mongodb", {"url": "mongodb://user:secret@host:x/"}, "url must be one of MongoDB"),
        ("mongodb", {"collection": ""}, "must have a name"),
        ("mongodb", {"collection": "$a"}, "url must be one of MongoDB"),
        *((engine, {"timeout_s": 0}, "timeout_s must be more than 0") for engine in SINKS),
    ],
)
def test_wrong_settings(engine, options, why):
    """A wrong setting is named, and a password is not."""
    skip_without(engine)
    with pytest.raises(ValueError, match="must") as caught:
        SINKS[engine](**options)
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("engine", PACKAGES)
def test_not_installed(engine, monkeypatch):
    """Without the engine's package, the constructor says what to install."""
    monkeypatch.setitem(sys.modules, PACKAGES[engine], None)
    with pytest.raises(MissingDependency, match=rf"eliot-etw\[{engine}\]"):
        SINKS[engine]()
