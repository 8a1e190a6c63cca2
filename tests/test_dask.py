"""Tests of Dask's computations as trees, with the real Dask, on one machine and on a cluster."""

import copyreg
import os
import subprocess
import sys
import threading
from functools import partial
from operator import add
from types import MethodType

import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.dataframe")

import dask
import dask.array
import dask.bag
import dask.dataframe
import pandas
from dask._task_spec import DataNode, Task, TaskRef
from dask.delayed import Delayed
from distributed import Client, LocalCluster

from eliot_etw import current_action, log_message, start_action, to_file
from eliot_etw.dask import _trace_graph, compute_with_trace, persist_with_trace
from eliot_etw.parse import Parser
from eliot_etw.sources import FileSource, merge_by_time
from eliot_etw.testing import LoggedAction


@pytest.fixture(autouse=True)
def no_methods_of_twisted(monkeypatch):
    """Pickle methods as Python does: Twisted, which other tests load, knows no class methods."""
    monkeypatch.delitem(copyreg.dispatch_table, MethodType, raising=False)


@pytest.fixture(autouse=True)
def threads():
    """Have threads run what does not ask for anything else."""
    with dask.config.set(scheduler="threads"):
        yield


@pytest.fixture(scope="module")
def cluster():
    """Return a client of a cluster whose worker is in this process."""
    with Client(processes=False, dashboard_address=":0", set_as_default=False) as client:
        yield client


def multiply(x):
    """Log, and multiply."""
    log_message("multiply", x=x)
    return x * 4


def raise_error(x):
    """Fail."""
    raise ValueError(x)


async def multiply_later(x):
    """Log, and multiply, as a coroutine."""
    log_message("multiply", x=x)
    return x * 4


may_end = threading.Event()


def wait():
    """Wait until the test lets it go on; say whether it did."""
    return may_end.wait(60)


def bag():
    """Make a bag."""
    return dask.bag.from_sequence([1, 2, 3], npartitions=3).map(multiply).fold(add)


def array():
    """Make an array."""
    return dask.array.arange(10, chunks=3).map_blocks(multiply, dtype="i8").sum()


def frame():
    """Make a data frame."""
    frame = dask.dataframe.from_pandas(pandas.DataFrame({"a": [1, 2, 1]}), npartitions=2)
    return frame.a.map_partitions(multiply, meta=("a", "i8")).sum()


def delayed():
    """Make a call that waits."""
    return dask.delayed(multiply)(dask.delayed(multiply)(2))


def older_graph():
    """Make a graph as Dask's older versions and some libraries do: calls in tuples in a dict."""
    tasks = {"a": 1, "b": [(multiply, "a"), (multiply, (add, "a", 2))], "c": "b", "d": (sum, "c")}
    return Delayed("d", tasks)


KINDS = [bag, array, frame, delayed, older_graph]


def is_complete(messages):
    """Say whether there is one tree, and nothing is missing in it."""
    return [tree.is_complete() for tree in Parser.parse_stream(messages)] == [True]


def tasks_of(messages):
    """Return what is said of each task, by its key."""
    return {m["key"]: m for m in messages if m.get("message_type") == "dask:task"}


class TestResults:
    """What is computed is what Dask computes."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("with_trace", [compute_with_trace, persist_with_trace])
    def test_on_this_machine(self, kind, with_trace, messages):
        """The result is right, and the tree is complete."""
        collection = kind()
        expected = dask.compute(collection)
        messages.clear()
        (result,) = with_trace(collection)
        assert is_complete(messages)
        assert dask.compute(result) == expected

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("with_trace", [compute_with_trace, persist_with_trace])
    def test_on_a_cluster(self, kind, with_trace, messages, cluster):
        """The result is right, and the tree is complete."""
        collection = kind()
        expected = dask.compute(collection)
        messages.clear()
        with cluster.as_current(), dask.config.set(scheduler=None):
            (result,) = with_trace(collection)
            assert dask.compute(result) == expected
        assert is_complete(messages)

    def test_several(self, messages):
        """Collections may be anywhere in the arguments; what is none of them is returned."""
        bags = bag()
        arguments = bags, [array(), 5], {"x": bags}, "text"
        expected = dask.compute(*arguments)
        messages.clear()
        assert compute_with_trace(*arguments) == expected
        assert is_complete(messages)

    def test_nothing(self, messages):
        """There may be nothing to compute."""
        assert compute_with_trace(1, "x") == (1, "x")
        assert persist_with_trace() == ()
        assert [m["action_type"] for m in messages] == ["dask:compute"] * 2 + ["dask:persist"] * 2

    def test_persisted_data_frame(self):
        """It is one still, with its rows and its divisions."""
        frame = dask.dataframe.from_pandas(pandas.DataFrame({"a": [1, 2, 3]}), npartitions=3)
        (persisted,) = persist_with_trace(frame + 1)
        assert persisted.divisions == frame.divisions
        assert persisted.compute().a.tolist() == [2, 3, 4]

    def test_futures(self, messages, cluster):
        """What a cluster holds already can be computed with."""
        with cluster.as_current(), dask.config.set(scheduler=None):
            (numbers,) = persist_with_trace(dask.bag.from_sequence([1, 2], npartitions=2))
            messages.clear()
            assert compute_with_trace(numbers.map(multiply)) == ([4, 8],)
        assert is_complete(messages)

    def test_persisting_does_not_wait(self, messages, cluster):
        """On a cluster the action ends, and the program goes on, while the tasks run."""
        may_end.clear()
        with cluster.as_current(), dask.config.set(scheduler=None):
            (waiting,) = persist_with_trace(dask.delayed(wait)())
            may_end.set()
            assert dask.compute(waiting) == (True,)
        assert is_complete(messages)

    def test_coroutines(self, messages, cluster):
        """A task that is a coroutine function is awaited within its action."""
        with cluster.as_current(), dask.config.set(scheduler=None):
            assert compute_with_trace(dask.delayed(multiply_later)(2)) == (8,)
        (task,) = LoggedAction.of_type(messages, "eliot:remote_task")
        assert task.type_tree() == {"eliot:remote_task": ["dask:task", "multiply"]}


class TestTree:
    """What is logged."""

    @pytest.mark.parametrize(
        ("with_trace", "action_type"),
        [(compute_with_trace, "dask:compute"), (persist_with_trace, "dask:persist")],
    )
    def test_shape(self, with_trace, action_type, messages):
        """Each task is an action within the computation, which is one in the current action."""
        with start_action(action_type="all") as action:
            with_trace(delayed())
            assert current_action() is action
        (logged,) = LoggedAction.of_type(messages, "all")
        task = {"eliot:remote_task": ["dask:task", "multiply"]}
        assert logged.type_tree() == {"all": [{action_type: [task, task]}]}

    def test_dependencies(self, messages):
        """A task names those that it needs, which come before it in the tree."""
        compute_with_trace(bag())
        tasks = tasks_of(messages)
        levels = {key: task["task_level"] for key, task in tasks.items()}
        last = max(tasks.values(), key=lambda task: task["task_level"])
        assert len(last["dependencies"]) == 3
        for key, task in tasks.items():
            assert task["dependencies"] == sorted(task["dependencies"])
            assert all(levels[needed] < levels[key] for needed in task["dependencies"])

    def test_keys(self, messages):
        """Keys are text; another name of a task is not told apart from it."""
        compute_with_trace(
            Delayed("d", {("a", 0): (int,), "b": ("a", 0), "c": "b", "d": (multiply, "c")})
        )
        tasks = tasks_of(messages)
        assert {key: task["dependencies"] for key, task in tasks.items()} == {
            "a-0": [],
            "d": ["a-0"],
        }

    def test_calls_within_a_task(self, messages):
        """What the arguments of a task log is in the task, too."""
        compute_with_trace(Delayed("a", {"a": (add, (multiply, 1), (multiply, 2))}))
        (task,) = LoggedAction.of_type(messages, "eliot:remote_task")
        assert task.type_tree() == {"eliot:remote_task": ["dask:task", "multiply", "multiply"]}

    def test_shared_task(self, messages):
        """A task that two collections need runs once, and is logged once."""
        shared = dask.delayed(multiply)(2)
        compute_with_trace(dask.delayed(multiply)(shared), dask.delayed(str)(shared))
        assert len(tasks_of(messages)) == len(LoggedAction.of_type(messages, "eliot:remote_task"))
        assert [m["x"] for m in messages if m.get("message_type") == "multiply"] == [2, 8]

    def test_failure(self, messages):
        """The task and the computation have failed with what was raised."""
        with pytest.raises(ValueError, match="2"):
            compute_with_trace(dask.delayed(raise_error)(2))
        failed = [m for m in messages if m.get("action_status") == "failed"]
        assert [m["action_type"] for m in failed] == ["eliot:remote_task", "dask:compute"]
        assert [m["reason"] for m in failed] == ["2", "2"]
        assert current_action() is None


def log_to(folder):
    """Have a process log to a file of its own."""
    to_file(os.path.join(folder, f"{os.getpid()}.log"))


def test_other_processes(tmp_path):
    """What several processes log is one tree."""
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster) as client, dask.config.set(scheduler=None):
        client.run(log_to, tmp_path)
        log_to(tmp_path)
        (result,) = compute_with_trace(bag())
    logs = sorted(tmp_path.glob("*.log"))
    messages = list(merge_by_time(map(FileSource, logs)))
    assert (result, len(logs), is_complete(messages)) == (24, 3, True)
    assert len(LoggedAction.of_type(messages, "eliot:remote_task")) == 4


def test_processes_of_one_machine(tmp_path):
    """So it is if Dask starts the processes without a cluster."""
    log_to(tmp_path)
    settings = {"multiprocessing.initializer": partial(log_to, tmp_path), "num_workers": 2}
    with dask.config.set(settings, scheduler="processes"):
        (result,) = compute_with_trace(bag())
    messages = list(merge_by_time(map(FileSource, sorted(tmp_path.glob("*.log")))))
    assert (result, is_complete(messages)) == (24, True)
    assert len(LoggedAction.of_type(messages, "eliot:remote_task")) == 4


def test_what_dask_knows_of_a_task():
    """Its key, what it needs, and whether it brings data in, are as before."""
    task = Task("t", add, TaskRef("x"), 1, _data_producer=True)
    with start_action(action_type="a") as action:
        traced = _trace_graph({"t": task, "x": DataNode("x", 1)}, action)["t"]
    assert traced.key == "t"
    assert traced.dependencies == {"x"}
    assert traced.data_producer
    assert traced({"x": 1}) == 2


# What Eliot's documentation shows, which is to run with another import.
EXAMPLE = """
from os import getpid

from dask.bag import from_sequence
from dask.distributed import Client
from eliot_etw import log_call, to_file
from eliot_etw.dask import compute_with_trace

@log_call
def multiply(x, y=7):
    return x * y

@log_call
def add(x, y):
    return x + y

@log_call
def main_computation():
    bag = from_sequence([1, 2, 3])
    bag = bag.map(multiply).fold(add)
    return compute_with_trace(bag)[0]

def _start_logging():
    to_file(open("{}.log".format(getpid()), "a"))

def main():
    _start_logging()
    client = Client(n_workers=3, threads_per_worker=1)
    client.run(_start_logging)
    print("Result:", main_computation())

if __name__ == "__main__":
    import dask_eliot
    dask_eliot.main()
"""


def test_example_of_eliot(tmp_path):
    """It runs with only the import changed, and logs the tree that the documentation shows."""
    (tmp_path / "dask_eliot.py").write_text(EXAMPLE)
    command = [sys.executable, "dask_eliot.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert (run.returncode, run.stdout) == (0, b"Result: 42\n"), run.stderr
    logs = sorted(tmp_path.glob("*.log"))
    messages = list(merge_by_time(map(FileSource, logs)))
    assert (len(logs), is_complete(messages)) == (4, True)
    (main,) = LoggedAction.of_type(messages, "dask_eliot.main_computation")
    ((_, (compute,)),) = main.type_tree().items()
    ((_, tasks),) = compute.items()
    multiplied = {"eliot:remote_task": ["dask:task", {"dask_eliot.multiply": []}]}
    added = {"eliot:remote_task": ["dask:task", *[{"dask_eliot.add": []}] * 2]}
    assert (*compute, tasks) == ("dask:compute", [*[multiplied] * 3, added])


def test_missing_package():
    """Who imports the module without Dask reads what to install."""
    program = "import sys; sys.modules['dask'] = None; import eliot_etw.dask"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert "pip install 'eliot-etw[dask]'" in run.stderr.decode()
