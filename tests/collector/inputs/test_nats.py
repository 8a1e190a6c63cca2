"""Tests of the NATS input: each line is given once, in order, and acknowledged when stored."""

import signal
import sys
from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("nats")

from eliot_etw.collector.inputs.nats import NatsInput
from eliot_etw.exceptions import MissingDependency
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._nats_stream import NatsStream, NewStream
from tests import _services
from tests.collector._processes import lines_of, wait_until
from tests.collector.inputs.test_file import places
from tests.collector.inputs.test_zmq import Taken


@pytest.fixture
def open_stream():
    """Return a function that opens streams; they are closed at the end."""
    made = []

    def open_stream(url, name):
        made.append(NatsStream(url, name, timeout_s=30, feature="a test", new=NewStream()))
        return made[-1]

    yield open_stream
    for each in made:
        each.close()


@pytest.fixture
def stream(open_stream):
    """Open a stream that no other test uses."""
    return open_stream(_services.shared("nats").url, f"test-{uuid4()}")


@pytest.fixture
def start(tmp_path):
    """Return a function that starts inputs; they are closed at the end."""
    started = []

    def start(stream, taken, **options):
        started.append(NatsInput(stream.url, stream.name, **options))
        started[-1].start(taken, tmp_path)
        return started[-1]

    yield start
    for each in started:
        each.close(30)
        each.close(30)


def add(stream, *numbers):
    """Add messages to a stream, all in one entry."""
    stream.append([Item(b"\n".join(lines_of(1, start=n)[0] for n in numbers), "", 0, uuid4().hex)])


def acknowledged(stream):
    """Say up to which entry all is acknowledged."""
    names = ("eliot-collector-a", "eliot-collector-b")
    known = [stream._do(stream._position(name)) for name in names]
    return max((each for each in known if each is not None), default=None)


def test_grows(start, stream):
    """What is there is given, then what comes, and is acknowledged."""
    taken = Taken()
    for number in range(1, 2_001, 20):
        add(stream, *range(number, number + 20))
    start(stream, taken)
    wait_until(lambda: len(taken.numbers) == 2_000)
    add(stream, 2_001)
    wait_until(lambda: taken.numbers == [*range(1, 2_002)])
    wait_until(lambda: acknowledged(stream) == 101)


def test_before_there_is_a_stream(start, stream):
    """A stream that is not there yet is made."""
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
    wait_until(lambda: acknowledged(stream) == 2)


def test_only_what_is_settled(start, stream):
    """What is under way is not acknowledged."""
    taken = Taken()
    taken.settles = False
    for number in (1, 2, 3):
        add(stream, number)
        if number == 1:
            start(stream, taken)
        wait_until(lambda number=number: taken.numbers == [*range(1, number + 1)])
    taken.waiting[1]()
    taken.waiting[0]()
    wait_until(lambda: acknowledged(stream) == 2)


def test_lost_connection_with_something_under_way(start, stream):
    """After a failure nothing is given twice; what was under way is acknowledged all the same."""
    taken = Taken()
    taken.settles = False
    add(stream, 1, 2)
    one = start(stream, taken)
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
    """Over a restart of the server, each line is given once."""
    server = _services.start("nats", tmp_path / "server")
    try:
        stream = open_stream(server.url, "s")
        taken = Taken()
        for number in range(1, 1_001, 5):
            add(stream, *range(number, number + 5))
        start(stream, taken, timeout_s=2.0)
        wait_until(lambda: taken.numbers)
        server.stop(signal.SIGKILL)
        server.start()
        add(stream, *range(1_001, 2_001))
        wait_until(lambda: len(taken.numbers) >= 2_000)
        assert taken.numbers == [*range(1, 2_001)]
    finally:
        server.stop()


def test_work_queue(start, stream):
    """A stream that keeps nothing that was acknowledged is read all the same."""
    stream._do(stream._connect())
    stream._do(stream._manager().delete_stream(stream.name))
    config = {"name": stream.name, "subjects": [f"{stream.name}.>"], "retention": "workqueue"}
    stream._do(stream._manager().add_stream(**config))
    first, second = Taken(), Taken()
    first.settles = False
    add(stream, 1)
    one = start(stream, first)
    wait_until(lambda: first.numbers == [1])
    one.close(30)
    add(stream, 2)
    start(stream, second)
    wait_until(lambda: second.numbers == [1, 2])
    wait_until(lambda: stream._do(stream._info()).state.messages == 0)


def test_made_anew(start, stream):
    """A stream that was made anew under its name is another: its numbers begin again."""
    taken = Taken()
    add(stream, 1)
    start(stream, taken)
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
    start(stream, taken)
    wait_until(lambda: len(taken.numbers) == 9_000)
    assert taken.senders == {""}


@pytest.mark.parametrize(
    ("options", "why"),
    [({"reader": "a.b"}, "reader must be a name"), ({"stream": ""}, "must have a name")],
)
def test_wrong_settings(options, why):
    """A wrong setting is named."""
    with pytest.raises(ValueError, match=why):
        NatsInput(**options)


def test_not_installed(monkeypatch):
    """Without nats-py, the constructor says what to install."""
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(MissingDependency, match=r"eliot-etw\[nats\]"):
        NatsInput()
