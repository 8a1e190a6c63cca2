"""Tests of the journald sink, with a real systemd-journald."""

from contextlib import closing
from itertools import count

import pytest

pytest.importorskip("msgspec")

from eliot_etw.collector.sinks import Batch, SinkUnavailable
from eliot_etw.collector.sinks.journald import JournaldSink
from eliot_etw.exceptions import InvalidSettings
from eliot_etw.sources import JournalSource
from tests import _journal
from tests.collector._processes import lines_of

identifiers = map("test-sink-{}".format, count())


def numbers_in(journal, identifier):
    """Return the numbers of the messages that are in a journal."""
    journal.sync()
    return [m["number"] for m in JournalSource(directory=journal.logs, identifier=identifier)]


def test_stored():
    """Each message is an entry of the journal, and is read back."""
    journal, identifier = _journal.shared(), next(identifiers)
    sink = JournaldSink(identifier, socket_path=str(journal.socket_path))
    sink.store(Batch(lines_of(100)))
    sink.close(5)
    assert numbers_in(journal, identifier) == [*range(1, 101)]


def test_journal_away():
    """While the journal is gone, messages wait; then each is there once."""
    with closing(_journal.start()) as journal:
        sink = JournaldSink("test", socket_path=str(journal.socket_path))
        sink.store(Batch(lines_of(2)))
        journal.end()
        journal.remove_sockets()
        with pytest.raises(SinkUnavailable):
            sink.store(Batch(lines_of(2, start=3)))
        journal.make_sockets()
        journal.start()
        sink.store(Batch(lines_of(2, start=3)))
        sink.close(5)
        assert numbers_in(journal, "test") == [1, 2, 3, 4]


def test_wrong_settings():
    """What cannot be is told when the collector starts."""
    with pytest.raises(InvalidSettings, match="must not both be given"):
        JournaldSink(namespace="x", socket_path="/run/y")
