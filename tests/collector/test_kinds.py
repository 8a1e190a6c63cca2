"""Tests of finding sinks and inputs by their kind."""

from importlib.metadata import EntryPoint

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector import _kinds
from eliot_etw.collector.inputs import INPUTS
from eliot_etw.collector.sinks import SINKS
from tests.collector.test_lane import FakeSink


def test_ours():
    """Each kind of ours can be found, and is what its module says."""
    for kinds in (SINKS, INPUTS):
        for name, class_ in kinds._classes.items():
            assert kinds.find(name).__name__ == class_
            assert name in kinds.names()


def test_of_others(monkeypatch):
    """Another package brings a kind by an entry point; ours cannot be replaced."""
    found = [
        EntryPoint("theirs", "tests.collector.test_lane:FakeSink", "eliot_etw.sinks"),
        EntryPoint("jsonlines", "tests.collector.test_lane:FakeSink", "eliot_etw.sinks"),
    ]

    def entry_points(*, group, name=None):
        return [each for each in found if each.group == group and name in (None, each.name)]

    monkeypatch.setattr(_kinds, "entry_points", entry_points)
    assert SINKS.find("theirs") is FakeSink
    assert SINKS.find("jsonlines") is not FakeSink
    assert "theirs" in SINKS.names()
    assert "theirs" not in INPUTS.names()


def test_none():
    """What there is not is a KeyError."""
    with pytest.raises(KeyError):
        SINKS.find("nothing")
