"""Tests of the port: what comes over it is taken once, refused or counted; nobody else suffers."""

import os
import pickle
import socket
import sys
import threading
import time
from contextlib import ExitStack

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")

import msgspec
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zmq.auth import load_certificate

from eliot_etw.collector import _control as control
from eliot_etw.collector import _keys
from eliot_etw.collector._keys import make_keys
from eliot_etw.collector._level_client import LevelClient
from eliot_etw.collector.inputs import _curve_port
from eliot_etw.collector.inputs import zmq as zmq_input
from eliot_etw.collector.inputs.zmq import ZmqInput
from eliot_etw.shipping import _protocol as protocol
from eliot_etw.shipping._protocol import LevelRule
from tests.collector._fuzzer import greeting_of
from tests.collector._processes import lines_of, wait_until


class Taken:
    """Takes batches as a pipeline would, and settles them when told."""

    def __init__(self):
        self.batches = []
        self.waiting = []
        self.is_full = False
        self.settles = True

    def __call__(self, batch, done):
        if self.is_full:
            return False
        self.batches.append(batch)
        if self.settles:
            done()
        else:
            self.waiting.append(done)
        return True

    @property
    def numbers(self):
        return [entry.message["number"] for batch in self.batches for entry in batch]

    @property
    def senders(self):
        return {sender for batch in self.batches for sender, _ in batch.places()}


@pytest.fixture
def taken():
    return Taken()


@pytest.fixture
def listen(taken, tmp_path):
    """Return a function that starts inputs; they are closed at the end."""
    started = []

    def listen(endpoint="tcp://127.0.0.1:*", **options):
        started.append(ZmqInput(endpoint, **options))
        started[-1].start(taken, tmp_path / "input")
        return started[-1]

    yield listen
    for each in started:
        each.stop(5)
        each.close(5)
        each.close(5)


@pytest.fixture
def port(listen):
    return listen()


class TestBatches:
    """Messages are taken in order, each once, and acknowledged when they are settled."""

    def test_taken(self, port, taken, shipper):
        """A batch is delivered with its sender and its numbers, then acknowledged."""
        sender = shipper(port.endpoint)
        welcome = sender.greet()
        assert (welcome.version, welcome.acknowledged, welcome.levels) == (1, 0, ())
        sender.ship(lines_of(3))
        sender.wait_for_ack(3)
        assert taken.batches[0].lines == lines_of(3)
        assert [*taken.batches[0].places()] == [(f"/{sender.sender.hex()}", n) for n in (1, 2, 3)]

    def test_msgpack(self, port, taken, shipper):
        """MessagePack becomes lines of JSON."""
        sender = shipper(port.endpoint)
        sender.greet()
        messages = [{"number": n, "text": "ü"} for n in (1, 2)]
        payload = protocol.compressed(msgspec.msgpack.encode(messages))
        sender.say(protocol.Batch(sender.sender, 1, 2, "msgpack", "zlib", payload))
        sender.wait_for_ack(2)
        assert taken.batches[0].lines[0] == '{"number":1,"text":"ü"}'.encode()

    def test_settled_out_of_order(self, port, taken, shipper):
        """Nothing is acknowledged before what came earlier."""
        taken.settles = False
        sender = shipper(port.endpoint)
        sender.greet()
        for first in (1, 11, 21):
            sender.ship(lines_of(10, start=first), first)
        wait_until(lambda: len(taken.waiting) == 3)
        taken.waiting[1]()
        assert sender.hear(0.3) is None
        taken.waiting[0]()
        assert sender.hear_a(protocol.Ack).through == 20
        taken.waiting[2]()
        assert sender.hear_a(protocol.Ack).through == 30

    def test_replayed(self, port, taken, shipper):
        """What comes again, wholly or in part, is delivered once, and acknowledged again."""
        sender = shipper(port.endpoint)
        sender.greet()
        for first, count in ((1, 10), (1, 10), (6, 10), (3, 4)):
            sender.ship(lines_of(count, start=first), first)
        sender.wait_for_ack(15)
        sender.ship(lines_of(1, start=16), 16)
        sender.wait_for_ack(16)
        assert taken.numbers == [*range(1, 17)]
        assert port.stats()["replayed"] == 2

    def test_gap(self, port, taken, shipper):
        """A sender may have dropped messages."""
        sender = shipper(port.endpoint)
        sender.greet()
        sender.ship(lines_of(2), 1)
        sender.ship(lines_of(2, start=100), 100)
        sender.wait_for_ack(101)
        assert taken.numbers == [1, 2, 100, 101]

    def test_held_back(self, port, taken, shipper):
        """What there is no room for is to come again, with all that followed it."""
        sender = shipper(port.endpoint)
        sender.greet()
        taken.is_full = True
        for first in (1, 11, 21):
            sender.ship(lines_of(10, start=first), first)
        refused = sender.hear_a(protocol.Refused)
        assert (refused.code, refused.first, refused.sender) == ("busy", 1, sender.sender)
        assert refused.retry_after_ms > 0
        wait_until(lambda: port.stats()["batches"] == 3)
        taken.is_full = False
        sender.ship(lines_of(10, start=11), 11)  # was under way when it was refused
        for first in (1, 11):
            sender.ship(lines_of(10, start=first), first)
        sender.wait_for_ack(20)
        assert taken.numbers == [*range(1, 21)]

    def test_cannot_be_delivered(self, port, taken, shipper, monkeypatch):
        """A batch that makes who takes it fail is taken when it comes again, and acknowledged."""
        sender = shipper(port.endpoint)
        sender.greet()
        monkeypatch.setattr(port, "_deliver", lambda batch, done: 1 / 0)
        sender.ship(lines_of(10), 1)
        wait_until(lambda: port.stats()["failures"])
        monkeypatch.undo()
        sender.ship(lines_of(10), 1)
        sender.wait_for_ack(10)
        assert taken.numbers == [*range(1, 11)]

    def test_later_than_one_that_failed(self, port, taken, shipper, monkeypatch):
        """Nothing later is acknowledged as long as one has not been delivered."""
        sender = shipper(port.endpoint)
        sender.greet()
        monkeypatch.setattr(port, "_deliver", lambda batch, done: 1 / 0)
        sender.ship(lines_of(10), 1)
        assert sender.hear_a(protocol.Refused).code == "busy"
        monkeypatch.undo()
        sender.ship(lines_of(10, start=11), 11)
        wait_until(lambda: port.stats()["batches"] == 2)
        for first in (1, 11):
            sender.ship(lines_of(10, start=first), first)
        sender.wait_for_ack(20)
        assert taken.numbers == [*range(1, 21)]

    def test_held_back_of_two(self, port, taken, shipper, monkeypatch):
        """Of two whose messages come on one connection, each is to begin anew if it has to."""
        sender = shipper(port.endpoint)
        sender.greet()
        own, other = sender.sender, os.urandom(16)
        taken.is_full = True
        for who in (own, other):
            sender.sender = who
            sender.ship(lines_of(1), 1)
            assert sender.hear_a(protocol.Refused).code == "busy"
        taken.is_full = False
        sender.ship(lines_of(1), 1)
        assert sender.hear_a(protocol.Ack).sender == other
        sender.sender = own
        sender.ship(lines_of(1, start=2), 2)  # its first one was dropped
        wait_until(lambda: port.stats()["batches"] == 4)
        monkeypatch.setattr(zmq_input, "_PATIENCE_S", 0.0)
        sender.say(protocol.Ping(1))
        assert sender.hear_a(protocol.Refused).code == "hello"

    def test_late_from_the_dead(self, port, taken, shipper):
        """What comes late from a killed process does not count for what it left on disk."""
        dead, heir = shipper(port.endpoint), shipper(port.endpoint)
        dead.greet()
        heir.greet()
        heir.sender = dead.sender
        taken.is_full = True
        for each in (dead, heir):
            each.ship(lines_of(1), 1)
            assert each.hear_a(protocol.Refused).code == "busy"
        taken.is_full = False
        dead.ship(lines_of(1, start=2), 2)
        wait_until(lambda: port.stats()["batches"] == 3)
        for first in (1, 2):
            heir.ship(lines_of(1, start=first), first)
        heir.wait_for_ack(2)
        assert taken.numbers == [1, 2]

    def test_held_back_and_dropped(self, port, taken, shipper, monkeypatch):
        """If what was held back never comes, the sender is to begin anew, and is heard then."""
        monkeypatch.setattr(zmq_input, "_PATIENCE_S", 0.0)
        sender = shipper(port.endpoint)
        sender.greet()
        taken.is_full = True
        sender.ship(lines_of(10), 1)
        assert sender.hear_a(protocol.Refused).code == "busy"
        taken.is_full = False
        sender.ship(lines_of(10, start=11), 11)
        assert sender.hear_a(protocol.Refused).code == "hello"
        sender.greet()
        sender.ship(lines_of(10, start=11), 11)
        sender.wait_for_ack(20)
        assert taken.numbers == [*range(11, 21)]

    def test_held_back_and_dropped_while_others_wait(self, port, taken, shipper, monkeypatch):
        """Nor does its sender wait for ever for answers to what it sent before it dropped that."""
        sender = shipper(port.endpoint)
        sender.greet()
        taken.is_full = True
        for first in (1, 11):
            sender.ship(lines_of(10, start=first), first)
        assert sender.hear_a(protocol.Refused).code == "busy"
        wait_until(lambda: port.stats()["batches"] == 2)
        taken.is_full = False
        sender.say(protocol.Ping(1))
        assert sender.hear_a(protocol.Pong) == protocol.Pong(1)
        monkeypatch.setattr(zmq_input, "_PATIENCE_S", 0.0)
        sender.say(protocol.Ping(2))
        assert sender.hear_a(protocol.Refused).code == "hello"

    def test_held_back_again_and_again(self, port, taken, shipper, monkeypatch):
        """Patience counts from the last time that a batch was held back."""
        monkeypatch.setattr(zmq_input, "_PATIENCE_S", 1_000.0)
        sender = shipper(port.endpoint)
        sender.greet()
        taken.is_full = True
        for _ in range(2):
            since = time.monotonic()
            sender.ship(lines_of(10), 1)
            assert sender.hear_a(protocol.Refused).code == "busy"
        (held,) = port._sessions._senders.values()
        assert held.waits_since >= since

    def test_new_connection(self, port, taken, shipper):
        """After a new connection it goes on where it was; the old one counts no more."""
        old = shipper(port.endpoint)
        old.greet()
        old.ship(lines_of(5), 1)
        old.wait_for_ack(5)
        new = shipper(port.endpoint)
        new.sender = old.sender
        assert new.greet().acknowledged == 5
        old.ship(lines_of(5, start=20), 20)
        assert old.hear_a(protocol.Refused).code == "hello"
        new.ship(lines_of(5, start=6), 6)
        new.wait_for_ack(10)
        assert taken.numbers == [*range(1, 11)]

    def test_left_by_another(self, port, taken, shipper):
        """A process may send what another one left, under its name."""
        sender = shipper(port.endpoint)
        sender.greet()
        other = os.urandom(16)
        payload = lines_of(1)[0] + b"\n"
        sender.say(protocol.Batch(other, 1, 1, "json", "", payload))
        assert sender.hear_a(protocol.Ack) == protocol.Ack(other, 1)
        assert taken.senders == {f"/{other.hex()}"}

    def test_end(self, listen, taken, shipper):
        """At the end nothing more is taken; what is settled is acknowledged; it says goodbye."""
        port = listen()
        taken.settles = False
        sender = shipper(port.endpoint)
        sender.greet()
        sender.ship(lines_of(1), 1)
        wait_until(lambda: taken.waiting)
        port.stop(5)
        sender.ship(lines_of(1, start=2), 2)
        assert sender.hear_a(protocol.Refused).code == "closing"
        taken.waiting[0]()
        port.close(5)
        assert sender.hear_a(protocol.Ack).through == 1
        assert isinstance(sender.hear_a(protocol.Bye), protocol.Bye)


class TestGarbage:
    """Whatever comes, others are served, nothing is executed, and it is counted."""

    @pytest.fixture(autouse=True)
    def others_are_served(self, port, taken, shipper):
        """See that another sender is served before and after."""
        good = shipper(port.endpoint)
        good.greet()
        good.ship(lines_of(1), 1)
        good.wait_for_ack(1)
        yield
        good.ship(lines_of(1, start=2), 2)
        good.wait_for_ack(2)
        assert port.stats()["failures"] == 0

    @pytest.mark.parametrize(
        "frame",
        [
            b"",
            b"x",
            b"\0" * 1000,
            protocol.encode(protocol.Ping())[:-1],
            protocol.encode(protocol.Ack(b"a" * 16, 1)),
            control.MAGIC,
            control.MAGIC + b"\xff" * 100,
        ],
    )
    def test_garbage(self, port, shipper, frame):
        """It is refused in words."""
        sender = shipper(port.endpoint)
        sender.greet()
        sender.socket.send(frame)
        assert sender.hear_a(protocol.Refused).code == "garbage"
        assert port.stats()["garbage"] == 1

    def test_several_frames(self, port, shipper):
        """A message of several frames is none."""
        sender = shipper(port.endpoint)
        sender.greet()
        sender.socket.send_multipart([protocol.encode(protocol.Ping()), b""])
        assert sender.hear_a(protocol.Refused).code == "garbage"

    def test_other_version(self, port, shipper):
        """Another version is told as such."""
        sender = shipper(port.endpoint)
        sender.socket.send(protocol.MAGIC + b"\x63more")
        assert sender.hear_a(protocol.Refused).code == "version"
        sender.say(protocol.Hello((99,), sender.sender, "h", 1, "p", 0, "json"))
        assert sender.hear_a(protocol.Refused).code == "version"

    def test_without_hello(self, port, taken, shipper):
        """Who has not said who it is is asked to."""
        sender = shipper(port.endpoint)
        sender.ship(lines_of(1), 1)
        assert sender.hear_a(protocol.Refused).code == "hello"
        assert port.stats()["without_hello"] == 1

    def test_bad_batch(self, port, taken, shipper):
        """A batch that is not what it says can never be taken; the next one is."""
        sender = shipper(port.endpoint)
        sender.greet()
        for payload in (b"a\nb\n", b"a", b""):
            sender.say(protocol.Batch(sender.sender, 1, 1, "json", "", payload))
            refused = sender.hear_a(protocol.Refused)
            assert (refused.code, refused.first) == ("batch", 1)
        sender.say(protocol.Batch(sender.sender, 1, 1, "msgpack", "zlib", b"x"))
        assert sender.hear_a(protocol.Refused).code == "batch"
        sender.ship(lines_of(1), 2)
        sender.wait_for_ack(2)
        assert port.stats()["bad_batches"] == 4

    def test_many_bad_batches(self, port, taken, shipper):
        """Each is refused, however many there are, before anything later is acknowledged."""
        sender = shipper(port.endpoint)
        sender.greet()
        for first in range(1, 1_001):
            sender.say(protocol.Batch(sender.sender, first, 1, "json", "", b"a"))
        sender.ship(lines_of(1), 1_001)
        refused = []
        while not isinstance(answer := sender.hear(), protocol.Ack):
            refused.append((answer.code, answer.first))
        assert refused == [("batch", first) for first in range(1, 1_001)]
        assert answer.through == 1_001

    def test_bad_batch_is_never_acknowledged(self, port, taken, shipper):
        """Who did not hear that a batch was refused is told again, first of all."""
        old = shipper(port.endpoint)
        old.greet()
        old.say(protocol.Batch(old.sender, 1, 1, "json", "", b"a"))
        old.ship(lines_of(1), 2)
        old.wait_for_ack(2)
        new = shipper(port.endpoint)
        new.sender = old.sender
        new.say(protocol.Hello((1,), new.sender, "host", 7, "test", 0, "json"))
        first, welcome = new.hear(), new.hear()
        assert (first.code, first.first, welcome.acknowledged) == ("batch", 1, 2)
        # What another process left is known by the batch alone.
        new.say(protocol.Batch(old.sender, 1, 1, "json", "", b"a"))
        assert new.hear().first == 1
        assert new.hear() == protocol.Ack(old.sender, 2)

    @pytest.mark.skipif(sys.platform == "win32", reason="stood still under Wine; not known why")
    def test_bad_batches_unread(self, port, taken, shipper):
        """Of who does not read that, nothing is taken until it has said Hello again."""
        sender = shipper(port.endpoint)
        sender.socket.rcvhwm = 1
        sender.socket.rcvbuf = 1_000
        sender.greet()
        bad = protocol.encode(protocol.Batch(sender.sender, 1, 1, "json", "", b"a"))
        while port.gauges()["senders"] > 1:  # the other one is that of the fixture
            sender.socket.send(bad)
        sender.ship(lines_of(1), 2)
        ping = protocol.Ping(7)
        while not (
            isinstance(answer := sender.hear(), protocol.Refused) and answer.code == "hello"
        ):
            assert not isinstance(answer, protocol.Ack)
            sender.say(ping)

    def test_bomb(self, port, taken, shipper):
        """A payload that becomes too large when it is decompressed is refused."""
        sender = shipper(port.endpoint)
        sender.greet()
        payload = protocol.compressed(b"\0" * (protocol.MAX_FRAME_BYTES + 1))
        sender.say(protocol.Batch(sender.sender, 1, 1, "json", "zlib", payload))
        assert sender.hear_a(protocol.Refused).code == "batch"

    def test_pickle_bomb(self, port, taken, shipper, tmp_path):
        """A pickle that would do harm lies inert, as a frame and as a message."""
        bomb = pickle.dumps(Bomb(str(tmp_path / "harm")))
        sender = shipper(port.endpoint)
        sender.greet()
        sender.socket.send(bomb)
        assert sender.hear_a(protocol.Refused).code == "garbage"
        sender.ship([bomb.replace(b"\n", b"")], 1)
        sender.wait_for_ack(1)
        assert not (tmp_path / "harm").exists()

    def test_huge_frame(self, port, shipper):
        """A frame that is too large ends its connection before it is read."""
        sender = shipper(port.endpoint)
        sender.greet()
        frames = port.stats()["frames"]
        sender.socket.send(b"\0" * (5 << 20))
        assert sender.hear(0.5) is None
        assert port.stats()["frames"] == frames

    def test_slow_reader(self, port, shipper):
        """Who asks much and reads no answer makes nobody wait."""
        sender = shipper(port.endpoint)
        sender.greet()
        for number in range(20_000):
            sender.say(protocol.Ping(number))
        wait_until(lambda: port.stats()["frames"] > 20_000)

    def test_flood(self, port, shipper):
        """A flood of garbage is answered now and then only."""
        sender = shipper(port.endpoint)
        for _ in range(5_000):
            sender.socket.send(b"garbage")
        wait_until(lambda: port.stats()["garbage"] == 5_000)
        answers = 0
        while sender.hear(0.2) is not None:
            answers += 1
        assert answers < 2_500


class Bomb:
    """Does harm if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return an input for many examples, and a socket to it."""
    port = ZmqInput("tcp://127.0.0.1:*")
    port.start(Taken(), tmp_path_factory.mktemp("input"))
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(port.endpoint)
        yield port, socket
    port.stop(5)
    port.close(5)


_FRAMES = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(lambda data: protocol.MAGIC + b"\x01" + data),
    st.binary(max_size=300).map(lambda data: control.MAGIC + data),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_FRAMES, min_size=1, max_size=10), st.booleans())
def test_fuzz(shared, frames, at_once):
    """Whatever frames come, the port goes on, and has no mistakes of its own."""
    port, socket = shared
    before = port.stats()["frames"]
    if at_once:
        socket.send_multipart(frames)
    else:
        for frame in frames:
            socket.send(frame)
    wait_until(lambda: port.stats()["frames"] >= before + (1 if at_once else len(frames)))
    assert port.stats()["failures"] == 0


class TestSenders:
    """Who is connected."""

    def test_too_many(self, listen, shipper):
        """There is a limit, and who says goodbye makes room."""
        port = listen(max_senders=2)
        one, two, three = (shipper(port.endpoint) for _ in range(3))
        one.greet()
        two.greet()
        three.say(protocol.Hello((1,), three.sender, "h", 1, "p", 0, "json"))
        assert three.hear_a(protocol.Refused).code == "sender"
        one.say(protocol.Bye())
        wait_until(lambda: port.gauges()["senders"] == 1)
        three.greet()

    def test_ping(self, port, shipper):
        """A sign of life is answered."""
        sender = shipper(port.endpoint)
        sender.greet()
        sender.say(protocol.Ping(7))
        assert sender.hear_a(protocol.Pong).number == 7

    def test_address_in_use(self, port, listen):
        """An address that is taken is an error of the system."""
        with pytest.raises(OSError, match="cannot listen at"):
            listen(port.endpoint)


class TestKeys:
    """With keys, only who has one that is allowed says anything."""

    @pytest.fixture(autouse=True)
    def look_always(self, monkeypatch):
        """Look at the folder often."""
        monkeypatch.setattr(_keys, "_LOOK_EVERY_S", 0.0)

    @pytest.fixture
    def folder(self, tmp_path):
        """Make keys: of the collector, and of two senders that are allowed."""
        make_keys(tmp_path / "own", "collector")
        make_keys(tmp_path / "all", "a")
        make_keys(tmp_path / "all", "b")
        make_keys(tmp_path / "other", "c")
        return tmp_path

    @pytest.fixture
    def port(self, listen, folder):
        return listen(
            keys=str(folder / "all"),
            secret_key=str(folder / "own" / "collector.key_secret"),
            admins=["a"],
        )

    @pytest.fixture
    def with_key(self, port, folder, shipper):
        """Return a function that makes senders with keys of a file."""
        server_key, _ = load_certificate(folder / "own" / "collector.key")

        def with_key(path):
            keys = load_certificate(folder / path)
            return shipper(port.endpoint, keys=keys, server_key=server_key)

        return with_key

    def test_allowed(self, with_key, taken):
        """Who has an allowed key is taken, and named after it."""
        sender = with_key("all/a.key_secret")
        sender.greet()
        sender.ship(lines_of(1), 1)
        sender.wait_for_ack(1)
        assert taken.senders == {f"a/{sender.sender.hex()}"}

    def test_no_sender_of_another(self, with_key, taken):
        """What one key's owner sends under another's name is not the other's."""
        first, second = with_key("all/a.key_secret"), with_key("all/b.key_secret")
        second.sender = first.sender
        for sender in (first, second):
            assert sender.greet().acknowledged == 0
            sender.ship(lines_of(2), 1)
            sender.wait_for_ack(2)
        assert len(taken.senders) == 2
        assert taken.numbers == [1, 2, 1, 2]

    @pytest.mark.parametrize("how", ["none", "wrong", "wrong server"])
    def test_denied(self, port, folder, shipper, with_key, taken, how):
        """Without a key, with a wrong one, or for a wrong collector, nothing is said."""
        if how == "none":
            sender = shipper(port.endpoint)
        elif how == "wrong":
            sender = with_key("other/c.key_secret")
        else:
            keys = load_certificate(folder / "all" / "a.key_secret")
            sender = shipper(port.endpoint, keys=keys, server_key=keys[0])
        sender.say(protocol.Hello((1,), sender.sender, "h", 1, "p", 0, "json"))
        sender.ship(lines_of(1), 1)
        assert sender.hear(1) is None
        assert taken.batches == []

    def test_all_at_once(self, port, folder, taken):
        """However many senders come at once, as after a restart, each gets in."""
        own, _ = load_certificate(folder / "own" / "collector.key")
        keys = load_certificate(folder / "all" / "a.key_secret")
        count = 250
        with zmq.Context() as context, ExitStack() as stack:
            for number in range(count):
                its = stack.enter_context(context.socket(zmq.DEALER))
                its.linger = 0
                its.curve_serverkey = own
                its.curve_publickey, its.curve_secretkey = keys
                its.connect(port.endpoint)
                identity = number.to_bytes(16, "big")
                its.send(protocol.encode(protocol.Hello((1,), identity, "h", 1, "p", 0, "json")))
            wait_until(lambda: port.gauges()["senders"] == count)

    @pytest.mark.skipif(sys.platform == "win32", reason="libzmq would end the process there")
    def test_strangers(self, port, with_key, taken):
        """Of many who show no key, the oldest are hung up on; who has shown one is not."""
        friend = with_key("all/a.key_secret")
        friend.greet()
        address = port.endpoint.removeprefix("tcp://").split(":")
        with ExitStack() as stack:
            for _ in range(100):
                its = stack.enter_context(socket.create_connection(address))
                its.sendall(greeting_of(b"\0", b"CURVE") + b"\x02" + bytes(5) + b"\1\0\0half")
            wait_until(lambda: port.stats()["hung_up"] >= 100 - _curve_port._MOST_STRANGERS)
            friend.ship(lines_of(1), 1)
            friend.wait_for_ack(1)
            with_key("all/b.key_secret").greet()

    def test_revoked(self, port, folder, with_key, taken):
        """A key that is taken away ends what its owner says; a new one counts at once."""
        sender = with_key("all/a.key_secret")
        sender.greet()
        (folder / "all" / "a.key").unlink()
        assert sender.hear_a(protocol.Refused).code == "sender"
        sender.ship(lines_of(1), 1)
        assert sender.hear_a(protocol.Refused).code == "hello"
        sender.say(protocol.Hello((1,), sender.sender, "h", 1, "p", 0, "json"))
        assert sender.hear_a(protocol.Refused).code == "sender"
        assert taken.batches == []
        (folder / "all" / "c.key").write_bytes((folder / "other" / "c.key").read_bytes())
        with_key("other/c.key_secret").greet()

    @pytest.mark.parametrize(("name", "is_admin"), [("a", True), ("b", False)])
    def test_admins(self, port, folder, messages, name, is_admin):
        """Only admins change levels; who else tries is written down."""
        client = LevelClient(
            port.endpoint,
            server_key=str(folder / "own" / "collector.key"),
            secret_key=str(folder / "all" / f"{name}.key_secret"),
        )
        try:
            if is_admin:
                assert client.ask(control.ListLevels()).rules == []
            else:
                with pytest.raises(PermissionError, match="is none of the admins'"):
                    client.ask(control.ListLevels())
                assert "collector:levels_denied" in [m["message_type"] for m in messages]
        finally:
            client.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "tcp://0.0.0.0:5515"}, "must be on this machine where there are no keys"),
        ({"endpoint": "tcp://*:5515"}, "must be on this machine"),
        ({"endpoint": "tcp://127.0.0.1.example.org:5515"}, "must be on this machine"),
        ({"keys": "/x"}, "must be given together"),
        ({"secret_key": "/x"}, "must be given together"),
    ],
)
def test_unsafe(options, words):
    """Without keys it listens only where nobody else is, unless it is told to in so many words."""
    with pytest.raises(ValueError, match=words):
        ZmqInput(**options)
    if "endpoint" in options:
        ZmqInput(**options, allow_unencrypted=True)


@pytest.mark.parametrize("name", ["max_batch_bytes", "window_bytes", "max_senders"])
@pytest.mark.parametrize("value", [0, -5])
def test_takes_nothing(name, value):
    """A limit that lets nothing in is refused at set-up."""
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        ZmqInput(**{name: value})


def test_public_key_for_secret(tmp_path):
    """The collector's keys must have the secret one."""
    public, _ = make_keys(tmp_path, "a")
    with pytest.raises(ValueError, match="must be a file with a secret key"):
        ZmqInput(keys=str(tmp_path), secret_key=str(public))


class TestLevels:
    """Levels are set in one place, and reach every sender."""

    @pytest.fixture
    def client(self, port):
        client = LevelClient(port.endpoint)
        yield client
        client.close()

    def test_set(self, port, client, shipper):
        """A rule reaches who is connected and who connects later; who confirms is known."""
        sender = shipper(port.endpoint)
        sender.greet()
        rule = LevelRule("app:db*", 10, 60_000, "p*", "h*")
        report = client.ask(control.SetLevel(rule))
        assert [(r.pattern, r.level) for r in report.rules] == [("app:db*", 10)]
        levels = sender.hear_a(protocol.Levels)
        assert levels.revision == report.revision
        assert levels.rules[0].pattern == "app:db*"
        assert report.senders[0].revision == -1
        sender.say(protocol.LevelsInForce(levels.revision, 1))
        said = wait_until(
            lambda: [
                each for each in client.ask(control.ListLevels()).senders if each.revision >= 0
            ]
        )
        assert said == [control.SenderLevels("host", "test", 7, report.revision, 1)]
        later = shipper(port.endpoint)
        assert later.greet().levels[0].pattern == "app:db*"

    def test_ends_by_itself(self, client, port, shipper):
        """When its time is over, senders are told."""
        sender = shipper(port.endpoint)
        sender.greet()
        client.ask(control.SetLevel(LevelRule("a", 10, 300)))
        assert sender.hear_a(protocol.Levels).rules
        assert sender.hear_a(protocol.Levels).rules == ()

    def test_clear(self, client, port, shipper):
        """It is ended when that is asked."""
        sender = shipper(port.endpoint)
        sender.greet()
        client.ask(control.SetLevel(LevelRule("a", 10, 60_000)))
        assert client.ask(control.ClearLevels("a")).rules == []
        assert sender.hear_a(protocol.Levels).rules
        assert sender.hear_a(protocol.Levels).rules == ()

    def test_odd_request(self, client):
        """What is no request is denied."""
        with pytest.raises(PermissionError, match="not a request"):
            client.ask(control.Denied("x"))

    def test_no_collector(self):
        """Where nobody answers, that is said."""
        client = LevelClient("tcp://127.0.0.1:1", timeout_s=0.1)
        try:
            with pytest.raises(TimeoutError, match="no answer from"):
                client.ask(control.ListLevels())
        finally:
            client.close()


def test_threads_settle(port, taken, shipper):
    """Batches may be settled by any thread, in any order."""
    taken.settles = False
    sender = shipper(port.endpoint)
    sender.greet()
    for first in range(1, 1_000, 10):
        sender.ship(lines_of(10, start=first), first)
    wait_until(lambda: len(taken.waiting) == 100)
    threads = [threading.Thread(target=done) for done in reversed(taken.waiting)]
    for thread in threads:
        thread.start()
    sender.wait_for_ack(1_000)
    for thread in threads:
        thread.join()
