"""Tests of forked processes: one tree, each place once, each end once."""

import ast
import os
from collections import Counter
from itertools import count
from pathlib import Path
from threading import Thread

import pytest

from eliot_etw import _fork
from tests._stories import run, stories

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

PREAMBLE = """
import signal, threading, time, warnings
from eliot_etw import current_action, log_message, start_action, start_task

destination = eliot_etw.FileDestination(LOG)
eliot_etw.add_destinations(destination)
# That the child of a process with threads may hang is not what these tests are about.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)

def forked(work):
    # Do some work in a child that ends then, and wait for it.
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)

def open_files():
    return len(os.listdir("/dev/fd"))
"""


@pytest.fixture
def forks(tmp_path):
    """Return a function that runs a program."""
    return lambda program: run(tmp_path, PREAMBLE + program)


def levels(messages):
    """Count how often each place is taken."""
    return Counter((m["task_uuid"], *m["task_level"]) for m in messages)


def test_child_logs_to_the_action(forks):
    """What the child logs stands in the action that it was forked in."""
    messages = forks("""
with start_action(action_type="app:outer"):
    log_message("app:before")
    forked(lambda: log_message("app:child"))
    log_message("app:after")
""")
    assert stories(messages) == [["app:outer", "app:before", "app:child", "app:after"]]


def test_child_that_logs_nothing(forks):
    """It leaves no gap."""
    messages = forks("""
with start_action(action_type="app:outer"):
    forked(lambda: None)
    log_message("app:after")
""")
    assert stories(messages) == [["app:outer", "app:after"]]


def test_block_that_both_leave(forks):
    """The parent logs the end of the action, and the child the ends of its own actions only."""
    messages = forks("""
with start_action(action_type="app:outer"):
    with start_action(action_type="app:inner"):
        pid = os.fork()
        with start_action(action_type="app:both"):
            pass
        if pid:
            os.waitpid(pid, 0)
    if pid:
        log_message("app:parent")
""")
    inner = ["app:inner", ["app:both"], ["app:both"]]
    assert stories(messages) == [["app:outer", inner, "app:parent"]]


def test_block_that_the_child_leaves_with_an_exception(forks):
    """Not even then does the child log the end."""
    messages = forks("""
with start_action(action_type="app:outer") as action:
    def fail():
        with action:
            raise KeyError
    forked(fail)
""")
    assert stories(messages) == [["app:outer"]]


@pytest.mark.parametrize(
    "block",
    [
        "start_action(action_type='app:inner')",
        "start_task(action_type='app:task') as task, task",  # entered twice
        "start_action(action_type='app:inner').context() as inner",
    ],
)
def test_actions_around(block, forks):
    """All that the process is in is shared, also when the child has left the innermost."""
    messages = forks(f"""
with start_action(action_type="app:outer"):
    log_message("app:1")
    with {block}:
        pid = os.fork()
    log_message("app:2")
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
""")
    assert {1} == set(levels(messages).values())
    assert [m.get("message_type") for m in messages].count("app:2") == 2


def test_outside_of_actions(forks):
    """What parent and child log then are tasks of their own."""
    messages = forks("""
pid = os.fork()
log_message("app:message")
if pid:
    os.waitpid(pid, 0)
""")
    assert stories(messages) == ["app:message", "app:message"]


def test_forks_of_forks(forks):
    """All of them log to the one action."""
    messages = forks("""
with start_action(action_type="app:outer"):
    forked(lambda: [log_message("app:1"), forked(lambda: log_message("app:2"))])
    forked(lambda: log_message("app:3"))
""")
    assert stories(messages) == [["app:outer", "app:1", "app:2", "app:3"]]


def test_many_at_the_same_time(forks):
    """No place is taken twice or left out, however the processes get in each other's way."""
    messages = forks("""
with start_action(action_type="app:outer"):
    for _ in range(3):
        if not (pid := os.fork()):
            break
    for _ in range(2000):
        log_message("app:message")
    if not pid:
        os._exit(0)
    for _ in range(3):
        os.wait()
""")
    [story] = stories(messages)
    assert Counter(story) == {"app:outer": 1, "app:message": 4 * 2000}


def test_places_taken_at_the_same_time(forks):
    """The system does what is relied on: it moves a file's position in one step."""
    forks("""
from array import array

with start_action(action_type="app:outer") as action:
    for _ in range(2):
        if not (pid := os.fork()):
            break
    taken = array("Q", (action.next_level()[-1] for _ in range(30_000)))
    with open(f"{LOG}.{os.getpid()}", "wb") as file:
        taken.tofile(file)
    if not pid:
        os._exit(0)
    for _ in range(2):
        pid, _ = os.wait()
        with open(f"{LOG}.{pid}", "rb") as file:
            taken.fromfile(file, 30_000)
assert sorted(taken) == list(range(2, 90_002))
""")


def test_place_asked_for_while_the_count_is_handed_over():
    """Another thread waits for that instant, and gets the place after the last."""
    places, taken = _fork._SharedPlaces(count(8)), []
    thread = Thread(target=lambda: taken.append(next(places)))
    thread.start()
    thread.join(timeout=0.05)  # time enough to be wrong
    places.hand_over()
    thread.join()
    assert (taken, next(places)) == ([8], 9)


def test_threads_that_log_during_forks(forks):
    """The count is handed over in between the messages of other threads."""
    messages = forks("""
sys.setswitchinterval(1e-6)
for _ in range(20):
    with start_action(action_type="app:outer") as action:
        def work():
            for _ in range(50):
                action.log("app:message")
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        forked(lambda: log_message("app:child"))
        for thread in threads:
            thread.join()
""")
    assert [Counter(story) for story in stories(messages)] == [
        {"app:outer": 1, "app:message": 3 * 50, "app:child": 1}
    ] * 20


def test_child_that_is_killed(forks):
    """Nobody waits for it, and what is logged is not claimed twice."""
    messages = forks("""
with start_action(action_type="app:outer"):
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        while True:
            log_message("app:child")
            os.write(w, b".")
    os.read(r, 100)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for _ in range(100):
        log_message("app:parent")
""")
    assert {1} == set(levels(messages).values())
    assert Counter(m.get("message_type") for m in messages)["app:parent"] == 100


def test_child_of_a_parent_that_is_killed(forks):
    """The child goes on."""
    messages = forks("""
r, w = os.pipe()
if not os.fork():
    with start_action(action_type="app:outer"):
        parent = os.getpid()
        if os.fork():
            os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.01)
        log_message("app:child")
        os._exit(0)
os.wait()
os.close(w)
os.read(r, 1)  # until the last process that could write to the pipe has ended
""")
    assert [m["task_level"] for m in messages] == [[1], [2]]


def test_daemon_that_closes_all_files(forks, tmp_path):
    """Files that it opens under their numbers stay as they are, and logging goes on."""
    other = tmp_path / "other"
    messages = forks(f"""
def work():
    eliot_etw.remove_destination(destination)
    os.closerange(3, 100)
    files = [os.open({str(other)!r}, os.O_RDWR | os.O_CREAT) for _ in range(50)]
    eliot_etw.to_file(LOG)
    log_message("app:child")
    current_action()._places = None  # as when the action is over and forgotten
    for file in files:
        assert os.lseek(file, 0, os.SEEK_CUR) == 0
    os.write(files[0], b"all is well")

with start_action(action_type="app:outer"):
    forked(work)
""")
    assert other.read_bytes() == b"all is well"
    assert [m.get("message_type") for m in messages] == [None, "app:child", None]


def test_no_file_to_be_had(forks):
    """Then logging goes on as well as it can."""
    messages = forks("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (open_files(), open_files()))
with start_action(action_type="app:outer"):
    forked(lambda: log_message("app:child"))
    log_message("app:parent")
""")
    assert [m.get("message_type") for m in messages] == [None, "app:child", "app:parent", None]


def test_files_are_closed(forks):
    """An action that is over takes no file any more."""
    messages = forks("""
before = open_files()
with start_action(action_type="app:outer"):
    with start_action(action_type="app:inner"):
        forked(lambda: None)
        assert open_files() == before + 2
    assert open_files() == before + 1
assert open_files() == before
""")
    assert stories(messages) == [["app:outer", ["app:inner"]]]


def test_programs_started_are_not_forks(forks):
    """A subprocess costs nothing and inherits nothing."""
    messages = forks("""
import subprocess
before = open_files()
with start_action(action_type="app:outer"):
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert open_files() == before
""")
    assert stories(messages) == [["app:outer"]]


def test_deep_nesting(forks):
    """However deep, a fork leaves enough files for the program, and each end is logged once."""
    messages = forks("""
from contextlib import ExitStack
before = open_files()
with ExitStack() as stack:
    for _ in range(200):
        stack.enter_context(start_action(action_type="app:outer"))
    pid = os.fork()
    assert open_files() <= before + 64
    log_message("app:message")
if pid:
    os.waitpid(pid, 0)
""")
    assert {1} == set(levels(messages).values())
    assert len(messages) == 200 * 2 + 2


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fork", [["app:outer", "app:child"]]),
        ("spawn", ["app:child", ["app:outer"]]),
    ],
)
def test_multiprocessing(method, expected, tmp_path):
    """A forked process is in the action that started it; one that is spawned starts anew."""
    messages = run(
        tmp_path,
        """
from multiprocessing import get_context

method = sys.argv[1]
if method == "spawn" or __name__ == "__main__":
    eliot_etw.to_file(LOG)

if __name__ == "__main__":
    with eliot_etw.start_action(action_type="app:outer"):
        process = get_context(method).Process(target=eliot_etw.log_message, args=["app:child"])
        process.start()
        process.join()
""",
        method,
    )
    assert expected == stories(messages)


def test_no_test_forks_the_process_of_the_tests():
    """It has threads of others, which may hold locks: tests fork in programs of their own."""
    found = [
        f"{path.name}:{node.lineno}"
        for path in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (
            getattr(node.func, "attr", "") in {"fork", "forkpty"}
            or any(option.arg == "preexec_fn" for option in node.keywords)
        )
    ]
    assert found == []
