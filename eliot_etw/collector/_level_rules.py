"""The rules about levels that are in force for a while, which a restart does not end."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import NamedTuple, final

import msgspec

from eliot_etw.collector._control import MAX_FOR_S
from eliot_etw.shipping._protocol import MAX_RULES, LevelRule


class _Rule(NamedTuple):
    """A rule, and when it ends, in s since 1970."""

    pattern: str
    level: int
    ends_at: float
    program: str
    host: str

    @property
    def place(self) -> tuple[str, str, str]:
        """What it is for: there is one rule for each."""
        return self.pattern, self.program, self.host


class _Kept(NamedTuple):
    revision: int
    rules: list[_Rule]


@final
class LevelRules:
    """The list, kept in a file.

    Args:
        path: The file. One that is damaged counts as empty.
        clock: Says the time in s since 1970.

    Attributes:
        revision: The number of the list, which changes with it.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time) -> None:
        self._path = path
        self._clock = clock
        kept = _Kept(0, [])
        with suppress(OSError, msgspec.MsgspecError):
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        self.revision = kept.revision
        latest = clock() + MAX_FOR_S  # also if the clock was set back meanwhile
        self._rules = [rule for rule in kept.rules if rule.ends_at <= latest]

    def set(self, rule: LevelRule) -> None:
        """Put a rule in force; it counts before those that are there.

        Raises:
            ValueError: If there are too many.
        """
        ends_at = self._clock() + rule.remaining_ms / 1000
        new = _Rule(rule.pattern, rule.level, ends_at, rule.program, rule.host)
        rules = [new, *(old for old in self._rules if old.place != new.place)]
        if len(rules) > MAX_RULES:
            msg = f"There must be at most {MAX_RULES:,} rules in force. Clear some first."
            raise ValueError(msg)
        self._change(rules)

    def clear(self, pattern: str) -> None:
        """End the rules of a pattern; all, if it is empty."""
        self._change([rule for rule in self._rules if pattern and rule.pattern != pattern])

    def expire(self) -> bool:
        """End the rules whose time is over; say whether there were any."""
        now = self._clock()
        rules = [rule for rule in self._rules if rule.ends_at > now]
        if len(rules) == len(self._rules):
            return False
        self._change(rules)
        return True

    def in_force(self) -> tuple[LevelRule, ...]:
        """List the rules, those that count first come first."""
        now = self._clock()
        most_ms = MAX_FOR_S * 1000
        return tuple(
            LevelRule(
                rule.pattern,
                rule.level,
                max(0, min(most_ms, int((rule.ends_at - now) * 1000))),
                rule.program,
                rule.host,
            )
            for rule in self._rules
        )

    def _change(self, rules: list[_Rule]) -> None:
        """Put another list in force."""
        self._rules = rules
        self.revision += 1
        new = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):  # then a restart ends them
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(msgspec.json.encode(_Kept(self.revision, rules)))
            os.replace(new, self._path)
