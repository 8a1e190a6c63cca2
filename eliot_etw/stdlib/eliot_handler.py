"""Records of the standard library's `logging` as messages."""

from __future__ import annotations

import logging
from typing import Any, Final

from eliot_etw._action import place_of_its_own
from eliot_etw._bridge import RECORD_TYPE, SOURCE, was_message
from eliot_etw._context import current_action
from eliot_etw._counter import Counter
from eliot_etw._levels import LOG_LEVEL, level_number
from eliot_etw._safe import make_room
from eliot_etw._traceback import write_exception
from eliot_etw.stdlib._attributes import extra_of, is_without_extra
from eliot_etw.stdlib._handler import SharedHandler
from eliot_etw.typing import MessageDict, Writer

_FAR: Final = 1e12  # seconds
# What a record may have, by the names of its attributes and of the fields.
_IF_THERE: Final = (
    ("thread", "thread"),
    ("threadName", "thread_name"),
    ("process", "process"),
    ("processName", "process_name"),
    ("taskName", "task_name"),
    ("stack_info", "stack"),
)


class EliotHandler(SharedHandler):
    """Makes each record a message, ``eliot:stdlib``, in the tree where it was logged.

    An exception becomes a message of its own after that, ``eliot:traceback``.

    A record that a `LoggingDestination` made is ignored, for it is a message already; and what
    this handler makes, no `LoggingDestination` takes. So there can be no loop between the two.

    Threads do not wait for one another. What destinations raise is reported as for any message.
    """

    # What messages are written to; None for the default.
    _logger: Writer | None = None

    def __init__(self, level: int | str = logging.NOTSET) -> None:
        """Make the handler.

        Args:
            level: Records below this level are ignored.
        """
        self._ignored = Counter()
        super().__init__(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record as a message. Never raises."""
        try:
            attributes = vars(record)
            if was_message(attributes):
                self._ignored.add()
                return
            created = record.created
            is_time = type(created) in (float, int) and -_FAR < created < _FAR  # also not NaN
            action = current_action() or place_of_its_own(self._logger)
            action.log_fields(
                self._fields(record, attributes, action.task_uuid),
                logger=self._logger,
                timestamp=created if is_time else None,
            )
            if record.exc_info:
                exception = _exception_in(record.exc_info)
                write_exception(exception, self._logger, **{SOURCE: RECORD_TYPE})
        except Exception:  # noqa: BLE001 - a record may be anything
            self._failed(record)

    def _fields(
        self, record: logging.LogRecord, attributes: dict[str, Any], task_uuid: str
    ) -> MessageDict:
        """Make the fields of a record's message."""
        fields: MessageDict = {
            "message_type": RECORD_TYPE,
            LOG_LEVEL: record.levelname,
            "logger": record.name,
            "message": self._message(record),
            "module": record.module,
            "function": record.funcName,
            "path": record.pathname,
            "line": record.lineno,
        }
        if level_number(record.levelname) != record.levelno:
            # Others would not know how important it is.
            fields["level_name"] = record.levelname
            fields[LOG_LEVEL] = record.levelno
        for name, field in _IF_THERE:
            value = attributes.get(name)
            if value is not None:
                fields[field] = value
        if record.exc_text and not record.exc_info:
            fields["traceback"] = record.exc_text
        if not is_without_extra(attributes):
            extra = extra_of(attributes, task_uuid)
            make_room(extra, frozenset(fields))
            fields |= extra
        return fields

    def stats(self) -> dict[str, int]:
        """Count what was not as usual.

        Returns:
            ``errors``: records that could not be logged, or whose arguments did not fit their
            message; ``ignored``: records that were messages already.
        """
        return {"errors": self._errors.value, "ignored": self._ignored.value}


def _exception_in(exc_info: object) -> BaseException | None:
    """Find the exception in what a record has; there is none if there was none to log."""
    parts = exc_info if isinstance(exc_info, tuple) else (exc_info,)
    return next((part for part in parts if isinstance(part, BaseException)), None)
