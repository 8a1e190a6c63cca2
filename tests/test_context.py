"""Tests of where messages go: threads, asyncio, trio and other processes."""

import asyncio
import sys
from collections import Counter
from contextvars import copy_context
from threading import Barrier, Thread

import pytest

from eliot_etw import Action, current_action, log_message, start_action
from eliot_etw._context import next_place
from tests._stories import run, stories


def in_thread(work):
    """Run a function in a thread of its own, and wait for it."""
    thread = Thread(target=work)
    thread.start()
    thread.join()


async def work(name, rounds=2):
    """Log in an action, giving way to others in between."""
    with start_action(action_type=name):
        for number in range(rounds):
            await asyncio.sleep(0)
            log_message(f"{name}.{number}")


def story_of(name):
    """Return the outline of what `work` logs."""
    return [name, f"{name}.0", f"{name}.1"]


class TestNextPlace:
    """What the dispatcher's own messages are given."""

    def test_in_an_action(self):
        """It is the action's next place."""
        with start_action(action_type="app:outer") as action:
            assert (action.task_uuid, [2]) == next_place()
            assert action.next_level() == [3]

    def test_outside(self):
        """Each message is a task of its own."""
        (uuid, level), (other, _) = next_place(), next_place()
        assert level == [1]
        assert uuid != other


class TestThreads:
    """A thread has a current action of its own."""

    def test_one_action_in_many_threads(self, messages):
        """Levels are unique, and none is left out."""
        barrier = Barrier(8)

        def log():
            barrier.wait(timeout=60)
            for _ in range(1_000):
                action.log("app:message")

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with start_action(action_type="app:outer") as action:
                threads = [Thread(target=log) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        finally:
            sys.setswitchinterval(interval)
        [story] = stories(messages)
        assert Counter(story) == {"app:outer": 1, "app:message": 8_000}

    def test_thread_starts_without_action(self, messages):
        """What a thread logs is not part of the action that started it."""
        with start_action(action_type="app:outer"):
            in_thread(lambda: log_message("app:message"))
        assert stories(messages) == ["app:message", ["app:outer"]]

    def test_thread_leaves_others_alone(self):
        """An action that one thread enters is not current in another."""
        seen = []

        def enter():
            with start_action(action_type="app:thread") as action:
                seen.append(current_action() is action)

        with start_action(action_type="app:outer") as outer:
            in_thread(enter)
            assert current_action() is outer
        assert seen == [True]

    def test_copied_context(self, messages):
        """Run in a copy of the context, a thread logs to the action directly."""
        with start_action(action_type="app:outer"):
            context = copy_context()
            in_thread(lambda: context.run(log_message, "app:message"))
        assert stories(messages) == [["app:outer", "app:message"]]


class TestAsyncio:
    """A task starts in the action that created it, and has a current action of its own."""

    def test_gather(self, messages):
        """Actions of coroutines that take turns do not get into each other."""

        async def main():
            with start_action(action_type="app:outer") as outer:
                await asyncio.gather(work("app:1"), work("app:2"))
                assert current_action() is outer

        asyncio.run(main())
        assert stories(messages) == [["app:outer", story_of("app:1"), story_of("app:2")]]

    def test_tasks(self, messages):
        """A task goes on in its action after its creator has left it."""

        async def main():
            with start_action(action_type="app:outer") as outer:
                task = asyncio.create_task(work("app:task"))
                await asyncio.sleep(0)
            assert outer is not current_action()
            await task

        asyncio.run(main())
        assert stories(messages) == [["app:outer", story_of("app:task")]]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
    def test_task_group(self, messages):
        """The same for the tasks of a group."""

        async def main():
            with start_action(action_type="app:outer"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(work("app:1"))
                    group.create_task(work("app:2"))

        asyncio.run(main())
        assert stories(messages) == [["app:outer", story_of("app:1"), story_of("app:2")]]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
    def test_task_group_that_fails(self, messages):
        """One task fails, the others' actions fail with their cancellation, the group's too."""

        async def fail():
            await asyncio.sleep(0)
            raise KeyError

        async def main():
            with start_action(action_type="app:outer"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(work("app:work", rounds=100))
                    group.create_task(fail())

        with pytest.raises(BaseExceptionGroup):  # noqa: F821 - new in Python 3.11, as the test
            asyncio.run(main())
        [[outer, (inner, *_)]] = stories(messages)
        assert (outer, inner) == ("app:outer!", "app:work!")

    def test_cancellation(self, messages):
        """An action fails whose task is cancelled."""

        async def main():
            task = asyncio.create_task(work("app:task"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())
        assert stories(messages) == [["app:task!"]]
        assert messages[-1]["exception"] == "asyncio.exceptions.CancelledError"

    def test_timeout(self, messages):
        """A timeout is a cancellation within, and an exception outside."""

        async def main():
            with start_action(action_type="app:outer"):
                await asyncio.wait_for(work("app:slow", rounds=10**9), timeout=0.01)

        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(main())
        [[outer, (inner, *_)]] = stories(messages)
        assert (outer, inner) == ("app:outer!", "app:slow!")

    def test_to_thread(self, messages):
        """`asyncio.to_thread` takes the action along."""

        async def main():
            with start_action(action_type="app:outer"):
                await asyncio.to_thread(log_message, "app:message")

        asyncio.run(main())
        assert stories(messages) == [["app:outer", "app:message"]]

    def test_callbacks(self, messages):
        """What the loop calls later logs to the action that asked for it."""

        async def main():
            with start_action(action_type="app:outer"):
                asyncio.get_running_loop().call_soon(log_message, "app:later")
                await asyncio.sleep(0)

        asyncio.run(main())
        assert stories(messages) == [["app:outer", "app:later"]]


class TestTrio:
    """The same for trio."""

    def test_nursery(self, messages):
        """Tasks of a nursery log within the action that is current where they are started."""
        trio = pytest.importorskip("trio")

        async def child(name):
            with start_action(action_type=name):
                for number in range(2):
                    await trio.lowlevel.checkpoint()
                    log_message(f"{name}.{number}")

        async def main():
            with start_action(action_type="app:outer") as outer:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(child, "app:1")
                    nursery.start_soon(child, "app:2")
                assert current_action() is outer

        trio.run(main)
        [story] = stories(messages)
        assert story[0] == "app:outer"
        assert sorted(story[1:]) == [story_of("app:1"), story_of("app:2")]

    def test_cancellation(self, messages):
        """An action fails that is cancelled."""
        trio = pytest.importorskip("trio")

        async def main():
            with trio.CancelScope() as scope, start_action(action_type="app:outer"):
                scope.cancel()
                await trio.lowlevel.checkpoint()

        trio.run(main)
        assert stories(messages) == [["app:outer!"]]
        assert messages[-1]["exception"] == "trio.Cancelled"


class TestProcesses:
    """A task goes on in another process that is given its id."""

    def test_subprocess(self, tmp_path):
        """Both write to one file; the id travels as text."""
        messages = run(
            tmp_path,
            """
import subprocess

eliot_etw.to_file(LOG)
if len(sys.argv) > 1:
    with eliot_etw.Action.continue_task(task_id=sys.argv[1], action_type="app:child"):
        eliot_etw.log_message("app:message")
else:
    with eliot_etw.start_action(action_type="app:outer") as action:
        task_id = action.serialize_task_id().decode()
        subprocess.run([sys.executable, __file__, task_id], check=True)
""",
        )
        assert stories(messages) == [["app:outer", ["app:child", "app:message"]]]

    def test_continued_in_a_thread(self, messages):
        """The id may be bytes as well; the type is `eliot:remote_task` if none is given."""

        def continue_it():
            with Action.continue_task(task_id=task_id):
                log_message("app:message")

        with start_action(action_type="app:outer") as action:
            task_id = action.serialize_task_id()
            in_thread(continue_it)
        assert stories(messages) == [["app:outer", ["eliot:remote_task", "app:message"]]]
