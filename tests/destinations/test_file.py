"""Tests of the JSON file: every message one whole line, in one write, whatever happens."""

import ctypes
import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from itertools import count
from pathlib import Path

import orjson
import pytest

from eliot_etw import (
    FileDestination,
    Logger,
    add_destinations,
    log_message,
    remove_destination,
    start_action,
    to_file,
)
from eliot_etw.json import EliotJSONEncoder
from tests._programs import run

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")

KINDS = ["path", "raw", "buffered", "text"]


def open_as(kind, path):
    """Make what a destination may be given for a file."""
    return {
        "path": lambda: path,
        "raw": lambda: path.open("ab", buffering=0),
        "buffered": lambda: path.open("ab"),
        "text": lambda: path.open("a", encoding="utf-8"),
    }[kind]()


@pytest.fixture
def path(tmp_path):
    """Return where the log of the test is to be."""
    return tmp_path / "test.log"


@pytest.fixture(params=KINDS)
def logged(request, path):
    """Log to the file in each way, and return what reads it."""
    file = open_as(request.param, path)
    destination = FileDestination(file)
    add_destinations(destination)
    yield lambda: lines_of(path)
    destination.close()
    if file is not path:
        file.close()


def lines_of(path):
    """Read a log as Python's json and as orjson read it; both must understand every line."""
    lines = Path(path).read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    for line in lines:
        orjson.loads(line)
    return [json.loads(line) for line in lines]


def types_of(messages):
    """Return the message types, in order."""
    return [message.get("message_type") for message in messages]


def failures():
    """Count the destinations' failures."""
    return Logger._destinations.stats()["destination_failures"]


class Sink:
    """Somebody's own class of files: it has just what is needed."""

    def __init__(self, takes):
        self.takes = takes
        self.written = takes()
        self.flushed = None

    def write(self, data):
        if not isinstance(data, self.takes):
            raise TypeError(data)
        self.written += data

    def flush(self):
        self.flushed = self.written


class TestLines:
    """What is in the file."""

    def test_one_line_each(self, logged):
        """Each message is a line, there at once, in the order of logging."""
        log_message("t", x="é\n")
        assert [("t", "é\n")] == [(m["message_type"], m["x"]) for m in logged()]
        log_message("u")
        assert types_of(logged()) == ["t", "u"]

    def test_appended(self, path):
        """What is in the file stays there."""
        path.write_text('{"message_type":"old"}\n')
        to_file(path)
        log_message("new")
        assert types_of(lines_of(path)) == ["old", "new"]

    def test_message_is_left_alone(self, path):
        """The message is not changed, also when it is hard to write."""
        message = {"big": 2**70, "set": {1}, 3: [4]}
        FileDestination(path)(message)
        assert message == {"big": 2**70, "set": {1}, 3: [4]}

    def test_path_as_text(self, path, monkeypatch):
        """A path may be text; it is that of the moment when the destination is made."""
        monkeypatch.chdir(path.parent)
        destination = FileDestination("test.log")
        monkeypatch.chdir("/")
        destination.reopen()
        destination({"message_type": "t"})
        assert types_of(lines_of(path)) == ["t"]

    def test_default_function(self, path):
        """A default function of one's own converts values."""
        to_file(path, json_default=lambda value: {"mine": str(type(value).__name__)})
        log_message("t", x=ValueError())
        assert lines_of(path)[0]["x"] == {"mine": "ValueError"}

    def test_default_function_that_raises(self, path):
        """If it raises, the repr is written, and that is no failure."""
        destination = FileDestination(path, json_default=lambda value: 1 / 0)
        destination({"x": ValueError("no")})
        assert lines_of(path) == [{"x": "ValueError('no')"}]
        assert destination.stats() == {"failed": 0}

    def test_interrupt_of_the_default_function(self, path):
        """Ctrl-C while a value is converted is the program's: it passes, and only once."""
        interrupts = [KeyboardInterrupt]

        def default(value):
            raise interrupts.pop()

        to_file(path, json_default=default)
        with pytest.raises(KeyboardInterrupt):
            log_message("t", x=ValueError())
        log_message("u", x=ValueError("no"))
        assert [m["x"] for m in lines_of(path)] == ["ValueError('no')"]
        assert failures() == 0

    def test_encoder(self, path):
        """An encoder class converts values, as in older programs."""

        class Encoder(EliotJSONEncoder):
            def default(self, o):
                return "mine" if isinstance(o, ValueError) else super().default(o)

        to_file(path, Encoder)
        log_message("t", x=[ValueError(), {7}])
        assert lines_of(path)[0]["x"] == ["mine", [7]]


class TestOneWrite:
    """One system call per message."""

    @posix
    @pytest.mark.parametrize("kind", KINDS[1:])
    def test_file(self, kind):
        """Each message reaches the system in one write, with nothing before or after it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours, theirs, open_as(kind, Descriptor(theirs.fileno())) as file:
            to_file(file)
            self.check(lambda: ours.recv(1 << 20))

    @linux
    def test_path(self, path):
        """The same for a file that the destination opened itself."""
        import fcntl

        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        destination = FileDestination(path)
        add_destinations(destination)
        # Each write to such a pipe can be told from the next one.
        fcntl.fcntl(destination._fd, fcntl.F_SETFL, os.O_DIRECT)
        self.check(lambda: os.read(reader, 1 << 20))
        destination.close()
        os.close(reader)

    @staticmethod
    def check(read_one):
        """Log messages easy and hard to write, and see that each came in one piece."""
        log_message("easy")
        log_message("hard", big=2**70)
        assert types_of(map(json.loads, (read_one(), read_one()))) == ["easy", "hard"]

    @linux
    def test_long_line(self, tmp_path):
        """A line longer than any buffer is one write, too."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, open(theirs.fileno(), "wb", closefd=False) as file:
            to_file(file)
            log_message("t", x="x" * 100_000)
            assert len(json.loads(ours.recv(1 << 20))["x"]) == 100_000


class Descriptor:
    """Lets a descriptor be opened as a path is."""

    def __init__(self, fd):
        self.fd = fd

    def open(self, mode, buffering=-1, encoding=None):
        return open(self.fd, mode.replace("a", "w"), buffering, encoding, closefd=False)


class TestFilesOfManyKinds:
    """What may be given for a file."""

    def test_text_in_memory(self):
        """A text file in memory gets text."""
        file = io.StringIO()
        to_file(file)
        log_message("t", x="é")
        assert json.loads(file.getvalue())["x"] == "é"

    def test_bytes_in_memory(self):
        """A binary file in memory gets bytes."""
        file = io.BytesIO()
        to_file(file)
        log_message("t", x="é")
        assert json.loads(file.getvalue())["x"] == "é"

    @pytest.mark.parametrize("takes", [str, bytes])
    def test_own_class(self, takes):
        """An object with write() and flush() will do; it is flushed after every message."""
        file = Sink(takes)
        to_file(file)
        log_message("t")
        assert types_of([json.loads(file.flushed)]) == ["t"]

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "utf-8-sig"])
    def test_any_encoding(self, path, encoding):
        """A text file that does not know a character gets it as an escape of JSON."""
        with path.open("w", encoding=encoding) as file:
            to_file(file)
            log_message("t", x='é\u4e2d\U0001f600\\"', é=1)
            log_message("u")
        first, second = path.read_text(encoding).splitlines()
        assert ('é\u4e2d\U0001f600\\"', 1) == (json.loads(first)["x"], json.loads(first)["é"])
        assert types_of([json.loads(second)]) == ["u"]

    def test_universal_newlines(self, path):
        """A text file ends its lines as the program asked for."""
        with path.open("w", encoding="ascii", newline="\r\n") as file:
            to_file(file)
            log_message("t")
        assert path.read_bytes().endswith(b"}\r\n")

    def test_write_that_logs(self):
        """What a file's own `write` logs goes to the other destinations: no recursion."""

        class Logging(io.StringIO):
            def write(self, text):
                log_message("from within")
                return super().write(text)

        file = Logging()
        to_file(file)
        log_message("t")
        assert types_of([json.loads(file.getvalue())]) == ["t"]
        assert Logger._destinations.stats()["dropped_as_reentrant"] == 1

    @pytest.mark.parametrize("kind", KINDS[1:])
    def test_order_with_own_output(self, path, kind):
        """What the program itself writes to the file keeps its place among the messages."""
        with open_as(kind, path) as file:
            to_file(file)
            own = "own\n" if kind == "text" else b"own\n"
            file.write(own)
            log_message("t")
            file.write(own)
        lines = path.read_text().splitlines()
        assert [lines[0], lines[2]] == ["own", "own"]
        assert types_of([json.loads(lines[1])]) == ["t"]

    @pytest.mark.parametrize("mode", ["r", "rb"])
    def test_not_for_writing(self, path, mode):
        """A file that is open for reading is refused, with words that say how to open it."""
        path.touch()
        with path.open(mode) as file, pytest.raises(RuntimeError, match=r"must be open for writ"):
            FileDestination(file)

    @pytest.mark.parametrize("file", [None, 7, object(), print])
    def test_no_file(self, file):
        """What is no file at all is refused with the same words."""
        with pytest.raises(RuntimeError, match=r"must be open for writing, got .* mode 'ab'"):
            FileDestination(file)

    def test_no_flush(self):
        """A file that cannot be flushed is refused: its lines might stay in memory."""

        class NoFlush:
            def write(self, data):
                pass

        with pytest.raises(RuntimeError, match=r"must be open for writing, got .*NoFlush"):
            FileDestination(NoFlush())

    @pytest.mark.parametrize("file", [io.StringIO(), io.BytesIO()])
    def test_closed_file(self, file):
        """A file that is closed already is refused."""
        file.close()
        with pytest.raises(RuntimeError, match="must be open for writing"):
            FileDestination(file)

    def test_no_such_folder(self, tmp_path):
        """A path that cannot be opened is an error at once, not when something is logged."""
        with pytest.raises(FileNotFoundError):
            to_file(tmp_path / "none" / "test.log")

    def test_both_ways_to_convert(self, path):
        """An encoder and a default function together are refused."""
        with pytest.raises(RuntimeError, match="must not both be given"):
            FileDestination(path, EliotJSONEncoder, json_default=repr)

    def test_not_inherited(self, path):
        """A program that is started does not get the file, or nobody could ever remove it."""
        destination = FileDestination(path)
        assert not os.get_inheritable(destination._fd)
        destination.reopen()
        assert not os.get_inheritable(destination._fd)
        destination.close()


class TestEquality:
    """What `remove_destination` goes by."""

    def test_equal(self):
        """Destinations are equal, and hash alike, if they write the same way to the same file."""
        file = io.BytesIO()
        assert FileDestination(file) == FileDestination(file)
        assert hash(FileDestination(file)) == hash(FileDestination(file))
        assert FileDestination(file, json_default=repr) == FileDestination(file, json_default=repr)

    def test_not_equal(self, path):
        """They differ if the file does, or what converts values; and from anything else."""
        file = io.BytesIO()
        assert FileDestination(file) != FileDestination(io.BytesIO())
        assert FileDestination(file) != FileDestination(file, json_default=repr)
        assert FileDestination(file) != FileDestination(path)
        assert FileDestination(file) != file

    def test_removed(self):
        """An equal one removes what `to_file` added."""
        file = io.BytesIO()
        to_file(file)
        remove_destination(FileDestination(file))
        log_message("t")
        assert file.getvalue() == b""


class TestReopen:
    """Log rotation."""

    def test_after_rename(self, path):
        """After `reopen` messages go to a new file of the old name."""
        destination = FileDestination(path)
        add_destinations(destination)
        log_message("old")
        old = path.rename(path.with_suffix(".1"))
        log_message("still old")
        destination.reopen()
        log_message("new")
        assert types_of(lines_of(old)) == ["old", "still old"]
        assert types_of(lines_of(path)) == ["new"]

    def test_while_threads_log(self, path):
        """Nothing is lost, doubled or torn when the file is rotated while 4 threads log."""
        destination = FileDestination(path)
        add_destinations(destination)
        rotated = threading.Event()
        counts = {}

        def log(thread):
            for number in count():
                log_message("t", id=(thread, number))
                if rotated.is_set():
                    counts[thread] = number + 1
                    return

        threads = [threading.Thread(target=log, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        files = [path]
        for number in range(50):
            files.append(path.rename(path.with_suffix(f".{number}")))
            destination.reopen()
        rotated.set()
        for thread in threads:
            thread.join()
        found = Counter(tuple(m["id"]) for file in files for m in lines_of(file))
        assert found == {(thread, n): 1 for thread in range(4) for n in range(counts[thread])}

    def test_failed(self, path):
        """If the path cannot be opened, that is an error, and the old file stays in use."""
        destination = FileDestination(path)
        folder = path.parent.rename(path.parent.with_suffix(".gone"))
        with pytest.raises(FileNotFoundError):
            destination.reopen()
        destination({"message_type": "t"})
        assert types_of(lines_of(folder / path.name)) == ["t"]
        folder.rename(path.parent)

    def test_without_path(self):
        """A destination that was given a file cannot open it again, and says so."""
        destination = FileDestination(io.BytesIO())
        with pytest.raises(RuntimeError, match=r"given a path, got .*BytesIO.*Pass the path to"):
            destination.reopen()

    def test_after_close(self, path):
        """A destination that was closed stays closed, and says so."""
        destination = FileDestination(path)
        destination.close()
        with pytest.raises(RuntimeError, match=r"must not be closed.*Make a new FileDestination"):
            destination.reopen()

    def test_new_file_is_torn(self, path):
        """A line that somebody left unfinished in the new file is not continued."""
        destination = FileDestination(path)
        path.rename(path.with_suffix(".1"))
        path.write_bytes(b'{"unfin')
        destination.reopen()
        destination({"message_type": "t"})
        assert path.read_bytes().splitlines() == [b'{"unfin', b'{"message_type":"t"}']


class TestClose:
    """Files that are closed while the program goes on."""

    def test_own_file(self, path, messages):
        """After `close` each message is a failure, which is counted and told to the others."""
        destination = FileDestination(path)
        add_destinations(destination)
        log_message("t")
        destination.close()
        destination.close()
        log_message("u")
        assert types_of(lines_of(path)) == ["t"]
        assert types_of(messages) == ["t", "u", "eliot:destination_failure"]
        assert (failures(), destination.stats()) == (1, {"failed": 1})

    @pytest.mark.parametrize("kind", KINDS[1:])
    def test_given_file(self, path, messages, kind):
        """A file that the program closed itself is a failure, too; nothing goes elsewhere."""
        file = open_as(kind, path)
        to_file(file)
        file.close()
        other = os.open(path.with_suffix(".other"), os.O_WRONLY | os.O_CREAT)  # the same number
        log_message("t")
        os.close(other)
        assert types_of(messages) == ["t", "eliot:destination_failure"]
        assert b"" == path.read_bytes() == path.with_suffix(".other").read_bytes()

    def test_given_file_stays_open(self, path):
        """`close` leaves alone what the destination did not open."""
        with path.open("ab") as file:
            FileDestination(file).close()
            file.write(b"more")
        assert path.read_bytes() == b"more"


class TestUnfinishedLines:
    """A file that ends within a line."""

    def test_of_a_killed_process(self, path):
        """What a killed process left is not continued: the next message begins a line."""
        path.write_bytes(b'{"unfin')
        to_file(path)
        log_message("t")
        log_message("u")
        torn, *whole = path.read_bytes().splitlines()
        assert torn == b'{"unfin'
        assert types_of(map(json.loads, whole)) == ["t", "u"]

    def test_still_being_written(self, path, monkeypatch):
        """A line that another process is just writing is waited for, and nothing is put after it.

        Linux shows a long line growing while it is written.
        """
        path.write_bytes(b'{"message_type":')

        def go_on(_seconds):
            with path.open("ab") as file:
                file.write(b'"other"}\n')

        monkeypatch.setattr("eliot_etw.destinations.file.sleep", go_on)
        to_file(path)
        log_message("t")
        assert types_of(lines_of(path)) == ["other", "t"]

    @posix
    def test_write_only(self, path):
        """A file that may not be read is written to all the same."""
        path.touch(0o222)
        to_file(path)
        log_message("t")
        path.chmod(0o666)
        assert types_of(lines_of(path)) == ["t"]

    @posix
    def test_full_pipe(self):
        """A pipe that nobody reads never blocks; what follows a line cut short begins anew."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with open(writer, "wb", buffering=0) as file, open(reader, "rb", buffering=0) as pipe:
            destination = FileDestination(file)
            add_destinations(destination)
            while not failures():
                log_message("t", x="x" * 3_000)
            before = pipe.read(1 << 24)
            log_message("after")
            log_message("again")
            after = pipe.read(1 << 24)
        *whole, _torn = before.split(b"\n")
        assert set(types_of(map(json.loads, whole))) == {"t"}
        lines = (before + after).split(b"\n")
        assert types_of(map(json.loads, lines[-3:-1])) == ["after", "again"]
        assert destination.stats()["failed"] == failures()


DISK_FULL = """
import resource, signal, sys
import eliot_etw as eliot
from eliot_etw.destinations import FileDestination, MemoryDestination

path, kind, room = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
memory = MemoryDestination()
file = {
    "path": lambda: path,
    "raw": lambda: open(path, "ab", buffering=0),
    "buffered": lambda: open(path, "ab"),
    "text": lambda: open(path, "a", encoding="utf-8"),
}[kind]()
destination = FileDestination(file)
eliot.add_destinations(memory, destination)
eliot.log_message("before")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
for _ in range(3):
    eliot.log_message("lost", x="x" * 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
eliot.log_message("after")
eliot.log_message("again")
types = [message["message_type"] for message in memory.messages]
failure = "eliot:destination_failure"
assert types == ["before", *["lost", failure] * 3, "after", "again"], types
assert "File too large" in memory.messages[2]["reason"]
assert destination.stats() == {"failed": 3}, destination.stats()
"""


@posix
class TestFullDisk:
    """No room for a message."""

    @linux
    @pytest.mark.parametrize("kind", KINDS)
    def test_never_any_room(self, messages, kind):
        """Each message is a failure, counted, told to the others, and no more than that."""
        file = open_as(kind, Path("/dev/full"))
        destination = FileDestination(file)
        add_destinations(destination)
        log_message("t")
        log_message("u")
        failure = "eliot:destination_failure"
        assert types_of(messages) == ["t", failure, "u", failure]
        assert os.strerror(errno.ENOSPC) in messages[1]["reason"]
        assert (failures(), destination.stats()) == (2, {"failed": 2})
        destination.close()
        if kind != "path":
            file.close()

    @pytest.mark.parametrize("room", [0, 200, 201, 700])
    @pytest.mark.parametrize("kind", KINDS)
    def test_room_again(self, path, kind, room):
        """When there is room again, messages are whole lines again, whatever was cut before."""
        run(DISK_FULL, path, kind, room)
        whole = []
        for line in path.read_bytes().split(b"\n"):
            try:
                whole.append(json.loads(line))
            except ValueError:
                continue
        assert types_of(whole) == ["before", "after", "again"]


MANY_PROCESSES = """
import sys
import eliot_etw as eliot

eliot.to_file(sys.argv[1])
process, messages = int(sys.argv[2]), int(sys.argv[3])
sys.stdin.read()  # until all have started
with eliot.start_action(action_type="process"):
    for number in range(messages):
        eliot.log_message("t", id=[process, number], x="x" * (20_000 if number % 500 == 0 else 20))
"""

ENDLESS = """
import sys
import eliot_etw as eliot

eliot.to_file(sys.argv[1])
number = 0
while True:
    eliot.log_message("t", number=number, x="x" * 500)
    number += 1
    if number == 2_000:
        print("on the way", flush=True)
"""


class TestProcesses:
    """Several processes, some of which do not live to the end."""

    @pytest.mark.skipif(
        os.name == "nt" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version"),
        reason="appending is atomic on Windows, but not under Wine",
    )
    def test_eight_processes(self, path):
        """100,000 messages of 8 processes in one file: every line is whole, none is missing."""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", MANY_PROCESSES, path, str(number), "12500"],
                stdin=subprocess.PIPE,
            )
            for number in range(8)
        ]
        for process in processes:
            process.stdin.close()
        assert [0] * 8 == [process.wait(300) for process in processes]
        found = Counter(tuple(m["id"]) for m in lines_of(path) if "id" in m)
        assert found == {(process, n): 1 for process in range(8) for n in range(12_500)}

    @posix
    def test_killed(self, path):
        """Of a process killed in mid-run at most the last line is unfinished; all before is there.

        The next process that logs to the file begins a new line.
        """
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, "-c", ENDLESS, path], stdout=subprocess.PIPE
            )
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            assert -signal.SIGKILL == process.wait(60)
            process.stdout.close()
        *lines, _last = path.read_bytes().split(b"\n")
        runs = []
        for line in lines:
            try:
                number = json.loads(line)["number"]
            except ValueError:
                continue
            if number == 0:
                runs.append(0)
            else:
                assert runs[-1] + 1 == number
                runs[-1] = number
        assert len(runs) == 3
        assert min(runs) >= 1_999


FORKS = """
import os, sys, threading
import eliot_etw as eliot

eliot.to_file(sys.argv[1])
stop = threading.Event()

def log():
    number = 0
    while not stop.is_set() or number < 1_000:
        eliot.log_message("thread", id=[0, number])
        number += 1

thread = threading.Thread(target=log)
thread.start()
children = []
for child in range(1, 21):
    pid = os.fork()
    if not pid:
        for number in range(50):
            eliot.log_message("child", id=[child, number])
        os._exit(0)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 20
stop.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
class TestFork:
    """Processes forked while another thread logs."""

    def test_children_log(self, path):
        """Children log to the same file at once; nothing is lost, doubled or torn."""
        run(FORKS, path)
        found = Counter(tuple(m["id"]) for m in lines_of(path))
        assert set(found.values()) == {1}
        assert {(child, n) for child in range(1, 21) for n in range(50)} <= found.keys()
        assert {(0, n) for n in range(1_000)} <= found.keys()


class TestThreads:
    """Several threads and one file."""

    def test_one_action(self, logged):
        """8 threads that log into one action: each level is there once, none is missing."""
        go = threading.Barrier(8)

        def log(action):
            go.wait(30)
            with action.context():
                for number in range(250):
                    if number % 10 == 0:
                        with start_action(action_type="inner"):
                            log_message("within")
                    else:
                        log_message("t")

        with start_action(action_type="outer") as action:
            threads = [threading.Thread(target=log, args=(action,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        messages = logged()
        assert {action.task_uuid} == {m["task_uuid"] for m in messages}
        levels = Counter(tuple(m["task_level"]) for m in messages)
        assert set(levels.values()) == {1}
        assert {level[0] for level in levels} == set(range(1, 8 * 250 + 3))
        inner = Counter(level[0] for level in levels if len(level) == 2)
        assert (8 * 25, {3}) == (len(inner), set(inner.values()))


class TestBatches:
    """Lines that were made earlier, and are written together."""

    LINES = (b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}\n')

    @pytest.mark.parametrize("taken", [0, 3, 8, 12, 16, 23, 24])
    def test_system_takes_a_part(self, path, monkeypatch, taken):
        """However many bytes the system takes at first, each line is there once, and whole."""
        destination = FileDestination(path)
        calls = []

        def write(fd, data):
            calls.append(data)
            return os.write(fd, data[:taken] if len(calls) == 1 else data)

        monkeypatch.setattr("eliot_etw.destinations.file.write", write)
        assert destination.write_lines(self.LINES) == []
        assert path.read_bytes() == b"".join(self.LINES)
        destination.close()

    def test_one_write(self, path, monkeypatch):
        """A regular file takes all of them with one write."""
        destination = FileDestination(path)
        calls = []
        monkeypatch.setattr(
            "eliot_etw.destinations.file.write", lambda fd, data: calls.append(data) or len(data)
        )
        assert destination.takes_batches
        assert destination.write_lines(self.LINES) == []
        assert calls == [b"".join(self.LINES)]
        destination.close()

    def test_failures(self, path, monkeypatch):
        """Those that could not be written are returned with the reason, and counted."""
        destination = FileDestination(path)
        room = [10]

        def write(fd, data):
            if not room[0]:
                raise OSError(errno.ENOSPC, "no space")
            written = os.write(fd, data[: room[0]])
            room[0] -= written
            return written

        monkeypatch.setattr("eliot_etw.destinations.file.write", write)
        failed = destination.write_lines(self.LINES)
        assert [line for line, _ in failed] == list(self.LINES[1:])
        assert {error.errno for _, error in failed} == {errno.ENOSPC}
        assert destination.stats() == {"failed": 2}
        room[0] = 100
        destination.write_lines(self.LINES[2:])
        assert path.read_bytes() == b'{"a":1}\n{"\n{"c":3}\n'
        destination.close()

    def test_to_an_object(self):
        """An object is written to line by line, by its own methods."""
        file = io.StringIO()
        destination = FileDestination(file)
        assert destination.write_lines([destination.encode({"é": {1}})]) == []
        assert not destination.takes_batches
        assert file.getvalue() == '{"é":[1]}\n'
