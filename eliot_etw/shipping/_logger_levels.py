"""Levels of the standard library's loggers, set for a while and then put back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import final

from eliot_etw.shipping._level_rules import Levels


@final
class LoggerLevels:
    """Sets levels of loggers; a level that the program itself sets meanwhile stays."""

    def __init__(self) -> None:
        # What a logger had before, and what was put in its place.
        self._changed: dict[logging.Logger, tuple[int, int]] = {}

    def apply(self, levels: Levels) -> None:
        """Put levels in force, and back those that are no longer among them.

        Args:
            levels: Patterns of loggers' names, the root logger being ``root``. Loggers that are
                made later are found by the next call.
        """
        for logger in _loggers() if levels else [*self._changed]:
            fits = (level for pattern, level in levels if fnmatchcase(logger.name, pattern))
            level = next(fits, None)
            if level is not None:
                # 0 would have the logger ask the one above it.
                self._set(logger, max(1, level))
            elif logger in self._changed:
                self._put_back(logger)

    def _set(self, logger: logging.Logger, level: int) -> None:
        before, ours = self._changed.get(logger, (logger.level, logger.level))
        if logger.level == ours:
            logger.setLevel(level)
            self._changed[logger] = before, level

    def _put_back(self, logger: logging.Logger) -> None:
        before, ours = self._changed.pop(logger)
        if logger.level == ours:
            logger.setLevel(before)


def _loggers() -> Iterator[logging.Logger]:
    """Give all loggers that there are."""
    yield logging.root
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):  # not what stands for one that is not made yet
            yield logger
