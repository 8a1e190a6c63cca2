"""Tests of reading messages back from a database."""

import sqlite3
from contextlib import closing

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector.sinks import Batch
from eliot_etw.collector.sinks.sqlite import SqliteSink
from eliot_etw.sources import SqliteSource
from tests.collector._processes import lines_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "messages.sqlite"


@pytest.fixture
def sink(path):
    """Return a sink that writes the database."""
    sink = SqliteSink(str(path))
    yield sink
    sink.close(5)


def numbers(source):
    return [message["number"] for message in source]


def test_in_order(sink, path):
    """Messages come in the order in which they were stored; each iteration reads anew."""
    source = SqliteSource(path)
    sink.write(Batch(lines_of(3, start=5))).result()
    sink.write(Batch(lines_of(2, "other"))).result()
    assert numbers(source) == [5, 6, 7, 1, 2]
    sink.write(Batch(lines_of(1, start=9))).result()
    assert numbers(source) == [5, 6, 7, 1, 2, 9]


def test_what_is_no_message_is_left_out(sink, path):
    """A line without a place in a task is none for a tree."""
    sink.write(Batch([b'{"a": 1}', *lines_of(1)])).result()
    assert numbers(SqliteSource(path)) == [1]


@pytest.mark.parametrize("is_searchable", [True, False])
def test_search(sink, path, is_searchable):
    """A search gives whole tasks; what is not yet searchable is looked through."""
    sink.write(Batch(lines_of(2, "a", text="quick brown fox"))).result()
    sink.write(Batch(lines_of(1, "b", text="Quick"))).result()
    sink.write(Batch(lines_of(1, "a", start=3, text="else"))).result()
    if is_searchable:
        sink.flush(5)
    assert numbers(SqliteSource(path, search="quick fox")) == [1, 2, 3]
    assert numbers(SqliteSource(path, search="QUICK")) == [1, 2, 1, 3]
    assert numbers(SqliteSource(path, search='no "such" OR')) == []


def test_task(sink, path):
    """Tasks are chosen by how their ids begin."""
    for task in ("ab1", "ab2", "b", "ab%"):
        sink.write(Batch(lines_of(1, task))).result()
    assert [m["task_uuid"] for m in SqliteSource(path, task="ab")] == ["ab1", "ab2", "ab%"]
    assert [m["task_uuid"] for m in SqliteSource(path, task="ab%")] == ["ab%"]


def test_follow(sink, path):
    """What is added is given by the next poll."""
    followed = SqliteSource(path).follow()
    assert numbers(followed.poll()) == []
    sink.write(Batch(lines_of(2))).result()
    assert numbers(followed.poll()) == [1, 2]
    assert numbers(followed.poll()) == []
    sink.write(Batch(lines_of(1, start=3))).result()
    assert numbers(followed.poll()) == [3]
    followed.close()
    followed.close()
    assert numbers(followed.poll()) == [1, 2, 3]
    followed.close()


def test_writer_is_not_disturbed(sink, path):
    """While somebody reads slowly, the sink writes."""
    sink.write(Batch(lines_of(3_000))).result()
    reading = iter(SqliteSource(path))
    next(reading)
    sink.write(Batch(lines_of(1, "new"))).result()
    assert len(list(reading)) == 2_999


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sqlite:a.sqlite", "sqlite:a.sqlite"),
        ("sqlite:a.sqlite?task=1b", "sqlite:a.sqlite?task=1b"),
        ("sqlite:a.sqlite?search=a+b", "sqlite:a.sqlite?search=a b"),
    ],
)
def test_named(name, expected):
    """A name says the path, and what to look for."""
    assert SqliteSource.named(name).name == expected


@pytest.mark.parametrize("name", ["sqlite:", "sqlite:a?what=b", "sqlite:a?what"])
def test_no_name(name):
    """A name that is none says how to write one."""
    with pytest.raises(ValueError, match="must be followed by a path, and perhaps by search or"):
        SqliteSource.named(name)


def test_no_file(path):
    """A missing file is told as such, and not made."""
    with pytest.raises(FileNotFoundError):
        list(SqliteSource(path))
    assert not path.exists()


def test_something_else(path):
    """What is no database of messages is an error of the file."""
    path.write_bytes(b"something else" * 100)
    with pytest.raises(OSError, match="cannot be read as a database of messages"):
        list(SqliteSource(path))
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE a (b)")
    with pytest.raises(OSError, match="no such table"):
        list(SqliteSource(path))
