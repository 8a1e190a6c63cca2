"""What destinations share whose thread sends lines away, and keeps them until they are safe."""

from __future__ import annotations

import errno
import sys
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from math import inf
from threading import Lock
from time import monotonic
from typing import Any, Final

from orjson import dumps

from eliot_etw._json import LINE_OPTIONS, choose_default, encode_carefully, encode_line
from eliot_etw.destinations._queued import Queued, WhenFull
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S
from eliot_etw.typing import JsonDefault, MessageDict

# About how many bytes are taken from the queue at a time.
_MOST_BYTES: Final = 256 << 10
# How long a message that comes after the end may take.
_LATE_S: Final = 1.0
# How long no such message is tried to be sent after one that could not be.
_LATE_AGAIN_S: Final = 10.0
# How long the thread may take to end, when its time is over.
_GRACE_S: Final = 0.5


class QueuedLines(Queued):
    """Queues lines, and has a thread send them, within a deadline at the end.

    A destination derives from it, and says in `_send_all` how. Its constructor ends with
    `_forget` and `finish_at_exit`.

    Attributes:
        exit_timeout_s: How long the end of the program may take.
    """

    closes_in_time: Final = True
    # How many lines are taken from the queue at a time.
    _most_lines: int
    # Where they go, for reports.
    _place: str

    def __init__(
        self,
        max_queued: int,
        when_full: WhenFull,
        block_timeout_s: float,
        exit_timeout_s: float,
        json_default: JsonDefault,
    ) -> None:
        """Check the settings.

        Raises:
            ValueError: If a setting is wrong.
        """
        super().__init__(max_queued, when_full, block_timeout_s)
        if not 0 <= exit_timeout_s < inf:
            msg = f"exit_timeout_s must be 0 or more, got {exit_timeout_s!r}. Try 5.0."
            raise ValueError(msg)
        self.exit_timeout_s = exit_timeout_s
        self._default = choose_default(None, json_default)
        # To the dispatcher: nothing that is called here logs.
        self.is_leaf = True
        self._is_closed = False

    @abstractmethod
    def _send_all(self) -> bool:
        """Send lines until there is nothing left to wait for; say whether all are safe."""

    def _forget(self) -> None:
        """Begin as a new sender with an empty queue: at first, and in a forked child."""
        super()._forget()
        # Held by whoever takes from the queue and sends. Nobody waits for it.
        self._sending = Lock()
        # Whether some lines are out of the queue, and not yet where they wait for being sent.
        self._is_taking = False
        self._reports = 0
        self._deadline = self._try_at = -inf
        self._complaint = ""

    def __call__(self, message: MessageDict) -> None:
        """Queue a message. Waits only if there is no room; raises OSError if it is closed."""
        queue = self._queue
        if len(queue) >= self._crowded_from and not self._has_room():
            return
        try:
            queue.append(dumps(message, None, LINE_OPTIONS))
        except TypeError:
            queue.append(encode_carefully(message, self._default))
        if self._is_asleep:
            self._wake()

    # ---- the thread ----------------------------------------------------------------------------

    def _write(self) -> None:
        """Send messages until `_finish`, and those that wait then: what the thread does."""
        with self._sending:
            self._send_all()
        # What has been queued since is for whoever queued it,
        self._is_asleep = True
        # unless the end did not wait for us any longer.
        if self._is_over and self._queue and not self._is_closed:
            self._deliver_all()

    def _is_late(self) -> bool:
        """Say whether there is no time left."""
        return self._stops and monotonic() >= self._deadline

    def _take(self, put: Callable[[list[bytes]], Any]) -> bool:
        """Take lines out of the queue to where they wait; say whether there were any."""
        lines: list[bytes] = []
        size = taken = 0
        self._is_taking = True
        try:
            dropped = self._dropped_before()
            if dropped:
                lines.append(encode_line(self._report_of(dropped)))
            popleft = self._queue.popleft
            with suppress(IndexError):
                while size < _MOST_BYTES and len(lines) < self._most_lines:
                    line = popleft()
                    taken += 1
                    lines.append(line)
                    size += len(line)
            if lines:
                self._has_given_up = False
                put(lines)
            if dropped:
                self._told += dropped
                self._told_at = monotonic()
                self._reports += 1
        except BaseException:  # there is no memory to join them
            for _ in range(taken):
                self._dropped.add()
            raise
        finally:
            self._is_taking = False
        return bool(lines)

    # ---- the end -------------------------------------------------------------------------------

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what waits, and end. May be called twice; messages that still come are failures.

        Args:
            timeout_s: How long that may take.
        """
        self._finish(monotonic() + timeout_s)
        self._is_closed = True

    def _finish(self, deadline: float) -> None:
        """Have the thread send what waits, and end; then messages are sent at once."""
        self._notice_fork()
        self._stop(deadline)
        self._ring()
        writer = self._writer
        if writer is not None and not self._is_writer():
            writer.join(max(0.0, deadline - monotonic()) + _GRACE_S)
        self._is_asleep = self._is_over = True
        if self._is_busy() and not self._is_closed and self._sending.acquire(blocking=False):
            try:
                self._send_now(deadline)
            finally:
                self._sending.release()
        self._give_up()

    def _give_up(self) -> None:
        """Drop what waits still, and tell of it."""
        with suppress(IndexError):
            while True:
                self._queue.popleft()
                self._dropped.add()
        self._tell_of_losses()

    def _tell_of_losses(self) -> None:
        """Tell whoever still listens what was dropped in all, if the log was not told of all."""
        dropped = self._all_dropped()
        if dropped > self._told:
            self._told = dropped
            what = "were not acknowledged in time, or found no room, and may be lost"
            self._complain(f"{dropped} messages {what}")

    def _stop(self, deadline: float) -> None:
        """Have whoever sends end when nothing is left, and at that time at the latest."""
        self._deadline = deadline
        self._stops = True

    def _deliver_all(self) -> bool:
        """Send what is queued from the thread that logs: there is no other, or no longer."""
        if self._is_closed:
            with suppress(IndexError):
                self._queue.pop()
                self._dropped.add()
            msg = f"The destination is closed. Make a new {type(self).__name__}."
            raise OSError(errno.EBADF, msg)
        # Who finds somebody at it may go: that one looks for messages again.
        while self._sending.acquire(blocking=False):
            try:
                is_done = self._send_late()
            finally:
                self._sending.release()
            if not (is_done and self._queue):
                break
        return True

    def _send_late(self) -> bool:
        """Send what is queued; after the end, drop what cannot be sent. Say whether it is done."""
        now_s = monotonic()
        if now_s >= self._try_at:
            if self._send_now(now_s + _LATE_S):
                return True
            self._try_at = monotonic() + _LATE_AGAIN_S
        if self._is_over:
            self._give_up()
        return self._is_over

    def _send_now(self, deadline: float) -> bool:
        """Do at once what the thread would, under `_sending`; say whether all is safe."""
        stops = self._stops
        self._stop(deadline)
        try:
            return self._send_all()
        finally:
            self._stops = stops

    def _complain(self, what: str) -> None:
        """Tell whoever still listens what the log cannot be told; the same only once."""
        if what != self._complaint:
            self._complaint = what
            with suppress(Exception):  # there may be no stderr
                sys.stderr.write(f"eliot_etw: {self._place}: {what.rstrip('.')}.\n")
