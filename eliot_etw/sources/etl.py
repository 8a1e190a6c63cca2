"""Messages read back from traces (`.etl`): our own, and the events of any other program."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final, final

from eliot_etw._written import place_of
from eliot_etw.etw import read_etl
from eliot_etw.etw._etl import EtlReader
from eliot_etw.etw._event_message import message_of
from eliot_etw.exceptions import InvalidEvent
from eliot_etw.sources._activities import ActivityTracker
from eliot_etw.sources._common_schema import VERSION_FIELD, Metrics, is_metrics, span_or_log
from eliot_etw.sources._lines import name_of
from eliot_etw.sources._spans import SpanMessages
from eliot_etw.sources.merged import merge_by_time
from eliot_etw.typing import MessageDict

_START: Final = 1


@final
class EtlSource:
    """The TraceLogging events of a trace as messages, in the order of their times.

    Events that `EtwDestination` and `EtlFileDestination` wrote are the messages that were logged.
    Any other event becomes a message too: its fields by name, its name as the type, and
    ``etw:provider``, ``etw:level``, ``etw:pid`` and ``etw:tid``. Where events have start and stop
    opcodes and activity ids, they are actions in a tree. What OpenTelemetry's exporters wrote, in
    whatever language, is spans as actions, log records as messages in them, and of metrics each
    data point as a message. What is no TraceLogging event is left out and counted; of a damaged
    trace all is given that can be read.

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
            (``lost_buffers``); messages without a usable place in a task (``misplaced``);
            activities whose end was not waited for (``unfinished``), because too many were open;
            and of OpenTelemetry spans that were there before (``repeated``), and traces that fell
            apart (``split``), being larger than memory.
        problems: What was damaged and where, as text; the first hundred. And what to install, if
            metrics could not be read for want of it.
    """

    def __init__(
        self, file: str | os.PathLike[str] | BinaryIO, *, name: str | None = None
    ) -> None:
        self._file = file
        self.name = name or name_of(file)
        self.skipped: Counter[str] = Counter()
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[MessageDict]:
        with SpanMessages(f"logs {_seed(read_etl(self._file))}") as spans:
            self.gather(spans)
            if not spans.count:
                yield from self.others()
                return
            yield from merge_by_time([spans, self.others()])
            self.skipped += spans.skipped

    def gather(self, spans: SpanMessages) -> None:
        """Put all spans and log records there, for who reads several sources of them.

        Raises:
            OSError: If the file cannot be read.
            InvalidTrace: If it is no trace.
        """
        reader = read_etl(self._file)
        if not reader.may_hold(VERSION_FIELD):
            return
        for event in reader:
            has_version = VERSION_FIELD in event.metadata
            if not has_version and event.opcode != _START:
                continue
            with suppress(InvalidEvent):  # who reads the other events will count it
                decoded = event.decode()
                found = span_or_log(event, decoded) if has_version else None
                if found is not None:
                    spans.add(found, len(event.metadata) + len(event.payload))
                    continue
                message = message_of(event, decoded)
                if message is not None and place_of(message):
                    spans.know(message)

    def others(self) -> Iterator[MessageDict]:
        """Give the messages of all else. Raises as `gather` does."""
        reader = read_etl(self._file)
        self.skipped, self.problems = reader.skipped, reader.problems
        more: Counter[str] = Counter(reader.header.lost)
        try:
            yield from self._of_events(reader, more)
        finally:
            self.skipped += more

    def _of_events(self, reader: EtlReader, more: Counter[str]) -> Iterator[MessageDict]:
        """Give the messages of all events but spans and log records; count what is left out."""
        tracker = ActivityTracker(_seed(reader))
        metrics = Metrics(reader.problems.append)
        try:
            for event, decoded in reader.decoded():
                message = message_of(event, decoded)
                if message is not None:
                    if place_of(message):
                        yield message
                    else:
                        more["misplaced"] += 1
                elif is_metrics(event, decoded):
                    for point in metrics.points(event, decoded):
                        yield tracker.beside(event, point.pop("metric", decoded.name), point)
                elif span_or_log(event, decoded) is None:
                    yield tracker.message(event, decoded)
        finally:
            more["unfinished"] = tracker.given_up


def _seed(reader: EtlReader) -> str:
    """Return what a trace is known by."""
    return f"{reader.header.start_ticks} {reader.header.logger_name}"
