"""Messages in a database of SQLite: tasks, actions and messages, indexed and searchable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from time import monotonic, time
from typing import Any, Final, TypeAlias, final

from eliot_etw._levels import INFO
from eliot_etw._names import END_STATUSES, FAILED
from eliot_etw.collector._batch import Head
from eliot_etw.collector._lock import own
from eliot_etw.collector.sinks import Batch, BlockingSink, SinkUnavailable

_VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_uuid TEXT NOT NULL,
    task_level TEXT NOT NULL,
    digest BLOB NOT NULL,
    timestamp REAL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    level INTEGER NOT NULL,
    line TEXT NOT NULL,
    UNIQUE (task_uuid, task_level, digest)
);
CREATE INDEX IF NOT EXISTS messages_by_time ON messages (timestamp);
CREATE INDEX IF NOT EXISTS messages_by_type ON messages (type, timestamp);
CREATE TABLE IF NOT EXISTS actions (
    task_uuid TEXT NOT NULL,
    task_level TEXT NOT NULL,
    type TEXT NOT NULL,
    began REAL,
    ended REAL,
    status TEXT NOT NULL,
    PRIMARY KEY (task_uuid, task_level)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS actions_by_type ON actions (type, began);
CREATE TABLE IF NOT EXISTS tasks (
    task_uuid TEXT PRIMARY KEY,
    type TEXT,
    began REAL,
    latest REAL,
    status TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_by_time ON tasks (began);
CREATE TABLE IF NOT EXISTS searched (through INTEGER NOT NULL);
INSERT INTO searched SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM searched);
"""
_SEARCH: Final = """
CREATE VIRTUAL TABLE IF NOT EXISTS search
    USING fts5 (line, content = 'messages', content_rowid = 'id');
CREATE TRIGGER IF NOT EXISTS messages_leave_search AFTER DELETE ON messages
    WHEN old.id <= (SELECT through FROM searched)
    BEGIN INSERT INTO search (search, rowid, line) VALUES ('delete', old.id, old.line); END;
"""
_MESSAGES: Final = (
    "INSERT OR IGNORE INTO messages "
    "(task_uuid, task_level, digest, timestamp, type, status, level, line) VALUES",
    "(?,?,?,?,?,?,?,?)",
    "",
)
_ACTIONS: Final = (
    "INSERT INTO actions (task_uuid, task_level, type, began, ended, status) VALUES",
    "(?,?,?,?,?,?)",
    "ON CONFLICT DO UPDATE SET began = coalesce(excluded.began, began), "
    "ended = coalesce(excluded.ended, ended), "
    "status = CASE excluded.status WHEN 'started' THEN status ELSE excluded.status END",
)
_TASKS: Final = (
    "INSERT INTO tasks (task_uuid, type, began, latest, status) VALUES",
    "(?,?,?,?,?)",
    "ON CONFLICT DO UPDATE SET type = coalesce(excluded.type, type), "
    "began = min(coalesce(began, excluded.began), coalesce(excluded.began, began)), "
    "latest = max(coalesce(latest, excluded.latest), coalesce(excluded.latest, latest)), "
    "status = CASE coalesce(excluded.status, 'started') "
    "WHEN 'started' THEN coalesce(status, excluded.status) ELSE excluded.status END",
)
# So many rows are one statement: SQLite lets other threads run once for each statement, and Python
# then may have to wait for them; and it is a fifth quicker than one by one.
_ROWS: Final = 50
# So many messages are made searchable at once, and so many deleted.
_STEP: Final = 2_000
_MOST_DELETED: Final = 20_000
_DELETE_EVERY_S: Final = 10.0

_Statement: TypeAlias = tuple[str, str, str]
_Row: TypeAlias = tuple[Any, ...]


@final
class SqliteSink(BlockingSink):
    """Keeps messages in a file that any program with SQLite can ask.

    The table ``messages`` has a row for each message, with its whole line; ``actions`` and
    ``tasks`` sum up those that belong together; ``search`` finds words in the lines. A batch is
    one transaction, so that a collector that is killed leaves none halfway. What comes again has
    the same place and the same contents, and is left out; other contents in the same place stay
    beside the first.

    Words are made searchable when there is nothing to store; readers look through the newest
    messages themselves until then.

    Args:
        path: The file.
        search: Whether words can be searched.
        keep_s: For how many seconds messages are kept, by their timestamps; forever, if left out.
        sync: Whether a message is stored only when it is on the disk and outlives a loss of
            power. If not, it is in the operating system, and outlives the collector's end.

    Raises:
        OSError: If the file cannot be opened, is something else, or belongs to another collector.
        ValueError: If `keep_s` is not above 0, or this Python's SQLite cannot search.
    """

    def __init__(
        self,
        path: str,
        *,
        search: bool = True,
        keep_s: float | None = None,
        sync: bool = False,
    ) -> None:
        if keep_s is not None and not keep_s > 0:
            msg = f"keep_s must be above 0, got {keep_s!r}. Say how many seconds."
            raise ValueError(msg)
        where = Path(path).expanduser()
        self._path = str(where)
        self._keep_s = keep_s
        self._delete_at = 0.0
        self._has_search = search
        self._counts = {"repeated": 0, "deleted": 0}
        self._lock = own(where.with_name(f"{where.name}.lock"))
        try:
            self._connection = self._connect(sync=sync)
        except BaseException:
            self._lock.close()
            raise

    def _connect(self, *, sync: bool) -> sqlite3.Connection:
        """Open the file, and make what is missing in it."""
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=5.0
            )
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from error
        try:
            self._prepare(connection, sync=sync)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise OSError(f"{self._path}: {error}") from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, *, sync: bool) -> None:
        """Make what is missing. Raises OSError if a later release made the file."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            msg = f"{self._path} was made by a later release, which calls it version {version}."
            raise OSError(msg)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
        connection.execute("PRAGMA cache_size = -32768")
        connection.executescript(_TABLES)
        if self._has_search:
            self._make_searchable(connection)
        connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _make_searchable(self, connection: sqlite3.Connection) -> None:
        """Make the table of words. Raises ValueError if that is not possible here."""
        try:
            connection.executescript(_SEARCH)
        except sqlite3.OperationalError as error:
            if "fts5" not in str(error):
                raise
            msg = f"search needs SQLite with FTS5, which this Python has not: {error}. Set it off."
            raise ValueError(msg) from error

    def store(self, batch: Batch) -> None:
        """Write all rows in one transaction."""
        messages, actions, tasks = _rows_of(batch)
        connection = self._connection
        try:
            with _transaction(connection):
                before = connection.total_changes
                self._insert(_MESSAGES, messages)
                self._counts["repeated"] += len(messages) - (connection.total_changes - before)
                self._insert(_ACTIONS, actions)
                self._insert(_TASKS, tasks)
                self._delete_old()
        except sqlite3.Error as error:
            raise SinkUnavailable(f"{self._path}: {error}") from error

    def _insert(self, statement: _Statement, rows: Sequence[_Row]) -> None:
        """Insert rows, many with one statement."""
        into, values, after = statement
        execute = self._connection.execute
        whole = len(rows) - len(rows) % _ROWS
        many = f"{into} {','.join([values] * _ROWS)} {after}"
        for start in range(0, whole, _ROWS):
            execute(many, list(chain.from_iterable(rows[start : start + _ROWS])))
        self._connection.executemany(f"{into} {values} {after}", rows[whole:])

    def _delete_old(self) -> None:
        """Delete what is too old, some of it at a time."""
        if self._keep_s is None or monotonic() < self._delete_at:
            return
        self._delete_at = monotonic() + _DELETE_EVERY_S
        before = time() - self._keep_s
        execute = self._connection.execute
        gone = execute(
            "DELETE FROM messages WHERE id IN "
            "(SELECT id FROM messages WHERE timestamp < ? ORDER BY timestamp LIMIT ?)",
            (before, _MOST_DELETED),
        ).rowcount
        if gone == _MOST_DELETED:
            self._delete_at = 0.0
        execute(
            "DELETE FROM actions "
            "WHERE task_uuid IN (SELECT task_uuid FROM tasks WHERE latest < ?)",
            (before,),
        )
        execute("DELETE FROM tasks WHERE latest < ?", (before,))
        self._counts["deleted"] += gone

    def flush(self, timeout_s: float) -> None:
        """Make words searchable, and delete what is too old."""
        until = monotonic() + timeout_s
        # Somebody else may be reading it, or the disk be full: it is done another time.
        with suppress(sqlite3.Error):
            with _transaction(self._connection):
                self._delete_old()
            while self._has_search and monotonic() < until and self._make_some_searchable():
                pass

    def _make_some_searchable(self) -> bool:
        """Make some messages searchable; say whether there may be more."""
        execute = self._connection.execute
        (done,) = execute("SELECT through FROM searched").fetchone()
        (last,) = execute("SELECT max(id) FROM messages").fetchone()
        if last is None or last <= done:
            return False
        through = min(last, done + _STEP)
        with _transaction(self._connection):
            execute(
                "INSERT INTO search (rowid, line) "
                "SELECT id, line FROM messages WHERE id > ? AND id <= ?",
                (done, through),
            )
            execute("UPDATE searched SET through = ?", (through,))
        return bool(through < last)

    def close(self, timeout_s: float) -> None:
        """Close the file."""
        self._connection.close()
        self._lock.close()

    def stats(self) -> dict[str, int]:
        """Count what happened: ``repeated``, messages that came again; ``deleted``, too old."""
        return self._counts.copy()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # some failures end it themselves
            connection.execute("ROLLBACK")
        raise


def _rows_of(batch: Batch) -> tuple[list[_Row], list[_Row], list[_Row]]:
    """Make the rows of messages, actions and tasks."""
    messages: list[_Row] = []
    actions: list[_Row] = []
    tasks: dict[str, list[Any]] = {}
    for line, head, key in zip(batch.lines, batch.heads, batch.keys(), strict=True):
        uuid, level, digest = key
        time_ = head.timestamp
        status = head.action_status
        messages.append(
            (uuid, level, digest, time_, head.type, status, _level(head), line.decode())
        )
        if not uuid:
            continue
        task = tasks.get(uuid)
        if task is None:
            task = tasks[uuid] = [uuid, None, time_, time_, None]
        elif time_ is not None:
            task[2] = time_ if task[2] is None else min(task[2], time_)
            task[3] = time_ if task[3] is None else max(task[3], time_)
        if head.action_type:
            action = level[: level.rindex("/")] or "/"
            is_end = status in END_STATUSES
            times = (None, time_) if is_end else (time_, None)
            actions.append((uuid, action, head.action_type, *times, status))
            if action == "/":
                task[1] = head.action_type
                if is_end or task[4] is None:
                    task[4] = status
    return messages, actions, [tuple(task) for task in tasks.values()]


def _level(head: Head) -> int:
    """Return the level of a message."""
    # Most messages say nothing about it, and this is asked for each.
    if head.log_level is None and head.action_type and head.action_status != FAILED:
        return INFO
    return head.level
