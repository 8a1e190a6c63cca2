"""Room on disk for messages that wait for the rest of their task, and for tasks too big."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator
from typing import Any, Final, final

from eliot_etw._json import decode_line, encode_carefully
from eliot_etw._temporary import temporary_database, writing
from eliot_etw.viewers._nodes import Level, Node, Row

_TASKS: Final = """
CREATE TABLE tasks (number INTEGER PRIMARY KEY, uuid BLOB UNIQUE, state BLOB);
CREATE TABLE messages (
    task INTEGER, level BLOB, turn INTEGER, body BLOB, PRIMARY KEY (task, level, turn)
) WITHOUT ROWID;
CREATE TABLE nodes (number INTEGER PRIMARY KEY, body BLOB);
"""
_HALVES: Final = """
CREATE TABLE halves (task BLOB, level BLOB, body BLOB, PRIMARY KEY (task, level)) WITHOUT ROWID;
"""


@final
class Spill:
    """Messages and what is known of their tasks, by the numbers of the tasks."""

    def __init__(self) -> None:
        self._database = temporary_database(_TASKS)
        self._turn = 0

    def put(self, number: int, uuid: str, state: tuple[Any, ...], rows: Iterable[Row]) -> None:
        """Keep the state of a task, and messages of it beside those kept before."""
        with writing():
            self._database.execute(
                "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)",
                (number, _key_of_uuid(uuid), marshal.dumps(state)),
            )
            self._database.executemany(
                "INSERT INTO messages VALUES (?, ?, ?, ?)",
                ((number, _key(row[0]), self._next_turn(), _packed(row)) for row in rows),
            )

    def begin(self) -> None:
        """Begin to put many tasks: together they take a fraction of the time."""
        self._database.execute("BEGIN")

    def commit(self) -> None:
        """End what `begin` began."""
        with writing():
            self._database.execute("COMMIT")

    def state(self, uuid: str) -> tuple[int, tuple[Any, ...]] | None:
        """Return the number and the state of a task, or None if it is not here."""
        found = self._database.execute(
            "SELECT number, state FROM tasks WHERE uuid = ?", (_key_of_uuid(uuid),)
        ).fetchone()
        return found and (found[0], marshal.loads(found[1]))  # noqa: S302 - our own bytes

    def tasks(self) -> Iterator[tuple[int, str, tuple[Any, ...]]]:
        """Give number, uuid and state of every task, in the order of the numbers."""
        for number, uuid, state in self._database.execute("SELECT * FROM tasks ORDER BY number"):
            yield number, uuid.decode("utf-8", "surrogatepass"), marshal.loads(state)  # noqa: S302

    def rows(self, number: int) -> Iterator[Row]:
        """Give the messages of a task sorted backwards by level; of one level, the first first."""
        for (body,) in self._database.execute(
            "SELECT body FROM messages WHERE task = ? ORDER BY level DESC, turn DESC", (number,)
        ):
            level, message = _unpacked(body)
            yield tuple(level), message

    def drop(self, number: int) -> None:
        """Forget a task."""
        self._database.execute("DELETE FROM messages WHERE task = ?", (number,))
        self._database.execute("DELETE FROM tasks WHERE number = ?", (number,))

    def turned(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """Give nodes in the opposite order, without holding them."""
        self._database.execute("DELETE FROM nodes")
        self.begin()
        with writing():
            self._database.executemany(
                "INSERT INTO nodes (body) VALUES (?)", ((_packed(n.as_tuple()),) for n in nodes)
            )
        self.commit()
        for (body,) in self._database.execute("SELECT body FROM nodes ORDER BY number DESC"):
            yield Node.from_tuple(_unpacked(body))

    def close(self) -> None:
        """Give the room back."""
        self._database.close()

    def _next_turn(self) -> int:
        """Number the messages downwards, so that one backward scan gives the first first."""
        self._turn -= 1
        return self._turn


@final
class HalfSpill:
    """Values by task and level: of the starts whose ends have not come, or the other way round."""

    def __init__(self) -> None:
        self._database = temporary_database(_HALVES)

    def put(self, items: Iterable[tuple[str, Level, tuple[Any, ...]]]) -> None:
        """Keep values, in place of those that were kept for the same task and level."""
        with writing():
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT OR REPLACE INTO halves VALUES (?, ?, ?)",
                (
                    (_key_of_uuid(uuid), _key(level), _packed(tuple(values)))
                    for uuid, level, values in items
                ),
            )
            self._database.execute("COMMIT")

    def take(self, uuid: str, level: Level) -> tuple[Any, ...] | None:
        """Return a value, which is not kept any longer; None if there is none."""
        key = _key_of_uuid(uuid), _key(level)
        found = self._database.execute(
            "SELECT body FROM halves WHERE task = ? AND level = ?", key
        ).fetchone()
        if found is None:
            return None
        self._database.execute("DELETE FROM halves WHERE task = ? AND level = ?", key)
        return tuple(_unpacked(found[0]))

    def all(self) -> Iterator[tuple[Any, ...]]:
        """Give all values that are kept."""
        for (body,) in self._database.execute("SELECT body FROM halves"):
            yield tuple(_unpacked(body))

    def close(self) -> None:
        """Give the room back."""
        self._database.close()


def _key(level: Level) -> bytes:
    """Write a level so that bytes sort as levels do: each position as its length and its bytes."""
    pieces = []
    for position in level:
        size = (position.bit_length() + 7) // 8
        # A position of more than 2,000 bits is no honest one: all such are the same to us.
        pieces.append(
            bytes([size]) + position.to_bytes(size, "big") if size < 255 else b"\xff" * 256
        )
    return b"".join(pieces)


def _key_of_uuid(uuid: str) -> bytes:
    return uuid.encode("utf-8", "surrogatepass")


def _packed(value: tuple[Any, ...]) -> bytes:
    """Write values so that all that JSON can hold comes back the same."""
    try:
        return b"m" + marshal.dumps(value)
    except ValueError:  # nested deeper than marshal goes: what is too deep becomes its repr
        return b"j" + encode_carefully(value)


def _unpacked(body: bytes) -> Any:
    if body.startswith(b"m"):
        return marshal.loads(memoryview(body)[1:])  # noqa: S302 - our own bytes
    return decode_line(body[1:])
