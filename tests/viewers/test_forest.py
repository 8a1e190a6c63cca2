"""Tests of gathering messages into tasks."""

import random
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.parse import Parser, WrittenMessage
from eliot_etw.parse import Task as ParsedTask
from eliot_etw.viewers._forest import Forest, Task
from eliot_etw.viewers._nodes import ACTION, AFTER_END, GAP, MESSAGE

WHOLE = """
    1 start app:request
    2.1 start app:query
    2.2 app:row
    2.3 end app:query
    3 app:done
    4 end app:request
"""


@pytest.fixture(autouse=True)
def closed_forests(monkeypatch):
    """Give back what the forests of a test took on disk."""
    made = []

    def begin(forest, **options):
        made.append(forest)
        return _begin(forest, **options)

    _begin = Forest.__init__
    monkeypatch.setattr(Forest, "__init__", begin)
    yield
    for forest in made:
        forest.close()


def at_once():
    """Make a forest that gives out each task as soon as it is finished."""
    return Forest(hold_bytes=0)


def finished_after(messages, forest):
    """Say after which messages a task came out."""
    return [n for n, message in enumerate(messages, 1) if [*forest.add(message)]]


def contents(task):
    """Give all messages in the nodes of a task."""
    return [
        message
        for node in task.nodes()
        if node.kind in (ACTION, MESSAGE)
        for message in (node.start, node.end)
        if message
    ]


def sort_key(message):
    """Order messages by their place."""
    return message["task_uuid"], message["task_level"], str(message)


class TestFinished:
    """When a task comes out."""

    def test_whole_task(self, log):
        """A task is finished with its last message, not before."""
        assert finished_after(log(WHOLE), at_once()) == [6]

    def test_message_outside_any_action(self, log):
        """Such a message is a finished task."""
        assert finished_after(log("1 app:lone"), at_once()) == [1]

    def test_any_order(self, log):
        """The order in which the messages come does not matter."""
        messages = log(WHOLE)
        for seed in range(50):
            random.Random(seed).shuffle(messages)
            assert finished_after(messages, at_once()) == [6]

    def test_child_that_ends_last(self, log):
        """A task waits for the children that end after it."""
        story = "1 start a \n 2.1 start b \n 3 end a \n 4 late \n 2.2 end b"
        assert finished_after(log(story), at_once()) == [5]

    @pytest.mark.parametrize("lost", range(6))
    def test_something_is_missing(self, log, lost):
        """A task of which a message is lost does not come out before the end of the log."""
        messages = log(WHOLE)
        del messages[lost]
        forest = at_once()
        assert finished_after(messages, forest) == []
        (task,) = forest.rest()
        assert sorted(contents(task), key=sort_key) == sorted(messages, key=sort_key)

    def test_log_that_is_read_twice(self, log):
        """Messages that come twice one after another count once."""
        twice = [message for message in log(WHOLE) for _ in range(2)]
        assert finished_after(twice, at_once())[:1] == [11]

    def test_lookalikes_are_no_duplicates(self, log):
        """A value of another type is another value, even where Python calls them equal."""
        messages = log("1 start a n=1 \n 1 start a n=1.0")
        messages[1]["timestamp"] = messages[0]["timestamp"]
        forest = at_once()
        assert finished_after(messages, forest) == []
        (task,) = forest.rest()
        assert len(contents(task)) == 2

    def test_later_messages_are_a_fragment(self, log):
        """What comes when a task has been given out is shown as what remains of it."""
        forest = at_once()
        finished_after(log(WHOLE), forest)
        late = log("7 app:late")
        forest.add(late[0])
        assert [contents(task) for task in forest.rest()] == [late]

    def test_unfinished(self, log):
        """What is not finished can be looked at, and given up."""
        forest = at_once()
        for message in log("1 start a \n 2 end a", uuid="one") + log("1 start b", uuid="two"):
            for _ in forest.add(message):
                pass
        (task,) = forest.unfinished()
        forest.give_up(task)
        assert (task.uuid, [*forest.unfinished(), *forest.rest()]) == ("two", [])


class TestHold:
    """Finished tasks wait for what was logged after their end."""

    def test_late_message(self, log):
        """What comes soon after the end is in the tree."""
        forest = Forest()
        messages = log(WHOLE + "5 app:late")
        assert finished_after(messages, forest) == []
        (task,) = forest.rest()
        assert len(contents(task)) == 7

    def test_in_order_of_completion(self, log):
        """Tasks come out in the order in which they were finished, when enough came after."""
        forest = Forest(hold_bytes=10_000)
        out = []
        for n in range(100):
            for message in log("1 start a \n 2 end a", uuid=f"task-{n:03}"):
                out += [task.uuid for task in forest.add(message)]
        assert out == [f"task-{n:03}" for n in range(len(out))]
        assert 80 < len(out) < 100

    def test_action_that_starts_after_the_end(self, log):
        """A task is not given out while an action is running in it."""
        forest = Forest(hold_bytes=5_000)
        out = []
        for message in log("1 start a \n 2 end a \n 3.1 start b", uuid="open"):
            out += [task.uuid for task in forest.add(message)]
        for n in range(100):
            for message in log("1 lone", uuid=f"task-{n:03}"):
                out += [task.uuid for task in forest.add(message)]
        for message in log("3.1 start b \n 3.2 end b", uuid="open")[1:]:
            out += [task.uuid for task in forest.add(message)]
        out += [task.uuid for task in forest.rest()]
        assert out.index("open") > 80


class TestSpill:
    """Nothing changes when messages have to wait on disk."""

    def test_unfinished_tasks(self, log):
        """Tasks that never end come out at the end in the order in which they began, complete."""
        forest = Forest(budget_bytes=20_000)
        expected = []
        for n in range(300):
            messages = log("1 start a \n 2 m", uuid=f"task-{n:03}")
            expected += messages
            assert finished_after(messages, forest) == []
            assert len([*forest.unfinished()]) < 40
        found = []
        for task in forest.rest():
            found += contents(task)
        assert found == expected

    def test_task_that_goes_on(self, log):
        """A task that was put on disk comes out when its last message comes."""
        forest = Forest(hold_bytes=0, budget_bytes=10_000)
        messages = log(WHOLE, uuid="long")
        assert finished_after(messages[:4], forest) == []
        for n in range(100):
            forest.add(log("1 start other", uuid=f"task-{n:03}")[0])
        assert forest.add(messages[4]) == ()
        (found,) = [contents(task) for task in forest.add(messages[5])]
        assert sorted(found, key=sort_key) == sorted(messages, key=sort_key)
        assert "long" not in [task.uuid for task in forest.rest()]

    def test_one_endless_task(self, log, monkeypatch):
        """A task too big to hold is drawn from disk, in the same order and with the same marks."""
        monkeypatch.setattr("eliot_etw.viewers._forest._BUDGET_BYTES", 100_000)
        story = "1 start service\n" + "\n".join(
            f"{n}.1 start r \n {n}.2 m \n {n}.3 end r" for n in range(2, 400) if n != 77
        )
        messages = log(story + "\n400 end service \n 401 late")

        def drawn(forest):
            for message in messages:
                assert not [*forest.add(message)]
            (task,) = forest.rest()
            return list(task.nodes())

        held, spilled = drawn(Forest()), drawn(Forest(budget_bytes=50_000))
        assert [node.as_tuple() for node in spilled] == [node.as_tuple() for node in held]
        assert [node.kind for node in spilled if node.kind in (GAP, AFTER_END)] == [GAP, AFTER_END]

    def test_strange_names(self, log):
        """Lone surrogates and whatever else text may hold can be put on disk."""
        uuid = "\ud800 \0 'x"
        forest = Forest(budget_bytes=1)
        for message in log("1 start a \n 2 m", uuid=uuid):
            forest.add(message)
        (task,) = forest.rest()
        assert (task.uuid, len(contents(task))) == (uuid, 2)

    def test_strange_values(self, log):
        """Big integers, NaN, and values too deep for the usual way survive the disk."""
        deep = []
        for _ in range(3000):
            deep = [deep]
        forest = Forest(budget_bytes=1)
        messages = log("1 start a \n 2 m \n 3 n")
        messages[0]["n"] = 10**500
        messages[1]["n"] = float("inf")
        messages[2]["n"] = deep
        for message in messages:
            forest.add(message)
        (task,) = forest.rest()
        values = [message["n"] for message in contents(task)]
        assert values[:2] == [10**500, float("inf")]
        assert isinstance(values[2], list)


def test_absurd_depth(log):
    """A level a hundred thousand deep is shown as one that is deep, at once."""
    message = log("1 m")[0] | {"task_level": [1] * 100_000}
    task = Task("t", 1)
    forest = Forest()
    forest.add(message)
    (task,) = forest.rest()
    assert contents(task) == [message]


steps = st.lists(st.sampled_from(["message", "open", "close"]), max_size=25)


def story_of(steps, uuid, root=()):
    """Make the messages of a task in which these things happen one after another."""
    messages, stack = [], []

    def say(level, **fields):
        messages.append(
            {"task_uuid": uuid, "task_level": level, "timestamp": len(messages), **fields}
        )

    def begin(level):
        say([*level, 1], action_type="a", action_status="started")
        stack.append([*level, 1])

    def place():
        stack[-1][-1] += 1
        return stack[-1].copy()

    begin([*root])
    for step in [*steps, *["close"] * (steps.count("open") + 1)]:
        if not stack:
            break
        if step == "open":
            begin(place())
        elif step == "close":
            say(place(), action_type="a", action_status="succeeded")
            stack.pop()
        else:
            say(place(), message_type="m")
    return messages


@settings(deadline=None)
@given(
    st.lists(steps, min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0, 3_000, 10**9]),
    st.sampled_from([2_000, 10**9]),
)
def test_nothing_is_lost(stories, chance, losses, doubles, hold, budget):
    """Any order, loss and duplication: every message is shown, and once if it waited for all."""
    messages = []
    for n, story in enumerate(stories):
        messages += story_of(story, f"task-{n}")
    chance.shuffle(messages)
    for _ in range(min(losses, len(messages) - 1)):
        messages.pop()
    twice = messages + chance.choices(messages, k=doubles)
    shown = []
    with closing(Forest(hold_bytes=hold, budget_bytes=budget)) as forest:
        for message in twice:
            for task in forest.add(message):
                shown += contents(task)
        for task in forest.rest():
            shown += contents(task)
    if hold == 10**9 or not doubles:
        assert sorted(shown, key=sort_key) == sorted(messages, key=sort_key)
    else:
        assert all(message in shown for message in messages)


@settings(deadline=None)
@given(steps, st.randoms(use_true_random=False), st.integers(0, 4))
def test_agrees_with_the_parser(story, chance, losses):
    """A task is finished here exactly if the parser calls it complete."""
    messages = story_of(story, "task")
    chance.shuffle(messages)
    del messages[: min(losses, len(messages) - 1)]
    forest = at_once()
    came_out = bool(finished_after(messages, forest))
    (task,) = Parser.parse_stream(messages)
    assert came_out == task.is_complete()


def is_whole(root):
    """Say whether a tree is complete."""
    return isinstance(root, WrittenMessage) or root.is_complete()


@settings(deadline=None)
@given(st.lists(steps, max_size=3), steps | st.none(), st.randoms(use_true_random=False))
def test_agrees_with_the_parser_on_what_began_elsewhere(continued, own, chance):
    """The same for what continues a task from elsewhere, with the task's own log and without."""
    messages = [] if own is None else story_of(own, "task")
    for n, story in enumerate(continued):
        # In actions of which nothing else is known, if nobody else says what is there.
        root = [*([2] * n if own is None else []), FIRST_DRAWN + n]
        messages += story_of(
            story, "task", [*root, 2, FIRST_DRAWN] if chance.random() < 0.5 else root
        )
    chance.shuffle(messages)
    task, parsed = Task("task", 1), ParsedTask()
    for message in messages:
        task.add(tuple(message["task_level"]), message)
        parsed = parsed.add(message)
        assert task.is_finished() == parsed.is_complete() == is_whole(parsed.root())
