"""What came from the standard library's `logging`, and what went there: neither goes back.

A record that became a message never becomes a record again, and a message that became a record
never a message. A loop between the two needs both, so there is none, whatever handlers,
destinations, queues and threads lie in between.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from eliot_etw import _names as names
from eliot_etw._safe import safe_str
from eliot_etw.typing import MessageDict

RECORD_TYPE: Final = "eliot:stdlib"
"""The type of messages that were records, as in Eliot."""
LOG_TYPE: Final = "otel:log"
"""The type of messages that were log records of OpenTelemetry, which mostly were records first."""
SOURCE: Final = "source"
"""The field by which the traceback of a record says that it is one: it has that type's name."""
MESSAGE_ATTRIBUTE: Final = "eliot_message"
"""The attribute of records that were messages: the message."""

# Not by a factory that the program may have put in the place of this class: what its records have
# besides is the program's.
OWN_ATTRIBUTES: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "taskName",  # since Python 3.12
    "message",
    "asctime",
}
"""What each record has by itself, and what formatters add to it."""

_REPORTS: Final = (names.DESTINATION_FAILURE, names.SERIALIZATION_FAILURE)


def was_record(message: MessageDict) -> bool:
    """Say whether a message was a record, or tells of one that went wrong.

    >>> was_record({"message_type": "eliot:stdlib"}), was_record({"message_type": "app:hello"})
    (True, False)
    """
    kind = message.get(names.MESSAGE_TYPE)
    if not issubclass(type(kind), str):  # not isinstance(): that asks the value, which may raise
        return False
    if kind == names.TRACEBACK_TYPE:
        return bool(message.get(SOURCE) == RECORD_TYPE)
    if kind in _REPORTS:  # they hold the message as text
        text = safe_str(message.get("message"))
        return RECORD_TYPE in text or LOG_TYPE in text
    return kind in (RECORD_TYPE, LOG_TYPE)


def was_message(attributes: Mapping[str, Any]) -> bool:
    """Say whether a record, of which these are the attributes, was a message.

    Another value than a message under that name is the program's own, as any in `extra`.
    """
    return isinstance(attributes.get(MESSAGE_ATTRIBUTE), dict)
