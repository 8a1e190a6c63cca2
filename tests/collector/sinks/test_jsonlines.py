"""Tests of the sink of JSON lines: each message is in its files once, whatever happens."""

import os
import random

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector import _commits
from eliot_etw.collector.sinks import Batch, Origin, SinkUnavailable, jsonlines
from eliot_etw.collector.sinks.jsonlines import JsonLinesSink
from eliot_etw.destinations import file, rotating_file
from tests._faulty_os import FaultyOs
from tests.collector._processes import lines_of, numbers_in


@pytest.fixture
def open_sink(tmp_path):
    """Return a function that opens the sink; all are closed at the end."""
    opened = []

    def open_sink(**options):
        opened.append(JsonLinesSink(str(tmp_path / "log"), **options))
        return opened[-1]

    yield open_sink
    for sink in opened:
        sink.close(5)


def batch(first, count, sender="a"):
    return Batch(lines_of(count, start=first), [Origin(sender, range(first, first + count))])


def store(sink, *batches):
    for each in batches:
        sink.write(each).result()


def test_lines_as_they_came(open_sink, tmp_path):
    """The file has the very lines."""
    store(open_sink(), batch(1, 3))
    assert (tmp_path / "log").read_bytes().splitlines() == lines_of(3)


def test_repeated(open_sink, tmp_path):
    """What comes again is left out, wholly or in part, also after a restart."""
    sink = open_sink()
    store(sink, batch(1, 5), batch(1, 5), batch(4, 5))
    sink.close(5)
    sink = open_sink()
    store(sink, batch(8, 3), Batch.joined([batch(10, 2), batch(11, 2), batch(1, 1, "b")]))
    assert numbers_in(tmp_path / "log") == [*range(1, 13), 1]
    assert sink.stats()["repeated"] == 3


def test_without_sender(open_sink, tmp_path):
    """Without a sender that counts, nothing is left out."""
    store(open_sink(), batch(1, 2, ""), batch(1, 2, ""))
    assert numbers_in(tmp_path / "log") == [1, 2, 1, 2]


def test_killed_before_the_commit(open_sink, tmp_path):
    """What is behind the last commit is cut off, and comes again."""
    sink = open_sink()
    store(sink, batch(1, 5))
    sink.close(5)
    with open(tmp_path / "log", "ab") as file:
        file.write(lines_of(1, start=6)[0] + b"\n{")
    store(open_sink(), batch(6, 2))
    assert numbers_in(tmp_path / "log") == [*range(1, 8)]


def test_file_of_somebody_else(open_sink, tmp_path):
    """What was in the file before it became the collector's stays."""
    (tmp_path / "log").write_bytes(b'{"number": 0}\n')
    sink = open_sink()
    store(sink, batch(1, 1))
    sink.close(5)
    store(open_sink(), batch(2, 1))
    assert numbers_in(tmp_path / "log") == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_killed_anywhere_with_rotation(open_sink, tmp_path, seed):
    """Many kills, each with an uncommitted tail, and files put aside meanwhile: all is once."""
    chance = random.Random(seed)
    number, sink = 1, open_sink(max_bytes=2_000)
    while number < 500:
        count = chance.randrange(1, 20)
        again = max(1, number - chance.randrange(30))
        store(sink, batch(again, number + count - again))
        number += count
        if chance.random() < 0.3:
            sink.close(5)
            if chance.random() < 0.5:
                with open(tmp_path / "log", "ab") as file:
                    file.write(b'{"number": -1}\n{"num'[: chance.randrange(20)])
            sink = open_sink(max_bytes=2_000)
    assert numbers_in(tmp_path / "log") == [*range(1, number)]
    assert len(list(tmp_path.glob("log.0*"))) > 3


def test_killed_between_rotation_and_commit(open_sink, tmp_path):
    """A file that was put aside, with none in its place, is no reason to lose or repeat."""
    sink = open_sink()
    store(sink, batch(1, 5))
    sink.close(5)
    os.rename(tmp_path / "log", tmp_path / "log.000001")
    store(open_sink(), batch(1, 7))
    assert numbers_in(tmp_path / "log") == [*range(1, 8)]


def test_killed_before_a_new_file_is_known(open_sink, tmp_path, monkeypatch):
    """If the journal cannot say that a file was begun, nothing is written there.

    Nobody would know, if the collector is killed then, how much of it counts.
    """
    sink = open_sink(max_bytes=1_000)
    store(sink, batch(1, 5))
    broken = FaultyOs("write", "ftruncate")
    for module in (_commits, jsonlines):
        monkeypatch.setattr(module, "os", broken)
    with broken.failing(0, times=1_000):  # also what takes back: it is killed before
        assert isinstance(sink.write(batch(6, 8)).exception(), SinkUnavailable)
    sink.close(5)
    monkeypatch.undo()
    assert numbers_in(tmp_path / "log") == [*range(1, 6)]
    store(open_sink(max_bytes=1_000), batch(6, 8))
    assert numbers_in(tmp_path / "log") == [*range(1, 14)]


def test_full_disk(open_sink, tmp_path, monkeypatch):
    """What could not be written wholly is taken back, and can be written later."""
    sink = open_sink()
    store(sink, batch(1, 2))
    real = os.write

    def half(fd, data):
        if b"number" in bytes(data[:200]):
            real(fd, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr("eliot_etw.destinations.file.write", half)
    with pytest.raises(SinkUnavailable, match="No space left"):
        store(sink, batch(3, 4))
    monkeypatch.undo()
    assert numbers_in(tmp_path / "log") == [1, 2]
    store(sink, batch(3, 4))
    assert numbers_in(tmp_path / "log") == [1, 2, 3, 4, 5, 6]


def test_journal_cannot_be_written(open_sink, tmp_path, monkeypatch):
    """What cannot be committed is taken back."""
    sink = open_sink(sync=True)
    store(sink, batch(1, 2))

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eliot_etw.collector._commits.os.write", full)
    # The file itself is written by another name of the same function.
    with pytest.raises(SinkUnavailable, match="No space left"):
        store(sink, batch(3, 4))
    monkeypatch.undo()
    store(sink, batch(3, 4))
    assert numbers_in(tmp_path / "log") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("max_bytes", [None, 1_000])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_any_call_fails(open_sink, tmp_path, monkeypatch, times, max_bytes, is_killed):
    """Whichever calls fail, what was stored is there once; also if the collector is killed then.

    A full disk takes some of what is written, or none.
    """
    faulty = FaultyOs(
        "open", "write", "ftruncate", "fstat", "fsync", "rename", "replace", "dup2", "stat"
    )
    for module in (_commits, file, rotating_file, jsonlines):
        monkeypatch.setattr(module, "os", faulty)
    monkeypatch.setattr(file, "write", faulty.write)
    options = {"max_bytes": max_bytes or 1 << 20, "sync": True}
    sink = open_sink(**options)
    first, after, failed = 1, 0, -1
    while failed < faulty.failed:  # some call still failed
        failed = faulty.failed
        for takes in (0, 100):
            with faulty.failing(after, times, takes):
                error = sink.write(batch(first, 3)).exception()
            assert error is None or isinstance(error, SinkUnavailable)
            if error is not None and is_killed:
                sink.close(5)
                sink = open_sink(**options)
            store(sink, batch(first, 3))
            first += 3
        after += 1
    assert after > 5
    assert numbers_in(tmp_path / "log") == [*range(1, first)]


def test_it_is_used_once(open_sink):
    """A second sink with the same file is refused."""
    open_sink()
    with pytest.raises(OSError, match="in use by another collector"):
        open_sink()


def test_wrong_options(tmp_path):
    """Options that make no sense are refused, and the file is free again."""
    for _ in range(2):
        with pytest.raises(ValueError, match="max_bytes"):
            JsonLinesSink(str(tmp_path / "log"), max_bytes=-1)
