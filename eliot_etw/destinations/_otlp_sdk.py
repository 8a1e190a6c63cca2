"""Spans and log records as OpenTelemetry's SDK has them, in its batches, and counted."""

from __future__ import annotations

import os
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from queue import SimpleQueue
from threading import Event as Signal
from threading import Thread
from time import monotonic, sleep
from typing import Any, Final, TypeAlias, final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from eliot_etw.otlp._model import ERROR, Log, Span
from eliot_etw.otlp._spans_of import IS_REMOTE, messages_in

Exporter: TypeAlias = Any
"""A `SpanExporter` or a `LogRecordExporter`."""

# How many spans or log records wait for the receiver, if the environment says nothing else.
_MAX_WAITING: Final = 2048
# How long a span waits for room among them, once until there is room again.
_ROOM_TIMEOUT_S: Final = 1.0
_LOOK_S: Final = 0.001
# How many of them are sent at once where the SDK cannot do it, which does it so, too.
_BATCH: Final = 512
# Looked up, for to ask an enum for a number costs ten times as much. Their kinds begin at 0.
_KINDS: Final = {kind.value + 1: kind for kind in SpanKind}
_STATUSES: Final = {status.value: status for status in StatusCode}
_SEVERITIES: Final = {severity.value: severity for severity in SeverityNumber}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SUCCESS: Final = "SUCCESS"


# ---- our values as the SDK's -------------------------------------------------------------------


@final
class SentSpan(ReadableSpan):
    """A span, and how many messages it was made of."""

    messages = 1


@final
class Converter:
    """Makes the SDK's spans and log records of ours.

    Args:
        attributes: Of the program that makes them; the environment adds more.
    """

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._resource = Resource.create(attributes)
        self._scopes: dict[str, InstrumentationScope] = {}

    def span(self, span: Span) -> SentSpan:
        """Make a span of the SDK's of one of ours."""
        trace_id = int(span.trace_id, 16)
        state = TraceState.from_header([span.trace_state]) if span.trace_state else None
        parent = None
        if span.parent_span_id:
            is_remote = bool(span.flags & IS_REMOTE)
            parent = SpanContext(trace_id, int(span.parent_span_id, 16), is_remote, _SAMPLED)
        sent = SentSpan(
            name=span.name,
            context=SpanContext(
                trace_id,
                int(span.span_id, 16),
                is_remote=False,
                trace_flags=_SAMPLED,
                trace_state=state,
            ),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            events=[Event(event.name, event.attributes, event.time_ns) for event in span.events],
            links=[
                Link(
                    SpanContext(int(link.trace_id, 16), int(link.span_id, 16), is_remote=True),
                    link.attributes,
                )
                for link in span.links
            ],
            kind=_KINDS[span.kind],
            status=Status(
                _STATUSES[span.status_code],
                span.status_message if span.status_code == ERROR else None,
            ),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope(span.scope),
        )
        sent.messages = messages_in(span)
        return sent

    def log(self, log: Log) -> ReadableLogRecord:
        """Make a log record of the SDK's of one of ours."""
        record = LogRecord(
            timestamp=log.time_ns,
            severity_text=log.severity_text,
            severity_number=_SEVERITIES[log.severity_number],
            body=log.body,
            attributes=log.attributes,
            event_name=log.event_name,
        )
        # Not by its context, of which making one costs more than all the rest.
        record.trace_id = int(log.trace_id or "0", 16)
        record.span_id = int(log.span_id or "0", 16)
        record.trace_flags = _SAMPLED
        return ReadableLogRecord(record, self._resource, self._scope(log.scope))

    def _scope(self, name: str) -> InstrumentationScope:
        """Return a scope; the SDK groups by them."""
        scope = self._scopes.get(name)
        if scope is None:
            if len(self._scopes) >= _MOST_SCOPES:
                self._scopes.clear()
            scope = self._scopes[name] = InstrumentationScope(name)
        return scope


_MOST_SCOPES: Final = 1000


# ---- on the way to the receiver ----------------------------------------------------------------


@final
class Batches:
    """One of the SDK's batch processors with its exporter, and how many messages are where.

    The SDK drops what is oldest when its queue is full, and says so to nobody. So nothing is
    handed over that there is no room for.
    """

    def __init__(
        self,
        signal: str,
        make_exporter: Callable[[], Exporter],
        exporting: set[int],
    ) -> None:
        """Make the processor, which starts its thread.

        Args:
            signal: What it is for, ``"traces"`` or ``"logs"``.
            make_exporter: Makes an exporter: at once, and in each forked child that needs one.
            exporting: Where the threads are noted that are in the exporter.

        Raises:
            ValueError: If the environment says something that the SDK does not take.
        """
        self.exporter = CountedExporter(make_exporter, exporting)
        exporter: Any = self.exporter  # it has what the SDK calls
        variable = "OTEL_BSP" if signal == "traces" else "OTEL_BLRP"
        self._max_waiting = _whole_number(f"{variable}_MAX_QUEUE_SIZE", _MAX_WAITING)
        self._processor: Any
        self._hand_over: Callable[[Any], object]
        if signal == "traces":
            self._processor = BatchSpanProcessor(exporter, self._max_waiting)
            self._hand_over = self._processor.on_end
        else:
            self._processor = BatchLogRecordProcessor(exporter, max_queue_size=self._max_waiting)
            self._hand_over = self._processor.on_emit
        self._begin()

    def _begin(self) -> None:
        self._handed = self._handed_messages = 0
        self._dropped = 0
        self._has_given_up = False
        # What the SDK does without a bound, a thread of ours does for us. It is there before it is
        # needed, for at the end of a program none can be started.
        self._jobs: SimpleQueue[tuple[Callable[[], object], Signal] | None] = SimpleQueue()
        self._worker: Thread | None = None

    def forget(self) -> None:
        """Begin with nothing, in a forked child, as the SDK does."""
        self._begin()
        self.exporter.forget()

    def hand_over(self, item: Any, messages: int) -> None:
        """Hand a span or log record over to the SDK, or drop it if there is no room.

        Args:
            item: It.
            messages: How many messages it was made of.
        """
        if self._handed - self.exporter.taken >= self._max_waiting and not self._wait_for_room():
            self._dropped += messages
            return
        self._has_given_up = False
        self._handed += 1
        self._handed_messages += messages
        if self._worker is None:
            self._start()
        try:
            self._hand_over(item)
        except RuntimeError:
            # In a process that was forked without Python's knowing, the SDK begins its thread only
            # now, and none can be started: from Python 3.12 on, that is so at the end.
            self._processor = _Threadless(self.exporter)
            self._hand_over = self._processor.add
            self._hand_over(item)

    def _wait_for_room(self) -> bool:
        """Wait until there is room, but once only until there is; say whether there is."""
        # At the end, for as long as there is time.
        deadline = min(self.exporter.ends_at, monotonic() + _ROOM_TIMEOUT_S)
        while self._handed - self.exporter.taken >= self._max_waiting:
            if self._has_given_up or monotonic() >= deadline:
                self._has_given_up = True
                return False
            sleep(_LOOK_S)
        return True

    def counts(self) -> tuple[int, int, int, int]:
        """Count messages: those that wait or are under way, delivered, failed, and dropped."""
        exporter = self.exporter
        done = exporter.delivered + exporter.failed + exporter.dropped
        waiting = self._handed_messages - done
        return waiting, exporter.delivered, exporter.failed, self._dropped + exporter.dropped

    def flush(self) -> Signal:
        """Have the SDK export what it has; return what will tell that it did."""
        return self._do(self._processor.force_flush)

    def shut_down(self) -> Signal:
        """Have the SDK export what it has, and end; return what will tell that it did."""
        # Where nothing was handed over, there is nothing to wait for. If the process was forked
        # without Python's knowing, the SDK would wait for a thread that is not there.
        is_idle = not self._handed
        if is_idle and self._worker is None and not self._start():
            done = Signal()
            self.exporter.shutdown()
        else:
            done = self._do(self._processor.shutdown)
            self._jobs.put(None)
        if is_idle:
            done.set()
        return done

    def _do(self, job: Callable[[], object]) -> Signal:
        done = Signal()
        if self._worker is None and not self._start():
            job()
            done.set()
        else:
            self._jobs.put((job, done))
        return done

    def _start(self) -> bool:
        """Start the thread; say whether that could be."""
        worker = Thread(target=_work, args=(self._jobs,), name="eliot_etw OTLP", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # at the end, in a subinterpreter, or there are too many
            return False
        self._worker = worker
        return True


def _work(jobs: SimpleQueue[tuple[Callable[[], object], Signal] | None]) -> None:
    """Do one job after the other."""
    while (found := jobs.get()) is not None:
        job, done = found
        try:
            job()
        finally:
            done.set()


@final
class _Threadless:
    """Does what the SDK's batch processors do, in the thread that calls it."""

    def __init__(self, exporter: CountedExporter) -> None:
        self._exporter = exporter
        self._items: list[Any] = []

    def add(self, item: Any) -> None:
        """Take a span or log record."""
        self._items.append(item)
        if len(self._items) >= _BATCH:
            self.force_flush()

    def force_flush(self) -> None:
        """Export what there is."""
        items, self._items = self._items, []
        if items:
            token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
            with suppress(Exception):  # the exporter has counted it
                self._exporter.export(items)
            detach(token)

    def shutdown(self) -> None:
        """Export what there is, and end."""
        self.force_flush()
        self._exporter.shutdown()


@final
class CountedExporter:
    """An exporter, and what became of the messages that it was given.

    It is called by one thread at a time, which the SDK sees to.
    """

    def __init__(self, make: Callable[[], Exporter], exporting: set[int]) -> None:
        self._make = make
        self._exporting = exporting
        # Until when it may send.
        self.ends_at = inf
        self._is_over = False
        self.forget()
        self._exporter: Exporter = make()

    def forget(self) -> None:
        """Begin with nothing, and soon another exporter, in a forked child.

        The parent's has connections that the child must not write to.
        """
        self._exporter = None
        # The threads in it are not in the child, where others may get their numbers.
        self._exporting.clear()
        # How many spans or log records were taken out of the SDK's queue, and of messages, what
        # became of them.
        self.taken = 0
        self.delivered = self.failed = self.dropped = 0

    def export(self, batch: Sequence[Any]) -> None:
        """Export a batch. The SDK asks for no result."""
        self.taken += len(batch)
        messages = sum(getattr(item, "messages", 1) for item in batch)
        if monotonic() >= self.ends_at:
            self.dropped += messages
            return
        thread = get_ident()
        is_delivered = False
        self._exporting.add(thread)
        try:
            if self._exporter is None:
                self._exporter = self._make()
            is_delivered = self._exporter.export(batch).name == _SUCCESS
        finally:
            self._exporting.discard(thread)
            if is_delivered:
                self.delivered += messages
            else:
                self.failed += messages

    def shutdown(self) -> None:
        """Shut the exporter down; may come twice, and while it exports, which then ends soon."""
        if not self._is_over:
            self._is_over = True
            if self._exporter is not None:
                self._exporter.shutdown()


def _whole_number(variable: str, otherwise: int) -> int:
    """Read a number from the environment.

    Raises:
        ValueError: If it is none.
    """
    text = os.environ.get(variable, "")
    try:
        return int(text) if text else otherwise
    except ValueError:
        msg = f"{variable} must be a whole number, got {text!r}. Change it, or leave it out."
        raise ValueError(msg) from None
