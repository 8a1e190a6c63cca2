"""Tests of messages that are put together first and logged later."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import Logger, MemoryLogger, Message, start_action, start_task
from eliot_etw._names import RESERVED_IN_MESSAGE

some_fields = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name not in RESERVED_IN_MESSAGE), st.integers()
)


class TestMessage:
    """Making a message."""

    @given(some_fields)
    def test_contents(self, fields):
        """A message has the fields that it was made of, whatever their names."""
        assert fields == Message.new(**fields).contents()

    @given(some_fields, some_fields)
    def test_bind(self, fields, more):
        """bind() makes another message with more fields, of which the later ones count."""
        message = Message.new(**fields)
        assert {**fields, **more} == message.bind(**more).contents()
        assert fields == message.contents()

    def test_contents_are_a_copy(self):
        """Changing the fields that contents() returned does not change the message."""
        message = Message.new(x=1)
        message.contents()["x"] = 2
        assert message.contents() == {"x": 1}

    def test_made_of_a_dict(self):
        """Changing the dict that a message was made of does not change the message."""
        fields = {"x": 1}
        message = Message(fields)
        fields["x"] = 2
        assert message.contents() == {"x": 1}


class TestWrite:
    """Logging a message."""

    def test_fields_and_place(self, messages):
        """What is logged are the fields with the message's place and time."""
        Message.new(message_type="app:hello", x=1).write()
        (message,) = messages
        assert message.keys() == {"message_type", "x", "task_uuid", "task_level", "timestamp"}
        assert (message["message_type"], message["x"]) == ("app:hello", 1)

    def test_outside_of_any_action(self, messages):
        """It is a task of its own then."""
        Message.new().write()
        Message.new().write()
        one, other = messages
        assert (one["task_level"], other["task_level"]) == ([1], [1])
        assert one["task_uuid"] != other["task_uuid"]

    def test_twice(self, messages):
        """A message may be logged again: that is another message at the next place."""
        message = Message.new(x=1)
        with start_action(action_type="app:action"):
            message.write()
            message.write()
        assert [m["task_level"] for m in messages] == [[1], [2], [3], [4]]
        assert message.contents() == {"x": 1}

    def test_without_a_type(self, messages):
        """A message without a type has the empty one: readers rely on there being one."""
        Message.new(x=1).write()
        assert messages[0]["message_type"] == ""

    def test_log(self, messages):
        """Message.log() makes and logs at once."""
        Message.log(message_type="app:hello", x=1)
        assert (messages[0]["message_type"], messages[0]["x"]) == ("app:hello", 1)

    def test_within_the_current_action(self, messages):
        """It belongs to the current action and takes its next place."""
        with start_action(action_type="app:outer") as outer, start_action(action_type="app:inner"):
            Message.log(x=1)
        assert (messages[2]["task_uuid"], messages[2]["task_level"]) == (outer.task_uuid, [2, 2])

    def test_of_another_action(self, messages):
        """With an action given it belongs to that, whatever the current one is."""
        task = start_task(action_type="app:task")
        with start_action(action_type="app:action"):
            Message.new(x=1).write(action=task)
            Message.new(x=1).write(None, task)
        logged = [m["task_level"] for m in messages if m["task_uuid"] == task.task_uuid]
        assert logged == [[1], [2], [3]]

    def test_to_the_logger_of_the_action(self, messages):
        """Without a logger it goes where the action's messages go."""
        logger = MemoryLogger()
        with start_action(logger, "app:action"):
            Message.log(x=1)
        assert len(logger.messages) == 3
        assert messages == []

    def test_to_a_logger(self, messages):
        """With a logger given it goes there, at its place in the current action."""
        logger = MemoryLogger()
        with start_action(action_type="app:action") as action:
            Message.new(x=1).write(logger)
        (message,) = logger.messages
        assert (message["task_uuid"], message["task_level"]) == (action.task_uuid, [2])
        assert [m["task_level"] for m in messages] == [[1], [3]]

    def test_to_a_plain_logger(self, messages):
        """A `Logger` given is the destinations."""
        Message.new(x=1).write(Logger())
        assert len(messages) == 1

    @pytest.mark.parametrize("name", sorted(RESERVED_IN_MESSAGE))
    def test_reserved_names(self, messages, name):
        """A field with a reserved name is logged under another, the message keeps its own."""
        message = Message.new(**{name: "mine"})
        message.write()
        assert messages[0][f"{name}_"] == "mine"
        assert messages[0].get(name) != "mine"
        assert message.contents() == {name: "mine"}

    @pytest.mark.parametrize("name", ["self", "cls", "logger", "action", "fields", "_serializer"])
    def test_any_name(self, messages, name):
        """A field may have the name of a parameter of ours."""
        Message.new(**{name: 1}).bind(**{name: 2}).write()
        Message.log(**{name: 3})
        assert [m[name] for m in messages] == [2, 3]
