"""Tests of reading messages back into trees: in whatever order or state, none is lost."""

import random
import sys
import threading
import weakref
from itertools import chain, zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import exceptions, parse
from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw._written import is_same
from eliot_etw.parse import Parser, Task, TaskLevel, WrittenAction, WrittenMessage

pytest.importorskip("eliot.parse")
eliot = pytest.importorskip("eliot")

# -- Logs to read ---------------------------------------------------------------------------


def message(level, *, uuid="task", **fields):
    """Make a message as it is logged; its time is that of its place, so each is another."""
    return {"task_uuid": uuid, "task_level": level, "timestamp": sum(level) * 1.5, **fields}


def start(level, **fields):
    """Make the first message of an action."""
    fields = {"action_type": "app:work", **fields}
    return message(level, action_status="started", **fields)


def end(level, **fields):
    """Make the last message of an action."""
    fields = {"action_type": "app:work", "action_status": "succeeded", **fields}
    return message(level, **fields)


def log_of(shape, uuid="task", level=()):
    """Log a tree as a program would: a list is an action, a text a message of that type."""
    if isinstance(shape, str):
        return [message([*level] or [1], uuid=uuid, message_type=shape)]
    failed = len(shape) % 2
    outcome = {"action_status": "failed", "reason": "why"} if failed else {}
    kind = f"app:{len(shape)}"
    inner = (log_of(child, uuid, (*level, n)) for n, child in enumerate(shape, 2))
    return [
        start([*level, 1], uuid=uuid, action_type=kind, depth=len(level)),
        *chain.from_iterable(inner),
        end([*level, len(shape) + 2], uuid=uuid, action_type=kind, **outcome),
    ]


types = st.sampled_from(["app:a", "app:b"])
shapes = st.recursive(types, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
action_shapes = st.lists(shapes, max_size=4)


@st.composite
def logs(draw):
    """The logs of one to three tasks that ran at the same time, in the order of logging."""
    tasks = draw(st.lists(shapes, min_size=1, max_size=3))
    each = [log_of(shape, uuid=f"task {n}") for n, shape in enumerate(tasks)]
    return [m for m in chain.from_iterable(zip_longest(*each)) if m is not None]


@st.composite
def damaged_logs(draw):
    """Logs of which some messages are lost, in any order."""
    log = draw(st.permutations(draw(logs())))
    return [m for m in log if draw(st.integers(0, 5))]


# Few places, so that different messages often claim the same one.
odd_messages = st.fixed_dictionaries(
    {
        "task_uuid": st.sampled_from(["x", "y"]),
        "task_level": st.lists(st.integers(1, 3) | st.just(FIRST_DRAWN), min_size=1, max_size=3),
    },
    optional={
        "timestamp": st.sampled_from([1, 1.0, True, float("nan"), None, "noon", 10**400]),
        "action_type": st.sampled_from(["a", "b", 3, []]),
        "action_status": st.sampled_from(["started", "succeeded", "failed", "eaten", []]),
    },
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
unplaced_messages = st.one_of(
    json_values,
    st.fixed_dictionaries({}, optional={"task_uuid": json_values, "task_level": json_values}),
    st.builds(
        lambda level: {"task_uuid": "x", "task_level": level},
        st.sampled_from(["/1/2", [], [0], [1, -1], [1.0], [True], [[1]], ["1"], {"1": 1}, 7]),
    ),
)
streams = st.lists(odd_messages | unplaced_messages, max_size=25)


# -- What was read --------------------------------------------------------------------------


def messages_in(root):
    """List the messages of a tree: start, end, children and conflicts of each action."""
    found, waiting = [], [root]
    for node in waiting:
        if isinstance(node, WrittenMessage):
            found.append(node.as_dict())
        else:
            waiting += filter(None, [node.start_message, node.end_message])
            waiting += [*node.children, *node.conflicts]
    return found


def distinct(messages):
    """Leave out what is exactly the same as an earlier message."""
    kept = []
    for candidate in messages:
        if not any(is_same(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def is_permutation(these, those):
    """Say whether both hold the same messages, each as often."""
    rest = list(those)
    for candidate in these:
        match = next((n for n, other in enumerate(rest) if is_same(candidate, other)), None)
        if match is None:
            return False
        del rest[match]
    return not rest


def add_all(messages, parser=None):
    """Add one message after another; return the completed tasks and the parser."""
    parser = parser or Parser()
    completed = []
    for each in messages:
        tasks, parser = parser.add(each)
        completed += tasks
    return completed, parser


def task_of(messages):
    """Make a task of messages that all belong to it."""
    task = Task()
    for each in messages:
        task = task.add(each)
    return task


def root_of(*messages):
    """Return the tree of a few messages."""
    return task_of(messages).root()


def outline(node):
    """Describe a tree, ours or Eliot's, by what a reader sees of it."""
    if hasattr(node, "as_dict"):
        return dict(node.contents), list(node.task_level.level), node.timestamp
    about = (node.action_type, node.status, node.start_time, node.end_time, node.reason)
    return about, list(node.task_level.level), [outline(child) for child in node.children]


class TestWellFormedLogs:
    """A log that is all there, in any order."""

    @given(logs())
    def test_same_trees_as_eliot(self, log):
        """Tasks, types, statuses, times, places and contents are those that Eliot reads."""
        theirs = [outline(task.root()) for task in eliot.parse.Parser.parse_stream(log)]
        assert theirs == [outline(task.root()) for task in Parser.parse_stream(log)]

    @given(action_shapes.flatmap(lambda shape: st.permutations(log_of(shape))))
    def test_complete_with_the_last_message(self, log):
        """In any order, a task is complete at its last message and not before."""
        *earlier, last = log
        completed, parser = add_all(earlier)
        assert completed == []
        completed, parser = parser.add(last)
        assert [task.is_complete() for task in completed] == [True]
        assert parser.incomplete_tasks() == []

    @given(action_shapes, st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, shape, chance):
        """The tree is the same in whatever order its messages come."""
        log = log_of(shape)
        shuffled = chance.sample(log, len(log))
        assert task_of(log) == task_of(shuffled)

    @given(logs())
    def test_stream_gives_what_add_gives(self, log):
        """`parse_stream` gives the completed tasks as they complete, then the others."""
        completed, parser = add_all(log[:-1])
        assert completed + parser.incomplete_tasks() == list(Parser.parse_stream(log[:-1]))

    def test_stream_does_not_wait_for_its_end(self):
        """A task is given out before the message after its last one is even read."""

        def source():
            yield message([1], message_type="first")
            pytest.fail("the first task was complete")

        assert len(list(next(Parser.parse_stream(source())).messages())) == 1

    def test_incomplete_tasks_in_order_of_arrival(self):
        """Unfinished tasks are listed as they began, not as a hash table has them."""
        names = [f"task {n}" for n in range(50)]
        log = [start([1], uuid=name) for name in names]
        random.Random(1).shuffle(later := [start([2, 1], uuid=name) for name in names])
        _, parser = add_all(log + later)
        assert names == [task.task_uuid for task in parser.incomplete_tasks()]
        assert names == [task.task_uuid for task in Parser.parse_stream(log + later)]

    @pytest.mark.parametrize("level", [[1], (1,), TaskLevel([1])])
    def test_message_outside_any_action(self, level):
        """A message at [1] that names no action is a complete task of its own."""
        lone = message(level, message_type="app:lone")
        (task,) = Parser.parse_stream([lone])
        assert WrittenMessage.from_dict(lone) == task.root()
        assert task.is_complete()


class TestDamagedLogs:
    """Loss, duplicates and contradictions: nothing raises, nothing is dropped."""

    @given(damaged_logs())
    def test_every_message_exactly_once(self, log):
        """Whatever is lost, and in any order: the trees hold what is there, each once."""
        roots = [task.root() for task in Parser.parse_stream(log)]
        assert is_permutation(log, chain.from_iterable(map(messages_in, roots)))

    @given(streams)
    def test_hostile_messages_exactly_once(self, stream):
        """The same for messages that contradict each other or that are no messages at all."""
        stream = distinct(stream)
        expected = [m if isinstance(m, dict) else {"value": m} for m in stream]
        roots = [task.root() for task in Parser.parse_stream(stream)]
        assert is_permutation(expected, chain.from_iterable(map(messages_in, roots)))

    @given(st.lists(odd_messages.filter(lambda m: m["task_uuid"] == "x"), min_size=1))
    def test_duplicates_count_once(self, log):
        """A task holds each distinct message once, however often it is added."""
        task = task_of(log)
        assert is_permutation(distinct(log), messages_in(task.root()))
        assert task_of(log + log) == task
        assert task.add(log[0]) is task

    @given(streams)
    def test_stream_and_add_agree(self, stream):
        """`parse_stream` and `add` say the same of hostile messages too."""
        completed, parser = add_all(stream)
        assert completed + parser.incomplete_tasks() == sorted(
            Parser.parse_stream(stream), key=lambda task: not task.is_complete()
        )

    @given(action_shapes, st.data())
    def test_loss_is_said(self, shape, data):
        """A task from which a message was lost is not complete, and its tree says the same."""
        log = log_of(shape)
        del log[data.draw(st.integers(0, len(log) - 1))]
        task = task_of(log)
        assert not task.is_complete()
        assert not task.root().is_complete()

    @given(st.lists(odd_messages.filter(lambda m: m["task_uuid"] == "x"), min_size=1))
    def test_task_and_tree_agree(self, log):
        """The count that says whether a task is complete agrees with the tree it makes."""
        task = task_of(log)
        root = task.root()
        is_lone = isinstance(root, WrittenMessage)
        assert (is_lone or root.is_complete()) == task.is_complete()

    def test_missing_positions(self):
        """An action names the positions below its end from which nothing came."""
        root = root_of(start([1]), message([3]), end([7]), message([9]))
        assert (range(2, 3), range(4, 7)) == root.missing

    def test_missing_positions_without_end(self):
        """Without an end, positions below the highest one seen are known to be missing."""
        root = root_of(start([1]), message([2]), message([4, 1]))
        assert (range(3, 4),) == root.missing
        assert root.end_message is None

    def test_missing_start(self):
        """An action without its start has its type and status from its end."""
        root = root_of(message([2], message_type="app:a"), end([3], action_status="failed"))
        assert (None, "app:work", "failed", (range(1, 2),)) == (
            root.start_message,
            root.action_type,
            root.status,
            root.missing,
        )

    def test_missing_parents(self):
        """Actions of which only something deep inside came are there, with nothing known."""
        inner = start([2, 3, 1])
        root = root_of(inner)
        (outer,) = root.children
        (action,) = outer.children
        assert [TaskLevel([]), TaskLevel([2]), TaskLevel([2, 3])] == [
            node.task_level for node in (root, outer, action)
        ]
        assert (outer.action_type, outer.status, outer.start_time) == (None, None, None)
        assert inner == action.start_message.as_dict()

    def test_enormous_positions(self):
        """A position that nobody could count up to costs nothing."""
        root = root_of(start([1]), end([10**100]))
        assert (range(2, 10**100),) == root.missing

    def test_child_after_the_end(self):
        """What has a place behind the end is a child like others, and the task waits for it."""
        log = [start([4, 1]), start([1]), message([2]), end([3])]
        task = task_of(log)
        assert not task.is_complete()
        task = task.add(end([4, 2]))
        assert task.is_complete()
        assert [TaskLevel([2]), TaskLevel([4])] == [c.task_level for c in task.root().children]

    def test_late_child_is_a_fragment(self):
        """What comes when its task was given out already is a task again, an incomplete one."""
        late = message([3], message_type="late")
        log = [start([1]), end([2]), late]
        whole, fragment = Parser.parse_stream(log)
        assert (whole.is_complete(), fragment.is_complete()) == (True, False)
        assert [late] == messages_in(fragment.root())

    def test_repeated_log_is_read_twice(self):
        """A parser forgets what it gave out: a whole task that is repeated is another one."""
        log = log_of(["app:a", []])
        first, second = Parser.parse_stream(log + log)
        assert first == second

    def test_end_of_another_type(self):
        """An end ends the action at its place even if it names another type than the start."""
        root = root_of(start([1], action_type="app:a"), end([2], action_type="app:b"))
        assert (root.action_type, root.status, root.is_complete()) == ("app:a", "succeeded", True)

    @pytest.mark.parametrize(
        "odd",
        [
            message([2], action_type="app:a"),
            message([2], action_type="app:a", action_status="eaten"),
            message([2], action_type="app:a", action_status=["started"]),
            message([2], action_type=7, action_status="started"),
            message([2], action_type="app:a", action_status="started"),
        ],
    )
    def test_odd_action_message(self, odd):
        """What names an action, but neither starts nor ends it, is a message in its place."""
        root = root_of(start([1]), odd, end([3]))
        assert [WrittenMessage.from_dict(odd)] == list(root.children)

    def test_odd_first_message_is_no_task_of_its_own(self):
        """A broken start at [1] waits for what follows, as a plain message would not."""
        (task,) = Parser.parse_stream([message([1], action_type="app:a"), message([2]), end([3])])
        assert len(messages_in(task.root())) == 3
        assert not task.is_complete()


class TestConflicts:
    """Two messages that differ and claim one place are both there."""

    @pytest.mark.parametrize("level", [[1], [2], [3]])
    def test_who_came_first_holds_the_place(self, level):
        """Among two of a kind the first has the place, the other is a conflict."""
        log = {1: start([1]), 2: message([2]), 3: end([3])}
        rival = {**log[level[0]], "rival": True}
        root = root_of(*log.values(), rival)
        assert [rival] == [m.as_dict() for m in root.conflicts]
        assert root_of(*log.values()).children == root.children

    @given(st.permutations([start([1]), message([1]), message([2]), start([2, 1]), end([2, 2])]))
    def test_start_and_action_hold_against_a_message(self, log):
        """A start, and an action, have the better claim whoever came first."""
        root = root_of(*log, end([3]))
        assert [TaskLevel([1]), TaskLevel([2])] == [m.task_level for m in root.conflicts]
        assert [child.action_type for child in root.children] == ["app:work"]
        assert root.is_complete()

    @given(st.permutations([start([1]), start([1, 1]), end([1, 2]), end([2]), start([2, 1])]))
    def test_action_in_the_place_of_start_or_end(self, log):
        """An action at the place of its parent's start or end is a child beside them."""
        root = root_of(*log)
        assert [TaskLevel([1]), TaskLevel([2])] == [child.task_level for child in root.children]
        assert (start([1]), end([2])) == (
            root.start_message.as_dict(),
            root.end_message.as_dict(),
        )
        assert root == root_of(*log, start([1]), end([2]))

    def test_start_and_end_in_one_place(self):
        """A start and an end which both claim the first position are start and end."""
        for log in ([start([1]), end([1])], [end([1]), start([1])]):
            root = root_of(*log)
            assert (root.action_type, root.start_time, root.end_time) == ("app:work", 1.5, 1.5)
            assert root.is_complete()

    def test_second_end_elsewhere(self):
        """Of two ends at different places the first is the end, the other a message."""
        second = end([3], action_status="failed")
        root = root_of(start([1]), end([2]), second)
        assert ("succeeded", [second]) == (root.status, [m.as_dict() for m in root.children])

    def test_lookalikes_are_no_duplicates(self):
        """Values that Python calls equal, but that were logged as different ones, both stay."""
        values = [1, 1.0, True, 0.0, -0.0]
        root = root_of(*(message([2], value=value) for value in values))
        assert len(messages_in(root)) == 5

    def test_not_a_number_is_the_same_as_itself(self):
        """A duplicate is one even with a NaN in it."""
        root = root_of(message([2], x=float("nan")), message([2], x=float("nan")))
        assert len(messages_in(root)) == 1

    def test_deeply_nested_values(self):
        """Values nested deeper than Python can compare are compared."""

        def nested(core):
            for _ in range(20_000):
                core = [core]
            return message([2], value=core)

        root = root_of(nested(1), nested(2), nested(1))
        assert len(messages_in(root)) == 2

    def test_values_that_do_not_compare(self):
        """A value whose comparison raises makes two messages different."""

        class Touchy:
            def __eq__(self, other):
                raise ZeroDivisionError

            __hash__ = None

        root = root_of(message([2], x=Touchy()), message([2], x=Touchy()))
        assert len(root.conflicts) == 1


class TestUnplaced:
    """Messages that name no usable place."""

    @given(unplaced_messages)
    def test_a_task_of_its_own(self, thing):
        """It is given out at once, complete, and the parser stays as it was."""
        parser = Parser()
        (task,), after = parser.add(thing)
        assert after is parser
        assert task.is_complete()
        whole = thing if isinstance(thing, dict) else {"value": thing}
        assert WrittenMessage.from_dict(whole) == task.root()
        assert TaskLevel() == task.root().task_level

    def test_keeps_the_task_that_it_names(self):
        """The name of its task is known even if the place in it is not."""
        (task,) = Parser.parse_stream([{"task_uuid": "x", "task_level": "?"}])
        assert task.task_uuid == "x"


class TestPersistence:
    """Parsers and tasks are values: no old version ever changes."""

    @given(damaged_logs(), st.data())
    def test_adding_to_an_old_parser(self, log, data):
        """A message added to any earlier parser does what it would have done then."""
        parsers = [Parser()]
        for each in log:
            parsers.append(parsers[-1].add(each)[1])
        moment = data.draw(st.integers(0, len(log)))
        other = data.draw(st.sampled_from([*log, message([1], uuid="task 0", message_type="new")]))
        expected_tasks, expected = add_all(log[:moment])[1].add(other)
        tasks, parser = parsers[moment].add(other)
        assert (expected_tasks, expected) == (tasks, parser)

    @given(action_shapes, st.data())
    def test_old_versions_stay(self, shape, data):
        """Each version of a task still has the tree that it had, asked in any order."""
        log = data.draw(st.permutations(log_of(shape)))
        versions = [Task()]
        for each in log:
            versions.append(versions[-1].add(each))
        for n in data.draw(st.permutations(range(1, len(versions)))):
            assert task_of(log[:n]).root() == versions[n].root()
            assert log[:n] == [m.as_dict() for m in versions[n].messages()]

    def test_message_dict_may_change_afterwards(self):
        """What the caller does with the dict later does not reach into the tree."""
        lone = message([1], message_type="before")
        (task,), _ = Parser().add(lone)
        lone["message_type"] = "after"
        assert task.root().contents["message_type"] == "before"

    def test_complete_tasks_leave_no_trace(self):
        """A parser keeps nothing of a task that it gave out."""

        class Value:
            pass

        value = Value()
        seen = weakref.ref(value)
        completed, parser = add_all([start([1], value=value), end([2])])
        assert seen() is value
        del value, completed
        assert seen() is None
        assert Parser() == parser

    def test_threads_adding_to_one_version(self):
        """Of several threads that add to one version, each gets a version with its message."""
        base = task_of([start([1])])
        barrier = threading.Barrier(8)
        results = {}

        def add(position):
            barrier.wait(timeout=30)
            results[position] = base.add(message([position]))

        threads = [threading.Thread(target=add, args=(n,)) for n in range(2, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        expected = {n: task_of([start([1]), message([n])]) for n in range(2, 10)}
        assert expected == results


class TestDepth:
    """Nesting is bounded by memory only."""

    def test_deeper_than_the_recursion_limit(self):
        """Actions nested 1,500 deep are read, compared and freed without recursion."""
        starts = [start([2] * depth + [1]) for depth in range(1500)]
        ends = [end([2] * depth + [3]) for depth in range(1499)] + [end([2] * 1500)]
        task = task_of(starts + ends[::-1])
        assert task.is_complete()
        assert len(messages_in(task.root())) == 3000
        assert task_of(ends + starts) == task

    def test_one_message_far_down(self):
        """One message with a very long level takes space by its length, not by its square."""
        far = message([1] * 50_000)
        (task,) = Parser.parse_stream([far])
        assert [far] == messages_in(task.root())


class TestTask:
    """What a single task says and refuses."""

    def test_empty(self):
        """A task without messages has no tree, and says what to do."""
        with pytest.raises(exceptions.InvalidTree, match=r"must have a message.*Call add"):
            Task().root()
        assert not Task().is_complete()
        assert Task().task_uuid == ""

    def test_message_of_another_task(self):
        """A task takes messages of its own uuid only."""
        with pytest.raises(exceptions.WrongTask, match="must be of task 'task'"):
            task_of([start([1])]).add(start([1], uuid="other"))

    @pytest.mark.parametrize("bad", [{}, {"task_uuid": "task", "task_level": "?"}])
    def test_message_without_a_place(self, bad):
        """A task does not take what has no place in it; a parser does."""
        with pytest.raises(exceptions.WrongTaskLevel, match="must have a place"):
            Task().add(bad)

    def test_nothing_joins_an_unplaced_message(self):
        """The task of an unplaced message takes no others, even of the uuid that it names."""
        (task,), _ = Parser().add({"task_uuid": "task", "task_level": "?"})
        with pytest.raises(exceptions.WrongTask):
            task.add(start([1]))

    def test_equality(self):
        """Tasks are equal if their trees are; equal tasks and parsers have equal hashes."""
        one, two = task_of([start([1]), end([2])]), task_of([end([2]), start([1])])
        assert (one, hash(one)) == (two, hash(two))
        assert one != task_of([start([1]), end([3])])
        assert one != task_of([start([1])])
        assert Task() == Task()
        assert one != one.root()
        _, parser = Parser().add(start([1]))
        _, again = Parser().add(start([1]))
        assert (parser, hash(parser)) == (again, hash(again))
        assert parser != Parser()
        assert parser != one

    @pytest.mark.parametrize(
        "between", [lambda task: task.root(), lambda task: task.add(start([1]))]
    )
    def test_adding_stays_cheap(self, between):
        """A look at the tree, or a duplicate, does not make the next message dear."""
        task = task_of([start([1]), *(message([n]) for n in range(2, 500))])
        between(task)
        calls = []
        sys.setprofile(lambda *call: calls.append(call))
        try:
            task.add(message([500]))
        finally:
            sys.setprofile(None)
        assert len(calls) < 100

    def test_repr(self):
        """A task shows its name, size and state."""
        assert repr(task_of([start([1])])) == "<Task 'task': 1 messages, incomplete>"


def test_public_names():
    """The module has the names of Eliot's."""
    assert set(eliot.parse.__all__) == set(parse.__all__)
    assert isinstance(root_of(start([1])), WrittenAction)
