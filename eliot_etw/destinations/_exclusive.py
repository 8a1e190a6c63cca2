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
        OSError: If somebody writes it, or it is not there any more.
    """
    fd = _open_alone(path) if sys.platform == "win32" else os.open(path, os.O_RDONLY)
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
    """Open a file as only one can on Windows: whoever opened it before let nobody in, or we fail.

    It may be removed meanwhile.
    """
    import _winapi  # noqa: PLC0415 - there is none elsewhere
    import msvcrt  # noqa: PLC0415 - there is none elsewhere

    generic_read, share_delete, open_existing = 0x80000000, 0x4, 3
    handle = _winapi.CreateFile(  # type: ignore[attr-defined,unused-ignore] # Windows only
        path, generic_read, share_delete, 0, open_existing, 0x80, 0
    )
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
    fd: int = msvcrt.open_osfhandle(handle, flags)  # type: ignore[attr-defined,unused-ignore] # Windows only
    return fd


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
