"""What inputs share that pull messages from an engine's stream: all but the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from eliot_etw import log_message, write_traceback
from eliot_etw._safe import safe_str
from eliot_etw.collector.inputs import Batch, Deliver

# So many bytes may be delivered and not settled.
_WINDOW_BYTES: Final = 8 << 20
_POLL_S: Final = 0.1
# How long after a failure it is tried again: the first time, and at most.
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0


class PulledInput(ABC):
    """Reads a stream on and on, and acknowledges there what every required sink has.

    After a failure it begins again: the engine gives what was not acknowledged once more, under
    the same numbers.

    Attributes:
        problem: What is wrong with the engine; empty, while all is well.
    """

    # What the engine raises if it cannot be reached.
    _errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self) -> None:
        """Prepare; `start` begins."""
        self._stopping = Event()
        # What was delivered, oldest first: its size, what is acknowledged by it, if it is settled.
        self._under_way: deque[tuple[int, Any, Event]] = deque()
        self._counts = dict.fromkeys(("messages", "held_back", "failures"), 0)
        self._thread: Thread | None = None
        self.problem = ""

    @abstractmethod
    def _begin(self) -> None:
        """Connect, and begin to read, after what was delivered and is under way."""

    @abstractmethod
    def _read(self, wait_s: float) -> Sequence[tuple[Batch, Any]]:
        """Read on, or wait for so long; return batches, and what is acknowledged by each."""

    @abstractmethod
    def _acknowledge(self, settled: Sequence[Any]) -> None:
        """Say that these are settled; nobody will hear of them again."""

    @abstractmethod
    def _end(self) -> None:
        """Close the connection."""

    def start(self, deliver: Deliver, folder: Path) -> None:
        """Begin to read."""
        self._deliver = deliver
        name = f"eliot_etw {type(self).__name__}"
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Read no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Acknowledge what is settled by now, and close the connection."""
        self.stop(timeout_s)
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            try:
                self._acknowledge_settled()
            except self._errors:  # then it comes again, and is known
                self._counts["failures"] += 1
            self._end()

    def stats(self) -> dict[str, int]:
        """Count what happened."""
        return self._counts.copy()

    def _run(self) -> None:
        """Read, until told to stop; begin again after each failure."""
        pause_s = _FIRST_PAUSE_S
        has_begun = False
        while not self._stopping.is_set():
            try:
                if not has_begun:
                    self._begin()
                    has_begun = True
                self._step()
                pause_s = _FIRST_PAUSE_S
                self._tell("")
                continue
            except self._errors as error:
                self._tell(safe_str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other inputs are not to suffer
                write_traceback()
                self._tell(safe_str(error))
            self._counts["failures"] += 1
            has_begun = False
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _tell(self, problem: str) -> None:
        """Say when it begins to fail, and when that is over."""
        if problem and not self.problem:
            name = type(self).__name__
            log_message("collector:input_is_down", log_level="error", name=name, reason=problem)
        elif self.problem and not problem:
            log_message("collector:input_is_back", name=type(self).__name__)
        self.problem = problem

    def _step(self) -> None:
        """Read some more, and deliver it."""
        self._acknowledge_settled()
        if sum(size for size, _, _ in self._under_way) > _WINDOW_BYTES:
            self._stopping.wait(_POLL_S)
            return
        for batch, done in self._read(_POLL_S):
            self._deliver_all(batch, done)

    def _deliver_all(self, batch: Batch, done: Any) -> None:
        """Deliver a batch as soon as it is taken."""
        settled = Event()
        if len(batch):
            while not self._deliver(batch, settled.set):
                self._counts["held_back"] += 1
                if self._stopping.wait(_POLL_S):
                    return
                # If that fails, so does what is done next, which then begins again.
                with suppress(*self._errors):
                    self._acknowledge_settled()
            self._counts["messages"] += len(batch)
        else:
            settled.set()
        self._under_way.append((batch.size, done, settled))

    def _acknowledge_settled(self) -> None:
        """Acknowledge what is settled, in the order in which it came."""
        settled = []
        for _, done, is_settled in self._under_way:
            if not is_settled.is_set():
                break
            settled.append(done)
        if settled:
            self._acknowledge(settled)
            for _ in settled:
                self._under_way.popleft()
