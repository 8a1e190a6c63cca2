"""What destinations share that add messages to a stream of an engine: all but the engine."""

from __future__ import annotations

import errno
import secrets
import sys
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import inf
from threading import Lock
from time import monotonic, sleep
from typing import Final, Protocol

from orjson import dumps

from eliot_etw._json import LINE_OPTIONS, choose_default, encode_carefully, encode_line
from eliot_etw.destinations._fork_lock import ForkLock
from eliot_etw.destinations._queued import LOOK_S, Queued, WhenFull
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S, finish_at_exit
from eliot_etw.exceptions import MessagesRefused
from eliot_etw.json import json_default
from eliot_etw.shipping._engines import Item
from eliot_etw.typing import JsonDefault, MessageDict

# How many lines, and about how many bytes, are sent at a time.
_MOST_LINES: Final = 1_000
_BATCH_BYTES: Final = 256 << 10
# How long after a failure it is tried again: the first time, and at most.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
# How long a message that comes after the end may take.
_LATE_S: Final = 1.0
# How long no such message is tried to be sent after one that could not be.
_LATE_AGAIN_S: Final = 10.0
# How long the thread may take to end, when its time is over.
_GRACE_S: Final = 0.5

# Connections that forked children have inherited, which are not theirs to close.
_of_parents: Final[list[object]] = []


class Engine(Protocol):
    """A stream that messages are added to."""

    @property
    def url(self) -> str:
        """Where it is, for reports."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What is raised if it cannot be reached."""

    def append(self, items: Iterable[Item]) -> int:
        """Add messages that are not there yet; return how many were."""

    def close(self) -> None:
        """Close the connection. A later call connects anew."""


class EngineDestination(Queued):
    """Queues lines, and has a thread of its own add them to a stream, each once.

    A destination derives from it, and says in `_open` what to add them to.

    Attributes:
        exit_timeout_s: How long the end of the program may take.
    """

    closes_in_time: Final = True
    _engine: Engine

    def __init__(
        self,
        max_queued: int,
        when_full: WhenFull,
        block_timeout_s: float,
        exit_timeout_s: float,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Check the settings; the first message starts the thread, which connects.

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
        self._forget()
        finish_at_exit(self)

    @abstractmethod
    def _open(self) -> Engine:
        """Make what messages are added to. Raises what is wrong with the settings."""

    def _forget(self) -> None:
        """Begin as a new sender with an empty queue: at first, and in a forked child."""
        if "_engine" in vars(self):
            _of_parents.append(self._engine)
        super()._forget()
        self._engine = self._open()
        # Who we are to the engine, and the number of the message that was taken last.
        self._sender = secrets.token_hex(16)
        self._number = 0
        # Held by whoever takes from the queue and sends. Nobody waits for it.
        self._sending = Lock()
        self._calling = ForkLock()
        # What was taken and is not settled; whoever takes it from here says what became of it.
        self._under_way: list[Item] = []
        self._settling = Lock()
        self._is_taking = False
        self._counts = dict.fromkeys(
            ("acknowledged", "refused", "reports", "repeated", "failures"), 0
        )
        self._pause_s = _FIRST_PAUSE_S
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
        # What has been queued since is for whoever queued it.
        self._is_asleep = True

    def _send_all(self) -> bool:
        """Send messages until there is nothing left to wait for; say whether none is left."""
        naps = 0
        while not self._is_late():
            if self._under_way or self._take():
                naps = 0
                self._send()
            elif self._stops:
                break
            else:
                naps = self._rest(naps)
        self._engine.close()
        return not self._under_way and not self._queue

    def _is_late(self) -> bool:
        """Say whether there is no time left."""
        return self._stops and monotonic() >= self._deadline

    def _take(self) -> bool:
        """Take lines out of the queue, and number them; say whether there were any."""
        lines: list[bytes] = []
        size = 0
        self._is_taking = True
        dropped = self._dropped_before()
        if dropped:
            lines.append(encode_line(self._report_of(dropped)))
            self._told += dropped
            self._told_at = monotonic()
            self._counts["reports"] += 1
        popleft = self._queue.popleft
        with suppress(IndexError):
            while size < _BATCH_BYTES and len(lines) < _MOST_LINES:
                line = popleft()
                lines.append(line)
                size += len(line)
        if lines:
            self._has_given_up = False
            first = self._number + 1
            self._number += len(lines)
            self._under_way = [
                Item(line[:-1], self._sender, number, "")
                for number, line in enumerate(lines, first)
            ]
        self._is_taking = False
        return bool(lines)

    def _send(self) -> None:
        """Have the engine take what is under way; if it does not, wait a while."""
        items = self._under_way
        refused: Sequence[int] = ()
        try:
            with self._calling:
                self._counts["repeated"] += self._engine.append(items)
        except MessagesRefused as error:
            refused = list(error.refused)
            self._complain(str(error))
        except self._engine.errors as error:
            return self._hold(str(error))
        except Exception as error:  # noqa: BLE001 - no more files, threads or memory: it may pass
            return self._hold(repr(error))
        self._pause_s = _FIRST_PAUSE_S
        self._complaint = ""
        if self._settle():
            self._counts["acknowledged"] += len(items) - len(refused)
            self._counts["refused"] += len(refused)
        return None

    def _hold(self, why: str) -> None:
        """Keep what the engine did not take, and wait a while."""
        self._counts["failures"] += 1
        self._complain(why)
        pause_s = self._pause_s
        if self._stops:
            pause_s = max(0.0, min(_FIRST_PAUSE_S, self._deadline - monotonic()))
        self._bell.acquire(timeout=pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _settle(self) -> list[Item]:
        """Take what is under way, to say what became of it; nothing if somebody else has."""
        with self._settling:
            items, self._under_way = self._under_way, []
        return items

    # ---- the end -------------------------------------------------------------------------------

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Wait until all that was logged so far is acknowledged.

        Args:
            timeout_s: How long to wait at most.

        Returns:
            Whether it is; if not, it may still be, later.
        """
        deadline = monotonic() + timeout_s
        self._notice_fork()
        if self._queue:
            self._wake()
        while self._queue or self._is_taking or self._under_way:
            if monotonic() >= deadline:
                return False
            sleep(LOOK_S)
        return True

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
        self._deadline = deadline
        self._stops = True
        self._ring()
        writer = self._writer
        if writer is not None and not self._is_writer():
            writer.join(max(0.0, deadline - monotonic()) + _GRACE_S)
        self._is_asleep = self._is_over = True
        if (self._queue or self._under_way) and not self._is_closed:
            self._send_now(deadline)
        self._give_up()

    def _give_up(self) -> None:
        """Drop what cannot be sent any more, and tell whoever still listens: the log cannot."""
        lost = len(self._settle())
        with suppress(IndexError):
            while True:
                self._queue.popleft()
                lost += 1
        for _ in range(lost):
            self._dropped.add()
        if lost:
            self._complain(f"{lost} messages were not acknowledged in time, and are lost")

    def _deliver_all(self) -> bool:
        """Send what is queued from the thread that logs: there is no other, or no longer."""
        if self._is_closed:
            with suppress(IndexError):
                self._queue.pop()
                self._dropped.add()
            msg = f"The destination is closed. Make a new {type(self).__name__}."
            raise OSError(errno.EBADF, msg)
        now_s = monotonic()
        if now_s >= self._try_at and not self._send_now(now_s + _LATE_S):
            self._try_at = monotonic() + _LATE_AGAIN_S
        return True

    def _send_now(self, deadline: float) -> bool:
        """Do at once what the thread would; say whether all was acknowledged."""
        if not self._sending.acquire(blocking=False):
            return True  # somebody is at it
        stops = self._stops
        self._deadline, self._stops = deadline, True
        try:
            return self._send_all()
        finally:
            self._stops = stops
            self._sending.release()

    def _complain(self, what: str) -> None:
        """Tell whoever still listens what the log cannot be told; the same only once."""
        if what != self._complaint:
            self._complaint = what
            with suppress(Exception):  # there may be no stderr
                sys.stderr.write(f"eliot_etw: {self._engine.url}: {what}.\n")

    def stats(self) -> dict[str, int]:
        """Count messages, in this process.

        Returns:
            ``queued``: those that wait; ``acknowledged``: those that the engine has; ``refused``:
            those that it will never take; ``dropped``: those for which there was no room, or no
            time at the end. All these together are what was logged, and ``reports``, the messages
            that told of dropped ones.

            ``repeated``: messages that it had already when they were sent again; ``failures``: how
            often it could not be reached, or refused.
        """
        return {
            "queued": len(self._queue) + len(self._under_way),
            "dropped": self._dropped.value,
            **self._counts,
        }
