"""What does it cost to write an event of ETW?

A library in C stands for the functions of Windows, the same one for every contender. As a program
it is one measurement: ``etw_speed.py CASE CONTENDER LIBRARY CALLS`` prints the microseconds of a
call.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from timeit import Timer
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from _measure import OURS, Question, Reach, Setting, printed_number

MICROSOFT = "traceloggingdynamic"
PYETW = "pyetw"
BATCHES = 10

PROVIDER = "eliot-etw-bench"
MESSAGE: dict[str, Any] = {
    "task_uuid": "5b1f5a3e-3c0b-4a8e-9f0d-2f6c1f1d7a10",
    "task_level": [2, 7],
    "timestamp": 1_795_181_013.25,
    "message_type": "bench:message",
    "number": 123456,
    "text": "hello",
    "share": 0.25,
}
FIELDS = len(MESSAGE)

WRITING = {
    "event": (
        f"an ETW event of {FIELDS} fields, somebody listening",
        (OURS, MICROSOFT),
        Reach(MICROSOFT, at_least=4),
    ),
    "record": (
        "a log record in the ETW handler, somebody listening",
        (OURS, PYETW),
        Reach(PYETW, at_least=2.5),
    ),
    "unheard": (
        "a message for ETW with nobody listening, and `is_enabled()` alone",
        (OURS, MICROSOFT),
        Reach(MICROSOFT, at_least=3),
    ),
}


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    library = compile_standin(setting.folder)
    if library is None:
        print("Writing to ETW is not measured: that needs a C compiler, and not Windows.")
        return []
    return [
        Question(
            what,
            "µs",
            {name: partial(_ask, setting, case, name, library) for name in names},
            [reach],
        )
        for case, (what, names, reach) in WRITING.items()
    ]


def compile_standin(folder: Path) -> Path | None:
    """Compile what stands for Windows; None if there is no compiler, or Windows itself."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform == "win32":
        return None
    library = folder / "etw_standin.so"
    source = Path(__file__).with_name("etw_standin.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def _ask(setting: Setting, case: str, name: str, library: Path) -> float:
    """Measure one contender, in a process of its own."""
    return printed_number(setting.python, __file__, case, name, library, str(setting.size.calls))


# ---- in the child process: each sets up a contender, and returns what it does for one call ------

Call = tuple[str, dict[str, Any]]  # a statement, and the names in it


def _load(path: str) -> ctypes.CDLL:
    """Load the library, in a way that nobody else shares."""
    library = ctypes.CDLL(path)
    library.standin_events.restype = ctypes.c_uint64
    return library


def _pretend_windows(path: str) -> None:
    """Put in place what the others' modules use of Windows's ctypes.

    On Windows a long has 32 bits, everywhere.
    """
    patched: Any = ctypes
    patched.WinDLL = lambda *_, **__: ctypes.CDLL(path)
    patched.windll = SimpleNamespace(advapi32=ctypes.CDLL(path))
    patched.WINFUNCTYPE = ctypes.CFUNCTYPE
    patched.c_ulong = ctypes.c_uint32


def _use_standin(path: str) -> None:
    """Have our providers call it as they would call Windows."""
    from eliot_etw.etw import _win32

    _win32.STAND_INS.append(_win32.Win32Api(ctypes.CDLL(path), ctypes.CFUNCTYPE))


def _our_destination(path: str) -> Call:
    """Set up our destination, which is called as `log_message` does it."""
    _use_standin(path)
    from eliot_etw.destinations.etw import EtwDestination

    return "write(message)", {"write": EtwDestination(PROVIDER), "message": MESSAGE}


_BUILD = """
if is_enabled(4, 2):
    builder.reset(b"bench:message", 4, 2)
    builder.add_str8(b"task_uuid", task_uuid)
    builder.add_str8(b"task_level", "/2/7")
    builder.add_float64(b"timestamp", 1795181013.25)
    builder.add_str8(b"message_type", "bench:message")
    builder.add_int64(b"number", 123456)
    builder.add_str8(b"text", "hello")
    builder.add_float64(b"share", 0.25)
    write(builder, activity)
"""


def _microsoft(path: str, statement: str) -> Call:
    """Set up Microsoft's module, with a builder that is used again, as its documentation says."""
    _pretend_windows(path)
    import traceloggingdynamic

    provider = traceloggingdynamic.Provider(PROVIDER.encode())
    return statement, {
        "activity": UUID(MESSAGE["task_uuid"]),
        "builder": traceloggingdynamic.EventBuilder(),
        "is_enabled": provider.is_enabled,
        "provider": provider,  # it is closed when nobody holds it
        "task_uuid": MESSAGE["task_uuid"],
        "write": provider.write,
    }


def _handler(name: str, path: str) -> Call:
    """Set up a handler of the standard library's logging, and a record for it."""
    if name == OURS:
        _use_standin(path)
        from eliot_etw.stdlib import EtwHandler

        handler: logging.Handler = EtwHandler()
    else:
        _pretend_windows(path)
        import pyetw

        handler = pyetw.LoggerHandler()
    logger = logging.getLogger(PROVIDER)
    record = logger.makeRecord(
        PROVIDER, logging.INFO, __file__, 42, "hello %s, %d", ("world", 123456), None, "work"
    )
    return "handle(record)", {"handle": handler.handle, "record": record}


_WRITERS: dict[tuple[str, str], Callable[[str], Call]] = {
    ("event", OURS): _our_destination,
    ("event", MICROSOFT): partial(_microsoft, statement=_BUILD),
    ("unheard", OURS): _our_destination,
    ("unheard", MICROSOFT): partial(_microsoft, statement="is_enabled(4, 2)"),
    ("record", OURS): partial(_handler, OURS),
    ("record", PYETW): partial(_handler, PYETW),
}


def _write(case: str, name: str, path: str, calls: int) -> float:
    """Measure the microseconds of a call that writes to ETW, or finds nobody listening.

    Raises:
        RuntimeError: If other events arrived than were written.
    """
    library = _load(path)
    library.standin_listen(case != "unheard")
    statement, names = _WRITERS[case, name](path)
    # The garbage collector runs, as it does in a program; timeit would stop it.
    timer = Timer(statement, "gc.enable()", globals={"gc": gc, **names})
    batch = calls // BATCHES
    timer.timeit(batch)  # warm up
    seconds = min(timer.repeat(BATCHES, batch))
    arrived, expected = library.standin_events(), batch * (BATCHES + 1)
    if arrived != (0 if case == "unheard" else expected):
        msg = f"of {expected} calls, {name} wrote {arrived} events."
        raise RuntimeError(msg)
    return seconds / batch * 1e6


def main() -> None:
    """Measure once."""
    case, name, library, calls = sys.argv[1:]
    print(_write(case, name, library, int(calls)))


if __name__ == "__main__":
    main()
