"""Tests of the handler that ships records to a collector."""

import logging
import logging.config
import os
import threading

import pytest

pytest.importorskip("zmq")
pytest.importorskip("msgspec")

from eliot_etw import add_destinations, start_action
from eliot_etw.destinations import LoggingDestination
from eliot_etw.stdlib import EliotHandler, ZmqHandler
from tests._collector import Collector, free_endpoint
from tests._programs import run


@pytest.fixture
def collector():
    """Return a collector."""
    with Collector() as collector:
        yield collector


@pytest.fixture
def handler(collector):
    """Return a handler."""
    handler = ZmqHandler(collector.endpoint)
    yield handler
    handler.close()


@pytest.fixture
def logger(handler):
    """Return a logger that logs everything to the handler, and to nothing else."""
    logger = logging.Logger("app.db", level=1)
    logger.addHandler(handler)
    return logger


@pytest.fixture
def shipped(handler, collector):
    """Return what lists the messages that arrived."""

    def shipped():
        assert handler.destination.flush(60)
        return collector.messages()

    return shipped


def without_place(message):
    """Return what a message says, but for where and when, and by which process."""
    return {
        key: value
        for key, value in message.items()
        if key not in {"timestamp", "task_uuid", "task_level", "line"}
    }


class TestMessages:
    """What arrives."""

    def test_as_the_other_handler(self, logger, messages, shipped):
        """It is what `EliotHandler` makes of the same record, exceptions included."""
        logger.addHandler(EliotHandler())
        logger.warning("%s: %d", "text", 7, extra={"user_id": 5})
        try:
            raise KeyError("missing")
        except KeyError:
            logger.exception("failed")
        assert len(messages) == 3
        assert [without_place(m) for m in shipped()] == [without_place(m) for m in messages]

    def test_not_to_the_destinations(self, logger, messages, shipped):
        """The program's own destinations do not get it."""
        logger.warning("x", exc_info=ValueError("no"))
        assert [m["message_type"] for m in shipped()] == ["eliot:stdlib", "eliot:traceback"]
        assert messages == []

    def test_place(self, logger, messages, shipped):
        """It has a place of its own in the current action, between those of its messages."""
        with start_action(action_type="a") as action:
            logger.info("1")
            logger.info("2", exc_info=ValueError("no"))
            action.log("m")
        levels = [m["task_level"] for m in shipped()]
        assert levels == [[2], [3], [4]]
        assert {m["task_uuid"] for m in [*messages, *shipped()]} == {action.task_uuid}
        assert [m["task_level"] for m in messages] == [[1], [5], [6]]

    def test_outside_of_actions(self, logger, shipped):
        """Outside of actions, each is a task of its own."""
        logger.info("1")
        logger.info("2")
        one, two = shipped()
        assert one["task_level"] == two["task_level"] == [1]
        assert one["task_uuid"] != two["task_uuid"]

    def test_no_loop(self, logger, handler, shipped):
        """What was a message already is not shipped as a record."""
        add_destinations(LoggingDestination(logger))
        with start_action(action_type="a"):
            pass
        assert shipped() == []
        assert handler.stats()["ignored"] == 2

    def test_threads(self, logger, shipped):
        """Several threads may log at once."""

        def log(thread):
            for number in range(500):
                logger.info("%d %d", thread, number)

        threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"{thread} {number}" for thread in range(4) for number in range(500)}
        messages = shipped()
        assert len(messages) == 2000
        assert {m["message"] for m in messages} == expected


class TestTrouble:
    """What can go wrong."""

    def test_arguments_that_do_not_fit(self, logger, shipped, capsys):
        """They are told of as with all handlers, and the record arrives."""
        logger.info("%d", "text")
        (message,) = shipped()
        assert message["message"] == "%d ('text',)"
        assert "Logging error" in capsys.readouterr().err

    def test_closed(self, handler, logger, messages):
        """What is logged after it was closed is a failure, which the destinations are told."""
        handler.close()
        handler.close()
        logger.info("late")
        assert [m["message_type"] for m in messages] == ["eliot:destination_failure"]
        assert handler.stats()["dropped"] == 1

    def test_counts(self, logger, handler, shipped):
        """The counts are those of records and of messages."""
        logger.info("x")
        shipped()
        stats = handler.stats()
        assert (stats["errors"], stats["ignored"], stats["acknowledged"]) == (0, 0, 1)


def test_settings(tmp_path):
    """All settings of the destination may be given; wrong ones are errors."""
    handler = ZmqHandler(free_endpoint(), "ERROR", spool_folder=tmp_path, max_queued=5)
    assert handler.level == logging.ERROR
    assert handler.destination._max_queued == 5
    handler.close()
    with pytest.raises(ValueError, match="on this machine while there are no keys"):
        ZmqHandler("tcp://logs.example.com:1")
    with pytest.raises(TypeError, match="colour"):
        ZmqHandler(free_endpoint(), colour="blue")


def test_dict_config(collector):
    """It is set up as any handler, and delivers at the end of the program."""
    run(
        """
import logging.config, sys
logging.config.dictConfig({
    "version": 1,
    "handlers": {"ship": {"class": "eliot_etw.stdlib.ZmqHandler", "endpoint": sys.argv[1]}},
    "root": {"level": "INFO", "handlers": ["ship"]},
})
logging.getLogger("app").info("hello")
""",
        collector.endpoint,
    )
    (message,) = collector.messages()
    assert (message["logger"], message["message"]) == ("app", "hello")
    assert message["process"] != os.getpid()
