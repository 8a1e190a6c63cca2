"""What does it cost to make a message of a record of the standard library's `logging`?

As a program it is one measurement: ``stdlib_speed.py CONTENDER FILE CALLS`` prints the
microseconds of a call.
"""

from __future__ import annotations

import gc
import logging
import sys
from functools import partial
from pathlib import Path
from timeit import Timer

from _measure import OURS, Question, Reach, Setting, printed_number

JSON = "logging"
BATCHES = 10
# What a message of ours has, and its time.
FIELDS = (
    "message", "created", "levelname", "name", "module", "funcName", "pathname", "lineno",
    "thread", "threadName", "process", "processName",
)  # fmt: skip


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    return [
        Question(
            "a log record with two `extra` fields, to a file as JSON",
            "µs",
            {name: partial(_ask, setting, name) for name in (OURS, JSON)},
            [Reach(JSON, at_most=1.3)],
        )
    ]


def _ask(setting: Setting, name: str) -> float:
    """Measure one contender, in a process of its own, with a fresh file."""
    path = setting.folder / f"{name}.log"
    path.unlink(missing_ok=True)
    return printed_number(setting.python, __file__, name, path, str(setting.size.calls))


# ---- in the child process ----------------------------------------------------------------------


def _our_handler(path: str) -> logging.Handler:
    """Set up our handler, in an action, with a file behind it."""
    from eliot_etw import start_action, to_file
    from eliot_etw.stdlib import EliotHandler

    to_file(path)
    start_action(action_type="bench:outer").__enter__()
    return EliotHandler()


def _json_handler(path: str) -> logging.Handler:
    """Set up a file handler with python-json-logger on orjson, for the same fields."""
    from pythonjsonlogger.orjson import OrjsonFormatter

    handler = logging.FileHandler(path)
    handler.setFormatter(OrjsonFormatter(" ".join(f"%({name})s" for name in FIELDS)))
    return handler


SET_UPS = {OURS: _our_handler, JSON: _json_handler}


def main() -> None:
    """Measure one contender.

    Raises:
        RuntimeError: If records are missing from the file.
    """
    name, path, calls = sys.argv[1:]
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(SET_UPS[name](path))
    statement = "info('hello %s', 'there', extra={'number': i, 'text': 'hello'})"
    # The garbage collector runs, as it does in a program; timeit would stop it.
    names = {"gc": gc, "info": logger.info}
    timer = Timer(statement, "gc.enable(); i = 123456", globals=names)
    batch = int(calls) // BATCHES
    timer.timeit(batch)  # warm up
    # Of the batches the quickest counts: the others had more of what else the machine does.
    seconds = min(timer.repeat(BATCHES, batch))
    logged = Path(path).read_bytes().count(b'"hello there"')
    if logged != batch * (BATCHES + 1):
        msg = f"{name} logged {logged} of {batch * (BATCHES + 1)} records."
        raise RuntimeError(msg)
    print(seconds / batch * 1e6)


if __name__ == "__main__":
    main()
