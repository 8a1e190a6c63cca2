"""Tests of the NATS input: each line is given once, in order, and acknowledged when stored."""

from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("nats")

from eliot_etw.collector.inputs.nats import NatsInput
from eliot_etw.shipping._engines import Item
from tests.collector._processes import lines_of, wait_until
from tests.collector.inputs.test_zmq import Taken


@pytest.fixture
def stream(open_stream):
    """Open a stream that no other test uses."""
    return open_stream("nats")


def input_of(stream, **options):
    return NatsInput(stream.url, stream.name, **options)


def add(stream, *numbers):
    """Add messages to a stream, all in one entry."""
    stream.append([Item(b"\n".join(lines_of(1, start=n)[0] for n in numbers), "", 0, uuid4().hex)])


def acknowledged(stream):
    """Say up to which entry all is acknowledged."""
    names = ("eliot-collector-a", "eliot-collector-b")
    known = [stream._do(stream._position(name)) for name in names]
    return max((each for each in known if each is not None), default=None)


def test_only_what_is_settled(start, stream):
    """What is under way is not acknowledged."""
    taken = Taken()
    taken.settles = False
    for number in (1, 2, 3):
        add(stream, number)
        if number == 1:
            start(input_of(stream), taken)
        wait_until(lambda number=number: taken.numbers == [*range(1, number + 1)])
    taken.waiting[1]()
    taken.waiting[0]()
    wait_until(lambda: acknowledged(stream) == 2)


def test_lost_connection_with_something_under_way(start, stream):
    """After a failure nothing is given twice; what was under way is acknowledged all the same."""
    taken = Taken()
    taken.settles = False
    add(stream, 1, 2)
    one = start(input_of(stream), taken)
    wait_until(lambda: taken.numbers == [1, 2])
    pull = one._stream.pull

    def fail(*arguments):
        one._stream.pull = pull
        raise OSError

    one._stream.pull = fail
    wait_until(lambda: one.stats()["failures"])
    add(stream, 3)
    wait_until(lambda: taken.numbers == [1, 2, 3])
    for done in taken.waiting:
        done()
    wait_until(lambda: acknowledged(stream) == 2)


def test_work_queue(start, stream):
    """A stream that keeps nothing that was acknowledged is read all the same."""
    stream._do(stream._connect())
    stream._do(stream._manager().delete_stream(stream.name))
    config = {"name": stream.name, "subjects": [f"{stream.name}.>"], "retention": "workqueue"}
    stream._do(stream._manager().add_stream(**config))
    first, second = Taken(), Taken()
    first.settles = False
    add(stream, 1)
    one = start(input_of(stream), first)
    wait_until(lambda: first.numbers == [1])
    one.close(30)
    add(stream, 2)
    start(input_of(stream), second)
    wait_until(lambda: second.numbers == [1, 2])
    wait_until(lambda: stream._do(stream._info()).state.messages == 0)


def test_made_anew(start, stream):
    """A stream that was made anew under its name is another: its numbers begin again."""
    taken = Taken()
    add(stream, 1)
    start(input_of(stream), taken)
    wait_until(lambda: taken.numbers == [1])
    stream._do(stream._manager().delete_stream(stream.name))
    stream.close()
    add(stream, 2)
    wait_until(lambda: taken.numbers == [1, 2])
    assert len(taken.senders) == 2


def test_entry_of_others(start, stream):
    """An entry of more lines than can be numbered is given without numbers."""
    taken = Taken()
    stream.append([Item(b"\n".join(lines_of(1) * 9_000), "", 0, uuid4().hex)])
    start(input_of(stream), taken)
    wait_until(lambda: len(taken.numbers) == 9_000)
    assert taken.senders == {""}


def test_wrong_name():
    """A name that the servers would not take is refused."""
    with pytest.raises(ValueError, match="reader must be a name"):
        NatsInput(reader="a.b")
