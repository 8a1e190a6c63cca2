"""Tests of collectors between engines, killed in mid-stream: each message is stored once."""

import os
import threading
import time
from uuid import uuid4

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("zmq")

from eliot_etw import add_destinations, remove_destination
from eliot_etw.collector.inputs._pulled import PulledInput
from eliot_etw.destinations import NatsDestination, RedisDestination, ZmqDestination
from eliot_etw.sources import NatsSource, RedisSource
from tests import _services
from tests.collector._processes import numbers_in, wait_until

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
