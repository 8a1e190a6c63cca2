"""Tests of routes: which messages go to which sinks."""

import json

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector._batch import Batch, Origin
from eliot_etw.collector._routes import Route, Routes

MESSAGES = [
    {"message_type": "app:db:query", "n": 1},
    {"message_type": "app:http", "log_level": "error", "n": 2, "service": {"name": "shop"}},
    {"action_type": "job", "action_status": "failed", "n": 3, "service.name": "shop"},
]


def split(*routes):
    """Return the numbers of the messages that each of two sinks gets."""
    lines = [json.dumps(message).encode() for message in MESSAGES]
    batch = Batch(lines, [Origin("s", [1, 2, 3])])
    return {
        name: [entry.message["n"] for entry in part]
        for name, part in Routes(routes, ["a", "b"]).split(batch).parts.items()
    }


def test_none():
    """Without routes, everything goes everywhere."""
    assert split() == {"a": [1, 2, 3], "b": [1, 2, 3]}


@pytest.mark.parametrize(
    ("expected", "route"),
    [
        ([1, 2, 3], {}),
        ([1], {"types": ("app:db:*",)}),
        ([1, 3], {"types": ("app:db:*", "job")}),
        ([2, 3], {"level": 40}),
        ([2, 3], {"fields": {"service.name": "shop"}}),
        ([2], {"fields": {"service.name": "shop"}, "types": ("app:*",)}),
        ([], {"fields": {"nothing": None}}),
    ],
)
def test_conditions(expected, route):
    """What fits all conditions of a route goes its way."""
    assert split(Route(("a",), **route)).get("a", []) == expected


def test_several():
    """A message goes all ways that fit, to each sink once."""
    assert split(Route(("a",)), Route(("a", "b"), level=40)) == {"a": [1, 2, 3], "b": [2, 3]}


def test_final():
    """What fits a final route goes no other way; one without sinks is for what is not wanted."""
    routes = Route((), types=("app:db:*",), final=True), Route(("a", "b"))
    assert split(*routes) == {"a": [2, 3], "b": [2, 3]}


def test_no_way():
    """A sink that gets nothing is not asked."""
    assert split(Route(("a",), types=("nothing",))) == {}
