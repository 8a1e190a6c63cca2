"""Tests of what tells formatters where in the tree a record was logged."""

import logging
import logging.config
import logging.handlers
import queue

import pytest

from eliot_etw import start_action
from eliot_etw.stdlib import EliotHandler, EtwHandler, TaskContextFilter, TaskContextRecordFactory
from eliot_etw.testing import RecordingEtw

FORMAT = "[%(task_uuid)s@%(task_level)s] %(message)s"


class Keeper(logging.Handler):
    """A handler that keeps what a formatter makes."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self.setFormatter(logging.Formatter(FORMAT))

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def keeper():
    """Return a handler, on a logger of its own, that keeps what is formatted."""
    keeper = Keeper()
    logger = logging.getLogger("app.context")
    logger.addHandler(keeper)
    logger.setLevel(1)
    yield keeper
    logger.handlers.clear()
    logger.filters.clear()


@pytest.fixture(params=["filter", "factory"])
def lines(request, keeper):
    """Return what is formatted, in each of the two ways."""
    if request.param == "filter":
        keeper.addFilter(TaskContextFilter())
        yield keeper.lines
        return
    logging.setLogRecordFactory(TaskContextRecordFactory())
    yield keeper.lines
    logging.setLogRecordFactory(logging.LogRecord)


def log(text="x", **extra):
    logging.getLogger("app.context").info(text, extra=extra)


class TestBoth:
    """What both do."""

    def test_in_actions(self, lines):
        """A record says in which action it was logged."""
        with start_action(action_type="a") as action:
            log()
            with start_action(action_type="b"):
                log()
        uuid = action.task_uuid
        assert lines == [f"[{uuid}@/] x", f"[{uuid}@/2] x"]

    def test_outside(self, lines):
        """Outside of any action there is nothing to say."""
        log()
        assert lines == ["[@] x"]

    def test_takes_no_place(self, lines, messages):
        """The tree has no gaps where records were logged."""
        with start_action(action_type="a"):
            log()
        assert [message["task_level"] for message in messages] == [[1], [2]]

    def test_not_twice_in_messages(self, lines, messages):
        """A message has its own place, and does not repeat that of the action."""
        logger = logging.getLogger("app.context")
        logger.addHandler(EliotHandler())
        log()
        with start_action(action_type="a"):
            log()
        assert not {"task_uuid_", "task_level_"} & (messages[0].keys() | messages[2].keys())

    def test_not_twice_in_events(self, lines):
        """Nor does an event."""
        logger = logging.getLogger("app.context")
        with RecordingEtw() as etw:
            handler = EtwHandler()
            logger.addHandler(handler)
            etw.enable()
            with start_action(action_type="a") as action:
                log()
            handler.close()
        fields = etw.events[0].decode().as_dict()
        assert (fields["task_uuid"], fields["task_level"]) == (action.task_uuid, "/")
        assert not {"task_uuid_", "task_level_"} & fields.keys()


class TestFilter:
    """`TaskContextFilter`."""

    def test_keeps_what_is_there(self, keeper):
        """A record that says where it is from, from `extra` or elsewhere, is not changed."""
        keeper.addFilter(TaskContextFilter())
        with start_action(action_type="a"):
            log(task_uuid="mine", task_level="/7")
        assert keeper.lines == ["[mine@/7] x"]

    def test_before_a_queue(self, keeper, messages):
        """Put before a queue, what is behind it knows where a record was logged."""
        logger = logging.getLogger("app.context")
        records = queue.SimpleQueue()
        queueing = logging.handlers.QueueHandler(records)
        queueing.addFilter(TaskContextFilter())
        logger.handlers[:] = [queueing]
        with start_action(action_type="a") as action:
            log()
        listener = logging.handlers.QueueListener(records, keeper, EliotHandler())
        listener.start()
        listener.stop()
        assert keeper.lines == [f"[{action.task_uuid}@/] x"]
        assert messages[2]["task_uuid_"] == action.task_uuid

    def test_dict_config(self):
        """A configuration names it as a class that is called."""
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "filters": {"tree": {"()": "eliot_etw.stdlib.TaskContextFilter"}},
                "handlers": {"kept": {"()": Keeper, "filters": ["tree"]}},
                "loggers": {"app.context": {"handlers": ["kept"], "level": "INFO"}},
            }
        )
        logger = logging.getLogger("app.context")
        log()
        assert logger.handlers[0].lines == ["[@] x"]
        logger.handlers.clear()


class TestFactory:
    """`TaskContextRecordFactory`."""

    def test_around_another(self):
        """It adds to what another factory makes."""

        class Record(logging.LogRecord):
            pass

        factory = TaskContextRecordFactory(Record)
        record = factory("app", 20, "", 0, "x", (), None)
        assert type(record) is Record
        assert (record.task_uuid, record.task_level) == ("", "")

    def test_around_the_one_in_use(self):
        """If none is named it is the one in use."""
        before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(TaskContextRecordFactory(logging.LogRecord))
        try:
            outer = TaskContextRecordFactory()
            assert isinstance(outer._factory, TaskContextRecordFactory)
        finally:
            logging.setLogRecordFactory(before)
