"""Tests of making the nodes of a tree from sorted messages."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.viewers._nodes import (
    ACTION,
    AFTER_END,
    END,
    GAP,
    MESSAGE,
    START,
    BackwardPass,
    Node,
    role_of,
    time_of,
)

KINDS = {ACTION: "action", MESSAGE: "message", GAP: "gap", AFTER_END: "after end"}


def nodes_of(messages, **options):
    """Make the nodes, the root first."""
    rows = [(tuple(message["task_level"]), message) for message in messages]
    rows.sort(key=lambda row: row[0], reverse=True)
    return [*BackwardPass(**options).nodes(rows)][::-1]


def outline(messages):
    """Say in short which nodes there are."""
    return [
        (node.depth, KINDS[node.kind], node.type if node.type else (node.position, node.until))
        for node in nodes_of(messages)
    ]


class TestRoles:
    """What a message is to the action it stands in."""

    @pytest.mark.parametrize(
        ("role", "position", "fields"),
        [
            (START, 1, {"action_type": "a", "action_status": "started"}),
            (MESSAGE, 2, {"action_type": "a", "action_status": "started"}),
            (END, 2, {"action_type": "a", "action_status": "succeeded"}),
            (END, 2, {"action_type": "a", "action_status": "failed"}),
            (MESSAGE, 1, {"message_type": "m"}),
            (MESSAGE, 1, {"action_type": "a"}),
            (MESSAGE, 1, {"action_status": "started"}),
            (MESSAGE, 1, {"action_type": 5, "action_status": "started"}),
            (MESSAGE, 2, {"action_type": "a", "action_status": "resting"}),
            (MESSAGE, 2, {"action_type": "a", "action_status": ["failed"]}),
        ],
    )
    def test_role(self, role, position, fields):
        """Only a start at the first place starts an action; only the two ends end one."""
        assert role_of(fields, position) == role

    @pytest.mark.parametrize("time", [None, True, "5", float("nan"), float("inf"), 10**400, [5]])
    def test_no_time(self, time):
        """A time that is not a sensible number is none."""
        assert time_of({"timestamp": time}) is None

    @pytest.mark.parametrize("time", [0, 5, 1.5, -3.25])
    def test_time(self, time):
        """Whole numbers and floats are times."""
        assert time_of({"timestamp": time}) == time


class TestTree:
    """Whole and not so whole tasks."""

    def test_whole_task(self, log):
        """Actions take up their starts and ends; the rest is in its place."""
        messages = log("""
            1 start app:request
            2 app:said
            3.1 start app:query
            3.2 app:row
            3.3 end app:query
            4 fail app:request
        """)
        assert outline(messages) == [
            (0, "action", "app:request"),
            (1, "message", "app:said"),
            (1, "action", "app:query"),
            (2, "message", "app:row"),
        ]

    def test_action(self, log):
        """The node of an action knows its type, how it ended and how long it took."""
        (node,) = nodes_of(log("1 start app:request \n 2 @2.5 fail app:request"))
        known = (node.type, node.status, node.duration, node.has_failed, node.has_child)
        assert known == ("app:request", "failed", 2.5, True, False)

    def test_message(self, log):
        """A message outside any action is a tree of one node."""
        (node,) = nodes_of(log("1 app:lone"))
        known = (node.kind, node.type, node.status, node.duration, node.has_failed)
        assert known == (MESSAGE, "app:lone", None, None, False)

    def test_traceback_is_a_failure(self, log):
        """A logged traceback counts as a failure."""
        (node,) = nodes_of(log("1 eliot:traceback"))
        assert node.has_failed

    def test_last(self, log):
        """Each node knows whether a sibling follows."""
        messages = log("""
            1 start a
            2.1 start b
            2.2 m
            2.3 end b
            3 n
            4 end a
        """)
        assert [(n.type, n.is_last) for n in nodes_of(messages)] == [
            ("a", True),
            ("b", False),
            ("m", True),
            ("n", True),
        ]

    def test_gaps(self, log):
        """Positions of which nothing is there are said in their place."""
        messages = log("""
            1 start a
            3 m
            7.2 n
            9 end a
        """)
        assert outline(messages) == [
            (0, "action", "a"),
            (1, "gap", (2, 2)),
            (1, "message", "m"),
            (1, "gap", (4, 6)),
            (1, "action", (7, 0)),
            (2, "message", "n"),
            (1, "gap", (8, 8)),
        ]

    def test_no_start(self, log):
        """Without a start, what is missing before the first message is said, except the start."""
        assert outline(log("4 m \n 5 end a")) == [
            (0, "action", "a"),
            (1, "gap", (2, 3)),
            (1, "message", "m"),
        ]

    def test_no_end(self, log):
        """Without an end nobody knows what is missing after the last message."""
        (root, _) = nodes_of(log("1 start a \n 2 m"))
        assert (root.status, root.end, root.duration) == ("started", None, None)

    def test_neither_start_nor_end(self, log):
        """An action of which only something within is there still has a node."""
        assert outline(log("2.5.2 m")) == [
            (0, "action", (0, 0)),
            (1, "action", (2, 0)),
            (2, "gap", (2, 4)),
            (2, "action", (5, 0)),
            (3, "message", "m"),
        ]

    def test_begun_elsewhere(self, log):
        """What continues a span of somebody else's stands at a drawn position: none is missing."""
        messages = log(f"""
            {FIRST_DRAWN + 3}.1 start a
            {FIRST_DRAWN + 3}.2 end a
            {FIRST_DRAWN + 9}.1 start b
            {FIRST_DRAWN + 9}.3 end b
        """)
        nodes = nodes_of(messages)
        assert [(node.depth, node.type, node.is_elsewhere) for node in nodes] == [
            (0, None, True),
            (1, "a", False),
            (1, "b", False),
            (2, None, False),  # the gap in it
        ]

    def test_begun_elsewhere_deep_within(self, log):
        """Of the actions around it nothing is here either, unless something of them is."""
        story = f"2.3.{FIRST_DRAWN}.1 start a \n 5.{FIRST_DRAWN}.2.{FIRST_DRAWN}.1 start b"
        nodes = [node for node in nodes_of(log(story)) if node.kind == ACTION]
        assert [node.type for node in nodes if not node.is_elsewhere] == ["a", "b"]
        nodes = [node for node in nodes_of(log(f"1 start root \n {story}")) if node.kind == ACTION]
        shown = [(node.depth, node.type) for node in nodes if not node.is_elsewhere]
        assert shown == [(0, "root"), (3, "a"), (4, "b")]

    def test_continued_from_here(self, log):
        """Likewise beside what its beginner logged; that such a thing is late is not said."""
        story = f"1 start a \n 3 end a \n {FIRST_DRAWN}.1 start b \n {FIRST_DRAWN}.2 end b"
        expected = [(0, "action", "a"), (1, "gap", (2, 2)), (1, "action", "b")]
        assert outline(log(story)) == expected
        assert not any(node.is_elsewhere for node in nodes_of(log(story)))
        late = outline(log(f"{story} \n 4 late"))
        assert late == [
            *expected[:2],
            (1, "after end", (3, 0)),
            (1, "message", "late"),
            expected[2],
        ]

    def test_after_the_end(self, log):
        """What was logged after the end of an action comes after a node that says so."""
        messages = log("""
            1 start a
            2 m
            3 end a
            4 late
            5.1 start later
            5.2 end later
        """)
        assert outline(messages) == [
            (0, "action", "a"),
            (1, "message", "m"),
            (1, "after end", (3, 0)),
            (1, "message", "late"),
            (1, "action", "later"),
        ]

    def test_exact_duplicates_count_once(self, log):
        """A log that was read twice gives the tree that it gives once."""
        messages = log("1 start a \n 2 m \n 3 end a")
        assert outline(messages * 2) == outline(messages)

    def test_lookalikes_are_no_duplicates(self, log):
        """A message with another value, or the same of another type, is kept beside the first."""
        messages = log("1 start a \n 2 m n=1 \n 2 m n=1.0 \n 2 m n=2 \n 3 end a")
        for message in messages[1:4]:
            message["timestamp"] = 5
        rivals = [n for n in nodes_of(messages) if n.kind == MESSAGE]
        assert sorted((repr(n.start["n"]), n.is_rival) for n in rivals) == [
            ("1", False),
            ("1.0", True),
            ("2", True),
        ]

    def test_nan_is_a_duplicate_of_itself(self, log):
        """A value that equals nothing makes no rival of a duplicate."""
        message, other = log("1 m") + log("1 m")
        message["n"] = other["n"] = float("nan")
        assert len(nodes_of([message, other])) == 1

    def test_two_starts(self, log):
        """The second start of an action is kept as a rival."""
        messages = log("1 start a n=1 \n 1 start a n=2 \n 2 end a")
        root, rival = nodes_of(messages)
        assert (root.start, rival.start, rival.is_rival) == (messages[0], messages[1], True)

    def test_two_ends(self, log):
        """Of two ends the later place is the end; the other is kept as a message."""
        messages = log("1 start a \n 2 fail a \n 3 end a")
        root, other = nodes_of(messages)
        assert (root.end, other.start) == (messages[2], messages[1])

    def test_message_at_the_place_of_an_action(self, log):
        """A message that claims the place of a whole action is its rival."""
        messages = log("1 start a \n 2 m \n 2.1 start b \n 2.2 end b \n 3 end a")
        assert [(n.kind, n.is_rival) for n in nodes_of(messages)] == [
            (ACTION, False),
            (MESSAGE, True),
            (ACTION, False),
        ]

    def test_deep_values_are_compared(self, log):
        """Values too deep to compare make no failure, but a rival at worst."""
        deep = []
        for _ in range(5000):
            deep = [deep]
        messages = log("1 m \n 1 m")
        for message in messages:
            message.update(deep=deep, timestamp=5)
        assert len([n for n in nodes_of(messages) if n.kind == MESSAGE]) == 2

    def test_tuple_and_back(self, log):
        """A node survives being written down."""
        for node in nodes_of(log("1 start a \n 3 m \n 4 end a \n 5 late")):
            assert Node.from_tuple(node.as_tuple()).as_tuple() == node.as_tuple()


levels = st.lists(st.integers(1, 4) | st.just(FIRST_DRAWN), min_size=1, max_size=4)
statuses = st.sampled_from([None, "started", "succeeded", "failed"])


@given(st.lists(st.tuples(levels, statuses, st.integers(0, 2))))
def test_every_message_is_in_the_tree_once(specs):
    """Whatever the levels and statuses: each different message is in exactly one node."""
    messages = []
    for level, status, n in specs:
        message = {"task_uuid": "t", "task_level": level, "timestamp": 1, "n": n}
        if status:
            message |= {"action_type": "a", "action_status": status}
        messages.append(message)
    found = []
    for node in nodes_of(messages):
        if node.kind in (ACTION, MESSAGE):
            found += [m for m in (node.start, node.end) if m is not None]
    different = [m for i, m in enumerate(messages) if m not in messages[:i]]
    assert len(found) == len(different)
    assert all(message in found for message in different)


@given(st.lists(st.tuples(levels, statuses)))
def test_tree_is_in_order(specs):
    """A node is at most one deeper than the one before it, and only an action has children."""
    messages = [
        {
            "task_uuid": "t",
            "task_level": level,
            "timestamp": 1,
            "action_type": "a",
            "action_status": status,
        }
        for level, status in specs
    ]
    nodes = nodes_of(messages)
    for node, following in pairwise(nodes):
        assert following.depth <= node.depth + (node.kind == ACTION)
        assert node.has_child == (following.depth > node.depth)
