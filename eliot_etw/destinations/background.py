"""Messages written by a thread of their own, so that nobody waits for the disk."""

from __future__ import annotations

import sys
from _thread import get_ident
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeAlias

from orjson import dumps

from eliot_etw._counter import Counter
from eliot_etw._json import LINE_OPTIONS, decode_line
from eliot_etw._logger import DESTINATIONS
from eliot_etw.destinations._fork_lock import ForkLock
from eliot_etw.destinations._queued import Queued, WhenFull
from eliot_etw.destinations._wrapper import Wrapper, as_it_is, finish_at_exit
from eliot_etw.destinations.file import FileDestination
from eliot_etw.typing import Destination, MessageDict

# How many lines a file gets with one write, and how many messages anything else at a time.
_MOST_LINES: Final = 4096
_MOST_MESSAGES: Final = 64

_Failure: TypeAlias = tuple[MessageDict, Any]


class BackgroundDestination(Queued, Wrapper):
    """Queues messages, and has a thread of its own deliver them to the destination inside.

    What is logged is what was true then. For a `FileDestination` inside, the line is made at once,
    and the writer writes many with one write. Another destination gets a copy of the message, in
    which lists, dicts, sets and tuples are copies too; any other object is passed as it is, and
    may have changed meanwhile.

    When the queue is full, the calling thread waits until there is room, but never longer than
    `block_timeout_s`; then the message is dropped, as are those after it, without waiting, until
    there is room again. Or nobody waits: then the new message is dropped, or the oldest. Whatever
    is dropped is counted, and the log is told in a message ``eliot:dropped``.

    What the destination inside raises is counted as ``failed`` and reported as any destination's
    failure. If it is stuck, so is the writer, and the queue fills.

    At the end of the program, what is queued is delivered, within a deadline. A process that is
    killed loses it: up to 20 ms worth of messages as long as the writer keeps up. A forked child
    begins with an empty queue, and a writer of its own.

    No lock is taken in the call that logs, so that a signal handler may log too.
    """

    def __init__(
        self,
        inner: Destination,
        *,
        max_queued: int = 10_000,
        when_full: WhenFull = "block",
        block_timeout_s: float = 1.0,
    ) -> None:
        """Make the queue; the thread is started by the first message.

        Args:
            inner: Where the thread delivers messages.
            max_queued: How many messages may wait; each thread that logs at the same moment may
                add one more.
            when_full: What happens to a message when as many wait: ``"block"`` waits for room,
                ``"drop_new"`` drops it, ``"drop_old"`` drops the one that waits longest.
            block_timeout_s: How long ``"block"`` waits at most.

        Raises:
            TypeError: If `inner` cannot be called.
            ValueError: If `max_queued` is less than 1, `when_full` is none of the three, or
                `block_timeout_s` is negative or infinite.
        """
        Wrapper.__init__(self, inner)
        Queued.__init__(self, max_queued, when_full, block_timeout_s)
        # What the destination inside logs must not come to it again, for ever.
        self._inner_may_log = not self.is_leaf
        # To the dispatcher: here, nothing logs in the thread that called.
        self.is_leaf = True
        self._file = inner if isinstance(inner, FileDestination) else None
        self._forget()
        finish_at_exit(self)

    def _forget(self) -> None:
        """Begin with an empty queue and no writer: at first, and in a forked child."""
        Queued._forget(self)
        self._delivered = 0
        self._failed = Counter()
        self._reentrant = Counter()
        # Held by whoever takes from the queue and delivers. Only a fork waits for it.
        self._delivering = ForkLock(self._deliver_late)
        self._under_way = 0

    def __call__(self, message: MessageDict) -> None:
        """Queue a message. Never raises, and waits only if the queue is full."""
        if self._inner_may_log and get_ident() == self._delivering.owner:
            self._reentrant.add()
            return
        queue = self._queue
        if len(queue) >= self._crowded_from and not self._has_room():
            return
        if self._file is not None:
            try:
                queue.append(dumps(message, None, LINE_OPTIONS))
            except TypeError:
                queue.append(self._file.encode(message))
        else:
            queue.append(as_it_is(message))
        if self._is_asleep:
            self._wake()

    def _write(self) -> None:
        """Deliver messages until `_finish`."""
        naps = 0
        while True:
            if self._deliver_all():
                naps = 0
            elif self._stops and not self._queue:
                self._is_asleep = True
                # Somebody may have queued a message just before.
                self._deliver_all()
                return
            else:
                naps = self._rest(naps)

    # ---- delivering ----------------------------------------------------------------------------

    def _deliver_all(self) -> bool:
        """Deliver what is queued, unless somebody is at it; say whether there was anything."""
        found = False
        # Who finds the lock taken may go: its holder looks for messages again after releasing it.
        # What is inside may fork, and then there is another lock in the child.
        while self._queue and (delivering := self._delivering).take():
            try:
                failed = self._deliver_some()
            finally:
                delivering.release()
            found = True
            self._has_given_up = False
            for message, error in failed:
                DESTINATIONS.failed(self.__call__, error, message)
        self._tell_of_dropped()
        return found

    def _deliver_late(self) -> None:
        """After a fork, deliver what was queued meanwhile, if there is no writer that will."""
        if self._is_over:
            self._deliver_all()

    def _deliver_some(self) -> list[_Failure]:
        """Deliver some of the queue; count what failed, and return it."""
        try:
            return self._send_some() if self._file is None else self._write_some(self._file)
        finally:
            self._under_way = 0

    def _write_some(self, file: FileDestination) -> list[_Failure]:
        """Write as many lines to a file as it takes at once."""
        most = min(_MOST_LINES if file.takes_batches else 1, len(self._queue))
        self._under_way = most
        popleft = self._queue.popleft
        lines: list[bytes] = []
        with suppress(IndexError):  # others drop the oldest
            lines.extend(popleft() for _ in range(most))
        failed: list[tuple[bytes, Any]]
        try:
            failed = [*file.write_lines(lines)]
        except BaseException as error:  # noqa: BLE001 - raised below, if it is not the writer's
            failed = [(line, error) for line in lines]
        self._delivered += len(lines) - len(failed)
        self._count_failed(failed)
        return [(decode_line(line), why) for line, why in failed]

    def _send_some(self) -> list[_Failure]:
        """Send messages on, one by one."""
        failed: list[_Failure] = []
        with suppress(IndexError):
            for _ in range(_MOST_MESSAGES):
                self._under_way = 1
                message = self._queue.popleft()
                try:
                    self._send(message)
                    self._delivered += 1
                except BaseException as error:  # noqa: BLE001 - likewise
                    failed.append((message, error))
                    self._count_failed(failed[-1:])
                self._under_way = 0
        return failed

    def _count_failed(self, failed: Sequence[tuple[Any, BaseException]]) -> None:
        """Count messages that are lost; raise what ends the program, but not in the writer."""
        for _ in failed:
            self._failed.add()
        if failed and not isinstance(failed[-1][1], Exception) and not self._is_writer():
            raise failed[-1][1]

    def _tell_of_dropped(self) -> None:
        """Tell the destination inside what was dropped, now and then; it must not go unnoticed."""
        dropped = self._dropped_before()
        if not dropped or not (delivering := self._delivering).take():
            return
        try:
            self._send(self._report_of(dropped))
            if delivering is self._delivering:  # else this is a child that it forked
                self._told += dropped
        except Exception:  # noqa: BLE001, S110 - it is tried again; its messages fail aloud
            pass
        finally:
            self._told_at = monotonic()
            delivering.release()

    # ---- the end -------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return bool(self._queue) or self._under_way > 0

    def _stop(self) -> None:
        """Have the writer deliver what is queued, and end."""
        self._stops = True
        self._ring()

    def _finish(self, deadline: float) -> None:
        """Stop, and wait for it; then messages are delivered at once."""
        self._notice_fork()
        self._stop()
        writer = self._writer
        if writer is not None and not self._is_writer():
            writer.join(max(0.0, deadline - monotonic()))
        self._is_asleep = self._is_over = True
        if writer is not None and writer.is_alive():
            self._give_up()
        self._deliver_all()

    def _give_up(self) -> None:
        """Drop what is queued, and tell whoever still listens: the log cannot."""
        under_way, dropped = self._under_way, 0
        with suppress(IndexError):
            while True:
                self._queue.popleft()
                self._dropped.add()
                dropped += 1
        with suppress(Exception):  # there may be no stderr
            sys.stderr.write(
                f"eliot_etw: {self.inner!r} did not take its messages in time: "
                f"{dropped} dropped, {under_way} under way.\n"
            )

    def stats(self) -> dict[str, int]:
        """Count messages, in this process.

        Returns:
            ``queued``: those that wait, or are just being delivered; ``delivered``: those that the
            destination inside took; ``failed``: those for which it raised; ``dropped``: those for
            which there was no room; ``dropped_as_reentrant``: those that the destination inside
            logged while it was called, which went to the others only.
        """
        return {
            "queued": len(self._queue) + self._under_way,
            "delivered": self._delivered,
            "failed": self._failed.value,
            "dropped": self._dropped.value,
            "dropped_as_reentrant": self._reentrant.value,
        }
