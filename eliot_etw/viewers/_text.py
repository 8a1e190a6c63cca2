"""Logged values, times and durations as text that is safe to show and has a known width."""

from __future__ import annotations

import re
import time
from typing import Any, Final, final

from eliot_etw._json import encode_line
from eliot_etw._program import printable

# A text needs no quotes if it can be told from a number, from a name like None, and from the next
# field.
_plain = re.compile(
    r"""(?![+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?$|None$|True$|False$|nan$|-?inf$)"""
    r"""[^\s"'=\[{(][^\s"'=]*$"""
).match

_not_ascii = re.compile(r"[^ -~]")

MISSING_TIME: Final = "--:--:--.---"


def one_line(value: Any, limit: int) -> str:
    """Write a logged value on one line, as Python would: texts with quotes if they need them.

    Args:
        value: The value.
        limit: How many characters of it to show; 0 for all.
    """
    if type(value) is str:
        if limit and len(value) > limit:
            return f"{_quoted(value[:limit])}… ({len(value):,} characters)"
        if _plain(value) and value.isprintable():
            return value
        return _quoted(value)
    try:
        text = repr(value)
    except RecursionError:
        return f"({type(value).__name__}, nested too deep to show)"
    if limit and len(text) > limit:
        return f"{printable(text[:limit])}… ({len(text):,} characters)"
    return printable(text)


def _quoted(text: str) -> str:
    escaped = printable(text).replace('"', '\\"')
    return f'"{escaped}"'


def safe_json(value: Any) -> str:
    r"""Write JSON on one line, in which no character can drive a terminal.

    >>> safe_json({"text": "\x9b31m"})
    '{"text":"\\u009b31m"}'
    """
    text = encode_line(value)[:-1].decode()
    return text if text.isprintable() else _not_ascii.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    """Write a character as JSON escapes it, if it is not to be shown."""
    character = found[0]
    if character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def lines_of(text: str) -> list[str]:
    """Split a text of several lines into lines that are safe to show."""
    lines = text.rstrip("\r\n").split("\n")
    return [printable(line.removesuffix("\r").expandtabs(4)) for line in lines]


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - most logs never need it

    return cell_len(text)


def clip(text: str, width: int) -> str:
    """Cut a text to at most so many columns."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) >= width:
        text = text[: max(len(text) - max(1, (width_of(text) - width) // 2), 0)]
    return text + "…"


def duration_text(seconds: float) -> str:
    """Write a duration with three digits: ``12µs``, ``1.23ms``, ``45.6ms``, ``1.23s``, ``2m03s``.

    >>> duration_text(0.00123), duration_text(3723)
    ('1.23ms', '1h02m')
    """
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    for below, factor, form in _DURATIONS:
        if seconds < below:
            return form % (seconds * factor)
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h"


# Each row begins where the one above it would be rounded up to a fourth digit.
_DURATIONS: Final = (
    (0.0009995, 1e6, "%.0fµs"),
    (0.009995, 1e3, "%.2fms"),
    (0.09995, 1e3, "%.1fms"),
    (0.9995, 1e3, "%.0fms"),
    (9.995, 1, "%.2fs"),
    (59.95, 1, "%.1fs"),
)


@final
class Clock:
    """Writes the time of messages, which mostly is in the same second as the one before.

    Args:
        utc: Whether to show UTC instead of local time.
    """

    def __init__(self, *, utc: bool = False) -> None:
        self._zone = time.gmtime if utc else time.localtime
        self._date_format = "%Y-%m-%d UTC" if utc else "%Y-%m-%d %Z"
        self._second: int | None = None
        self._text = MISSING_TIME

    def time(self, timestamp: float | None) -> str:
        """Write hours to milliseconds; dashes if the time is unknown."""
        if timestamp is None:
            return MISSING_TIME
        second, milliseconds = divmod(int((timestamp * 1000 + 0.5) // 1), 1000)
        if second != self._second:
            try:
                self._text = time.strftime("%H:%M:%S", self._zone(second))
            except (ValueError, OverflowError, OSError):
                return MISSING_TIME
            self._second = second
        return f"{self._text}.{milliseconds:03}"

    def date(self, timestamp: float) -> str:
        """Write the date and the time zone; nothing if the calendar ends before that."""
        try:
            return time.strftime(self._date_format, self._zone(timestamp))
        except (ValueError, OverflowError, OSError):
            return ""
