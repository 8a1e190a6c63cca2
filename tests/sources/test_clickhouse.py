"""Tests of the source that reads tables of ClickHouse."""

import json
from uuid import uuid4

import pytest

from eliot_etw._json import encode_line
from eliot_etw.shipping._clickhouse import ClickHouseTable
from eliot_etw.sources import ClickHouseSource, clickhouse
from tests import _services


@pytest.fixture
def table():
    """Make a table that no other test uses."""
    name = f"test {uuid4()}"
    made = ClickHouseTable(_services.shared("clickhouse").url, name, timeout_s=30)
    made.prepare()
    yield made
    made._ask(f"DROP TABLE `{name}`".encode())


def message(number, task="a"):
    return {"task_uuid": task, "task_level": [number], "timestamp": 1.0, "message_type": "t"}


def add(table, arrived, *messages):
    """Insert messages that arrived then."""
    rows = b""
    for number, each in enumerate(messages):
        line = encode_line(each).decode()[:-1]
        row = {
            "task_uuid": each["task_uuid"],
            "task_level": "/1",
            "key": str(hash(line)),
            "timestamp": None,
            "type": "",
            "status": "",
            "level": 0,
            "line": line,
            "arrived": arrived,
            "number": number,
        }
        rows += json.dumps(row).encode() + b"\n"
    table.insert(rows)


def source_of(table, **options):
    return ClickHouseSource(table.url, table=table.name, **options)


def followed(table, monkeypatch, **options):
    """Follow a table that may be asked at any time."""
    monkeypatch.setattr(clickhouse, "_POLL_S", 0)
    return source_of(table, **options).follow()


class TestSource:
    """What is read at once."""

    def test_rows_of_others(self, table):
        """What is no message is left out: anybody may add to a table."""
        row = (
            '{"task_uuid":"a","task_level":"","key":"","timestamp":null,"type":"","status":"",'
            '"level":0,"line":%s,"arrived":%d,"number":0}\n'
        )
        for number, line in enumerate(("", "{", "[1]", "{}", '{"task_uuid":"a"}'), 1):
            table.insert((row % (json.dumps(line), number)).encode())
        row = "INSERT INTO `{}` (task_uuid, line) VALUES ('a', unhex('22ff22'))"  # no UTF-8
        table._ask(row.format(table.name).encode())
        add(table, 5, message(1))
        assert list(source_of(table)) == [message(1)]

    def test_no_such_table(self):
        """A table that is not there is an OSError."""
        with pytest.raises(OSError, match="nothing_here"):
            list(ClickHouseSource(_services.shared("clickhouse").url, table="nothing_here"))


class TestFollowed:
    """What is read as it grows."""

    def test_repeated(self, table, monkeypatch):
        """What is sent again is not given again."""
        add(table, 10, message(1), message(2))
        follower = followed(table, monkeypatch)
        assert len(list(follower.poll())) == 2
        add(table, 20, message(1), message(2), message(3))
        assert list(follower.poll()) == [message(3)]

    def test_late(self, table, monkeypatch):
        """What a collector inserts whose clock is behind is given, too, if it is not far."""
        minute = 60_000_000_000
        add(table, 10 * minute, message(1))
        follower = followed(table, monkeypatch)
        assert list(follower.poll()) == [message(1)]
        add(table, 10 * minute - minute // 2, message(2))
        assert list(follower.poll()) == [message(2)]

    def test_many_inserts(self, table, monkeypatch):
        """However many inserts there are, what is remembered of them is bounded."""
        monkeypatch.setattr(clickhouse, "_MOST_GIVEN", 4)
        monkeypatch.setattr(clickhouse, "_MOST_KNOWN", 3)
        follower = followed(table, monkeypatch)
        given = []
        for number in range(1, 15):
            add(table, number, message(number))
            given += follower.poll()
            assert len(follower._given) <= 4
            assert len(follower._known) <= 3
        assert given == [message(number) for number in range(1, 15)]
