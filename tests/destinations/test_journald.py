"""Tests of the journal as a destination, with a real systemd-journald."""

import json
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from eliot_etw import add_destinations, log_message, start_action
from eliot_etw.destinations import FileDestination, JournaldDestination
from eliot_etw.sources import FileSource, JournalSource
from tests import _journal
from tests.test_hostile_values import HOSTILE

ROOT = Path(__file__).resolve().parents[2]
PLACE = {"task_uuid": "u", "task_level": [1], "timestamp": 1.5}
identifiers = map("test-{}".format, count())


@pytest.fixture
def journal():
    """Return a journal of the test's own, to which anything may happen."""
    with closing(_journal.start()) as journal:
        yield journal


class Log:
    """A destination, and what has become of what was logged to it."""

    def __init__(self, journal, **options):
        self.journal = journal
        self.identifier = next(identifiers)
        self.destination = JournaldDestination(
            socket_path=journal.socket_path, identifier=self.identifier, **options
        )
        self.numbers = count()
        self.logged = []
        self.failed = []

    def log(self, messages=1, **fields):
        """Log so many messages."""
        for _ in range(messages):
            number = next(self.numbers)
            self.logged.append(number)
            try:
                self.destination({"message_type": "t", "n": number, **fields, **PLACE})
            except OSError as error:
                self.failed.append((number, error))

    @contextmanager
    def in_threads(self, threads):
        """Log in several threads at once, for as long as the block takes."""
        is_over = threading.Event()

        def log_on():
            while not is_over.is_set():
                self.log()

        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(log_on) for _ in range(threads)]
            try:
                yield
            finally:
                is_over.set()
        for future in running:
            future.result()

    def delivered(self):
        """Return the numbers of the messages that are in the journal."""
        self.journal.sync()
        source = JournalSource(directory=self.journal.logs, identifier=self.identifier)
        return [message["n"] for message in source]

    def entries(self):
        """Return what is in the journal, field by field."""
        return entries(self.journal, f"SYSLOG_IDENTIFIER={self.identifier}")

    def lost(self):
        """Return how many messages are neither in the journal nor counted; checks the others."""
        delivered, failed = self.delivered(), {number for number, _ in self.failed}
        assert self.destination.stats()["failed"] == len(self.failed)
        assert len(set(delivered)) == len(delivered)
        assert failed.isdisjoint(delivered)
        return len(self.logged) - len(delivered) - len(failed)


@contextmanager
def alarms(interval_s, handle):
    """Have a signal handled again and again."""
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, interval_s, interval_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def entries(journal, *matches):
    """Return what is in a journal, field by field."""
    journal.sync()
    output = journal.run("journalctl", "--output=json", "--all", "--quiet", *matches)
    return list(map(json.loads, output.splitlines()))


@pytest.fixture
def log():
    """Return a log in the journal that all tests share."""
    log = Log(_journal.shared())
    yield log
    log.destination.close()


def written(message, **options):
    """Write one message, and return its entry."""
    log = Log(_journal.shared(), **options)
    log.destination(message)
    log.destination.close()
    [entry] = log.entries()
    return entry


class TestEntry:
    """What is in an entry."""

    def test_fields(self):
        """Message, task, type, program and priority each have a field, as Eliot has it."""
        message = {"message_type": "app:hello", "x": "é", **PLACE}
        entry = written(message)
        assert json.loads(entry["MESSAGE"]) == message
        assert (entry["ELIOT_TASK"], entry["ELIOT_TYPE"]) == ("u", "app:hello")
        assert entry["PRIORITY"] == "6"
        assert entry["_TRANSPORT"] == "journal"
        assert entry["_PID"] == str(os.getpid())

    def test_identifier(self, monkeypatch):
        """It is the name of the program, if nothing else is said."""
        journal = _journal.shared()
        monkeypatch.setattr(sys, "argv", ["/usr/bin/the-program"])
        with closing(JournaldDestination(socket_path=journal.socket_path)) as destination:
            destination(PLACE)
        assert len(entries(journal, "SYSLOG_IDENTIFIER=the-program")) == 1

    @pytest.mark.parametrize(
        ("priority", "message"),
        [
            ("6", {"action_type": "a", "action_status": "started"}),
            ("6", {"action_type": "a", "action_status": "succeeded"}),
            ("3", {"action_type": "a", "action_status": "failed"}),
            ("2", {"message_type": "eliot:traceback"}),
            ("2", {"message_type": "t", "log_level": "CRITICAL"}),
            ("3", {"message_type": "t", "log_level": 40}),
            ("4", {"message_type": "t", "log_level": "warning"}),
            ("6", {"message_type": "t", "log_level": "info"}),
            ("7", {"message_type": "t", "log_level": 10}),
            ("6", {"message_type": "t", "log_level": ["odd"]}),
            ("6", {}),
        ],
    )
    def test_priority(self, log, priority, message):
        """It says how grave the message is, the second time as the first."""
        log.destination({**message, **PLACE})
        log.destination({**message, **PLACE})
        assert [entry["PRIORITY"] for entry in log.entries()] == [priority, priority]

    def test_kinds_do_not_mix(self, log):
        """What is kept for one kind of message is not used for another."""
        kinds = [
            {"message_type": "t"},
            {"action_type": "t"},
            {"message_type": "t", "log_level": "failed"},
            {"action_type": "t", "action_status": "failed"},
            {"message_type": "eliot:traceback"},
            {"action_type": "eliot:traceback"},
        ]
        for message in kinds + kinds:
            log.destination({**message, **PLACE})
        assert [entry["PRIORITY"] for entry in log.entries()] == list("666326") * 2

    @pytest.mark.parametrize("kind", [None, 7, ["x"], "a\nb", "\ud800", ""])
    def test_odd_type(self, log, kind):
        """A type of any kind has its text as the field, or none."""
        log.destination({"message_type": kind, **PLACE})
        text = "" if kind is None else str(kind).replace("\ud800", "\\ud800")
        assert log.entries()[0]["ELIOT_TYPE"] == text

    @pytest.mark.parametrize("task", [7, ["x"], "a\nPRIORITY=0", "\ud800"])
    def test_odd_task(self, log, task):
        """A task of any kind has its text as the field, and cannot bring in another."""
        log.destination({**PLACE, "task_uuid": task})
        [entry] = log.entries()
        assert entry["ELIOT_TASK"] == str(task).replace("\ud800", "\\ud800")
        assert entry["PRIORITY"] == "6"

    def test_many_types(self, log):
        """Any number of types is written rightly, though not all are kept."""
        types = [*map("t{}".format, range(1100)), "x" * 100_000]
        for kind in types[::-1]:
            log.destination({"message_type": kind, **PLACE})
        assert types[::-1] == [entry["ELIOT_TYPE"] for entry in log.entries()]
        assert sum(map(len, log.destination._kinds.values())) < 100_000

    @pytest.mark.parametrize("size", [100, 200_000, 500_000, 10_000_000])
    def test_size(self, log, size):
        """An entry of any size arrives, though a datagram has a limit."""
        log.log(text="x" * size)
        assert log.lost() == 0
        assert log.failed == []

    def test_nothing_is_left_open(self, log):
        """The file of a large entry is closed, also if the journal does not take it."""
        log.log(1, text="x" * 1_000_000)
        before = os.listdir("/proc/self/fd")
        log.log(10, text="x" * 1_000_000)
        log.destination.close()
        log.log(10, text="x" * 1_000_000)
        assert len(os.listdir("/proc/self/fd")) == len(before) - 1

    def test_default_timeout(self):
        """A program's own default for sockets is none for this one."""
        socket.setdefaulttimeout(1e-9)
        try:
            log = Log(_journal.shared())
        finally:
            socket.setdefaulttimeout(None)
        log.log(100)
        log.destination.close()
        assert (log.lost(), log.failed) == (0, [])

    def test_values_of_ones_own(self):
        """What JSON does not know is converted as the user says."""
        entry = written({"x": {1}, **PLACE}, json_default=lambda value: f"{len(value)} in a set")
        assert json.loads(entry["MESSAGE"])["x"] == "1 in a set"


@pytest.mark.parametrize("options", [{}, {"sentences": True, "index_fields": True}])
def test_hostile_values(tmp_path, options):
    """Whatever is logged arrives as a file has it."""
    log, file = Log(_journal.shared(), **options), FileDestination(tmp_path / "log")
    for make in HOSTILE.values():
        value = make()
        for fields in ({"v": value}, {"message_type": value}, {"log_level": value}):
            log.destination({**fields, **PLACE})
            file({**fields, **PLACE})
    log.destination.close()
    file.close()
    journal = log.journal
    journal.sync()
    found = list(JournalSource(directory=journal.logs, identifier=log.identifier))
    assert repr(found) == repr(list(FileSource(tmp_path / "log")))
    assert len(found) == 3 * len(HOSTILE)


class TestOptions:
    """Lines for people, and indexed fields."""

    def test_sentence(self):
        """MESSAGE is for people, and the message is in ELIOT_MESSAGE."""
        message = {"message_type": "shop:paid", "amount": 3, **PLACE}
        entry = written(message, sentences=True)
        assert entry["MESSAGE"] == "shop:paid amount=3"
        assert json.loads(entry["ELIOT_MESSAGE"]) == message

    def test_indexed(self):
        """Each field of the message is one of the entry; of its place, it has its own."""
        message = {"message_type": "t", "user-id": 7, "text": "a\nb\0c", "message": "m", **PLACE}
        entry = written(message, index_fields=True)
        assert (entry["USER_ID"], entry["FIELD_MESSAGE"]) == ("7", "m")
        assert bytes(entry["TEXT"]) == b"a\nb\0c"
        assert json.loads(entry["MESSAGE"]) == message
        assert entry.keys().isdisjoint({"TASK_UUID", "TASK_LEVEL", "TIMESTAMP", "MESSAGE_TYPE"})

    def test_as_many_as_the_journal_takes(self):
        """A message with too many fields arrives; the first of them are indexed."""
        entry = written({**{f"f{n}": n for n in range(2000)}, **PLACE}, index_fields=True)
        assert len([name for name in entry if name.startswith("F")]) == 500
        assert json.loads(entry["MESSAGE"])["f1999"] == 1999

    def test_names_that_become_the_same(self):
        """They are two values of one field."""
        assert written({"a-b": 1, "a b": 2, **PLACE}, index_fields=True)["A_B"] == ["1", "2"]


class TestConstructor:
    """What is wrong is said when it is set up."""

    def test_no_journal(self, tmp_path):
        """Without a journal it says what to do."""
        _journal.shared()
        with pytest.raises(FileNotFoundError, match=r"Start systemd-journald, .* FileDestination"):
            JournaldDestination(socket_path=tmp_path / "socket")

    @pytest.mark.parametrize(
        ("system", "instead"), [("win32", "EtwDestination"), ("darwin", "FileDestination")]
    )
    def test_other_systems(self, monkeypatch, system, instead):
        """Elsewhere than on Linux it says what it needs, and what to use there."""
        monkeypatch.setattr(sys, "platform", system)
        with pytest.raises(OSError, match=f"needs Linux, this is {system}.*{instead}"):
            JournaldDestination()

    def test_both_ways_to_name_a_journal(self):
        """A namespace and a path are one too many."""
        with pytest.raises(ValueError, match="must not both be given"):
            JournaldDestination(namespace="x", socket_path="/y")

    @pytest.mark.parametrize("wait", [0, -1, 0.0001, float("nan"), float("inf")])
    def test_no_time_to_wait(self, wait):
        """It cannot wait for less than a thousandth of a second, nor for ever."""
        with pytest.raises(ValueError, match=r"max_wait_s must be 0\.001 or more"):
            JournaldDestination(max_wait_s=wait)

    def test_namespace(self):
        """A namespace has a journal of its own, at a place of its own."""
        program = (
            "from eliot_etw.destinations import JournaldDestination\n"
            f"JournaldDestination(namespace='shop', identifier='x')({PLACE})"
        )
        with closing(_journal.start("shop")) as journal:
            journal.run(sys.executable, "-c", program)
            journal.sync()
            listed = journal.run(
                sys.executable,
                "-c",
                "from eliot_etw.sources import JournalSource\n"
                "print(list(JournalSource(namespace='shop', identifier='x')))",
            )
        assert eval(listed) == [PLACE]


class TestFaults:
    """Whatever happens to the journal: what was logged was delivered, or is counted."""

    def test_restart(self, journal):
        """Nothing is lost while the daemon is restarted: its sockets wait."""
        log = Log(journal)
        log.log(100)
        journal.end()
        log.log(100)
        journal.start()
        log.log(100)
        assert (log.lost(), log.failed) == (0, [])

    def test_killed(self, journal):
        """Nor if it is killed, having written what it had."""
        log = Log(journal)
        log.log(100)
        journal.sync()
        journal.end(signal.SIGKILL)
        log.log(100)
        journal.start()
        log.log(100)
        assert (log.lost(), log.failed) == (0, [])

    def test_restarts_under_load(self, journal):
        """Restarted again and again, while several threads log, it loses nothing uncounted."""
        log = Log(journal, max_wait_s=0.01)
        with log.in_threads(4):
            for _ in range(3):
                journal.end()
                journal.start()
        log.log(10)
        assert log.lost() == 0

    def test_killed_under_load(self, journal):
        """Killed, it may lose the entry in its hands each time, which nobody else knows of."""
        log = Log(journal, max_wait_s=0.01)
        with log.in_threads(4):
            for _ in range(3):
                journal.end(signal.SIGKILL)
                journal.start()
        log.log(10)
        assert 0 <= log.lost() <= 3

    def test_socket_gone(self, journal):
        """Without its socket, messages are lost at once; when it is back, so are they."""
        log = Log(journal)
        log.log(10)
        journal.sync()
        journal.end()
        journal.remove_sockets()
        log.log(10)
        assert [number for number, _ in log.failed] == list(range(10, 20))
        assert {type(error) for _, error in log.failed} == {FileNotFoundError}
        journal.make_sockets()
        journal.start()
        log.log(10)
        assert log.lost() == 0
        assert log.destination.stats() == {"failed": 10, "full": 0}

    def test_back_with_a_large_entry(self, journal):
        """It finds its way back also if the first message then is one for a file."""
        log = Log(journal)
        log.log(10)
        journal.sync()
        journal.end()
        journal.remove_sockets()
        journal.make_sockets()
        journal.start()
        log.log(1, text="x" * 1_000_000)
        assert (log.lost(), log.failed) == (0, [])

    def test_full(self, journal):
        """While it takes nothing, what finds no room is lost, after waiting once in all."""
        log = Log(journal, max_wait_s=0.1)
        journal.stop()
        log.log(20_000)  # would take half an hour, if each waited
        assert len(log.failed) > 19_000
        journal.go_on()
        assert log.lost() == 0
        before = len(log.failed)
        log.log(10)
        assert log.lost() == 0
        assert len(log.failed) == before
        assert log.destination.stats() == {"failed": before, "full": before}

    def test_full_for_large_entries(self, journal):
        """The same for entries that go through files."""
        log = Log(journal, max_wait_s=0.1)
        journal.stop()
        log.log(600, text="x" * 600_000)
        assert log.failed
        journal.go_on()
        assert log.lost() == 0

    def test_full_under_threads(self, journal):
        """With eight threads that find it full, none is lost uncounted."""
        log = Log(journal, max_wait_s=0.01)
        with log.in_threads(8):
            journal.stop()
            log.log(1000)
            journal.go_on()
        assert log.failed
        assert log.lost() == 0

    def test_full_for_a_moment(self, journal):
        """A journal that is only slow loses nothing, however large the entries are."""
        log = Log(journal, max_wait_s=30)
        stopping = threading.Event()

        def slow_down():
            while not stopping.wait(0.002):
                journal.stop()
                stopping.wait(0.02)
                journal.go_on()

        slow = threading.Thread(target=slow_down)
        slow.start()
        try:
            log.log(2_000)
            log.log(100, text="x" * 140_000)
            log.log(100, text="x" * 600_000)
        finally:
            stopping.set()
            slow.join()
        assert (log.lost(), log.failed) == (0, [])

    def test_full_under_signals(self, journal):
        """Signals that come again and again, as a profiler's do, do not have it wait for ever."""
        log = Log(journal, max_wait_s=0.05)
        journal.stop()
        with alarms(0.01, lambda *_: None):
            log.log(2_000)
        journal.go_on()
        assert log.failed
        assert log.lost() == 0

    def test_interrupted_while_it_waits(self, journal):
        """A message whose call is ended by what a signal's handler raises is counted."""
        log = Log(journal, max_wait_s=60)
        journal.stop()
        with pytest.raises(ZeroDivisionError), alarms(0.5, lambda *_: 1 / 0):
            log.log(20_000)
        log.failed.append((log.logged[-1], None))
        journal.go_on()
        assert log.lost() == 0

    def test_disk_full(self, journal):
        """A full disk does not disturb the program; when there is room, messages arrive again."""
        journal.run("mount", "-t", "tmpfs", "-o", "size=24m", "none", "/run/log/journal")
        journal.end()
        journal.start()
        journal.run("sh", "-c", "cat /dev/zero > /run/log/journal/fill 2>&1 || true")
        log = Log(journal, max_wait_s=60)
        log.log(300, text="".join(map(str, range(30_000))))
        journal.run("rm", "/run/log/journal/fill")
        log.log(1, text="at last")
        assert log.failed == []
        assert '"text":"at last"' in log.entries()[-1]["MESSAGE"]

    def test_reported(self, journal):
        """A program never notices, and its other destinations are told."""
        log, messages = Log(journal), []
        add_destinations(log.destination, messages.append)
        journal.end()
        journal.remove_sockets()
        with start_action(action_type="a"):
            log_message("t")
        kinds = [message.get("message_type") for message in messages]
        assert kinds.count("eliot:destination_failure") == 3

    def test_closed_by_a_daemon(self, log):
        """A program that closes all files, as daemons do, goes on logging."""
        log.log()
        os.close(log.destination._socket._socket.fileno())
        log.log()
        assert (log.lost(), log.failed) == (0, [])

    def test_taken_by_another_file(self, log):
        """If another file has got the number of the socket, it gets nothing."""
        log.log()
        with open(os.devnull) as other:
            os.dup2(other.fileno(), log.destination._socket._socket.fileno())
            number = log.destination._socket._socket.fileno()
        log.log()
        os.close(number)
        assert (log.lost(), log.failed) == (0, [])

    def test_closed(self, log):
        """After `close`, messages are failures, and nothing is opened again."""
        log.destination.close()
        log.destination.close()
        log.log(3)
        assert (len(log.failed), log.lost()) == (3, 0)


FORKING = """
import os, sys
from eliot_etw import add_destinations, log_message, start_action
from eliot_etw.destinations import JournaldDestination

destination = JournaldDestination(identifier="forking")
add_destinations(destination)
with start_action(action_type="parent"):
    children = []
    for child in range(4):
        log_message("before", n=child)
        pid = os.fork()
        if pid == 0:
            for number in range(500):
                log_message("child", n=number)
            os._exit(destination.stats()["failed"])
        children.append(pid)
    for number in range(500):
        log_message("parent", n=number)
    lost = [os.waitpid(pid, 0)[1] for pid in children]
print(sum(lost) + destination.stats()["failed"])
"""


class TestProcesses:
    """Forked processes, which have the socket in common."""

    def test_fork_under_load(self, journal):
        """All log at once; nothing is lost, and the journal knows who wrote what."""
        lost = journal.run(sys.executable, "-c", FORKING)
        found = entries(journal, "SYSLOG_IDENTIFIER=forking")
        assert lost == "0\n"
        assert len(found) == 2 + 4 + 4 * 500 + 500
        kinds = {(entry["ELIOT_TYPE"], entry["_PID"]) for entry in found}
        assert len({pid for kind, pid in kinds if kind == "child"}) == 4
        assert len({pid for kind, pid in kinds if kind != "child"}) == 1
