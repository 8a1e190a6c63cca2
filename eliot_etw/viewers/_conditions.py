"""What a node must be like to be selected: each option of the command line as a function."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any, Final

from boltons.iterutils import get_path

from eliot_etw.typing import MessageDict
from eliot_etw.viewers._nodes import Node, Selector, time_of

_SECONDS: Final = {
    "": 1.0,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_ABSENT: Final = object()
_amount = re.compile(r"(\d+(?:\.\d*)?|\.\d+) *(us|µs|ms|[smhdw]?)").fullmatch
_ago = re.compile(r"(\d+(?:\.\d*)?|\.\d+) *([smhdw])").fullmatch


def seconds(text: str) -> float:
    """Read a duration.

    >>> seconds("250ms"), seconds("1.5s"), seconds("2")
    (0.25, 1.5, 2.0)

    Raises:
        ValueError: If it is not a number with one of the units us, ms, s, m, h, d, w or none.
    """
    found = _amount(text.strip())
    if found is None:
        msg = f"A duration must look like 250ms, 1.5s or 2m, got {text!r}."
        raise ValueError(msg)
    return float(found[1]) * _SECONDS[found[2]]


def moment(text: str, *, utc: bool) -> float:
    """Read a time: ISO 8601, or how long ago, such as ``10m``.

    Args:
        text: The time.
        utc: Whether a time without a zone is in UTC, not local time.

    Returns:
        Seconds since the epoch.

    Raises:
        ValueError: If it is neither.
    """
    text = text.strip()
    found = _ago(text)
    if found:
        return time.time() - float(found[1]) * _SECONDS[found[2]]
    try:
        # Python 3.10 does not know Z.
        moment_ = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
        if utc and moment_.tzinfo is None:
            moment_ = moment_.replace(tzinfo=timezone.utc)
        return moment_.timestamp()
    except (ValueError, OverflowError, OSError):
        msg = f"A time must look like 2026-11-20T13:30 or, for ago, 10m or 2h, got {text!r}."
        raise ValueError(msg) from None


def has_type(globs: Sequence[str]) -> Selector:
    """Select by type: one of the patterns must match."""

    def condition(node: Node) -> bool:
        kind = node.type
        return kind is not None and any(fnmatchcase(str(kind), glob) for glob in globs)

    return condition


def is_within(since: float | None, until: float | None) -> Selector:
    """Select what started, ended or was logged in a span of time."""
    earliest = float("-inf") if since is None else since
    latest = float("inf") if until is None else until

    def condition(node: Node) -> bool:
        times = (time_of(node.start), time_of(node.end))
        return any(moment is not None and earliest <= moment <= latest for moment in times)

    return condition


def takes_at_least(least: float) -> Selector:
    """Select actions by their duration in seconds."""

    def condition(node: Node) -> bool:
        duration = node.duration
        return duration is not None and duration >= least

    return condition


def has_field(spec: str) -> Selector:
    """Select by a field of the message, or of the start or end of the action.

    Args:
        spec: ``key=value``. The key may lead into nested objects and lists, with dots. The value
            is compared as a number if both are numbers, else as text, in which ``*``, ``?`` and
            ``[...]`` are patterns.

    Raises:
        ValueError: If there is no key or no ``=``.
    """
    key, equals, wanted = spec.partition("=")
    if not (key and equals):
        msg = f"A field must be given as key=value, got {spec!r}."
        raise ValueError(msg)
    is_wanted = _comparison(wanted)

    def condition(node: Node) -> bool:
        return any(
            is_wanted(value)
            for message in (node.start, node.end)
            if message is not None
            for value in _lookup(message, key)
        )

    return condition


def all_of(conditions: Sequence[Selector]) -> Selector | None:
    """Combine conditions that must all be true; None if there are none."""
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    return lambda node: all(condition(node) for condition in conditions)


def _lookup(message: MessageDict, key: str) -> list[Any]:
    """Find a field, by its name or by a path with dots."""
    if key in message:
        return [message[key]]
    value = get_path(message, key, default=_ABSENT)
    return [] if value is _ABSENT else [value]


def _comparison(wanted: str) -> Callable[[Any], bool]:
    """Make the comparison with a value that was written on the command line."""
    number: int | float | None = None
    for kind in (int, float):
        try:
            number = kind(wanted)
            break
        except ValueError:
            continue
    names = {"true": True, "false": False, "none": None, "null": None}
    lowered = wanted.lower()

    def is_wanted(value: Any) -> bool:
        if value is None or isinstance(value, bool):
            return lowered in names and names[lowered] is value
        if number is not None and isinstance(value, (int, float)) and value == number:
            return True
        text = str(value)
        return text == wanted or fnmatchcase(text, wanted)

    return is_wanted
