"""Tests of trees as JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.viewers._forest import Task
from eliot_etw.viewers._tree_json import tree_json


def trees(messages, **options):
    """Write messages of one task as JSON, and read the lines."""
    task = Task(messages[0]["task_uuid"], 1)
    for message in messages:
        task.add(tuple(message["task_level"]), message)
    text = "".join(tree_json(task.uuid, task.nodes(**options)))
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def messages_in(node):
    """Find all messages in a node."""
    if node["kind"] == "message":
        return [node["message"]]
    found = [node[half] for half in ("start", "end") if node.get(half)]
    for child in node.get("children", []):
        found += messages_in(child)
    return found


def test_shape(log):
    """The shape is the one that programs rely on."""
    messages = log("1 start a n=1 \n 2 m \n 4.1 start b \n 5 fail a")
    assert trees(messages) == [
        {
            "task": messages[0]["task_uuid"],
            "tree": {
                "kind": "action",
                "type": "a",
                "status": "failed",
                "duration": pytest.approx(0.3),
                "start": messages[0],
                "end": messages[3],
                "children": [
                    {"kind": "message", "type": "m", "message": messages[1]},
                    {"kind": "missing", "first": 3, "last": 3},
                    {
                        "kind": "action",
                        "type": "b",
                        "status": "started",
                        "duration": None,
                        "start": messages[2],
                        "end": None,
                        "children": [],
                    },
                ],
            },
        }
    ]


def test_unknown_action(log):
    """An action of which nothing is known is there, with nothing in it but what is known."""
    ((tree,),) = ([line["tree"]] for line in trees(log("2.2 m")))
    inner = tree["children"][0]
    assert [inner[key] for key in ("type", "status", "duration", "start", "end")] == [None] * 5


def test_begun_elsewhere(log):
    """What continues something of somebody else's is a tree of its own, with the task's name."""
    first, second = trees(log(f"{FIRST_DRAWN}.1 start a \n {FIRST_DRAWN + 1}.1 start b"))
    assert first["task"] == second["task"]
    assert [first["tree"]["type"], second["tree"]["type"]] == ["a", "b"]


def test_after_the_end(log):
    """What came too late comes after a node that says so."""
    (line,) = trees(log("1 start a \n 2 end a \n 3 m"))
    assert [child["kind"] for child in line["tree"]["children"]] == ["after_end", "message"]


def test_rival(log):
    """Of two messages in one place, one says that there is another."""
    (line,) = trees(log("1 start a \n 2 m n=1 \n 2 m n=2 \n 3 end a"))
    assert [child.get("rival") for child in line["tree"]["children"]] == [True, None]


def test_message_outside_any_action(log):
    """The tree is the message."""
    (message,) = log("1 m")
    assert trees([message]) == [
        {
            "task": message["task_uuid"],
            "tree": {"kind": "message", "type": "m", "message": message},
        }
    ]


def test_selection(log):
    """Each selected action is a line of its own."""
    messages = log("1 start a \n 2.1 start b \n 2.2 end b \n 3.1 start b \n 3.2 end b \n 4 end a")
    lines = trees(messages, is_match=lambda node: node.type == "b")
    assert [line["tree"]["start"] for line in lines] == [messages[1], messages[3]]


def test_context(log):
    """What leads to the selection says that it is context."""
    messages = log("1 start a \n 2.1 start b \n 2.2 end b \n 3 end a")
    (line,) = trees(messages, is_match=lambda node: node.type == "b", context=True)
    (child,) = line["tree"]["children"]
    assert (line["tree"]["context"], "context" in child) == (True, False)


def test_nothing_selected(log):
    """Nothing is written for a task of which nothing is selected."""
    assert trees(log("1 m"), is_match=lambda node: False) == []


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 3), min_size=1, max_size=4),
            st.sampled_from([None, "started", "succeeded", "failed"]),
        ),
        min_size=1,
    )
)
def test_every_message_once(specs):
    """Whatever the log is like: valid JSON, with every different message in it once."""
    messages = []
    for level, status in specs:
        message = {"task_uuid": "t", "task_level": level, "timestamp": 1.5}
        if status:
            message |= {"action_type": "a", "action_status": status}
        if message not in messages:
            messages.append(message)
    (line,) = trees(messages)
    found = messages_in(line["tree"])
    assert len(found) == len(messages)
    assert all(message in found for message in messages)
