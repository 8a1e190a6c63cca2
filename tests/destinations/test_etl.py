"""Tests of messages in a trace: what is there, when, after which failures, in which file."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eliot_etw import add_destinations, log_message, remove_destination, start_action
from eliot_etw._json import encode_line
from eliot_etw.destinations import EtlFileDestination, FileDestination
from eliot_etw.etw import provider_guid, read_etl
from eliot_etw.parse import Parser
from eliot_etw.sources import EtlSource, FileSource, merge_by_time
from tests._programs import run_forking
from tests.etw import test_etl as reading
from tests.etw.test_etl import ask, has
from tests.etw.test_etl_writer import FullDisk

PLACE = {"task_uuid": "x", "task_level": [1], "timestamp": 1_750_000_000.5}
renames = pytest.mark.skipif(os.name == "nt", reason="Windows renames no file that is open")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def path(tmp_path):
    """Return where to write."""
    return tmp_path / "app.etl"


@pytest.fixture
def make():
    """Return what makes destinations that are closed when the test is over."""
    made = []

    def make(*arguments, **options):
        made.append(EtlFileDestination(*arguments, **options))
        return made[-1]

    yield make
    for destination in made:
        destination.close()


def numbers(path):
    """Return the field ``n`` of each message in a trace."""
    return [message["n"] for message in EtlSource(path)]


def run(program, *arguments, status=0):
    """Run a program in a process of its own; return what it wrote to standard error."""
    start = "import os, sys; from eliot_etw.destinations import EtlFileDestination\n"
    done = subprocess.run(
        [sys.executable, "-c", start + program, *map(str, arguments)],
        capture_output=True, timeout=60, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert status == done.returncode, done.stderr.decode()
    return done.stderr.decode()


ROOT = Path(__file__).resolve().parents[2]
LOG = "for n in range(5): d({'task_uuid': 'x', 'task_level': [n + 1], 'n': n})\n"

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=5)
    | st.uuids()
    | st.datetimes(timezones=st.just(timezone.utc)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
messages_of_any_kind = st.lists(
    st.builds(
        lambda fields, level, timestamp: {
            **fields, "task_uuid": "a-task", "task_level": level, "timestamp": timestamp,
        },
        st.dictionaries(
            st.sampled_from(["message_type", "action_type", "action_status", "n"])
            | st.text(st.characters()),
            values,
            max_size=4,
        ),
        st.lists(st.integers(1, 300), min_size=1, max_size=20),
        st.floats(0, 4e9),
    ),
    max_size=6,
)  # fmt: skip


class TestLaw:
    """What is read back is what the file of JSON has."""

    @pytest.mark.parametrize("interval", [0, 1000])
    @given(written=messages_of_any_kind)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_messages(self, tmp_path, interval, written):
        """Every message, in the order of their times."""
        trace, log = tmp_path / "x.etl", tmp_path / "x.log"
        for file in (trace, log):
            file.unlink(missing_ok=True)
        destinations = EtlFileDestination(trace, flush_interval_s=interval), FileDestination(log)
        for message in written:
            for destination in destinations:
                destination(message)
        for destination in destinations:
            destination.close()
        expected = sorted(FileSource(log), key=lambda message: _ticks(message["timestamp"]))
        assert expected == list(EtlSource(trace))

    def test_threads(self, make, path, messages):
        """Nothing is lost or changed when several threads log; a task is whole."""
        destination = make(path)
        add_destinations(destination)
        with start_action(action_type="all") as action:

            def work(number):
                with action.context(), start_action(action_type="part", number=number):
                    for n in range(200):
                        log_message("step", n=n)

            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        destination.close()
        found = list(EtlSource(path))
        assert sorted(messages, key=_level) == sorted(found, key=_level)
        assert [_ticks(one["timestamp"]) for one in found] == sorted(
            _ticks(one["timestamp"]) for one in found
        )
        (task,) = Parser.parse_stream(found)
        assert task.is_complete()

    @pytest.mark.parametrize(
        "timestamp", [None, -1.0, 1e12, float("nan"), float("inf"), "now", 2**80, [1]]
    )
    def test_no_time(self, make, path, timestamp):
        """A message without a sensible time is an event of now, and says what it said."""
        before = time.time()
        destination = make(path)
        destination({**PLACE, "timestamp": timestamp})
        destination.close()
        (event,) = read_etl(path)
        assert before - 1 < event.timestamp < time.time() + 1
        (message,) = EtlSource(path)
        assert json.loads(encode_line({"t": timestamp}))["t"] == message["timestamp"]

    def test_an_old_log(self, make, path):
        """The messages of an old log can be written again, with their times."""
        destination = make(path)
        for n in range(3):
            destination({**PLACE, "timestamp": 1e9 + n, "n": n})
        destination.close()
        assert [1e9, 1e9 + 1, 1e9 + 2] == [event.timestamp for event in read_etl(path)]
        assert read_etl(path).header.reference > 0


def _level(message):
    return message["task_level"]


def _ticks(timestamp):
    return int(timestamp * 10_000_000)


class TestEvents:
    """What other programs see."""

    def test_provider(self, make, path):
        """Its name, its GUID and its group are those that were asked for."""
        group = UUID(int=7)
        destination = make(path, provider_name="My-App", group=group)
        destination(PLACE)
        destination.flush()
        (event,) = read_etl(path)
        assert ("My-App", provider_guid("My-App"), group) == (
            event.provider_name, event.provider_id, event.provider_group,
        )  # fmt: skip
        assert (os.getpid(), threading.get_native_id()) == (event.process_id, event.thread_id)
        assert "My-App" == read_etl(path).header.logger_name

    @pytest.mark.parametrize("guid", [UUID(int=9), str(UUID(int=9))])
    def test_own_guid(self, make, path, guid):
        """The GUID can be given."""
        destination = make(path, guid=guid)
        destination(PLACE)
        destination.flush()
        assert [UUID(int=9)] == [event.provider_id for event in read_etl(path)]

    @pytest.mark.parametrize("which", ["guid", "group"])
    def test_no_guid(self, make, path, which):
        """What is no GUID is refused, before there is a file."""
        with pytest.raises(ValueError, match="must be a GUID, got 'nonsense'"):
            make(path, **{which: "nonsense"})
        assert not os.path.exists(path)

    def test_tree(self, make, path):
        """Starts and ends of actions have opcodes and activity ids that make a tree."""
        destination = make(path, levels={"app:part": 5}, keywords={"app:*": 0x10})
        add_destinations(destination)
        with start_action(action_type="app:all"), start_action(action_type="app:part"):
            log_message("said")
        destination.flush()
        events = list(read_etl(path))
        assert [1, 1, 0, 2, 2] == [event.opcode for event in events]
        outer, inner, said, *ends = [event.activity_id for event in events]
        assert inner == said
        assert [inner, outer] == ends
        assert [None, outer] == [event.related_activity_id for event in events[:2]]
        assert [4, 5] == [event.level for event in events[:2]]
        assert events[0].keyword & 0x10

    def test_too_long(self, make, path):
        """What is too long for an event is cut, and says so."""
        destination = make(path)
        destination({**PLACE, "text": "x" * 100_000, "n": 1})
        destination.close()
        (message,) = EtlSource(path)
        assert message["text"].startswith("xxx")
        assert "eliot:truncated" in message
        assert (0, 1) == (destination.stats()["failed"], destination.stats()["truncated"])

    def test_largest(self, make, path):
        """Whatever the size of an event, it is written."""
        destination = make(path)
        for n in range(200):
            destination({**PLACE, "n": n, "text": "x" * (65_000 + n * 5)})
        destination.close()
        assert list(range(200)) == numbers(path)

    def test_leaf(self, make, tmp_path):
        """Only if a function of the user's is called may something log meanwhile."""
        assert make(tmp_path / "a.etl").is_leaf
        assert not make(tmp_path / "b.etl", levels=lambda message: 4).is_leaf

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"provider_name": ""}, "provider's name must be text"),
            ({"flush_interval_s": -1}, "flush_interval_s must be from 0"),
            ({"max_schemas": 0}, "max_schemas must be from 1"),
        ],
    )
    def test_refused_at_once(self, path, options, words):
        """A mistake is told when the destination is made."""
        with pytest.raises(ValueError, match=words):
            EtlFileDestination(path, **options)

    def test_no_folder(self, path):
        """A path that cannot be written is told at once."""
        with pytest.raises(FileNotFoundError):
            EtlFileDestination(path / "x.etl")


class TestOthers:
    """What independent readers make of it."""

    @staticmethod
    def log(make, path):
        """Log an action with a message in it, twice; return how many events that is."""
        destination = make(path, provider_name="My-App")
        add_destinations(destination)
        for n in range(2):
            with start_action(action_type="app:all"), start_action(action_type="app:part", n=n):
                log_message("app:said", text="hello")
        remove_destination(destination)
        destination.close()
        return 10

    @pytest.mark.skipif(not has("dissect.etl"), reason="dissect.etl is not installed")
    def test_dissect(self, make, path):
        """dissect.etl reads every event: its schema, its provider, its activities."""
        count = self.log(make, path)
        found = [one for one in ask("_read_with_dissect.py", path) if one["schema"]]
        assert count == len(found)
        assert found == [reading.TestDissect.as_dissect(one) for one in read_etl(path)]

    @pytest.mark.skipif(not has("etl"), reason="etl-parser is not installed")
    def test_etl_parser(self, make, path):
        """etl-parser reads every event, and the fields of which it knows the types."""
        count = self.log(make, path)
        found = ask("_read_with_etl_parser.py", path)
        assert [(os.getpid(), threading.get_native_id())] * count == [
            (one["process"], one["thread"]) for one in found
        ]
        assert ["0", "1"] == [one["fields"]["n"] for one in found if "n" in one["fields"]]


class TestCost:
    """What a message costs."""

    def test_calls(self, make, path):
        """A message that may wait is written by two functions of Python, one of them made."""
        destination = make(path, flush_interval_s=1000)
        message = {**PLACE, "message_type": "app:message", "key": 123, "other": "abc"}
        for _ in range(3):
            destination(message)
        called = []

        def note(frame, event, _argument):
            if event == "call":
                called.append(frame.f_code.co_name)

        sys.setprofile(note)
        try:
            destination(message)
        finally:
            sys.setprofile(None)
        assert ["__call__", "encode"] == called


class TestWhen:
    """When messages are in the file."""

    def test_at_once(self, make, path):
        """Without an interval each is there when the call returns."""
        destination = make(path, flush_interval_s=0)
        for n in range(3):
            destination({**PLACE, "n": n})
            assert list(range(n + 1)) == numbers(path)

    @pytest.mark.parametrize(
        "failure",
        [{"action_type": "a", "action_status": "failed"}, {"message_type": "eliot:traceback"}],
    )
    def test_failures(self, make, path, failure):
        """With an interval they wait; a failure, and what came before it, does not."""
        destination = make(path, flush_interval_s=1000)
        destination({**PLACE, "n": 1})
        assert [] == list(EtlSource(path))
        destination({**PLACE, "n": 2, **failure})
        assert [1, 2] == numbers(path)

    def test_after_the_interval(self, make, path):
        """They are written by themselves."""
        make(path, flush_interval_s=0.001)({**PLACE, "n": 1})
        deadline = time.monotonic() + 30
        while not list(EtlSource(path)) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert [1] == numbers(path)

    @pytest.mark.parametrize(
        ("end", "status"),
        [("", 0), ("sys.exit(3)", 3), ("1 / 0", 1), ("del d", 0)],
        ids=["end", "exit", "exception", "forgotten"],
    )
    def test_end_of_the_program(self, path, end, status):
        """A program that ends without close() leaves a whole and finished trace."""
        run(f"d = EtlFileDestination(sys.argv[1], flush_interval_s=1000)\n{LOG}{end}", path,
            status=status)  # fmt: skip
        assert [0, 1, 2, 3, 4] == numbers(path)
        header = read_etl(path).header
        assert header.end_ticks > header.start_ticks
        assert 2 == header.buffers_written

    def test_killed(self, path):
        """When the program is killed all is there that had been written, whole."""
        run(f"d = EtlFileDestination(sys.argv[1], flush_interval_s=0)\n{LOG}os._exit(9)", path,
            status=9)  # fmt: skip
        assert [0, 1, 2, 3, 4] == numbers(path)

    def test_close(self, make, path):
        """close() may be called twice; what is logged later is a failure, and is counted."""
        destination = make(path)
        destination({**PLACE, "n": 1})
        destination.close()
        destination.close()
        destination.flush()
        with pytest.raises(ValueError, match=r"before close\(\)"):
            destination({**PLACE, "n": 2})
        assert 1 == destination.stats()["failed"]
        assert [1] == numbers(path)

    def test_close_while_threads_log(self, make, path):
        """What a thread was not told of as lost is in the file, whenever it is closed."""
        destination = make(path, flush_interval_s=0.001)
        taken = []

        def log(number):
            for n in range(100_000):
                try:
                    destination({**PLACE, "n": [number, n]})
                except ValueError:
                    return
                taken.append([number, n])

        threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
        kept = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            while len(taken) < 500:
                time.sleep(0)
            destination.close()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(kept)
        assert sorted(taken) == sorted(numbers(path))
        assert 4 == destination.stats()["failed"]


class TestExistingFile:
    """A file that is there already."""

    def test_is_kept(self, make, path):
        """It gets the time of its last change into its name; of two alike, a number, too."""
        moment = datetime(2026, 11, 21, 14, 5).timestamp()
        for n in range(3):
            destination = make(path)
            destination({**PLACE, "n": n})
            destination.close()
            os.utime(path, (moment, moment))
        old = [path.with_name(f"app.20261121-140500{more}.etl") for more in ("", "-2")]
        assert sorted([path, *old]) == sorted(path.parent.iterdir())
        assert [[2], [0], [1]] == [numbers(one) for one in (path, *old)]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows renames no file that is open")
    @renames
    def test_of_a_program_that_runs(self, make, path):
        """One that is being written to goes on under its new name: nothing is lost."""
        first, second = make(path), None
        first({**PLACE, "n": 1})
        second = make(path)
        first({**PLACE, "n": 2})
        second({**PLACE, "n": 3})
        for destination in (first, second):
            destination.close()
        (old,) = set(path.parent.iterdir()) - {path}
        assert ([1, 2], [3]) == (numbers(old), numbers(path))

    @pytest.mark.skipif(sys.platform != "win32", reason="others rename files that are open")
    def test_of_a_program_that_runs_on_windows(self, make, path):
        """One that is being written to stays where it is: the second program is told."""
        make(path)(PLACE)
        with pytest.raises(FileExistsError, match=r"must have its path for itself, got .* others"):
            make(path)

    def test_empty(self, make, path):
        """An empty one is used, as those that `tempfile` makes."""
        path.touch()
        make(path)({**PLACE, "n": 1})
        assert [path] == list(path.parent.iterdir())

    @pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
    def test_link_to_nothing(self, make, path, tmp_path):
        """A link to a file that is not there yet leads to where the trace is."""
        os.symlink(tmp_path / "elsewhere.etl", path)
        make(path)(PLACE)
        assert os.path.islink(path)
        assert os.path.isfile(tmp_path / "elsewhere.etl")

    @pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/null")
    def test_device(self, make):
        """A device stays what it is."""
        make("/dev/null")(PLACE)
        assert not os.path.isfile("/dev/null")


FORKING = """
import sys
from pathlib import Path
from eliot_etw.destinations import EtlFileDestination

path = Path(sys.argv[1])

def log(destination, number):
    place = {"task_uuid": "x", "task_level": [1], "timestamp": 1_750_000_000.5}
    destination({**place, "n": number})
"""


@needs_fork
class TestFork:
    """Forked processes."""

    @staticmethod
    def run(program, path):
        """Run a program that forks; return what it printed."""
        return run_forking(f"{FORKING}{program}", path).stdout

    def test_own_file(self, path):
        """A child writes beside its parent; what the parent had not written is written once."""
        program = """
destination = EtlFileDestination(path, flush_interval_s=1000)
log(destination, 1)
print(in_child(lambda: log(destination, 2)))
log(destination, 3)
destination.close()
"""
        child = int(self.run(program, path))
        beside = path.with_name(f"app.{child}.etl")
        assert ([1, 3], [2]) == (numbers(path), numbers(beside))
        assert {child} == {event.process_id for event in read_etl(beside)}

    def test_silent_child(self, path):
        """A child that logs nothing leaves no file, whatever it calls."""
        program = """
destination = EtlFileDestination(path)

def work():
    destination.flush()
    destination.close()

in_child(work)
log(destination, 1)
destination.close()
"""
        self.run(program, path)
        assert [path] == list(path.parent.iterdir())
        assert [1] == numbers(path)

    def test_closed(self, path):
        """What was closed before the fork, or in the child, is closed."""
        program = """
first, second = EtlFileDestination(path), EtlFileDestination(path.with_name("second.etl"))
first.close()

def work():
    second.close()
    for destination in (first, second):
        try:
            log(destination, 1)
        except ValueError as error:
            assert "before close()" in str(error)
        else:
            raise AssertionError

in_child(work)
second.close()
"""
        self.run(program, path)
        assert 2 == len(list(path.parent.iterdir()))

    def test_while_threads_write(self, path):
        """Children of a process whose threads are logging lose nothing, and are never stuck."""
        program = """
import threading

destination = EtlFileDestination(path, flush_interval_s=0.001)
end = threading.Event()

def log_on():
    while not end.is_set():
        log(destination, 0)

threads = [threading.Thread(target=log_on) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    for _ in range(10):
        print(in_child(lambda: log(destination, 7)))
finally:
    end.set()
    for thread in threads:
        thread.join()
"""
        files = [path.with_name(f"app.{child}.etl") for child in self.run(program, path).split()]
        assert [[7]] * 10 == [numbers(file) for file in files]

    def test_grandchildren(self, path):
        """Each process has a file of its own, named after the first."""
        program = """
destination = EtlFileDestination(path)

def work():
    log(destination, 1)
    in_child(lambda: log(destination, 2))

print(in_child(work))
"""
        child = int(self.run(program, path))
        (grandchild,) = set(path.parent.iterdir()) - {path, path.with_name(f"app.{child}.etl")}
        assert re.fullmatch(r"app\.\d+\.etl", grandchild.name)
        assert [2] == numbers(grandchild)

    def test_merged(self, path):
        """A task that goes on in forked processes is one tree of all their files."""
        program = """
import multiprocessing
from eliot_etw import Action, add_destinations, log_message, start_action

def work(task):
    task_id, n = task
    with Action.continue_task(task_id=task_id):
        log_message("part", n=n)

add_destinations(EtlFileDestination(path))
with start_action(action_type="all") as action:
    task_id = action.serialize_task_id()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, [(task_id, n) for n in range(4)], chunksize=1)
        pool.close()
        pool.join()
"""
        self.run(program, path)
        files = sorted(path.parent.iterdir())
        assert len(files) > 1
        tasks = list(Parser.parse_stream(merge_by_time(map(EtlSource, files))))
        parts = [
            message
            for task in tasks
            for message in task.messages()
            if message.contents.get("message_type") == "part"
        ]
        assert [0, 1, 2, 3] == sorted(message.contents["n"] for message in parts)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the size of files")
class TestFullDisk:
    """What happens when nothing can be written."""

    @pytest.mark.parametrize("interval", [0, 1000])
    def test_failures_are_counted(self, make, path, interval):
        """Each message is in the file or a failure; when there is room again, it goes on."""
        destination = make(path, flush_interval_s=interval)
        destination({**PLACE, "n": 0})
        destination.flush()
        real = destination._writer._file
        destination._writer._file = FullDisk(real)
        failed = set()
        for n in range(1, 1000):
            try:
                destination({**PLACE, "n": n, "text": "x" * 1000})
            except OSError:
                failed.add(n)
        destination._writer._file = real
        destination({**PLACE, "n": 1000})
        destination.close()
        assert len(failed) > 800
        assert len(failed) == destination.stats()["failed"]
        assert sorted(set(range(1001)) - failed) == sorted(numbers(path))

    def test_real_limit(self, path):
        """The system's own refusal: the program goes on, and the file is whole to its end."""
        program = (
            "import json, resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
            "d = EtlFileDestination(sys.argv[1])\n"
            "written = []\n"
            "for n in range(3000):\n"
            "    try:\n"
            "        d({'task_uuid': 'x', 'task_level': [1], 'n': n, 'text': 'x' * 1000})\n"
            "        written.append(n)\n"
            "    except OSError: pass\n"
            "try: d.close()\n"
            "except OSError: pass\n"
            "sys.stderr.write(json.dumps([written, d.stats()['failed']]))"
        )
        written, failed = json.loads(run(program, path))
        found = numbers(path)
        assert 3000 - failed == len(found)
        assert set(found) < set(written)

    def test_what_is_lost_at_the_end(self, path):
        """A program that ends while the disk is full says what is lost."""
        program = (
            "import resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "d = EtlFileDestination(sys.argv[1], flush_interval_s=1000)\n"
            f"{LOG}"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        )
        errors = run(program, path)
        assert errors.startswith("eliot_etw: 5 messages are lost: [Errno 27] File too large")
        assert 1 == len(errors.splitlines())

    def test_no_room_at_the_start(self):
        """A disk that is full from the start is told at once."""
        if not os.path.exists("/dev/full"):
            pytest.skip("there is no /dev/full")
        with pytest.raises(OSError, match="No space left"):
            EtlFileDestination("/dev/full")
