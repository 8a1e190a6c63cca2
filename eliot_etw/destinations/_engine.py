"""What destinations share that add messages to a stream of an engine: all but the engine."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from threading import Lock
from time import monotonic
from typing import Final, Protocol

from eliot_etw.destinations._fork_lock import ForkLock
from eliot_etw.destinations._queued import WhenFull
from eliot_etw.destinations._queued_lines import QueuedLines
from eliot_etw.destinations._wrapper import finish_at_exit
from eliot_etw.exceptions import MessagesRefused
from eliot_etw.json import json_default
from eliot_etw.shipping._engines import Item
from eliot_etw.typing import JsonDefault

# How long after a failure it is tried again: the first time, and at most.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0

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


class EngineDestination(QueuedLines):
    """Queues lines, and has a thread of its own add them to a stream, each once.

    A destination derives from it, and says in `_open` what to add them to.

    Attributes:
        exit_timeout_s: How long the end of the program may take.
    """

    _most_lines = 1_000
    # Not there in a forked child that has sent nothing yet.
    _engine: Engine | None = None

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
        super().__init__(max_queued, when_full, block_timeout_s, exit_timeout_s, json_default)
        self._forget()
        self._engine = self._open()
        self._place = self._engine.url
        finish_at_exit(self)

    @abstractmethod
    def _open(self) -> Engine:
        """Make what messages are added to. Raises what is wrong with the settings."""

    def _forget(self) -> None:
        """Begin as a new sender with an empty queue: at first, and in a forked child."""
        if self._engine is not None:
            _of_parents.append(self._engine)
        super()._forget()
        # A new one may need files that cannot be read any more: then it is tried again.
        self._engine = None
        # Who we are to the engine, and the number of the message that was taken last.
        self._sender = secrets.token_hex(16)
        self._number = 0
        self._calling = ForkLock()
        # What was taken and is not settled; whoever does that counts first what became of it, so
        # that all is counted when there is none.
        self._under_way: list[Item] = []
        self._settling = Lock()
        self._counts = dict.fromkeys(("acknowledged", "refused", "repeated", "failures"), 0)
        self._pause_s = _FIRST_PAUSE_S

    # ---- the thread ----------------------------------------------------------------------------

    def _send_all(self) -> bool:
        naps = 0
        while not self._is_late():
            if self._under_way or self._take(self._put):
                naps = 0
                self._send()
            elif self._stops:
                break
            else:
                naps = self._rest(naps)
        if self._engine is not None:
            self._engine.close()
        return not self._under_way and not self._queue

    def _put(self, lines: list[bytes]) -> None:
        """Number lines, and have them under way."""
        first = self._number + 1
        self._number += len(lines)
        self._under_way = [
            Item(line[:-1], self._sender, number, "") for number, line in enumerate(lines, first)
        ]

    def _send(self) -> None:
        """Have the engine take what is under way; if it does not, wait a while."""
        items = self._under_way
        refused: Sequence[int] = ()
        try:
            with self._calling:
                if self._engine is None:
                    self._engine = self._open()
                self._counts["repeated"] += self._engine.append(items)
        except MessagesRefused as error:
            refused = list(error.refused)
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - no more files, threads or memory: it may pass
            told = (OSError,) if self._engine is None else self._engine.errors
            return self._hold(str(error) if isinstance(error, told) else repr(error))
        self._pause_s = _FIRST_PAUSE_S
        self._complaint = ""
        with self._settling:
            if self._under_way:  # nobody has given them up
                self._counts["acknowledged"] += len(items) - len(refused)
                self._counts["refused"] += len(refused)
                self._under_way = []
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

    # ---- the end -------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return bool(self._queue) or self._is_taking or bool(self._under_way)

    def _give_up(self) -> None:
        with self._settling:
            for _ in self._under_way:
                self._dropped.add()
            self._under_way = []
        super()._give_up()

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
            "reports": self._reports,
            **self._counts,
        }
