"""A counter that several threads may raise at once without a lock, and that survives a fork."""

from collections.abc import Callable
from itertools import count
from typing import final


@final
class Counter:
    """Counts events; raising it is one call into C, so no event is lost between two threads.

    >>> failures = Counter()
    >>> _ = failures.add()
    >>> failures.value
    1
    """

    __slots__ = ("_count", "add")

    def __init__(self) -> None:
        self._count = count()
        self.add: Callable[[], object] = self._count.__next__
        """Count one more."""

    @property
    def value(self) -> int:
        """How many were counted."""
        # Its repr is the one way to look at an itertools.count without raising it.
        return int(repr(self._count)[len("count(") : -1])
