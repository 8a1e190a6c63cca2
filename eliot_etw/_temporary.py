"""Private temporary databases, for what is too much for memory.

Each is a database of SQLite that nobody else can see: it has no name, is emptied with the process,
and lives where the environment variable ``SQLITE_TMPDIR`` or ``TMPDIR`` says.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PRAGMAS: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8192;
"""


def temporary_database(schema: str) -> sqlite3.Connection:
    """Make an empty database with these tables, in which transactions are the caller's."""
    database = sqlite3.connect("", isolation_level=None)
    try:
        database.executescript(_PRAGMAS + schema)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def writing() -> Iterator[None]:
    """Raise OSError in place of SQLite's errors: it is the disk for temporary files."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.ENOSPC, f"temporary file: {error}") from None
