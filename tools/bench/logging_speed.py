"""What does it cost to log a message, and an action?

As a program it is one measurement: ``logging_speed.py CONTENDER CASE FILE CALLS`` prints the
microseconds of a call. FILE ``-`` stands for a destination that does nothing.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from timeit import Timer
from typing import Any

from _measure import ELIOT, OURS, Question, Reach, Setting, printed_number

NOWHERE = "-"
FLOOR = "floor"
MODULES = {OURS: "eliot_etw", ELIOT: "eliot"}
BATCHES = 10
TASK_UUID = "5b1f5a3e-3c0b-4a8e-9f0d-2f6c1f1d7a10"

CASES = {
    "message": "`log_message` in an action, two fields",
    "child": "an action within an action (start and end), two fields",
    "task": "an action that is a task (start and end), two fields",
}
# What to reach: (case, to a file?) -> against whom, how many times as fast.
REACHES = {
    ("message", True): (Reach(ELIOT, at_least=1.8), Reach(FLOOR, at_most=1.35)),
    ("child", True): (Reach(ELIOT, at_least=1.8),),
    ("task", True): (Reach(ELIOT, at_least=1.8),),
    ("message", False): (Reach(ELIOT, at_least=2.3),),
    ("child", False): (Reach(ELIOT, at_least=2.3),),
    ("task", False): (Reach(ELIOT, at_least=2.0),),
}


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    return [
        Question(
            f"{CASES[case]}, {'to a file' if to_file else 'destination that does nothing'}",
            "µs",
            {name: partial(_measure, setting, name, case, to_file) for name in names},
            REACHES[case, to_file],
        )
        for case, to_file in REACHES
        for names in [_contenders(case, to_file=to_file)]
    ]


def _contenders(case: str, *, to_file: bool) -> list[str]:
    """Name those who can do it: only Eliot and we have actions, or destinations to replace."""
    if not to_file:
        return list(MODULES)
    return [*MODULES, FLOOR] if case != "message" else [*MODULES, FLOOR, *PEERS]


def _measure(setting: Setting, name: str, case: str, to_file: bool) -> float:
    path = setting.folder / f"{name}.log" if to_file else NOWHERE
    if isinstance(path, Path):
        path.unlink(missing_ok=True)  # each measurement gets a fresh file
    return printed_number(setting.python, __file__, name, case, path, str(setting.size.calls))


# ---- in the child process: each sets up a contender, and returns what it does for one call ------

_MESSAGE = "log_message('bench:message', number=i, text='hello')"
_ACTION = "with {}(action_type='bench:inner', number=i, text='hello'): pass"
# Two fields, and what makes it a message of a task; twice for an action.
_FLOOR = """
write(fd, dumps({"number": i, "text": "hello", "message_type": "bench:message",
    "timestamp": time(), "task_uuid": task_uuid, "task_level": [2, i]}, None, newline))
"""
_FLOOR_ACTION = """
write(fd, dumps({"number": i, "text": "hello",
    "action_type": "bench:inner", "action_status": "started",
    "timestamp": time(), "task_uuid": task_uuid, "task_level": [2, i, 1]}, None, newline))
write(fd, dumps({"action_type": "bench:inner", "action_status": "succeeded",
    "timestamp": time(), "task_uuid": task_uuid, "task_level": [2, i, 2]}, None, newline))
"""
Call = tuple[str, dict[str, Any]]  # a statement about the number i, and the names in it


def _eliot(module: str, case: str, path: str) -> Call:
    """Set up Eliot or ourselves, each as its documentation says: Eliot takes no path."""
    library = import_module(module)
    if path == NOWHERE:
        library.add_destinations(lambda _message: None)
    else:
        library.to_file(path if module == MODULES[OURS] else open(path, "ab"))  # noqa: SIM115 - open until the process ends
    if case == "task":
        return _ACTION.format("start_task"), vars(library)
    library.start_action(action_type="bench:outer").__enter__()
    return _MESSAGE if case == "message" else _ACTION.format("start_action"), vars(library)


def _floor(case: str, path: str) -> Call:
    """Do only what no library can do without: a dict literal, its JSON, one write."""
    from orjson import OPT_APPEND_NEWLINE, dumps

    return _FLOOR if case == "message" else _FLOOR_ACTION, {
        "dumps": dumps,
        "fd": os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        "newline": OPT_APPEND_NEWLINE,
        "task_uuid": TASK_UUID,
        "time": time.time,
        "write": os.write,
    }


def _structlog(_case: str, path: str) -> Call:
    """Set up structlog as its page on performance says, with the task bound to the logger."""
    import structlog
    from orjson import dumps

    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(20),
        processors=[
            structlog.processors.TimeStamper(fmt=None),
            structlog.processors.JSONRenderer(serializer=dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(open(path, "ab")),  # noqa: SIM115 - stays open
    )
    info = structlog.get_logger().bind(task_uuid=TASK_UUID).info
    return "info('bench:message', number=i, text='hello')", {"info": info}


def _logging(_case: str, path: str) -> Call:
    """Set up logging with python-json-logger on orjson, without all that its HOWTO turns off."""
    import logging

    from pythonjsonlogger.orjson import OrjsonFormatter

    for setting in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, setting, False)
    logging._srcfile = None
    handler = logging.FileHandler(path)
    handler.setFormatter(OrjsonFormatter("%(message)s %(created)s"))
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    statement = "info('bench:message', extra={'task_uuid': task, 'number': i, 'text': 'hello'})"
    return statement, {"info": logger.info, "task": TASK_UUID}


def _loguru(_case: str, path: str) -> Call:
    """Set up loguru with the serializing patcher of its recipes; its own writes ten times more."""
    from loguru import logger
    from orjson import dumps

    def serialize(record: Any) -> None:
        extra = record["extra"]
        line = {"message": record["message"], "timestamp": record["time"].timestamp(), **extra}
        extra["serialized"] = dumps(line).decode()

    logger.remove()
    logger.add(path, format="{extra[serialized]}")
    bound = logger.bind(task_uuid=TASK_UUID).patch(serialize)
    return "bind(number=i, text='hello').info('bench:message')", {"bind": bound.bind}


PEERS = {"structlog": _structlog, "logging": _logging, "loguru": _loguru}
SET_UPS: dict[str, Callable[[str, str], Call]] = {
    FLOOR: _floor,
    **PEERS,
    **{name: partial(_eliot, MODULES[name]) for name in MODULES},
}


def _check(name: str, path: str, timer: Timer, messages: int) -> None:
    """Make sure that it was logging which was timed, and that nothing is in a buffer still.

    Raises:
        RuntimeError: If messages are missing.
    """
    if path != NOWHERE:
        logged = Path(path).read_bytes().count(b"\n")
    else:
        seen: list[object] = []
        import_module(MODULES[name]).add_destinations(seen.append)
        timer.timeit(messages)
        logged = len(seen)
    if logged < messages:
        msg = f"{name} logged {logged} of {messages} messages."
        raise RuntimeError(msg)


def main() -> None:
    """Measure one contender."""
    name, case, path, calls = sys.argv[1:]
    statement, names = SET_UPS[name](case, path)
    # The garbage collector runs, as it does in a program; timeit would stop it.
    timer = Timer(statement, "gc.enable(); i = 123456", globals={"gc": gc, **names})
    batch = int(calls) // BATCHES
    timer.timeit(batch)  # warm up
    # Of the batches the quickest counts: the others had more of what else the machine does.
    seconds = min(timer.repeat(BATCHES, batch))
    _check(name, path, timer, batch * BATCHES * (1 if case == "message" else 2))
    print(seconds / batch * 1e6)


if __name__ == "__main__":
    main()
