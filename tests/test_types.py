"""Tests of message types and action types."""

import pytest

from eliot_etw import (
    ActionType,
    Field,
    MemoryLogger,
    MessageType,
    ValidationError,
    current_action,
    fields,
    register_exception_extractor,
    start_action,
)
from eliot_etw.testing import LoggedAction, capture_logging

FOUND = MessageType("app:found", fields(Field("name", str.upper), size=int), "A file was found.")
COPY = ActionType(
    "app:copy",
    [Field("source", str.upper, "From where.")],
    [Field("target", str.lower, "To where.")],
    "Copies a file.",
)
# Names that are parameters of something on the way.
NAMES = ["self", "cls", "fields", "message_type_", "args", "kwargs", "name", "serializer"]


class CopyError(Exception):
    """What copying fails with."""


class TestMessageType:
    """Messages of a declared type."""

    def test_attributes(self):
        """A type knows its name and what it means."""
        assert FOUND.message_type == "app:found"
        assert FOUND.description == "A file was found."

    def test_description_is_optional(self):
        """A type may go without a description."""
        assert MessageType("app:found", []).description == ""

    def test_log(self, messages):
        """log() logs the serialized fields with the type."""
        FOUND.log(name="a", size=1)
        (message,) = messages
        expected = {"message_type": "app:found", "name": "A", "size": 1}
        assert expected.items() <= message.items()
        assert message["task_level"] == [1]

    def test_log_within_an_action(self, messages):
        """log() takes the next place in the current action."""
        with start_action(action_type="app:action"):
            FOUND.log(name="a", size=1)
        start, message, _ = messages
        assert start["task_uuid"] == message["task_uuid"]
        assert message["task_level"] == [2]

    def test_log_to_the_logger_of_the_action(self):
        """log() logs to what the current action logs to."""
        logger = MemoryLogger()
        with start_action(logger, "app:action"):
            FOUND.log(name="a", size=1)
        assert logger.serializers[1] is FOUND._serializer
        assert logger.messages[1]["name"] == "a"

    def test_call(self, messages):
        """A call makes a message that can be completed and is logged by write()."""
        message = FOUND(name="a").bind(size=1)
        assert messages == []
        message.write()
        assert (messages[0]["name"], messages[0]["message_type"]) == ("A", "app:found")

    def test_contents(self):
        """The message that a call makes has the type among its fields."""
        assert FOUND(size=1).contents() == {"message_type": "app:found", "size": 1}

    @pytest.mark.parametrize("name", [*NAMES, "message_type"])
    def test_any_name(self, name, messages):
        """A field of any name can be logged; the type's own name keeps its value."""
        MessageType("app:any", [] if name == "message_type" else fields(**{name: int})).log(
            **{name: 1}
        )
        expected = "app:any" if name == "message_type" else 1
        assert messages[0][name] == expected

    @pytest.mark.parametrize(
        ("logged", "said"),
        [
            ({"name": "a"}, "'size' is missing"),
            ({"name": "a", "size": "1"}, "'size' must be of type int"),
            ({"name": "a", "size": 1, "more": 2}, "'more' is not one of the type's fields"),
        ],
    )
    def test_wrong_in_a_test(self, logged, said):
        """In a test a message that is not of its type is wrong."""
        logger = MemoryLogger()
        FOUND(**logged).write(logger)
        with pytest.raises(ValidationError, match=said):
            logger.validate()

    def test_wrong_in_a_program(self, messages):
        """In a program a value of another type is logged as it is, and so is an extra field."""
        FOUND.log(name="a", size="one", more=2)
        (message,) = messages
        assert (message["size"], message["more"]) == ("one", 2)

    def test_not_to_be_serialized_in_a_program(self, messages):
        """A message that its type cannot serialize is not lost: it is logged as text."""
        FOUND.log(name=7, size=1)
        traceback, failure = messages
        assert traceback["message_type"] == "eliot:traceback"
        assert failure["message_type"] == "eliot:serialization_failure"
        assert "'app:found'" in failure["message"]

    @pytest.mark.parametrize(
        ("declared", "error"),
        [([object()], TypeError), (fields(timestamp=float), ValueError), ([FOUND], TypeError)],
    )
    def test_wrong_declaration(self, declared, error):
        """What is wrong with a declaration is told when it is made."""
        with pytest.raises(error, match="field"):
            MessageType("app:wrong", declared)


class TestActionType:
    """Actions of a declared type."""

    def test_attributes(self):
        """A type knows its name and what it means."""
        assert COPY.action_type == "app:copy"
        assert COPY.description == "Copies a file."

    def test_parameters_by_name(self):
        """The fields may be given by Eliot's names."""
        action_type = ActionType(
            action_type="app:a", startFields=fields(x=int), successFields=[], description="A."
        )
        assert action_type.description == "A."

    def test_success(self, messages):
        """Start and end have their own fields, serialized."""
        with COPY(source="a") as action:
            action.add_success_fields(target="B")
        start, end = messages
        assert {"action_type": "app:copy", "action_status": "started", "source": "A"}.items() <= (
            start.items()
        )
        assert {"action_status": "succeeded", "target": "b"}.items() <= end.items()
        assert "source" not in end

    def test_failure(self, messages):
        """A failed action has no fields of success, but what its exception tells."""
        register_exception_extractor(CopyError, lambda error: {"why": error.args[0]})
        action = COPY(source="a")
        action.add_success_fields(target="B")
        action.finish(CopyError("full"))
        end = messages[1]
        assert {"action_status": "failed", "reason": "full", "why": "full"}.items() <= end.items()
        assert "target" not in end

    def test_failure_is_valid(self):
        """What an exception and its extractor tell fits every type of actions."""
        logger = MemoryLogger()
        register_exception_extractor(CopyError, lambda _: {"why": [1], "reason": "other"})
        with pytest.raises(CopyError), COPY(logger, source="a"):
            raise CopyError("full")
        logger.validate()
        assert not LoggedAction.of_type(logger.messages, COPY)[0].succeeded

    def test_current(self):
        """Within its block it is the current action; it is a child of the one around it."""
        with start_action(action_type="app:outer") as outer, COPY(source="a") as action:
            assert current_action() is action
            assert outer.task_uuid == action.task_uuid
            assert list(action.task_level) == [2]

    def test_as_task(self):
        """as_task() starts a task of its own, wherever it is called."""
        with start_action(action_type="app:outer") as outer:
            task = COPY.as_task(source="a")
        assert outer.task_uuid != task.task_uuid
        assert list(task.task_level) == []

    @pytest.mark.parametrize("start", [COPY, COPY.as_task])
    def test_logger(self, start):
        """The logger may come first, or by name; a type's values are kept as they are for it."""
        first, second = MemoryLogger(), MemoryLogger()
        start(first, source="a").finish()
        start(logger=second, source="a").finish()
        for logger in (first, second):
            assert [m["action_status"] for m in logger.messages] == ["started", "succeeded"]
            assert logger.messages[0]["source"] == "a"

    @pytest.mark.parametrize("name", [*NAMES, "logger", "_serializers", "task_id", "action_type"])
    def test_any_name(self, name, messages):
        """A field of any name can be logged; the type's own name keeps its value."""
        start = [] if name in {"action_type", "_serializers"} else fields(**{name: int})
        ActionType("app:any", start, [])(**{name: 1})
        expected = {"action_type": "app:any"}.get(name, 1)
        assert messages[0][name] == expected

    @capture_logging(None)
    def test_message_within(self, logger):
        """A message type logged in an action of a type is in it."""
        with COPY(source="a") as action:
            FOUND.log(name="a", size=1)
            action.add_success_fields(target="b")
        (copy,) = LoggedAction.of_type(logger.messages, COPY)
        assert copy.type_tree() == {"app:copy": ["app:found"]}

    @pytest.mark.parametrize(
        ("start", "success", "said"),
        [
            ({}, {"target": "b"}, "'source' is missing"),
            ({"source": "a"}, {}, "'target' is missing"),
            ({"source": "a", "more": 1}, {"target": "b"}, "'more' is not one of"),
            ({"source": "a"}, {"target": "b", "more": 1}, "'more' is not one of"),
        ],
    )
    def test_wrong_in_a_test(self, start, success, said):
        """In a test an action that is not of its type is wrong, at its start or at its end."""
        logger = MemoryLogger()
        with COPY(logger, **start) as action:
            action.add_success_fields(**success)
        with pytest.raises(ValidationError, match=said):
            logger.validate()

    def test_not_to_be_serialized_in_a_program(self, messages):
        """A start that its type cannot serialize leaves the tree whole."""
        with COPY(source=7) as action:
            action.add_success_fields(target="b")
        statuses = [m["action_status"] for m in messages if "action_status" in m]
        assert statuses == ["started", "succeeded"]
        assert "eliot:serialization_failure" in {m.get("message_type") for m in messages}

    @pytest.mark.parametrize(
        "wrong", [[object()], fields(task_level=list), fields(action_type=str)]
    )
    def test_wrong_declaration(self, wrong):
        """What is wrong with a declaration is told when it is made, of either end."""
        for start, success in ((wrong, []), ([], wrong)):
            with pytest.raises((TypeError, ValueError), match=r"[Ff]ield"):
                ActionType("app:wrong", start, success)

    def test_spelling_of_eliot(self):
        """Eliot's other name does the same."""
        assert ActionType.as_task is ActionType.asTask
