"""Tests of the ClickHouse sink: each message is read back once, and as it was."""

import signal
import threading
from uuid import uuid4

import pytest

pytest.importorskip("msgspec")


from eliot_etw.collector.sinks import Batch, MessagesRefused, Origin, SinkUnavailable
from eliot_etw.collector.sinks.clickhouse import ClickHouseSink
from eliot_etw.shipping._clickhouse import ClickHouseTable
from eliot_etw.sources import ClickHouseSource
from tests import _services
from tests.collector._processes import lines_of, wait_until
from tests.collector.sinks._batches import batch_of, some


def ask(url, question):
    """Ask ClickHouse, and return what it says."""
    return ClickHouseTable(url, "any", timeout_s=30)._ask(question.encode()).decode()


@pytest.fixture
def url():
    return _services.shared("clickhouse").url


@pytest.fixture
def table(url):
    """Name a table that no other test uses."""
    name = f"test {uuid4()}"
    yield name
    ask(url, f"DROP TABLE IF EXISTS `{name}`")


def sink_for(url, table):
    return ClickHouseSink(url, table, every_s=0)


def stored(url, table):
    """Read what is in a table."""
    return list(ClickHouseSource(url, table=table))


class TestStored:
    """What the source reads is what the sink was given."""

    @pytest.mark.parametrize("text", ["'\\\"\n\t\0", "Grüße 😀", "x" * 12_000_000])
    def test_texts(self, url, table, text):
        """Texts are stored as they are, also where they mean something to ClickHouse."""
        messages = [{**some(1)[0], "task_uuid": text[:100], "message_type": text[:100], "x": text}]
        sink_for(url, table).store(batch_of(messages))
        assert stored(url, table) == messages

    def test_columns(self, url, table):
        """Columns say what people ask for."""
        message = {
            "task_uuid": "a",
            "task_level": [2, 1],
            "timestamp": 1.5,
            "action_type": "t",
            "action_status": "failed",
        }
        odd = {"task_uuid": "a", "task_level": [3], "timestamp": None, "log_level": 10**30}
        sink_for(url, table).store(batch_of([message, odd]))
        asked = "task_uuid, task_level, timestamp, type, status, level"
        said = ask(url, f"SELECT {asked} FROM `{table}` ORDER BY number")
        assert said == f"a\t/2/1\t1.5\tt\tfailed\t40\na\t/3\t\\N\t\t\t{2**31 - 1}\n"

    def test_many(self, url, table):
        """A batch is one insert, whatever its length."""
        sink = sink_for(url, table)
        sink.store(Batch(lines_of(20_000)))
        assert sink.stats() == {"inserts": 1, "repeated": 0}
        assert [m["number"] for m in stored(url, table)] == [*range(1, 20_001)]
        assert ask(url, f"SELECT count(DISTINCT arrived) FROM `{table}`") == "1\n"

    def test_no_place(self, url, table):
        """Messages without a place are kept, told apart by their numbers, and not read as some."""
        batch = Batch([b'{"a":1}', b'{"a":1}'], [Origin("s", [1, 2])])
        sink = sink_for(url, table)
        sink.store(batch)
        sink.store(batch)
        assert ask(url, f"SELECT count() FROM `{table}` FINAL") == "2\n"
        assert stored(url, table) == []


class TestOnce:
    """What comes again is there once."""

    def test_before_and_after_merges(self, url, table):
        """Readers see it once at once, and everybody after a merge."""
        messages = some(3)
        sink = sink_for(url, table)
        sink.store(batch_of(messages[:2]))
        sink.store(batch_of(messages))
        assert ask(url, f"SELECT count() FROM `{table}`") == "5\n"
        assert sorted(map(str, stored(url, table))) == sorted(map(str, messages))
        ask(url, f"OPTIMIZE TABLE `{table}` FINAL")
        assert ask(url, f"SELECT count() FROM `{table}`") == "3\n"

    def test_in_a_batch(self, url, table):
        """What is twice in a batch is one row; another content in the same place is another."""
        messages = some(2)
        conflict = {**messages[0], "x": 1}
        sink = sink_for(url, table)
        sink.store(batch_of([*messages, *messages, conflict]))
        assert stored(url, table) == [*messages, conflict]
        assert sink.stats() == {"inserts": 1, "repeated": 2}

    def test_over_midnight(self, url, table, monkeypatch):
        """What comes again another day is in another partition, and is read once still."""
        from eliot_etw.collector.sinks import clickhouse

        sink = sink_for(url, table)
        sink.store(batch_of(some(2)))
        later = clickhouse.time_ns() + 2 * 86_400_000_000_000
        monkeypatch.setattr(clickhouse, "time_ns", lambda: later)
        sink.store(batch_of(some(2)))
        parts = ask(url, f"SELECT uniq(intDiv(arrived, 86400000000000)) FROM `{table}`")
        assert parts == "2\n"
        assert stored(url, table) == some(2)

    def test_clock_steps_back(self, url, table, monkeypatch):
        """What comes later arrives later, whatever the clock says and whoever inserts it."""
        from eliot_etw.collector.sinks import clickhouse

        first, second = some(2)
        sink_for(url, table).store(batch_of([first]))
        monkeypatch.setattr(clickhouse, "time_ns", lambda: 1_000_000_000)
        sink_for(url, table).store(batch_of([second]))
        assert stored(url, table) == [first, second]

    def test_over_kills_in_the_middle(self, tmp_path):
        """Whenever ClickHouse is killed, all is there once in the end, as often as it was sent."""
        server = _services.start("clickhouse", tmp_path)
        try:
            sink = sink_for(server.url, "messages")
            sink.store(Batch(lines_of(1)))
            for round_ in range(3):
                killer = threading.Timer(0.1 * (round_ + 1), server.stop, (signal.SIGKILL,))
                killer.start()
                batch = Batch(lines_of(2_000, start=2_000 * round_ + 2))
                while sink.write(batch).exception() is None:
                    pass
                killer.join()
                server.start()
                sink.store(batch)
            numbers = sorted(m["number"] for m in stored(server.url, "messages"))
            assert numbers == [*range(1, 6_002)]
        finally:
            server.stop(signal.SIGKILL)


class TestRefused:
    """What ClickHouse says no to."""

    def test_a_row(self, url, table):
        """Messages that the table has no place for are refused, and all others stored."""
        ask(
            url,
            f"CREATE TABLE `{table}` (task_uuid String, task_level String, key String, "
            "timestamp Nullable(Float64), type FixedString(4), status String, level Int32, "
            "line String, arrived UInt64, number UInt32) "
            "ENGINE = ReplacingMergeTree() ORDER BY (task_uuid, task_level, key)",
        )
        messages = some(12)
        messages[3]["message_type"] = messages[9]["message_type"] = "long one"
        with pytest.raises(MessagesRefused) as caught:
            sink_for(url, table).store(batch_of(messages))
        assert sorted(caught.value.refused) == [3, 9]
        assert "FixedString" in caught.value.refused[3]
        assert [m["task_level"][0] - 1 for m in stored(url, table)] == [
            n for n in range(12) if n not in (3, 9)
        ]

    def test_wrong_table(self, url, table):
        """A table of something else makes the sink unavailable, until somebody puts it right."""
        ask(url, f"CREATE TABLE `{table}` (x String) ENGINE = Log")
        sink = sink_for(url, table)
        with pytest.raises(SinkUnavailable, match="Unknown identifier"):
            sink.store(batch_of(some(1)))
        ask(url, f"DROP TABLE `{table}`")
        sink.store(batch_of(some(1)))
        assert stored(url, table) == some(1)

    def test_dropped_table(self, url, table):
        """A table that somebody drops is made again."""
        sink = sink_for(url, table)
        sink.store(batch_of(some(1)))
        ask(url, f"DROP TABLE `{table}`")
        assert isinstance(sink.write(batch_of(some(2))).exception(), SinkUnavailable)
        sink.store(batch_of(some(2)))
        assert stored(url, table) == some(2)

    def test_wrong_user(self, url, table):
        """Whoever ClickHouse does not know is told, without the password."""
        known = url.replace("//", "//somebody:secret@")
        error = sink_for(known, table).write(batch_of(some(1))).exception()
        assert isinstance(error, SinkUnavailable)
        assert "somebody" in str(error)
        assert "secret" not in str(error)

    def test_hangs(self, tmp_path):
        """A ClickHouse that does not answer is unavailable after a while."""
        server = _services.start("clickhouse", tmp_path)
        try:
            sink = ClickHouseSink(server.url, "messages", every_s=0, timeout_s=0.5)
            server.pause()
            with pytest.raises(SinkUnavailable, match="timed out"):
                sink.store(batch_of(some(1)))
            server.go_on()
            wait_until(lambda: sink.write(batch_of(some(1))).exception() is None)
            assert stored(server.url, "messages") == some(1)
        finally:
            server.stop(signal.SIGKILL)


def test_small_inserts_wait(url, table, monkeypatch):
    """Small batches have some time between them; a large one does not wait."""
    from eliot_etw.collector.sinks import clickhouse

    waits = []
    monkeypatch.setattr(clickhouse, "sleep", waits.append)
    sink = ClickHouseSink(url, table, every_s=1000)
    for batch in (batch_of(some(1)), batch_of(some(2)), batch_of(some(1, x="x" * 1_100_000))):
        sink.store(batch)
    first, second = waits
    assert first == 0
    assert second > 900
