"""Values in order, in bounded memory: what is too much waits on disk."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

from eliot_etw._json import decode_line, encode_carefully
from eliot_etw._temporary import temporary_database, writing

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")

# What may be in memory, by the size that the values say they had where they were read: as Python
# objects they take some three times as much.
_BUDGET_BYTES: Final = 16 << 20
_SCHEMA: Final = "CREATE TABLE items (turn INTEGER PRIMARY KEY, name TEXT, time REAL, body BLOB);"
_key = itemgetter(0, 1, 2)


@final
class Sorted(Generic[_T]):
    """Takes values in any order, and gives them, once, by name and time.

    Beyond its budget it keeps them in a private temporary database.
    """

    def __init__(self) -> None:
        self._items: list[tuple[str, float, int, _T]] = []
        self._size_bytes = 0
        self._turn = 0
        self._database: sqlite3.Connection | None = None

    def add(self, value: _T, name: str, time: float, size_bytes: int) -> None:
        """Take a value.

        Args:
            value: Whatever pickle takes.
            name: By this values are sorted first; text without lone surrogates.
            time: By this they are sorted then; not NaN. At one time they stay as they came.
            size_bytes: About how much the value takes, in JSON or another short form.

        Raises:
            OSError: If the disk for temporary files is full.
        """
        self._turn += 1
        self._items.append((name, time, self._turn, value))
        self._size_bytes += size_bytes
        if self._size_bytes > _BUDGET_BYTES:
            self._put_away()

    def __iter__(self) -> Iterator[_T]:
        """Give all values in order. Raises OSError as `add` does."""
        if self._database is None:
            self._items.sort(key=_key, reverse=True)
            while self._items:
                yield self._items.pop()[3]
            return
        self._put_away()
        # At the end, and without the bodies: to keep it in order all the time takes twice as long.
        with writing():
            self._database.execute("CREATE INDEX in_order ON items (name, time, turn)")
        for (body,) in self._database.execute("SELECT body FROM items ORDER BY name, time, turn"):
            yield _unpacked(body)

    def close(self) -> None:
        """Give the room back."""
        if self._database is not None:
            self._database.close()

    def _put_away(self) -> None:
        """Move to disk what is in memory."""
        with writing():
            if self._database is None:
                self._database = temporary_database(_SCHEMA)
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT INTO items (name, time, turn, body) VALUES (?, ?, ?, ?)",
                map(_row, self._items),
            )
            self._database.execute("COMMIT")
        self._items.clear()
        self._size_bytes = 0


def _row(item: tuple[str, float, int, Any]) -> tuple[str, float, int, bytes]:
    return (*item[:3], _packed(item[3]))


def _packed(value: Any) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except RecursionError:  # a message that is nested deeper: what is too deep becomes its repr
        return encode_carefully(value)


def _unpacked(body: bytes) -> Any:
    if body.startswith(pickle.PROTO):
        return pickle.loads(body)  # noqa: S301 - our own bytes, which nobody else can reach
    return decode_line(body)
