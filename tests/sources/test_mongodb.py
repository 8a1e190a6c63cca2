"""Tests of the source that reads collections of MongoDB."""

import subprocess
import sys
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

    def test_each_iteration_reads_anew(self, collection):
        """What was added in between is there the next time, as it came."""
        source = source_of(collection)
        assert list(source) == []
        add(collection, 5, message(2), message(1))
        assert list(source) == [message(2), message(1)]
        add(collection, 4, message(3))
        assert list(source) == [message(3), message(2), message(1)]

    def test_many(self, collection):
        """What MongoDB gives in several pieces is all there."""
        messages = [message(number) for number in range(1, 2_501)]
        add(collection, 5, *messages)
        assert list(source_of(collection)) == messages

    def test_task(self, collection):
        """Only tasks whose name begins so are read, whatever is in it."""
        for task in ("a", "ab", "b", "a$", "B"):
            add(collection, 5, message(1, task))
        assert {m["task_uuid"] for m in source_of(collection, task="a")} == {"a", "ab", "a$"}

    def test_documents_of_others(self, collection):
        """What is no message is left out: anybody may add to a collection."""
        others = [{}, {"line": 7}, {"line": "{"}, {"line": "[1]"}, {"line": "{}"}]
        collection.insert_many({**each, "arrived": 1, "number": 0} for each in others)
        add(collection, 5, message(1))
        assert list(source_of(collection)) == [message(1)]

    def test_cannot_be_reached(self, monkeypatch):
        """A MongoDB that is not there is an OSError that says where, without a password."""
        monkeypatch.setattr(mongodb, "_TIMEOUT_S", 0.1)
        source = MongoSource("mongodb://user:secret@127.0.0.1:1/eliot")
        with pytest.raises(OSError, match=r"mongodb://127\.0\.0\.1:1/eliot") as caught:
            list(source)
        assert "secret" not in str(caught.value)


class TestFollowed:
    """What is read as it grows."""

    def test_each_once(self, collection, follow):
        """Each message is given once, as it comes."""
        add(collection, 10, message(1))
        follower = follow()
        assert list(follower.poll()) == [message(1)]
        assert list(follower.poll()) == []
        add(collection, 11, message(2))
        assert list(follower.poll()) == [message(2)]

    def test_late(self, collection, follow):
        """What comes late is given, too: of another collector, or of an insert that is slow."""
        half_a_minute = 30_000_000_000
        add(collection, 10 * half_a_minute, message(1))
        follower = follow()
        assert list(follower.poll()) == [message(1)]
        add(collection, 10 * half_a_minute, message(2))
        add(collection, 9 * half_a_minute + 1, message(3))
        assert list(follower.poll()) == [message(3), message(2)]

    def test_stopped_in_the_middle(self, collection, follow):
        """Who stops in the middle gets the rest later."""
        messages = [message(number) for number in range(1, 11)]
        add(collection, 10, *messages)
        follower = follow()
        poll = follower.poll()
        begun = [next(poll) for _ in range(7)]
        poll.close()
        assert begun + list(follower.poll()) == messages

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

    def test_not_too_often(self, collection):
        """MongoDB is asked a few times a second only."""
        follower = source_of(collection).follow()
        assert list(follower.poll()) == []
        add(collection, 10, message(1))
        assert list(follower.poll()) == []
        follower._next_at = 0
        assert list(follower.poll()) == [message(1)]
        follower.close()


def test_at_the_command_line(collection):
    """A tree is drawn of what is in a collection."""
    pytest.importorskip("click")
    add(collection, 10, message(1))
    name = f"{_mongodb.shared_url()}eliot?collection={collection.name}&task=a"
    done = subprocess.run(
        [sys.executable, "-m", "eliot_etw.cli", "tree", name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "· t [a]" in done.stdout


@pytest.mark.parametrize("name", ["mongodb:", "mongodb://host/?collection=", "mongodb:here"])
def test_wrong_names(name):
    """A name that says nothing to be read is refused with one that would do."""
    with pytest.raises(ValueError, match="mongodb://127"):
        MongoSource.named(name)


def test_name():
    """A source is known by what it is read by, without a password; MongoDB's options stay."""
    source = MongoSource.named("mongodb://u:secret@host/db?w=1&collection=c&task=7a")
    assert source.name == "mongodb://host/db?w=1&collection=c&task=7a"
