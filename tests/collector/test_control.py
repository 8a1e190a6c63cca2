"""Tests of what is said about levels: it comes back as it was, and nothing else is taken."""

from contextlib import suppress

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.collector import _control as control
from eliot_etw.exceptions import ProtocolError
from eliot_etw.shipping._protocol import LevelRule


@pytest.mark.parametrize(
    "message",
    [
        control.SetLevel(LevelRule("app:*", 10, 1_000, "p", "h")),
        control.ClearLevels("app:*"),
        control.ListLevels(),
        control.LevelReport(3, [LevelRule("a", 1, 2)], [control.SenderLevels("h", "p", 1, 3, 1)]),
        control.Denied("no"),
    ],
)
def test_there_and_back(message):
    """Each message is read as it was written."""
    assert control.decode(control.encode(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes(data):
    """Other bytes are refused, whatever they are."""
    with suppress(ProtocolError):
        control.decode(control.MAGIC + data)


@pytest.mark.parametrize("for_ms", [-1, 32 * 24 * 3600 * 1000])
def test_too_long(for_ms):
    """A rule has its bounds also if it was made by hand."""
    with pytest.raises(ProtocolError, match="must be one of ours"):
        control.decode(control.encode(control.SetLevel(LevelRule("a", 10, for_ms))))
