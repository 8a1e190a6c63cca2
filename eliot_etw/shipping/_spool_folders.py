"""A folder that processes share: each has a spool of its own there, and finds those of the dead.

A spool that nobody has open is that of a process that is gone: whoever finds it sends what is in
it, and removes it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from secrets import token_hex
from typing import Final, final

from eliot_etw.shipping._spool import DiskSpool, WhenFull

_NAME: Final = re.compile(r"sender-[0-9a-f]{32}", re.ASCII)


@final
class SpoolFolders:
    """The spools that this process has in such a folder: its own, and those that it found."""

    def __init__(
        self, folder: str | os.PathLike[str], *, max_bytes: int, when_full: WhenFull
    ) -> None:
        """Say where.

        Args:
            folder: The folder; it is made if it is not there.
            max_bytes: How many bytes each spool may have.
            when_full: What a spool does when it is full.
        """
        self.folder = os.path.abspath(os.fspath(folder))
        self._max_bytes = max_bytes
        self._when_full: WhenFull = when_full
        self._open: list[DiskSpool] = []

    def new(self) -> DiskSpool:
        """Make a spool of our own.

        Raises:
            OSError: If that cannot be.
        """
        return self._take(f"sender-{token_hex(16)}")

    def has_others(self) -> bool:
        """Say whether there are spools that are not ours, with or without an owner."""
        names = filter(_NAME.fullmatch, os.listdir(self.folder))
        return any(os.path.join(self.folder, name) not in self._paths() for name in names)

    def _paths(self) -> set[str]:
        return {spool.folder for spool in self._open}

    def find(self) -> DiskSpool | None:
        """Find a spool that nobody has, and in which something waits; remove empty ones."""
        with suppress(OSError):
            for name in sorted(filter(_NAME.fullmatch, os.listdir(self.folder))):
                with suppress(OSError):  # somebody has it, or may read it alone
                    spool = self._take(name)
                    if len(spool):
                        return spool
                    self.leave(spool)
        return None

    def _take(self, name: str) -> DiskSpool:
        spool = DiskSpool(
            os.path.join(self.folder, name), max_bytes=self._max_bytes, when_full=self._when_full
        )
        self._open.append(spool)
        return spool

    def leave(self, spool: DiskSpool) -> None:
        """Close a spool; remove it if nothing waits in it."""
        self._open.remove(spool)
        spool.remove()

    def forget(self) -> None:
        """Close all in a forked child: they are the parent's."""
        for spool in self._open:
            with suppress(Exception):  # the parent was just at it
                spool.close()
        self._open.clear()
