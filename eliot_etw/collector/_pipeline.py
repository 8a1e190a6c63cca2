"""The way of messages through the collector: checked, routed, given to each sink's lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from time import time
from typing import Final, final

from eliot_etw import log_message
from eliot_etw._names import TIMESTAMP
from eliot_etw.collector._batch import NO_HEAD, Batch
from eliot_etw.collector._lane import Done, Lane
from eliot_etw.collector._routes import Routes
from eliot_etw.destinations.rotating_file import RotatingFileDestination

# How much is kept of what no sink can take.
_DEAD_LETTER_BYTES: Final = 64 << 20
_DEAD_LETTER_FILES: Final = 16
_NO_OBJECT: Final = "not a JSON object in UTF-8"


@final
class DeadLetters:
    """The file of messages that a sink will never store, each as a field of a line of JSON.

    Args:
        path: The file. It is put aside when it is large, and the oldest are removed.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = RotatingFileDestination(
            path, max_bytes=_DEAD_LETTER_BYTES, keep=_DEAD_LETTER_FILES
        )
        self._lock = Lock()
        self.count = 0

    def put_aside(self, sink: str, refused: Sequence[tuple[bytes, str]]) -> None:
        """Keep lines.

        Args:
            sink: Who will not store them; empty if nobody can.
            refused: The lines, each with why.

        Raises:
            OSError: If the disk is full or broken.
        """
        with self._lock:
            for line, why in refused:
                text = line.decode("utf-8", "backslashreplace")
                self._file({TIMESTAMP: time(), "sink": sink, "reason": why, "line": text})
                self.count += 1
        log_message(
            "collector:dead_letters",
            log_level="error",
            sink=sink,
            count=len(refused),
            reason=refused[0][1],
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@final
class _Waiting:
    """Waits until so many sinks have a batch, then says so."""

    def __init__(self, count: int, done: Done) -> None:
        self._left = count
        self._done = done
        self._lock = Lock()

    def one_more(self) -> None:
        """Count one sink more."""
        with self._lock:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._done()


def _nobody_waits() -> None:
    """Do nothing: for sinks that are not required."""


@final
class Pipeline:
    """Takes batches from inputs, and gives each sink what is for it.

    Args:
        dead_letters: Where lines go that are no messages.

    Attributes:
        counts: What happened, by name.
    """

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters
        self._lock = Lock()
        self._lanes: Mapping[str, Lane] = {}
        self._routes: Routes | None = None
        self.counts = dict.fromkeys(
            ("taken", "taken_bytes", "unsound", "unsound_lost", "without_route", "held_back"), 0
        )

    def open(self, lanes: Mapping[str, Lane], routes: Routes) -> None:
        """From now on give messages to these."""
        with self._lock:
            self._lanes, self._routes = lanes, routes

    def close(self) -> None:
        """Take nothing more, until it is opened again."""
        with self._lock:
            self._routes = None

    def take(self, batch: Batch, done: Callable[[], object]) -> bool:
        """Take a batch: see `eliot_etw.collector.inputs.Deliver`."""
        # Read here, where no other input has to wait for it.
        bad = {index for index, head in enumerate(batch.heads) if head is NO_HEAD}
        bad |= _not_utf8(batch)
        sound = batch.only([index not in bad for index in range(len(batch))]) if bad else batch
        with self._lock:
            if self._routes is None or not self._give(self._routes, sound, done):
                return False
            if bad:
                self._put_aside(batch, sorted(bad))
            return True

    def _put_aside(self, batch: Batch, bad: Sequence[int]) -> None:
        """Keep what is no message, if the disk takes it."""
        self.counts["unsound"] += len(bad)
        try:
            self._dead_letters.put_aside("", [(batch.lines[index], _NO_OBJECT) for index in bad])
        except OSError:
            self.counts["unsound_lost"] += len(bad)

    def _give(self, routes: Routes, batch: Batch, done: Callable[[], object]) -> bool:
        """Give a sound batch to the lanes that it is for."""
        parts, left_out = routes.split(batch) if len(batch) else ({}, 0)
        chosen: list[tuple[Lane, Batch]] = [
            (self._lanes[name], part) for name, part in parts.items()
        ]
        required = [lane for lane, part in chosen if lane.options.required]
        # Asked first, so that no sink has what another one is too full for.
        if not all(lane.has_room(part) for lane, part in chosen if lane.options.required):
            self.counts["held_back"] += len(batch)
            return False
        waiting = _Waiting(len(required), done)
        # Who may refuse it comes first: only a disk can be full and not say so before.
        for lane, part in sorted(chosen, key=_is_sure):
            one = waiting.one_more if lane.options.required else _nobody_waits
            if not lane.offer(part, one):
                self.counts["held_back"] += len(batch)
                return False
        self.counts["taken"] += len(batch)
        self.counts["taken_bytes"] += batch.size
        self.counts["without_route"] += left_out
        if not required:
            done()
        return True


def _is_sure(chosen: tuple[Lane, Batch]) -> tuple[bool, bool]:
    """Say whether a lane takes a batch whatever happens, and whether it needs no disk for it."""
    lane, part = chosen
    is_required = lane.options.required
    return not is_required, is_required and lane.fits_memory(part)


def _not_utf8(batch: Batch) -> set[int]:
    """Find the lines that are no UTF-8: what reads them as JSON may not look at each text."""
    if b"".join(batch.lines).isascii():
        return set()
    return {index for index, line in enumerate(batch.lines) if not _is_utf8(line)}


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
