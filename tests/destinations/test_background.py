"""Tests of the writer thread: nothing lost uncounted, nobody waits too long, however it ends."""

import _thread
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress

import pytest

from eliot_etw import FileDestination, add_destinations, log_message, logging_stats, start_action
from eliot_etw.destinations import BackgroundDestination, MemoryDestination, _fork_lock, _queued
from tests._programs import run, run_forking

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")


@pytest.fixture
def path(tmp_path):
    """Return where the log of the test is to be."""
    return tmp_path / "test.log"


@pytest.fixture
def make(request):
    """Return what makes background destinations, and closes them after the test."""
    made = []

    def make(inner, **options):
        made.append(BackgroundDestination(inner, **options))
        return made[-1]

    yield make
    for destination in made:
        destination.close(60)


class Gate:
    """A destination that is stuck until it is opened.

    Attributes:
        entered: Set when a message has come.
    """

    is_leaf = True

    def __init__(self):
        self.messages = []
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, message):
        self.entered.set()
        assert self.open.wait(30)
        self.messages.append(message)

    def numbers(self):
        """List what the messages of the test have as number."""
        return [m["number"] for m in self.messages if m["message_type"] == "t"]

    def told(self):
        """Sum up what the log tells of dropped messages."""
        return sum(m["dropped"] for m in self.messages if m["message_type"] == "eliot:dropped")


def fill(destination, gate, count):
    """Log messages of which the first is stuck in the gate, and the others are queued."""
    destination({"message_type": "t", "number": 0})
    assert gate.entered.wait(30)
    for number in range(1, count):
        destination({"message_type": "t", "number": number})


def lines_of(path):
    """Read a log."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


class TestDelivers:
    """What comes out."""

    @pytest.mark.parametrize("inner", ["file", "memory"])
    def test_in_order(self, make, path, inner):
        """All messages of a thread, in their order."""
        memory = MemoryDestination()
        destination = make(FileDestination(path) if inner == "file" else memory)
        for number in range(5_000):
            destination({"message_type": "t", "number": number})
        assert destination.flush(60)
        messages = memory.messages if inner == "memory" else lines_of(path)
        assert [m["number"] for m in messages] == list(range(5_000))
        assert destination.stats() == {
            "queued": 0, "delivered": 5_000, "failed": 0, "dropped": 0, "dropped_as_reentrant": 0,
        }  # fmt: skip

    def test_by_another_thread(self, make):
        """The thread that logs does not call the destination inside."""
        threads = set()
        destination = make(lambda _message: threads.add(threading.get_ident()))
        destination({})
        destination.flush(60)
        assert len(threads - {threading.get_ident()}) == 1

    def test_is_woken(self, make):
        """A writer that went to sleep writes the next message all the same."""
        memory = MemoryDestination()
        destination = make(memory)
        for number in range(3):
            destination({"number": number})
            assert destination.flush(60)
            while not destination._is_asleep:
                threading.Event().wait(0.01)
        assert memory.messages == [{"number": number} for number in range(3)]

    def test_one_writer(self, make):
        """Threads that log at the same time for the first time start one writer."""
        writers = set()
        destination = make(lambda _message: writers.add(threading.get_ident()))
        go = threading.Barrier(8)

        def log():
            go.wait(30)
            destination({})

        together(log, 8)
        destination.flush(60)
        assert len(writers) == 1

    def test_locks_of_another_kind(self, make, monkeypatch):
        """The writer waits by a lock such as there are when it starts: gevent changes both."""
        destination = make(MemoryDestination())
        made, allocate = [], _thread.allocate_lock

        def allocate_another():
            made.append(allocate())
            return made[-1]

        monkeypatch.setattr(_thread, "allocate_lock", allocate_another)
        destination({})
        assert destination.flush(60)
        assert destination._bell in made

    @pytest.mark.parametrize("method", ["__init__", "start"])
    def test_without_a_thread(self, make, monkeypatch, method):
        """Where no thread can be made or started, the calling thread delivers."""

        def refuse(self, **_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, method, refuse)
        memory = MemoryDestination()
        destination = make(memory)
        destination({"number": 1})
        destination({"number": 2})
        assert memory.messages == [{"number": 1}, {"number": 2}]


class TestWhatWasTrueThen:
    """What is logged is what was true then, whatever the program does later."""

    def test_in_a_file(self, make, path):
        """The line is made at once, of any object."""
        log = FileDestination(path, json_default=vars)
        destination = make(log)

        class Thing:
            size = 1

        thing, nested = Thing(), {"list": [1]}
        thing.size = 2
        destination({"thing": thing, "nested": nested})
        thing.size = 3
        nested["list"].append(2)
        destination.flush(60)
        assert lines_of(path) == [{"thing": {"size": 2}, "nested": {"list": [1]}}]

    def test_elsewhere(self, make):
        """Containers are copied; the message itself is, too, if it has any."""
        gate = Gate()
        destination = make(gate)
        thing = object()
        values = {"a": [1, {"b": {2}}], "c": (bytearray(b"d"), [thing])}
        message = {"task_level": [1], **values}
        destination(message)
        values["a"][1]["b"].add(3)
        values["a"].append(4)
        values["c"][0][:] = b"changed"
        values["c"][1].clear()
        message["more"] = 1
        gate.open.set()
        destination.flush(60)
        assert gate.messages == [
            {"task_level": [1], "a": [1, {"b": {2}}], "c": (bytearray(b"d"), [thing])}
        ]

    def test_plain_message_is_not_copied(self, make):
        """That would cost, and nobody can change it."""
        memory = MemoryDestination()
        destination = make(memory)
        message = {"task_level": [1, 2], "text": "x", "number": 1, "nothing": None}
        destination(message)
        destination.flush(60)
        assert memory.messages[0] is message

    def test_circular_and_deep(self, make):
        """What has no end, or hardly any, is copied so far."""
        memory = MemoryDestination()
        destination = make(memory)
        circle, deep = [], []
        circle.append(circle)
        for _ in range(100_000):
            deep = [deep]
        destination({"circle": circle, "deep": deep})
        destination.flush(60)
        copy = memory.messages[0]["circle"]
        assert copy is not circle
        assert copy[0] is copy
        while deep:
            deep = deep.pop()  # to free it level by level


class TestFull:
    """What happens when the queue is full."""

    def test_drop_new(self, make):
        """The newest are dropped, counted, and the log is told."""
        gate = Gate()
        destination = make(gate, max_queued=3, when_full="drop_new")
        fill(destination, gate, 10)
        assert destination.stats()["dropped"] == 6
        gate.open.set()
        destination.close(60)
        assert (gate.numbers(), gate.told()) == ([0, 1, 2, 3], 6)

    def test_drop_old(self, make):
        """The oldest are dropped, counted, and the log is told."""
        gate = Gate()
        destination = make(gate, max_queued=3, when_full="drop_old")
        fill(destination, gate, 10)
        assert destination.stats()["queued"] == 4
        gate.open.set()
        destination.close(60)
        assert (gate.numbers(), gate.told()) == ([0, 7, 8, 9], 6)

    def test_block(self, make):
        """The thread that logs waits until there is room, and nothing is lost."""
        gate = Gate()
        destination = make(gate, max_queued=3, block_timeout_s=60)
        fill(destination, gate, 4)
        late = threading.Thread(target=destination, args=({"message_type": "t", "number": 4},))
        late.start()
        gate.open.set()
        late.join()
        destination.close(60)
        assert (gate.numbers(), gate.told()) == ([0, 1, 2, 3, 4], 0)

    def test_block_gives_up(self, make):
        """It waits for so long, once; those after it do not wait, until there is room again."""
        gate = Gate()
        destination = make(gate, max_queued=2, block_timeout_s=0.05)
        fill(destination, gate, 4)
        destination._block_timeout_s = 1000
        for number in range(4, 100):
            destination({"message_type": "t", "number": number})
        assert destination.stats()["dropped"] == 97
        gate.open.set()
        destination.flush(60)
        destination({"message_type": "t", "number": 100})
        destination.close(60)
        assert (gate.numbers(), gate.told()) == ([0, 1, 2, 100], 97)

    def test_interrupted_while_it_waits(self, make):
        """A message whose call is interrupted by a signal's handler is counted."""
        gate = Gate()
        destination = make(gate, max_queued=1, block_timeout_s=1000)
        fill(destination, gate, 2)

        def interrupt(_seconds):
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_queued, "sleep", interrupt)
            with pytest.raises(KeyboardInterrupt):
                destination({"message_type": "t", "number": 2})
        gate.open.set()
        destination.close(60)
        assert (gate.numbers(), gate.told()) == ([0, 1], 1)

    @pytest.mark.parametrize("when_full", ["block", "drop_new", "drop_old"])
    def test_eight_threads(self, make, path, when_full):
        """What was delivered and what was dropped is all that was logged."""
        destination = make(FileDestination(path), max_queued=16, when_full=when_full)

        def log():
            for number in range(2_000):
                destination({"message_type": "t", "number": number})

        together(log, 8)
        destination.close(60)
        messages = lines_of(path)
        kinds = Counter(m["message_type"] for m in messages)
        stats = destination.stats()
        assert kinds["t"] == stats["delivered"]
        assert stats["delivered"] + stats["dropped"] == 16_000
        assert stats["dropped"] == sum(m.get("dropped", 0) for m in messages)
        if when_full == "block":
            assert stats["dropped"] == 0

    @posix
    def test_pipe_that_nobody_reads(self, make):
        """A slow disk stops the writer, not the program; what was taken is read later."""
        reading, writing = os.pipe()
        file = open(writing, "wb", buffering=0)  # noqa: SIM115 - closed below
        destination = make(FileDestination(file), max_queued=100, block_timeout_s=0.05)
        for number in range(2_000):
            destination({"message_type": "t", "number": number, "text": "x" * 500})
        assert destination.stats()["dropped"] > 1_000
        read = []

        def read_all():
            with open(reading, "rb") as pipe:
                read.extend(pipe)

        reader = threading.Thread(target=read_all)
        reader.start()
        destination.close(60)
        file.close()
        reader.join()
        stats = destination.stats()
        messages = [json.loads(line) for line in read]
        delivered = [m for m in messages if m["message_type"] == "t"]
        assert len(delivered) + stats["dropped"] == 2_000
        assert stats["dropped"] == sum(m.get("dropped", 0) for m in messages)

    def test_report_that_fails(self, make):
        """What was dropped is told later, if it could not be told at once."""
        fails = [True]
        gate = Gate()

        def inner(message):
            if message["message_type"] == "eliot:dropped" and fails:
                fails.pop()
                raise OSError
            gate(message)

        destination = make(inner, max_queued=1, when_full="drop_new")
        fill(destination, gate, 5)
        gate.open.set()
        destination.flush(60)
        destination.close(60)
        assert gate.told() == 3


@posix
@pytest.mark.parametrize(
    "make",
    [
        "FileDestination(path)",
        "BackgroundDestination(FileDestination(path))",
        "RotatingFileDestination(path, max_bytes=10_000_000)",
        "BackgroundDestination(RotatingFileDestination(path, max_bytes=10_000_000))",
    ],
)
def test_disk_full(make, path):
    """What the system took and what was counted is all that was logged, with threads and without.

    The system refuses to let the file grow, as it does when a disk is full: within a line.
    """
    program = f"""
import resource, sys, threading
from eliot_etw import FileDestination
from eliot_etw.destinations import BackgroundDestination, RotatingFileDestination

path = sys.argv[1]
log = {make}
failed = []

def work(first):
    for number in range(first, first + 1000):
        try:
            log({{"n": number, "text": "x" * (number % 300)}})
        except OSError:
            failed.append(number)

def log_all(first):
    threads = [threading.Thread(target=work, args=(first + 1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not hasattr(log, "flush") or log.flush(60)

resource.setrlimit(resource.RLIMIT_FSIZE, (100_001, resource.RLIM_INFINITY))
log_all(0)
counted = [log.stats()["failed"]]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log_all(4000)
log.close()
counted.append(log.stats()["failed"])
inner = getattr(log, "inner", log)
assert inner.stats()["failed"] == counted[1]
assert inner is not log or len(failed) == counted[1]
print(*counted)
"""
    first, last = map(int, run(program, path).stdout.split())
    written = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):  # what there was room for of a line
            written.append(json.loads(line)["n"])
    assert len(set(written)) == len(written)
    assert set(range(4000, 8000)) <= set(written)
    assert first == last > 3000
    assert len(written) + last == 8000


class TestFailures:
    """What the destination inside raises, or logs itself."""

    def test_reported(self, make, messages):
        """The others are told, and it is counted, as if there were no thread in between."""

        def broken(message):
            raise OSError("disk full")

        destination = make(broken)
        add_destinations(destination)
        log_message("t")
        destination.flush(60)
        destination.close(60)
        assert [m["message_type"] for m in messages] == ["t", "eliot:destination_failure"]
        assert messages[1]["reason"] == "disk full"
        assert destination.stats()["failed"] == 1
        assert logging_stats()["destination_failures"] == 1

    def test_of_a_file(self, make, path, messages):
        """Of the lines of a batch, each that could not be written is told of, and no other."""
        file = FileDestination(path)
        destination = make(file)
        add_destinations(destination)
        log_message("good")
        destination.flush(60)
        writable, file._fd = file._fd, os.open(path, os.O_RDONLY)
        log_message("bad", value=1)
        log_message("bad", value=2)
        destination.flush(60)
        os.close(file._fd)
        file._fd = writable
        log_message("good")
        destination.close(60)
        reports = [m for m in messages if m["message_type"] == "eliot:destination_failure"]
        assert ["""'value'": '1'""" in m["message"] for m in reports] == [True, False]
        assert [m["message_type"] for m in lines_of(path)] == ["good", "good"]
        assert file.stats() == {"failed": 2}
        assert destination.stats()["failed"] == 2

    def test_writer_survives(self, make, path, messages, monkeypatch):
        """Whatever a file raises, the writer goes on."""
        file = FileDestination(path)
        destination = make(file)
        add_destinations(destination)
        with monkeypatch.context() as patch:
            patch.setattr(file, "write_lines", None)
            log_message("bad")
            destination.flush(60)
        log_message("good")
        destination.flush(60)
        assert [m["message_type"] for m in lines_of(path)] == ["good"]
        assert "eliot:destination_failure" in [m["message_type"] for m in messages]
        assert destination.stats()["failed"] == 1

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_that_would_end_a_thread(self, make, messages, error):
        """Nor does it end because what is inside, or another destination, wants to end."""
        seen = []

        def ending(message):
            seen.append(message["message_type"])
            if message["message_type"] == "bad":
                raise error

        destination = make(ending)
        add_destinations(destination)
        for kind in ("good", "bad", "good"):
            log_message(kind)
        assert destination.flush(60)
        assert seen == ["good", "bad", "good"]
        stats = destination.stats()
        assert (stats["delivered"], stats["failed"]) == (2, 1)
        destination.close(60)
        # The writer reports it whenever it comes to it: before the last message, or after.
        reports = [m for m in messages if m["message_type"] == "eliot:destination_failure"]
        assert [m["exception"] for m in reports] == [f"builtins.{error.__name__}"]
        with pytest.raises(error):
            destination({"message_type": "bad"})
        assert destination.stats()["failed"] == 2

    def test_interrupted_at_the_end(self, make, path, monkeypatch):
        """What ends the program while the last lines are written has them counted."""
        file = FileDestination(path)
        destination = make(file)

        def refuse(self):
            raise RuntimeError("can't start new thread")

        def interrupt(_lines):
            raise KeyboardInterrupt

        monkeypatch.setattr(threading.Thread, "start", refuse)
        monkeypatch.setattr(destination, "_wake", lambda: None)
        for number in range(5):
            destination({"number": number})
        monkeypatch.setattr(file, "write_lines", interrupt)
        with pytest.raises(KeyboardInterrupt):
            destination.close(60)
        assert destination.stats()["failed"] == 5

    def test_alone(self, make):
        """It may be the only destination: it is told itself, and that is all."""

        def broken(message):
            raise OSError

        destination = make(broken, max_queued=2, block_timeout_s=1000)
        add_destinations(destination)
        log_message("t")
        destination.close(60)
        assert destination.stats()["failed"] == 2
        assert logging_stats()["destination_failures"] == 2

    def test_logs_itself(self, make, messages):
        """What the destination inside logs goes to the others, and not to it again."""
        seen = []

        def chatty(message):
            seen.append(message["message_type"])
            log_message("chat")

        destination = make(chatty)
        add_destinations(destination)
        log_message("t")
        destination.flush(60)
        destination.close(60)
        log_message("late")
        assert seen == ["t", "late"]
        assert [m["message_type"] for m in messages] == ["t", "chat", "late", "chat"]
        assert destination.stats()["dropped_as_reentrant"] == 2


@posix
class TestSignals:
    """Handlers of signals run in the middle of anything."""

    def test_handler_logs(self, make, path):
        """A handler may log, whatever it interrupts: nothing is lost, and nothing hangs."""
        destination = make(FileDestination(path), max_queued=200, block_timeout_s=60)
        add_destinations(destination)
        handled = []

        def handle(*_):
            handled.append(1)
            log_message("handler")

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            for _ in range(20_000):
                log_message("t")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        destination.close(60)
        kinds = Counter(m["message_type"] for m in lines_of(path))
        assert kinds == {"t": 20_000, "handler": len(handled)}

    def test_sigterm_with_a_full_queue(self, tmp_path):
        """A program that ends on SIGTERM tells what it could not deliver in time."""
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        program = """
import signal, sys
from eliot_etw import FileDestination
from eliot_etw.destinations import BackgroundDestination, _wrapper

_wrapper.CLOSE_TIMEOUT_S = 0.1
log = BackgroundDestination(FileDestination(sys.argv[1]), max_queued=500, block_timeout_s=60)
logged = 0

def end(*_):
    print(logged, flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
while True:
    logged += 1
    if log.stats()["queued"] > 490 and log._under_way:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    log({"message_type": "t", "number": logged, "text": "x" * 500})
"""
        with open(os.open(fifo, os.O_RDWR), "rb", buffering=0):  # nobody reads
            reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            result = run(program, fifo)
            # The line that was under way may be there in part.
            read = os.read(reading, 1 << 20)
            os.close(reading)
        logged = int(result.stdout)
        words = result.stderr.split()
        dropped = int(words[words.index("dropped,") - 1])
        under_way = int(words[words.index("under") - 1])
        assert under_way == 1
        # The message in the call that was interrupted was counted, but not queued.
        assert read.count(b"\n") + dropped + under_way + 1 == logged


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
class TestForks:
    """Parent and child have the file in common, and nothing else."""

    def test_under_load(self, path):
        """While threads log, children are forked that log: each message is there once."""
        program = """
import os, sys, threading
from eliot_etw import FileDestination
from eliot_etw.destinations import BackgroundDestination

log = BackgroundDestination(FileDestination(sys.argv[1]), block_timeout_s=60)
go_on = True

def work(thread):
    number = 0
    while go_on or number < 1000:
        log({"who": f"thread {thread}", "number": number})
        number += 1
    counts[thread] = number

counts = {}
threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
for thread in threads:
    thread.start()
for child in range(20):
    pid = os.fork()
    if pid == 0:
        for number in range(50):
            log({"who": f"child {child}", "number": number})
        log.close(60)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
go_on = False
for thread in threads:
    thread.join()
log.close(60)
print(counts[0], counts[1])
"""
        logged = [int(count) for count in run(program, path).stdout.split()]
        seen = {}
        for message in lines_of(path):
            seen.setdefault(message["who"], []).append(message["number"])
        expected = {f"thread {n}": list(range(count)) for n, count in enumerate(logged)}
        expected |= {f"child {n}": list(range(50)) for n in range(20)}
        assert expected == seen

    @posix
    def test_without_pythons_knowing(self, path):
        """Servers in C fork so: what the child logs is there at its end, or before."""
        program = """
import os, sys
from eliot_etw import FileDestination
from eliot_etw.destinations import BackgroundDestination

log = BackgroundDestination(FileDestination(sys.argv[1]), max_queued=100)
def fork():
    # As if Python's hooks were not called, without leaving Python itself in pieces.
    log._forget = lambda: None
    child = os.fork()
    del log._forget
    return child

log({"who": "parent"})
assert log.flush(60)
child = fork()
if child == 0:
    for number in range(60):
        log({"who": "child", "number": number})
    assert log.flush(60)
    for number in range(60, 65):
        log({"who": "child", "number": number})
    grandchild = fork()
    if grandchild == 0:
        log({"who": "grandchild"})
    else:
        assert os.waitpid(grandchild, 0)[1] == 0
else:
    assert os.waitpid(child, 0)[1] == 0
"""
        run(program, path)
        messages = lines_of(path)
        numbers = Counter(m["number"] for m in messages if m["who"] == "child")
        # What was queued at such a fork may be there twice.
        assert numbers.keys() == set(range(65))
        assert [m["who"] for m in messages if m["who"] != "child"] == ["parent", "grandchild"]

    def test_meanwhile(self, make):
        """After the end there is no writer: what is logged while a fork waits comes after it."""
        memory = MemoryDestination()
        destination = make(memory)
        destination.close(60)
        _fork_lock._before_fork()
        destination({"number": 1})
        assert not memory.messages
        _fork_lock._after_fork_in_parent()
        assert memory.messages == [{"number": 1}]

    @pytest.mark.parametrize("what", ["message", "report"])
    def test_by_what_is_inside(self, what):
        """A destination may fork while it is called in the thread that logs, and return twice."""
        if not hasattr(os, "fork"):
            pytest.skip("this system has no fork()")
        run_forking(
            """
            import sys
            from eliot_etw.destinations import BackgroundDestination

            children, seen = [], []

            def inner(message):
                seen.append(message["message_type"])
                if message["message_type"] == sys.argv[1] and not children:
                    children.append(os.fork())

            destination = BackgroundDestination(inner)
            destination.close(60)
            if sys.argv[1] == "eliot:dropped":
                destination._dropped.add()
            destination({"message_type": "message"})
            is_child = children == [0]
            if not is_child:
                assert os.waitpid(children[0], 0)[1] == 0
            destination({"message_type": "last"})
            assert destination.flush(60)
            assert seen[-1] == "last"
            assert destination._delivering.take()
            if is_child:
                os._exit(0)
            """,
            "eliot:dropped" if what == "report" else what,
        )

    @posix
    def test_counts_begin_anew(self, path):
        """What is counted is what happened in this process."""
        program = """
import sys
from eliot_etw import FileDestination
from eliot_etw.destinations import BackgroundDestination

log = BackgroundDestination(FileDestination(sys.argv[1]))

def work():
    assert log.stats()["delivered"] == 0
    log({"message_type": "t"})
    log.close(60)
    assert log.stats()["delivered"] == 1

for _ in range(2):
    log({"message_type": "t"})
assert log.flush(60)
in_child(work)
assert log.stats()["delivered"] == 2
"""
        run_forking(program, path)

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_multiprocessing(self, tmp_path, method):
        """What a process of multiprocessing logs is there when it has ended."""
        program = tmp_path / "program.py"
        program.write_text(
            """
import multiprocessing, sys
from eliot_etw import FileDestination
from eliot_etw.destinations import BackgroundDestination

log = BackgroundDestination(FileDestination(sys.argv[1]))

def work(number):
    for _ in range(100):
        log({"number": number})

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    processes = [context.Process(target=work, args=(n,)) for n in range(3)]
    log({"number": -1})
    for process in processes:
        process.start()
    for process in processes:
        process.join()
"""
        )
        path = tmp_path / "log"
        subprocess.run([sys.executable, program, path, method], check=True, timeout=120)
        counts = Counter(message["number"] for message in lines_of(path))
        assert counts == {-1: 1, 0: 100, 1: 100, 2: 100}


class TestEnd:
    """The end of the destination, and of the program."""

    def test_close(self, make, path):
        """What is queued is written; the file is closed; what comes later is a failure."""
        file = FileDestination(path)
        destination = make(file)
        add_destinations(destination)
        with start_action(action_type="a"):
            pass
        destination.close(60)
        destination.close(60)
        log_message("late")
        assert len(lines_of(path)) == 2
        assert destination.stats()["failed"] == 2  # the message, and the report of its failure

    def test_close_gives_up(self, make, capsys):
        """It waits no longer than it may, and tells what is lost then."""
        gate = Gate()
        destination = make(gate)
        fill(destination, gate, 5)
        destination.close(timeout_s=0.05)
        assert destination.stats() == {
            "queued": 1, "delivered": 0, "failed": 0, "dropped": 4, "dropped_as_reentrant": 0,
        }  # fmt: skip
        assert "4 dropped, 1 under way" in capsys.readouterr().err
        gate.open.set()
        assert destination.flush(60)
        destination({"message_type": "t", "number": 5})
        assert destination.flush(60)
        assert sorted(gate.numbers()) == [0, 5]

    def test_flush_gives_up(self, make):
        """It says that not all was delivered."""
        gate = Gate()
        destination = make(gate)
        fill(destination, gate, 1)
        assert not destination.flush(timeout_s=0.01)
        gate.open.set()
        assert destination.flush(60)

    def test_of_the_program(self, path):
        """What was logged is there when the program has ended, also what is logged at its end."""
        program = """
import atexit, sys
from eliot_etw import to_file, add_destinations, log_message, FileDestination

atexit.register(lambda: log_message("last"))
from eliot_etw.destinations import BackgroundDestination, LevelFilter

add_destinations(LevelFilter(BackgroundDestination(FileDestination(sys.argv[1]))))
for number in range(1000):
    log_message("t")
"""
        result = run(program, path)
        assert result.stderr == ""
        assert Counter(m["message_type"] for m in lines_of(path)) == {"t": 1000, "last": 1}

    def test_clock_set_back(self, make, monkeypatch):
        """Nothing depends on the time of day."""
        gate = Gate()
        times = iter(range(10**9, 0, -(10**6)))
        monkeypatch.setattr(_queued, "time", lambda: float(next(times)))
        destination = make(gate, max_queued=1, block_timeout_s=0.01)
        fill(destination, gate, 5)
        gate.open.set()
        destination.close(60)
        assert (len(gate.numbers()), gate.told()) == (2, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_queued": 0}, "max_queued must be at least 1, got 0"),
        ({"when_full": "wait"}, "when_full must be one of .*, got 'wait'"),
        ({"block_timeout_s": -1}, "block_timeout_s must be 0 or more, got -1"),
        ({"block_timeout_s": float("nan")}, "block_timeout_s must be 0 or more, got nan"),
        ({"block_timeout_s": float("inf")}, "block_timeout_s must be 0 or more, got inf"),
    ],
)
def test_refuses(options, words):
    """Options that make no sense are refused at once."""
    with pytest.raises(ValueError, match=words):
        BackgroundDestination(print, **options)


def together(work, count):
    """Run a function in so many threads."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
