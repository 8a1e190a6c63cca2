"""Tests of the port without keys: whoever connects, what is held of all together is bounded."""

import os
import socket
import struct
import sys
import time
from contextlib import ExitStack, suppress
from itertools import count

import pytest

pytest.importorskip("msgspec")

from eliot_etw.collector.inputs import _plain_port
from eliot_etw.collector.inputs._plain_port import PlainPort, listen
from eliot_etw.collector.inputs._zmtp import BEGINNING, framed
from tests.collector._processes import wait_until
from tests.collector.inputs.test_zmtp import HELLO

needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="no such sockets in its Python")
MOST = 100_000
MEMORY = 1_000_000


class Strangers:
    """A port, who connects to it, and what comes of that."""

    def __init__(self, most_connections=1_000, endpoint="tcp://127.0.0.1:*"):
        self.stack = ExitStack()
        self.known = set()
        self.ended = []
        self.hung_up = []
        self.waker, wakened = map(self.stack.enter_context, socket.socketpair())
        wakened.setblocking(False)
        self.port = PlainPort(
            endpoint,
            wakened=wakened,
            most_bytes=MOST,
            memory_bytes=MEMORY,
            most_connections=most_connections,
            is_known=self.known.__contains__,
            ended=self.ended.append,
            hung_up=self.hung_up.append,
        )
        self.stack.callback(self.port.close, 0)

    def connect(self, said=b""):
        """Connect, and say something; bytes that cannot be sent at once are left out."""
        host, _, port = self.port.endpoint.removeprefix("tcp://").rpartition(":")
        its = socket.create_connection((host.strip("[]"), int(port)))
        self.stack.enter_context(its).settimeout(30)
        its.sendall(HELLO + said)
        return its

    def hear(self):
        """Return what comes until nothing does."""
        found = []
        while True:
            some = [
                each._replace(data=each.data and bytes(each.data))
                for each in self.port.receive(0.05)
            ]
            if not some:
                return found
            found += some

    def hear_until(self, is_true):
        """Take what comes, until something is true of it."""
        found = []

        def take():
            found.extend(self.hear())
            return is_true(found)

        wait_until(take)
        return found


def is_over(connection):
    """Say whether a connection was ended at the other side, after what was said there."""
    with suppress(ConnectionResetError):
        while connection.recv(1 << 20):
            pass
    return True


@pytest.fixture
def strangers():
    """Return a port and what is at its other end."""
    made = Strangers()
    with made.stack:
        yield made


def test_answer(strangers):
    """What is said is heard, and what is answered arrives."""
    its = strangers.connect(framed(b"one") + framed(b"x" * 300))
    one, two = strangers.hear_until(lambda found: len(found) == 2)
    assert (one.data, two.data, one.is_from_here) == (b"one", b"x" * 300, True)
    strangers.port.send(one.route, b"answer")
    strangers.hear()
    with its.makefile("rb") as said:
        assert said.read(len(BEGINNING) + 8) == BEGINNING + b"\0\x06answer"


def test_unfinished(strangers):
    """Of what is not finished no more is held than may be: who began first is hung up on."""
    half = b"\x02" + struct.pack(">Q", MOST) + bytes(MOST - 1)
    several = [strangers.connect(half) for _ in range(30)]
    strangers.hear_until(lambda _: len(strangers.hung_up) >= 20)
    assert strangers.port.held_bytes <= MEMORY
    assert set(strangers.hung_up) == {
        "Too much is unfinished, and it has kept us waiting longest."
    }
    # Which these are, is not said: Windows hears those that wait in any order.
    for each in several:
        with suppress(OSError):
            each.sendall(b"x")
    assert {len(each.data) for each in strangers.hear_until(bool)} == {MOST}


def test_unread(strangers):
    """Of what is not read no more is held than may be; who reads gets all that was held."""
    its = strangers.connect(framed(b"x"))
    (found,) = strangers.hear_until(bool)
    for _ in range(2_000):
        strangers.port.send(found.route, bytes(10_000))
        assert list(strangers.port.receive(0)) == []
    assert 0 < strangers.port.held_bytes < 200_000
    its.settimeout(0.05)
    read = b""

    def reads():
        nonlocal read
        try:
            read += its.recv(1 << 20)
        except TimeoutError:
            is_all = not strangers.port.held_bytes
            strangers.hear()
            return is_all
        return False

    wait_until(reads)
    assert (len(read) - len(BEGINNING)) % 10_009 == 0
    assert strangers.hung_up == []


def test_too_many():
    """If there are too many, who has not said who it is for longest gives way, or who comes."""
    strangers = Strangers(most_connections=3)
    with strangers.stack:
        first, *_ = [strangers.connect(framed(b"%d" % number)) for number in range(3)]
        routes = {
            each.data: each.route for each in strangers.hear_until(lambda all_: len(all_) == 3)
        }
        strangers.known.add(routes[b"0"])
        strangers.connect()
        strangers.hear_until(lambda _: strangers.ended)
        assert strangers.ended[0] != routes[b"0"]
        strangers.known.update(number.to_bytes(8, "big") for number in range(9))
        refused = strangers.connect()
        strangers.hear_until(lambda _: len(strangers.hung_up) == 2)
        assert strangers.hung_up == [
            "There are too many connections.",
            "All connections are taken.",
        ]
        assert strangers.ended == strangers.ended[:1]
        assert is_over(refused)
        first.sendall(framed(b"still here"))
        assert strangers.hear_until(bool)[0].route == routes[b"0"]


@needs_unix
@pytest.mark.parametrize("somebody_is_known", [False, True])
def test_no_more_files(strangers, somebody_is_known):
    """If the system has no more files, a stranger gives way; else who comes waits for one."""
    import resource

    one = strangers.connect(framed(b"one"))
    (found,) = strangers.hear_until(bool)
    if somebody_is_known:
        strangers.known.add(found.route)
    two = socket.socket()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with two:
        holes = []
        highest = max(map(int, os.listdir("/dev/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        try:
            while True:  # below it, too, there is no room
                try:
                    holes.append(os.dup(0))
                except OSError:
                    break
            two.connect(one.getpeername())
            two.sendall(HELLO + framed(b"two"))
            if somebody_is_known:
                assert strangers.hear() == []
                os.close(holes.pop())
                strangers.port.look_around(time.monotonic())
            assert [each.data for each in strangers.hear_until(bool)] == [b"two"]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for hole in holes:
                os.close(hole)
    assert len(strangers.hung_up) == (0 if somebody_is_known else 1)


def test_silent(strangers, monkeypatch):
    """Who says nothing for long is hung up on; who says something is not."""
    one = strangers.connect(framed(b"one"))
    strangers.hear_until(bool)
    two = strangers.connect(framed(b"two"))
    strangers.hear_until(bool)
    one.sendall(framed(b"again"))
    strangers.hear_until(bool)
    monkeypatch.setattr(_plain_port, "_SILENT_S", 30.0)
    connections = strangers.port._connections
    connections[(2).to_bytes(8, "big")].heard_at -= 40
    strangers.port.look_around(time.monotonic())
    assert strangers.hung_up == ["It said nothing for long."]
    assert is_over(two)


def test_hung_up(strangers):
    """Who breaks the rules is hung up on, what it said before counts, and others are heard."""
    bad = strangers.connect(framed(b"before") + b"\xff\xff" + framed(b"after"))
    strangers.connect(framed(b"other"))
    found = strangers.hear_until(lambda all_: len(all_) == 2 and strangers.hung_up)
    assert sorted(each.data for each in found) == [b"before", b"other"]
    assert len(strangers.ended) == 1
    assert is_over(bad)


def test_woken(strangers):
    """Who waits is woken."""
    strangers.waker.send(b"\0")
    assert list(strangers.port.receive(60)) == []


def test_last_words(strangers):
    """What was said last leaves, if its receiver reads."""
    its = strangers.connect(framed(b"x"))
    (found,) = strangers.hear_until(bool)
    strangers.port.send(found.route, b"bye")
    strangers.port._write()
    with its.makefile("rb") as said:
        assert said.read(len(BEGINNING) + 5).endswith(framed(b"bye"))


@needs_unix
def test_gone_before_an_answer(tmp_path):
    """What somebody said before it went is heard, though an answer cannot be written any more."""
    made = Strangers(endpoint=f"ipc://{tmp_path}/in")
    with made.stack:
        its = made.stack.enter_context(socket.socket(socket.AF_UNIX))
        its.connect(f"{tmp_path}/in")
        its.sendall(HELLO + framed(b"x"))
        (first,) = made.hear_until(bool)
        for _ in range(4):
            its.sendall(framed(b"y" * 10_000))
        its.close()
        made.port.send(first.route, b"answer")
        assert len(made.hear_until(lambda _: made.ended)) == 4


def test_answers_at_once(strangers):
    """An answer to one does not wait until all others were heard."""
    one, two = strangers.connect(framed(b"1")), strangers.connect(framed(b"2"))
    routes = {each.route: each.data for each in strangers.hear_until(lambda all_: len(all_) == 2)}
    answers = map(b"answer %d".__mod__, count())

    def is_answered_before_the_other():
        for its in (one, two):
            its.sendall(framed(b"again"))
        answer, first = next(answers), None
        for received in strangers.port.receive(30):
            if first is None:
                first = one if routes[received.route] == b"1" else two
                strangers.port.send(received.route, answer)
                continue
            said = b""
            while framed(answer) not in said:
                said += first.recv(1 << 20)
            return True
        return False  # only one was there to be heard

    wait_until(is_answered_before_the_other)


class TestListen:
    """Addresses of ZeroMQ."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
    def test_tcp(self, host):
        """Any port may be wanted; it is said which it is."""
        if host == "[::1]" and not _has_ipv6():
            pytest.skip("this system has no IPv6")
        strangers = Strangers(endpoint=f"tcp://{host}:*")
        with strangers.stack:
            assert strangers.port.endpoint.startswith(f"tcp://{host}:")
            strangers.connect(framed(b"x"))
            assert strangers.hear_until(bool)[0].is_from_here

    def test_everywhere(self):
        """So may any address."""
        listener, endpoint = listen("tcp://*:0")
        with listener:
            assert endpoint == f"tcp://0.0.0.0:{listener.getsockname()[1]}"

    def test_taken(self, strangers):
        """An address where somebody listens is taken."""
        with pytest.raises(OSError, match="cannot listen at"):
            listen(strangers.port.endpoint)

    @pytest.mark.parametrize(
        "endpoint",
        ["tcp://127.0.0.1", "tcp://127.0.0.1:x", "tcp://127.0.0.1:99999", "udp://x", "5515", ""],
    )
    def test_no_address(self, endpoint):
        """What is no address is an error of the system, with the address."""
        with pytest.raises(OSError, match=f"cannot listen at {endpoint}"):
            listen(endpoint)

    @needs_unix
    def test_ipc(self, tmp_path):
        """A file that was left is taken over, one that is in use is not; it is removed."""
        path = tmp_path / "in"
        listen(f"ipc://{path}")[0].close()
        assert path.exists()
        strangers = Strangers(endpoint=f"ipc://{path}")
        with strangers.stack:
            with pytest.raises(OSError, match="cannot listen at"):
                listen(f"ipc://{path}")
            with socket.socket(socket.AF_UNIX) as its:
                its.connect(str(path))
                its.sendall(HELLO + framed(b"x"))
                assert strangers.hear_until(bool)[0].is_from_here
        assert not path.exists()

    @needs_unix
    def test_other_file(self, tmp_path):
        """A file of another kind stays."""
        (tmp_path / "file").write_text("mine")
        with pytest.raises(OSError, match="something else of that name"):
            listen(f"ipc://{tmp_path}/file")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
    def test_ipc_without_file(self):
        """A name may be none of a file."""
        name = f"@eliot_etw-{os.getpid()}"
        listener, endpoint = listen(f"ipc://{name}")
        with listener, socket.socket(socket.AF_UNIX) as its:
            its.connect("\0" + name[1:])
            assert endpoint == f"ipc://{name}"


def _has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True
