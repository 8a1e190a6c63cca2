"""Tests of the expression language."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.exceptions import MissingDependency
from eliot_etw.viewers._nodes import ACTION, MESSAGE, Node
from eliot_etw.viewers._where import Where

pytest.importorskip("simpleeval")

START = {
    "task_uuid": "a-task",
    "task_level": [2, 1],
    "timestamp": 100.0,
    "action_type": "app:do",
    "action_status": "started",
    "n": 5,
    "path": "/x/y",
    "request": {"method": "GET", "sizes": [1, 2]},
    "type": "a field called type",
    "_private": 1,
}
END = {
    "task_uuid": "a-task",
    "task_level": [2, 9],
    "timestamp": 100.5,
    "action_type": "app:do",
    "action_status": "failed",
    "n": 6,
    "reason": "no luck",
}
NODE = Node(ACTION, 1, 2, START, END)


def value(text):
    """Say whether the expression selects the action."""
    where = Where(text)
    selected = where(NODE)
    assert where.first_failure == ""
    return selected


@pytest.mark.parametrize(
    "text",
    [
        "type == 'app:do'",
        "status == 'failed'",
        "failed",
        "duration == 0.5",
        "timestamp == 100",
        "level == [2]",
        "depth == 1",
        "task == 'a-task'",
        "fields['type'] == 'a field called type'",
        "n == 6",
        "path == '/x/y'",
        "_private == 1",
        "request.method == 'GET'",
        "request['sizes'][1] == 2",
        "n in (5, 6, 7)",
        "n in [6] and n in {6}",
        "'luck' in reason",
        "'x' not in reason",
        "reason.startswith('no') and path.endswith('y')",
        "path.upper() == '/X/Y' and ' a '.strip().lower() == 'a'",
        "5 < n <= 6",
        "n * 2 + 1 == 13 and n / 4 == 1.5 and n // 4 == 1 and n % 4 == 2 and n - 7 == -1",
        "not (n == 5) or failed",
        "len(path) == 4 and str(n) == '6' and int('6') == n and float(n) == 6.0",
        "max(n, 7) - min(n, 7) == 1 and abs(-n) == round(6.2)",
        "True if failed else False",
        "missing is None and reason is not None",
        "+n == 6",
    ],
)
def test_true(text):
    """What can be said about an action."""
    assert value(text)


@pytest.mark.parametrize(
    "text",
    [
        "missing",
        "missing > 5",
        "missing < 5",
        "5 >= missing",
        "missing <= missing",
        "missing + 1 > 0",
        "-missing > 0",
        "missing * n == n",
        "missing == 5",
        "missing in path",
        "'a' in missing",
        "missing.startswith('a')",
        "missing.more.and_more == 5",
        "missing['x'] == 5",
        "request.missing == 5",
        "request['missing'] == 5",
        "request['sizes'][99] == 5",
        "len == 5",
    ],
)
def test_missing_fields_are_none(text):
    """Nothing fails for a field that is not there; it is just not so."""
    assert not value(text)


def test_names_of_a_message():
    """A message has no status and no duration."""
    node = Node(MESSAGE, 1, 2, {"task_level": [2], "message_type": "app:said", "timestamp": 5})
    where = Where("type == 'app:said' and level == [2] and status is None and duration is None")
    assert where(node)


def test_names_of_an_unknown_action():
    """An action of which nothing is known has the same names."""
    assert Where("type is None and level is None and task is None")(Node(ACTION, 1, 2))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no expression"),
        ("n ==", "it is no expression"),
        ("n = 5", "it is no expression"),
        ("n; n", "it is no expression"),
        ("import os", "it is no expression"),
        ("\0", "it is no expression"),
        ("(" * 5000, "it is no expression"),
        ("9 ** 9 ** 9", "it must not contain Pow"),
        ("1 << 99999", "it must not contain LShift"),
        ("n | 1", "it must not contain BitOr"),
        ("f'{n:999999999}'", "it must not contain"),
        ("[x for x in path]", "it must not contain ListComp"),
        ("lambda: 1", "it must not contain Lambda"),
        ("(n := 5)", "it must not contain NamedExpr"),
        ("{'a': 1}", "it must not contain Dict"),
        ("[*path]", "it must not contain Starred"),
        ("path[1:]", "it must not contain Slice"),
        ("open('x')", "it may call only abs, float, int, len, max"),
        ("__import__('os')", "it may call only"),
        ("path.format(n)", "it may call only"),
        ("path.join('abc')", "it may call only"),
        ("path.ljust(999999999)", "it may call only"),
        ("request.get('method')", "it may call only"),
        ("(lambda: 1)()", "it may call only"),
        ("path.__class__", "it must not use an attribute that begins with an underscore"),
        ("path.__class__.__mro__", "it must not use an attribute that begins with an underscore"),
        ("str(path, **request)", "it must not contain keyword"),
    ],
)
def test_wrong_expression(text, why):
    """What the language does not have is refused before anything is read, and named."""
    with pytest.raises(ValueError, match="^" + why.replace("(", r"\(")):
        Where(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path > 5", "TypeError: "),
        ("path * 1000000", "TypeError: cannot calculate with str"),
        ("path + path", "TypeError: cannot calculate with str"),
        ("'%999999999d' % n", "TypeError: cannot calculate with str"),
        ("n / 0", "ZeroDivisionError: "),
        ("int(path)", "ValueError: "),
        ("path.mro", "AttributeError: str has no mro"),
        ("n.real", "AttributeError: int has no real"),
        ("5 in n", "TypeError: "),
        ("-path", "TypeError: "),
    ],
)
def test_failure_of_one_node(text, why):
    """An expression that cannot be evaluated for a node does not select it, and is counted."""
    where = Where(text)
    selected = [where(NODE), where(NODE)]
    assert (selected, where.failures) == ([False, False], 2)
    assert where.first_failure.startswith(why)


def test_first_failure_is_kept():
    """The first failure is the one that is reported."""
    where = Where("n / m")
    where(Node(MESSAGE, 0, 1, {"n": 1, "m": 0}))
    where(Node(MESSAGE, 0, 1, {"n": "x", "m": 0}))
    assert where.first_failure.startswith("ZeroDivisionError")


@given(st.text(max_size=30))
def test_any_text(text):
    """Any text is an expression of the language, or is refused; nothing else happens."""
    try:
        where = Where(text)
    except ValueError:
        return
    where(NODE)


def test_simpleeval_is_not_installed(monkeypatch):
    """Only who uses an expression needs the package, and is told so."""
    monkeypatch.setitem(sys.modules, "simpleeval", None)
    with pytest.raises(MissingDependency, match=r"^--where needs the package 'simpleeval'"):
        Where("n == 5")
