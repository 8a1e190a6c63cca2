"""Tests of the MongoDB sink: each message is one document, and is read back as it was.

The real pymongo, against a server of the tests; against a real MongoDB if the environment variable
``ELIOT_ETW_MONGODB_URL`` says where one is.
"""

from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("pymongo")

import pymongo

from eliot_etw._json import encode_line
from eliot_etw.collector.sinks import Batch, MessagesRefused, Origin, SinkUnavailable
from eliot_etw.collector.sinks.mongodb import MongoSink
from eliot_etw.sources import MongoSource
from tests import _mongodb
from tests.collector.sinks._batches import batch_of, some


@pytest.fixture(scope="module")
def client():
    """Connect to the MongoDB of the tests."""
    with pymongo.MongoClient(_mongodb.shared_url()) as client:
        yield client


@pytest.fixture
def collection(client):
    """Name a collection that no other test uses."""
    name = f"test-{uuid4()}"
    yield client["eliot"][name]
    client["eliot"].drop_collection(name)


@pytest.fixture
def sink(collection):
    sink = MongoSink(_mongodb.shared_url(), collection.name)
    yield sink
    sink.close(5)


def stored(collection):
    """Read what is in a collection."""
    return list(MongoSource(_mongodb.shared_url(), collection=collection.name))


class TestStored:
    """What the source reads is what the sink was given."""

    def test_what_bson_cannot_hold(self, sink, collection):
        """What BSON has no place for is in the line only; the rest can be asked for."""
        deep = []
        for _ in range(300):
            deep = [deep]
        odd = {
            "$set": 1,
            "a.b": 2,
            "nul\0": 3,
            "large": 10**30,
            "deep": deep,
            "list": [1, 10**30, {"$x": 1, "y": 2}],
            "kept": {"x": {"y": "z"}},
            "": 4,
        }
        [message] = some(1, **odd)
        sink.store(batch_of([message]))
        assert stored(collection) == [message]
        fields = collection.find_one({"fields.kept.x.y": "z"})["fields"]
        assert {name: fields[name] for name in ("kept", "list", "")} == {
            "kept": {"x": {"y": "z"}},
            "list": [1, None, {"y": 2}],
            "": 4,
        }
        assert not fields.keys() & {"$set", "a.b", "nul\0", "large"}

    def test_fields(self, sink, collection):
        """Beside the line are what a message is, and its own fields."""
        message = {
            "task_uuid": "a",
            "task_level": [2, 1],
            "timestamp": 1.5,
            "action_type": "t",
            "action_status": "failed",
            "customer": "C-17",
        }
        sink.store(batch_of([message]))
        document = collection.find_one({"fields.customer": "C-17"})
        line = encode_line(message)[:-1].decode()
        expected = ["a", "/2/1", 1.5, "t", "failed", 40, {"customer": "C-17"}, line]
        names = ("task_uuid", "task_level", "timestamp", "type", "status", "level", "fields")
        assert [document[name] for name in (*names, "line")] == expected

    def test_without_fields(self, collection):
        """A sink that is told so leaves them in the line."""
        sink = MongoSink(_mongodb.shared_url(), collection.name, fields=False)
        sink.store(batch_of(some(1, x=1)))
        assert "fields" not in collection.find_one({})
        assert stored(collection) == some(1, x=1)
        sink.close(5)


class TestOnce:
    """What comes again is there once."""

    def test_no_place(self, sink, collection):
        """Messages without a place are kept, told apart by their numbers, and not read."""
        batch = Batch([b'{"a":1}', b'{"a":1}'], [Origin("s", [1, 2])])
        sink.store(batch)
        sink.store(batch)
        assert len(list(collection.find({}))) == 2
        assert stored(collection) == []

    def test_over_a_restart_of_the_sink(self, sink, collection, monkeypatch):
        """MongoDB knows it, not the sink; and what comes later arrives later."""
        from eliot_etw.collector.sinks import mongodb

        sink.store(batch_of(some(2)))
        monkeypatch.setattr(mongodb, "time_ns", lambda: 1_000_000_000)
        again = MongoSink(_mongodb.shared_url(), collection.name)
        again.store(batch_of(some(3)))
        again.close(5)
        assert stored(collection) == some(3)


class TestRefused:
    """What MongoDB says no to."""

    def test_a_document(self, client, sink, collection):
        """What the collection has a rule against is refused, and all others are stored."""
        rule = {"type": {"$ne": "t2"}}
        client["eliot"].create_collection(collection.name, validator=rule, check_exists=False)
        with pytest.raises(MessagesRefused, match="failed validation") as caught:
            sink.store(batch_of(some(3)))
        assert list(caught.value.refused) == [1]
        assert [m["message_type"] for m in stored(collection)] == ["t1", "t3"]

    def test_too_large(self, sink, collection):
        """What is larger than a document may be is refused; what is just not is stored."""
        small, large, other = (some(1, x="x" * n)[0] for n in (15_000_000, 17_000_000, 10))
        with pytest.raises(MessagesRefused, match="more than MongoDB takes") as caught:
            sink.store(batch_of([large, small, other]))
        assert list(caught.value.refused) == [0]
        assert stored(collection) == [small, other]

    def test_another_unique_index(self):
        """What is refused for an index of somebody's own is not there already."""
        from eliot_etw.shipping._mongodb import _is_refusal, _is_repeated

        error = {"index": 0, "code": 11000, "errmsg": "dup", "keyPattern": {"type": 1}}
        assert (_is_repeated(error), _is_refusal(error)) == (False, True)

    @pytest.mark.parametrize("command", ["insert", "createIndexes", "find"])
    def test_command(self, command):
        """What MongoDB refuses as a whole makes the sink unavailable: somebody may allow it."""
        server = _mongodb.MongoServer().start()
        sink = MongoSink(server.url)
        server.failing[command] = {"code": 13, "errmsg": "not authorized"}
        with pytest.raises(SinkUnavailable, match="not authorized"):
            sink.store(batch_of(some(1)))
        server.failing.clear()
        sink.store(batch_of(some(1)))
        assert list(MongoSource(server.url)) == some(1)
        sink.close(5)
        server.stop()


def test_write_concern():
    """The majority must have it, unless the URL says otherwise."""
    for url, expected in (
        ("mongodb://host", {"w": "majority", "j": True}),
        ("mongodb://host/?w=1", {"w": 1}),
    ):
        sink = MongoSink(url)
        assert sink._collection._collection.write_concern.document == expected
        sink.close(5)
