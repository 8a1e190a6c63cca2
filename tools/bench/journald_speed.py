"""What does it cost to write a message to the journal of systemd?

It is asked of a real systemd-journald of the benchmark's own, in bursts that its socket holds:
beyond that, everybody waits for the journal. As a program it is one measurement, where that is
the journal of the machine: ``journald_speed.py CONTENDER CALLS`` prints the microseconds of a
call.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from _measure import ELIOT, OURS, Question, Reach, Setting, printed_number

SENDV = "systemd-python"
BURST = 400  # of the 512 entries that a socket holds
# What has to be there for a contender, and how to get it.
NEEDS = {
    OURS: ("eliot_etw.journald", ""),
    ELIOT: ("eliot.journald", "Install cffi, and libsystemd."),
    SENDV: ("systemd.journal", "Install libsystemd-dev, pkg-config and a C compiler."),
}
# No extra of ours has it, for without these headers it cannot be built.
HEADERS = Path("/usr/include/systemd/sd-journal.h")
BUILT = {SENDV: "systemd-python"}
MESSAGE: dict[str, Any] = {
    "task_uuid": "5b1f5a3e-3c0b-4a8e-9f0d-2f6c1f1d7a10",
    "task_level": [2, 7],
    "timestamp": 1_795_181_013.25,
    "message_type": "bench:message",
    "number": 123456,
    "text": "hello",
}


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    why = _why_no_journal()
    if why:
        print(f"Writing to a journal is not measured: {why}.")
        return []
    names = [name for name in NEEDS if _can_run(setting, name)]
    reaches = [Reach(name, at_least=1.5) for name in names if name != OURS]
    contenders = {name: partial(_ask, setting, name) for name in names}
    return [Question("a message to the journal of systemd", "µs", contenders, reaches)]


def _why_no_journal() -> str:
    """Say why there can be no journal; nothing if there can."""
    if sys.platform != "linux":
        return "systemd-journald needs Linux"
    from _journal import why_not

    return why_not()


def _can_run(setting: Setting, name: str) -> bool:
    """Say whether what a contender needs is installed; print what to do if not."""
    module, what_to_do = NEEDS[name]
    there = _succeeds(setting.python, "-c", f"import {module}")
    if not there and name in BUILT and HEADERS.exists():
        there = _succeeds(setting.python, "-m", "pip", "install", BUILT[name])
    if not there:
        print(f"{name} is NOT MEASURED: it cannot be imported. {what_to_do}")
    return there


def _succeeds(*command: str | Path) -> bool:
    """Run a command, and say whether it went well."""
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _ask(setting: Setting, name: str) -> float:
    """Measure one contender, in a process and with a journal of its own."""
    if sys.platform != "linux":
        raise NotImplementedError
    from _journal import Journal

    with closing(Journal()) as journal:
        calls = str(max(setting.size.calls, BURST))
        return printed_number(*journal.entering(), setting.python, __file__, name, calls)


# ---- in the child process ----------------------------------------------------------------------

Write = Callable[[dict[str, Any]], object]


def _ours() -> Write:
    from eliot_etw.journald import JournaldDestination

    return JournaldDestination()


def _eliot() -> Write:
    from eliot.journald import JournaldDestination

    write: Write = JournaldDestination()
    return write


def _sendv() -> Write:
    """Write the same fields by systemd-python's function, with the fastest JSON there is."""
    from orjson import dumps
    from systemd.journal import sendv

    def write(message: dict[str, Any]) -> None:
        kind = message.get("action_type") or message.get("message_type", "")
        failed = message.get("action_status") == "failed"
        sendv(
            b"MESSAGE=" + dumps(message),
            "ELIOT_TASK=" + message["task_uuid"],
            "ELIOT_TYPE=" + kind,
            "SYSLOG_IDENTIFIER=journald_speed.py",
            "PRIORITY=3" if failed else "PRIORITY=6",
        )

    return write


SET_UPS: dict[str, Callable[[], Write]] = {OURS: _ours, ELIOT: _eliot, SENDV: _sendv}


def _burst(write: Write) -> float:
    """Write a burst when the journal has nothing else to do, and return its seconds."""
    subprocess.run(["journalctl", "--sync"], check=True)
    started = perf_counter()
    for _ in range(BURST):
        write(MESSAGE)
    return perf_counter() - started


def _check(messages: int) -> None:
    """Make sure that all of it is in the journal.

    Raises:
        RuntimeError: If messages are missing.
    """
    subprocess.run(["journalctl", "--sync"], check=True)
    command = ["journalctl", "--quiet", "--output=cat", f"_PID={os.getpid()}"]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.count(b"\n")
    if found != messages:
        msg = f"{found} of {messages} messages are in the journal."
        raise RuntimeError(msg)


def main() -> None:
    """Measure one contender."""
    name, calls = sys.argv[1:]
    write = SET_UPS[name]()
    gc.collect()
    bursts = int(calls) // BURST
    # Of the bursts the quickest counts: the others had more of what else the machine does.
    seconds = min([_burst(write) for _ in range(bursts)])
    _check(bursts * BURST)
    print(seconds / BURST * 1e6)


if __name__ == "__main__":
    main()
