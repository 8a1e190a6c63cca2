"""Tests of private temporary databases."""

import sqlite3
from contextlib import closing

import pytest

from eliot_etw import _temporary
from eliot_etw._temporary import temporary_database, writing


def test_own_tables():
    """Each is a database of its own."""
    for _ in range(2):
        with closing(temporary_database("CREATE TABLE t (n INTEGER)")) as database:
            database.execute("INSERT INTO t VALUES (5)")
            assert [(5,)] == database.execute("SELECT n FROM t").fetchall()


def test_full_disk():
    """What SQLite cannot write is an error of the system's kind, which says where."""
    schema = "PRAGMA max_page_count = 2; CREATE TABLE t (n BLOB)"
    with (
        closing(temporary_database(schema)) as database,
        pytest.raises(OSError, match=r"temporary file: .*full"),
        writing(),
    ):
        database.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))


def test_closed_if_it_cannot_be_made(monkeypatch):
    """One that the disk has no room for is not left open."""
    made = []
    connect = sqlite3.connect

    def note(*arguments, **options):
        made.append(connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(_temporary.sqlite3, "connect", note)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        temporary_database("PRAGMA max_page_count = 1; CREATE TABLE t (n BLOB)")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")
