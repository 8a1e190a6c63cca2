"""Tests of the pools: what is submitted logs below the action that submitted it."""

import multiprocessing
import threading
from contextvars import ContextVar

import pytest

from eliot_etw import current_action, log_message, start_action
from eliot_etw.executors import ThreadPoolExecutor
from tests._stories import run, stories

OTHER = ContextVar("OTHER", default="unset")

# What comes before each program that uses processes; the start method is its argument.
PREAMBLE = """
import time
from multiprocessing import get_context
from eliot_etw import log_message, start_action, to_file
from eliot_etw.executors import ProcessPoolExecutor

def pool(**options):
    context = get_context(sys.argv[1])
    return ProcessPoolExecutor(
        1, mp_context=context, initializer=start_logging, initargs=(context,), **options
    )

def start_logging(context):
    if context.get_start_method() != "fork":
        to_file(LOG)

def log(x):
    log_message(f"app:{x}", pid=os.getpid())
    return x

def divide(x, *, by):
    return x / by

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
"""


@pytest.fixture(params=multiprocessing.get_all_start_methods())
def processes(request, tmp_path):
    """Return a function that runs a main program with one way to start processes."""

    def run_main(main):
        lines = "\n    ".join(main.strip().splitlines())
        guarded = f'{PREAMBLE}\nif __name__ == "__main__":\n    to_file(LOG)\n    {lines}\n'
        return run(tmp_path, guarded, request.param)

    return run_main


class TestThreadPoolExecutor:
    """Calls in threads."""

    def test_submit(self, messages):
        """What is logged stands in the submitting action, and the result comes back."""
        with ThreadPoolExecutor(1) as pool, start_action(action_type="app:outer"):
            assert pool.submit(int, "12", base=8).result() == 10
            pool.submit(log_message, "app:message").result()
        assert stories(messages) == [["app:outer", "app:message"]]

    def test_map(self, messages):
        """The same for `map`."""
        with ThreadPoolExecutor(1) as pool, start_action(action_type="app:outer"):
            list(pool.map(log_message, ["app:1", "app:2"]))
        assert stories(messages) == [["app:outer", "app:1", "app:2"]]

    def test_exception(self, messages):
        """What a call raises comes back; that the action goes on is the submitter's to decide."""
        with ThreadPoolExecutor(1) as pool, start_action(action_type="app:outer"):
            error = pool.submit(divmod, 1, 0).exception()
        assert type(error) is ZeroDivisionError
        assert stories(messages) == [["app:outer"]]

    def test_keyword_arguments_of_any_name(self):
        """A call may have arguments of the names that our own functions use."""

        def call(**kwargs):
            return kwargs

        given = {"f": 1, "fn": 2, "self": 3, "action": 4}
        with ThreadPoolExecutor(1) as pool, start_action(action_type="app:outer"):
            assert given == pool.submit(call, **given).result()

    def test_without_action(self, messages):
        """A call is in no action if its submitter was in none, whatever the thread did before."""
        with ThreadPoolExecutor(1) as pool:
            with start_action(action_type="app:outer"):
                pool.submit(log_message, "app:inside").result()
            pool.submit(log_message, "app:outside").result()
        assert stories(messages) == [["app:outer", "app:inside"], "app:outside"]

    def test_actions_at_the_same_time(self, messages):
        """Each call logs to the action that it comes from, whichever thread makes it."""
        barrier = threading.Barrier(2)

        def work(name):
            barrier.wait(timeout=60)
            log_message(name)

        def submit(pool, name):
            with start_action(action_type=name):
                return pool.submit(work, name)

        with ThreadPoolExecutor(2) as pool:
            for future in [submit(pool, "app:1"), submit(pool, "app:2")]:
                future.result()
        pairs = [(m["task_uuid"], m.get("action_type") or m["message_type"]) for m in messages]
        assert len(set(pairs)) == 2

    def test_cancelled(self, messages):
        """A call that is cancelled leaves no gap."""
        wait = threading.Event()
        with ThreadPoolExecutor(1) as pool, start_action(action_type="app:outer"):
            pool.submit(wait.wait, 60)
            cancelled = pool.submit(log_message, "app:message")
            assert cancelled.cancel()
            wait.set()
        assert stories(messages) == [["app:outer"]]

    def test_other_context_variables(self):
        """They stay at home, as with the pool of the standard library."""
        token = OTHER.set("of the submitter")
        with ThreadPoolExecutor(1) as pool, start_action(action_type="app:outer") as action:
            seen = pool.submit(lambda: (OTHER.get(), current_action())).result()
        OTHER.reset(token)
        assert seen == ("unset", action)


class TestProcessPoolExecutor:
    """Calls in other processes, however they are started."""

    def test_submit(self, processes):
        """A call is an action at the place where it was submitted, though logged elsewhere."""
        messages = processes("""
with start_action(action_type="app:outer", pid=os.getpid()), pool() as p:
    future = p.submit(log, "child")
    log_message("app:parent")
    assert future.result() == "child"
""")
        assert stories(messages) == [
            ["app:outer", ["eliot:remote_task", "app:child"], "app:parent"]
        ]
        assert len({message["pid"] for message in messages if "pid" in message}) == 2

    def test_map(self, processes):
        """With `map`, each chunk is."""
        messages = processes("""
with start_action(action_type="app:outer"), pool() as p:
    assert list(p.map(log, range(3), chunksize=2)) == [0, 1, 2]
""")
        assert stories(messages) == [
            ["app:outer", ["eliot:remote_task", "app:0", "app:1"], ["eliot:remote_task", "app:2"]]
        ]

    def test_submitter_that_does_not_wait(self, processes):
        """The action may end before its calls are made."""
        messages = processes("""
with pool() as p:
    with start_action(action_type="app:outer"):
        p.submit(log, "late")
""")
        assert stories(messages) == [["app:outer", ["eliot:remote_task", "app:late"]]]

    def test_exception(self, processes):
        """What a call raises makes its action fail, and comes back."""
        messages = processes("""
with start_action(action_type="app:outer"), pool() as p:
    assert p.submit(divide, 6, by=3).result() == 2
    assert type(p.submit(divide, 6, by=0).exception()) is ZeroDivisionError
""")
        assert stories(messages) == [["app:outer", ["eliot:remote_task"], ["eliot:remote_task!"]]]

    def test_without_action(self, processes):
        """A call is in no action if its submitter was in none, wherever the process started."""
        messages = processes("""
with pool() as p:
    with start_action(action_type="app:outer"):
        p.submit(log, "inside").result()
    p.submit(log, "outside").result()
""")
        assert stories(messages) == [
            ["app:outer", ["eliot:remote_task", "app:inside"]],
            "app:outside",
        ]

    def test_cancelled(self, processes):
        """A call that is cancelled before it is sent is told of in its place."""
        messages = processes("""
with start_action(action_type="app:outer"), pool() as p:
    calls = [p.submit(wait_for, LOG + ".go") for _ in range(4)]
    assert calls[-1].cancel()
    open(LOG + ".go", "w").close()
""")
        [story] = stories(messages)
        assert [["eliot:remote_task"]] * 3 + [["eliot:remote_task!"]] == story[1:]
        [end] = [message for message in messages if "reason" in message]
        assert end["exception"].endswith(".CancelledError")

    def test_call_that_cannot_be_pickled(self, processes):
        """It is told of in its place why a call was not sent."""
        messages = processes("""
with start_action(action_type="app:outer"), pool() as p:
    assert p.submit(log, lambda: None).exception() is not None
    assert p.submit(log, "next").result() == "next"
""")
        assert stories(messages) == [
            ["app:outer", ["eliot:remote_task!"], ["eliot:remote_task", "app:next"]]
        ]

    def test_pool_that_takes_no_calls(self, processes):
        """A call that the pool refuses is told of in its place, and the error is raised."""
        messages = processes("""
with start_action(action_type="app:outer") as action:
    p = pool()
    p.shutdown()
    try:
        p.submit(log, "never")
    except RuntimeError:
        assert eliot_etw.current_action() is action
        log_message("app:refused")
""")
        assert stories(messages) == [["app:outer", ["eliot:remote_task!"], "app:refused"]]

    def test_process_that_dies(self, processes):
        """A call that was sent is the other process's to log: half of it may be all there is."""
        messages = processes("""
with start_action(action_type="app:outer"), pool() as p:
    assert p.submit(os._exit, 1).exception() is not None
""")
        assert [(m["task_level"], m["action_status"]) for m in messages] == [
            ([1], "started"),
            ([2, 1], "started"),
            ([3], "succeeded"),
        ]
