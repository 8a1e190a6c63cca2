"""Tests of the inputs of all engines: each line is given once, and acknowledged when stored."""

import os
import signal
import sys
import threading
import time
from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("zmq")

from eliot_etw import add_destinations, remove_destination
from eliot_etw.collector.inputs._pulled import PulledInput
from eliot_etw.collector.inputs.nats import NatsInput
from eliot_etw.collector.inputs.redis import RedisInput
from eliot_etw.destinations import NatsDestination, RedisDestination, ZmqDestination
from eliot_etw.exceptions import MissingDependency
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._nats_stream import NatsStream
from eliot_etw.sources import NatsSource, RedisSource
from tests import _services
from tests.collector._processes import lines_of, numbers_in, wait_until
from tests.collector.inputs.test_file import places
from tests.collector.inputs.test_zmq import Taken

INPUTS = {"nats": NatsInput, "redis": RedisInput}
DESTINATIONS = {"nats": NatsDestination, "redis": RedisDestination}
SOURCES = {"nats": NatsSource, "redis": RedisSource}

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")


@pytest.fixture(params=["nats", "redis"])
def engine(request):
    """Name each engine in turn."""
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def stream():
    """Name a stream that no other test uses."""
    return f"test-{uuid4()}"


class Load:
    """Logs on and on in a thread, waiting for room as long as it takes."""

    def __init__(self, destination):
        self.count = 0
        self._destination = destination
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._is_over.is_set():
            self._destination(
                {
                    "task_uuid": "a",
                    "task_level": [1],
                    "message_type": "test:m",
                    "number": self.count,
                }
            )
            self.count += 1
            if self.count % 20 == 0:
                time.sleep(0.002)

    def end(self):
        """Stop, and wait until all is acknowledged."""
        self._is_over.set()
        self._thread.join(120)
        assert self._destination.flush(120)
        assert self._destination.stats()["acknowledged"] == self.count


def kill_while(collector, size):
    """Kill the collector and start it again, each time that more is there."""
    for _ in range(3):
        enough = size() + 10_000
        wait_until(lambda enough=enough: size() >= enough, 120)
        collector.kill()
        collector.start()


class FailingInput(PulledInput):
    """Reads nothing, from what is there or not."""

    def __init__(self):
        super().__init__()
        self.is_there = False

    def _begin(self):
        if not self.is_there:
            raise OSError("nobody there")

    def _read(self, wait_s):
        time.sleep(wait_s)
        return ()

    def _acknowledge(self, settled):
        """Take no notice."""

    def _end(self):
        """Have nothing to close."""


def test_tells(tmp_path):
    """An engine that is not there is told of, once, and that it is back."""
    messages = []
    add_destinations(messages.append)
    failing = FailingInput()
    failing.start(lambda batch, done: True, tmp_path)
    try:
        wait_until(lambda: failing.stats()["failures"] > 1)
        assert failing.problem == "nobody there"
        failing.is_there = True
        wait_until(lambda: not failing.problem)
    finally:
        failing.close(30)
        remove_destination(messages.append)
    kinds = [m["message_type"] for m in messages if m["message_type"].startswith("collector:")]
    assert kinds == ["collector:input_is_down", "collector:input_is_back"]


class Stream:
    """A stream of an engine, to add to; and how far who reads it is.

    Attributes:
        place: Where it is: the URL, and its name.
    """

    def __init__(self, opened):
        self.place = opened.url, opened.name
        self._opened = opened

    def add(self, *numbers):
        """Add messages; in NATS, where an entry may have many, as one entry."""
        lines = [lines_of(1, start=number)[0] for number in numbers]
        if isinstance(self._opened, NatsStream):
            lines = [b"\n".join(lines)]
        self._opened.append(Item(line, "", 0, uuid4().hex) for line in lines)

    def is_settled(self):
        """Say whether everything that was given is acknowledged."""
        opened = self._opened
        if not isinstance(opened, NatsStream):
            return opened._client.xpending(opened.name, "eliot")["pending"] == 0
        readers = ("eliot-collector-a", "eliot-collector-b")
        return opened.end()[0] in [opened._do(opened._position(name)) for name in readers]


class TestEachEngine:
    """What holds for whatever engine messages come from."""

    @pytest.fixture
    def to_read(self, engine, open_stream):
        """Open a stream that no other test uses."""
        return Stream(open_stream(engine))

    @pytest.fixture
    def begin(self, engine, start):
        """Return a function that starts an input which reads a stream."""
        return lambda to_read, taken, **options: start(
            INPUTS[engine](*to_read.place, **options), taken
        )

    def test_grows(self, begin, to_read):
        """What is there is given, then what comes, and is acknowledged."""
        taken = Taken()
        for number in range(1, 2_501, 25):
            to_read.add(*range(number, number + 25))
        begin(to_read, taken)
        wait_until(lambda: len(taken.numbers) == 2_500)
        to_read.add(2_501)
        wait_until(lambda: taken.numbers == [*range(1, 2_502)])
        wait_until(to_read.is_settled)

    def test_before_there_is_a_stream(self, begin, to_read):
        """A stream that is not there yet is waited for, or made."""
        taken = Taken()
        begin(to_read, taken)
        to_read.add(1)
        wait_until(lambda: taken.numbers == [1])

    def test_restart(self, begin, to_read):
        """After a restart it goes on where it was."""
        first, second = Taken(), Taken()
        to_read.add(1, 2)
        one = begin(to_read, first)
        wait_until(lambda: first.numbers == [1, 2])
        one.close(30)
        to_read.add(3)
        begin(to_read, second)
        wait_until(lambda: second.numbers == [3])

    def test_restart_before_it_was_settled(self, begin, to_read):
        """What was not settled is given again, first, under the same numbers."""
        first, second = Taken(), Taken()
        first.settles = False
        to_read.add(1, 2)
        one = begin(to_read, first)
        wait_until(lambda: first.numbers == [1, 2])
        one.close(30)
        to_read.add(3)
        begin(to_read, second)
        wait_until(lambda: second.numbers == [1, 2, 3])
        assert places(first).items() <= places(second).items()
        numbers = [number for _, number in places(second)]
        assert numbers == sorted(numbers)
        wait_until(to_read.is_settled)

    def test_held_back(self, begin, to_read):
        """What is not taken now is given later, in order."""
        taken = Taken()
        taken.is_full = True
        to_read.add(1, 2)
        one = begin(to_read, taken)
        wait_until(lambda: one.stats()["held_back"] > 1)
        to_read.add(3)
        taken.is_full = False
        wait_until(lambda: taken.numbers == [1, 2, 3])

    def test_killed_under_load(self, engine, begin, open_stream, tmp_path):
        """Over a restart of the server, each line is given once."""
        server = _services.start(engine, tmp_path / "server")
        try:
            to_read = Stream(open_stream(engine, server.url, "s"))
            taken = Taken()
            for number in range(1, 1_001, 5):
                to_read.add(*range(number, number + 5))
            begin(to_read, taken, timeout_s=2.0)
            wait_until(lambda: taken.numbers)
            server.stop(signal.SIGKILL)
            server.start()
            to_read.add(*range(1_001, 2_001))
            wait_until(lambda: len(taken.numbers) >= 2_000)
            assert taken.numbers == [*range(1, 2_001)]
        finally:
            server.stop()

    def test_without_a_name(self, engine):
        """A stream must have a name."""
        with pytest.raises(ValueError, match="must have a name"):
            INPUTS[engine](stream="")

    def test_not_installed(self, engine, monkeypatch):
        """Without the engine's package, the constructor says what to install."""
        monkeypatch.setitem(sys.modules, engine, None)
        with pytest.raises(MissingDependency, match=rf"eliot-etw\[{engine}\]"):
            INPUTS[engine]()


@posix
def test_from_an_engine(engine, stream, collector, tmp_path):
    """From a stream into a file: each once, in order, wherever the collector was killed."""
    url = _services.shared(engine).url
    destination = DESTINATIONS[engine](url, stream, block_timeout_s=120, exit_timeout_s=120)
    lines = tmp_path / "lines.jsonl"
    running = collector(
        f"  lines: {{kind: jsonlines, path: {lines}}}",
        inputs=f"  - {{kind: {engine}, url: '{url}', stream: {stream}}}",
    ).start()
    load = Load(destination)
    kill_while(running, lambda: lines.stat().st_size if lines.exists() else 0)
    load.end()
    wait_until(lambda: len(numbers_in(lines)) >= load.count, 120)
    assert running.stop() == 0
    assert numbers_in(lines) == list(range(load.count))
    destination.close()


@posix
def test_into_an_engine(engine, stream, collector):
    """From a sender into a stream: each once, in order, wherever the collector was killed."""
    url = _services.shared(engine).url
    running = collector(f"  s: {{kind: {engine}, url: '{url}', stream: {stream}}}").start()
    destination = ZmqDestination(running.endpoint, block_timeout_s=120, exit_timeout_s=120)
    load = Load(destination)
    kill_while(running, lambda: 10 * destination.stats()["acknowledged"])
    load.end()
    found = [message["number"] for message in SOURCES[engine](url, stream=stream)]
    assert found == list(range(load.count))
    destination.close()
