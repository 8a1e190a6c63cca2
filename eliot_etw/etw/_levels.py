"""Which level and which keyword an event has: by what the message says, or as the user maps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias, final

from eliot_etw._counter import Counter
from eliot_etw._levels import LOG_LEVEL, NUMBERS, is_action, is_failure, level_number, type_of
from eliot_etw.typing import MessageDict

Levels: TypeAlias = Mapping[str, int | str] | Callable[[MessageDict], int | str | None]
"""Patterns of types to levels, or what takes a message and returns its level."""
Keywords: TypeAlias = Mapping[str, int] | Callable[[MessageDict], int | None]
"""Patterns of types to keywords, or what takes a message and returns its keyword."""

CRITICAL, ERROR, WARNING, INFO, VERBOSE = range(1, 6)

ACTIONS: Final = 0x1
MESSAGES: Final = 0x2
FAILURES: Final = 0x4
"""Added to the keyword of an action that failed, and of a traceback: who asks for actions gets
both ends of each."""

_OUR_KEYWORD_BITS: Final = (1 << 48) - 1


def level_named(level: object) -> int | None:
    """Return the level that a name or one of ETW's own numbers means, or None.

    >>> level_named("WARNING"), level_named(3), level_named("loud")
    (3, 3, None)
    """
    if isinstance(level, str):
        number = level_number(level)
        return None if number is None else _level(number)
    return level if type(level) is int and 1 <= level <= 255 else None


def level_logged(level: object) -> int:
    """Return the level for the field ``log_level``.

    A number is one of the module `logging`, rounded down to the next that has a name there; less
    than ``INFO`` is verbose. Anything else is a name, or says nothing.

    >>> level_logged(30), level_logged(39), level_logged(5), level_logged("error")
    (3, 3, 5, 2)
    """
    number = level_number(level)
    return INFO if number is None else _level(number)


def _level(number: int) -> int:
    """Convert a level of `logging`: there 10 is verbose, and 50 critical."""
    return max(CRITICAL, VERBOSE - max(number // 10 - 1, 0))


@final
class Rules:
    """What gives messages their level and keyword. Never raises once it is made.

    Attributes:
        is_per_message: Whether a function of the user's looks at each message; else type, status
            and ``log_level`` say it all.
        failures: Counts how often such a function raised.
    """

    __slots__ = (
        "_keyword_function", "_keywords", "_level_function", "_levels", "failures",
        "is_per_message",
    )  # fmt: skip

    def __init__(self, levels: Levels | None, keywords: Keywords | None) -> None:
        """Check what the user maps.

        Raises:
            TypeError: If one is neither a mapping nor a function.
            ValueError: If a level or keyword is none.
        """
        self._level_function, by_level = _function_or_map("levels", levels)
        self._keyword_function, by_keyword = _function_or_map("keywords", keywords)
        self._levels = {pattern: _checked_level(level) for pattern, level in by_level.items()}
        self._keywords = {pattern: _checked_keyword(bits) for pattern, bits in by_keyword.items()}
        self.is_per_message = bool(self._level_function or self._keyword_function)
        self.failures = Counter()

    def level_of(self, message: MessageDict) -> int:
        """Return the level of a message.

        Start and end of an action have the same, unless it fails: a session that gets one without
        the other would see an action that never ends. So ``log_level`` is asked for in messages
        only, as the end does not know what the start said.
        """
        if self._level_function is not None:
            level = self._asked(self._level_function, message)
            known = level_named(level)
            if known is not None:
                return known
        if is_failure(message):
            return ERROR if is_action(message) else CRITICAL
        mapped = _mapped(self._levels, message)
        if mapped is not None:
            return mapped
        if is_action(message) or LOG_LEVEL not in message:
            return INFO
        return level_logged(message[LOG_LEVEL])

    def keyword_of(self, message: MessageDict) -> int:
        """Return the keyword of a message, at least one of the lower 48 bits."""
        if self._keyword_function is not None:
            keyword = self._asked(self._keyword_function, message)
            if isinstance(keyword, int) and keyword & _OUR_KEYWORD_BITS:
                return keyword & _OUR_KEYWORD_BITS
        mapped = _mapped(self._keywords, message)
        if mapped is not None:
            return mapped
        keyword = ACTIONS if is_action(message) else MESSAGES
        return keyword | FAILURES if is_failure(message) else keyword

    def _asked(self, function: Callable[[MessageDict], Any], message: MessageDict) -> Any:
        """Ask a function of the user's; one that raises has no opinion."""
        try:
            return function(message)
        except Exception:  # noqa: BLE001 - logging must not break the program
            self.failures.add()
            return None


def _function_or_map(what: str, given: Any) -> tuple[Callable[..., Any] | None, Mapping[str, Any]]:
    if given is None:
        return None, {}
    if isinstance(given, Mapping):
        return None, given
    if callable(given):
        return given, {}
    msg = (
        f"{what} must be a mapping of types, or a function of one message, got {given!r}. "
        f"Write {{'app:*': ...}}."
    )
    raise TypeError(msg)


def _checked_level(level: int | str) -> int:
    known = level_named(level)
    if known is None:
        msg = (
            f"a level must be 1 to 255, or one of {', '.join(NUMBERS)}, got {level!r}. "
            "Choose 1 for critical to 5 for verbose."
        )
        raise ValueError(msg)
    return known


def _checked_keyword(keyword: int) -> int:
    if type(keyword) is not int or not 0 < keyword <= _OUR_KEYWORD_BITS:
        msg = (
            f"a keyword must have one of the lower 48 bits and no other, got {keyword!r}. "
            "Choose one such as 0x10."
        )
        raise ValueError(msg)
    return keyword


def _mapped(patterns: dict[str, int], message: MessageDict) -> int | None:
    """Find the first pattern that the type of a message fits."""
    if patterns:
        kind = type_of(message)
        if isinstance(kind, str):
            for pattern, value in patterns.items():
                if fnmatchcase(kind, pattern):
                    return value
    return None
