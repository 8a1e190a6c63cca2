"""Tests of the SQLite sink: each message is a row once, and tasks and actions sum them up."""

import json
import sqlite3
from contextlib import closing

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import add_destinations, log_message, start_action
from eliot_etw._json import encode_line
from eliot_etw.collector.sinks import Batch, Origin, SinkUnavailable
from eliot_etw.collector.sinks import sqlite as sqlite_sink
from eliot_etw.collector.sinks.sqlite import SqliteSink
from eliot_etw.destinations.memory import MemoryDestination
from eliot_etw.sources import SqliteSource
from tests.collector._processes import lines_of
from tests.test_parse import odd_messages


@pytest.fixture
def path(tmp_path):
    return tmp_path / "messages.sqlite"


@pytest.fixture
def open_sink(path):
    """Return a function that opens the sink; all are closed at the end."""
    opened = []

    def open_sink(**options):
        opened.append(SqliteSink(str(path), **options))
        return opened[-1]

    yield open_sink
    for sink in opened:
        sink.close(5)


def ask(path, question, *values):
    """Ask the database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question, values).fetchall()


def store(sink, messages):
    """Store messages as one batch."""
    sink.write(Batch([encode_line(message)[:-1] for message in messages])).result()


def some_tasks():
    """Log two tasks, one of which fails."""
    destination = MemoryDestination()
    add_destinations(destination)
    with start_action(action_type="good"), start_action(action_type="inner"):
        log_message(message_type="note", text="Grüße")
    with pytest.raises(ZeroDivisionError), start_action(action_type="bad"):
        1 / 0  # noqa: B018
    return destination.messages


def test_read_back(open_sink, path):
    """The source gives what was stored, as it was and in its order."""
    messages = some_tasks()
    store(open_sink(), messages)
    assert list(SqliteSource(path)) == json.loads(json.dumps(messages))


@given(st.lists(odd_messages, max_size=20))
def test_any_messages(tmp_path_factory, messages):
    """Whatever messages hold, they are stored, and those with a place are read back."""
    path = tmp_path_factory.mktemp("any") / "messages.sqlite"
    sink = SqliteSink(str(path))
    try:
        store(sink, messages)
        assert len(ask(path, "SELECT * FROM messages")) <= len(messages)
        list(SqliteSource(path))
    finally:
        sink.close(5)


def test_tables(open_sink, path):
    """Actions and tasks say when, and how it ended."""
    messages = some_tasks()
    sink = open_sink()
    # In an order that they may come in from several programs.
    for message in reversed(messages):
        store(sink, [message])
    actions = ask(path, "SELECT type, status, ended >= began FROM actions ORDER BY began")
    assert actions == [("good", "succeeded", 1), ("inner", "succeeded", 1), ("bad", "failed", 1)]
    tasks = ask(path, "SELECT type, status, began, latest FROM tasks ORDER BY began")
    times = [m["timestamp"] for m in messages]
    assert tasks == [
        ("good", "succeeded", times[0], times[4]),
        ("bad", "failed", times[5], times[6]),
    ]
    assert ask(path, "SELECT count(*) FROM messages WHERE level >= 40") == [(1,)]


def test_repeated(open_sink, path):
    """What comes again is left out; other contents in the same place stay beside the first."""
    sink = open_sink()
    one, other = lines_of(1)[0], lines_of(1, more=1)[0]
    for lines in ([one], [one, other], [other, one]):
        sink.write(Batch(lines)).result()
    assert ask(path, "SELECT line FROM messages ORDER BY id") == [
        (one.decode(),),
        (other.decode(),),
    ]
    assert sink.stats()["repeated"] == 3


def test_no_place(open_sink, path):
    """Messages without a place are kept, and told apart by their numbers."""
    batch = Batch([b'{"a":1}', b'{"a":1}'], [Origin("s", [1, 2])])
    sink = open_sink()
    sink.write(batch).result()
    sink.write(batch).result()
    assert len(ask(path, "SELECT * FROM messages")) == 2
    assert ask(path, "SELECT * FROM tasks") == []


def test_new_after_all_were_old(open_sink, path, monkeypatch):
    """What comes after all was deleted is found, followed, and deleted in its time."""
    now = 1_000_000.0
    monkeypatch.setattr(sqlite_sink, "time", lambda: now)
    monkeypatch.setattr(sqlite_sink, "_DELETE_EVERY_S", 0.0)
    sink = open_sink(keep_s=60)
    for age in (100, 0):
        now = 1_000_000.0 + 100 - age
        place = {"task_uuid": f"t{age}", "task_level": [1], "timestamp": now}
        store(sink, [{**place, "message_type": "test:m", "word": f"word{age}"}])
        sink.flush(5)
        assert [m["word"] for m in SqliteSource(path, search=f"word{age}")] == [f"word{age}"]
        now += 61
        sink.flush(5)
        assert ask(path, "SELECT * FROM messages") == []
    assert sink.stats()["deleted"] == 2


def test_many(open_sink, path):
    """Rows that are written with one statement, and those that are left over, are all there."""
    sink = open_sink()
    sink.write(Batch(lines_of(1_234))).result()
    assert [m["number"] for m in SqliteSource(path)] == [*range(1, 1_235)]


def test_locked(open_sink, path, monkeypatch):
    """While somebody else has the file the batch is to come again; nothing of it is in."""
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, c=sqlite3.connect, **k: c(*a, **{**k, "timeout": 0.05})
    )
    sink = open_sink()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailable, match="locked"):
            sink.write(Batch(lines_of(3))).result()
        other.execute("ROLLBACK")
    sink.write(Batch(lines_of(3))).result()
    assert len(ask(path, "SELECT * FROM messages")) == 3


def test_full_disk(open_sink, path):
    """What a full disk does not take wholly is not there; it can be stored when there is room."""
    sink = open_sink()
    limit = sink._connection.execute
    messages = []
    for more in range(12):
        (pages,) = limit("PRAGMA page_count").fetchone()
        limit(f"PRAGMA max_page_count = {pages + more}")
        new = [
            *some_tasks(),
            *some_tasks(),
            {"message_type": "large", "text": "x" * 90_000, "n": more},
        ]
        with pytest.raises(SinkUnavailable, match="full"):
            store(sink, new)
        sink.flush(1)
        limit("PRAGMA max_page_count = 1000000")
        store(sink, new)
        messages += new
        found = [line for (line,) in ask(path, "SELECT line FROM messages ORDER BY id")]
        assert found == [encode_line(message)[:-1].decode() for message in messages]


def test_too_old(open_sink, path):
    """What is older than it may be is deleted, with its tasks, actions and words."""
    sink = open_sink(keep_s=3600)
    store(sink, some_tasks())
    sink.flush(5)
    sink._delete_at = 0.0
    store(sink, [{**message, "timestamp": 1.5} for message in some_tasks()])
    assert sink.stats()["deleted"] == 7
    assert ask(path, "SELECT count(*) FROM messages") == [(7,)]
    assert ask(path, "SELECT count(*), min(began) > 1000 FROM tasks") == [(2, 1)]


def test_search_stays_right_after_deletion(open_sink, path):
    """Words of what is deleted are found no more."""
    sink = open_sink()
    sink.write(Batch(lines_of(3, text="needle"))).result()
    sink.flush(5)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM messages WHERE id = 2")
        other.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    assert ask(path, "SELECT rowid FROM search WHERE search MATCH 'needle'") == [(1,), (3,)]


def test_wrong_file(path):
    """A file that is something else is left alone."""
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(OSError, match="not a database"):
        SqliteSink(str(path))
    assert path.read_bytes().startswith(b"no database")


def test_later_release(open_sink, path):
    """A file that a later release made is left alone."""
    open_sink().close(5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(OSError, match="made by a later release"):
        SqliteSink(str(path))


def test_wrong_options(path):
    """keep_s must be a time."""
    with pytest.raises(ValueError, match="keep_s must be above 0"):
        SqliteSink(str(path), keep_s=0)
