"""Messages for people to read: one message at a time, and the command ``eliot-prettyprint``."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from functools import partial
from json import dumps
from pprint import pformat
from typing import Any, BinaryIO, TextIO, TypeAlias

from eliot_etw._json import decode_line, encode_carefully
from eliot_etw._names import (
    ACTION_STATUS,
    ACTION_TYPE,
    MESSAGE_TYPE,
    PLACE_FIELDS,
    TASK_LEVEL,
    TASK_UUID,
    TIMESTAMP,
)
from eliot_etw._program import printable, run_program
from eliot_etw._safe import safe_str
from eliot_etw.typing import MessageDict

__all__ = ["REQUIRED_FIELDS", "compact_format", "main", "pretty_format"]

REQUIRED_FIELDS = PLACE_FIELDS
"""The fields that make a message of what else would be any JSON."""

_FIRST_FIELDS = (ACTION_TYPE, MESSAGE_TYPE, ACTION_STATUS)
# A newline or a tab as repr() writes it; an even number of backslashes before it is text.
_ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)\\([nt])")
_UNESCAPED = {"n": "\n ", "t": "\t"}
_VALUE_WIDTH = 40

Formatter: TypeAlias = Callable[[MessageDict, bool], str]


def pretty_format(message: MessageDict, local_timezone: bool = False) -> str:
    r"""Write a message on several lines: its place, its time, then each field.

    >>> print(pretty_format({"task_uuid": "8c66", "task_level": [1, 2], "timestamp": 1.5,
    ...                      "message_type": "app:greet", "name": "you"}))
    8c66 -> /1/2
    1970-01-01T00:00:01.500000Z
      message_type: 'app:greet'
      name: 'you'
    <BLANKLINE>

    Whatever the message holds, nothing raises, and no control character but newline and tab
    comes out: a log cannot drive the terminal.

    Args:
        message: The message.
        local_timezone: Write the local time instead of UTC.

    Returns:
        The text, with a newline at its end.
    """
    fields = "".join(_pretty_field(key, value) for key, value in _ordered(message))
    place = f"{printable(message.get(TASK_UUID))} -> {_level(message)}"
    return f"{place}\n{_time(message, local_timezone)}\n{fields}"


def compact_format(message: MessageDict, local_timezone: bool = False) -> str:
    """Write a message on one line, with its fields as JSON.

    >>> print(compact_format({"task_uuid": "8c66", "task_level": [1, 2], "timestamp": 1.5,
    ...                       "message_type": "app:greet", "name": "you"}))
    8c66/1/2 1970-01-01T00:00:01.500000Z message_type="app:greet" name="you"

    As safe as `pretty_format`.

    Args:
        message: The message.
        local_timezone: Write the local time instead of UTC.

    Returns:
        The text, without a newline.
    """
    fields = " ".join(
        f"{printable(key)}={printable(_compact_value(value))}" for key, value in _ordered(message)
    )
    place = f"{printable(message.get(TASK_UUID))}{_level(message)}"
    return f"{place} {_time(message, local_timezone)} {fields}"


def _ordered(message: MessageDict) -> Iterator[tuple[str, Any]]:
    """Give the fields: type and status first, then the others by name."""
    for key in _FIRST_FIELDS:
        if key in message:
            yield key, message[key]
    for key in sorted(message, key=safe_str):
        if key not in PLACE_FIELDS and key not in _FIRST_FIELDS:
            yield key, message[key]


def _level(message: MessageDict) -> str:
    level = message.get(TASK_LEVEL)
    if isinstance(level, Iterable):
        return "/" + "/".join(map(printable, level))
    return f"/{printable(level)}"


def _time(message: MessageDict, local_timezone: bool) -> str:
    """Write the time, or whatever stands in its place."""
    seconds: Any = message.get(TIMESTAMP)
    try:
        if local_timezone:
            return datetime.fromtimestamp(seconds).isoformat()
        return f"{datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).isoformat()}Z"
    except (OSError, OverflowError, TypeError, ValueError):
        return printable(seconds)


def _pretty_field(key: str, value: Any) -> str:
    name = printable(key)
    try:
        text = pformat(value, width=_VALUE_WIDTH)
    except Exception:  # noqa: BLE001 - a value of any type, nested to any depth
        text = encode_carefully(value).decode().rstrip("\n")
    text = _ESCAPED.sub(lambda match: match[1] + _UNESCAPED[match[2]], text)
    lines = ("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
    # The bar stands below the colon, so that no line of a value can be taken for a field.
    indent = f"\n  {' ' * len(name)}| "
    return f"  {name}: {indent.join(lines)}\n"


def _compact_value(value: Any) -> str:
    try:
        return dumps(value, separators=(",", ":"))
    except Exception:  # noqa: BLE001 - a value of any type, nested to any depth
        return encode_carefully(value).decode().rstrip("\n")


def _format_line(line: bytes, formatter: Formatter, local_timezone: bool) -> str:
    """Write one line of a log, or say what it is instead."""
    try:
        message = decode_line(line)
    except ValueError:
        return "Not JSON: {!r}\n".format(line.rstrip(b"\n"))
    if not isinstance(message, dict) or not message.keys() >= REQUIRED_FIELDS:
        return "Not an Eliot message: {!r}\n".format(line.rstrip(b"\n"))
    return formatter(message, local_timezone)


def _print_all(lines: BinaryIO, output: TextIO, options: argparse.Namespace) -> int:
    formatter = compact_format if options.compact else pretty_format
    for line in lines:
        output.write(_format_line(line, formatter, options.local_timezone) + "\n")
    return 0


def main() -> int:
    """Run ``eliot-prettyprint``: read lines of JSON from standard input, write them readably.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="eliot-prettyprint",
        usage="cat eliot.log | %(prog)s [options]",
        description="Write the messages of a log, JSON lines on standard input, readably.",
    )
    parser.add_argument("-c", "--compact", action="store_true", help="one line for each message")
    parser.add_argument("-l", "--local-timezone", action="store_true", help="not UTC")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a letter gets its number, not a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    return run_program(partial(_print_all, sys.stdin.buffer, sys.stdout, options), sys.stdout)
