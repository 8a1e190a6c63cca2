"""Tests of NATS servers that fail, or ask who we are: nothing acknowledged is lost."""

import asyncio
import signal
import threading
import time

import pytest

pytest.importorskip("nats")

from eliot_etw.destinations import NatsDestination
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._nats_stream import Access, NatsStream, NewStream
from eliot_etw.sources import NatsSource
from tests import _certificates, _services

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


class TestAccess:
    """Servers that ask who we are, and say who they are."""

    @pytest.fixture
    def serve(self, tmp_path):
        """Return a function that starts a server with more settings; it is stopped at the end."""
        started = []

        def serve(*settings):
            kind = _services._kind("nats")

            class Strict(kind):
                def _command(self, program):
                    command = super()._command(program)
                    with open(self.folder / "nats.conf", "a", encoding="utf-8") as file:
                        file.write("\n".join([*settings, ""]))
                    return command

            started.append(_services._tool().started(Strict, tmp_path / "server"))
            return started[-1]

        yield serve
        for each in started:
            each.stop()

    @staticmethod
    def try_it(url, **access):
        """Add a message, and read it back."""
        stream = NatsStream(
            url, "s", timeout_s=10, feature="a test", access=Access(**access), new=NewStream()
        )
        try:
            stream.append([Item(b"{}", "s", 1, "")])
            stream.begin(0)
            return [line for entry in stream.pull(10, 1.0) for line in entry.lines]
        finally:
            stream.close()

    def test_user(self, serve):
        """A user is known by a password; the right one, which no report shows."""
        server = serve('authorization { user: "eliot", password: "s3cret" }')
        address = server.url.removeprefix("nats://")
        assert self.try_it(f"nats://eliot:s3cret@{address}") == [b"{}"]
        for who in ("", "eliot:wr0ng@"):
            with pytest.raises(OSError, match=r"(?i)authorization") as caught:
                self.try_it(f"nats://{who}{address}")
            assert "wr0ng" not in str(caught.value)

    def test_token(self, serve):
        """So is one with a token."""
        server = serve('authorization { token: "t0ken" }')
        address = server.url.removeprefix("nats://")
        assert self.try_it(f"nats://t0ken@{address}") == [b"{}"]

    def test_tls(self, serve, tmp_path):
        """With TLS, both sides prove who they are; a server that nobody signed is none."""
        ca, key = _certificates.make(tmp_path)
        stranger, stranger_key = _certificates.make(tmp_path, "stranger")
        files = f'cert_file: "{ca}", key_file: "{key}", ca_file: "{ca}"'
        server = serve(f"tls {{ {files}, verify: true }}")
        proof = {"tls_certificate": ca, "tls_key": key}
        url = server.url.replace("nats:", "tls:")
        assert self.try_it(url, tls_ca=ca, **proof) == [b"{}"]
        for access in (proof, {"tls_ca": stranger, **proof}):
            with pytest.raises(OSError, match="certificate verify failed"):
                self.try_it(url, **access)
        with pytest.raises(OSError, match=url):
            self.try_it(url, tls_ca=ca)
        with pytest.raises(OSError, match=url):
            self.try_it(url, tls_ca=ca, tls_certificate=stranger, tls_key=stranger_key)

    def test_credentials(self, serve, tmp_path):
        """A user is known by keys, too; what proves it is in no report."""
        pytest.importorskip("nkeys")
        from tests._nats_accounts import Operator

        operator = Operator()
        server = serve(operator.settings)
        right, _ = operator.credentials(tmp_path / "right.creds")
        assert self.try_it(server.url, credentials=right) == [b"{}"]
        stranger, seed = Operator().credentials(tmp_path / "stranger.creds")
        for access in ({"credentials": stranger}, {}):
            with pytest.raises(OSError, match="Authorization Violation") as caught:
                self.try_it(server.url, **access)
            assert seed not in str(caught.value)
        denied, _ = operator.credentials(tmp_path / "denied.creds", pub={"deny": [">"]})
        with pytest.raises(OSError, match="permissions violation"):
            self.try_it(server.url, credentials=denied)

    def test_credentials_change(self, serve, tmp_path):
        """Those that become useless are told of, and count when they are good again."""
        pytest.importorskip("nkeys")
        from tests._nats_accounts import Operator

        operator = Operator()
        server = serve(operator.settings)
        path = tmp_path / "user.creds"
        operator.credentials(path)
        access = Access(credentials=str(path))
        stream = NatsStream(
            server.url, "s", timeout_s=10, feature="a test", access=access, new=NewStream()
        )
        path.write_bytes(b"\xff s3cret")
        with pytest.raises(OSError, match=r"user\.creds.*useless") as caught:
            stream.append([Item(b"{}", "s", 1, "")])
        assert "s3cret" not in str(caught.value)
        operator.credentials(path)
        assert stream.append([Item(b"{}", "s", 1, "")]) == 0
        stream.close()

    @pytest.mark.parametrize("content", [b"", b"-----BEGIN NATS USER JWT-----\ns3cret", b"\xff"])
    def test_no_credentials(self, tmp_path, content):
        """A file of something else is refused at once, without a word of it."""
        pytest.importorskip("nkeys")
        path = tmp_path / "odd.creds"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no USER NKEY SEED") as caught:
            NatsDestination(credentials=str(path))
        assert "s3cret" not in str(caught.value)


def test_close_makes_no_other_loop(monkeypatch):
    """To close a stream makes no event loop, which nobody would close."""
    stream = NatsStream("nats://127.0.0.1:1", "s", timeout_s=1, feature="a test")
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
        stream.append([Item(b"{}", "a", 1, "")])
    made = []
    # What asyncio asks for the loop of a thread that has none running.
    policy = asyncio.get_event_loop_policy()
    monkeypatch.setattr(policy, "get_event_loop", lambda: made.append(1))
    stream.close()
    assert made == []
