"""Messages read back from traces (`.etl`): our own, and the events of any other program."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, final

from eliot_etw._written import place_of
from eliot_etw.etw import read_etl
from eliot_etw.etw._event_message import message_of
from eliot_etw.sources._activities import ActivityTracker
from eliot_etw.sources._lines import name_of
from eliot_etw.typing import MessageDict


@final
class EtlSource:
    """The TraceLogging events of a trace as messages, in the order of their times.

    Events that `EtwDestination` and `EtlFileDestination` wrote are the messages that were logged.
    Any other event becomes a message too: its fields by name, its name as the type, and
    ``etw:provider``, ``etw:level``, ``etw:pid`` and ``etw:tid``. Where events have start and stop
    opcodes and activity ids, they are actions in a tree. What is no TraceLogging event is left
    out and counted; of a damaged trace all is given that can be read.

    Args:
        file: A path, or a file opened for bytes that can seek. A path is opened anew by each
            iteration, which raises `OSError` if it cannot be read, and `InvalidTrace` if it is
            no trace.
        name: What to call the file in reports, if not by its path.

    Attributes:
        name: What the file is called.
        skipped: How much the last iteration left out so far, by kind: ``system``, ``classic``,
            ``manifest``, ``WPP``, ``error`` and ``unknown`` records; what is ``damaged``; events
            that Windows lost before they were written (``lost``), and whole buffers of them
            (``lost_buffers``); messages without a usable place in a task (``misplaced``); and
            activities whose end was not waited for (``unfinished``), because too many were open.
        problems: What was damaged and where, as text; the first hundred.
    """

    def __init__(
        self, file: str | os.PathLike[str] | BinaryIO, *, name: str | None = None
    ) -> None:
        self._file = file
        self.name = name or name_of(file)
        self.skipped: Counter[str] = Counter()
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[MessageDict]:
        reader = read_etl(self._file)
        header = reader.header
        self.skipped, self.problems = reader.skipped, reader.problems
        tracker = ActivityTracker(f"{header.start_ticks} {header.logger_name}")
        misplaced = 0
        try:
            for event, decoded in reader.decoded():
                message = message_of(event, decoded)
                if message is None:
                    yield tracker.message(event, decoded)
                elif place_of(message):
                    yield message
                else:
                    misplaced += 1
        finally:
            self.skipped += header.lost
            self.skipped += Counter(misplaced=misplaced, unfinished=tracker.given_up)
