"""A module `os` whose calls fail when they are told to: full disks without a disk."""

import errno
import os
from contextlib import contextmanager


class FaultyOs:
    """Stands for `os` in a module; the calls that are named can be made to fail.

    Args:
        *names: The functions that can fail.

    Attributes:
        failed: How many calls have failed.
    """

    def __init__(self, *names):
        self.failed = 0
        self._names = frozenset(names)
        # How many calls succeed before some fail; how many those are; how much they write.
        self._after = self._times = self._takes = 0

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self._names:
            return real

        def call(*arguments, **options):
            if not self._is_due():
                return real(*arguments, **options)
            if name == "write" and self._takes:
                real(arguments[0], bytes(arguments[1])[: self._takes])
            self.failed += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call

    def _is_due(self):
        """Count a call; say whether it is to fail."""
        if self._after:
            self._after -= 1
            return False
        is_due = self._times > 0
        self._times -= is_due
        return is_due

    @contextmanager
    def failing(self, after, times=1, takes=0):
        """Have so many calls fail, after so many that do not; writes do so many bytes first."""
        self._after, self._times, self._takes = after, times, takes
        try:
            yield
        finally:
            self._after = self._times = 0
