"""OpenTelemetry's log records as messages, in the tree where they were emitted."""

from __future__ import annotations

from time import time_ns
from typing import final

from eliot_etw import _names as names
from eliot_etw._action import Action, place_of_its_own
from eliot_etw._bridge import LOG_TYPE, was_message
from eliot_etw._context import current_action
from eliot_etw._counter import Counter
from eliot_etw._extract import beside
from eliot_etw._levels import LOG_LEVEL, level_number
from eliot_etw._require import require
from eliot_etw.otlp._attributes import level_of_severity, seconds
from eliot_etw.typing import MessageDict

require("opentelemetry.sdk", feature="EliotLogRecordProcessor", extra="otel")

from opentelemetry._logs import LogRecord
from opentelemetry.context import get_current
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord

from eliot_etw.opentelemetry._runtime_context import install
from eliot_etw.opentelemetry._spans import ContinuedAction, Remote, found_in
from eliot_etw.opentelemetry._values import (
    exception_of,
    is_suppressed,
    plain,
    plain_value,
)


@final
class EliotLogRecordProcessor(LogRecordProcessor):
    """Makes each log record a message, ``otel:log``, in the action where it was emitted.

    That is the action of the record's span or, if that is none of ours, the current one. Its
    attributes are the message's fields; ``message`` is its body, ``log_level`` its severity,
    ``logger`` the name of its scope.

    A record that a `LoggingDestination` made is ignored, for it is a message already; and what
    this processor makes, no `LoggingDestination` takes: there can be no loop between them. What is
    emitted while instrumentation is suppressed, as exporters do their work, is left out.

    Nothing is held back, so there is nothing to flush. It never raises into the program.
    """

    def __init__(self) -> None:
        """Make it, and have actions and spans follow each other from here on.

        Raises:
            RuntimeError: If this version of OpenTelemetry keeps its context elsewhere.
        """
        install()
        self._errors = Counter()
        self._ignored = Counter()
        self._suppressed = Counter()

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Log a record as a message. Never raises."""
        try:
            if was_message(log_record.log_record.attributes or {}):
                self._ignored.add()
            elif is_suppressed(get_current()) or is_suppressed(log_record.log_record.context):
                self._suppressed.add()
            else:
                _log(log_record)
        except Exception:  # noqa: BLE001 - a record may be anything
            self._errors.add()

    def shutdown(self) -> None:
        """Do nothing: there is nothing to close."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: nothing is held back."""
        return True

    def stats(self) -> dict[str, int]:
        """Count what was not as usual.

        Returns:
            ``errors``: records that could not be logged; ``ignored``: records that were messages
            already; ``suppressed``: records of what exporters do.
        """
        return {
            "errors": self._errors.value,
            "ignored": self._ignored.value,
            "suppressed": self._suppressed.value,
        }


def _log(log_record: ReadWriteLogRecord) -> None:
    """Log a record as a message."""
    record = log_record.log_record
    attributes = plain(record.attributes or {})
    scope = log_record.instrumentation_scope
    ours = {
        names.MESSAGE_TYPE: LOG_TYPE,
        **_level(record),
        **({"logger": scope.name} if scope and scope.name else {}),
        **({names.OTEL_EVENT_NAME: record.event_name} if record.event_name else {}),
        "message": plain_value(record.body),
        **exception_of(attributes),
    }
    fields = beside(attributes, ours)
    time_s = seconds(record.timestamp or record.observed_timestamp or time_ns())
    found = found_in(record.context)
    if isinstance(found, Remote):
        action: Action = ContinuedAction(found)
        action.log_fields(fields, timestamp=time_s)
        action.finish()
    else:
        action = found or current_action() or place_of_its_own(None)
        action.log_fields(fields, timestamp=time_s)


def _level(record: LogRecord) -> MessageDict:
    """Return the fields that say how important a record is."""
    text, number = record.severity_text, record.severity_number
    if text and level_number(text) is not None:
        return {LOG_LEVEL: text}
    level = None if number is None else level_of_severity(number.value)
    if number is None or level is None:
        return {names.OTEL_SEVERITY: text} if text else {}
    return {LOG_LEVEL: level, names.OTEL_SEVERITY: text or number.name}
