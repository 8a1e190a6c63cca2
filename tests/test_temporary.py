"""Tests of private temporary databases."""

import sqlite3

import pytest

from eliot_etw import _temporary


def test_closed_if_it_cannot_be_made(monkeypatch):
    """One that the disk has no room for is not left open."""
    made = []
    connect = sqlite3.connect

    def note(*arguments, **options):
        made.append(connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(_temporary.sqlite3, "connect", note)
    full = "PRAGMA max_page_count = 1; CREATE TABLE one (x); CREATE TABLE two (x);"
    with pytest.raises(sqlite3.OperationalError, match="full"):
        _temporary.temporary_database(full)
    (database,) = made
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")
