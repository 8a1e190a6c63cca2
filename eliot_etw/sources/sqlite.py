"""Messages read back from a database of SQLite, as a collector stores them."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final
from urllib.parse import parse_qsl

from eliot_etw._json import decode_line
from eliot_etw._names import SQLITE
from eliot_etw._written import place_of
from eliot_etw.typing import MessageDict

_KEYS: Final = ("search", "task")
# So many messages are read with one query: nobody who writes has to wait for a reader.
_STEP: Final = 2_000


@final
class SqliteSource:
    """The messages in a database that a collector's `SqliteSink` writes, as they came.

    Each iteration reads it anew, in bounded memory, while others may write. It raises `OSError`
    if the file cannot be read, or is something else.

    Args:
        path: The file.
        search: Words: only tasks that have a message with all of them in it. A word matches
            whole words, whatever their case.
        task: Only tasks whose ``task_uuid`` begins so.

    Attributes:
        name: What to call it in reports, which is also what `named` takes.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, search: str | None = None, task: str | None = None
    ) -> None:
        self._path = Path(path)
        self._search = search.split() if search else []
        self._task = task or ""
        chosen = [("search", search), ("task", task)]
        options = "&".join(f"{key}={value}" for key, value in chosen if value)
        self.name = f"{SQLITE}{self._path}" + (f"?{options}" if options else "")

    @classmethod
    def named(cls, name: str) -> SqliteSource:
        """Make the source that a command line names.

        >>> SqliteSource.named("sqlite:messages.sqlite?search=timeout").name
        'sqlite:messages.sqlite?search=timeout'

        Raises:
            ValueError: If it names none.
        """
        path, _, query = name.removeprefix(SQLITE).partition("?")
        chosen = dict(parse_qsl(query, keep_blank_values=True))
        unknown = sorted(chosen.keys() - {*_KEYS})
        if not path or unknown or (query and not chosen):
            msg = (
                f"{SQLITE} must be followed by a path, and perhaps by {' or '.join(_KEYS)}, "
                f"got {name!r}. Write {SQLITE}messages.sqlite?search=timeout"
            )
            raise ValueError(msg)
        return cls(path, search=chosen.get("search"), task=chosen.get("task"))

    def __iter__(self) -> Iterator[MessageDict]:
        reader = _Reader(self._path, self._search, self._task)
        try:
            yield from reader.messages()
        finally:
            reader.close()

    def follow(self) -> FollowedSqlite:
        """Return what reads the same database as it grows."""
        return FollowedSqlite(self.name, self._path, self._search, self._task)


@final
class FollowedSqlite:
    """The messages of a database that a collector writes to, as `SqliteSource.follow` makes it.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(self, name: str, path: Path, words: list[str], task: str) -> None:
        self.name = name
        self._arguments = (path, words, task)
        self._reader: _Reader | None = None

    def poll(self) -> Iterator[MessageDict]:
        """Give what is there and was not given yet; never waits.

        Raises:
            OSError: If the file cannot be read.
        """
        if self._reader is None:
            self._reader = _Reader(*self._arguments)
        yield from self._reader.messages()

    def close(self) -> None:
        """Stop following. A later `poll` begins anew."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


@final
class _Reader:
    """Reads on where it has stopped."""

    def __init__(self, path: Path, words: list[str], task: str) -> None:
        """Open the file. Raises OSError if that is not possible."""
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._words = words
        self._task = task
        self._last = 0
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error)) from error

    def messages(self) -> Iterator[MessageDict]:
        """Give the messages that were not given yet."""
        try:
            (end,) = self._connection.execute("SELECT max(id) FROM messages").fetchone()
            where, values = self._condition(end or 0)
            while rows := self._connection.execute(
                f"SELECT id, line FROM messages WHERE id > ? AND id <= ? {where} "  # noqa: S608 - of fixed texts
                f"ORDER BY id LIMIT {_STEP}",
                (self._last, end, *values),
            ).fetchall():
                for number, line in rows:
                    self._last = number
                    message = decode_line(line.encode())
                    if place_of(message):
                        yield message
        except sqlite3.Error as error:
            raise OSError(
                errno.EIO, f"cannot be read as a database of messages: {error}"
            ) from error

    def _condition(self, end: int) -> tuple[str, list[str | int]]:
        """Make the condition on what is wanted, and its values."""
        where, values = "", list[str | int]()
        if self._task:
            # By the index, as LIKE is not.
            where += " AND task_uuid >= ? AND task_uuid < ?"
            values += [self._task, self._task + "\U0010ffff"]
        if self._words:
            self._find(end)
            where += " AND task_uuid IN (SELECT task_uuid FROM temp.found)"
        return where, values

    def _find(self, end: int) -> None:
        """Find the tasks that have a message with all words in it."""
        execute = self._connection.execute
        execute("CREATE TEMP TABLE IF NOT EXISTS found (task_uuid TEXT PRIMARY KEY)")
        (through,) = execute("SELECT through FROM main.searched").fetchone()
        phrases = " ".join('"' + word.replace('"', '""') + '"' for word in self._words)
        execute(
            "INSERT OR IGNORE INTO temp.found SELECT task_uuid FROM messages "
            "WHERE id IN (SELECT rowid FROM search WHERE search MATCH ?)",
            (phrases,),
        )
        # What is too new to be searchable is looked through.
        contains = " AND ".join(["instr(lower(line), lower(?))"] * len(self._words))
        execute(
            "INSERT OR IGNORE INTO temp.found SELECT task_uuid FROM messages "  # noqa: S608 - as above
            f"WHERE id > ? AND id <= ? AND {contains}",
            (max(through, self._last), end, *self._words),
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
