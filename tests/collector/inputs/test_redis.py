"""Tests of the Redis input: each entry is given once, in order, and acknowledged when stored."""

import signal
import sys
from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("redis")

from eliot_etw.collector.inputs.redis import RedisInput
from eliot_etw.exceptions import MissingDependency
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._redis_stream import RedisStream
from tests import _services
from tests.collector._processes import lines_of, wait_until
from tests.collector.inputs.test_file import places
from tests.collector.inputs.test_zmq import Taken


@pytest.fixture
def open_stream():
    """Return a function that opens streams; they are closed at the end."""
    made = []

    def open_stream(url, name):
        made.append(RedisStream(url, name, timeout_s=30, feature="a test"))
        return made[-1]

    yield open_stream
    for each in made:
        each.close()


@pytest.fixture
def stream(open_stream):
    """Open a stream that no other test uses."""
    return open_stream(_services.shared("redis").url, f"test-{uuid4()}")


@pytest.fixture
def start(tmp_path):
    """Return a function that starts inputs; they are closed at the end."""
    started = []

    def start(stream, taken, **options):
        started.append(RedisInput(stream.url, stream.name, **options))
        started[-1].start(taken, tmp_path)
        return started[-1]

    yield start
    for each in started:
        each.close(30)
        each.close(30)


def add(stream, *numbers):
    """Add messages to a stream."""
    stream.append(Item(lines_of(1, start=n)[0], "", 0, uuid4().hex) for n in numbers)


def waiting(stream):
    """Count what was taken in the group and is not acknowledged."""
    return stream._client.xpending(stream.name, "eliot")["pending"]


def test_grows(start, stream):
    """What is there is given, then what comes, and is acknowledged."""
    taken = Taken()
    add(stream, *range(1, 2_501))
    start(stream, taken)
    wait_until(lambda: len(taken.numbers) == 2_500)
    add(stream, 2_501)
    wait_until(lambda: taken.numbers == [*range(1, 2_502)])
    wait_until(lambda: waiting(stream) == 0)


def test_before_there_is_a_stream(start, stream):
    """A stream that is not there yet is waited for."""
    taken = Taken()
    start(stream, taken)
    add(stream, 1)
    wait_until(lambda: taken.numbers == [1])


def test_restart(start, stream):
    """After a restart it goes on where it was."""
    first, second = Taken(), Taken()
    add(stream, 1, 2)
    one = start(stream, first)
    wait_until(lambda: first.numbers == [1, 2])
    one.close(30)
    add(stream, 3)
    start(stream, second)
    wait_until(lambda: second.numbers == [3])


def test_restart_before_it_was_settled(start, stream):
    """What was not settled is given again, first, under the same numbers."""
    first, second = Taken(), Taken()
    first.settles = False
    add(stream, 1, 2)
    one = start(stream, first)
    wait_until(lambda: first.numbers == [1, 2])
    one.close(30)
    add(stream, 3)
    start(stream, second)
    wait_until(lambda: second.numbers == [1, 2, 3])
    assert places(first).items() <= places(second).items()
    numbers = [number for _, number in places(second)]
    assert numbers == sorted(numbers)
    wait_until(lambda: waiting(stream) == 0)


def test_only_what_is_settled(start, stream):
    """What is under way is not acknowledged."""
    taken = Taken()
    taken.settles = False
    add(stream, 1)
    start(stream, taken)
    wait_until(lambda: taken.numbers == [1])
    add(stream, 2)
    wait_until(lambda: taken.numbers == [1, 2])
    taken.waiting[1]()
    add(stream, 3)
    wait_until(lambda: taken.numbers == [1, 2, 3])
    assert waiting(stream) == 3
    taken.waiting[0]()
    wait_until(lambda: waiting(stream) == 1)


def test_held_back(start, stream):
    """What is not taken now is given later, in order."""
    taken = Taken()
    taken.is_full = True
    add(stream, 1, 2)
    one = start(stream, taken)
    wait_until(lambda: one.stats()["held_back"] > 1)
    add(stream, 3)
    taken.is_full = False
    wait_until(lambda: taken.numbers == [1, 2, 3])


def test_killed_under_load(start, open_stream, tmp_path):
    """Over a restart of Redis, each entry is given once."""
    server = _services.start("redis", tmp_path / "server")
    try:
        stream = open_stream(server.url, "s")
        taken = Taken()
        add(stream, *range(1, 1_001))
        start(stream, taken, timeout_s=2.0)
        wait_until(lambda: taken.numbers)
        server.stop(signal.SIGKILL)
        server.start()
        add(stream, *range(1_001, 2_001))
        wait_until(lambda: len(taken.numbers) >= 2_000)
        assert taken.numbers == [*range(1, 2_001)]
    finally:
        server.stop()


def test_answer_that_was_lost(start, stream):
    """What Redis takes for ours though it never came is given."""
    taken = Taken()
    stream.join("eliot")
    add(stream, 1)
    one = start(stream, taken)
    wait_until(lambda: taken.numbers == [1])
    # As if the answer had been lost on the way.
    take = one._stream.take

    def lose(*arguments):
        one._stream.take = take
        add(stream, 2)
        assert take(*arguments)
        raise TimeoutError

    one._stream.take = lose
    add(stream, 3)
    wait_until(lambda: len(taken.numbers) == 3)
    assert sorted(taken.numbers) == [1, 2, 3]


def test_of_one_that_is_gone(start, stream):
    """What another one has taken and not acknowledged for long is taken over, once."""
    first, second = Taken(), Taken()
    first.settles = second.settles = False
    add(stream, 1, 2)
    one = start(stream, first, reader="one")
    wait_until(lambda: first.numbers == [1, 2])
    one.close(30)
    start(stream, second, reader="two", take_over_s=0.2)
    wait_until(lambda: second.numbers == [1, 2])
    assert second.senders == {""}
    add(stream, 3)
    wait_until(lambda: len(second.waiting) == 2)
    for done in second.waiting:
        done()
    wait_until(lambda: waiting(stream) == 0)
    assert second.numbers == [1, 2, 3]


def test_entries_of_others(start, stream):
    """An entry without a message is passed over; one with too high an id has no number."""
    stream._client.xadd(stream.name, {"x": "y"}, id="7-1")
    stream._client.xadd(stream.name, {"message": lines_of(1)[0]}, id="7-5000")
    taken = Taken()
    start(stream, taken)
    wait_until(lambda: taken.numbers == [1])
    assert taken.senders == {""}
    wait_until(lambda: waiting(stream) == 0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"group": ""}, "group must be a name"),
        ({"reader": ""}, "reader must be a name"),
        ({"take_over_s": 0}, "take_over_s must be more than 0"),
        ({"stream": ""}, "must have a name"),
    ],
)
def test_wrong_settings(options, why):
    """A wrong setting is named."""
    with pytest.raises(ValueError, match=why):
        RedisInput(**options)


def test_not_installed(monkeypatch):
    """Without redis, the constructor says what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDependency, match=r"eliot-etw\[redis\]"):
        RedisInput()
