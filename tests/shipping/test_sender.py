"""Tests of the conversation: each message arrives once, in order, whatever the network does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

pytest.importorskip("msgspec")

from eliot_etw.shipping import _sender as senders
from eliot_etw.shipping._level_rules import LevelRules
from eliot_etw.shipping._protocol import (
    Ack,
    Batch,
    Bye,
    Hello,
    LevelRule,
    Levels,
    LevelsInForce,
    Ping,
    Pong,
    Refused,
    Welcome,
    decode,
    encode,
)
from eliot_etw.shipping._sender import Sender
from eliot_etw.shipping._spool import MemorySpool
from eliot_etw.shipping._spool_folders import SpoolFolders


def lines(*numbers):
    """Make lines of JSON."""
    return b"".join(b'{"n":%d}\n' % number for number in numbers)


class Talk:
    """A sender, and what its tests do to it.

    Attributes:
        now_s: What time it is.
    """

    def __init__(self, *, form="json", spool=None, **options):
        self.spool = MemorySpool(max_bytes=1 << 20) if spool is None else spool
        hello = Hello((1,), self.spool.identity, "host", 7, "program", 5, form)
        rules = LevelRules(host="host", program="program", pid=7)
        self.sender = Sender(self.spool, hello, rules, **options)
        self.now_s = 1000.0
        self.hello = hello

    def log(self, *numbers):
        """Put messages into the spool."""
        return self.spool.append(lines(*numbers), len(numbers))

    def said(self):
        """List all that the sender says now."""
        messages = []
        while (frame := self.sender.next_frame(self.now_s)) is not None:
            messages.append(decode(frame))
        return messages

    def hear(self, *messages):
        """Have the sender hear something."""
        for message in messages:
            frame = message if isinstance(message, bytes) else encode(message)
            self.sender.received(frame, self.now_s)

    def begin(self, acknowledged=0, **limits):
        """Connect, and be welcome; return what is said then."""
        self.sender.connected(self.now_s)
        assert self.said() == [self.hello]
        self.hear(welcome(acknowledged, **limits))
        return self.said()

    def ack(self, through):
        """Acknowledge."""
        self.hear(Ack(self.spool.identity, through))


def welcome(acknowledged=0, *, bytes=1 << 20, count=1000, window=1 << 20, **more):  # noqa: A002
    """Make what a collector says first."""
    return Welcome(1, b"c" * 16, acknowledged, bytes, count, window, **more)


def numbers_in(messages):
    """List the numbers of the first and the last message of each batch among messages."""
    return [(m.first, m.last) for m in messages if isinstance(m, Batch)]


@pytest.fixture
def talk():
    """Return a conversation that has not begun."""
    return Talk()


class TestGreeting:
    """How it begins, and begins again."""

    def test_silent_without_connection(self, talk):
        """Nothing is said while there is no connection."""
        talk.log(1)
        assert talk.said() == []

    def test_hello_first(self, talk):
        """Nothing but who we are is said before we are welcome; and again after a while."""
        talk.log(1)
        talk.sender.connected(talk.now_s)
        assert talk.said() == [talk.hello]
        assert talk.said() == []
        talk.now_s += 1
        assert talk.said() == [talk.hello]

    def test_hello_less_often(self, talk):
        """Who is not answered asks less and less often, to keep nobody busy who is slow."""
        for _ in range(2):
            talk.sender.connected(talk.now_s)
            asked = []
            for second in range(100):
                asked += [second] * talk.said().count(talk.hello)
                talk.now_s += 1
            assert asked == [0, 1, 3, *range(7, 100, 8)]

    def test_batches_follow(self, talk):
        """When we are welcome, what waits is sent, and what comes later at once."""
        talk.log(1, 2)
        said = talk.begin()
        assert said == [
            LevelsInForce(0, 0),
            Batch(talk.spool.identity, 1, 2, "json", "", lines(1, 2)),
        ]
        talk.log(3)
        assert numbers_in(talk.said()) == [(3, 3)]

    @pytest.mark.parametrize("known", [0, 2])
    def test_connected_again(self, talk, known):
        """After a new connection, what was not acknowledged is sent again, with its numbers."""
        for number in range(1, 4):
            talk.log(number)
        talk.begin()
        talk.ack(1)
        talk.sender.disconnected()
        assert talk.said() == []
        assert numbers_in(talk.begin(known)) == [(2, 2), (3, 3)][max(0, known - 1) :]
        talk.ack(3)
        assert (talk.sender.acknowledged, len(talk.spool)) == (3, 0)
        assert (talk.sender.sent, talk.sender.reconnects) == (5 - max(0, known - 1), 1)

    def test_collector_lost_its_memory(self, talk):
        """A collector that says hello is missing gets it, and then what was not acknowledged."""
        talk.log(1)
        talk.begin()
        talk.hear(Refused("hello"))
        assert talk.said() == [talk.hello]
        talk.hear(welcome())
        assert numbers_in(talk.said()) == [(1, 1)]

    @pytest.mark.parametrize(
        ("refused", "wait_s"),
        [
            (Refused("closing"), 1),
            (Refused("something new", retry_after_ms=7000), 7),
            (Bye(), 1),
            (Refused("version", "use 2"), 10),
            (Refused("sender", "use 2", retry_after_ms=60_000), 60),
        ],
    )
    def test_refused(self, talk, refused, wait_s):
        """Whoever refuses us is asked again, after a while; whether we are is known."""
        talk.begin()
        talk.log(1)
        talk.hear(refused)
        assert talk.sender.refusal == ("use 2" if wait_s >= 10 else "")
        talk.now_s += wait_s - 0.1
        assert talk.said() == []
        talk.now_s += 0.2
        assert talk.said() == [talk.hello]
        talk.hear(welcome())
        assert talk.sender.refusal == ""
        assert numbers_in(talk.said()) == [(1, 1)]

    def test_acknowledges_what_it_took(self, talk):
        """A collector that takes nothing more may still have stored what it took before."""
        talk.log(1)
        talk.begin()
        talk.hear(Refused("closing"))
        talk.ack(1)
        assert (talk.sender.acknowledged, talk.sender.garbage) == (1, 0)
        talk.log(2)
        assert numbers_in(talk.begin()) == [(2, 2)]

    def test_close(self, talk):
        """The last word."""
        talk.begin()
        assert decode(talk.sender.close()) == Bye()


class TestSending:
    """What is in batches, and when they are sent."""

    def test_window(self, talk):
        """No more is under way than the window allows; an answer makes room."""
        for number in range(10):
            talk.log(number)
        size = len(lines(1))
        assert numbers_in(talk.begin(window=2 * size + 1)) == [(1, 1), (2, 2), (3, 3)]
        assert talk.said() == []
        talk.ack(2)
        assert numbers_in(talk.said()) == [(4, 4), (5, 5)]

    def test_small_window(self, talk):
        """One batch may always be under way."""
        talk.log(1)
        talk.log(2)
        assert numbers_in(talk.begin(window=1)) == [(1, 1)]
        talk.ack(1)
        assert numbers_in(talk.said()) == [(2, 2)]

    @pytest.mark.parametrize("form", ["json", "msgpack"])
    def test_pieces(self, form):
        """What is more than a batch may have is sent in several."""
        talk = Talk(form=form)
        talk.log(*range(10))
        talk.log(*range(10, 13))
        said = talk.begin(count=4)
        assert numbers_in(said) == [(1, 4), (5, 8), (9, 10), (11, 13)]
        batches = [m for m in said if isinstance(m, Batch)]
        assert [m["n"] for batch in batches for m in batch.messages()] == list(range(13))
        talk.ack(8)
        assert talk.sender.acknowledged == 8
        talk.sender.disconnected()
        assert numbers_in(talk.begin(bytes=len(lines(1, 2, 3)))) == [(9, 10), (11, 12), (13, 13)]

    def test_too_large(self, talk):
        """A message that is larger than a batch may be is given up, in its place."""
        talk.log(1)
        talk.spool.append(lines(2) + b'{"n":"' + b"x" * 100 + b'"}\n' + lines(4), 3)
        assert numbers_in(talk.begin(bytes=50)) == [(1, 1), (2, 2), (4, 4)]
        assert (talk.sender.refused, talk.sender.acknowledged) == (0, 0)
        talk.ack(2)
        assert (talk.sender.refused, talk.sender.acknowledged) == (1, 2)
        talk.ack(4)
        assert (talk.sender.refused, talk.sender.acknowledged, len(talk.spool)) == (1, 3, 0)

    def test_too_large_first(self, talk):
        """Also if there is nothing before it that could be acknowledged."""
        talk.log(10**60)
        assert numbers_in(talk.begin(bytes=50)) == []
        assert (talk.sender.refused, len(talk.spool)) == (1, 0)

    def test_never_taken(self, talk):
        """A batch that the collector will never take is given up; the others are not."""
        for number in range(1, 4):
            talk.log(number)
        talk.begin()
        talk.hear(Refused("batch", "no JSON", talk.spool.identity, 2))
        assert talk.sender.refused == 0
        talk.ack(1)
        assert (talk.sender.refused, talk.sender.acknowledged) == (1, 1)
        talk.ack(3)
        assert (talk.sender.refused, talk.sender.acknowledged) == (1, 2)

    def test_busy(self, talk):
        """What came too fast is sent again after a while, with all that followed."""
        for number in range(1, 4):
            talk.log(number)
        talk.begin()
        talk.hear(Refused("busy", "", talk.spool.identity, 2, 500))
        talk.ack(1)
        assert talk.said() == []
        talk.now_s += 0.5
        assert numbers_in(talk.said()) == [(2, 2), (3, 3)]
        talk.ack(3)
        assert talk.sender.acknowledged == 3

    @pytest.mark.parametrize("first", [0, 3, 100])
    def test_busy_with_nothing(self, talk, first):
        """What was not sent cannot have come too fast: nothing is left out for it."""
        talk.log(1)
        talk.begin()
        talk.hear(Refused("busy", "", talk.spool.identity, first, 0))
        talk.log(2)
        assert numbers_in(talk.said()) == [(2, 2)]

    def test_busy_ahead(self, talk):
        """Who is told twice to send again leaves nothing out that lies between."""
        for number in range(1, 5):
            talk.log(number)
        talk.begin()
        talk.hear(
            Refused("busy", "", talk.spool.identity, 2, 500),
            Refused("busy", "", talk.spool.identity, 4, 500),
        )
        talk.now_s += 0.5
        assert numbers_in(talk.said()) == [(2, 2)]
        talk.ack(2)
        assert numbers_in(talk.said()) == [(3, 3), (4, 4)]

    def test_busy_again_and_again(self, talk):
        """As long as nothing is taken, one batch is tried, not all that may be under way."""
        for number in range(1, 4):
            talk.log(number)
        talk.begin()
        for _ in range(3):
            talk.hear(Refused("busy", "", talk.spool.identity, 1, 500))
            talk.now_s += 0.5
            assert numbers_in(talk.said()) == [(1, 1)]
        assert numbers_in(talk.begin()) == [(1, 1), (2, 2), (3, 3)]

    def test_dropped_after_it_was_sent(self):
        """What was sent and then dropped is not waited for by who begins again."""
        talk = Talk(spool=MemorySpool(max_bytes=100, when_full="drop_old"))
        for number in range(1, 4):
            talk.log(number)
        assert numbers_in(talk.begin(window=20)) == [(1, 1), (2, 2), (3, 3)]
        for number in range(4, 20):
            talk.log(number)
        assert talk.spool.first > 4
        assert numbers_in(talk.begin(window=20))[0] == (talk.spool.first, talk.spool.first)

    def test_busy_then_never(self, talk):
        """What was held back and then refused for ever holds nothing up."""
        for number in range(1, 4):
            talk.log(number)
        talk.begin()
        talk.hear(Refused("busy", "", talk.spool.identity, 1, 500))
        talk.now_s += 0.5
        assert numbers_in(talk.said()) == [(1, 1)]
        talk.hear(Refused("batch", "no JSON", talk.spool.identity, 1))
        assert numbers_in(talk.said()) == [(2, 2), (3, 3)]

    @pytest.mark.parametrize("text", ["x" * 1000, ""])
    def test_compression(self, text):
        """A payload is compressed if that makes it smaller."""
        talk = Talk(compression="zlib")
        talk.spool.append(b'{"x":"%s"}\n' % text.encode(), 1)
        batch = talk.begin()[-1]
        assert batch.messages() == [{"x": text}]
        assert batch.compression == ("zlib" if text else "")

    def test_larger_in_the_other_format(self):
        """What MessagePack makes too large is sent as JSON."""
        talk = Talk(form="msgpack")
        talk.spool.append(b'{"x":[0.5,0.5,0.5,0.5,0.5]}\n', 1)
        (batch,) = (m for m in talk.begin(bytes=30) if isinstance(m, Batch))
        assert batch.format == "json"
        assert batch.messages() == [{"x": [0.5] * 5}]

    def test_drop_old(self, talk):
        """What was dropped while it was under way is neither sent again nor counted twice."""
        talk.spool = spool = MemorySpool(max_bytes=30, when_full="drop_old")
        talk.sender = Sender(spool, talk.hello, talk.sender.rules)
        for number in range(1, 4):
            talk.log(number)
        talk.begin()
        talk.log(4)
        assert spool.dropped == 1
        talk.hear(Ack(spool.identity, 2))
        assert (talk.sender.acknowledged, spool.dropped) == (1, 1)
        assert numbers_in(talk.said()) == [(4, 4)]


class TestLife:
    """Signs of life."""

    def test_ping(self, talk):
        """In silence, a sign of life is given now and then."""
        talk.begin()
        talk.now_s += 1.9
        assert talk.said() == []
        talk.now_s += 0.2
        assert talk.said() == [Ping()]
        assert talk.said() == []

    def test_pong(self, talk):
        """A sign of life is answered."""
        talk.begin()
        talk.hear(Ping(5))
        assert talk.said() == [Pong(5)]

    def test_flood_of_pings(self, talk):
        """Whoever asks without listening gets so many answers, and no more."""
        talk.begin()
        talk.hear(*(Ping(number) for number in range(10_000)))
        assert len(talk.said()) == senders._MOST_ANSWERS

    def test_dead(self, talk):
        """If no word comes for four heartbeats, the other side is taken for dead."""
        talk.begin()
        for _ in range(3):
            talk.now_s += 2
            assert Ping() in talk.said()
            assert not talk.sender.is_dead(talk.now_s)
        talk.now_s += 2.5
        assert talk.sender.is_dead(talk.now_s)
        talk.hear(Pong())
        assert not talk.sender.is_dead(talk.now_s)

    def test_not_dead_before_welcome(self, talk):
        """Whoever did not welcome us may be silent."""
        talk.sender.connected(talk.now_s)
        talk.now_s += 1000
        assert not talk.sender.is_dead(talk.now_s)


class TestLevels:
    """Levels that come from the collector."""

    def test_with_the_welcome(self, talk):
        """What is in force comes with the welcome, and the answer says how much is for us."""
        rules = (LevelRule("a", 10, 5000), LevelRule("b", 20, 5000, host="other"))
        said = talk.begin(revision=3, levels=rules)
        assert said == [LevelsInForce(3, 1)]
        assert talk.sender.rules.in_force(talk.now_s) == (("a", 10),)

    def test_later(self, talk):
        """A change comes at any time."""
        talk.begin()
        talk.hear(Levels(4, (LevelRule("a", 10, 5000),)))
        assert talk.said() == [LevelsInForce(4, 1)]
        talk.hear(Levels(5, ()))
        assert talk.said() == [LevelsInForce(5, 0)]
        assert talk.sender.rules.in_force(talk.now_s) == ()


class TestGarbage:
    """A collector that is none, or out of its mind."""

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"HTTP/1.1 400 Bad Request",
            Hello((1,), bytes(16), "", 1, "", 1, "json"),
            Batch(bytes(16), 1, 1, "json", "", b""),
            welcome(),
            Ack(b"o" * 16, 1),
            Refused("busy", "", b"o" * 16, 1),
            Refused("batch", "", b"o" * 16, 1),
            LevelsInForce(1, 1),
        ],
        ids=str,
    )
    def test_ignored(self, talk, message):
        """What makes no sense is counted, and changes nothing."""
        talk.begin()
        talk.log(1)
        assert numbers_in(talk.said()) == [(1, 1)]
        talk.hear(message)
        assert (talk.sender.garbage, talk.sender.acknowledged, len(talk.spool)) == (1, 0, 1)
        assert talk.said() == []
        talk.ack(1)
        assert talk.sender.acknowledged == 1

    def test_acknowledges_too_much(self, talk):
        """What was not sent cannot be safe."""
        talk.log(1)
        talk.begin()
        talk.log(2)
        talk.ack(100)
        assert (talk.sender.acknowledged, len(talk.spool)) == (1, 1)
        assert numbers_in(talk.said()) == [(2, 2)]
        assert len(talk.spool) == 1

    def test_welcome_that_knows_too_much(self, talk):
        """Nor is it believed when it says so in its first words."""
        talk.log(1)
        assert numbers_in(talk.begin(acknowledged=1)) == [(1, 1)]

    def test_wrong_version(self, talk):
        """A welcome in a version that we did not offer is none."""
        talk.sender.connected(talk.now_s)
        talk.said()
        talk.hear(Welcome(9, bytes(16), 0, 1000, 1000, 1000))
        assert (talk.sender.garbage, talk.sender.is_welcome) == (1, False)

    @given(frames=st.lists(st.binary() | st.builds(lambda b: b"\xebEW\x01" + b, st.binary())))
    def test_any_bytes(self, frames):
        """Whatever comes, nothing is raised, and nothing is taken for safe."""
        talk = Talk()
        talk.log(1)
        talk.begin()
        talk.hear(*frames)
        talk.said()
        assert len(talk.spool) == 1


class TestOthers:
    """What processes left on disk that are gone."""

    @pytest.fixture
    def folders(self, tmp_path):
        """Return a folder of spools, to which a process that is gone left three messages."""
        folders = SpoolFolders(tmp_path, max_bytes=1 << 20, when_full="refuse")
        spool = folders.new()
        spool.append(lines(1, 2), 2)
        spool.append(lines(3), 1)
        spool.release(2)
        self.identity = spool.identity
        folders.leave(spool)
        return folders

    def test_sent(self, folders, tmp_path):
        """It is sent after our own, under the old name and numbers, and then it is gone."""
        talk = Talk(others=folders)
        talk.log(9)
        ours, theirs = (m for m in talk.begin() if isinstance(m, Batch))
        assert (ours.sender, ours.first) == (talk.spool.identity, 1)
        assert (theirs.sender, theirs.first, theirs.payload) == (self.identity, 3, lines(3))
        assert talk.sender.expects_answer
        talk.hear(Ack(self.identity, 3))
        assert (talk.sender.recovered, talk.sender.acknowledged) == (1, 0)
        assert list(tmp_path.iterdir()) == []

    def test_sent_again(self, folders):
        """After a new connection it is sent again."""
        talk = Talk(others=folders)
        assert numbers_in(talk.begin()) == [(3, 3)]
        assert numbers_in(talk.begin()) == [(3, 3)]
        talk.sender.close()

    def test_known(self, folders, tmp_path):
        """The collector may have more of it than the process that is gone had been told."""
        spool = folders.find()
        spool.append(lines(4), 1)
        folders.leave(spool)
        talk = Talk(others=folders)
        assert numbers_in(talk.begin(window=1)) == [(3, 3)]
        talk.hear(Ack(self.identity, 4))
        assert numbers_in(talk.said()) == [(4, 4)]
        talk.hear(Ack(self.identity, 4))
        assert list(tmp_path.iterdir()) == []

    def test_refused(self, folders, tmp_path):
        """What nobody takes is given up there, too."""
        talk = Talk(others=folders)
        talk.begin()
        talk.hear(Refused("batch", "", self.identity, 3))
        assert list(tmp_path.iterdir()) == []
        assert talk.sender.recovered == 0

    def test_closed_before(self, folders, tmp_path):
        """What was not acknowledged by the end stays for the next one."""
        talk = Talk(others=folders)
        talk.begin()
        talk.sender.close()
        talk = Talk(others=folders)
        assert numbers_in(talk.begin()) == [(3, 3)]
        talk.sender.close()


class Network(RuleBasedStateMachine):
    """A sender and a collector, with a network between them that loses connections."""

    def __init__(self):
        super().__init__()
        self.talk = Talk()
        self.logged = 0
        self.stored = {}
        self.to_collector = []
        self.to_sender = []
        self.is_greeted = False

    @rule(count=st.integers(1, 7))
    def log(self, count):
        self.talk.log(*range(self.logged + 1, self.logged + count + 1))
        self.logged += count

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0]))
    def time_passes(self, seconds):
        self.talk.now_s += seconds

    @precondition(lambda self: not self.talk.sender.is_connected)
    @rule()
    def connect(self):
        self.talk.sender.connected(self.talk.now_s)
        self.is_greeted = False

    @precondition(lambda self: self.talk.sender.is_connected)
    @rule(arrives=st.integers(0, 3))
    def disconnect(self, arrives):
        """What is under way in either direction is lost, but for some that just arrives."""
        self.collect(arrives)
        self.talk.sender.disconnected()
        self.to_collector.clear()
        self.to_sender.clear()

    @precondition(lambda self: self.talk.sender.is_connected)
    @rule()
    def restart_the_collector(self):
        """It keeps what it stored, and does not remember who greeted; the socket notices late."""
        self.is_greeted = False
        self.to_collector.clear()
        self.to_sender.clear()

    @rule(count=st.integers(1, 5))
    def send(self, count):
        for _ in range(count):
            frame = self.talk.sender.next_frame(self.talk.now_s)
            if frame is None:
                break
            self.to_collector.append(decode(frame))

    @rule(count=st.integers(1, 5), mood=st.sampled_from(["", "", "busy", "silent", "garbage"]))
    def collect(self, count, mood=""):
        for message in self.to_collector[:count]:
            if isinstance(message, Hello):
                self.is_greeted = True
                known = max(self.stored, default=0)
                answer = welcome(known, bytes=40, count=3, window=60)
            elif not self.is_greeted:
                answer = Refused("hello")
            elif not isinstance(message, Batch):
                continue
            elif message.first > max(self.stored, default=0) + 1:
                # Something before it was refused as busy.
                answer = Refused("busy", "", message.sender, max(self.stored, default=0) + 1, 10)
            elif mood == "busy":
                answer = Refused("busy", "", message.sender, message.first, 10)
            else:
                for number, line in enumerate(message.lines(), message.first):
                    assert line == b'{"n":%d}' % number
                    self.stored[number] = line
                answer = Ack(message.sender, message.last)
            if mood != "silent" or isinstance(message, Hello):
                self.to_sender.append(answer)
            if mood == "garbage":
                self.to_sender.append(Ack(bytes(16), 1))
        del self.to_collector[:count]

    @rule(count=st.integers(1, 5))
    def answer(self, count):
        self.talk.hear(*self.to_sender[:count])
        del self.to_sender[:count]

    @invariant()
    def nothing_is_lost(self):
        """What is released is stored, and in order without gaps."""
        sender, spool = self.talk.sender, self.talk.spool
        assert sorted(self.stored) == list(range(1, len(self.stored) + 1))
        assert spool.first - 1 <= len(self.stored)
        assert sender.acknowledged + len(spool) == self.logged
        assert sender.refused == spool.dropped == 0

    def teardown(self):
        """When the network is well again, all arrives."""
        if self.talk.sender.is_connected:
            self.disconnect(0)
        self.connect()
        for _ in range(1000):
            if not len(self.talk.spool):
                break
            self.talk.now_s += 0.1
            self.send(5)
            self.collect(5)
            self.answer(5)
        assert len(self.stored) == self.logged == self.talk.sender.acknowledged


TestNetwork = Network.TestCase
TestNetwork.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
