"""A lock of one process on what belongs to it alone; it is gone when the process is."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from eliot_etw.destinations._exclusive import only_one_has


def own(path: Path) -> ExitStack:
    """Keep all others from using the same thing, also within this process.

    Args:
        path: A file that is there for this only; it is made.

    Returns:
        What gives it back when it is closed.

    Raises:
        OSError: If another has it, or the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = ExitStack()
    try:
        lock.enter_context(only_one_has(str(path)))
    except BlockingIOError as error:
        msg = "is in use by another collector. Give each a place of its own"
        raise OSError(error.errno, msg, str(path)) from None
    return lock
