"""Messages as lines of JSON in a file that is put aside when it is large or old enough."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import compress
from pathlib import Path
from typing import Any, Final, Literal, final

from eliot_etw.collector._commits import CommitJournal
from eliot_etw.collector._lock import own
from eliot_etw.collector.sinks import Batch, BlockingSink, SinkUnavailable
from eliot_etw.destinations.rotating_file import RotatingFileDestination

_MAX_BYTES: Final = 100_000_000


@final
class JsonLinesSink(BlockingSink):
    """Writes each message once to a file of JSON lines, also if the collector is killed.

    A journal beside the file, called like it with ``.commits`` at the end, says how much of the
    file counts, and the number of the last message of each sender. A batch is written with one
    write to the file, then with one to the journal; only then it is stored. What a killed
    collector left behind the last commit is cut off at the next start, and comes again from its
    sender; what comes again though it is in is left out by its number. Messages without a sender
    that counts, see `Origin`, may be there twice.

    The file belongs to the collector alone: what others write to it may be cut off.

    Args:
        path: The file. What is put aside is called like it, with a number: see
            `RotatingFileDestination`.
        max_bytes: How large the file may become.
        every_s: How many seconds a file covers; a day is 86400.
        keep: How many files that were put aside are kept; all, if left out.
        compress: ``"gz"`` to compress what was put aside.
        sync: Whether a message is stored only when it is on the disk and outlives a loss of
            power. If not, it is in the operating system, and outlives the collector's end.

    Raises:
        OSError: If the file cannot be written, or belongs to another collector.
        ValueError: If an option makes no sense.
    """

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int | None = _MAX_BYTES,
        every_s: float | None = None,
        keep: int | None = None,
        compress: Literal["gz"] | None = None,
        sync: bool = False,
    ) -> None:
        where = Path(path).expanduser()
        where.parent.mkdir(parents=True, exist_ok=True)
        self._path = str(where)
        self._sync = sync
        self._repeated = 0
        # Whether something that does not count may stand at the end of the file.
        self._is_torn = False
        self._lock = own(where.with_name(f"{where.name}.commits.lock"))
        try:
            self._journal = CommitJournal(where.with_name(f"{where.name}.commits"), sync=sync)
            self._cut_off_what_does_not_count()
            self._file = _File(
                self._path,
                self._begin,
                self._need_known,
                max_bytes=max_bytes,
                every_s=every_s,
                keep=keep,
                compress=compress,
            )
            self._begin()
        except BaseException:
            self._lock.close()
            raise

    def _cut_off_what_does_not_count(self) -> None:
        """Remove what a killed collector wrote but did not commit."""
        last = self._journal.last
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        # Another file than the journal knows was begun, but nothing written to it.
        if last is not None and found.st_ino == last.file and found.st_size > last.size:
            os.truncate(self._path, last.size)

    def _begin(self) -> None:
        """Write down which file is written to, before anything is."""
        self._begun = False
        state = self._file.state()
        self._journal.commit(state.st_ino, state.st_size, {})
        self._begun = True

    def store(self, batch: Batch) -> None:
        """Write what is not in yet."""
        wanted, marks = self._unseen(batch)
        lines = list(compress(batch.lines, wanted)) if wanted else batch.lines
        self._repeated += len(batch) - len(lines)
        if not lines:
            return
        try:
            if self._is_torn:
                self._take_back()
            if not self._begun:
                self._begin()
            self._write(b"\n".join([*lines, b""]), marks)
        except OSError as error:
            raise SinkUnavailable(f"{self._path}: {error}") from error

    def _unseen(self, batch: Batch) -> tuple[list[bool], dict[str, int]]:
        """Find out what is not in yet.

        Returns:
            For each line whether it is to be written, nothing if all are; the number of the last
            message of each sender in the batch.
        """
        last = self._journal.last
        seen = {} if last is None else last.marks
        marks: dict[str, int] = {}
        wanted: list[bool] = []
        start = 0
        for sender, numbers in batch.origins:
            end = start + len(numbers)
            if sender:
                mark = marks.get(sender, seen.get(sender, -1))
                if numbers[0] <= mark:
                    wanted = wanted or [True] * len(batch)
                    wanted[start:end] = [number > mark for number in numbers]
                marks[sender] = max(mark, numbers[-1])
            start = end
        return wanted, marks

    def _write(self, data: bytes, marks: dict[str, int]) -> None:
        """Write to the file, then to the journal; or to none of them."""
        self._is_torn = True
        try:
            for _, error in self._file.write_lines((data,)):
                raise error
            if self._sync:
                self._file.sync()
            state = self._file.state()
            self._journal.commit(state.st_ino, state.st_size, marks)
        except OSError:
            self._take_back()
            raise
        self._is_torn = False

    def _need_known(self) -> None:
        """Raise OSError if the journal does not know the file that would be written to."""
        if not self._begun:
            msg = "the journal of a new file could not be written"
            raise OSError(msg)

    def _take_back(self) -> None:
        """Remove what was written but cannot be committed. If that fails, it is tried again."""
        # First, for it may say that all of it is there.
        self._journal.take_back()
        last = self._journal.last
        # Nothing is written to a file that is not known.
        if last is not None and last.file == self._file.state().st_ino:
            self._file.cut(last.size)
        self._file.reopen()
        # The path may lead to another file by now, which is to be written down first.
        self._begun = last is not None and last.file == self._file.state().st_ino
        self._is_torn = False

    def close(self, timeout_s: float) -> None:
        """Close the file, and wait for what is being compressed."""
        self._file.close(timeout_s)
        self._journal.close()
        self._lock.close()

    def stats(self) -> dict[str, int]:
        """Count what happened: ``repeated``, messages that came again; what the file counts."""
        return {"repeated": self._repeated, **self._file.stats()}


@final
class _File(RotatingFileDestination):
    """The file, which says when it was begun anew, and asks before it is written to then."""

    def __init__(
        self,
        path: str,
        on_begin: Callable[[], None],
        before_write: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(path, **options)
        self._on_begin = on_begin
        self._before_write = before_write

    def _look(self, more: int) -> None:
        """Put the file aside if it is time. Raises OSError if the new one must not be written."""
        super()._look(more)
        self._before_write()

    def _follow(self) -> None:
        """Begin anew. Raises OSError also if that could not be written down."""
        super()._follow()
        self._on_begin()

    def state(self) -> os.stat_result:
        """Say which file it is, and how large."""
        return os.fstat(self._fd)

    def cut(self, size: int) -> None:
        """Cut off what is behind so many bytes, wherever the file is by now."""
        if sys.platform == "win32":  # where it may only be appended to, and is not renamed
            os.truncate(self._where, size)
        else:
            os.ftruncate(self._fd, size)

    def sync(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self._fd)
