"""Forked processes: parent and child log to the actions that both are in, each to its own places.

Both have a copy of those actions, and would count on from the same place. So before a process is
forked, the actions that it is in begin to count in files that both will have open. The end of such
an action is logged by the parent alone; for the child it is over.

Left as they are: actions that only other threads or tasks are in; more than the `_MOST_SHARED`
innermost; and what is around a block of `Action.context` or a call of `Action.run`, unless that
action is within it. Where there is no file to be had, or somebody closes it, parent and child may
claim the same places: nothing is lost, but whoever reads the log finds conflicts. Windows has no
fork.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice
from threading import RLock
from time import sleep
from weakref import finalize

from eliot_etw._action import OVER, Action
from eliot_etw._context import CURRENT

# Each takes a file descriptor, of which a process may often have 1,024 and no more.
_MOST_SHARED = 64


class _SharedPlaces(Iterator[int]):
    """Gives out the places in an action, to all processes that were forked within it.

    The place that was given out last is the position in an empty file. The system moves it on and
    says where it is now in one step, so that there is no lock for anybody to die with.

    Source:
        POSIX.1-2017, System Interfaces, 2.9.7: what lseek() does to a regular file is atomic.
    """

    def __init__(self, own: Iterator[int]) -> None:
        """Open the file.

        Args:
            own: Gives out the places until `hand_over`, and for want of the file.

        Raises:
            OSError: If there is no file to be had.
        """
        self._own = own
        self._is_ready = False
        self._fd = _open_empty_file()
        self._file = _identity(self._fd)
        finalize(self, _close, self._fd, self._file).atexit = False

    def hand_over(self) -> None:
        """Go on where the process's own count is now, which nobody else may take from any more."""
        os.lseek(self._fd, next(self._own) - 1, os.SEEK_SET)
        self._is_ready = True

    def __next__(self) -> int:
        if not self._is_ready:
            self._wait_for_hand_over()
        with suppress(OSError):
            # A daemon closes all files it has inherited, and opens others under their numbers.
            if _identity(self._fd) == self._file:
                place = os.lseek(self._fd, 1, os.SEEK_CUR)
                self._own = count(place + 1)
                return place
        return next(self._own)

    def _wait_for_hand_over(self) -> None:
        """Wait for a thread that is between the two lines of `_share`, if it still is."""
        for _ in range(1000):
            if self._is_ready:
                return
            sleep(0.001)


def _identity(fd: int) -> tuple[int, ...]:
    """Return what tells one of these files, which have neither name nor content, from any other.

    The number of its inode alone does not: a daemon's next file may get it.
    """
    return os.fstat(fd)[:7]  # up to the size, that is: not the times


def _close(fd: int, file: tuple[int, ...]) -> None:
    """Close a file, if it is still that file."""
    with suppress(OSError):
        if _identity(fd) == file:
            os.close(fd)


def _open_empty_file() -> int:
    """Open a file that has no name, and goes away with the last process that has it open.

    It is no `os.memfd_create`: to those, Linux 6.18 does not apply the rule that is relied on,
    and one place in a thousand was given out twice.
    """
    from tempfile import TemporaryFile  # noqa: PLC0415 - slow to import, and rarely needed

    with TemporaryFile() as file:
        return os.dup(file.fileno())


def _share(action: Action) -> None:
    """Have an action give out its places by a file that a forked child inherits."""
    own = action._open_places()
    if isinstance(own, _SharedPlaces):
        return
    with suppress(OSError):
        shared = _SharedPlaces(own)
        # Other threads may be logging to the action. For them, to look up the count and to take
        # from it is one step: after this line none of them takes from the old one.
        action._places = shared
        shared.hand_over()


def _entered() -> dict[Action, None]:
    """Return the actions that this thread is in, innermost first."""
    found: dict[Action, None] = {}
    waiting: list[object] = [CURRENT.get()]
    for action in waiting:
        # What a token replaced may also be its sign for nothing.
        if isinstance(action, Action) and action not in found:
            found[action] = None
            waiting.append(action._parent)
            # A task that was started within an action is no child of it: its tokens know.
            tokens = action._token
            entered = tokens if isinstance(tokens, tuple) else () if tokens is None else (tokens,)
            waiting.extend(token.old_value for token in entered)
    return found


# Held during a fork, so that no other thread is in the midst of _share then.
_forking = RLock()


def _before() -> None:
    _forking.acquire()
    for action in islice(_entered(), _MOST_SHARED):
        _share(action)


def _after_in_parent() -> None:
    _forking.release()


def _after_in_child() -> None:
    global _forking  # noqa: PLW0603 - other threads may have waited for the old one
    _forking = RLock()
    for action in _entered():
        action._ending = OVER


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
