"""Only messages that are important enough, by their type; the levels may change meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, final

from eliot_etw import _names as names
from eliot_etw._bridge import RECORD_TYPE
from eliot_etw._counter import Counter
from eliot_etw._levels import INFO, LOG_LEVEL, NUMBERS, level_number, level_of
from eliot_etw.destinations._wrapper import Wrapper
from eliot_etw.typing import Destination, MessageDict

# How many types of messages are remembered with their least level.
_MAX_REMEMBERED: Final = 1000


class LevelFilter(Wrapper):
    """Passes on messages of a level, and of those above it.

    A message has the level that its field ``log_level`` says: a name, or a number on the scale of
    `logging`. Without one it is ``INFO``. Failed actions and the library's reports about losses
    are ``ERROR``, tracebacks ``CRITICAL``.

    The start and the successful end of an action are ``INFO``, so that a type of actions passes as
    a whole or not at all. The end of an action that fails passes also if its start did not, unless
    the level is above ``ERROR``; readers show such an action as one whose start is missing.

    What does not pass is gone, and counted. Nothing is held back: an inner destination that is
    full, slow or gone behaves here as it does alone.

    What a logger of the standard library logged has the logger's name for a type, besides its own.
    """

    def __init__(
        self,
        inner: Destination,
        level: int | str = INFO,
        types: Mapping[str, int | str] | None = None,
    ) -> None:
        """Set the levels.

        Args:
            inner: Where messages go that pass.
            level: The least level that passes: a name such as ``"warning"``, or a number as in
                `logging`.
            types: Other least levels for some types of actions and messages: patterns such as
                ``"app:db:*"`` to levels. The first that fits counts.

        Raises:
            TypeError: If `inner` cannot be called.
            ValueError: If a level is none.
        """
        super().__init__(inner)
        self._dropped = Counter()
        self._default = _checked(level)
        # The pattern that counts first comes last: `set_level` adds at the end.
        self._patterns = {
            pattern: _checked(least) for pattern, least in reversed([*(types or {}).items()])
        }
        self._overriding: tuple[tuple[str, int], ...] = ()
        self._changed: object = None
        self._apply()

    def __call__(self, message: MessageDict) -> None:
        """Pass a message on, if it is important enough."""
        kind = message.get(names.ACTION_TYPE) or message.get(names.MESSAGE_TYPE)
        if type(kind) is str and kind == RECORD_TYPE:
            kind = _Record((kind, message.get("logger")))
        try:
            least = self._least[kind]
        except TypeError:  # a type that cannot be looked up
            least = self._default
        # The usual case first: it is decided without looking closer.
        if (least <= INFO and LOG_LEVEL not in message) or level_of(message) >= least:
            self._send(message)
        else:
            self._dropped.add()

    def set_level(self, level: int | str | None, pattern: str | None = None) -> None:
        """Change what passes, from now on; from any thread, and from signal handlers.

        An action that is under way may then be logged with one of its ends only.

        Args:
            level: The least level that passes; None to forget what was set for the pattern.
            pattern: The types of actions and messages that it is for, such as ``"app:db:*"``; it
                counts before those that were set earlier. All others, if left out.

        Raises:
            ValueError: If the level is none.
        """
        if pattern is None:
            self._default = _checked(level)
        else:
            least = None if level is None else _checked(level)
            self._patterns.pop(pattern, None)
            if least is not None:
                self._patterns[pattern] = least
        self._apply()

    def override(self, rules: Iterable[tuple[str, int | str]] = ()) -> None:
        """Have other levels count before all that are set, until the next call.

        Args:
            rules: Patterns of types as in `set_level`, with the least level that passes; the first
                that fits counts. None, to go back to what is set.

        Raises:
            ValueError: If a level is none.
        """
        self._overriding = tuple((pattern, _checked(level)) for pattern, level in rules)
        self._apply()

    def _apply(self) -> None:
        """Put what is set into effect."""
        # No lock, which a signal handler might wait for that its own thread holds: who finds that
        # another change was made meanwhile looks again.
        changed = self._changed = object()
        while True:
            rules = (*self._overriding, *reversed([*self._patterns.items()]))
            self._least = _LeastLevels(rules, self._default)
            if changed is self._changed:
                return
            changed = self._changed

    def stats(self) -> dict[str, int]:
        """Count what did not pass: ``dropped``."""
        return {"dropped": self._dropped.value}


@final
class _Record(tuple[Any, ...]):
    """What a record of `logging` is known by: its type, and the name of its logger."""

    __slots__ = ()


@final
class _LeastLevels(dict[Any, int]):
    """The least level for each type that was seen, found by patterns at the first time."""

    def __init__(self, rules: tuple[tuple[str, int], ...], default: int) -> None:
        super().__init__()
        self._rules = rules
        self._default = default

    def __missing__(self, kind: Any) -> int:
        known_by = kind if isinstance(kind, _Record) else (kind,)
        texts = [each for each in known_by if isinstance(each, str)]
        if not texts:
            return self._default
        fits = (
            least
            for pattern, least in self._rules
            if any(fnmatchcase(text, pattern) for text in texts)
        )
        least = next(fits, self._default)
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[kind] = least
        return least


def _checked(level: object) -> int:
    """Return the number of a level."""
    number = level_number(level)
    if number is None:
        msg = (
            f"A level must be a number as in logging, or one of {', '.join(NUMBERS)}, "
            f"got {level!r}. Write 'warning', or 30."
        )
        raise ValueError(msg)
    return number
