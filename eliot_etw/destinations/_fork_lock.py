"""A lock that a fork waits for: what is done under it is in no child half done."""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, final
from weakref import WeakSet

# How long a fork waits at most.
_TIMEOUT_S: Final = 1.0


@final
class ForkLock:
    """Held while something is called that has locks of its own, such as one for an import.

    A child that was forked meanwhile would wait for them for ever, as nobody there has them. In
    the child, this one is to be made anew.

    Attributes:
        owner: The thread that has it, if any has; a fork is none.
    """

    def __init__(self, after_fork: Callable[[], object] = lambda: None) -> None:
        """Make one that is free.

        Args:
            after_fork: Called in the parent when all are free again that the fork had, this one
                among them. What it raises is of no concern.
        """
        self.owner: int | None = None
        self._after_fork = after_fork
        self._lock = allocate_lock()
        self._forking: int | None = None
        _all.add(self)

    def take(self) -> bool:
        """Take it, unless somebody has it; say so. Whoever has taken it is to `release` it."""
        thread = get_ident()
        if not self._lock.acquire(blocking=False):
            return False
        self.owner = thread
        return True

    def release(self) -> None:
        """Let others have it."""
        self.owner = None
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()
        self.owner = get_ident()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _before_fork(self) -> None:
        """Wait until nothing is done under it."""
        thread = get_ident()
        if thread != self.owner and self._lock.acquire(timeout=_TIMEOUT_S):
            # Several threads may fork at the same time, and only one of them has the lock.
            self._forking = thread

    def _after_fork_in_parent(self) -> bool:
        """Go on; say whether the fork had it."""
        had_it = self._forking == get_ident()
        if had_it:
            self._forking = None
            self._lock.release()
        return had_it


_all: WeakSet[ForkLock] = WeakSet()


def _before_fork() -> None:
    for each in list(_all):
        each._before_fork()


def _after_fork_in_parent() -> None:
    # What one of them calls may take any other: first all are free.
    for each in [each for each in list(_all) if each._after_fork_in_parent()]:
        with suppress(Exception):
            each._after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
