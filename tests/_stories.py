"""What several tests share: ways to look at what was logged, and programs that log to a file."""

import json
import subprocess
import sys

from eliot_etw.parse import Parser, WrittenAction


def stories(messages):
    """Parse messages to tasks, each of which must be complete, and outline them."""
    tasks = list(Parser.parse_stream(messages))
    assert [True] * len(tasks) == [task.is_complete() for task in tasks], messages
    return [outline(task.root()) for task in tasks]


def outline(written):
    """Write a tree as nested lists of types; an action that failed has a ``!`` after its type."""
    if not isinstance(written, WrittenAction):
        return written.contents["message_type"]
    assert not written.conflicts
    mark = "!" if written.status == "failed" else ""
    return [written.action_type + mark, *map(outline, written.children)]


def started(messages):
    """Return the fields of the one action's start message, without those that every one has."""
    [start] = [m for m in messages if m.get("action_status") == "started"]
    ours = {"action_status", "action_type", "task_level", "task_uuid", "timestamp"}
    return {name: value for name, value in start.items() if name not in ours}


def ended(messages):
    """Return the one action's end message."""
    [end] = [m for m in messages if m.get("action_status") in {"succeeded", "failed"}]
    return end


def run(folder, program, *arguments):
    """Run a program in a process of its own, and return the messages that it logged.

    It finds eliot_etw, os and sys imported, and in LOG the path to log to. Its warnings are
    errors, it may take a minute, and must neither fail nor say anything on standard error.
    """
    path, log = folder / "program.py", folder / "log"
    path.write_text(f"import eliot_etw, os, sys\nLOG = {str(log)!r}\n{program}")
    command = [sys.executable, "-W", "error", path, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [json.loads(line) for line in log.read_bytes().splitlines()]
