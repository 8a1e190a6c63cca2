"""What is in a stream that anybody may add to: messages, and what is none."""

from __future__ import annotations

from eliot_etw._json import decode_line
from eliot_etw._written import place_of
from eliot_etw.typing import MessageDict


def message_of(line: bytes) -> MessageDict | None:
    """Read a line; None if it is no message with a place in a task."""
    try:
        message = decode_line(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and place_of(message) else None
