"""Tests of what the fixture `captured_logs` gives to a test."""

from eliot_etw import ActionType, Message, MessageType, fields
from eliot_etw.testing import CapturedLogs, LoggedAction
from eliot_etw.testing._tree_text import tree_text

COPY = ActionType("app:copy", fields(path=str), fields(), "Copies a file.")
FOUND = MessageType("app:found", fields(path=str), "A file was found.")


def test_messages_of():
    """The messages of a type are found by type and by name; all of them, in order."""
    logs = CapturedLogs()
    FOUND(path="a").write(logs)
    Message.new(message_type="app:other").write(logs)
    FOUND(path="b").write(logs)
    assert [message["path"] for message in logs.messages_of(FOUND)] == ["a", "b"]
    assert logs.messages_of(FOUND) == logs.messages_of("app:found")


def test_actions_of():
    """The actions of a type are found by type and by name."""
    logs = CapturedLogs()
    with COPY(logs, path="a"), COPY(logs, path="b"):
        pass
    assert LoggedAction.of_type(logs.messages, COPY) == logs.actions_of(COPY)
    assert logs.actions_of(COPY) == logs.actions_of("app:copy")


def test_tree():
    """The tree is what a report would show."""
    logs = CapturedLogs()
    FOUND(path="a").write(logs)
    assert tree_text(logs) == logs.tree()
