"""Tests of what is shown when only some nodes are selected."""

import pytest

from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.viewers._forest import Task
from eliot_etw.viewers._select import shown

STORY = """
    1 start site
    2.1 start page
    2.2.1 start get
    2.2.2 said
    2.2.3 end get
    2.3 noted
    2.4 end page
    3.1 start page2
    3.2.1 start get2
    3.2.2 fail get2
    3.4 end page2
    4 done
    5 end site
"""


@pytest.fixture
def select(log):
    """Return a function that shows what is selected by type, as an outline."""

    def select(*types, context=False, story=STORY):
        task = Task("t", 1)
        for message in log(story):
            task.add(tuple(message["task_level"]), message)
        is_match = (lambda node: node.type in types) if types else None
        return [
            "  " * item.depth
            + ("(%s)" if item.is_context else "%s") % (item.node.type or "gap")
            + ("." if item.is_last else "")
            for item in shown(task.nodes(is_match, context=context))
        ]

    return select


def test_everything(select):
    """Without a selection all is shown, and nothing is context."""
    assert select() == [
        "site.",
        "  page",
        "    get",
        "      said.",
        "    noted.",
        "  page2",
        "    get2",
        "    gap.",
        "  done.",
    ]


def test_begun_elsewhere(select):
    """What continues something of somebody else's is a tree of its own, selected or not."""
    drawn = FIRST_DRAWN
    story = f"{drawn}.1 start a \n {drawn}.2.1 start b \n {drawn + 1}.1 start c \n {drawn + 2} m"
    assert [line.rstrip(".") for line in select(story=story)] == ["a", "  b", "c", "m"]
    assert [line.rstrip(".") for line in select("b", "m", story=story)] == ["b", "m"]
    assert select("b", context=True, story=story) == ["(a).", "  b."]


def test_begun_elsewhere_deep_within(select):
    """Likewise where the sender gave a place far within its task."""
    story = f"2.3.{FIRST_DRAWN}.1 start a \n 2.3.{FIRST_DRAWN}.4 end a \n 5.{FIRST_DRAWN} m"
    assert [line.rstrip(".") for line in select(story=story)] == ["a", "  gap", "m"]
    # As soon as something of the sender's log is there, what is not there of it is missing.
    shown = [line.rstrip(".") for line in select(story=f"1 start root \n {story}")]
    within = ["    gap", "    gap", "      a", "        gap"]
    assert shown == ["root", "  gap", *within, "  gap", "  gap", "    m"]


def test_service_between_two_others(select):
    """What a third service logged is below the call of the first, if the second logged nothing."""
    within = f"2.{FIRST_DRAWN}.4.5.{FIRST_DRAWN}"
    story = f"1 start a \n 2.1 start call \n {within}.1 start c \n {within}.2 m \n 2.2 end call"
    assert select(story=story) == ["a.", "  call.", "    c.", "      m."]
    both = f"{story} \n 2.{FIRST_DRAWN}.5.{FIRST_DRAWN} n"
    assert select(story=both) == ["a.", "  call.", "    c", "      m.", "    n."]


def test_selected_action(select):
    """A selected action is shown with all that is within it, as a tree of its own."""
    assert select("page2") == ["page2.", "  get2", "  gap."]


def test_selected_within_selected(select):
    """What is within a selected action is shown once."""
    assert select("page", "get") == ["page.", "  get", "    said.", "  noted."]


def test_two_trees(select):
    """Two selected actions are two trees."""
    assert [line.rstrip(".") for line in select("get", "get2")] == ["get", "  said", "get2"]


def test_selected_message(select):
    """A selected message is shown with the action around it, which is context."""
    assert [line.rstrip(".") for line in select("noted")] == ["(page)", "  noted"]


def test_selected_message_outside_any_action(select):
    """There is no action around it to show."""
    assert select("lone", story="1 lone") == ["lone."]


def test_context(select):
    """All that leads to a selected action is shown with it, up to the task."""
    assert select("get2", context=True) == ["(site).", "  (page2).", "    get2."]


def test_context_of_several(select):
    """Branches that lead to nothing are left out; the last branch is the last that leads."""
    assert select("get", "noted", context=True) == [
        "(site).",
        "  (page).",
        "    get",
        "      said.",
        "    noted.",
    ]


def test_trees_are_not_torn(select):
    """What is selected below an action that is shown for a message hangs on it, not beside it."""
    story = """
        1 start a
        2 m1
        3.1 start b
        3.2.1 start c
        3.2.2 end c
        3.3 end b
        4 m2
        5 end a
    """
    assert select("m1", "m2", "c", story=story) == [
        "(a).",
        "  m1",
        "  (b)",
        "    c.",
        "  m2.",
    ]


def test_nothing_selected(select):
    """Gaps and marks alone are no reason to show a task."""
    assert select("nothing") == []


def test_what_is_missing_in_a_selected_action(select):
    """Gaps are shown where all is shown."""
    assert select("page2", context=True) == [
        "(site).",
        "  page2.",
        "    get2",
        "    gap.",
    ]
