"""Tests of logged actions and messages as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import ActionType, MemoryLogger, Message, MessageType, fields, start_action
from eliot_etw.testing import LoggedAction, LoggedMessage

COPY = ActionType("app:copy", fields(path=str), fields(size=int), "Copies a file.")
FOUND = MessageType("app:found", fields(path=str), "A file was found.")

# What an action holds: a text is a message of that type, a list an action with what it holds.
contents = st.recursive(
    st.sampled_from(["m", "n", ""]), lambda inner: st.lists(inner, max_size=4), max_leaves=30
).map(lambda inner: inner if isinstance(inner, list) else [inner])


def log(logger, holds, action_type="a"):
    """Log an action that holds that."""
    with start_action(logger, action_type) as action:
        for inner in holds:
            if isinstance(inner, list):
                log(logger, inner)
            else:
                action.log(inner)


def types(holds):
    """Return the type tree of an action that holds that."""
    return {"a": [types(inner) if isinstance(inner, list) else inner for inner in holds]}


def nested(depth):
    """Return the messages of actions each within the other, as no program could log them.

    The interpreter's stack would be too small.
    """
    starts = [
        {"task_uuid": "u", "task_level": [2] * level + [1], "action_type": "a"}
        for level in range(depth)
    ]
    ends = [{**start, "task_level": [*start["task_level"][:-1], 3]} for start in starts]
    return [
        *({**start, "action_status": "started"} for start in starts),
        *({**end, "action_status": "succeeded"} for end in reversed(ends)),
    ]


class TestLoggedMessage:
    """One message."""

    def test_of_type(self):
        """All messages of the type are found, in their order, and no others."""
        logger = MemoryLogger()
        FOUND(path="a").write(logger)
        Message.new(message_type="app:other").write(logger)
        FOUND(path="b").write(logger)
        expected = [LoggedMessage(logger.messages[0]), LoggedMessage(logger.messages[2])]
        assert expected == LoggedMessage.of_type(logger.messages, FOUND)
        assert expected == LoggedMessage.of_type(logger.messages, "app:found")

    def test_action_is_no_message(self):
        """The start and the end of an action are not messages of its type."""
        logger = MemoryLogger()
        with start_action(logger, "app:found"):
            pass
        assert LoggedMessage.of_type(logger.messages, "app:found") == []

    def test_spelling_of_eliot(self):
        """Eliot's other name does the same."""
        assert LoggedMessage.of_type == LoggedMessage.ofType


class TestLoggedAction:
    """An action with all that was logged in it."""

    @given(contents)
    def test_type_tree(self, holds):
        """Whatever was logged in an action is there once, in its place and in order."""
        logger = MemoryLogger()
        log(logger, holds, "root")
        (root,) = LoggedAction.of_type(logger.messages, "root")
        assert {"root": types(holds)["a"]} == root.type_tree()

    @given(contents)
    def test_descendants(self, holds):
        """The descendants of all tasks are all messages, in the order of logging."""
        logger = MemoryLogger()
        log(logger, holds, "root")
        (root,) = LoggedAction.of_type(logger.messages, "root")
        beginnings = [
            thing.start_message if isinstance(thing, LoggedAction) else thing.message
            for thing in root.descendants()
        ]
        starts_and_messages = [
            m for m in logger.messages if m.get("action_status") in (None, "started")
        ]
        assert starts_and_messages[1:] == beginnings

    def test_messages_of_success(self):
        """A succeeded action has the start and the end that were logged."""
        logger = MemoryLogger()
        Message.new(message_type="before").write(logger)
        with COPY(logger, path="a") as action:
            action.log("within")
            action.add_success_fields(size=1)
        Message.new(message_type="after").write(logger)
        _, start, within, end, _ = logger.messages
        (copy,) = LoggedAction.of_type(logger.messages, COPY)
        assert LoggedAction(start, end, [LoggedMessage(within)]) == copy
        assert (start, end) == (copy.startMessage, copy.endMessage)
        assert (start, end) == (copy.start_message, copy.end_message)
        assert copy.succeeded

    def test_failure(self):
        """An action that an exception left has not succeeded."""
        logger = MemoryLogger()
        with pytest.raises(KeyError), start_action(logger, "a"):
            raise KeyError
        (action,) = LoggedAction.of_type(logger.messages, "a")
        assert not action.succeeded

    def test_from_messages(self):
        """The level of the start message is the name of an action; another level is another's."""
        logger = MemoryLogger()
        log(logger, ["m", ["n"]])
        inner_start = logger.messages[2]
        inner = LoggedAction.from_messages(
            inner_start["task_uuid"], inner_start["task_level"], logger.messages
        )
        assert inner_start == inner.start_message
        assert inner.type_tree() == {"a": ["n"]}

    def test_other_task(self):
        """Messages of other tasks, at the same levels, are left out."""
        logger = MemoryLogger()
        log(logger, ["m"], "one")
        log(logger, ["n"], "other")
        (one,) = LoggedAction.of_type(logger.messages, "one")
        assert one.type_tree() == {"one": ["m"]}

    def test_of_type_finds_nested_ones(self):
        """An action within another of its type is found by itself, and is the other's child."""
        logger = MemoryLogger()
        log(logger, [["m"], []])
        outer, first, second = LoggedAction.of_type(logger.messages, "a")
        assert [first, second] == outer.children

    def test_of_type_finds_none(self):
        """If there is no action of the type, there is none in the result."""
        logger = MemoryLogger()
        Message.new(message_type="app:copy").write(logger)
        assert LoggedAction.of_type(logger.messages, COPY) == []

    def test_message_without_a_place(self):
        """What was written to the logger by hand belongs to no action."""
        logger = MemoryLogger()
        logger.write({"x": 1})
        log(logger, [])
        assert len(LoggedAction.of_type(logger.messages, "a")) == 1

    @pytest.mark.parametrize("action_type", ["outer", "inner"])
    def test_unfinished(self, action_type):
        """Neither an action that has not ended can be looked at, nor what holds one."""
        logger = MemoryLogger()
        with start_action(logger, "outer"):
            start_action(logger, "inner")
        with pytest.raises(ValueError, match=r"must have an end message, got none for .*'inner'"):
            LoggedAction.of_type(logger.messages, action_type)

    def test_message_with_a_status(self):
        """A message may have a field ``action_status``; that makes it no start and no end."""
        logger = MemoryLogger()
        with start_action(logger, "a") as action:
            action.log("m", action_status="started")
            action.log("n", action_status="failed")
        (logged,) = LoggedAction.of_type(logger.messages, "a")
        assert logged.type_tree() == {"a": ["m", "n"]}

    def test_no_start(self):
        """An action whose start was logged elsewhere cannot be looked at."""
        logger = MemoryLogger()
        log(logger, ["m"])
        uuid = logger.messages[0]["task_uuid"]
        with pytest.raises(ValueError, match=r"must have a start message, got none"):
            LoggedAction.from_messages(uuid, [1], logger.messages[1:])

    def test_messages_are_gone_through_once(self):
        """Even if all actions are wanted: going through them for each would take minutes."""
        logger = MemoryLogger()
        log(logger, [["m", []]] * 3)
        assert len(LoggedAction.of_type(iter(logger.messages), "a")) == 7

    @pytest.mark.parametrize("direction", [1, -1])
    def test_actions_are_made_once(self, direction):
        """An action within another is the same object: copies would be as many as the depth."""
        found = LoggedAction.of_type(nested(3)[::direction], "a")
        outer, inner, innermost = found[::direction]
        assert outer.children[0] is inner
        assert inner.children[0] is innermost

    def test_depth(self):
        """Actions nested deeper than the interpreter's stack are no different."""
        depth = 1_100
        actions = LoggedAction.of_type(nested(depth), "a")
        assert depth == len(actions)
        assert depth - 1 == len(list(actions[0].descendants()))
        assert actions[0] == LoggedAction.of_type(nested(depth), "a")[0]
        assert "a" in actions[0].type_tree()
        assert "1 children" in repr(actions[0])

    @given(contents, contents)
    def test_equality(self, one, other):
        """Actions are equal if all that was logged in them is."""
        logged = []
        for holds in (one, other):
            logger = MemoryLogger()
            log(logger, holds)
            for message in logger.messages:
                message.update(task_uuid="u", timestamp=0.0)
            logged.append(LoggedAction.of_type(logger.messages, "a")[0])
        assert (one == other) is (logged[0] == logged[1])

    def test_no_other_kind_is_equal(self):
        """An action is not equal to a message, nor to anything else."""
        action = LoggedAction({}, {}, [])
        assert action != LoggedMessage({})
        assert action != {}

    def test_spellings_of_eliot(self):
        """Eliot's other names do the same."""
        assert LoggedAction.from_messages == LoggedAction.fromMessages
        assert LoggedAction.of_type == LoggedAction.ofType
