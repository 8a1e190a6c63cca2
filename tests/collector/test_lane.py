"""Tests of what stands before a sink: order, bounds, and nobody is told what is not so."""

import threading
from concurrent.futures import Future
from contextlib import closing

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector import _lane
from eliot_etw.collector._lane import Lane, LaneOptions
from eliot_etw.collector.sinks import Batch, BlockingSink, MessagesRefused, Origin, SinkUnavailable
from eliot_etw.shipping._spool import DiskSpool
from tests.collector._processes import lines_of, wait_until


class FakeSink(BlockingSink):
    """Keeps numbers, and fails as it is told."""

    def __init__(self):
        self.numbers = []
        self.error = None
        self.hold = threading.Event()
        self.hold.set()
        self.is_in = threading.Event()
        self.flushes = 0
        self.closed = 0

    def store(self, batch):
        self.is_in.set()
        assert self.hold.wait(30)
        if self.error is not None:
            raise self.error
        self.numbers += [entry.number for entry in batch]

    def flush(self, timeout_s):
        self.flushes += 1

    def close(self, timeout_s):
        self.closed += 1

    def stats(self):
        return {"own": 1}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    """Try again soon."""
    monkeypatch.setattr(_lane, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(_lane, "_LONGEST_PAUSE_S", 0.05)


@pytest.fixture
def sink():
    return FakeSink()


@pytest.fixture
def aside():
    return []


@pytest.fixture
def make(sink, aside, tmp_path):
    """Return a function that makes lanes; they are stopped at the end."""
    made = []

    def make(**options):
        def put_aside(name, refused):
            aside.extend((name, *each) for each in refused)

        made.append(Lane("sink", sink, tmp_path / "spool", LaneOptions(**options), put_aside))
        return made[-1]

    yield make
    sink.hold.set()
    for lane in made:
        lane.stop(5)


class Offered:
    """Offers batches to a lane, and knows which are done."""

    def __init__(self, lane):
        self.lane = lane
        self.done = []

    def __call__(self, first, count=10):
        numbers = range(first, first + count)
        batch = Batch(lines_of(count, start=first), [Origin("s", numbers)])
        return self.lane.offer(batch, lambda: self.done.append(first))


def test_stored(make, sink):
    """What is offered is stored in order, and then done."""
    lane = make()
    offer = Offered(lane)
    assert all(offer(first) for first in range(1, 100, 10))
    wait_until(lambda: len(offer.done) == 10)
    assert sink.numbers == [*range(1, 101)]
    assert lane.stats() | {"written": 100, "own": 1} == lane.stats()


def test_not_done_before_it_is_stored(make, sink):
    """As long as a sink is at it, nobody is told that it is stored."""
    sink.hold.clear()
    lane = make()
    offer = Offered(lane)
    offer(1)
    assert sink.is_in.wait(30)
    offer(11)
    assert offer.done == []
    assert lane.gauges()["waiting"] == 20
    sink.hold.set()
    wait_until(lambda: offer.done == [1, 11])


class TestDown:
    """A sink that is down, or too slow."""

    def test_waits_on_disk(self, make, sink):
        """What waits is on disk, and counts as stored; it is in order when the sink is back."""
        sink.error = SinkUnavailable("gone")
        lane = make()
        offer = Offered(lane)
        for first in range(1, 1_000, 10):
            assert offer(first)
        wait_until(lambda: len(offer.done) == 100)
        assert (lane.gauges()["up"], lane.gauges()["waiting"]) == (0, 1_000)
        assert sink.numbers == []
        sink.error = None
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert sink.numbers == [*range(1, 1_001)]
        assert lane.gauges()["up"] == 1

    @pytest.mark.parametrize("fails", [True, False])
    def test_slow(self, make, sink, fails):
        """A sink that hangs holds up nobody; order stays whether it then fails or not."""
        sink.hold.clear()
        lane = make(memory_bytes=3_000)
        offer = Offered(lane)
        assert offer(1)
        assert sink.is_in.wait(30)
        for first in range(11, 500, 10):
            assert offer(first)
        # More than memory may hold: all of it is on disk, what the sink has too.
        assert len(offer.done) == 50
        sink.error = OSError("gone") if fails else None
        sink.hold.set()
        if fails:
            wait_until(lambda: lane.stats()["failures"] > 1)
            sink.error = None
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert sink.numbers == [*range(1, 501)]
        assert len(offer.done) == 50

    def test_damaged_on_disk(self, make, sink, tmp_path):
        """What waits on disk and cannot be read is dropped, and counted once."""
        with closing(DiskSpool(tmp_path / "spool", max_bytes=1 << 20)) as spool:
            spool.append(b"of another release", 7)
        sink.error = SinkUnavailable("gone")
        lane = make()
        offer = Offered(lane)
        offer(1)
        wait_until(lambda: lane.stats()["failures"] > 2)
        sink.error = None
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert sink.numbers == [*range(1, 11)]
        assert lane.stats()["dropped"] == 7

    def test_restart(self, make, sink):
        """What waits on disk outlives the process."""
        sink.error = SinkUnavailable("gone")
        offer = Offered(make())
        offer(1)
        wait_until(lambda: offer.done)
        assert offer.lane.stop(5) == 0
        sink.error = None
        lane = make()
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert sink.numbers == [*range(1, 11)]

    def test_full(self, make, sink):
        """A required sink that is full takes nothing more, and drops nothing."""
        sink.error = SinkUnavailable("gone")
        lane = make(spool_bytes=20_000, memory_bytes=2_000)
        offer = Offered(lane)
        taken = 0
        while offer(1 + taken):
            taken += 10
            assert taken < 10_000
        batch = Batch(lines_of(10), [Origin("s", range(10))])
        assert not lane.has_room(batch)
        sink.error = None
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert sink.numbers == [*range(1, taken + 1)]
        assert lane.stats()["dropped"] == 0
        assert lane.has_room(batch)

    def test_full_and_not_required(self, make, sink):
        """One that is not required drops, counts it, and holds back nobody."""
        sink.error = SinkUnavailable("gone")
        lane = make(spool_bytes=20_000, memory_bytes=2_000, required=False)
        offer = Offered(lane)
        for first in range(1, 2_000, 10):
            assert offer(first)
        wait_until(lambda: len(offer.done) == 200)
        sink.error = None
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert lane.stats()["dropped"] > 0
        assert len(sink.numbers) + lane.stats()["dropped"] == 2_000

    def test_without_disk(self, make, sink):
        """Without a spool, nothing is done before the sink has it."""
        sink.error = SinkUnavailable("gone")
        lane = make(spool_bytes=0, memory_bytes=2_000)
        offer = Offered(lane)
        assert offer(1)
        wait_until(lambda: lane.stats()["failures"] > 1)
        taken = 10
        while offer(1 + taken):
            taken += 10
        assert offer.done == []
        assert lane.gauges()["waiting_bytes"] <= 4_000
        sink.error = None
        wait_until(lambda: len(offer.done) == taken // 10)
        assert sink.numbers == [*range(1, taken + 1)]


class TestHangs:
    """A sink that does not answer."""

    def test_others_go_on(self, make, sink, monkeypatch):
        """What it was given, and what comes, is on disk; when it is back, it gets each once."""
        monkeypatch.setattr(_lane, "_HANGS_S", 0.0)
        sink.hold.clear()
        lane = make()
        offer = Offered(lane)
        offer(1)
        assert sink.is_in.wait(30)
        offer(11)
        assert offer.done == []
        lane.look()
        offer(21)
        assert offer.done == [1, 11, 21]
        assert lane.gauges()["up"] == 0
        sink.hold.set()
        wait_until(lambda: sink.numbers == [*range(1, 31)])
        wait_until(lambda: lane.gauges()["up"])

    def test_one_that_answers(self, make, sink):
        """One that has not hung for long is given its time."""
        sink.hold.clear()
        lane = make()
        offer = Offered(lane)
        offer(1)
        assert sink.is_in.wait(30)
        lane.look()
        assert (offer.done, lane.gauges()["up"]) == ([], 1)

    def test_at_what_was_put_off(self, make, sink, monkeypatch):
        """One that hangs when it had nothing to write is found, too, once something waits."""
        monkeypatch.setattr(_lane, "_HANGS_S", 0.0)
        hangs, hold = threading.Event(), threading.Event()
        sink.flush = lambda timeout_s: hangs.set() or hold.wait(30)
        lane = make()
        offer = Offered(lane)
        try:
            assert hangs.wait(30)
            lane.look()
            assert lane.gauges()["up"] == 1
            offer(1)
            assert offer.done == []
            lane.look()
            assert (offer.done, lane.gauges()["up"]) == ([1], 0)
            offer(11)
            assert offer.done == [1, 11]
        finally:
            hold.set()
        wait_until(lambda: sink.numbers == [*range(1, 21)])
        wait_until(lambda: lane.gauges()["up"])
        lane.look()
        assert lane.gauges()["up"] == 1

    def test_at_what_was_on_disk(self, make, sink, monkeypatch):
        """One that hangs at what it is given from disk is told of."""
        sink.hold.clear()
        lane = make(memory_bytes=10)
        offer = Offered(lane)
        offer(1)
        assert sink.is_in.wait(30)
        offer(11)
        offer(21)
        assert offer.done == [1, 11, 21]
        monkeypatch.setattr(_lane, "_HANGS_S", 0.0)
        lane.look()
        assert lane.gauges()["up"] == 0
        sink.hold.set()
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert lane.gauges()["up"] == 1

    def test_without_disk(self, make, sink, monkeypatch):
        """Without a spool it is at least told of."""
        monkeypatch.setattr(_lane, "_HANGS_S", 0.0)
        sink.hold.clear()
        lane = make(spool_bytes=0)
        offer = Offered(lane)
        offer(1)
        assert sink.is_in.wait(30)
        lane.look()
        assert (offer.done, lane.gauges()["up"]) == ([], 0)


class TestRefused:
    """Messages that a sink will never store."""

    def test_refused(self, make, sink, aside):
        """They are put aside, and the rest counts as stored."""
        sink.error = MessagesRefused({2: "too large", 4: "odd"})
        lane = make()
        offer = Offered(lane)
        offer(1)
        wait_until(lambda: offer.done)
        lines = lines_of(10)
        assert aside == [("sink", lines[2], "too large"), ("sink", lines[4], "odd")]
        stats = lane.stats()
        assert (stats["refused"], stats["written"]) == (2, 8)
        assert stats["written_bytes"] == sum(map(len, lines)) - len(lines[2]) - len(lines[4])

    def test_sink_with_a_mistake(self, make, sink, aside):
        """What makes a sink fail in a way of its own is found and put aside; others are stored."""
        real = sink.store

        def store(batch):
            if any(entry.number == 7 for entry in batch):
                raise KeyError("seven")
            real(batch)

        sink.store = store
        lane = make()
        Offered(lane)(1)
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert sink.numbers == [1, 2, 3, 4, 5, 6, 8, 9, 10]
        assert aside == [("sink", lines_of(10)[6], "'seven'")]

    def test_sink_that_ends_its_thread(self, make, sink):
        """A sink that would end the thread, or is cancelled, is down, and tried again."""
        sink.error = SystemExit()
        lane = make()
        offer = Offered(lane)
        offer(1)
        wait_until(lambda: lane.stats()["failures"] > 1)
        assert lane.gauges()["up"] == 0
        sink.error = None
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert (sink.numbers, offer.done) == ([*range(1, 11)], [1])

    def test_sink_that_fails_at_many(self, make, sink, aside):
        """A sink that takes each message, but not all at once, has them; nothing is put aside."""
        real = sink.store

        def store(batch):
            if len(batch) > 1:
                raise KeyError("many")
            real(batch)

        sink.store = store
        lane = make()
        offer = Offered(lane)
        offer(1)
        wait_until(lambda: lane.gauges()["waiting"] == 0)
        assert lane.gauges()["up"] == 1
        assert (sink.numbers, aside) == ([*range(1, 11)], [])

    def test_cannot_be_put_aside(self, make, sink, aside, tmp_path):
        """If they cannot be put aside, the sink counts as down, and nothing is lost."""
        is_full = True

        def put_aside(name, refused):
            if is_full:
                raise OSError("full")
            aside.append(refused)

        sink.error = MessagesRefused({0: "odd"})
        lane = Lane("sink", sink, tmp_path / "other", LaneOptions(), put_aside)
        try:
            Offered(lane)(1)
            wait_until(lambda: lane.stats()["failures"] > 1)
            is_full = False
            wait_until(lambda: aside)
        finally:
            lane.stop(5)


def test_future(make, sink):
    """A sink may promise, and do it later."""
    promised = Future()
    sink.write = lambda batch: promised
    offer = Offered(make())
    offer(1)
    assert offer.done == []
    promised.set_result(None)
    wait_until(lambda: offer.done == [1])


def test_idle(make, sink):
    """When there is nothing to write, the sink may do what it has put off."""
    make()
    wait_until(lambda: sink.flushes)


class TestStop:
    """The end."""

    def test_drains(self, make, sink):
        """What waits is stored, then the sink is closed."""
        sink.hold.clear()
        lane = make()
        offer = Offered(lane)
        for first in range(1, 100, 10):
            offer(first)
        threading.Timer(0.1, sink.hold.set).start()
        assert lane.stop(10) == 0
        assert sink.numbers == [*range(1, 101)]
        assert (len(offer.done), sink.closed) == (10, 1)

    @pytest.mark.parametrize("end", ["flush", "close"])
    @pytest.mark.parametrize("error", [KeyError(), SystemExit()])
    def test_sink_that_raises_at_the_end(self, make, sink, end, error):
        """Whatever it raises, all else is let go of, and another may have its folder."""

        def fail(timeout_s):
            raise error

        sink.hold.clear()
        lane = make()
        offer = Offered(lane)
        offer(1)
        assert sink.is_in.wait(30)
        offer(11)
        setattr(sink, end, fail)
        sink.error = SinkUnavailable("gone")
        sink.hold.set()
        assert lane.stop(5) == 0
        assert sink.closed == (end == "flush")
        delattr(sink, end)
        sink.error = None
        again = make()
        wait_until(lambda: again.gauges()["waiting"] == 0)
        assert sink.numbers == [*range(1, 21)]

    def test_hanging_sink(self, make, sink):
        """What a sink that hangs did not store is on disk."""
        sink.hold.clear()
        lane = make()
        offer = Offered(lane)
        offer(1)
        assert sink.is_in.wait(30)
        offer(11)
        assert lane.stop(0.1) == 0
        assert offer.done == [1, 11]
        assert sink.closed == 0

    def test_hanging_sink_without_disk(self, make, sink):
        """Without a spool, what a sink that hangs was given is said to be nobody's."""
        sink.hold.clear()
        lane = make(spool_bytes=0)
        offer = Offered(lane)
        offer(1)
        assert sink.is_in.wait(30)
        offer(11)
        assert lane.stop(0.1) == 20
        assert offer.done == []

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    @pytest.mark.parametrize("spool_bytes", [0, 1 << 20])
    def test_thread_that_died(self, make, sink, monkeypatch, spool_bytes):
        """What was under way when its thread died, without memory, is on disk, or nobody's."""

        def no_memory(*_):
            raise MemoryError

        sink.error = SinkUnavailable("gone")
        with monkeypatch.context() as patch:
            patch.setattr(Lane, "_hold", no_memory)
            lane = make(spool_bytes=spool_bytes)
            offer = Offered(lane)
            offer(1)
            wait_until(lambda: not lane._thread.is_alive())
        assert (lane.gauges()["up"], sink.closed) == (0, 1)
        assert lane.stop(5) == (0 if spool_bytes else 10)
        assert offer.done == ([1] if spool_bytes else [])
        sink.error = None
        again = make(spool_bytes=spool_bytes)
        wait_until(lambda: again.gauges()["waiting"] == 0)
        assert sink.numbers == ([*range(1, 11)] if spool_bytes else [])

    def test_without_disk(self, make, sink):
        """Without a spool, it says what nobody has."""
        sink.error = SinkUnavailable("gone")
        lane = make(spool_bytes=0)
        offer = Offered(lane)
        offer(1)
        wait_until(lambda: lane.stats()["failures"])
        assert lane.stop(0.1) == 10
        assert offer.done == []
