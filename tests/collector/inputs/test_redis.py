"""Tests of the Redis input: each entry is given once, in order, and acknowledged when stored."""

from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("redis")

from eliot_etw.collector.inputs.redis import RedisInput
from eliot_etw.shipping._engines import Item
from tests.collector._processes import lines_of, wait_until
from tests.collector.inputs.test_zmq import Taken


@pytest.fixture
def stream(open_stream):
    """Open a stream that no other test uses."""
    return open_stream("redis")


def input_of(stream, **options):
    return RedisInput(stream.url, stream.name, **options)


def add(stream, *numbers):
    """Add messages to a stream."""
    stream.append(Item(lines_of(1, start=n)[0], "", 0, uuid4().hex) for n in numbers)


def waiting(stream):
    """Count what was taken in the group and is not acknowledged."""
    return stream._client.xpending(stream.name, "eliot")["pending"]


def test_only_what_is_settled(start, stream):
    """What is under way is not acknowledged."""
    taken = Taken()
    taken.settles = False
    add(stream, 1)
    start(input_of(stream), taken)
    wait_until(lambda: taken.numbers == [1])
    add(stream, 2)
    wait_until(lambda: taken.numbers == [1, 2])
    taken.waiting[1]()
    add(stream, 3)
    wait_until(lambda: taken.numbers == [1, 2, 3])
    assert waiting(stream) == 3
    taken.waiting[0]()
    wait_until(lambda: waiting(stream) == 1)


def test_answer_that_was_lost(start, stream):
    """What Redis takes for ours though it never came is given."""
    taken = Taken()
    stream.join("eliot")
    add(stream, 1)
    one = start(input_of(stream), taken)
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
    one = start(input_of(stream, reader="one"), first)
    wait_until(lambda: first.numbers == [1, 2])
    one.close(30)
    start(input_of(stream, reader="two", take_over_s=0.2), second)
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
    start(input_of(stream), taken)
    wait_until(lambda: taken.numbers == [1])
    assert taken.senders == {""}
    wait_until(lambda: waiting(stream) == 0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"group": ""}, "group must be a name"),
        ({"reader": ""}, "reader must be a name"),
        ({"take_over_s": 0}, "take_over_s must be more than 0"),
    ],
)
def test_wrong_settings(options, why):
    """A wrong setting is named."""
    with pytest.raises(ValueError, match=why):
        RedisInput(**options)
