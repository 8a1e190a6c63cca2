"""Tests of tasks that go on in child processes."""

import json
import os
import subprocess
import sys
from uuid import UUID

import pytest

from eliot_etw import Action, log_message, start_action
from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.environment import child_environment, continue_from_environment
from eliot_etw.parse import Parser

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TASK = "0af76519-16cd-43dd-8448-eb211c80319c"
NAMES = ("ELIOT_TASK_ID", "TRACEPARENT", "TRACESTATE")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Have an environment that names no task."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


class TestChildEnvironment:
    """What a child is told."""

    def test_names_a_place(self):
        """Each environment has a place of its own, the action's header, and all that was there."""
        with start_action(action_type="a") as action:
            first, second = child_environment(), child_environment({"HOME": "/x"})
        assert first["ELIOT_TASK_ID"] != second["ELIOT_TASK_ID"]
        assert first["ELIOT_TASK_ID"].startswith(f"{action.task_uuid}@/")
        assert {action.traceparent()} == {first["TRACEPARENT"], second["TRACEPARENT"]}
        assert second.keys() == {"HOME", "ELIOT_TASK_ID", "TRACEPARENT"}
        assert first.keys() == {*os.environ, "ELIOT_TASK_ID", "TRACEPARENT"}

    def test_tracestate(self):
        """What came in with the task goes on with it, and nothing else does."""
        stale = {"TRACESTATE": "stale=1"}
        with Action.continue_task(traceparent=FOREIGN, tracestate="a=1"):
            assert child_environment(stale)["TRACESTATE"] == "a=1"
        with start_action(action_type="a"):
            assert "TRACESTATE" not in child_environment(stale)

    def test_without_an_action(self, monkeypatch):
        """A trace is passed through; a place is for this process, and not for its children."""
        for name, value in zip(NAMES, ("x@/1", FOREIGN, "a=1"), strict=True):
            monkeypatch.setenv(name, value)
        child = child_environment()
        assert [child.get(name) for name in NAMES] == [None, FOREIGN, "a=1"]


class TestContinue:
    """What a child makes of it."""

    def test_nothing_there(self, messages):
        """Without a word in the environment it is a new task."""
        with continue_from_environment(action_type="a", x=1) as action:
            pass
        assert UUID(action.task_uuid).version == 4
        assert (messages[0]["task_level"], messages[0]["x"]) == ([1], 1)
        assert "eliot:not_continued" not in messages[0]

    def test_place(self, messages, monkeypatch):
        """The exact place wins, and is good for one."""
        monkeypatch.setenv("ELIOT_TASK_ID", f"{TASK}@/7")
        monkeypatch.setenv("TRACEPARENT", FOREIGN)
        continue_from_environment()
        continue_from_environment()
        assert messages[0]["task_level"] == [7, 1]
        assert messages[1]["task_level"][0] >= FIRST_DRAWN
        assert {TASK} == {message["task_uuid"] for message in messages}
        assert messages[0]["action_type"] == "eliot:remote_task"
        assert "ELIOT_TASK_ID" not in os.environ

    def test_of_somebody_else(self, messages, monkeypatch):
        """What only knows the trace is continued, its state is kept."""
        monkeypatch.setenv("TRACEPARENT", FOREIGN)
        monkeypatch.setenv("TRACESTATE", "a=1")
        action = continue_from_environment(action_type="a")
        assert (messages[0]["task_uuid"], messages[0]["eliot:traceparent"]) == (TASK, FOREIGN)
        assert action.tracestate == "a=1"

    def test_given(self, messages):
        """Another environment may be looked at, and is left as it is."""
        environment = {"ELIOT_TASK_ID": "x@/7"}
        continue_from_environment(environment)
        assert messages[0]["task_level"] == [7, 1]
        assert environment == {"ELIOT_TASK_ID": "x@/7"}

    def test_fields_of_any_name(self, messages):
        """A field is never taken for what the environment says."""
        fields = {"task_id": "y@/1", "traceparent": "no", "tracestate": "b=2"}
        continue_from_environment({"ELIOT_TASK_ID": "x@/7"}, **fields)
        assert messages[0]["task_level"] == [7, 1]
        assert fields.items() <= messages[0].items()

    @pytest.mark.parametrize("name", ["ELIOT_TASK_ID", "TRACEPARENT"])
    def test_nonsense(self, messages, name):
        """Nonsense starts a new task that says so."""
        continue_from_environment({name: "nonsense"})
        assert messages[0]["task_level"] == [1]
        assert messages[0]["eliot:not_continued"]["reason"] == "refused"


CHILD = """
import json, os, subprocess, sys
from eliot_etw import add_destinations, log_message
from eliot_etw.environment import child_environment, continue_from_environment
add_destinations(lambda message: print(json.dumps(message), flush=True))
with continue_from_environment(action_type="app:child", depth=int(sys.argv[1])):
    if sys.argv[1] != "0":
        command = [sys.executable, "-c", sys.argv[2], "0", ""]
        subprocess.run(command, env=child_environment(), check=True)
"""


@pytest.mark.parametrize("knows_eliot", [True, False])
def test_three_processes(messages, knows_eliot):
    """Parent, child and grandchild log one tree, as exactly as they let each other know."""
    with start_action(action_type="app:parent"):
        environment = child_environment()
        if not knows_eliot:
            del environment["ELIOT_TASK_ID"]
        result = subprocess.run(
            [sys.executable, "-c", CHILD, "1", CHILD],
            env=environment,
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
        log_message("app:done")
    logged = messages + [json.loads(line) for line in result.stdout.splitlines()]
    logged.sort(key=lambda message: message["timestamp"])
    (task,) = Parser.parse_stream(logged)
    assert task.is_complete()
    (child,) = [item for item in task.root().children if hasattr(item, "action_type")]
    (grandchild,) = child.children
    assert [child.action_type, grandchild.action_type] == ["app:child"] * 2
    assert ("eliot:traceparent" in child.start_message.contents) == (not knows_eliot)
