"""What every source keeps to that reads from an engine: at once, and as it grows."""

import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.exceptions import MissingDependency
from eliot_etw.shipping._nats_stream import NatsStream
from eliot_etw.sources import clickhouse, mongodb
from tests._engines import PACKAGES, SOURCES, Place, skip_without
from tests.collector.sinks._batches import batch_of
from tests.collector.sinks.test_contract import SINKS

# Those that are asked for some of the tasks, and for what is new now and then only.
STORES = ["clickhouse", "mongodb"]
AWAY = {
    "nats": "nats://user:secret@127.0.0.1:1",
    "redis": "redis://user:secret@127.0.0.1:1/0",
    "clickhouse": "clickhouse://user:secret@127.0.0.1:1/default",
    "mongodb": "mongodb://user:secret@127.0.0.1:1/eliot",
}


@pytest.fixture(params=SOURCES)
def place(request):
    """Name a place in each engine in turn."""
    place = Place(request.param)
    yield place
    place.drop()


@pytest.fixture
def add(place):
    """Return a function that adds messages; without any, what they would be in is there."""
    with opened_sink(place) as sink:
        yield lambda *messages: sink.write(batch_of(messages)).result()


def add_anew(place, *messages):
    """Add messages by a sink that does not know that the place was there before."""
    with opened_sink(place) as sink:
        sink.write(batch_of(messages)).result()


@contextmanager
def opened_sink(place):
    """Make a sink, which is closed at the end."""
    sink = SINKS[place.engine](place.url, place.name, timeout_s=30)
    try:
        yield sink
    finally:
        sink.close(5)


def delete(place):
    """Remove what messages are in, as somebody might by hand."""
    if place.engine == "nats":
        options = {"timeout_s": 30, "feature": "a test"}
        with closing(NatsStream(place.url, place.name, **options)) as stream:
            stream._do(stream._info())  # connects
            assert stream._do(stream._manager().delete_stream(place.name))
    elif place.engine == "redis":
        import redis

        with redis.Redis.from_url(place.url) as client:
            assert client.delete(place.name)
    else:
        place.drop()


@pytest.fixture
def follow(place, monkeypatch):
    """Return a function that follows the place, which may be asked at any time."""
    for module in (clickhouse, mongodb):
        monkeypatch.setattr(module, "_POLL_S", 0)
    made = []

    def follow(**options):
        made.append(place.source(**options).follow())
        return made[-1]

    yield follow
    for each in made:
        each.close()


def message(number, task="a"):
    return {"task_uuid": task, "task_level": [number], "timestamp": 1.0, "message_type": "t"}


class TestSource:
    """What is read at once."""

    def test_not_there_yet(self, add, follow, place):
        """Where nothing was ever stored, it waits; to read it at once is an error where it must
        have been made.
        """  # noqa: D205 - one sentence
        followed = follow()
        assert list(followed.poll()) == []
        if place.engine in ("nats", "clickhouse"):
            with pytest.raises(FileNotFoundError, match=place.name):
                list(place.source())
        add(message(1))
        assert [m["task_level"] for m in followed.poll()] == [[1]]

    def test_each_iteration_reads_anew(self, add, place):
        """What was added in between is there the next time, as it came."""
        source = place.source()
        add()
        assert list(source) == []
        add(message(2))
        add(message(1))
        assert list(source) == [message(2), message(1)]
        add(message(3))
        assert list(source) == [message(2), message(1), message(3)]

    @pytest.mark.parametrize("place", STORES, indirect=True)
    def test_task(self, add, place):
        """Only tasks whose name begins so are read, whatever is in it."""
        add(*(message(1, task) for task in ("a", "ab", "b", "a'", "a%", "a$", "B")))
        found = {m["task_uuid"] for m in place.source(task="a")}
        assert found == {"a", "ab", "a'", "a%", "a$"}
        assert list(place.source(task="a'")) == [message(1, "a'")]

    @pytest.mark.parametrize("engine", SOURCES)
    def test_cannot_be_reached(self, engine, monkeypatch):
        """An engine that is not there is an OSError that says where, without a password."""
        skip_without(engine)
        monkeypatch.setattr(mongodb, "_TIMEOUT_S", 0.1)
        with pytest.raises(OSError, match=r"://127\.0\.0\.1:1") as caught:
            list(SOURCES[engine][0](AWAY[engine]))
        assert "secret" not in str(caught.value)

    def test_at_the_command_line(self, add, place):
        """A tree is drawn of what is there."""
        pytest.importorskip("click")
        add(message(1))
        name = place.source().name.replace("http:", "clickhouse:")
        done = subprocess.run(
            [sys.executable, "-m", "eliot_etw.cli", "tree", name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "· t [a]" in done.stdout


class TestFollowed:
    """What is read as it grows."""

    def test_each_once(self, add, follow):
        """Each message is given once, as it comes."""
        add(message(1))
        followed = follow()
        assert list(followed.poll()) == [message(1)]
        assert list(followed.poll()) == []
        add(message(2))
        assert list(followed.poll()) == [message(2)]

    def test_made_anew(self, add, follow, place):
        """What is deleted is nothing that is new; what is made anew is read from its first."""
        add(*map(message, range(1, 4)))
        add(message(4))
        followed = follow()
        assert list(followed.poll()) == [*map(message, range(1, 5))]
        delete(place)
        assert list(followed.poll()) == []
        add_anew(place, message(5))
        assert list(followed.poll()) == [message(5)]
        delete(place)
        add_anew(place, message(6), message(7))
        assert list(followed.poll()) == [message(6), message(7)]
        assert list(followed.poll()) == []

    @pytest.mark.parametrize("place", STORES, indirect=True)
    def test_stopped_in_the_middle(self, add, follow):
        """Who stops in the middle of what was added at once gets the rest of it later."""
        add(*map(message, range(1, 6)))
        add(*map(message, range(6, 11)))
        followed = follow()
        poll = followed.poll()
        begun = [next(poll) for _ in range(7)]
        poll.close()
        assert begun + list(followed.poll()) == [*map(message, range(1, 11))]

    @pytest.mark.parametrize("place", STORES, indirect=True)
    def test_not_too_often(self, add, place):
        """A store is asked a few times a second only."""
        add()
        followed = place.source().follow()
        assert list(followed.poll()) == []
        add(message(1))
        assert list(followed.poll()) == []
        followed._next_at = 0
        assert list(followed.poll()) == [message(1)]
        followed.close()

    @pytest.mark.parametrize("place", STORES, indirect=True)
    def test_task(self, add, follow):
        """Of one task, only that is followed."""
        add()
        followed = follow(task="b")
        add(message(1, "a"), message(1, "b"))
        assert list(followed.poll()) == [message(1, "b")]


@pytest.mark.parametrize(
    ("engine", "name", "expected"),
    [
        ("nats", "nats://u:secret@a:1,tls://b?stream=s", "nats://a:1,tls://b?stream=s"),
        ("redis", "redis://127.0.0.1:6379/2?stream=x", "redis://127.0.0.1:6379/2?stream=x"),
        ("redis", "redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0?stream=eliot"),
        ("redis", "rediss://user:secret@host/0?stream=x", "rediss://host/0?stream=x"),
        (
            "clickhouse",
            "clickhouses://user:secret@host/db?table=t&task=7a",
            "clickhouses://host/db?table=t&task=7a",
        ),
        (  # its own options stay
            "mongodb",
            "mongodb://u:secret@host/db?w=1&collection=c&task=7a",
            "mongodb://host/db?w=1&collection=c&task=7a",
        ),
    ],
)
def test_names(engine, name, expected):
    """A source is known by what it is read by, without a password."""
    skip_without(engine)
    assert SOURCES[engine][0].named(name).name == expected


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("nats", "nats:"),
        ("nats", "nats://127.0.0.1?x=y"),
        ("nats", "nats:here"),
        ("nats", "nats://h:99999"),
        ("nats", "nats://a,http://user:secret@b"),
        ("redis", "redis:"),
        ("redis", "redis://127.0.0.1?stream="),
        ("redis", "redis://127.0.0.1?x=y"),
        ("redis", "redis:here"),
        ("clickhouse", "clickhouse:"),
        ("clickhouse", "clickhouse://127.0.0.1?table="),
        ("clickhouse", "clickhouse://127.0.0.1?x=y"),
        ("clickhouse", "clickhouse://user:secret@127.0.0.1:x"),
        ("clickhouse", "clickhouse:here"),
        ("mongodb", "mongodb:"),
        ("mongodb", "mongodb://host/?collection="),
        ("mongodb", "mongodb:here"),
    ],
)
def test_wrong_names(engine, name):
    """A name that says nothing to be read is refused with one that would do."""
    skip_without(engine)
    with pytest.raises(ValueError, match=f"{engine}://127") as caught:
        SOURCES[engine][0].named(name)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("engine", PACKAGES)
def test_not_installed(engine, monkeypatch):
    """Without the engine's package, the constructor says what to install."""
    monkeypatch.setitem(sys.modules, PACKAGES[engine], None)
    with pytest.raises(MissingDependency, match=rf"eliot-etw\[{engine}\]"):
        SOURCES[engine][0]()
