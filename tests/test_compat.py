"""Tests of Eliot's camelCase spellings, and of what it calls deprecated."""

import warnings

import pytest

import eliot_etw
from eliot_etw import (
    Action,
    ActionType,
    Field,
    Logger,
    MemoryLogger,
    Message,
    add_destination,
    add_destinations,
    addDestination,
    addGlobalFields,
    log_message,
    remove_destination,
    removeDestination,
    start_action,
    startAction,
    startTask,
    use_asyncio_context,
)
from eliot_etw._task_level import TaskLevel
from eliot_etw.destinations import MemoryDestination


class TestFunctions:
    """Functions under another name."""

    @pytest.mark.parametrize(
        ("camel", "snake"),
        [
            ("startAction", "start_action"),
            ("startTask", "start_task"),
            ("writeTraceback", "write_traceback"),
            ("writeFailure", "write_failure"),
            ("removeDestination", "remove_destination"),
            ("addGlobalFields", "add_global_fields"),
            ("addDestination", "add_destination"),
        ],
    )
    def test_same(self, camel, snake):
        """Each is the very function of the newer name."""
        assert getattr(eliot_etw, camel) == getattr(eliot_etw, snake)

    @pytest.mark.parametrize("add", [add_destination, addDestination])
    def test_one_destination(self, add):
        """The old ones add one destination."""
        memory = MemoryDestination()
        add(memory)
        addGlobalFields(x=1)
        log_message("t")
        removeDestination(memory)
        log_message("u")
        assert [(m["message_type"], m["x"]) for m in memory.messages] == [("t", 1)]

    def test_warns(self):
        """What has nothing to do any more says so, and where it was called."""
        with pytest.warns(DeprecationWarning, match=r"does nothing.*Remove the call") as caught:
            use_asyncio_context()
        assert caught[0].filename == __file__

    def test_no_other_warning(self, messages):
        """Nothing else that the newer Eliot calls deprecated warns, or is missing."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            add_destination(print)
            remove_destination(print)
            Message.new(message_type="t").bind(x=1).write(Logger())
            Message.log(message_type="u")
            with startAction(action_type="a"), startTask(action_type="b"):
                pass
        assert len(messages) == 6


class TestMethods:
    """Methods under another name."""

    def test_action(self, messages):
        """Those of actions."""
        with start_action(action_type="a") as action:
            action.addSuccessFields(x=1)
            task_id = action.serializeTaskId()
        assert Action.continueTask(task_id=task_id).task_uuid == action.task_uuid
        assert messages[1]["x"] == 1

    def test_field(self):
        """Those of fields."""
        assert Field.forValue("x", 7).serialize(None) == 7
        assert Field.forTypes("x", [int]).key == "x"

    def test_action_type(self, messages):
        """Those of types of actions."""
        ActionType("a", [], []).asTask()
        assert messages[0]["task_level"] == [1]

    def test_memory_logger(self):
        """Those of loggers in memory."""
        assert MemoryLogger().flushTracebacks(Exception) == []

    def test_destinations(self, messages):
        """Those of the program's destinations."""
        Logger._destinations.addGlobalFields(x=1)
        log_message("t")
        assert messages[0]["x"] == 1

    def test_task_level(self):
        """Those of levels."""
        assert TaskLevel.fromString("/2/3").toString() == "/2/3"

    def test_derived_class(self):
        """A derived class's class methods under their old names make the derived class."""

        class Mine(Field):
            pass

        assert type(Mine.forValue("x", 7)) is Mine


def test_add_destinations_again():
    """The newer function takes several, and is no other program's: both reach one place."""
    one, two = MemoryDestination(), MemoryDestination()
    add_destinations(one, two)
    log_message("t")
    assert one.messages == two.messages != []
