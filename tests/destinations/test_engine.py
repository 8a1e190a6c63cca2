"""Tests of adding messages to an engine's stream: each is there once or is counted."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from uuid import uuid4

import pytest

from eliot_etw import configure, log_message
from eliot_etw.destinations import NatsDestination, RedisDestination
from eliot_etw.destinations._engine import EngineDestination
from eliot_etw.sources import NatsSource, RedisSource
from tests import _services
from tests._programs import run, run_forking

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")
FULL = ["block", "drop_new", "drop_old"]
AWAY = {"nats": "nats://127.0.0.1:1", "redis": "redis://127.0.0.1:1/0"}
DESTINATIONS = {"nats": NatsDestination, "redis": RedisDestination}
SOURCES = {"nats": NatsSource, "redis": RedisSource}


@pytest.fixture(params=["nats", "redis"])
def engine(request):
    """Name each engine in turn."""
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def stream():
    """Name a stream that no other test uses."""
    return f"test-{uuid4()}"


@pytest.fixture
def make(engine, stream):
    """Return what makes destinations, and closes them after the test."""
    made = []

    def make(url, **options):
        made.append(DESTINATIONS[engine](url, stream, **options))
        return made[-1]

    yield make
    for destination in made:
        destination.close(0.1)


@pytest.fixture
def server(engine, tmp_path):
    """Start a server of one's own; with Redis, what it acknowledged is on disk."""
    server = _services.start(engine, tmp_path / "server")
    yield server
    server.stop()


@pytest.fixture
def url(engine):
    """Say where the server is that all share."""
    return _services.shared(engine).url


def wait_for(condition):
    """Wait until something is true, but not for ever."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not become true in time"
        time.sleep(0.01)


def log(destination, *numbers):
    """Log messages."""
    for number in numbers:
        destination(
            {"task_uuid": "a", "task_level": [1], "message_type": "test:m", "number": number}
        )


def read(engine, url, stream):
    """Return the numbers of what is in a stream, but of reports."""
    source = SOURCES[engine](url, stream=stream)
    return [message["number"] for message in source if "number" in message]


def counted(destination):
    """Sum up what is known of all messages that were logged, without the reports."""
    return total(destination.stats())


def total(stats):
    return (
        sum(stats[name] for name in ("queued", "acknowledged", "dropped", "refused"))
        - stats["reports"]
    )


class Shelf:
    """An engine in memory, and the destination for it.

    Attributes:
        lines: What it has.
        entered: Set when it is called.
        open: It waits until this is set.
    """

    url = "a shelf"
    errors = ()

    def __init__(self):
        self.lines = []
        self.entered, self.open = threading.Event(), threading.Event()

    def append(self, items):
        self.entered.set()
        assert self.open.wait(30)
        self.lines += [item.line for item in items]
        return 0

    def close(self):
        pass

    def destination(self):
        """Make a destination that adds messages to it."""
        shelf = self

        class ShelfDestination(EngineDestination):
            def _open(self):
                return shelf

        return ShelfDestination(10, "block", 0.1, 0.1)


class TestDelivers:
    """What is there."""

    def test_in_order(self, engine, make, url, stream):
        """All messages of a thread are there, in their order."""
        destination = make(url)
        log(destination, *range(5_000))
        assert destination.flush(60)
        assert read(engine, url, stream) == list(range(5_000))
        assert destination.stats() == {
            "queued": 0, "acknowledged": 5_000, "refused": 0, "dropped": 0, "reports": 0,
            "repeated": 0, "failures": 0,
        }  # fmt: skip

    def test_is_woken(self, engine, make, url, stream):
        """After a long silence the next message is sent as the first was."""
        destination = make(url)
        log(destination, 1)
        assert destination.flush(60)
        wait_for(lambda: destination._is_asleep)
        log(destination, 2)
        assert destination.flush(60)
        assert read(engine, url, stream) == [1, 2]

    def test_hard_values(self, engine, make, url, stream):
        """What JSON does not know is there as text."""
        destination = make(url)
        destination({"task_uuid": "a", "task_level": [1], "number": {1}, "big": 2**80})
        assert destination.flush(60)
        [message] = SOURCES[engine](url, stream=stream)
        assert (message["number"], message["big"]) == ([1], 2**80)

    def test_configured(self, engine, url, stream):
        """A configuration names it by its kind."""
        with configure({"destinations": [{"kind": engine, "url": url, "stream": stream}]}):
            log_message("test:m", number=7)
        assert read(engine, url, stream) == [7]

    def test_threads(self, engine, make, url, stream):
        """What several threads log at once is there once."""
        destination = make(url)
        threads = [
            threading.Thread(target=log, args=(destination, *range(n * 500, n * 500 + 500)))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert destination.flush(60)
        assert sorted(read(engine, url, stream)) == list(range(4_000))


class TestAway:
    """While the engine is away."""

    def test_at_the_start(self, engine, server, make, stream):
        """What is logged before it is there is sent when it is."""
        server.stop()
        destination = make(server.url)
        log(destination, *range(100))
        wait_for(lambda: destination.stats()["failures"])
        assert counted(destination) == 100
        server.start()
        assert destination.flush(60)
        assert read(engine, server.url, stream) == list(range(100))

    def test_killed_under_load(self, engine, server, make, stream):
        """Killed and started again in mid-stream, it has each message once."""
        destination = make(server.url, block_timeout_s=60, timeout_s=2.0)
        is_over = threading.Event()
        logged = []

        def work():
            while not is_over.is_set() or len(logged) < 3_000:
                log(destination, len(logged))
                logged.append(len(logged))
                if len(logged) % 20 == 0:
                    time.sleep(0.001)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(3):
            before = destination.stats()["acknowledged"]
            wait_for(lambda before=before: destination.stats()["acknowledged"] > before + 200)
            server.stop(signal.SIGKILL)
            time.sleep(0.2)
            server.start()
        is_over.set()
        thread.join(60)
        assert destination.flush(60)
        assert read(engine, server.url, stream) == logged
        assert destination.stats()["acknowledged"] == len(logged) == counted(destination)

    def test_hangs(self, engine, server, make, stream):
        """An answer that comes too late, or not at all, doubles nothing."""
        destination = make(server.url, timeout_s=0.5)
        log(destination, *range(100))
        assert destination.flush(60)
        server.pause()
        log(destination, *range(100, 200))
        wait_for(lambda: destination.stats()["failures"] > 1)
        server.go_on()
        assert destination.flush(60)
        assert read(engine, server.url, stream) == list(range(200))

    @pytest.mark.parametrize("when_full", FULL)
    def test_full(self, engine, server, make, stream, when_full):
        """What there is no room for is dropped and counted, and the log is told."""
        server.stop()
        destination = make(server.url, max_queued=100, when_full=when_full, block_timeout_s=0.1)
        log(destination, 0)
        wait_for(lambda: destination.stats()["failures"])
        log(destination, *range(1, 300))
        stats = destination.stats()
        assert (total(stats), stats["dropped"]) == (300, 199)
        server.start()
        assert destination.flush(60)
        kept = range(200, 300) if when_full == "drop_old" else range(1, 101)
        assert read(engine, server.url, stream) == [0, *kept]
        log(destination, 300)
        wait_for(lambda: destination.stats()["reports"])
        assert destination.flush(60)
        reports = [
            message["dropped"]
            for message in SOURCES[engine](server.url, stream=stream)
            if message["message_type"] == "eliot:dropped"
        ]
        assert sum(reports) == 199
        assert counted(destination) == 301


class TestEnd:
    """The end of the program, and of the destination."""

    SCRIPT = """
import atexit, json, os, signal, sys, time
from eliot_etw import destinations
kind, url, stream, exit_timeout_s, count = sys.argv[1:6]
destination = getattr(destinations, kind)(url, stream, exit_timeout_s=float(exit_timeout_s))

def log(number):
    destination({"task_uuid": "a", "task_level": [1], "message_type": "m", "number": number})
"""
    LOG = "\nfor number in range(int(count)): log(number)\n"

    def script(self, *parts):
        """Put a program together that tells its counts at its very end."""
        begin, rest = self.SCRIPT.split("from eliot_etw import destinations")
        # What is registered before the destination's own is called after it.
        tell = "\natexit.register(lambda: print(json.dumps(destination.stats())))\n"
        return "".join([begin, tell, "from eliot_etw import destinations", rest, *parts])

    def call(self, engine, url, stream, *parts, exit_timeout_s=60, count=1):
        name = DESTINATIONS[engine].__name__
        done = run(self.script(*parts), name, url, stream, exit_timeout_s, count)
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    @pytest.mark.parametrize("count", [1, 3_000])
    def test_script(self, engine, url, stream, count):
        """A script delivers what it logged, be it one message."""
        stats, said = self.call(engine, url, stream, self.LOG, count=count)
        assert (stats["acknowledged"], said) == (count, "")
        assert read(engine, url, stream) == list(range(count))

    def test_nobody_there(self, engine, stream):
        """A script ends in time though nobody is there; all is counted, and told."""
        begin = time.monotonic()
        stats, said = self.call(
            engine, AWAY[engine], stream, self.LOG, exit_timeout_s=0.5, count=1_500
        )
        assert (stats["dropped"], total(stats)) == (1_500, 1_500)
        assert "1500 messages were not acknowledged in time, or found no room" in said
        assert time.monotonic() - begin < 60

    def test_hanging(self, engine, server, stream):
        """A server that does not answer does not hold up the end either."""
        server.pause()
        try:
            stats, _ = self.call(
                engine, server.url, stream, self.LOG, exit_timeout_s=0.5, count=10
            )
        finally:
            server.go_on()
        assert (stats["dropped"], total(stats)) == (10, 10)

    def test_late(self, engine, url, stream):
        """What is logged after the end is sent at once."""
        begin, rest = self.SCRIPT.split("from eliot_etw import destinations")
        late = "\natexit.register(lambda: log(2))\nfrom eliot_etw import destinations"
        name = DESTINATIONS[engine].__name__
        run(begin + late + rest + "\nlog(1)\n", name, url, stream, 60, 0)
        assert read(engine, url, stream) == [1, 2]

    @posix
    def test_terminated(self, engine, url, stream):
        """A program that ends itself when it is terminated delivers what it logged."""
        ends = "\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        wait = "\nprint('ready', flush=True)\ntime.sleep(60)\n"
        command = [
            sys.executable, "-c", self.script(ends, self.LOG, wait),
            DESTINATIONS[engine].__name__, url, stream, "60", "2000",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            stats = json.loads(process.stdout.readline())
            assert process.wait(60) == 3
        assert stats["acknowledged"] == 2_000
        assert read(engine, url, stream) == list(range(2_000))

    @posix
    def test_killed(self, engine, url, stream):
        """Of a process that is killed, what it was told is acknowledged is there, each once."""
        tell = """
for number in range(1_000_000):
    log(number)
    if number % 500 == 0:
        print(destination.stats()["acknowledged"], flush=True)
"""
        command = [
            sys.executable, "-c", self.SCRIPT + tell,
            DESTINATIONS[engine].__name__, url, stream, "60", "0",
        ]  # fmt: skip
        acknowledged = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while acknowledged < 3_000:
                acknowledged = int(process.stdout.readline())
            process.kill()
            process.wait(60)
        found = read(engine, url, stream)
        assert found == list(range(len(found)))
        assert len(found) >= acknowledged

    def test_late_and_nobody_there(self, engine, stream):
        """What cannot be sent after the end is dropped, counted, and told, and only once tried."""
        begin, rest = self.SCRIPT.split("from eliot_etw import destinations")
        late = """
atexit.register(lambda: print(json.dumps([destination.stats(), late])))
atexit.register(lambda: [late.append(tell(n)) for n in range(10)])
def tell(number):
    while destination._sending.locked():  # a thread that the end did not wait for
        time.sleep(0.01)
    failures = destination.stats()["failures"]
    log(number)
    return destination.stats()["failures"] > failures
late = []
"""
        end = "from eliot_etw import destinations"
        name = DESTINATIONS[engine].__name__
        done = run(begin + late + end + rest + "\nlog(1)\n", name, AWAY[engine], stream, 0.1, 0)
        stats, tried = json.loads(done.stdout.splitlines()[-1])
        assert (stats["queued"], stats["dropped"], total(stats)) == (0, 11, 11)
        assert tried == [True] + [False] * 9
        assert ": 11 messages were not acknowledged in time" in done.stderr

    def test_close(self, engine, make, url, stream):
        """What is logged to one that is closed is a failure, and counted."""
        destination = make(url)
        log(destination, 1)
        destination.close()
        with pytest.raises(OSError, match=f"Make a new {type(destination).__name__}"):
            log(destination, 2)
        assert read(engine, url, stream) == [1]
        assert (destination.stats()["dropped"], counted(destination)) == (1, 2)

    def test_without_a_thread(self, engine, make, url, stream, monkeypatch):
        """Where no thread can be started, who logs sends."""

        def refuse(_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        destination = make(url)
        log(destination, 1, 2)
        assert destination.stats()["acknowledged"] == 2
        monkeypatch.undo()
        assert read(engine, url, stream) == [1, 2]


def test_counted_before_it_is_done():
    """When nothing is under way any more, all of it is counted."""
    shelf, busy = Shelf(), []
    destination = shelf.destination()

    class Counts(dict):
        def __setitem__(self, name, value):
            busy.append(destination._is_busy())
            super().__setitem__(name, value)

    class Dropped:
        value = 0

        def add(self):
            busy.append(destination._is_busy())
            self.value += 1

    destination._counts = Counts(destination._counts)
    shelf.open.set()
    destination({"number": 1})
    assert destination.flush(60)
    assert destination.stats()["acknowledged"] == 1
    shelf.open.clear()
    shelf.entered.clear()
    destination._dropped = Dropped()
    destination({"number": 2})
    assert shelf.entered.wait(30)
    destination._finish(time.monotonic())
    assert destination.stats()["dropped"] == 1
    assert len(busy) > 2
    assert all(busy)
    shelf.open.set()


def test_late_behind_a_thread_that_hangs():
    """What is logged after the end is sent by the thread that still sends then."""
    shelf = Shelf()
    destination = shelf.destination()
    destination({"number": 1})
    assert shelf.entered.wait(30)
    destination._finish(time.monotonic())
    destination({"number": 2})
    assert destination.stats()["queued"] == 1
    shelf.open.set()
    wait_for(lambda: destination.stats()["acknowledged"] == 1)
    assert shelf.lines == [b'{"number":1}', b'{"number":2}']
    assert (destination.stats()["dropped"], counted(destination)) == (1, 2)


@posix
class TestFork:
    """A forked child is a sender of its own."""

    def test_under_load(self, engine, url, stream):
        """What parent and children log is there once, whatever the parent was about."""
        forks = """
for number in range(3_000): log(number)
children = []
for child in range(1, 4):
    pid = os.fork()
    if not pid:
        for number in range(100): log(child * 10_000 + number)
        sys.exit()
    children.append(pid)
    for number in range(child * 3_000, child * 3_000 + 500): log(number)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
        name = DESTINATIONS[engine].__name__
        run(TestEnd.SCRIPT + forks, name, url, stream, 60, 0)
        expected = {
            *range(3_000),
            *(n for child in (1, 2, 3) for n in range(child * 3_000, child * 3_000 + 500)),
            *(child * 10_000 + n for child in (1, 2, 3) for n in range(100)),
        }
        found = read(engine, url, stream)
        assert sorted(found) == sorted(expected)

    def test_multiprocessing(self, engine, url, stream):
        """Processes of multiprocessing deliver at their end, which has no atexit."""
        program = """
import multiprocessing
context = multiprocessing.get_context("fork")
log(0)
children = [context.Process(target=log, args=(n,)) for n in (1, 2, 3)]
for child in children: child.start()
for child in children: child.join(); assert child.exitcode == 0
"""
        run(TestEnd.SCRIPT + program, DESTINATIONS[engine].__name__, url, stream, 60, 0)
        assert sorted(read(engine, url, stream)) == [0, 1, 2, 3]

    NEEDS_A_FILE = """
import os, sys, time
from eliot_etw.destinations import BackgroundDestination, MemoryDestination
from eliot_etw.destinations import NatsDestination, RedisDestination

engine, path, there = sys.argv[1], sys.argv[2], sys.argv[2] + ".there"
with open(path, "w") as file:
    file.write("-----BEGIN NATS USER JWT-----\\n-----BEGIN USER NKEY SEED-----\\n")
if engine == "redis":
    url = "rediss://127.0.0.1:1/0?ssl_ca_certs=" + path
    destination = RedisDestination(url, exit_timeout_s=0.1)
else:
    destination = NatsDestination("nats://127.0.0.1:1", credentials=path, exit_timeout_s=0.1)
memory = MemoryDestination()
later = BackgroundDestination(memory)
destination({"number": 1})
later({"number": 1})
"""

    def test_file_that_is_gone(self, engine, tmp_path):
        """A child that cannot read what it needs tries again; those made later begin anew."""
        if engine == "nats":
            pytest.importorskip("nkeys")
        program = """
def work():
    delivering = later._delivering
    assert not delivering._lock.locked()
    assert destination._engine is None
    later({"number": 2})
    assert later.flush(60)
    assert later.stats()["delivered"] == 1
    destination({"number": 2})
    until = time.monotonic() + 60
    while not destination.stats()["failures"]:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert destination._engine is None
    os.rename(there, path)
    while destination._engine is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    destination.close(0.1)
    stats = destination.stats()
    assert (stats["queued"], stats["dropped"]) == (0, 1), stats

assert later.flush(60)
os.rename(path, there)
in_child(work)
assert later.stats()["delivered"] == 1
"""
        done = run_forking(self.NEEDS_A_FILE + program, engine, tmp_path / "file")
        assert f"No such file or directory: '{tmp_path / 'file'}'" in done.stderr
        assert "Traceback" not in done.stderr


class TestSettings:
    """What is wrong is said at once."""

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"max_queued": 0}, "max_queued must be at least 1"),
            ({"when_full": "explode"}, "when_full must be one of"),
            ({"exit_timeout_s": -1}, "exit_timeout_s must be 0 or more"),
            ({"timeout_s": 0}, "timeout_s must be more than 0"),
        ],
    )
    def test_refused(self, engine, stream, options, why):
        """A wrong setting is named."""
        with pytest.raises(ValueError, match=why):
            DESTINATIONS[engine](AWAY[engine], stream, **options)

    def test_not_installed(self, engine, monkeypatch):
        """Without its package, the constructor says what to install."""
        monkeypatch.setitem(sys.modules, engine, None)
        with pytest.raises(ImportError, match=rf"eliot-etw\[{engine}\]"):
            DESTINATIONS[engine]()


def test_secrets_are_not_shown(make, engine, capsys):
    """Standard error says why nothing can be sent, once, and no password."""
    destination = make(AWAY[engine].replace("//", "//user:secret@"))
    log(destination, 1)
    wait_for(lambda: destination.stats()["failures"] > 2)
    said = capsys.readouterr().err
    assert said.count(AWAY[engine].partition("/0")[0]) >= 1
    assert len(said.splitlines()) < 4
    assert "secret" not in said
