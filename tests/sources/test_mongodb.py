"""Tests of the source that reads collections of MongoDB."""

from uuid import uuid4

import pytest

pytest.importorskip("pymongo")

import pymongo

from eliot_etw._json import encode_line
from eliot_etw.sources import MongoSource, mongodb
from tests import _mongodb


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


def message(number, task="a"):
    return {"task_uuid": task, "task_level": [number], "timestamp": 1.0, "message_type": "t"}


def add(collection, arrived, *messages):
    """Insert messages that arrived then."""
    collection.insert_many(
        {
            "_id": uuid4().hex,
            "task_uuid": each["task_uuid"],
            "line": encode_line(each).decode()[:-1],
            "arrived": arrived,
            "number": number,
        }
        for number, each in enumerate(messages)
    )


def source_of(collection, **options):
    return MongoSource(_mongodb.shared_url(), collection=collection.name, **options)


@pytest.fixture
def follow(collection, monkeypatch):
    """Return a function that follows the collection, which may be asked at any time."""
    monkeypatch.setattr(mongodb, "_POLL_S", 0)
    made = []

    def follow(**options):
        made.append(source_of(collection, **options).follow())
        return made[-1]

    yield follow
    for each in made:
        each.close()


class TestSource:
    """What is read at once."""

    def test_many(self, collection):
        """What MongoDB gives in several pieces is all there."""
        messages = [message(number) for number in range(1, 2_501)]
        add(collection, 5, *messages)
        assert list(source_of(collection)) == messages

    def test_documents_of_others(self, collection):
        """What is no message is left out: anybody may add to a collection."""
        others = [{}, {"line": 7}, {"line": "{"}, {"line": "[1]"}, {"line": "{}"}]
        collection.insert_many({**each, "arrived": 1, "number": 0} for each in others)
        add(collection, 5, message(1))
        assert list(source_of(collection)) == [message(1)]


class TestFollowed:
    """What is read as it grows."""

    def test_late(self, collection, follow):
        """What comes late is given, too: of another collector, or of an insert that is slow."""
        half_a_minute = 30_000_000_000
        add(collection, 10 * half_a_minute, message(1))
        follower = follow()
        assert list(follower.poll()) == [message(1)]
        add(collection, 10 * half_a_minute, message(2))
        add(collection, 9 * half_a_minute + 1, message(3))
        assert list(follower.poll()) == [message(3), message(2)]

    def test_bounded(self, collection, follow, monkeypatch):
        """However many messages there are, what is remembered of them is bounded."""
        monkeypatch.setattr(mongodb, "_MOST_KNOWN", 3)
        monkeypatch.setattr(mongodb, "_AT_ONCE", 2)
        follower = follow()
        given = []
        for number in range(1, 8):
            add(collection, number, *(message(3 * number + n) for n in range(3)))
            given += follower.poll()
            assert len(follower._known) == 3
        assert given == [message(number) for number in range(3, 24)]
