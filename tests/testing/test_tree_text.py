"""Tests of the tree that a test's log is drawn as."""

import re
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import Field, MemoryLogger, Message, MessageType, start_action
from eliot_etw.testing._tree_text import tree_text

LENGTH = MessageType("app:length", [Field("text", len)], "How long a text is.")


@pytest.fixture(autouse=True)
def utf8(monkeypatch):
    """A standard output that can write all signs."""
    monkeypatch.setattr(sys, "__stdout__", SimpleNamespace(encoding="utf-8"))


class Unspeakable:
    """A value that does not even have a repr."""

    def __repr__(self):
        raise ValueError("no repr")


def drawn(logger):
    """Return what was drawn, without times, durations and names of tasks."""
    lines = tree_text(logger).splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d ", lines[0])
    return [re.sub(r" \[[0-9a-f]{8}\]", "", line[22:]) for line in lines[1:]]


def test_nothing():
    """Of nothing, nothing is drawn."""
    assert tree_text(MemoryLogger()) == ""


def test_tree():
    """Actions are drawn with what they hold, each task by itself, in the order of starting."""
    logger = MemoryLogger()
    Message.new(message_type="app:before").write(logger)
    with start_action(logger, "app:outer", x=1) as outer:
        outer.log("app:within")
        outer.child(logger, "app:inner").finish()
    assert drawn(logger)[:4] == ["· app:before", "", "✓ app:outer x=1", "├─ · app:within"]


def test_serialized():
    """Values are drawn as they would be written; the logger keeps them as they were."""
    logger = MemoryLogger()
    LENGTH(text="four").write(logger)
    assert drawn(logger) == ["· app:length text=4"]
    assert logger.messages[0]["text"] == "four"


def test_serializer_that_raises():
    """A value that its serializer does not take is drawn as it was logged."""
    logger = MemoryLogger()
    LENGTH(text=None).write(logger)
    assert drawn(logger) == ["· app:length text=None"]


def test_message_without_a_place():
    """What was written to the logger by hand is drawn, too."""
    logger = MemoryLogger()
    logger.write({"message_type": "app:written", "x": 1})
    assert "app:written" in tree_text(logger)


def test_value_that_cannot_be_written():
    """A value with nothing that can be drawn does not keep the rest from being so."""
    logger = MemoryLogger()
    Message.new(message_type="app:hello", value=Unspeakable(), other=1).write(logger)
    assert re.fullmatch(r"· app:hello value=.* other=1", drawn(logger)[0])


@given(st.text())
def test_can_be_shown_and_sent(text):
    """Whatever text is logged, what is drawn can be encoded, and commands no terminal."""
    logger = MemoryLogger()
    Message.new(message_type=text, text=text, **{text or "x": 1}).write(logger)
    shown = tree_text(logger)
    assert shown.encode()
    assert shown.replace("\n", "").isprintable()


def test_length():
    """Of a long log the end is drawn, and said how much is left out."""
    logger = MemoryLogger()
    for number in range(1_500):
        logger.write({"message_type": "app:number", "number": number})
    lines = tree_text(logger).splitlines()
    assert lines[0] == "(500 lines before these are left out)"
    assert len(lines) == 1_001
    assert lines[-1].endswith("number=1499")


def test_ascii(monkeypatch):
    """Where standard output can write only ASCII, the tree is drawn with ASCII."""
    monkeypatch.setattr(sys, "__stdout__", SimpleNamespace(encoding="ascii"))
    logger = MemoryLogger()
    start_action(logger, "app:outer").finish()
    assert drawn(logger) == ["+ app:outer"]


def test_no_standard_output(monkeypatch):
    """Where there is no standard output at all, it is drawn so, too."""
    monkeypatch.setattr(sys, "__stdout__", None)
    logger = MemoryLogger()
    start_action(logger, "app:outer").finish()
    assert drawn(logger) == ["+ app:outer"]
