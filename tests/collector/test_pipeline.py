"""Tests of the way of messages: who is told what, and what is no message."""

import errno
import json

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector._batch import Batch, Origin
from eliot_etw.collector._lane import Lane, LaneOptions
from eliot_etw.collector._pipeline import DeadLetters, Pipeline
from eliot_etw.collector._routes import Route, Routes
from eliot_etw.collector.sinks import SinkUnavailable
from eliot_etw.shipping._spool import DiskSpool
from tests.collector._processes import lines_of, wait_until
from tests.collector.test_lane import FakeSink


@pytest.fixture
def dead_letters(tmp_path):
    letters = DeadLetters(tmp_path / "dead.jsonl")
    yield letters
    letters.close()


@pytest.fixture
def pipeline(dead_letters):
    return Pipeline(dead_letters)


@pytest.fixture
def open_with(pipeline, dead_letters, tmp_path):
    """Return a function that gives the pipeline sinks; they are stopped at the end."""
    lanes = {}

    def open_with(routes=(), **options):
        sinks = {name: FakeSink() for name in options}
        for name, sink in sinks.items():
            lane = LaneOptions(**options[name])
            put_aside = dead_letters.put_aside
            lanes[name] = Lane(name, sink, tmp_path / name, lane, put_aside)
        pipeline.open(lanes, Routes(routes, lanes))
        return sinks

    yield open_with
    for lane in lanes.values():
        lane.stop(5)


def batch(first=1, count=10):
    return Batch(lines_of(count, start=first), [Origin("s", range(first, first + count))])


def test_done_when_all_have_it(pipeline, open_with):
    """A batch is done when every required sink has it, and not before."""
    sinks = open_with(a={}, b={}, c={"required": False})
    sinks["b"].hold.clear()
    sinks["c"].hold.clear()
    done = []
    assert pipeline.take(batch(), lambda: done.append(1))
    wait_until(lambda: sinks["a"].numbers)
    assert done == []
    sinks["b"].hold.set()
    wait_until(lambda: done)
    assert sinks["c"].numbers == []
    sinks["c"].hold.set()
    wait_until(lambda: sinks["c"].numbers)
    assert done == [1]


@pytest.mark.parametrize("routes", [[Route((), types=("*",))], [Route(("a",), types=("no",))]])
def test_no_way(pipeline, open_with, routes):
    """What goes nowhere is done, and counted."""
    open_with(routes, a={})
    done = []
    assert pipeline.take(batch(), lambda: done.append(1))
    assert done == [1]
    assert pipeline.counts["without_route"] == 10


def test_some_go_nowhere(pipeline, open_with):
    """What goes nowhere is counted, too, if others of its batch go somewhere."""
    sinks = open_with([Route(("a",), fields={"number": 3})], a={})
    assert pipeline.take(batch(), lambda: None)
    wait_until(lambda: sinks["a"].numbers == [3])
    assert pipeline.counts["without_route"] == 9


def test_only_to_one_that_is_not_required(pipeline, open_with):
    """What goes only to sinks that are not required is done at once."""
    sinks = open_with(a={"required": False})
    done = []
    assert pipeline.take(batch(), lambda: done.append(1))
    assert done == [1]
    wait_until(lambda: sinks["a"].numbers)


def fill(pipeline):
    """Try until it was refused some times; return what was refused last."""
    first, refused = 1, 0
    while refused < 6:
        if pipeline.take(batch(first), lambda: None):
            first += 10
        else:
            refused += 1
    assert pipeline.counts["held_back"] == 10 * refused
    return first


@pytest.mark.parametrize(
    "small",
    [
        {"spool_bytes": 0, "memory_bytes": 10},
        {"spool_bytes": 0, "memory_bytes": 3_000},
        *({"spool_bytes": size, "memory_bytes": 3_000} for size in range(9_000, 11_000, 250)),
    ],
)
def test_full(pipeline, open_with, small):
    """If a required sink is full no sink gets the batch, however often it is tried."""
    sinks = open_with(b=small, a={}, c={"required": False})
    sinks["b"].error = SinkUnavailable("gone")
    first = fill(pipeline)
    sinks["b"].error = None
    wait_until(lambda: pipeline.take(batch(first), lambda: None))
    wait_until(lambda: all(sink.numbers[-1:] == [first + 9] for sink in sinks.values()))
    assert [sink.numbers for sink in sinks.values()] == [[*range(1, first + 10)]] * 3


@pytest.mark.parametrize("is_down", [True, False])
def test_full_disk(pipeline, open_with, monkeypatch, is_down):
    """The same if nobody knew that a sink's disk is full before it was written to."""
    sinks = open_with(a={}, b={"memory_bytes": 10})
    if is_down:
        sinks["b"].error = SinkUnavailable("gone")
    else:
        sinks["b"].hold.clear()
    with monkeypatch.context() as patch:
        patch.setattr(DiskSpool, "append", _no_space)
        first = fill(pipeline)
    assert pipeline.take(batch(first), lambda: None)
    sinks["b"].error = None
    sinks["b"].hold.set()
    wait_until(lambda: sinks["b"].numbers[-1:] == [first + 9])
    wait_until(lambda: sinks["a"].numbers == sinks["b"].numbers == [*range(1, first + 10)])


def _no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_closed(pipeline, open_with):
    """Before it is opened, and while it is changed, nothing is taken."""
    assert not pipeline.take(batch(), lambda: None)
    open_with(a={})
    pipeline.close()
    assert not pipeline.take(batch(), lambda: None)


def test_what_is_no_message(pipeline, open_with, tmp_path):
    """It goes to the dead letters, and all others to their sinks; the batch is done."""
    sinks = open_with(a={})
    bad = [b"", b"[1]", b"{", b'{"a":"\xff"}', b"\x80\x04\x95", b'{"a":1}{']
    lines = [line for pair in zip(bad, lines_of(len(bad)), strict=True) for line in pair]
    done = []
    pipeline.take(Batch(lines, [Origin("s", range(1, len(lines) + 1))]), lambda: done.append(1))
    wait_until(lambda: done)
    assert sinks["a"].numbers == [2, 4, 6, 8, 10, 12]
    letters = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_bytes().splitlines()]
    assert [letter["line"] for letter in letters] == [
        line.decode("utf-8", "backslashreplace") for line in bad
    ]
    assert {letter["reason"] for letter in letters} == {"not a JSON object in UTF-8"}
    assert pipeline.counts["unsound"] == len(bad)


def test_nothing_but_garbage(pipeline, open_with):
    """A batch without a message is done, too."""
    open_with(a={})
    done = []
    assert pipeline.take(Batch([b"garbage"]), lambda: done.append(1))
    assert done == [1]


def test_garbage_and_a_full_disk(pipeline, open_with, dead_letters):
    """Garbage that cannot be put aside is counted."""
    open_with(a={})
    dead_letters.close()
    assert pipeline.take(Batch([b"garbage"]), lambda: None)
    assert pipeline.counts["unsound_lost"] == 1
