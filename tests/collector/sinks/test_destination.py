"""Tests of the sink that calls a destination: any of the library's, by its settings."""

import json

import pytest

pytest.importorskip("msgspec")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import decode_line, encode_line
from eliot_etw.collector.sinks import Batch, MessagesRefused, SinkUnavailable
from eliot_etw.collector.sinks.destination import DestinationSink
from eliot_etw.exceptions import InvalidSettings
from eliot_etw.sources import FileSource
from tests.collector._processes import lines_of, numbers_in
from tests.test_parse import odd_messages


class Failing:
    """A destination that raises what it is told to, and else keeps what it gets."""

    def __init__(self):
        self.errors = {}
        self.numbers = []
        self.is_closed = False

    def __call__(self, message):
        error = self.errors.get(message["number"])
        if error is not None:
            raise error
        self.numbers.append(message["number"])

    def close(self):
        self.is_closed = True


made = []


def make_failing():
    """Make one, as a configuration names it."""
    made.append(Failing())
    return made[-1]


@pytest.fixture
def failing():
    """Return a sink, and the destination behind it, which fails as it is told to."""
    sink = DestinationSink({"kind": f"{__name__}.make_failing"})
    return sink, made.pop()


@given(st.lists(odd_messages, max_size=20))
def test_law(tmp_path_factory, messages):
    """What is read from the destination's place is what the sink was given."""
    path = tmp_path_factory.mktemp("any") / "log"
    lines = list(dict.fromkeys(encode_line(message)[:-1] for message in messages))
    sink = DestinationSink({"kind": "file", "file": str(path)})
    sink.store(Batch(lines))
    sink.close(5)
    assert repr(list(FileSource(path))) == repr([decode_line(line) for line in lines])


def test_wrappers(tmp_path):
    """Wrappers are around it as in `configure`, and what has a queue is waited for."""
    path = tmp_path / "log"
    wrappers = [{"kind": "background"}, {"kind": "redacted", "keys": ["secret"]}]
    sink = DestinationSink({"kind": "file", "file": str(path), "wrappers": wrappers})
    sink.store(Batch(lines_of(100, secret="x")))
    assert [m["number"] for m in FileSource(path)] == [*range(1, 101)]
    assert "x" not in {m["secret"] for m in FileSource(path)}
    assert sink.stats()["dropped"] == 0
    assert "queued" not in sink.stats()
    sink.close(5)


def test_next_collector(tmp_path, collector):
    """A collector hands messages on to another one, and has them stored when that one has."""
    pytest.importorskip("zmq")
    pytest.importorskip("yaml")
    path = tmp_path / "all.jsonl"
    program = collector(f"  lines: {{kind: jsonlines, path: '{path}'}}\n").start()
    sink = DestinationSink({"kind": "zmq", "endpoint": program.endpoint})
    sink.store(Batch(lines_of(100)))
    assert numbers_in(path) == [*range(1, 101)]
    sink.close(5)


def test_comes_again(failing):
    """If the place fails, the batch comes again, and only what was not taken is taken."""
    sink, destination = failing
    destination.errors = {3: OSError("full")}
    with pytest.raises(SinkUnavailable, match="full"):
        sink.store(Batch(lines_of(4)))
    destination.errors = {}
    sink.store(Batch(lines_of(6)))
    assert destination.numbers == [1, 2, 3, 4, 5, 6]


def test_later_repetition(failing):
    """What is known of one batch is not known for ever: it would have no end."""
    sink, destination = failing
    sink.store(Batch(lines_of(2)))
    sink.store(Batch(lines_of(2)))
    assert destination.numbers == [1, 2, 1, 2]


def test_refused(failing):
    """What a destination fails at in another way is refused, and told once all else is taken."""
    sink, destination = failing
    destination.errors = {2: TypeError("odd"), 4: OSError("full")}
    with pytest.raises(SinkUnavailable):
        sink.store(Batch(lines_of(5)))
    del destination.errors[4]
    with pytest.raises(MessagesRefused, match="odd") as caught:
        sink.store(Batch(lines_of(5)))
    assert list(caught.value.refused) == [1]
    assert destination.numbers == [1, 3, 4, 5]


def test_lost_in_a_queue():
    """What a queue counts as lost is tried one by one: so it is found what it was."""
    settings = {"kind": f"{__name__}.make_failing", "wrappers": [{"kind": "background"}]}
    sink = DestinationSink(settings)
    made.pop().errors = {2: ValueError("odd")}
    for _ in range(2):
        assert isinstance(sink.write(Batch(lines_of(3))).exception(), RuntimeError)
    alone = [sink.write(Batch([line])).exception() for line in lines_of(3)]
    assert [type(error) for error in alone] == [type(None), RuntimeError, type(None)]
    sink.close(5)


def test_place_is_not_there_yet(tmp_path):
    """A place that is missing when the collector starts may come later."""
    path = tmp_path / "later" / "log"
    sink = DestinationSink({"kind": "file", "file": str(path)})
    with pytest.raises(SinkUnavailable, match="later"):
        sink.store(Batch(lines_of(1)))
    path.parent.mkdir()
    sink.store(Batch(lines_of(1)))
    sink.close(5)
    assert json.loads(path.read_text())["number"] == 1


def test_closed(failing):
    """Who closes the sink closes the destination."""
    sink, destination = failing
    sink.close(5)
    sink.close(5)
    assert destination.is_closed


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "destination.kind is missing"),
        ({"kind": "nothing"}, "destination.kind must be one of"),
        ({"kind": "file", "file": 7}, "destination.file must be"),
        ({"kind": "file", "file": "x", "wrappers": [{}]}, "wrappers"),
    ],
)
def test_wrong_settings(settings, why):
    """A mistake is told with its place, when the collector starts."""
    with pytest.raises(InvalidSettings) as caught:
        DestinationSink(settings)
    assert why in str(caught.value)
