"""Levels that a collector sets for a while: which are for this process, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import TYPE_CHECKING, TypeAlias, final

if TYPE_CHECKING:
    from eliot_etw.shipping._protocol import LevelRule

Levels: TypeAlias = tuple[tuple[str, int], ...]
"""Patterns with the least level of what fits; the first that fits counts."""


@final
class LevelRules:
    """The rules in force in a process; each ends by itself, whether anybody says so or not.

    Attributes:
        host: The name of its machine.
        program: Its name.
        pid: Its number.
    """

    def __init__(self, *, host: str, program: str, pid: int) -> None:
        """Say which process it is.

        Args:
            host: The name of the machine.
            program: The name of the program.
            pid: The number of the process.
        """
        self.host = host
        self.program = program
        self.pid = pid
        self._rules: list[tuple[float, str, int]] = []

    def set(self, rules: Sequence[LevelRule], now_s: float) -> int:
        """Put a list of rules in the place of the last one.

        Args:
            rules: The rules; the first that fits counts.
            now_s: What time it is, on any clock that only goes forward.

        Returns:
            How many of them are for this process.
        """
        self._rules = [
            (now_s + rule.remaining_ms / 1000, rule.pattern, rule.level)
            for rule in rules
            if self._is_for_us(rule)
        ]
        return len(self._rules)

    def _is_for_us(self, rule: LevelRule) -> bool:
        return fnmatchcase(self.host, rule.host) and any(
            fnmatchcase(program, rule.program) for program in (self.program, str(self.pid))
        )

    def in_force(self, now_s: float) -> Levels:
        """Give those that have not ended."""
        return tuple((pattern, level) for end, pattern, level in self._rules if end > now_s)

    def next_end_s(self, now_s: float) -> float:
        """Say when the next one ends, on the same clock; infinity if none is in force."""
        return min((end for end, _, _ in self._rules if end > now_s), default=inf)
