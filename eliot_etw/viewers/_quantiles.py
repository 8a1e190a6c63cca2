"""Quantiles of any number of durations in little room: exact for few, then within one percent."""

from __future__ import annotations

from array import array
from bisect import insort
from math import ceil, log
from typing import Final, final

# So many values are kept as they are.
_MOST_EXACT: Final = 200
# Each bucket reaches this much further than the one before: its middle is within 1% of any value
# in it.
_ERROR: Final = 0.01
_GROWTH: Final = (1 + _ERROR) / (1 - _ERROR)
_LOG_GROWTH: Final = log(_GROWTH)
# Between a nanosecond and thirty years there are some 2,000 buckets; what is beyond goes into the
# last one at that side.
_SHORTEST: Final = 1e-9
_LONGEST: Final = 1e9


@final
class Quantiles:
    """Takes durations in seconds, and tells their quantiles.

    Up to 200 values the answers are exact. Beyond that they are within 1% of the value that the
    exact answer would be, for durations from a nanosecond to thirty years.

    Source:
        DDSketch: Masson, Rim, Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
        Relative-Error Guarantees", VLDB 2019, section 2.

    Attributes:
        count: How many there were.
        total: Their sum.
        longest: The longest; 0 if there was none.
    """

    __slots__ = ("_buckets", "_exact", "count", "longest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._exact = array("d")
        self._buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Take one more."""
        self.total += seconds
        if seconds > self.longest or not self.count:
            self.longest = seconds
        self.count += 1
        if self.count <= _MOST_EXACT:
            insort(self._exact, seconds)
            return
        for kept in self._exact:
            self._put(kept)
        del self._exact[:]
        self._put(seconds)

    def at(self, share: float) -> float | None:
        """Return the shortest duration that so large a share of all does not exceed.

        Args:
            share: Above 0, up to 1; 0.5 for the median.

        Returns:
            Seconds; None if there was no duration.
        """
        if not self.count:
            return None
        rank = max(ceil(share * self.count), 1)
        if self._exact:
            return self._exact[rank - 1]
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                break
        middle: float = 2 * _GROWTH**bucket / (_GROWTH + 1)
        return min(middle, self.longest)

    def _put(self, seconds: float) -> None:
        """Count a duration in its bucket."""
        bucket = ceil(log(min(max(seconds, _SHORTEST), _LONGEST)) / _LOG_GROWTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
