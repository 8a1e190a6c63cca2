"""Tests of three NATS servers that are one: whichever fails, nothing acknowledged is lost."""

import signal
import threading
import time

import pytest

pytest.importorskip("nats")

from eliot_etw.destinations import NatsDestination
from eliot_etw.shipping._nats_stream import NatsStream
from eliot_etw.sources import NatsSource
from tests import _services

_WAIT_S = 120.0


@pytest.fixture
def cluster(tmp_path):
    """Start three servers that are one."""
    cluster = _services.start_cluster(tmp_path / "cluster")
    yield cluster
    cluster.stop()


def wait_for(condition):
    """Wait until something is true, but not for ever."""
    until = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < until, "it did not become true in time"
        time.sleep(0.02)


def leader_of(cluster, stream):
    """Say which server leads the stream."""
    running = ",".join(node.url for node in cluster.nodes if node._process is not None)
    asking = NatsStream(running, stream, timeout_s=30, feature="a test")
    try:
        while True:
            leader = asking._do(asking._info()).cluster.leader
            found = [node for node in cluster.nodes if node.folder.name == leader]
            if found:
                return found[0]
            time.sleep(0.1)
    finally:
        asking.close()


def a_follower(cluster, stream):
    """Say which server does not lead the stream."""
    leader = leader_of(cluster, stream)
    return next(node for node in cluster.nodes if node is not leader)


class Load:
    """Logs on and on in a thread, and knows how much."""

    def __init__(self, destination):
        self.destination = destination
        self.count = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._is_over.is_set():
            self.destination(
                {"task_uuid": "a", "task_level": [1], "message_type": "m", "number": self.count}
            )
            self.count += 1
            if self.count % 20 == 0:
                time.sleep(0.002)

    def wait_for_acknowledged(self, more):
        """Wait until so many more are acknowledged."""
        enough = self.destination.stats()["acknowledged"] + more
        wait_for(lambda: self.destination.stats()["acknowledged"] >= enough)

    def end(self):
        self._is_over.set()
        self._thread.join(_WAIT_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_node_then_the_leader(cluster, number):
    """Without one of them, then without who leads, what is acknowledged is there, each once."""
    url = ",".join(cluster.urls)
    destination = NatsDestination(
        url, "s", replicas=3, block_timeout_s=_WAIT_S, timeout_s=2.0, exit_timeout_s=_WAIT_S
    )
    load = Load(destination)
    try:
        load.wait_for_acknowledged(500)
        follower = a_follower(cluster, "s")
        follower.stop(number)
        load.wait_for_acknowledged(500)
        follower.start()
        cluster.wait()
        load.wait_for_acknowledged(500)
        leader = leader_of(cluster, "s")
        leader.stop(number)
        load.wait_for_acknowledged(500)
        leader.start()
        load.wait_for_acknowledged(500)
    finally:
        load.end()
    assert destination.flush(_WAIT_S)
    stats = destination.stats()
    assert (stats["acknowledged"], stats["dropped"], stats["queued"]) == (load.count, 0, 0)
    cluster.wait()
    found = [message["number"] for message in NatsSource(url, stream="s")]
    assert found == list(range(load.count))
    destination.close()


def test_leader_that_hangs(cluster):
    """One that leads, hangs, and comes back after another was chosen doubles nothing."""
    url = ",".join(cluster.urls)
    destination = NatsDestination(
        url, "s", replicas=3, block_timeout_s=_WAIT_S, timeout_s=2.0, exit_timeout_s=_WAIT_S
    )
    load = Load(destination)
    try:
        load.wait_for_acknowledged(500)
        leader = leader_of(cluster, "s")
        leader.pause()
        try:
            load.wait_for_acknowledged(500)
        finally:
            leader.go_on()
        load.wait_for_acknowledged(500)
    finally:
        load.end()
    assert destination.flush(_WAIT_S)
    cluster.wait()
    assert destination.stats()["acknowledged"] == load.count
    assert [m["number"] for m in NatsSource(url, stream="s")] == list(range(load.count))
    destination.close()
