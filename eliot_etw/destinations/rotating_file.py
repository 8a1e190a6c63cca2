"""Messages as lines of JSON in a file that is put aside when it is large or old enough."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from math import isfinite
from threading import Thread
from time import monotonic, time
from typing import Final, Literal

from eliot_etw import _names as names
from eliot_etw._counter import Counter
from eliot_etw._json import decode_line
from eliot_etw.destinations._exclusive import mark_as_written, nobody_writes, only_one_rotates
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S
from eliot_etw.destinations.file import FileDestination, open_to_append
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

# How long, and for how many bytes of its own, a process does not look what others did to the file.
_BETWEEN_LOOKS_S: Final = 1.0
_MOST_BETWEEN_LOOKS: Final = 65536
# How often to open a path that others rotate meanwhile.
_ATTEMPTS: Final = 100
# How long a first line may be in which the time is looked for.
_FIRST_LINE: Final = 65536
_UNFINISHED: Final = ".gz.unfinished"


class RotatingFileDestination(FileDestination):
    """Writes lines of JSON to a file, as `FileDestination` does, and puts it aside now and then.

    What is put aside is called like the file, with a number that counts up: ``app.log.000001`` is
    the oldest. It is compressed in a thread of its own, and the oldest are removed.

    Several processes may log to one path. One of them puts the file aside; each of the others
    notices when it logs, a second later or when it has written 64 KiB. Until then the file that
    was put aside is neither compressed nor removed, so that no line is lost. A process that is
    killed in the middle of this leaves nothing that the next one does not put right.

    A file that cannot be put aside, because another program uses it on Windows or the folder is
    not writable, is written on, and that is counted. What else may happen, such as a full disk, is
    as for `FileDestination`.
    """

    # To a wrapper around this: `close` may be given a timeout.
    closes_in_time: Final = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        every_s: float | None = None,
        keep: int | None = None,
        compress: Literal["gz"] | None = None,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Open the file, and put right what an earlier process left.

        Args:
            path: The path to append to.
            max_bytes: How large the file may become; a line that is longer has a file of its own.
                With several processes, each may add up to 64 KiB.
            every_s: How many seconds a file covers: 3600 for a file each hour, 86400 each day, as
                counted from midnight UTC.
            keep: How many files that were put aside are kept; all, if left out.
            compress: ``"gz"`` to compress what was put aside.
            json_default: Converts values that JSON does not know.

        Raises:
            OSError: If the path cannot be opened.
            TypeError: If `path` is an open file.
            ValueError: If neither `max_bytes` nor `every_s` is given, or an option makes no sense.
        """
        _check(path, max_bytes, every_s, keep, compress)
        # Where a link leads to: what is renamed is the file, and stays on its disk.
        self._where = os.path.realpath(os.fspath(path))
        self._max_bytes = max_bytes
        self._every_s = every_s
        self._keep = keep
        self._compress = compress
        self._rotated = Counter()
        self._rotation_failures = Counter()
        self._housekeeper: Thread | None = None
        self._has_work = False
        super().__init__(path, None, json_default)
        # How much may be written before the next look at the file.
        self._left = 0
        self._look_at = 0.0
        # Which period of `every_s` the file's first line is of; None if that is to be found out.
        self._period: int | None = None
        self._measure()
        self._keep_house()

    def _open(self, path: str) -> int:
        """Open the path, and say to other processes that it is being written."""
        for _ in range(_ATTEMPTS):
            fd = open_to_append(path)
            try:
                mark_as_written(fd)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
            except OSError:
                pass  # it was just put aside
            os.close(fd)
        # Whatever others do, or if there are no locks in this file system: lines are written.
        return open_to_append(path)

    def __call__(self, message: MessageDict) -> None:
        """Write a message. Raises what the operating system does; the dispatcher reports it."""
        for _, error in self.write_lines((self.encode(message),)):
            raise error

    def write_lines(self, lines: Sequence[bytes]) -> list[tuple[bytes, Exception]]:
        """Write lines that `encode` made; as many at once as the file may take.

        Returns:
            The lines that were not, or not wholly, written, each with what was raised.
        """
        if monotonic() >= self._look_at:
            self._left = 0
        failed: list[tuple[bytes, Exception]] = []
        batch: list[bytes] = []
        for line in lines:
            self._left -= len(line)
            if self._left < 0 and self._fd >= 0:
                if batch:
                    failed += super().write_lines(batch)
                    batch = []
                self._look(len(line))
                self._left -= len(line)
            batch.append(line)
        return failed + super().write_lines(batch)

    # ---- putting the file aside ----------------------------------------------------------------

    def _look(self, more: int) -> None:
        """Look whether the file is to be put aside before so many bytes more, or has been."""
        try:
            if not self._is_current():
                self._follow()
            elif self._is_due(more):
                with only_one_rotates(f"{self._where}.lock") as is_mine:
                    # If somebody else is at it, that is noticed at the next look.
                    if is_mine:
                        self._rotate(more)
        except OSError:
            self._rotation_failures.add()
        self._measure()
        if self._left <= 0:
            # It could not be put aside: it is written on, and tried again after a while.
            self._left = _MOST_BETWEEN_LOOKS

    def _is_current(self) -> bool:
        """Say whether the path still leads to the file that is open."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._where))
        except FileNotFoundError:
            return False

    def _follow(self) -> None:
        """Open the path again, which leads to another file, or to none."""
        self._period = None
        self.reopen()

    def _is_due(self, more: int) -> bool:
        """Say whether the file is too large, or too old."""
        size = os.fstat(self._fd).st_size
        if not size:
            return False
        if self._max_bytes is not None and size + more > self._max_bytes:
            return True
        if self._every_s is None:
            return False
        if self._period is None:
            self._period = self._period_of(_first_time(self._where))
        # If the clock was set back a little, the file goes on until its period is over again. If
        # by more, it may have begun in a far future, and would never end.
        now = self._period_of(time())
        return now > self._period or now < self._period - 1

    def _period_of(self, seconds: float) -> int:
        return int(seconds // (self._every_s or 1))

    def _rotate(self, more: int) -> None:
        """Put the file aside, and begin a new one."""
        if self._is_current():
            if not self._is_due(more):
                return
            mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
            os.rename(self._where, f"{self._where}.{self._next_number():06}")
            self._rotated.add()
        else:
            mode = None
        self._follow()
        if mode is not None and sys.platform != "win32":
            os.fchmod(self._fd, mode)
        self._keep_house()

    def _next_number(self) -> int:
        """Return the number after the greatest that was given out."""
        return max((number for number, _ in self._put_aside()), default=0) + 1

    def _put_aside(self) -> list[tuple[int, str]]:
        """List what was put aside and is kept, oldest first: number and path."""
        folder, name = os.path.split(self._where)
        is_ours = re.compile(re.escape(name) + r"\.(\d{6,})(\.gz)?").fullmatch
        found = ((is_ours(entry), os.path.join(folder, entry)) for entry in os.listdir(folder))
        return sorted((int(match[1]), path) for match, path in found if match)

    def _measure(self) -> None:
        """Find out how much may be written before the next look."""
        self._look_at = monotonic() + _BETWEEN_LOOKS_S
        self._left = _MOST_BETWEEN_LOOKS
        if self._max_bytes is not None and self._fd >= 0:
            with suppress(OSError):
                self._left = min(self._left, self._max_bytes - os.fstat(self._fd).st_size)

    # ---- what was put aside --------------------------------------------------------------------

    def _keep_house(self) -> None:
        """Compress what was put aside, and remove the oldest, in a thread of its own."""
        if self._compress is None and self._keep is None:
            return
        self._has_work = True
        if self._housekeeper is not None and self._housekeeper.is_alive():
            return
        with suppress(RuntimeError):  # at the end of the program; the next one will do it
            housekeeper = Thread(target=self._clean_up, name="eliot_etw rotation", daemon=True)
            housekeeper.start()
            self._housekeeper = housekeeper

    def _clean_up(self) -> None:
        """Compress and remove, until there is nothing left to do."""
        while self._has_work:
            self._has_work = False
            with suppress(OSError):
                files = self._put_aside()
                numbers = sorted({number for number, _ in files})
                gone = (
                    numbers[: max(0, len(numbers) - self._keep)] if self._keep is not None else []
                )
                for number, path in files:
                    # What somebody still writes has to wait for the next time.
                    with suppress(OSError):
                        if number in gone:
                            _remove(path)
                        elif self._compress is not None and not path.endswith(".gz"):
                            _compress(path)
            if not self._has_work:
                # Who finds work after this line finds nobody who does it, and starts another.
                self._housekeeper = None

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Close the file. What is logged later is a failure.

        Args:
            timeout_s: How long to wait for what is being compressed; the next process finishes it.
        """
        super().close()
        housekeeper = self._housekeeper
        if housekeeper is not None:
            housekeeper.join(timeout_s)

    def stats(self) -> dict[str, int]:
        """Count what happened.

        Returns:
            ``failed``: messages that were not or not wholly written; ``rotated``: how often this
            process put the file aside; ``rotation_failures``: how often that was not possible.
        """
        return {
            **super().stats(),
            "rotated": self._rotated.value,
            "rotation_failures": self._rotation_failures.value,
        }


def _first_time(path: str) -> float:
    """Return when the first line of a file was logged; when it was changed, if that is no line."""
    with open(path, "rb") as file:
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            seconds = float(decode_line(file.readline(_FIRST_LINE))[names.TIMESTAMP])
            if isfinite(seconds):
                return seconds
        return os.fstat(file.fileno()).st_mtime


def _compress(path: str) -> None:
    """Put a compressed file in the place of one that nobody writes.

    At each moment the one or the other is there, or both: then it is done again.

    Raises:
        OSError: If somebody writes it, or the disk is full.
    """
    unfinished = f"{path}{_UNFINISHED}"
    with nobody_writes(path) as fd:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        target_fd = os.open(unfinished, flags, mode)
        with (
            open(fd, "rb", closefd=False) as source,
            open(target_fd, "wb") as target,
        ):
            with gzip.GzipFile("", "wb", fileobj=target, mtime=0) as compressed:
                shutil.copyfileobj(source, compressed, 1 << 20)
            target.flush()
            os.fsync(target_fd)
        os.replace(unfinished, f"{path}.gz")
        os.unlink(path)


def _remove(path: str) -> None:
    """Remove a file that nobody writes.

    Raises:
        OSError: If somebody does.
    """
    with nobody_writes(path):
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{_UNFINISHED}")
        os.unlink(path)


def _check(
    path: object, max_bytes: int | None, every_s: float | None, keep: int | None, compress: object
) -> None:
    """Refuse options that make no sense.

    Raises:
        TypeError: If the path is none.
        ValueError: If an option is none.
    """
    if not isinstance(path, (str, os.PathLike)):
        msg = f"RotatingFileDestination needs a path, got {path!r}. Pass the path of the file."
        raise TypeError(msg)
    if max_bytes is None and every_s is None:
        msg = (
            "max_bytes or every_s must be given, got neither. Say when a file is to be put aside."
        )
        raise ValueError(msg)
    for name, value in (("max_bytes", max_bytes), ("every_s", every_s)):
        if value is not None and not value > 0:
            msg = f"{name} must be above 0, got {value!r}. Leave it out for no limit."
            raise ValueError(msg)
    if keep is not None and keep < 0:
        msg = f"keep must be 0 or more, got {keep!r}. Leave it out to keep all."
        raise ValueError(msg)
    if compress not in ("gz", None):
        msg = f"compress must be 'gz' or None, got {compress!r}. Write 'gz'."
        raise ValueError(msg)
