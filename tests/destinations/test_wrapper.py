"""Tests of what destinations around destinations share."""

import pytest

from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import FileDestination, LevelFilter, MemoryDestination


class Closable:
    """A destination that knows how often it was closed."""

    closed = 0

    def __call__(self, message):
        raise OSError("gone")

    def close(self):
        self.closed += 1


def test_closes_what_is_inside():
    """Closing the outermost closes the innermost."""
    inner = Closable()
    LevelFilter(LevelFilter(inner)).close(timeout_s=1)
    assert inner.closed == 1


def test_inside_need_not_be_closable():
    """A function has no close()."""
    LevelFilter(print).close()


def test_not_callable():
    """What is inside must be a destination."""
    with pytest.raises(TypeError, match="LevelFilter needs a destination inside, got 'file'"):
        LevelFilter("file")


def test_leaf(tmp_path):
    """A wrapper logs nothing itself: it is called directly if what is inside may be."""
    file = FileDestination(tmp_path / "log")
    assert LevelFilter(LevelFilter(file)).is_leaf
    assert not LevelFilter(LevelFilter(print)).is_leaf
    file.close()


def test_inside_may_log(messages):
    """What a function inside logs does not come to it again."""
    seen = []

    def inner(message):
        seen.append(message["message_type"])
        log_message("inner")

    add_destinations(LevelFilter(inner))
    log_message("outer")
    assert (seen, len(messages)) == (["outer"], 2)


def test_failure_inside_is_reported():
    """What the destination inside raises comes to the dispatcher, which tells the others."""
    memory = MemoryDestination()
    add_destinations(memory, LevelFilter(Closable()))
    log_message("t")
    assert [m["message_type"] for m in memory.messages] == ["t", "eliot:destination_failure"]
