"""Which level a message has, on the scale of the standard library's `logging`."""

from __future__ import annotations

from typing import Any, Final

from eliot_etw import _names as names
from eliot_etw.typing import MessageDict

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50

LOG_LEVEL: Final = "log_level"
NUMBERS: Final = {
    "critical": CRITICAL,
    "fatal": CRITICAL,
    "error": ERROR,
    "warning": WARNING,
    "warn": WARNING,
    "info": INFO,
    "debug": DEBUG,
    "verbose": DEBUG,
}
"""What levels are called, in lower case."""
_OF_FAILURES: Final = {
    names.TRACEBACK_TYPE: CRITICAL,
    names.DESTINATION_FAILURE: ERROR,
    names.SERIALIZATION_FAILURE: ERROR,
    names.DROPPED: ERROR,
}


def is_action(message: MessageDict) -> bool:
    """Say whether a message is the start or the end of an action."""
    return names.ACTION_TYPE in message


def type_of(message: MessageDict) -> Any:
    """Return the type of an action or message; whatever it is, None if there is none."""
    return message.get(names.ACTION_TYPE if is_action(message) else names.MESSAGE_TYPE)


def is_failure(message: MessageDict) -> bool:
    """Say whether a message tells that an action failed, or is a traceback."""
    if is_action(message):
        return _is(message.get(names.ACTION_STATUS), names.FAILED)
    return _is(message.get(names.MESSAGE_TYPE), names.TRACEBACK_TYPE)


def _is(value: object, text: str) -> bool:
    """Say whether a value is this text; not by a comparison of its own, which may raise."""
    return type(value) is str and value == text


def level_number(level: object) -> int | None:
    """Return the number for a level's name, or for a number itself; None for anything else.

    >>> level_number("WARNING"), level_number(35), level_number("loud"), level_number(True)
    (30, 35, None, None)
    """
    # Not isinstance(), which asks the value for its class: that may raise.
    if issubclass(type(level), str):
        return NUMBERS.get(str.lower(level))  # type: ignore[arg-type] # it is a text
    return level if type(level) is int else None


def level_of(message: MessageDict) -> int:
    """Return the level of a message.

    An action that failed is an error, a traceback is critical, reports of ours about what was lost
    are errors. Another message has the level that its field ``log_level`` says. The start and the
    successful end of an action are ``INFO`` whatever their fields say: the end does not know what
    the start said, and one without the other would be an action torn apart.
    """
    if is_action(message):
        return ERROR if _is(message.get(names.ACTION_STATUS), names.FAILED) else INFO
    kind = message.get(names.MESSAGE_TYPE)
    if issubclass(type(kind), str) and kind in _OF_FAILURES:
        return _OF_FAILURES[kind]
    number = level_number(message.get(LOG_LEVEL))
    return INFO if number is None else number
