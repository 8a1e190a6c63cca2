"""What do reading a log, drawing it and counting it cost, in time and in memory?

As a program it is one measurement. ``reading_speed.py parse MODULE LOG`` prints the seconds that a
library takes to make trees, ``reading_speed.py peak VERB LOG`` the MiB that a command takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from _measure import ELIOT, OURS, Question, Reach, Setting, printed_number, seconds_of

ELIOT_TREE = "eliot-tree"
# How many tasks of a log are under way at a time.
_AT_A_TIME = 8
_STATUS = Path("/proc/self/status")

# One task: a request which asks a database and renders a page. (place, fields)
_TASK: list[tuple[list[int], dict[str, Any]]] = [
    ([1], {"action_type": "http:request", "action_status": "started", "path": "/items/7"}),
    ([2], {"message_type": "http:headers", "agent": "example", "length": 120}),
    ([3, 1], {"action_type": "db:query", "action_status": "started", "text": "select 1"}),
    ([3, 2], {"message_type": "db:rows", "rows": 3}),
    ([3, 3], {"action_type": "db:query", "action_status": "succeeded", "rows": 3}),
    ([4], {"message_type": "cache:miss", "key": "item-7"}),
    ([5, 1], {"action_type": "page:render", "action_status": "started", "template": "item"}),
    ([5, 2, 1], {"action_type": "page:part", "action_status": "started", "part": "head"}),
    ([5, 2, 2], {"action_type": "page:part", "action_status": "succeeded", "bytes": 512}),
    ([5, 3, 1], {"action_type": "page:part", "action_status": "started", "part": "body"}),
    ([5, 3, 2], {"action_type": "page:part", "action_status": "succeeded", "bytes": 2048}),
    ([5, 4], {"action_type": "page:render", "action_status": "succeeded"}),
    ([6], {"message_type": "http:answer", "status": 200}),
    ([7], {"action_type": "http:request", "action_status": "succeeded", "status": 200}),
]


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    count, many = setting.size.messages, setting.size.many_messages
    log = write_log(setting.folder / "read.log", count)
    ours, theirs = (Path(setting.python).parent / name for name in ("eliot-etw", "eliot-tree"))
    parse = partial(printed_number, setting.python, __file__, "parse")
    asked = [
        Question(
            f"draw the tree of {count:,} messages, as a whole command",
            "s",
            {
                OURS: partial(seconds_of, ours, "tree", log),
                ELIOT_TREE: partial(seconds_of, theirs, log),
            },
            [Reach(ELIOT_TREE, at_least=15)],
        ),
        Question(
            f"`parse` of {count:,} messages",
            "s",
            {OURS: partial(parse, "eliot_etw", log), ELIOT: partial(parse, "eliot", log)},
            [Reach(ELIOT, at_least=15)],
        ),
    ]
    if not _STATUS.exists():
        print(f"Peak memory is not measured: there is no {_STATUS} here.")
        return asked
    once = write_log(setting.folder / "once.log", many)
    twice = write_log(setting.folder / "twice.log", 2 * many)
    return asked + [_peak_memory(setting, verb, once, twice) for verb in ("tree", "stats")]


def _peak_memory(setting: Setting, verb: str, once: Path, twice: Path) -> Question:
    """Ask how much memory a command takes, and whether that depends on the length of the log."""
    many = setting.size.many_messages
    short, long = f"{many:,} messages", f"{2 * many:,} messages"
    peak = partial(printed_number, setting.python, __file__, "peak", verb)
    reaches = [Reach(ours=short, at_most=150), Reach(short, ours=long, at_most=1.05)]
    contenders = {short: partial(peak, once), long: partial(peak, twice)}
    return Question(
        f"peak memory of `eliot-etw {verb}`", "MiB", contenders, reaches, is_noisy=False
    )


def write_log(path: Path, count: int) -> Path:
    """Write a log of as many messages, of tasks that overlap, and return its path."""
    with path.open("w", encoding="utf-8") as file:
        for number, message in zip(range(count), _messages(), strict=False):
            message["timestamp"] = 1_700_000_000 + number / 1000
            file.write(json.dumps(message, separators=(",", ":")) + "\n")
    return path


def _messages() -> Iterator[dict[str, Any]]:
    """Make messages without end."""
    first = 0
    while True:
        for level, fields in _TASK:
            for number in range(first, first + _AT_A_TIME):
                uuid = f"{number:08x}-3c0b-4a8e-9f0d-2f6c1f1d7a10"
                yield {"task_uuid": uuid, "task_level": level, "timestamp": 0.0, **fields}
        first += _AT_A_TIME


# ---- in the child process ----------------------------------------------------------------------


def _parse(module: str, log: str) -> float:
    """Time how long it takes to make trees of messages that are in memory."""
    parser = import_module(f"{module}.parse").Parser
    with open(log, "rb") as file:
        messages = [json.loads(line) for line in file]
    started = time.perf_counter()
    for task in parser.parse_stream(messages):
        task.root()
    return time.perf_counter() - started


def _peak(verb: str, log: str) -> float:
    """Run a command whose output goes nowhere, and return its peak memory in MiB."""
    sys.argv = ["eliot-etw", verb, log]
    stdout = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if import_module("eliot_etw.cli").main():
        msg = f"eliot-etw {verb} failed."
        raise RuntimeError(msg)
    sys.stdout.flush()
    os.dup2(stdout, 1)
    # Not ru_maxrss: it counts what the parent process had before the child became this program.
    peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def main() -> None:
    """Measure once."""
    kind, what, log = sys.argv[1:]
    print({"parse": _parse, "peak": _peak}[kind](what, log))


if __name__ == "__main__":
    main()
