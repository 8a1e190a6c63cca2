"""Tests of the collector as a whole, in this process: how it is made, changed and ended."""

import os
import threading

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")

from eliot_etw.collector import _daemon
from eliot_etw.collector._config import Spec, default_settings
from eliot_etw.collector._daemon import Collector
from eliot_etw.collector._lane import LaneOptions
from eliot_etw.collector._routes import Route
from eliot_etw.collector.sinks.jsonlines import JsonLinesSink
from eliot_etw.exceptions import InvalidSettings
from tests.collector._processes import lines_of, numbers_in, wait_until


@pytest.fixture
def settings(tmp_path):
    """Return settings with a file and a database, on a port that is free."""
    zmq = Spec("zmq", {"endpoint": "tcp://127.0.0.1:*"})
    return default_settings(tmp_path / "state")._replace(
        inputs={"inputs[0]": zmq}, http="127.0.0.1:0"
    )


@pytest.fixture
def start(messages):
    """Return a function that starts collectors; they are stopped at the end."""
    started = []

    def start(settings):
        started.append(Collector(settings))
        return started[-1]

    yield start
    for each in started:
        each.stop(5)


@pytest.fixture
def collector(start, settings):
    return start(settings)


@pytest.fixture
def sender(collector, shipper):
    """Return a sender that has said who it is."""
    sender = shipper(collector.where()["inputs"][0])
    sender.greet()
    return sender


NOWHERE = {"url": "clickhouse://127.0.0.1:1/default"}


@pytest.fixture
def holding(start, settings, shipper):
    """Return a function that starts a collector whose sink x is down, with 5 messages in memory.

    With it come its settings, and who sent them.
    """

    def holding(**others):
        down = Spec("clickhouse", NOWHERE, LaneOptions(spool_bytes=0))
        changed = settings._replace(sinks={"x": down, **others})
        collector = start(changed)
        sender = shipper(collector.where()["inputs"][0])
        sender.greet()
        sender.ship(lines_of(5))
        wait_until(lambda: figures_of(collector)["sink_waiting", "x"] == 5)
        return changed, collector, sender

    return holding


def jsonlines(path, **lane):
    return Spec("jsonlines", {"path": str(path)}, LaneOptions(**lane))


def figures_of(collector):
    """Return its numbers by name, those of all sinks and inputs together."""
    return {
        (figure.name, *figure.labels.values()): figure.value
        for figure in collector.report().figures
    }


def test_default(collector, sender, settings):
    """Without a configuration, messages are in a file and in a database."""
    sender.ship(lines_of(5))
    sender.wait_for_ack(5)
    assert numbers_in(settings.state / "messages.jsonl") == [1, 2, 3, 4, 5]
    figures = figures_of(collector)
    assert figures["taken",] == 5
    assert figures["sink_written", "lines"] == figures["sink_written", "store"] == 5
    assert figures["input_messages", "inputs[0]"] == 5
    assert collector.report().problems == []


def test_cannot_be_made(settings, start, tmp_path):
    """What cannot be made is told with its place, and nothing is left that is in use."""
    broken = settings._replace(sinks={**settings.sinks, "x": jsonlines(tmp_path)})
    with pytest.raises(InvalidSettings, match=r"sinks\.x: "):
        start(broken)
    start(settings)


def test_port_in_use(collector, settings, start, tmp_path):
    """An address that is taken is told with its place."""
    taken = {"endpoint": collector.where()["inputs"][0]}
    other = settings._replace(
        state=tmp_path / "other",
        inputs={"inputs[0]": Spec("zmq", taken)},
        sinks={"a": jsonlines(tmp_path / "a")},
        dead_letters=tmp_path / "dead",
    )
    with pytest.raises(InvalidSettings, match=r"inputs\[0\]: .*cannot listen at"):
        start(other)


def test_state_in_use(collector, settings, start):
    """One state folder is for one collector."""
    with pytest.raises(OSError, match="in use by another collector"):
        start(settings)


class TestReload:
    """Other settings while it runs."""

    def test_what_stays(self, collector, sender, settings, tmp_path):
        """What has not changed goes on, its connections too; what is new is there."""
        sinks = {"lines": settings.sinks["lines"], "new": jsonlines(tmp_path / "new")}
        before = collector._lanes["lines"]
        sender.ship(lines_of(1))
        sender.wait_for_ack(1)
        collector.reload(settings._replace(sinks=sinks))
        assert collector._lanes["lines"] is before
        assert [*collector.where()["sinks"]] == ["lines", "new"]
        sender.ship(lines_of(1, start=2), 2)
        sender.wait_for_ack(2)
        assert numbers_in(tmp_path / "new") == [2]
        assert numbers_in(settings.state / "messages.jsonl") == [1, 2]

    def test_changed_options(self, collector, sender, settings, tmp_path):
        """A sink whose options change is closed before the new one has the same file."""
        changed = Spec("jsonlines", {**settings.sinks["lines"].options, "sync": True})
        collector.reload(settings._replace(sinks={"lines": changed}))
        sender.ship(lines_of(1))
        sender.wait_for_ack(1)
        assert numbers_in(settings.state / "messages.jsonl") == [1]

    @pytest.mark.parametrize("is_broken_first", [False, True])
    def test_what_waited_in_memory(self, holding, tmp_path, is_broken_first):
        """What a sink without a disk had not stored is given to the one in its place, first.

        What comes later must not be stored before: what came earlier would be taken for repeated,
        when its sender sends it again.
        """
        settings, collector, sender = holding()
        up = jsonlines(tmp_path / "log")
        if is_broken_first:
            with pytest.raises(InvalidSettings, match=r"sinks\.y: "):
                collector.reload(settings._replace(sinks={"x": up, "y": jsonlines(tmp_path)}))
        collector.reload(settings._replace(sinks={"x": up}))
        sender.ship(lines_of(5, start=6), 6)
        sender.wait_for_ack(10)
        assert numbers_in(tmp_path / "log") == [*range(1, 11)]

    def test_what_waited_for_a_sink_that_is_no_more(self, holding, tmp_path):
        """What nobody wants any more holds up no sender, and is counted."""
        other = jsonlines(tmp_path / "log")
        settings, collector, sender = holding(other=other)
        collector.reload(settings._replace(sinks={"other": other}))
        sender.wait_for_ack(5)
        assert figures_of(collector)["left_behind",] == 5
        assert numbers_in(tmp_path / "log") == [1, 2, 3, 4, 5]

    def test_routes(self, collector, sender, settings):
        """Routes change at once."""
        collector.reload(settings._replace(routes=[Route((), types=("test:*",))]))
        sender.ship(lines_of(1))
        sender.wait_for_ack(1)
        assert numbers_in(settings.state / "messages.jsonl") == []
        assert figures_of(collector)["without_route",] == 1

    def test_broken(self, collector, sender, settings, tmp_path):
        """If something cannot be made, all is as before."""
        changed = Spec("jsonlines", {**settings.sinks["lines"].options, "sync": True})
        sinks = {"lines": changed, "x": jsonlines(tmp_path)}
        with pytest.raises(InvalidSettings, match=r"sinks\.x: "):
            collector.reload(settings._replace(sinks=sinks, http=None))
        assert collector.settings == settings
        assert collector._specs["lines"] == settings.sinks["lines"]
        assert [*collector.where()["sinks"]] == ["lines", "store"]
        sender.ship(lines_of(1))
        sender.wait_for_ack(1)
        assert numbers_in(settings.state / "messages.jsonl") == [1]

    def test_hanging_sink(self, collector, sender, settings, tmp_path, monkeypatch):
        """A sink that hangs can be changed by nobody: that is told, and nothing is lost."""
        monkeypatch.setattr(_daemon, "_CHANGE_S", 0.1)
        sink, hold = collector._lanes["store"].sink, threading.Event()
        store = sink.store
        sink.store = lambda batch: hold.wait(30) and store(batch)
        sender.ship(lines_of(1))
        try:
            wait_until(lambda: figures_of(collector)["sink_waiting", "store"])
            changed = Spec("sqlite", {**settings.sinks["store"].options, "search": False})
            with pytest.raises(InvalidSettings, match=r"sinks\.store: "):
                collector.reload(settings._replace(sinks={**settings.sinks, "store": changed}))
            assert "neither new nor old" in collector.report().problems[0]
            sender.ship(lines_of(1, start=2), 2)
            assert sender.hear_a(sender.protocol.Refused).code == "busy"
        finally:
            hold.set()
        wait_until(lambda: _can_be_reloaded(collector, settings))
        sender.ship(lines_of(1, start=2), 2)
        sender.wait_for_ack(2)

    def test_input(self, collector, settings, shipper):
        """An input whose options change is made anew."""
        changed = Spec("zmq", {"endpoint": "tcp://127.0.0.1:*", "max_senders": 1})
        collector.reload(settings._replace(inputs={"inputs[0]": changed}))
        shipper(collector.where()["inputs"][0]).greet()

    def test_state(self, collector, settings, tmp_path):
        """The state folder changes only with a restart."""
        with pytest.raises(InvalidSettings, match="change only with a restart"):
            collector.reload(settings._replace(state=tmp_path / "other"))

    def test_orphans(self, start, settings, tmp_path, messages, shipper):
        """What waits for a sink that is no more is told of."""
        (tmp_path / "x.sqlite").mkdir()
        down = settings._replace(sinks={"a": Spec("jsonlines", {"path": str(tmp_path / "a")})})
        collector = start(down)
        collector._lanes["a"].sink.store = _fail
        sender = shipper(collector.where()["inputs"][0])
        sender.greet()
        sender.ship(lines_of(1))
        sender.wait_for_ack(1)
        collector.reload(down._replace(sinks={"b": jsonlines(tmp_path / "b")}))
        kinds = [message["message_type"] for message in messages]
        assert "collector:orphaned_spool" in kinds
        assert figures_of(collector)["sink_up", "b"] == 1

    @pytest.mark.skipif(os.name == "nt", reason="Windows lets few make links")
    def test_orphans_that_cannot_be_looked_at(self, start, settings, messages):
        """What goes while it is looked for, or cannot be looked at, is no reason to fail."""
        spool = settings.state / "spool"
        for name in ("lines", "gone"):  # one that is known, and one that is not
            (spool / name).mkdir(parents=True)
            (spool / name / "x.spool").symlink_to("nowhere")
        collector = start(settings)
        collector.reload(settings)
        kinds = [message["message_type"] for message in messages]
        assert "collector:reloaded" in kinds
        assert "collector:orphaned_spool" not in kinds

    def test_sink_that_cannot_be_closed(self, collector, sender, settings, monkeypatch):
        """If what stands before a sink cannot be made, and the sink raises, all is as before."""
        monkeypatch.setattr(JsonLinesSink, "close", _fail)
        folder = settings.state / "spool" / "new"
        folder.write_text("")
        new = jsonlines(settings.state / "new")
        with pytest.raises(InvalidSettings, match=r"sinks\.new: .*exists"):
            collector.reload(settings._replace(sinks={**settings.sinks, "new": new}))
        assert collector.settings == settings
        sender.ship(lines_of(1))
        sender.wait_for_ack(1)


def _can_be_reloaded(collector, settings):
    """Say whether the collector takes its settings again."""
    try:
        collector.reload(settings)
    except InvalidSettings:
        return False
    return not collector.report().problems


def _fail(*_):
    raise OSError("down")


def test_input_down(collector):
    """An input that says what is wrong with it is told of."""
    collector._inputs["inputs[0]"].problem = "gone"
    assert collector.report().problems == ["inputs[0]: gone"]


def test_pid(start, settings):
    """The file with the process's number is there as long as the process is."""
    collector = start(settings)
    pid = settings.state / "pid"
    assert int(pid.read_text()) == os.getpid()
    collector.stop(30)
    assert not pid.exists()


def test_what_nobody_has_at_the_end(holding, monkeypatch, messages):
    """What is left is told, also of a sink that could not be made anew."""
    monkeypatch.setattr(_daemon, "_CHANGE_S", 0.1)
    settings, collector, _ = holding()
    changed = Spec("clickhouse", NOWHERE, LaneOptions(spool_bytes=0, memory_bytes=1 << 20))
    with monkeypatch.context() as patch:
        patch.setattr(_daemon, "Lane", _fail)
        with pytest.raises(InvalidSettings, match=r"sinks\.x: down"):
            collector.reload(settings._replace(sinks={"x": changed}))
    assert "neither new nor old" in collector.report().problems[0]
    collector.stop(5)
    told = [each for each in messages if each["message_type"] == "collector:stopped"]
    assert told[0]["left"] == 5


def test_down(collector, sender):
    """A sink that is down is told of."""
    lane = collector._lanes["store"]
    store, lane.sink.store = lane.sink.store, _fail
    sender.ship(lines_of(1))
    sender.wait_for_ack(1)
    wait_until(lambda: collector.report().problems == ["sink store is down"])
    lane.sink.store = store
    wait_until(lambda: not collector.report().problems)
