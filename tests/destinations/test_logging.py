"""Tests of messages as records of `logging`, and of both ways at once: there is no loop."""

import http.server
import logging
import logging.handlers
import pickle
import queue
import threading
import time

import pytest

from eliot_etw import add_destinations, log_message, logging_stats, start_action, write_traceback
from eliot_etw.destinations import (
    BackgroundDestination,
    LevelFilter,
    LoggingDestination,
    RateLimitedDestination,
    RedactedDestination,
    TailSampledDestination,
)
from eliot_etw.destinations.tail_sampled import one_in
from eliot_etw.stdlib import EliotHandler, TaskContextRecordFactory
from tests._programs import run
from tests.test_hostile_values import HOSTILE

FORMAT = "%(levelname)s %(name)s %(message)s"


class Keeper(logging.Handler):
    """A handler that keeps records."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def keeper():
    """Return a handler of the logger `eliot`, which takes everything."""
    keeper = Keeper()
    logger = logging.getLogger("eliot")
    logger.addHandler(keeper)
    logger.setLevel(1)
    yield keeper
    logger.removeHandler(keeper)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def destination(keeper):
    """Return a destination that is in use."""
    destination = LoggingDestination()
    add_destinations(destination)
    return destination


def log_failure():
    """Log an action that fails, and a traceback of why."""
    try:
        with start_action(action_type="a"):
            raise ValueError("no")
    except ValueError:
        write_traceback()


class TestRecords:
    """What a record has."""

    def test_text(self, destination, keeper):
        """Its message is a line for people, in which percent signs mean nothing."""
        log_message("app:paid", amount="100 %s", by="card")
        (record,) = keeper.records
        assert logging.Formatter(FORMAT).format(record) == (
            "INFO eliot app:paid amount=100 %s by=card"
        )

    def test_kinds(self, destination, keeper):
        """Messages of one kind have one text and different arguments: so services group them."""
        for amount in (1, 2):
            log_message("app:100%", amount=amount)
        with start_action(action_type="app:act", amount=3):
            pass
        log_message("alone")
        texts = [(record.msg, record.args, record.getMessage()) for record in keeper.records]
        assert texts == [
            ("app:100%%%s", (" amount=1",), "app:100% amount=1"),
            ("app:100%%%s", (" amount=2",), "app:100% amount=2"),
            ("app:act started%s", (" amount=3",), "app:act started amount=3"),
            ("app:act succeeded", (), "app:act succeeded"),
            ("alone", (), "alone"),
        ]

    def test_fields(self, destination, keeper, messages):
        """Fields are attributes; those that would hide something of the record give way."""
        taken = {"name": 1, "msg": 2, "args": 3, "message": 4, "asctime": 5, "levelno": 6}
        taken |= {"exc_info": 7, "taskName": 8, "eliot_message": 9}
        with start_action(action_type="a"):
            log_message("app:paid", amount=100, **taken)
        record = keeper.records[1]
        assert (record.amount, record.message_type) == (100, "app:paid")
        assert list(taken.values()) == [getattr(record, f"{name}_") for name in taken]
        assert (record.name, record.levelno) == ("eliot", 20)
        assert record.task_uuid == messages[1]["task_uuid"]
        assert record.task_level == "/2"

    def test_whole_message(self, destination, keeper, messages):
        """The whole message is there too, and may be changed without harm."""
        log_message("app:paid", amount=100)
        message = keeper.records[0].eliot_message
        assert message == messages[0]
        message.clear()
        assert messages[0]["amount"] == 100

    @pytest.mark.parametrize(
        ("level", "number", "name"),
        [
            ("debug", 10, "DEBUG"),
            ("WARNING", 30, "WARNING"),
            (25, 25, "Level 25"),
            (-3, 1, "Level 1"),
            ("loud", 20, "INFO"),
        ],
    )
    def test_level(self, destination, keeper, level, number, name):
        """Its level is the message's; `logging` knows none below 1."""
        log_message("app:x", log_level=level)
        assert (keeper.records[0].levelno, keeper.records[0].levelname) == (number, name)

    def test_levels_of_actions(self, destination, keeper):
        """What failed is an error, a traceback critical."""
        log_failure()
        assert [r.levelname for r in keeper.records] == ["INFO", "ERROR", "CRITICAL"]

    def test_time(self, keeper):
        """It is as old as the message."""
        LoggingDestination()({"message_type": "x", "timestamp": 1_795_181_013.25})
        (record,) = keeper.records
        assert (record.created, record.msecs) == (1_795_181_013.25, 250)
        now = logging.makeLogRecord({})
        expected = now.relativeCreated - (now.created - record.created) * 1000
        assert record.relativeCreated == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize(
        "timestamp", [None, "then", float("nan"), float("inf"), 1e300, 10**400, -1.5, 1e12]
    )
    def test_no_time(self, keeper, timestamp):
        """A message without a time that makes sense has that of now."""
        before = time.time()
        LoggingDestination()({"message_type": "x", "timestamp": timestamp})
        assert before <= keeper.records[0].created <= time.time()
        assert logging.Formatter("%(asctime)s").format(keeper.records[0])

    @pytest.mark.parametrize("message", [{}, {"task_level": 7, 3: 4}, {"message_type": [1]}])
    def test_strange(self, keeper, message):
        """A message of any kind is a record, with all that it has."""
        LoggingDestination()(message)
        assert keeper.records[0].eliot_message == message

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile(self, name):
        """Whatever the values are, there is a record."""
        value = HOSTILE[name]
        keeper, logger = Keeper(), logging.Logger("apart", level=1)
        logger.addHandler(keeper)
        for message in (
            {"v": value(), "task_level": [value()], "timestamp": value()},
            {"message_type": value(), "log_level": value()},
            {"action_status": "failed", "action_type": "a", "exception": value()},
        ):
            LoggingDestination(logger)(message)
        assert len(keeper.records) == 3

    def test_record_factory(self, destination, keeper):
        """The program's own kind of records is used, and the message says where it belongs."""
        logging.setLogRecordFactory(TaskContextRecordFactory())
        try:
            with start_action(action_type="a"):
                log_message("app:x")
        finally:
            logging.setLogRecordFactory(logging.LogRecord)
        assert [record.task_level for record in keeper.records] == ["/1", "/2", "/3"]

    def test_record_factory_that_was_there_before(self):
        """The same if the program had chosen it before it imported us."""
        program = """
import logging
from eliot_etw.stdlib import TaskContextRecordFactory
logging.setLogRecordFactory(TaskContextRecordFactory())
from eliot_etw.destinations import LoggingDestination
records = []
logger = logging.Logger("app")
logger.handle = records.append
LoggingDestination(logger)({"task_uuid": "u", "task_level": [2, 1]})
assert (records[0].task_uuid, records[0].task_level) == ("u", "/2/1"), vars(records[0])
"""
        run(program)


class TestExceptions:
    """What handlers are told of exceptions."""

    def test_handled_now(self, destination, keeper):
        """The exception itself, as Sentry wants it, with the failed action and the traceback."""
        log_failure()
        start, end, traceback = keeper.records
        assert start.exc_info is None
        assert str(end.exc_info[1]) == str(traceback.exc_info[1]) == "no"
        assert end.exc_info[2] is not None

    def test_handled_elsewhere(self, keeper):
        """The text of the traceback, where there is no exception."""
        background = BackgroundDestination(LoggingDestination())
        add_destinations(background)
        log_failure()
        background.close()
        traceback = keeper.records[2]
        assert traceback.exc_info is None
        shown = logging.Formatter(FORMAT).format(traceback)
        assert shown.startswith("CRITICAL eliot eliot:traceback: builtins.ValueError: no\nTrace")
        assert shown.endswith("ValueError: no")

    def test_another_one(self, destination, keeper):
        """An exception that is handled meanwhile, and not told of, is none of the record's."""
        try:
            raise KeyError("other")
        except KeyError:
            log_message("app:x")
            with start_action(action_type="a") as action:
                action.finish(ValueError("no"))
        assert [record.exc_info for record in keeper.records] == [None, None, None]


class TestLogger:
    """Which logger it is, and what that takes."""

    def test_named(self):
        """It may be any logger, or the name of one."""
        keeper = Keeper()
        logger = logging.getLogger("app.tree")
        logger.addHandler(keeper)
        for chosen in (logger, "app.tree"):
            LoggingDestination(chosen)({"log_level": "error"})
        logger.removeHandler(keeper)
        assert [record.name for record in keeper.records] == ["app.tree", "app.tree"]

    def test_level(self, destination, keeper):
        """What is below the logger's level is no record, and counted."""
        logging.getLogger("eliot").setLevel("WARNING")
        log_message("app:x")
        log_message("app:y", log_level="error")
        assert len(keeper.records) == 1
        assert destination.stats() == {"below_level": 1, "ignored": 0}

    def test_handler_that_raises(self, destination, messages):
        """That is a failure of the destination like any other."""
        handler = Keeper()
        handler.emit = lambda record: 1 / 0
        logger = logging.getLogger("eliot")
        logger.setLevel(1)
        logger.addHandler(handler)
        log_message("app:x")
        logger.removeHandler(handler)
        assert messages[1]["message_type"] == "eliot:destination_failure"
        assert messages[1]["exception"] == "builtins.ZeroDivisionError"

    def test_rotating_file(self, tmp_path):
        """A handler of the standard library writes them, and begins new files."""
        path = tmp_path / "log"
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=200, backupCount=50)
        handler.setFormatter(logging.Formatter(FORMAT))
        logger = logging.getLogger("app.rotated")
        logger.addHandler(handler)
        add_destinations(LoggingDestination("app.rotated"))
        for number in range(50):
            log_message("app:x", log_level="error", number=number)
        logger.removeHandler(handler)
        handler.close()
        lines = "".join(file.read_text("utf-8") for file in tmp_path.iterdir()).splitlines()
        expected = [f"ERROR app.rotated app:x log_level=error number={n}" for n in range(50)]
        assert len([*tmp_path.iterdir()]) > 5
        assert sorted(expected) == sorted(lines)

    def test_to_another_process(self, keeper):
        """A handler that sends records elsewhere sends all of it, and it is still told apart."""
        add_destinations(LoggingDestination())
        log_failure()
        sender = logging.handlers.SocketHandler("localhost", None)
        ignoring = EliotHandler()
        for record in keeper.records:
            received = logging.makeLogRecord(pickle.loads(sender.makePickle(record)[4:]))
            assert received.eliot_message == record.eliot_message
            ignoring.handle(received)
        sender.close()
        assert "ValueError: no" in received.exc_text
        assert ignoring.stats() == {"errors": 0, "ignored": 3}


class TestBothWays:
    """Records become messages, and messages records, and neither comes back."""

    @pytest.fixture
    def both(self):
        """Put a handler that makes messages on the root logger, and return it."""
        handler = EliotHandler()
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(1)
        yield handler
        root.removeHandler(handler)
        root.setLevel(level)

    def test_from_each_side(self, both, destination, keeper, messages):
        """A record is one message and no second record; a message one record and no second one."""
        logging.getLogger("app").info("from logging")
        log_message("app:x")
        assert [m["message_type"] for m in messages] == ["eliot:stdlib", "app:x"]
        assert [r.message_type for r in keeper.records] == ["app:x"]
        assert destination.stats() == {"below_level": 0, "ignored": 1}
        assert both.stats() == {"errors": 0, "ignored": 1}

    def test_exceptions(self, both, destination, keeper, messages):
        """The traceback of a record does not come back either, one of the program's does."""
        try:
            raise ValueError
        except ValueError:
            logging.getLogger("app").exception("from logging")
        assert keeper.records == []
        log_failure()
        assert len(keeper.records) == 3
        assert len(messages) == 5

    @pytest.mark.parametrize("name", ["", "eliot", "app", "app.part"])
    def test_same_logger(self, messages, name):
        """They may be on the same logger, on the root, or one above the other."""
        handler, keeper = EliotHandler(), Keeper()
        loggers = [logging.getLogger(name), logging.getLogger("app")]
        for logger in loggers:
            logger.addHandler(handler)
            logger.addHandler(keeper)
            logger.setLevel(1)
        add_destinations(LoggingDestination(name))
        logging.getLogger(name).info("from logging")
        log_message("app:x")
        for logger in loggers:
            logger.removeHandler(handler)
            logger.removeHandler(keeper)
            logger.setLevel(logging.NOTSET)
        assert {m["message_type"] for m in messages} == {"eliot:stdlib", "app:x"}
        assert len(messages) <= 3
        assert len(keeper.records) <= 4

    def test_several_of_each(self, both, destination, messages):
        """However many there are, each crosses once."""
        second = EliotHandler()
        logging.getLogger("eliot").addHandler(second)
        add_destinations(LoggingDestination("app.a"), LoggingDestination())
        log_message("app:x")
        logging.getLogger("eliot").info("from logging")
        logging.getLogger("eliot").removeHandler(second)
        assert [m["message_type"] for m in messages] == ["app:x"] + ["eliot:stdlib"] * 2

    def test_threads(self, both, destination, keeper, messages):
        """Threads that log on both sides get each record and each message across once."""

        def log(thread):
            for number in range(100):
                logging.getLogger("app").info("x", extra={"id": (thread, number)})
                log_message("app:x", id=(thread, number))

        threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(keeper.records) == 400
        assert len(messages) == 800

    def test_handler_that_logs(self, both, destination, messages):
        """What a handler logs in its turn, as the clients of services do, comes to an end."""

        class Sender(logging.Handler):
            def emit(self, record):
                logging.getLogger("client").debug("sending")

        sender = Sender()
        logging.getLogger("eliot").addHandler(sender)
        log_message("app:x")
        logging.getLogger("eliot").removeHandler(sender)
        assert [m.get("message") for m in messages] == ["sending", None]

    def test_handler_that_logs_by_messages(self, destination, messages):
        """So does what a handler logs as a message."""

        class Sender(logging.Handler):
            def emit(self, record):
                log_message("client:sending")

        sender = Sender()
        logging.getLogger("eliot").addHandler(sender)
        log_message("app:x")
        logging.getLogger("eliot").removeHandler(sender)
        assert [m["message_type"] for m in messages] == ["client:sending", "app:x"]
        assert logging_stats()["dropped_as_reentrant"] == 1

    def test_handler_behind_a_queue_that_logs(self, both, messages):
        """Nor does it go on for ever if the handler is in a thread of its own."""
        sent = []

        class Sender(logging.Handler):
            def emit(self, record):
                sent.append(record.getMessage())
                logging.getLogger("client").debug("sending")

        records = queue.SimpleQueue()
        logger = logging.getLogger("eliot")
        queueing = logging.handlers.QueueHandler(records)
        logger.addHandler(queueing)
        listener = logging.handlers.QueueListener(records, Sender())
        listener.start()
        add_destinations(LoggingDestination())
        log_message("app:x", log_level="error")
        listener.stop()
        logger.removeHandler(queueing)
        assert sent == ["app:x log_level=error"]
        assert [m["message_type"] for m in messages] == ["app:x", "eliot:stdlib"]

    @pytest.mark.parametrize(
        "around",
        [
            lambda inner: inner,
            lambda inner: RedactedDestination(inner, keys=["*client*"]),
            lambda inner: RateLimitedDestination(inner, burst=100),
            lambda inner: TailSampledDestination(inner, one_in(1)),
            lambda inner: LevelFilter(BackgroundDestination(inner)),
        ],
        ids=["bare", "redacted", "limited", "sampled", "background"],
    )
    def test_queue_and_failing_destination(self, both, messages, around):
        """Nor by way of reports that another destination failed with what was a record."""
        sent = []

        class Sender(logging.Handler):
            def emit(self, record):
                sent.append(record.message_type)
                logging.getLogger("client").debug("sending")

        def failing(message):
            raise OSError("full")

        records = queue.SimpleQueue()
        logger = logging.getLogger("eliot")
        queueing = logging.handlers.QueueHandler(records)
        logger.addHandler(queueing)
        listener = logging.handlers.QueueListener(records, Sender())
        listener.start()
        destination = around(LoggingDestination())
        add_destinations(failing, destination)
        log_message("app:x", log_level="error")
        deadline = time.monotonic() + 30
        while len(sent) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        if hasattr(destination, "close"):
            destination.close()
        listener.stop()
        logger.removeHandler(queueing)
        assert sorted(sent) == ["app:x", "eliot:destination_failure"]

    def test_background(self, both, keeper, messages):
        """Nor if the destination is in a thread of its own."""

        class Sender(logging.Handler):
            def emit(self, record):
                logging.getLogger("client").debug("sending")

        sender = Sender()
        logging.getLogger("eliot").addHandler(sender)
        background = BackgroundDestination(LoggingDestination())
        add_destinations(background)
        log_message("app:x")
        logging.getLogger("app").info("from logging")
        background.close()
        logging.getLogger("eliot").removeHandler(sender)
        assert [r.message_type for r in keeper.records] == ["app:x"]
        assert sorted(m.get("message", "") for m in messages) == ["", "from logging", "sending"]

    def test_real_client(self, both, messages):
        """A handler that sends by HTTP, to a server that logs, sends each message once."""
        got = []

        class Server(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                got.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, text, *args):
                logging.getLogger("server").info(text, *args)

        server = http.server.HTTPServer(("127.0.0.1", 0), Server)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        class Sender(logging.handlers.HTTPHandler):
            def mapLogRecord(self, record):  # noqa: N802 - as logging calls it
                logging.getLogger("client").debug("sending")
                return {"type": record.message_type}

        host = f"127.0.0.1:{server.server_port}"
        sender = Sender(host, "/")
        logging.getLogger("eliot").addHandler(sender)
        add_destinations(LoggingDestination())
        for number in range(3):
            log_message("app:x", number=number)
        logging.getLogger("eliot").removeHandler(sender)
        server.shutdown()
        thread.join()
        server.server_close()
        assert got == ["/?type=app%3Ax"] * 3
        logged = [m.get("logger", m["message_type"]) for m in messages]
        assert sorted(logged) == ["app:x"] * 3 + ["client"] * 3 + ["server"] * 3
