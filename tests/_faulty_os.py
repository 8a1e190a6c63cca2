"""A module `os` whose calls fail when they are told to: full disks without a disk."""

import errno
import os


class FaultyOs:
    """Stands for `os` in a module; the calls that are named fail for a while.

    Args:
        *names: The functions that can fail.

    Attributes:
        fails_after: How many calls still succeed; None if all do.
        fails_for: How many calls fail then.
        takes: How many bytes a write takes that is just going to fail.
        failed: How many calls have failed.
    """

    def __init__(self, *names):
        self.fails_after = None
        self.fails_for = 1
        self.takes = 0
        self.failed = 0
        self._names = frozenset(names)

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in self._names:
            return real

        def call(*arguments, **options):
            if self._is_due():
                if name == "write" and self.takes:
                    real(arguments[0], bytes(arguments[1])[: self.takes])
                self.failed += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return call

    def _is_due(self):
        """Count a call; say whether it is to fail."""
        if self.fails_after is None:
            return False
        self.fails_after -= 1
        if self.fails_after >= 0:
            return False
        if self.fails_after <= -self.fails_for:
            self.fails_after = None
        return True

    def fail(self, after=0, *, times=1, takes=0):
        """Have calls fail, after so many that do not."""
        self.fails_after, self.fails_for, self.takes = after, times, takes

    def heal(self):
        """Have all calls succeed."""
        self.fails_after = None
