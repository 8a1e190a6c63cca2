"""Locks between processes: on a file that is written, on one that nobody writes, to rotate one.

None of them waits, and all are gone with the process that has them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

if sys.platform != "win32":
    import fcntl

# Between the threads of this process: the lock of a file is the process's.
_rotating = Lock()


def _after_fork_in_child() -> None:
    global _rotating  # noqa: PLW0603 - another thread of the parent may have had the old one
    _rotating = Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)


def mark_as_written(fd: int) -> None:
    """Say that a file is being written, until all descriptors of this opening are closed.

    Raises:
        OSError: If somebody has it for himself.
    """
    if sys.platform != "win32":  # there, that it is open says it
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextmanager
def nobody_writes(path: str) -> Iterator[int]:
    """Have a file for oneself, to read it.

    Raises:
        BlockingIOError: If somebody writes it, or has it for himself.
        OSError: If it is not there any more, or cannot be opened.
    """
    fd = _open_alone(path)
    try:
        if sys.platform != "win32":
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have had it for himself, and removed it, between the two lines above.
            if not os.path.samestat(os.fstat(fd), os.stat(path)):
                raise FileNotFoundError(path)
        yield fd
    finally:
        os.close(fd)


def _open_alone(path: str) -> int:
    if sys.platform == "win32":
        from eliot_etw.destinations import _windows_file  # noqa: PLC0415 - for nobody else

        return _windows_file.open_alone(path)
    return os.open(path, os.O_RDONLY)


@contextmanager
def only_one_has(path: str) -> Iterator[None]:
    """Have a file for oneself that is there for this only; it is made, and stays.

    Raises:
        BlockingIOError: If somebody has it.
        OSError: If it can be neither made nor opened.
    """
    if not os.path.exists(path):  # on Windows, one that another has cannot be opened to make it
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except PermissionError:
            if not os.path.exists(path):  # else another has just made it, and has it
                raise
    with nobody_writes(path):
        yield


@contextmanager
def only_one_rotates(path: str) -> Iterator[bool]:
    """Keep all other threads and processes from rotating a file.

    Args:
        path: Of a file that is there for this only.

    Yields:
        Whether that succeeded; if not, somebody else is at it.
    """
    threads = _rotating
    if not threads.acquire(blocking=False):
        yield False
        return
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        yield _is_locked(fd)
    finally:
        if fd >= 0:
            os.close(fd)
        threads.release()


def _is_locked(fd: int) -> bool:
    """Lock a file for this process, which a forked child does not inherit; say whether it is."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - there is none elsewhere

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
