"""Tests of shipping to a collector: all arrives once or is counted, whoever fails."""

import ast
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("zmq")
pytest.importorskip("msgspec")

import zmq
from zmq.auth import create_certificates

from eliot_etw import add_destinations, configure, log_message
from eliot_etw.destinations import LevelFilter, ZmqDestination, _zmq_session
from eliot_etw.destinations._zmq_link import Address, Link
from eliot_etw.exceptions import InvalidSettings, MissingDependency
from eliot_etw.shipping._protocol import Ack, Batch, Bye, Hello, LevelRule, LevelsInForce
from eliot_etw.shipping._spool import MemorySpool
from tests._collector import Collector, free_endpoint, levels
from tests._programs import run, run_forking

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")
# A public key that no collector has.
A_KEY = b"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
FULL = ["block", "drop_new", "drop_old"]


@pytest.fixture
def make():
    """Return what makes destinations, and closes them after the test."""
    made = []

    def make(endpoint, **options):
        made.append(ZmqDestination(endpoint, **options))
        return made[-1]

    yield make
    for destination in made:
        destination.close(0.1)


@pytest.fixture
def start():
    """Return what starts collectors, and ends them after the test."""
    started = []

    def start(*arguments, **options):
        started.append(Collector(*arguments, **options))
        return started[-1]

    yield start
    for collector in started:
        collector.close()


def wait_for(condition):
    """Wait until something is true, but not for ever."""
    for _ in range(3_000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not become true in time")


def log(destination, *numbers):
    """Log messages."""
    for number in numbers:
        destination({"message_type": "t", "number": number})


def together(work, count):
    """Do something in several threads at the same time."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def counted(destination):
    """Sum up what is known of all messages that were logged, without the reports."""
    stats = destination.stats()
    names = ("queued", "spooled", "acknowledged", "dropped", "refused")
    return sum(stats[name] for name in names) - stats["reports"]


class TestDelivers:
    """What arrives."""

    @pytest.mark.parametrize("options", [{}, {"format": "msgpack"}, {"compression": "zlib"}])
    def test_in_order(self, make, start, options):
        """All messages of a thread arrive, in their order."""
        collector = start()
        destination = make(collector.endpoint, **options)
        log(destination, *range(5_000))
        assert destination.flush(60)
        assert collector.numbers() == list(range(5_000))
        assert destination.stats() == {
            "queued": 0, "spooled": 0, "acknowledged": 5_000, "refused": 0, "dropped": 0,
            "sent": 5_000, "recovered": 0, "reconnects": 0, "garbage": 0, "reports": 0,
            "system_errors": 0,
        }  # fmt: skip

    @pytest.mark.skipif(not zmq.has("ipc"), reason="no such sockets here")
    def test_ipc(self, make, start, tmp_path):
        """Also through a socket in a folder."""
        collector = start(f"ipc://{tmp_path}/collector")
        destination = make(collector.endpoint)
        log(destination, 1)
        assert destination.flush(60)
        assert collector.numbers() == [1]

    def test_who_we_are(self, make, start):
        """The collector is told which process of which program speaks."""
        collector = start()
        destination = make(collector.endpoint)
        log(destination, 1)
        assert destination.flush(60)
        (hello,) = collector.hellos
        assert (hello.pid, hello.format, hello.versions) == (os.getpid(), "json", (1,))
        assert hello.program == os.path.basename(sys.argv[0])
        assert 0 < hello.started_ns < time.time_ns()

    def test_goodbye(self, make, start):
        """At the end it says so."""
        collector = start()
        destination = make(collector.endpoint)
        log(destination, 1)
        destination.close()
        wait_for(lambda: collector.heard[-1:] == [Bye()])
        assert collector.numbers() == [1]

    def test_in_pieces(self, make, start):
        """What the collector allows at a time is kept to, and what is larger is given up."""
        collector = start(max_batch_bytes=200, max_messages=3, window_bytes=500)
        destination = make(collector.endpoint)
        log(destination, *range(10), "x" * 200, *range(10, 20))
        assert destination.flush(60)
        assert collector.numbers() == list(range(20))
        assert collector.batches >= 7
        stats = destination.stats()
        assert (stats["acknowledged"], stats["refused"]) == (20, 1)

    def test_is_woken(self, make, start):
        """A thread that went to sleep sends the next message all the same."""
        collector = start()
        destination = make(collector.endpoint)
        for number in range(3):
            log(destination, number)
            assert destination.flush(60)
            wait_for(lambda: destination._is_asleep)
        assert collector.numbers() == [0, 1, 2]

    def test_hard_values(self, make, start):
        """What orjson refuses arrives as in a file."""
        collector = start()
        for form in ("json", "msgpack"):
            destination = make(collector.endpoint, format=form, json_default=lambda _: "thing")
            destination({"set": object(), "big": 2**80, "half": "\ud800"})
            assert destination.flush(60)
        expected = {"set": "thing", "big": 2**80, "half": "\\ud800"}
        assert collector.messages() == [expected, expected]


class TestAway:
    """A collector that is not there, or not always."""

    def test_comes_later(self, make, start):
        """What was logged before it was there arrives."""
        endpoint = free_endpoint()
        destination = make(endpoint)
        log(destination, *range(100))
        assert not destination.flush(0.3)
        assert destination.stats()["spooled"] == 100
        collector = start(endpoint)
        assert destination.flush(60)
        assert collector.numbers() == list(range(100))

    @pytest.mark.parametrize("disk", [False, True])
    def test_dies_and_comes_back(self, make, start, tmp_path, disk):
        """What was not acknowledged is sent again, and arrives once, however often it dies."""
        first = start(acks=False)
        destination = make(first.endpoint, spool_folder=tmp_path if disk else None)
        log(destination, *range(50))
        wait_for(lambda: len(first.numbers()) == 50)
        first.close()
        log(destination, *range(50, 100))
        second = start(first.endpoint, first.state)
        assert destination.flush(60)
        second.close()
        log(destination, *range(100, 150))
        third = start(first.endpoint, first.state)
        assert destination.flush(60)
        assert third.numbers() == list(range(150))
        assert len(third.state) == 1
        assert destination.stats()["reconnects"] >= 2
        assert counted(destination) == destination.stats()["acknowledged"] == 150

    def test_forgets(self, make, start):
        """A collector that knows nothing of what it acknowledged gets only the rest."""
        first = start()
        destination = make(first.endpoint)
        log(destination, 1)
        assert destination.flush(60)
        first.close()
        log(destination, 2)
        second = start(first.endpoint)
        assert destination.flush(60)
        assert second.numbers() == [2]

    def test_falls_silent(self, make, start):
        """One that says nothing any more is left for a new connection."""
        is_deaf = threading.Event()
        collector = start(answer=lambda _, message: [] if is_deaf.is_set() else None)
        destination = make(collector.endpoint, heartbeat_s=0.1)
        log(destination, 1)
        assert destination.flush(60)
        is_deaf.set()
        log(destination, 2)
        assert not destination.flush(1)
        is_deaf.clear()
        assert destination.flush(60)
        assert collector.numbers() == [1, 2]
        assert destination.stats()["reconnects"] >= 1

    def test_under_load(self, make, start):
        """Eight threads log while it dies again and again."""
        collector = start()
        destination = make(collector.endpoint, block_timeout_s=60)
        done = threading.Event()

        def restart():
            nonlocal collector
            while not done.wait(0.2):
                collector.close()
                collector = start(collector.endpoint, collector.state)

        restarter = threading.Thread(target=restart)
        restarter.start()
        together(lambda thread: log(destination, *range(thread, 40_000, 8)), 8)
        done.set()
        restarter.join()
        assert destination.flush(60)
        assert sorted(collector.numbers()) == list(range(40_000))
        assert destination.stats()["acknowledged"] == counted(destination) == 40_000


class TestGarbage:
    """A collector that is out of its mind."""

    @pytest.mark.parametrize(
        "frame",
        [
            b"",
            b"HTTP/1.1 200 OK\r\n\r\n",
            os.urandom(1000),
            b"\xebEW\x01" + os.urandom(1000),
            [b"two", b"parts"],
            Ack(b"x" * 16, 1),
            Hello((1,), bytes(16), "", 1, "", 1, "json"),
        ],
        ids=["nothing", "http", "random", "random body", "parts", "strange ack", "hello"],
    )
    def test_between(self, make, start, frame):
        """What makes no sense is counted, and does not keep messages from arriving."""

        def answer(collector, message):
            if isinstance(message, Batch):
                collector.take(message)
                return [frame, Ack(message.sender, message.last), frame]
            return None

        collector = start(answer=answer)
        destination = make(collector.endpoint)
        log(destination, *range(100))
        assert destination.flush(60)
        assert collector.numbers() == list(range(100))
        wait_for(lambda: destination.stats()["garbage"] >= 2)

    def test_acknowledges_too_much(self, make, start):
        """What was not sent is not taken for safe."""

        def answer(collector, message):
            if isinstance(message, Batch):
                collector.take(message)
                return [Ack(message.sender, message.last + 1000)]
            return None

        collector = start(answer=answer)
        destination = make(collector.endpoint)
        for number in range(3):
            log(destination, number)
            assert destination.flush(60)
        assert collector.numbers() == [0, 1, 2]

    def test_frame_that_is_too_large(self, make, start, monkeypatch):
        """The connection is given up, and later there is a new one."""
        monkeypatch.setattr(_zmq_session, "_NOBODY_S", 0.5)
        answers = [[bytes(17 << 20)]]

        def answer(collector, message):
            if isinstance(message, Batch) and answers:
                return answers.pop()
            return None

        collector = start(answer=answer)
        destination = make(collector.endpoint)
        log(destination, 1)
        assert destination.flush(60)
        assert collector.numbers() == [1]


class TestFull:
    """What happens when there is no room."""

    @pytest.mark.parametrize("when_full", FULL)
    @pytest.mark.parametrize("disk", [False, True])
    def test_eight_threads(self, make, start, tmp_path, when_full, disk):
        """What arrived, what was dropped and what waits is all that was logged."""
        endpoint = free_endpoint()
        destination = make(
            endpoint,
            max_queued=16,
            max_spool_bytes=20_000,
            when_full=when_full,
            block_timeout_s=0.1,
            spool_folder=tmp_path if disk else None,
        )
        together(lambda thread: log(destination, *range(thread, 8_000, 8)), 8)
        assert counted(destination) == 8_000
        assert destination.stats()["dropped"] > 6_000
        collector = start(endpoint)
        assert destination.flush(60)
        wait_for(lambda: destination._told == destination._all_dropped())
        assert destination.flush(60)
        stats = destination.stats()
        messages = collector.messages()
        kinds = [m["message_type"] for m in messages]
        assert kinds.count("t") == stats["acknowledged"] - stats["reports"]
        assert kinds.count("t") + stats["dropped"] == 8_000 == counted(destination)
        told = [m for m in messages if m["message_type"] == "eliot:dropped"]
        assert sum(m["dropped"] for m in told) == stats["dropped"]
        assert len(told) == stats["reports"]
        numbers = collector.numbers()
        assert len(numbers) == len(set(numbers))

    def test_block_gives_up(self, make):
        """After it waited in vain once, it does not wait any more until there is room."""
        destination = make(free_endpoint(), max_queued=4, max_spool_bytes=1, block_timeout_s=0.2)
        log(destination, 0)
        wait_for(lambda: destination.stats()["spooled"] == 1)
        log(destination, 1)
        # The thread has one for which there is no room: nothing more is taken out of the queue.
        wait_for(lambda: destination.stats()["queued"] == 1 and not destination._queue)
        log(destination, *range(2, 20))
        assert destination._has_given_up
        destination._block_timeout_s = 1000
        rest = threading.Thread(target=log, args=(destination, *range(20, 40)), daemon=True)
        rest.start()
        rest.join(60)
        assert not rest.is_alive()
        assert counted(destination) == 40

    def test_disk_full(self, make, start, tmp_path, monkeypatch):
        """While the disk takes nothing, messages wait in the queue; then they go their way."""
        collector = start()
        destination = make(collector.endpoint, spool_folder=tmp_path)
        append = destination._spool.append
        refuses = threading.Event()
        refuses.set()

        def refuse(*arguments):
            if refuses.is_set():
                raise OSError(28, "no space")
            return append(*arguments)

        monkeypatch.setattr(_zmq_session.DiskSpool, "append", lambda _, *args: refuse(*args))
        log(destination, *range(10))
        assert not destination.flush(0.2)
        assert (destination.stats()["queued"], counted(destination)) == (10, 10)
        refuses.clear()
        assert destination.flush(60)
        assert collector.numbers() == list(range(10))


class TestDisk:
    """What outlives the process."""

    SEND = """
import os, sys
from eliot_etw.destinations import ZmqDestination
endpoint, folder, begin, end = sys.argv[1:5]
destination = ZmqDestination(endpoint, spool_folder=folder, exit_timeout_s=60)
for number in range(int(begin), int(end)):
    destination({"number": number})
"""

    @posix
    def test_killed(self, start, tmp_path):
        """What a process had put on disk when it was killed, the next one sends, each once."""
        collector = start(acks=False)
        program = (
            self.SEND
            + """
while True:
    stats = destination.stats()
    print(stats["spooled"], flush=True)
"""
        )
        command = [sys.executable, "-c", program, collector.endpoint, tmp_path / "s", "0", "1000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line == "1000\n":
                    break
            wait_for(lambda: len(collector.numbers()) == 1000)
            process.kill()
            process.wait(30)
        collector.acks = True
        run(self.SEND, collector.endpoint, tmp_path / "s", 1000, 1100)
        assert list((tmp_path / "s").iterdir()) == []
        assert sorted(collector.numbers()) == list(range(1100))
        assert len(collector.state) == 2

    def test_ended_before(self, start, make, tmp_path):
        """What could not be sent before the end, the next one that has the folder sends."""
        endpoint = free_endpoint()
        first = make(endpoint, spool_folder=tmp_path)
        log(first, *range(100))
        first.close(0.3)
        stats = first.stats()
        assert (stats["spooled"], stats["dropped"], counted(first)) == (100, 0, 100)
        collector = start(endpoint)
        second = make(endpoint, spool_folder=tmp_path)
        log(second, 100)
        wait_for(lambda: second.stats()["recovered"] == 100)
        assert sorted(collector.numbers()) == list(range(101))
        second.close()
        assert list(tmp_path.iterdir()) == []

    def test_nothing_logged(self, tmp_path):
        """A destination that was never used leaves nothing."""
        run(self.SEND, free_endpoint(), tmp_path, 0, 0)
        assert list(tmp_path.iterdir()) == []

    def test_sent_without_a_message(self, start, make, tmp_path):
        """What others left is sent at once, whether anything is logged or not."""
        endpoint = free_endpoint()
        first = make(endpoint, spool_folder=tmp_path)
        log(first, 1)
        first.close(0.1)
        collector = start(endpoint)
        second = make(endpoint, spool_folder=tmp_path)
        wait_for(lambda: second.stats()["recovered"] == 1)
        assert collector.numbers() == [1]


class TestEnd:
    """The end of the program, and of the destination."""

    SCRIPT = """
import sys
from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import ZmqDestination
destination = ZmqDestination(sys.argv[1], **eval(sys.argv[2]))
add_destinations(destination)
"""

    def test_one_message(self, start):
        """A script of one message delivers it."""
        collector = start()
        run(self.SCRIPT + "log_message('t', number=1)", collector.endpoint, {})
        assert collector.numbers() == [1]

    @pytest.mark.parametrize("disk", [False, True])
    def test_nobody_there(self, tmp_path, disk):
        """It ends in time, and says what is lost; what is on disk is not."""
        options = {"spool_folder": str(tmp_path)} if disk else {"exit_timeout_s": 0.2}
        result = run(self.SCRIPT + "log_message('t')", free_endpoint(), options)
        assert ("1 messages were not acknowledged in time" in result.stderr) != disk

    @pytest.mark.parametrize("when_full", ["block", "drop_new", "drop_old"])
    def test_nobody_there_and_no_room(self, when_full):
        """Whatever a message did not get through for, it is among those that are told of."""
        program = self.SCRIPT + (
            "for number in range(1_000):\n"
            "    log_message('t', text='x' * 1_000)\n"
            "destination.close(0.2)\n"
            "print(destination.stats())\n"
        )
        options = {
            "when_full": when_full,
            "max_spool_bytes": 10_000,
            "max_queued": 100,
            "block_timeout_s": 0.1,
        }
        result = run(program, free_endpoint(), options)
        stats = ast.literal_eval(result.stdout)
        assert (stats["queued"], stats["spooled"]) == (0, 0)
        assert stats["dropped"] == 1_000 + stats["reports"]
        assert f": {stats['dropped']} messages were not acknowledged" in result.stderr

    def test_late(self, start):
        """What is logged after everything else at the end arrives, too."""
        collector = start()
        program = "import atexit\natexit.register(lambda: log_message('t', number=2))\n"
        program += self.SCRIPT + "log_message('t', number=1)"
        run(program, collector.endpoint, {})
        assert collector.numbers() == [1, 2]

    def test_late_and_nobody_there(self):
        """Such messages keep the program from ending once, not each."""
        program = "import atexit, time\n"
        program += "atexit.register(lambda: print(time.monotonic() - begin))\n"
        program += "atexit.register(lambda: [log_message('t') for _ in range(100)])\n"
        program += "atexit.register(lambda: globals().update(begin=time.monotonic()))\n"
        program += self.SCRIPT + "log_message('t')"
        result = run(program, free_endpoint(), {"exit_timeout_s": 0.1})
        assert float(result.stdout) < 20

    def test_close(self, make, start):
        """It may be closed twice; what is logged later is an error, and counted."""
        collector = start()
        destination = make(collector.endpoint)
        log(destination, *range(10))
        destination.close()
        destination.close()
        assert collector.numbers() == list(range(10))
        with pytest.raises(OSError, match="is closed"):
            log(destination, 10)
        assert destination.stats()["dropped"] == 1
        assert counted(destination) == 11
        assert not any(t.name == "eliot_etw writer" for t in threading.enumerate())

    def test_close_gives_up(self, make, start, capsys):
        """What is not acknowledged in time is counted, and told."""
        collector = start(acks=False)
        destination = make(collector.endpoint)
        log(destination, *range(10))
        destination.close(0.2)
        stats = destination.stats()
        assert (stats["dropped"], stats["acknowledged"], counted(destination)) == (10, 0, 10)
        assert "10 messages were not acknowledged in time" in capsys.readouterr().err

    @pytest.mark.parametrize("method", ["__init__", "start"])
    def test_without_a_thread(self, make, start, monkeypatch, method):
        """Where no thread can be started, the calling thread sends."""
        collector = start()
        destination = make(collector.endpoint)

        def refuse(self, **_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, method, refuse)
        log(destination, 1)
        log(destination, 2)
        assert collector.numbers() == [1, 2]
        assert counted(destination) == 2

    def test_no_files(self, make, start, monkeypatch):
        """Where the system has no more sockets, it is tried again."""
        collector = start()
        destination = make(collector.endpoint)
        with monkeypatch.context() as patch:

            def refuse(_address):
                raise zmq.ZMQError(24)

            patch.setattr(_zmq_session, "Link", refuse)
            log(destination, 1)
            wait_for(lambda: destination.stats()["system_errors"])
        assert destination.flush(60)
        assert collector.numbers() == [1]

    def test_socket_that_breaks(self, make, start, monkeypatch):
        """A socket that raises is given up for a new one."""
        collector = start()
        destination = make(collector.endpoint)
        log(destination, 1)
        assert destination.flush(60)
        errors = [zmq.ZMQError(156384765)]
        frames = Link.frames

        def break_once(link):
            if errors:
                raise errors.pop()
            return frames(link)

        monkeypatch.setattr(Link, "frames", break_once)
        log(destination, 2)
        assert destination.flush(60)
        assert collector.numbers() == [1, 2]
        assert destination.stats()["system_errors"] == 1

    def test_no_memory(self, make, start, monkeypatch):
        """What there is no memory for is counted."""
        collector = start()
        destination = make(collector.endpoint)
        put = _zmq_session.Session.put
        errors = [MemoryError()]

        def refuse_once(session, lines):
            if errors:
                raise errors.pop()
            put(session, lines)

        monkeypatch.setattr(_zmq_session.Session, "put", refuse_once)
        log(destination, 1)
        wait_for(lambda: destination.stats()["dropped"] == 1)
        log(destination, 2)
        assert destination.flush(60)
        wait_for(lambda: destination.stats()["reports"] == 1)
        assert destination.flush(60)
        assert collector.numbers() == [2]
        assert counted(destination) == 2

    def test_counted_while_it_ends(self, make):
        """What is given up meanwhile is counted once, and told as that."""
        destination = make(free_endpoint())

        class Ending:
            """How many were dropped before; a run ends when that is read."""

            @property
            def value(self):
                destination._end_session()
                return 0

        class EndingTotals(dict):
            def __iter__(self):
                return iter(self.keys())

            def keys(self):
                destination._end_session()
                return super().keys()

        destination._queue.append(b'{"number":1}\n')
        destination._step()
        destination._totals = EndingTotals(destination._totals)
        assert counted(destination) == 1
        destination._queue.append(b'{"number":2}\n')
        destination._step()
        dropped, destination._dropped = destination._dropped, Ending()
        assert destination._all_dropped() == 1
        destination._dropped = dropped
        assert counted(destination) == 2

    def test_no_memory_in_the_spool(self, make, start, monkeypatch):
        """What the spool has no memory for is held until it has some."""
        collector = start()
        destination = make(collector.endpoint)
        append = MemorySpool.append
        errors = [MemoryError(), MemoryError()]

        def refuse_twice(spool, *arguments):
            if errors:
                raise errors.pop()
            return append(spool, *arguments)

        monkeypatch.setattr(MemorySpool, "append", refuse_twice)
        log(destination, 1)
        assert destination.flush(60)
        assert not errors
        stats = destination.stats()
        assert (stats["acknowledged"], stats["dropped"], stats["system_errors"]) == (1, 0, 0)
        assert collector.numbers() == [1]

    def test_no_memory_for_a_report(self, make, start, monkeypatch):
        """A report that could not be put in is made again, with what was dropped then."""
        collector = start()
        destination = make(collector.endpoint)
        put = _zmq_session.Session.put
        errors = [MemoryError(), MemoryError()]

        def refuse_twice(session, lines):
            if errors:
                raise errors.pop()
            put(session, lines)

        monkeypatch.setattr(_zmq_session.Session, "put", refuse_twice)
        log(destination, 1)
        wait_for(lambda: not errors)
        wait_for(lambda: destination.stats()["reports"] == 1)
        assert destination.flush(60)
        assert destination.stats()["dropped"] == 1
        assert counted(destination) == 1
        assert [message["dropped"] for message in collector.messages()] == [1]


class TestSignals:
    """Signal handlers that log."""

    @posix
    def test_handler_logs(self, make, start):
        """Whatever it interrupts."""
        collector = start()
        destination = make(collector.endpoint, max_queued=100, block_timeout_s=60)
        handled = []

        def handle(*_):
            log(destination, -1)
            handled.append(1)

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            number = 0
            while number < 5_000 or len(handled) < 50:
                log(destination, number)
                number += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert destination.flush(60)
        numbers = collector.numbers()
        assert numbers.count(-1) == len(handled)
        assert [n for n in numbers if n >= 0] == list(range(number))


@posix
class TestForks:
    """Processes that are forked."""

    def test_under_load(self, start):
        """Children are senders of their own; nothing is lost or doubled."""
        collector = start()
        run(
            """
import os, sys, threading
from eliot_etw.destinations import ZmqDestination
destination = ZmqDestination(sys.argv[1], spool_folder=sys.argv[2] or None, exit_timeout_s=60,
                             block_timeout_s=60)

def work(thread):
    for number in range(5_000):
        destination({"number": thread * 5_000 + number})

threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
for thread in threads:
    thread.start()
children = []
for child in range(10):
    pid = os.fork()
    if not pid:
        for number in range(100):
            destination({"number": 100_000 + child * 100 + number})
        sys.exit()
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
for thread in threads:
    thread.join()
""",
            collector.endpoint,
            "",
        )
        assert sorted(collector.numbers()) == [*range(20_000), *range(100_000, 101_000)]
        assert len(collector.state) == len(collector.hellos) == 11

    def test_on_disk(self, start, tmp_path):
        """A child has a folder of its own, and leaves that of its parent alone."""
        collector = start()
        run(
            """
import os, sys
from eliot_etw.destinations import ZmqDestination
destination = ZmqDestination(sys.argv[1], spool_folder=sys.argv[2], exit_timeout_s=60)
destination({"number": 1})
pid = os.fork()
destination({"number": 2 if pid else 3})
if pid:
    assert os.waitpid(pid, 0)[1] == 0
""",
            collector.endpoint,
            tmp_path,
        )
        assert sorted(collector.numbers()) == [1, 2, 3]
        assert list(tmp_path.iterdir()) == []

    def test_multiprocessing(self, start):
        """Processes of multiprocessing deliver, too, which end in their own way."""
        collector = start()
        run(
            """
import multiprocessing, sys
from eliot_etw.destinations import ZmqDestination
destination = ZmqDestination(sys.argv[1], exit_timeout_s=60)
destination({"number": 1})
process = multiprocessing.get_context("fork").Process(target=destination, args=({"number": 2},))
process.start()
process.join()
""",
            collector.endpoint,
        )
        assert sorted(collector.numbers()) == [1, 2]


class TestKeys:
    """Encryption, and who may talk to whom."""

    @pytest.fixture
    def folder(self, tmp_path):
        """Return a folder with the keys of a collector and of a sender."""
        create_certificates(tmp_path, "collector")
        create_certificates(tmp_path, "sender")
        return tmp_path

    @pytest.fixture
    def curve(self, folder):
        """Return the keys of the collector."""
        public, secret = zmq.auth.load_certificate(folder / "collector.key_secret")
        return secret, public

    def test_files(self, make, start, folder, curve):
        """With the files that ZeroMQ's tools make, all is encrypted and arrives."""
        collector = start(curve=curve)
        destination = make(
            collector.endpoint,
            server_key=folder / "collector.key",
            keys=folder / "sender.key_secret",
        )
        log(destination, 1)
        assert destination.flush(60)
        assert collector.numbers() == [1]

    def test_texts(self, make, start, folder, curve):
        """The same with keys as text, and without own keys."""
        collector = start(curve=curve)
        pair = zmq.curve_keypair()
        for number, keys in enumerate([pair, tuple(key.decode() for key in pair), None]):
            destination = make(collector.endpoint, server_key=curve[1].decode(), keys=keys)
            log(destination, number)
            assert destination.flush(60)
        assert sorted(collector.numbers()) == [0, 1, 2]

    @pytest.mark.parametrize("server_key", [None, A_KEY], ids=["none", "wrong"])
    def test_do_not_fit(self, make, start, curve, capsys, server_key):
        """Who has no key, or a wrong one, is told so, once; messages wait."""
        collector = start(curve=curve)
        destination = make(collector.endpoint, server_key=server_key)
        log(destination, 1)
        wait_for(lambda: destination._complaint)
        assert not destination.flush(0.5)
        assert collector.numbers() == []
        error = capsys.readouterr().err
        assert "has other keys than we were told" in error
        assert error.count("\n") == 1
        assert destination.stats()["spooled"] == 1

    def test_let_in_later(self, make, start, folder, curve):
        """Who was not let in is, when the collector has changed."""
        collector = start(curve=curve)
        destination = make(collector.endpoint)
        log(destination, 1)
        wait_for(lambda: destination._complaint)
        collector.close()
        collector = start(collector.endpoint)
        assert destination.flush(60)
        assert collector.numbers() == [1]


class TestLevels:
    """Levels that the collector sets."""

    def test_filter(self, make, start):
        """A filter has them as long as they are in force, and tells that it has."""
        collector = start()
        destination = make(collector.endpoint)
        level_filter = destination.drive(LevelFilter(destination, "error"))
        add_destinations(level_filter)
        wait_for(lambda: collector.hellos)
        collector.tell(levels(LevelRule("app:db*", 10, 60_000), revision=5))
        wait_for(lambda: LevelsInForce(5, 1) in collector.heard)
        log_message("app:db:query", log_level="debug", number=1)
        log_message("app:web", log_level="debug", number=2)
        collector.tell(levels(revision=6))
        wait_for(lambda: LevelsInForce(6, 0) in collector.heard)
        log_message("app:db:query", log_level="debug", number=3)
        log_message("app:web", log_level="error", number=4)
        assert destination.flush(60)
        assert collector.numbers() == [1, 4]

    def test_end_by_themselves(self, make, start):
        """They end in time also when the collector is gone, and come back with it."""
        collector = start(levels=(LevelRule("app*", 10, 1_000),), revision=3)
        destination = make(collector.endpoint)
        level_filter = destination.drive(LevelFilter(destination, "error"))
        wait_for(lambda: destination._levels)
        collector.close()
        log_debug = {"message_type": "app:x", "log_level": "debug"}
        level_filter(log_debug)
        assert level_filter.stats()["dropped"] == 0
        wait_for(lambda: not destination._levels)
        level_filter(log_debug)
        assert level_filter.stats()["dropped"] == 1
        start(collector.endpoint, levels=(LevelRule("app*", 10, 60_000),), revision=4)
        wait_for(lambda: destination._levels)
        level_filter(log_debug)
        assert level_filter.stats()["dropped"] == 1

    def test_driven_later(self, make, start):
        """A filter that comes later has what is in force."""
        collector = start(levels=(LevelRule("app*", 10, 60_000),))
        destination = make(collector.endpoint)
        log(destination, 1)
        wait_for(lambda: destination._levels)
        level_filter = destination.drive(LevelFilter(destination, "error"))
        level_filter({"message_type": "app:x", "log_level": "debug"})
        assert level_filter.stats()["dropped"] == 0

    def test_loggers(self, make, start):
        """Loggers of the standard library have them, if asked, and get theirs back."""
        name = "shipping_levels"
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        collector = start(levels=(LevelRule(f"{name}*", 10, 60_000),))
        destination = make(collector.endpoint, sets_loggers=True)
        log(destination, 1)
        wait_for(lambda: logger.level == logging.DEBUG)
        later = logging.getLogger(f"{name}.later")
        wait_for(lambda: later.level == logging.DEBUG)
        destination.close()
        assert (logger.level, later.level) == (logging.ERROR, logging.NOTSET)

    @posix
    def test_forked(self, start):
        """A child begins with its own levels."""
        collector = start(levels=(LevelRule("app*", 10, 60_000),))
        run_forking(
            """
import sys, time
from eliot_etw.destinations import LevelFilter, ZmqDestination

destination = ZmqDestination(sys.argv[1])
level_filter = destination.drive(LevelFilter(destination, "error"))
message = {"message_type": "app:x", "log_level": "debug"}
deadline = time.monotonic() + 60
while not destination._levels:
    assert time.monotonic() < deadline
    time.sleep(0.01)

def work():
    level_filter(message)
    assert level_filter.stats()["dropped"] == 1

in_child(work)
level_filter(message)
assert level_filter.stats()["dropped"] == 0
""",
            collector.endpoint,
        )


class TestSettings:
    """What the constructor refuses."""

    @pytest.mark.parametrize(
        ("endpoint", "options", "words"),
        [
            ("localhost:5514", {}, "endpoint must look like"),
            ("tcp://localhost", {}, "endpoint must look like"),
            ("inproc://x", {}, "endpoint must look like"),
            ("tcp://localhost:0", {}, "endpoint must look like"),
            ("tcp://localhost:65536", {}, "endpoint must look like"),
            ("ipc://" + "x" * 101, {}, "endpoint must look like"),
            ("udp://127.0.0.1:1", {}, "endpoint must look like"),
            ("tcp://logs.example.com:1", {}, "must be on this machine while there are no keys"),
            ("tcp://10.0.0.1:1", {}, "unencrypted=True"),
            ("tcp://localhost.evil.com:1", {}, "must be on this machine"),
            ("tcp://127.evil.com:1", {}, "must be on this machine"),
            ("tcp://[::2]:1", {}, "must be on this machine"),
            ("tcp://127.0.0.1:1", {"keys": ("a", "b")}, "must come with a server_key"),
            ("tcp://127.0.0.1:1", {"server_key": "short"}, "server_key must be a key of ZeroMQ"),
            ("tcp://127.0.0.1:1", {"server_key": "\x00" * 40}, "40 characters, got something"),
            ("tcp://127.0.0.1:1", {"server_key": 40}, "server_key must be a key"),
            ("tcp://127.0.0.1:1", {"format": "pickle"}, "format must be one of"),
            ("tcp://127.0.0.1:1", {"compression": "lzma"}, "compression must be one of"),
            ("tcp://127.0.0.1:1", {"heartbeat_s": 0}, "heartbeat_s must be from"),
            ("tcp://127.0.0.1:1", {"heartbeat_s": float("nan")}, "heartbeat_s must be from"),
            ("tcp://127.0.0.1:1", {"max_queued": 0}, "max_queued must be at least 1"),
            ("tcp://127.0.0.1:1", {"when_full": "wait"}, "when_full must be one of"),
            ("tcp://127.0.0.1:1", {"max_spool_bytes": 0}, "max_spool_bytes must be at least 1"),
            ("tcp://127.0.0.1:1", {"exit_timeout_s": -1}, "exit_timeout_s must be 0 or more"),
        ],
    )
    def test_refused(self, endpoint, options, words):
        """A setting that cannot work is an error that says what to do."""
        with pytest.raises(ValueError, match=words):
            ZmqDestination(endpoint, **options)

    @pytest.mark.parametrize(
        ("endpoint", "options"),
        [
            ("tcp://127.1.2.3:1", {}),
            ("tcp://localhost:1", {}),
            ("tcp://[::1]:1", {}),
            ("tcp://127.0.0.1:0;127.0.0.1:1", {}),
            ("tcp://logs.example.com:1", {"unencrypted": True}),
            ("tcp://logs.example.com:1", {"server_key": A_KEY}),
        ],
    )
    def test_taken(self, endpoint, options):
        """Other machines are talked to with keys, or if that is said in so many words."""
        ZmqDestination(endpoint, **options).close()

    def test_keys_without_the_secret(self, tmp_path):
        """A file that has only the public key is not taken for our own."""
        create_certificates(tmp_path, "sender")
        key = zmq.curve_keypair()[0]
        with pytest.raises(ValueError, match="must have the secret key too"):
            ZmqDestination("tcp://h:1", server_key=key, keys=tmp_path / "sender.key")

    def test_no_such_file(self, tmp_path):
        """A file that is not there is an error of the system."""
        with pytest.raises(FileNotFoundError):
            ZmqDestination("tcp://h:1", server_key=tmp_path / "none.key")

    def test_secrets_are_not_shown(self):
        """No error shows a key."""
        with pytest.raises(ValueError, match="must be a key") as caught:
            ZmqDestination("tcp://h:1", server_key=zmq.curve_keypair()[0], keys=("a", "sesame"))
        assert "sesame" not in str(caught.value)
        address = Address("tcp://h:1", b"server", b"public", b"sesame")
        assert repr(address) == "Address('tcp://h:1')"

    def test_no_curve(self, monkeypatch):
        """A libzmq without encryption is refused where there are keys."""
        monkeypatch.setattr(zmq, "has", lambda _: False)
        with pytest.raises(ValueError, match="libzmq with CURVE"):
            ZmqDestination("tcp://h:1", server_key=A_KEY)

    def test_folder_that_cannot_be(self, tmp_path):
        """A folder that cannot be made is an error of the system."""
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            ZmqDestination("tcp://127.0.0.1:1", spool_folder=tmp_path / "file")

    @pytest.mark.parametrize("package", ["zmq", "msgspec"])
    def test_missing(self, monkeypatch, package):
        """Without a package that it needs, it says what to install."""
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependency, match=rf"'{package}'.*eliot-etw\[zmq\]"):
            ZmqDestination("tcp://127.0.0.1:1")

    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ({"max_queued": "many"}, r"destinations\[0\].max_queued must be"),
            ({"format": "pickle"}, r"destinations\[0\].format must be"),
            ({"server_key": 7}, r"destinations\[0\].server_key must be"),
            ({"colour": "blue"}, r"destinations\[0\].colour is no setting"),
        ],
    )
    def test_configure(self, setting, words):
        """It can be set up by configure(), which checks the types."""
        destination = {"kind": "zmq", "endpoint": "tcp://127.0.0.1:1"}
        configure({"destinations": [destination]}).close()
        with pytest.raises(InvalidSettings, match=words):
            configure({"destinations": [{**destination, **setting}]})

    def test_import(self):
        """The module itself needs neither."""
        program = "import sys; sys.modules.update(zmq=None, msgspec=None)\n"
        run(program + "from eliot_etw.destinations import ZmqDestination")


def test_lines_are_those_of_a_file(make, start, tmp_path):
    """What arrives is what a file would have, byte for byte."""
    from eliot_etw import FileDestination

    collector = start()
    destination = make(collector.endpoint)
    file = FileDestination(tmp_path / "test.log")
    message = {"message_type": "t", "text": "é\n", "list": [1, {"a": None}], "number": 0.1}
    destination(message)
    file(message)
    file.close()
    assert destination.flush(60)
    (lines,) = collector.state.values()
    assert lines[1] + b"\n" == (tmp_path / "test.log").read_bytes()
    assert json.loads(lines[1]) == message
