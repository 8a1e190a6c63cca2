"""Tests of rotation: every line is there once, whoever rotates, compresses or is killed."""

import ctypes
import gzip
import json
import os
import random
import signal
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import (
    BackgroundDestination,
    MemoryDestination,
    RotatingFileDestination,
    rotating_file,
)
from tests._programs import run

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")


@pytest.fixture
def path(tmp_path):
    """Return where the log of the test is to be."""
    return tmp_path / "test.log"


@pytest.fixture
def make(path):
    """Return what makes destinations at the path, and closes them after the test."""
    made = []

    def make(**options):
        made.append(RotatingFileDestination(path, **options))
        return made[-1]

    yield make
    for destination in made:
        destination.close()


def log(destination, *numbers, **fields):
    """Log messages of 100 bytes each."""
    for number in numbers:
        message = {"n": number, "pad": "", **fields}
        message["pad"] = "x" * (100 - len(destination.encode(message)))
        destination(message)


def names_in(path):
    """List the files of a log, oldest first, the one that is written last."""
    return [
        entry.name
        for entry in sorted(path.parent.iterdir(), key=lambda entry: (entry == path, entry.name))
        if not entry.name.endswith(".lock")
    ]


def contents_of(path):
    """Read what was logged: a list for each file, in their order."""
    contents = []
    for name in names_in(path):
        data = (path.parent / name).read_bytes()
        lines = gzip.decompress(data) if name.endswith(".gz") else data
        contents.append([json.loads(line).get("n") for line in lines.splitlines()])
    return contents


def numbers_in(path):
    """Read what was logged, from all files in their order."""
    return [number for numbers in contents_of(path) for number in numbers]


class TestBySize:
    """`max_bytes`."""

    def test_files(self, make, path):
        """A file is put aside before it becomes too large; numbers count up."""
        destination = make(max_bytes=300)
        log(destination, *range(8))
        assert names_in(path) == ["test.log.000001", "test.log.000002", "test.log"]
        assert [len((path.parent / name).read_bytes()) for name in names_in(path)] == [
            300, 300, 200,
        ]  # fmt: skip
        assert numbers_in(path) == list(range(8))
        assert destination.stats() == {"failed": 0, "rotated": 2, "rotation_failures": 0}

    def test_long_line(self, make, path):
        """A line that is longer than a file may be has one of its own."""
        destination = make(max_bytes=150)
        log(destination, 0)
        destination({"n": 1, "pad": "x" * 500})
        log(destination, 2)
        assert contents_of(path) == [[0], [1], [2]]

    def test_goes_on(self, make, path):
        """The next process goes on in the file, and with the numbers."""
        make(max_bytes=300).close()
        for number in range(8):
            destination = make(max_bytes=300)
            log(destination, number)
            destination.close()
        assert names_in(path) == ["test.log.000001", "test.log.000002", "test.log"]
        assert numbers_in(path) == list(range(8))

    @posix
    def test_mode(self, make, path):
        """Who may read the file may read the next one, and nobody else."""
        destination = make(max_bytes=100, compress="gz")
        path.chmod(0o600)
        log(destination, 0, 1)
        destination.close()
        modes = {stat.S_IMODE((path.parent / name).stat().st_mode) for name in names_in(path)}
        assert modes == {0o600}

    def test_batches(self, make, path):
        """What a writer thread writes at once is divided between files."""
        destination = BackgroundDestination(make(max_bytes=1_000))
        for number in range(500):
            destination({"n": number})
        destination.close()
        assert numbers_in(path) == list(range(500))
        sizes = [(path.parent / name).stat().st_size for name in names_in(path)]
        assert max(sizes) <= 1_000
        assert len(sizes) < 10

    def test_relative_path(self, tmp_path, monkeypatch):
        """A program may change its directory."""
        monkeypatch.chdir(tmp_path)
        destination = RotatingFileDestination("test.log", max_bytes=100)
        monkeypatch.chdir("/")
        log(destination, 0, 1)
        destination.close()
        assert names_in(tmp_path / "test.log") == ["test.log.000001", "test.log"]

    @posix
    def test_link(self, tmp_path, path):
        """A path that is a link stays one; its file is put aside where that is."""
        (tmp_path / "disk").mkdir()
        real = tmp_path / "disk" / "real.log"
        path.symlink_to(real)
        destination = RotatingFileDestination(path, max_bytes=100, compress="gz")
        log(destination, 0, 1, 2)
        destination.close()
        assert path.is_symlink()
        assert names_in(real) == ["real.log.000001.gz", "real.log.000002.gz", "real.log"]
        assert numbers_in(real) == [0, 1, 2]


class TestByTime:
    """`every_s`."""

    @pytest.fixture
    def clock(self, monkeypatch):
        """Return a clock that the test sets, and let every message look at it."""
        clock = [1_000_000.0]
        monkeypatch.setattr(rotating_file, "time", lambda: clock[0])
        monkeypatch.setattr(rotating_file, "_BETWEEN_LOOKS_S", 0)
        return clock

    def at(self, clock, destination, seconds, number):
        clock[0] = seconds
        log(destination, number, timestamp=seconds)

    def test_periods(self, make, path, clock):
        """A file covers one period, as counted from midnight."""
        destination = make(every_s=3600)
        for number, seconds in enumerate([7199, 7200, 10799, 18000, 18001]):
            self.at(clock, destination, seconds, number)
        assert contents_of(path) == [[0], [1, 2], [3, 4]]

    def test_goes_on(self, make, path, clock):
        """The next process knows by the first line how old the file is."""
        for number, seconds in enumerate([7199, 7200, 10799, 18000]):
            destination = make(every_s=3600)
            self.at(clock, destination, seconds, number)
            destination.close()
        assert contents_of(path) == [[0], [1, 2], [3]]

    @pytest.mark.parametrize(
        "line", ["{}", "[]", "no JSON", '{"timestamp": NaN}', '{"timestamp": "x"}']
    )
    def test_first_line_says_nothing(self, make, path, clock, line):
        """Then it is the time when the file was changed."""
        path.write_text(f"{line}\n")
        os.utime(path, (7100, 7100))
        destination = make(every_s=3600)
        self.at(clock, destination, 7200, 0)
        assert names_in(path) == ["test.log.000001", "test.log"]

    @pytest.mark.parametrize(
        ("times", "files"),
        [
            # A little: the file goes on until its period is over again.
            ([7200, 7100, 3600, 7300, 10800, 10700], [[0, 1, 2, 3], [4, 5]]),
            # Far back: a file that seems to have begun in the future does not go on for ever.
            ([4e9, 7200, 7201, 10800, 50], [[0], [1, 2], [3], [4]]),
        ],
    )
    def test_clock_set_back(self, make, path, clock, times, files):
        """Nothing is lost, the order is kept, and no file grows without end."""
        destination = make(every_s=3600, keep=5)
        for number, seconds in enumerate(times):
            self.at(clock, destination, seconds, number)
        assert files == contents_of(path)
        assert sum(destination.stats().values()) == len(files) - 1

    def test_both(self, make, path, clock):
        """What comes first counts."""
        destination = make(every_s=3600, max_bytes=200)
        for number, seconds in enumerate([0, 1, 2, 3600]):
            self.at(clock, destination, seconds, number)
        assert contents_of(path) == [[0, 1], [2], [3]]


class TestAside:
    """What becomes of files that were put aside."""

    def test_compressed(self, make, path):
        """They are compressed, and read back as they are."""
        destination = make(max_bytes=1_000, compress="gz")
        log(destination, *range(35))
        destination.close()
        assert names_in(path) == [
            "test.log.000001.gz", "test.log.000002.gz", "test.log.000003.gz", "test.log",
        ]  # fmt: skip
        assert numbers_in(path) == list(range(35))

    @pytest.mark.parametrize("compress", ["gz", None])
    def test_kept(self, make, path, compress):
        """The oldest are removed; the numbers go on."""
        destination = make(max_bytes=100, keep=2, compress=compress)
        log(destination, *range(10))
        destination.close()
        assert numbers_in(path) == [7, 8, 9]

    def test_none_kept(self, make, path):
        """It may be that only the newest lines are wanted."""
        destination = make(max_bytes=100, keep=0)
        log(destination, *range(10))
        destination.close()
        assert names_in(path) == ["test.log"]

    def test_others_files(self, make, path):
        """Files of similar names are none of ours."""
        others = ["test.log.1", "test.log.000001.bak", "test2log.000001", "xtest.log.000001"]
        for name in others:
            (path.parent / name).write_text("")
        destination = make(max_bytes=100, keep=0)
        log(destination, 0, 1)
        destination.close()
        assert names_in(path) == [*sorted(others), "test.log"]

    def test_still_written_by_another(self, make, path):
        """As long as somebody writes to a file that was put aside, it stays as it is."""
        lagging = make(max_bytes=10_000)
        log(lagging, 0)
        destination = make(max_bytes=100, compress="gz", keep=1)
        log(destination, 1, 2)
        destination.close()
        log(lagging, 3)
        assert numbers_in(path) == [0, 3, 1, 2]
        lagging.close()
        make(max_bytes=100, compress="gz", keep=2).close()
        assert numbers_in(path) == [0, 3, 1, 2]
        assert names_in(path)[0] == "test.log.000001.gz"

    def test_left_by_a_killed_process(self, make, path):
        """What another began, the next one brings to an end: both files, or an unfinished one."""
        folder = path.parent
        (folder / "test.log.000001").write_text('{"n":1}\n')
        (folder / "test.log.000001.gz.unfinished").write_text("half")
        (folder / "test.log.000002").write_text('{"n":2}\n')
        (folder / "test.log.000002.gz").write_bytes(gzip.compress(b'{"n":2}\n'))
        make(max_bytes=100, compress="gz").close()
        assert names_in(path) == ["test.log.000001.gz", "test.log.000002.gz", "test.log"]
        assert numbers_in(path) == [1, 2]
        (folder / "test.log.000003").write_text('{"n":3}\n')
        (folder / "test.log.000003.gz.unfinished").write_text("half")
        make(max_bytes=100, keep=0).close()
        assert names_in(path) == ["test.log"]

    def test_without_a_thread(self, make, path, monkeypatch):
        """Where no thread can be started, the next process compresses."""

        def refuse(self):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", refuse)
            destination = make(max_bytes=100, compress="gz")
            log(destination, 0, 1)
            destination.close()
        assert names_in(path) == ["test.log.000001", "test.log"]
        make(max_bytes=100, compress="gz").close()
        assert names_in(path) == ["test.log.000001.gz", "test.log"]

    def test_disk_full(self, make, path, monkeypatch):
        """What cannot be compressed stays as it is, and is readable."""

        def full(*_):
            raise OSError("disk full")

        monkeypatch.setattr(rotating_file.shutil, "copyfileobj", full)
        destination = make(max_bytes=100, compress="gz")
        log(destination, 0, 1)
        destination.close()
        monkeypatch.undo()
        make(max_bytes=100, compress="gz").close()
        assert names_in(path) == ["test.log.000001.gz", "test.log"]
        assert numbers_in(path) == [0, 1]


class TestCannotRotate:
    """Where the file cannot be put aside, it is written on."""

    def test_name_in_use(self, make, path, monkeypatch):
        """As on Windows, where another program has it open: nothing is lost; later it works."""
        destination = make(max_bytes=100)
        with monkeypatch.context() as patch:

            def in_use(*_):
                raise PermissionError(13, "in use by another process")

            patch.setattr(os, "rename", in_use)
            log(destination, 0, 1, 2)
        assert names_in(path) == ["test.log"]
        assert destination.stats()["rotation_failures"] == 1
        destination._left = 0
        log(destination, 3)
        assert names_in(path) == ["test.log.000001", "test.log"]
        assert numbers_in(path) == [0, 1, 2, 3]

    def test_another_is_at_it(self, make, path):
        """Nobody waits for a process that is just rotating."""
        destination = make(max_bytes=100)
        with rotating_file.only_one_rotates(f"{path}.lock") as is_mine:
            assert is_mine
            log(destination, 0, 1)
        destination._left = 0
        log(destination, 2)
        assert names_in(path) == ["test.log.000001", "test.log"]
        assert numbers_in(path) == [0, 1, 2]

    def test_removed(self, make, path):
        """A file that was removed, or put aside by a process that was killed then, begins anew."""
        destination = make(max_bytes=1_000)
        log(destination, 0)
        path.rename(path.with_name("test.log.000001"))
        destination._look_at = 0
        log(destination, 1)
        assert numbers_in(path) == [0, 1]

    def test_no_locks(self, make, path, monkeypatch):
        """In a file system that has none, lines are written all the same."""

        def none(_):
            raise OSError("no locks available")

        monkeypatch.setattr(rotating_file, "mark_as_written", none)
        destination = make(max_bytes=100)
        log(destination, 0, 1)
        assert numbers_in(path) == [0, 1]

    def test_closed(self, make):
        """What is logged after close() is a failure."""
        destination = make(max_bytes=100)
        destination.close()
        memory = MemoryDestination()
        add_destinations(memory, destination)
        log_message("t")
        assert memory.messages[-1]["message_type"] == "eliot:destination_failure"
        assert destination.stats()["failed"] == 1


PROGRAM = """
import sys
from eliot_etw.destinations import RotatingFileDestination
log = RotatingFileDestination(
    sys.argv[1], max_bytes=int(sys.argv[3]), compress="gz", keep=None)
who = int(sys.argv[2])
for number in range(int(sys.argv[4])):
    log({"n": [who, number], "pad": "x" * 80})
    if len(sys.argv) > 5:
        print(number, flush=True)
log.close()
assert log.stats()["failed"] == 0
"""


def start(path, who, max_bytes, count, *more):
    """Start a process that logs."""
    command = [sys.executable, "-c", PROGRAM, *map(str, (path, who, max_bytes, count, *more))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


WRITER = """
import sys
from eliot_etw.destinations import RotatingFileDestination, rotating_file

rotating_file._BETWEEN_LOOKS_S = 0
destination = RotatingFileDestination(sys.argv[1], max_bytes=1_000, compress="gz")

def log(number):
    destination({"n": number, "pad": "x" * 80})

for line in sys.stdin:
    print(eval(line), flush=True)
destination.close()
"""


def start_writer(path):
    """Start a process that logs when it is told to."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", WRITER, path], text=True, **pipes)


def tell(writer, expression):
    """Have such a process evaluate something, and return what it answers."""
    writer.stdin.write(f"{expression}\n")
    writer.stdin.flush()
    answer = writer.stdout.readline()
    assert answer, "the process has ended"
    return answer.strip()


class TestProcesses:
    """Several processes write to one path."""

    @pytest.mark.skipif(
        os.name == "nt" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version"),
        reason="appending is atomic on Windows, but not under Wine",
    )
    def test_rotate_together(self, path):
        """No line is lost, doubled or torn, whoever rotates and compresses."""
        processes = [start(path, who, 20_000, 3_000) for who in range(4)]
        for process in processes:
            with process:
                process.communicate(timeout=120)
            assert process.returncode == 0
        RotatingFileDestination(path, max_bytes=20_000, compress="gz").close()
        counts = Counter(map(tuple, numbers_in(path)))
        assert counts == {(who, number): 1 for who in range(4) for number in range(3_000)}
        assert sum(name.endswith(".gz") for name in names_in(path)) > 10

    def test_take_turns(self, path):
        """Each of several processes rotates and compresses, while the others have the file open.

        They take turns at writing, so that this holds also where appending is not atomic.
        """
        writers = [start_writer(path) for _ in range(3)]
        try:
            for turn in range(60):
                tell(writers[turn % 3], f"log({turn})")
            # One that has fallen behind still has what was put aside open.
            for turn in range(60, 70):
                tell(writers[0], f"log({turn})")
            assert tell(writers[1], "destination.stats()['failed']") == "0"
        finally:
            for writer in writers:
                writer.communicate(timeout=60)
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        RotatingFileDestination(path, max_bytes=1_000, compress="gz").close()
        assert Counter(numbers_in(path)) == dict.fromkeys(range(70), 1)
        names = names_in(path)
        assert len(names) >= 7
        assert all(name.endswith(".gz") for name in names[:-1])

    @posix
    def test_killed(self, path):
        """A process that is killed, in the middle of anything, loses no line it has written."""
        choose = random.Random(7)
        logged = {}
        for who in range(8):
            with start(path, who, 2_000, 100_000, "tell") as process:
                for _ in range(choose.randrange(50, 500)):
                    logged[who] = int(process.stdout.readline())
                process.send_signal(signal.SIGKILL)
        RotatingFileDestination(path, max_bytes=2_000, compress="gz").close()
        seen = Counter(map(tuple, numbers_in(path)))
        lost = [
            (who, number)
            for who, last in logged.items()
            for number in range(last + 1)
            if not seen[who, number]
        ]
        assert lost == []
        assert set(seen.values()) == {1}

    @posix
    def test_forked(self, path):
        """A child that was forked writes on to the same path, and rotates it as well."""
        run(
            """
import os, sys
from eliot_etw.destinations import RotatingFileDestination

destination = RotatingFileDestination(sys.argv[1], max_bytes=500)

def log(who):
    for number in range(50):
        message = {"n": [who, number], "pad": ""}
        destination({**message, "pad": "x" * (100 - len(destination.encode(message)))})

children = []
for who in range(3):
    pid = os.fork()
    if not pid:
        log(who)
        sys.exit()
    children.append(pid)
log(3)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
destination.close()
""",
            path,
        )
        assert Counter(map(tuple, numbers_in(path))) == {
            (who, number): 1 for who in range(4) for number in range(50)
        }


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (ValueError, "max_bytes or every_s must be given", {}),
        (ValueError, "max_bytes must be above 0, got 0", {"max_bytes": 0}),
        (ValueError, "every_s must be above 0, got -1", {"every_s": -1}),
        (ValueError, "keep must be 0 or more, got -1", {"max_bytes": 1, "keep": -1}),
        (
            ValueError,
            "compress must be 'gz' or None, got 'zip'",
            {"max_bytes": 1, "compress": "zip"},
        ),
    ],
)
def test_refuses(path, error, words, options):
    """Options that make no sense are refused at once, before there is a file."""
    with pytest.raises(error, match=words):
        RotatingFileDestination(path, **options)
    assert not Path(path).exists()


def test_refuses_a_file(path):
    """An open file has no name to be changed."""
    with path.open("ab") as file, pytest.raises(TypeError, match="needs a path, got <_io"):
        RotatingFileDestination(file, max_bytes=1)
