"""Messages as records of the standard library's `logging`."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TypeAlias, final

from eliot_etw import _names as names
from eliot_etw._bridge import MESSAGE_ATTRIBUTE, OWN_ATTRIBUTES, was_record
from eliot_etw._counter import Counter
from eliot_etw._levels import is_failure, level_of
from eliot_etw._safe import make_room, safe_str, type_name
from eliot_etw.destinations._sentence import sentence_of, title_of
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

# As `logging` calls what it does not know.
_FILE: Final = "(unknown file)"
_FUNCTION: Final = "(unknown function)"
# Below that are no levels: 0 is how `logging` says that none was chosen.
_LEAST_LEVEL: Final = 1
_END_OF_TIME: Final = 253_402_300_800  # the year 10,000
_RESERVED: Final = OWN_ATTRIBUTES | {MESSAGE_ATTRIBUTE}

_ExcInfo: TypeAlias = Any  # what `sys.exc_info` returns, or None


@final
class LoggingDestination:
    """Makes each message a record of a logger, for the handlers that a program has already.

    The record's message is a line for people, its level that of the message, its time that of the
    message. Fields are attributes, as those of `extra` are; one that has the name of an attribute
    of every record gets an underscore. ``task_level`` is text, such as ``/2/1``. The attribute
    ``eliot_message`` is the whole message. A traceback, and the failure of an action, has the
    exception, if it is the one being handled, or else the text of the traceback.

    A message that `eliot_etw.stdlib.EliotHandler` made is ignored, for it is a record already; and
    what this destination makes, no `EliotHandler` takes. So there can be no loop between the two.

    It is as fast as the logger's handlers. What they raise is reported as a destination's failure.
    """

    def __init__(
        self,
        logger: logging.Logger | str = "eliot",
        *,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Choose the logger.

        Args:
            logger: The logger, or its name. Its level and its filters decide what it takes.
            json_default: Converts values that JSON does not know, for the line.
        """
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._default = json_default
        self._below_level = Counter()
        self._ignored = Counter()

    def __call__(self, message: MessageDict) -> None:
        """Log a message. Raises what the handlers do."""
        if was_record(message):
            self._ignored.add()
            return
        level = max(_LEAST_LEVEL, level_of(message))
        if not self._logger.isEnabledFor(level):
            self._below_level.add()
            return
        self._logger.handle(self._record(message, level))

    def _record(self, message: MessageDict, level: int) -> logging.LogRecord:
        """Make the record of a message."""
        logger = self._logger
        text, args = _template_of(message, self._default)
        exc_info = _exception_of(message)
        # By the logger: a program may have loggers and records of its own.
        record = logger.makeRecord(logger.name, level, _FILE, 0, text, args, exc_info, _FUNCTION)
        traceback = message.get(names.TRACEBACK)
        if exc_info is None and type(traceback) is str and is_failure(message):
            record.exc_text = traceback.rstrip("\n")
        _set_time(record, message.get(names.TIMESTAMP))
        attributes = {name: value for name, value in message.items() if isinstance(name, str)}
        make_room(attributes, _RESERVED)
        levels = attributes.get(names.TASK_LEVEL)
        if type(levels) is list:
            attributes[names.TASK_LEVEL] = "/" + "/".join(map(safe_str, levels))
        vars(record).update(attributes)
        setattr(record, MESSAGE_ATTRIBUTE, dict(message))
        return record

    def stats(self) -> dict[str, int]:
        """Count what no record was made of.

        Returns:
            ``below_level``: messages that the logger's level keeps out; ``ignored``: messages that
            were records already.
        """
        return {"below_level": self._below_level.value, "ignored": self._ignored.value}


def _template_of(message: MessageDict, default: JsonDefault) -> tuple[str, tuple[str, ...]]:
    """Return the line for people in two parts: what the kind of message says, and all else.

    Services for errors, such as Sentry, take those for one that differ in the second alone.
    """
    text, title = sentence_of(message, default), title_of(message)
    rest = text.removeprefix(title)
    return (title.replace("%", "%%") + "%s", (rest,)) if 0 < len(rest) < len(text) else (text, ())


def _exception_of(message: MessageDict) -> _ExcInfo:
    """Return the exception that a message tells of, if it is the one being handled."""
    exc_info = sys.exc_info()
    if exc_info[0] is None or not is_failure(message):
        return None
    told = message.get(names.EXCEPTION), message.get(names.REASON)
    return exc_info if told == (type_name(exc_info[0]), safe_str(exc_info[1])) else None


def _set_time(record: logging.LogRecord, timestamp: Any) -> None:
    """Let a record have been made when its message was, if calendars know that time."""
    if type(timestamp) in (int, float) and 0 <= timestamp < _END_OF_TIME:
        record.relativeCreated += (timestamp - record.created) * 1000
        record.created = timestamp
        record.msecs = timestamp % 1 * 1000
