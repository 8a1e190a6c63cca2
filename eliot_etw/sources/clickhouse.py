"""Messages read back from a table of ClickHouse."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, Final, final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from eliot_etw._names import CLICKHOUSE
from eliot_etw.shipping._clickhouse import (
    DEFAULT_TABLE,
    DEFAULT_URL,
    ClickHouseTable,
    Refused,
    quoted,
)
from eliot_etw.shipping._engines import without_password
from eliot_etw.sources._entries import message_of
from eliot_etw.typing import MessageDict

# ClickHouse sorts before it begins to answer.
_TIMEOUT_S: Final = 300.0
# How often ClickHouse is asked what is new.
_POLL_S: Final = 0.5
# Sinks on several machines write to one table: what has arrived is there in the order of their
# clocks but for so much, and inserts that take their time.
_WINDOW_NS: Final = 60_000_000_000
# So many inserts within that time are known; a query may not be too long.
_MOST_GIVEN: Final = 4_000
# So many messages that were given are known if they come again.
_MOST_KNOWN: Final = 100_000
# What it says if there is no such table, or database.
_NOT_THERE: Final = (60, 81)


@final
class ClickHouseSource:
    """The messages in a table that a collector's `ClickHouseSink` writes, as they came.

    Each iteration reads what is there, in bounded memory, each message once. It raises `OSError`
    if ClickHouse cannot be reached, or refuses.

    Args:
        url: Where ClickHouse is, as ``clickhouse://user:password@host:port/database``, or
            ``clickhouses:`` with TLS.
        table: The name of the table.
        task: Only tasks whose ``task_uuid`` begins so.

    Raises:
        ValueError: If the URL is none of ClickHouse.

    Attributes:
        name: What to call it in reports; without a password.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, table: str = DEFAULT_TABLE, task: str | None = None
    ) -> None:
        self._table = ClickHouseTable(url, table, timeout_s=_TIMEOUT_S)
        self._task = task or ""
        self.name = f"{self._table.url}?table={table}" + (f"&task={task}" if task else "")

    @classmethod
    def named(cls, name: str) -> ClickHouseSource:
        """Make the source that a command line names.

        >>> ClickHouseSource.named("clickhouse://127.0.0.1:8123/default?task=7a1f").name
        'clickhouse://127.0.0.1:8123/default?table=messages&task=7a1f'

        Raises:
            ValueError: If it names none.
        """
        parts = urlsplit(name)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        table, task = options.pop("table", DEFAULT_TABLE), options.pop("task", None)
        if options or not table or not parts.hostname:
            msg = (
                f"{CLICKHOUSE} must be followed by //host:port/database, and perhaps by "
                f"?table=NAME&task=UUID, got {without_password(name)!r}. "
                f"Write {DEFAULT_URL}?table={DEFAULT_TABLE}"
            )
            raise ValueError(msg)
        return cls(urlunsplit(parts._replace(query="")), table=table, task=task)

    def __iter__(self) -> Iterator[MessageDict]:
        for row in _rows(self._table, "line", once=True, where=_condition(self._task)):
            message = message_of(row["line"].encode())
            if message is not None:
                yield message

    def follow(self) -> FollowedClickHouse:
        """Return what reads the same table as it grows."""
        return FollowedClickHouse(self.name, self._table, self._task)


@final
class FollowedClickHouse:
    """The messages of a table that grows, as `ClickHouseSource.follow` makes it.

    It looks back a minute each time, for what came late from a collector whose clock is behind;
    and leaves out what it gave, of the last 100,000 messages.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(self, name: str, table: ClickHouseTable, task: str) -> None:
        self.name = name
        self._table = table
        self._task = task
        self._is_caught_up = False
        self._next_at = 0.0
        # The latest inserts of which all was given, by when they arrived: ClickHouse takes an
        # insert as a whole. What arrived before is not looked at.
        self._given: set[int] = set()
        self._latest = 0
        self._since = 0
        self._known: dict[str, None] = {}

    def poll(self) -> Iterator[MessageDict]:
        """Give what is there and was not given yet; waits for nothing but ClickHouse's answers.

        Raises:
            OSError: If ClickHouse cannot be reached, or refuses.
        """
        if monotonic() < self._next_at:
            return
        where = f"{_condition(self._task)} AND arrived > {self._since}"
        if self._given:
            where += f" AND arrived NOT IN ({','.join(map(str, self._given))})"
        columns = "arrived, key, line"
        current = 0
        with suppress(FileNotFoundError):  # nobody has made it yet
            for row in _rows(self._table, columns, once=not self._is_caught_up, where=where):
                arrived = int(row["arrived"])
                if arrived != current:
                    self._finish(current)
                    current = arrived
                if self._is_new(row["key"]):
                    message = message_of(row["line"].encode())
                    if message is not None:
                        yield message
            self._finish(current)
            self._is_caught_up = True
        self._next_at = monotonic() + _POLL_S

    def _finish(self, arrived: int) -> None:
        """Remember that an insert was given, and how far to look back."""
        if not arrived:
            return
        self._given.add(arrived)
        self._latest = max(self._latest, arrived)
        self._since = max(self._since, self._latest - _WINDOW_NS)
        if len(self._given) > _MOST_GIVEN:
            kept = sorted(each for each in self._given if each > self._since)[-_MOST_GIVEN // 2 :]
            self._since = max(self._since, kept[0] - 1)
            self._given = set(kept)

    def _is_new(self, key: str) -> bool:
        """Say whether a message was not given yet, as far as that is known."""
        if key in self._known:
            return False
        self._known[key] = None
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return True

    def close(self) -> None:
        """Stop following."""


def _rows(table: ClickHouseTable, columns: str, *, once: bool, where: str) -> Iterator[Any]:
    """Read rows of a table.

    Raises:
        FileNotFoundError: If there is no such table.
        OSError: If it cannot be read.
    """
    try:
        yield from table.rows(columns, once=once, where=where)
    except OSError as error:
        is_missing = isinstance(error, Refused) and error.code in _NOT_THERE
        raise OSError(
            errno.ENOENT if is_missing else errno.EIO, f"{table.url}: {error}"
        ) from error


def _condition(task: str) -> str:
    """Write which messages are wanted, so that the index finds them."""
    if not task:
        return "task_uuid != ''"
    return f"task_uuid >= {quoted(task)} AND task_uuid < {quoted(task + chr(0x10FFFF))}"
