"""What destinations with a thread of their own share: the queue, and how the thread is woken."""

from __future__ import annotations

import _thread
import os
from _thread import get_ident
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from math import inf
from threading import Thread
from time import monotonic, sleep, time
from typing import Any, Final, Literal, TypeAlias, get_args

from eliot_etw import _names as names
from eliot_etw._counter import Counter
from eliot_etw._task_level import new_task_uuid
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S
from eliot_etw.typing import MessageDict

WhenFull: TypeAlias = Literal["block", "drop_new", "drop_old"]

LOOK_S: Final = 0.001
"""How often to look whether there is room again, or nothing left."""
NAPS: Final = 25
"""How many naps without a message the thread takes before it sleeps until woken."""

# While messages come, the writer looks for more this often: to wake it for each would cost the
# program more than to write the message. If none come for so many looks, it sleeps until woken.
_NAP_S: Final = 0.02
# How often, at most, the log is told what was dropped.
_BETWEEN_REPORTS_S: Final = 1.0


def _new_bell() -> Any:
    """Make a lock that is taken: whoever releases it wakes who waits for it."""
    bell = _thread.allocate_lock()
    bell.acquire()
    return bell


class Queued(ABC):
    """A bounded queue that any thread puts into, and a thread that takes from it.

    No lock is taken to put something in, so that a signal handler may, too. Whoever does::

        if len(self._queue) >= self._crowded_from and not self._has_room():
            return
        self._queue.append(item)
        if self._is_asleep:
            self._wake()
    """

    # How long the thread sleeps at most, if nobody wakes it; for ever if negative.
    _longest_sleep_s = -1.0

    def __init__(self, max_queued: int, when_full: WhenFull, block_timeout_s: float) -> None:
        """Say how many may wait, and what happens to more; `_forget` makes the queue.

        Raises:
            ValueError: If `max_queued` is less than 1, `when_full` is none of the three, or
                `block_timeout_s` is negative or infinite.
        """
        if max_queued < 1:
            msg = f"max_queued must be at least 1, got {max_queued!r}. Say how many may wait."
            raise ValueError(msg)
        if when_full not in get_args(WhenFull):
            msg = f"when_full must be one of {get_args(WhenFull)}, got {when_full!r}. Choose one."
            raise ValueError(msg)
        if not 0 <= block_timeout_s < inf:
            msg = f"block_timeout_s must be 0 or more, got {block_timeout_s!r}. Try 1.0."
            raise ValueError(msg)
        self._max_queued = max_queued
        self._crowded_from = max(1, max_queued // 2)
        self._when_full = when_full
        self._block_timeout_s = block_timeout_s
        self._is_over = False

    @abstractmethod
    def _write(self) -> None:
        """Take from the queue until `_stops`: what the thread does."""

    @abstractmethod
    def _deliver_all(self) -> bool:
        """Take what is queued now, also without the thread; say whether there was anything."""

    @abstractmethod
    def _is_busy(self) -> bool:
        """Say whether anything that was logged is not yet where it goes."""

    def _forget(self) -> None:
        """Begin with an empty queue and no writer: at first, and in a forked child."""
        self._pid = os.getpid()
        self._queue: deque[Any] = deque()
        self._dropped = Counter()
        # Whether whoever queues a message has to wake the writer, or be in its place.
        self._is_asleep = True
        self._is_napping = False
        self._bell = _new_bell()
        self._writer: Thread | None = None
        # Taken by the one who starts the writer.
        self._right_to_start = [True]
        self._stops = False
        self._has_given_up = False
        self._told = 0
        self._told_at = -_BETWEEN_REPORTS_S

    def _notice_fork(self) -> None:
        """Begin anew with what is queued, if the process was forked without Python's knowing.

        As servers in C do: the writer is not in this process. It is looked for where the queue is
        crowded, and at the end; to ask for the process at each message would cost too much.
        """
        if self._pid != os.getpid():
            queue = self._queue
            self._forget()
            self._queue = queue

    def _has_room(self) -> bool:
        """Say whether there is room for one more message, when many are queued; or make it."""
        self._notice_fork()
        if self._is_napping:
            self._ring()
        if len(self._queue) < self._max_queued:
            return True
        if self._when_full == "drop_old":
            with suppress(IndexError):  # the writer took it
                self._queue.popleft()
                self._dropped.add()
            return True
        if self._when_full == "block" and self._wait_for_room():
            return True
        self._dropped.add()
        return False

    def _wait_for_room(self) -> bool:
        """Wait until there is room; say whether there is."""
        deadline = monotonic() + self._block_timeout_s
        try:
            while len(self._queue) >= self._max_queued:
                # The writer would wait for itself.
                if self._has_given_up or self._is_over or self._is_writer():
                    return False
                if monotonic() >= deadline:
                    self._has_given_up = True
                    return False
                sleep(LOOK_S)
        except BaseException:  # of a signal handler: the message is lost
            self._dropped.add()
            raise
        return True

    def _is_writer(self) -> bool:
        """Say whether this is the writer, which logs when it reports a failure."""
        return self._writer is not None and self._writer.ident == get_ident()

    # ---- the thread, and how it is woken -------------------------------------------------------

    def _wake(self) -> None:
        """Wake the writer, or start it; or, if that cannot be, deliver what is queued."""
        if self._is_over or not self._has_writer():
            self._deliver_all()
        else:
            self._is_asleep = False
            self._ring()

    def _ring(self) -> None:
        """Let a writer that sleeps go on."""
        self._is_napping = False
        with suppress(RuntimeError):  # somebody else did
            self._bell.release()

    def _has_writer(self) -> bool:
        """Start the writer, if there is none; say whether there is one."""
        if self._writer is None:
            try:
                self._right_to_start.pop()
            except IndexError:  # another thread is just starting it
                return True
            # Of the kind that the thread will be: gevent may have changed both since.
            self._bell = _new_bell()
            try:
                writer = Thread(target=self._run, name="eliot_etw writer", daemon=True)
                writer.start()
            except RuntimeError:  # at the end, in a subinterpreter, or there are too many
                self._is_asleep = True
                self._right_to_start.append(True)
                return False
            self._writer = writer
        return True

    def _run(self) -> None:
        """Be the writer, which must not die of anything, such as a destination that exits."""
        while True:
            with suppress(BaseException):
                self._write()
                return

    def _rest(self, naps: int) -> int:
        """Sleep for a moment, or until woken; return the number of naps since the last message."""
        if naps < NAPS or self._told < self._all_dropped():
            self._is_napping = True
            if not self._stops:
                self._bell.acquire(timeout=_NAP_S)
            self._is_napping = False
            return naps + 1
        self._is_asleep = True
        # Somebody may have queued a message just before, and not seen that the writer sleeps.
        if not self._queue and not self._stops:
            self._bell.acquire(timeout=self._longest_sleep_s)
        self._is_asleep = False
        return 0 if self._queue else NAPS

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Wait until all that was logged so far has been taken: written, or acknowledged.

        Args:
            timeout_s: How long to wait at most.

        Returns:
            Whether it has; if not, it may still be, later.
        """
        deadline = monotonic() + timeout_s
        self._notice_fork()
        if self._queue:
            self._wake()
        while self._is_busy():
            if monotonic() >= deadline:
                return False
            sleep(LOOK_S)
        return True

    # ---- what was dropped ----------------------------------------------------------------------

    def _dropped_before(self) -> int:
        """Say how many messages were dropped that the log is to be told of now; mostly none."""
        dropped = self._all_dropped() - self._told
        is_due = self._is_over or monotonic() >= self._told_at + _BETWEEN_REPORTS_S
        return max(0, dropped) if is_due else 0

    def _all_dropped(self) -> int:
        """How many messages were dropped so far."""
        return self._dropped.value

    def _report_of(self, dropped: int) -> MessageDict:
        """Make the message that tells the log of what was dropped."""
        return {
            names.TIMESTAMP: time(),
            names.TASK_UUID: new_task_uuid(),
            names.TASK_LEVEL: [1],
            names.MESSAGE_TYPE: names.DROPPED,
            "dropped": dropped,
            "when_full": self._when_full,
        }
