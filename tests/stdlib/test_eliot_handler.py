"""Tests of the handler that makes messages of records of `logging`."""

import json
import logging
import logging.config
import logging.handlers
import os
import pickle
import queue
import sys
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import FileDestination, add_destinations, remove_destination, start_action
from eliot_etw._levels import level_of
from eliot_etw.destinations import LevelFilter, MemoryDestination
from eliot_etw.sources import FileSource
from eliot_etw.stdlib import EliotHandler
from eliot_etw.stdlib._attributes import is_without_extra
from tests._programs import run
from tests.test_hostile_values import HOSTILE

PLACE = ("module", "function", "path", "line")
SENDER = ("thread", "thread_name", "process", "process_name")


@pytest.fixture
def handler():
    """Return a handler."""
    handler = EliotHandler()
    yield handler
    handler.close()


@pytest.fixture
def logger(handler):
    """Return a logger that logs everything to the handler, and to nothing else."""
    logger = logging.getLogger("app.db")
    logger.addHandler(handler)
    logger.setLevel(1)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


class TestFields:
    """What a message has."""

    def test_as_eliot(self, logger, messages):
        """It has the type and the fields that Eliot gives it."""
        logger.warning("%s: %d", "text", 7)
        (message,) = messages
        assert message["message_type"] == "eliot:stdlib"
        assert message["log_level"] == "WARNING"
        assert (message["logger"], message["message"]) == ("app.db", "text: 7")

    def test_place_in_the_program(self, logger, messages):
        """It says which line logged it."""
        logger.info("here")
        code = type(self).test_place_in_the_program.__code__
        expected = ["test_eliot_handler", code.co_name, __file__, code.co_firstlineno + 2]
        assert expected == [messages[0][name] for name in PLACE]

    def test_sender(self, logger, messages):
        """It says which thread and which process logged it."""
        thread = threading.Thread(target=logger.info, args=("here",), name="worker")
        thread.start()
        thread.join()
        expected = [thread.ident, "worker", os.getpid(), "MainProcess"]
        assert expected == [messages[0][name] for name in SENDER]

    def test_sender_that_is_not_asked_for(self, logger, messages, monkeypatch):
        """What `logging` is told not to find out is left out."""
        for name in ("logThreads", "logProcesses", "logMultiprocessing"):
            monkeypatch.setattr(logging, name, False)
        logger.info("here")
        assert messages[0].keys() & {"thread", "process"} == set()

    def test_time(self, handler, messages):
        """It has the time at which it was logged, though it may be handled later."""
        record = logging.makeLogRecord({"msg": "then", "created": 1_795_181_013.25})
        handler.handle(record)
        for odd in ("yesterday", float("nan"), float("-inf"), 10**400, None, True):
            handler.handle(logging.makeLogRecord({"msg": "now", "created": odd}))
        then, *now = messages
        assert then["timestamp"] == 1_795_181_013.25
        assert len(now) == 6
        assert all(message["timestamp"] > 1_795_181_013.25 for message in now)

    def test_nothing_is_left_out(self, handler, messages):
        """Each attribute that a record has is a field, or follows from another one."""
        record = logging.LogRecord(
            "app", 25, "/app/place.py", 7, "order %s", ("17",), None, "function", "the stack"
        )
        vars(record).update(
            levelname="NOTICE", thread=1234, threadName="worker", process=5678,
            processName="child", taskName="Task-9", customer="C-17",
        )  # fmt: skip
        handler.handle(record)
        [message] = messages
        follow = {"msg", "args", "filename", "msecs", "relativeCreated", "exc_info", "exc_text"}
        for name, value in vars(record).items():
            assert name in follow or value in message.values(), name
        assert message["message"] == "order 17"
        assert message["task_name"] == "Task-9"

    def test_stack(self, logger, messages):
        """The stack is there if it was asked for."""
        logger.info("here", stack_info=True)
        assert "test_stack" in messages[0]["stack"]

    def test_warnings(self, messages, handler):
        """Python's warnings are records, if `logging` captures them."""
        logger = logging.getLogger("py.warnings")
        logger.addHandler(handler)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            logging.captureWarnings(False)
        logger.removeHandler(handler)
        assert (messages[0]["logger"], messages[0]["log_level"]) == ("py.warnings", "WARNING")
        assert "DeprecationWarning: old" in messages[0]["message"]


class TestLevels:
    """The level is one that filters, journals and viewers understand."""

    @pytest.mark.parametrize("level", [10, 20, 30, 40, 50])
    def test_usual(self, logger, messages, level):
        """A usual level is its name, as in Eliot."""
        logger.log(level, "x")
        assert messages[0]["log_level"] == logging.getLevelName(level)
        assert level_of(messages[0]) == level

    def test_own(self, handler, messages):
        """A level of the program's own is its number, with the name beside it."""
        handler.handle(logging.makeLogRecord({"levelno": 25, "levelname": "NOTICE"}))
        handler.handle(logging.makeLogRecord({"levelno": 40, "levelname": "debug"}))
        assert [(m["log_level"], m["level_name"]) for m in messages] == [
            (25, "NOTICE"),
            (40, "debug"),
        ]
        assert [level_of(message) for message in messages] == [25, 40]

    def test_filtered(self, logger):
        """A filter by levels does with records what it does with messages."""
        memory = MemoryDestination()
        add_destinations(LevelFilter(memory, "error"))
        logger.warning("a")
        logger.error("b")
        assert [message["message"] for message in memory.messages] == ["b"]

    @pytest.mark.parametrize("pattern", ["app.db*", "eliot:stdlib"])
    def test_filtered_by_logger(self, logger, pattern):
        """A filter by types knows a record by its logger's name, and by its own type."""
        memory = MemoryDestination()
        levels = LevelFilter(memory, "warning")
        add_destinations(levels)
        logger.debug("before")
        levels.override([(pattern, "debug")])
        logger.debug("meanwhile")
        levels.override()
        logger.debug("after")
        assert [message["message"] for message in memory.messages] == ["meanwhile"]


class TestExtra:
    """What the program gives as `extra`."""

    def test_own_names(self, logger, messages):
        """Each is a field of its own name, with its value unchanged."""
        value = {"a": [1, None]}
        logger.info("x", extra={"user": "é", "items": value})
        assert messages[0]["user"] == "é"
        assert messages[0]["items"] is value

    def test_names_that_are_taken(self, logger, messages):
        """What has the name of a field of ours is logged with an underscore after it."""
        ours = ["task_uuid", "task_level", "timestamp", "action_type", "message_type"]
        ours += ["log_level", "logger", "path", "line", "function", "thread_name"]
        logger.info("x", extra={name: f"{name}?" for name in ours})
        assert [f"{name}?" for name in ours] == [messages[0][f"{name}_"] for name in ours]
        assert messages[0]["log_level"] == "INFO"
        assert "action_type" not in messages[0]

    @given(st.dictionaries(st.text(), st.none() | st.integers() | st.text()))
    def test_whatever_it_is(self, extra):
        """No field is lost, whatever its name."""
        extra = {name: value for name, value in extra.items() if not is_without_extra({name})}
        if extra.get("task_uuid") == "":
            del extra["task_uuid"]
        memory = MemoryDestination()
        add_destinations(memory)
        EliotHandler().handle(logging.makeLogRecord(extra))
        remove_destination(memory)
        (message,) = memory.messages
        for name, value in extra.items():
            assert value in [message.get(name + "_" * number) for number in range(3)]

    def test_of_a_record_factory(self):
        """What records have from a factory is as good, also if that was there before us."""
        run(
            """
            import logging

            class Record(logging.LogRecord):
                def __init__(self, *args, **kwargs):
                    super().__init__(*args, **kwargs)
                    self.request = "r-1"

            logging.setLogRecordFactory(Record)
            from eliot_etw import add_destinations
            from eliot_etw.stdlib import EliotHandler

            messages = []
            add_destinations(messages.append)
            EliotHandler().handle(logging.makeLogRecord({"msg": "x"}))
            assert messages[0]["request"] == "r-1", messages
            """
        )

    def test_named_as_our_own_mark(self, handler, messages):
        """A field has the name by which we know records that were messages: it is one like any."""
        handler.handle(logging.makeLogRecord({"msg": "x", "eliot_message": "mine"}))
        assert messages[0]["eliot_message"] == "mine"
        assert handler.stats() == {"errors": 0, "ignored": 0}

    def test_to_a_file(self, logger, tmp_path):
        """Values that JSON does not know are written as those of any message."""
        add_destinations(FileDestination(tmp_path / "log"))
        logger.info("x", extra={"tags": {1}, 2: "number"})
        (message,) = FileSource(tmp_path / "log")
        assert (message["tags"], message["2"]) == ([1], "number")


class TestTree:
    """Where in the tree a message is."""

    def test_in_the_action(self, logger, messages):
        """It is in the action in which it was logged."""
        with start_action(action_type="a"):
            logger.info("x")
        start, message, _ = messages
        assert message["task_uuid"] == start["task_uuid"]
        assert [m["task_level"] for m in messages] == [[1], [2], [3]]

    def test_alone(self, logger, messages):
        """Outside of any action it is a task of its own."""
        logger.info("x")
        logger.info("y")
        assert [m["task_level"] for m in messages] == [[1], [1]]
        assert messages[0]["task_uuid"] != messages[1]["task_uuid"]

    def test_not_logged(self, logger, handler, messages):
        """A record that is not logged takes no place."""
        handler.setLevel("ERROR")
        handler.addFilter(lambda record: record.getMessage() != "no")
        with start_action(action_type="a"):
            logger.info("x")
            logger.error("no")
            logger.error("yes")
        assert [m["task_level"] for m in messages] == [[1], [2], [3]]


class TestExceptions:
    """Exceptions in records."""

    def test_traceback(self, logger, messages):
        """An exception is a message of its own after the record's, as in Eliot."""
        error = ValueError("no")
        with start_action(action_type="a"):
            try:
                raise error
            except ValueError:
                logger.exception("failed", extra={"user": 7})
        _, message, traceback, _ = messages
        assert (message["message"], message["user"]) == ("failed", 7)
        assert traceback["message_type"] == "eliot:traceback"
        assert (traceback["reason"], traceback["exception"]) == ("no", "builtins.ValueError")
        assert "test_traceback" in traceback["traceback"]
        assert traceback["task_level"] == [3]

    @pytest.mark.parametrize("exc_info", [(None, None, None), 7, ValueError("x"), ("a",)])
    def test_strange(self, handler, messages, exc_info):
        """Whatever is in the place of an exception, there is a message for it."""
        handler.handle(logging.makeLogRecord({"exc_info": exc_info}))
        kind = "ValueError" if isinstance(exc_info, ValueError) else "NoneType"
        assert messages[1]["exception"] == f"builtins.{kind}"
        assert handler.stats() == {"errors": 0, "ignored": 0}

    def test_text_only(self, handler, messages):
        """Of a record that was in another process there is the text of its exception."""
        handler.handle(logging.makeLogRecord({"exc_text": "Traceback: x"}))
        (message,) = messages
        assert message["traceback"] == "Traceback: x"


class TestTrouble:
    """Records that are not as they should be."""

    def test_arguments_that_do_not_fit(self, handler, messages, capsys):
        """They are reported as all handlers report them, and logged all the same."""
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
        assert messages[0]["message"] == "%d ('x',)"
        assert handler.stats() == {"errors": 1, "ignored": 0}
        assert "--- Logging error ---" in capsys.readouterr().err

    def test_handler_of_errors_that_raises(self, handler, messages):
        """Nor is anything raised if that raises which is told of errors."""
        handler.handleError = lambda record: 1 / 0
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
        assert messages[0]["message"] == "%d ('x',)"

    def test_no_record(self, handler, messages, capsys):
        """What cannot be a record is reported and counted. Nothing is raised."""
        record = logging.makeLogRecord({})
        del record.name
        handler.handle(record)
        assert messages == []
        assert handler.stats() == {"errors": 1, "ignored": 0}

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile(self, handler, tmp_path, name):
        """Whatever the values are, the record is logged."""
        add_destinations(FileDestination(tmp_path / "log"))
        for record in (
            {"msg": HOSTILE[name]()},
            {"msg": "%s", "args": (HOSTILE[name](),)},
            {"value": HOSTILE[name](), "task_uuid": HOSTILE[name]()},
            {"created": HOSTILE[name](), "stack_info": HOSTILE[name]()},
        ):
            handler.handle(logging.makeLogRecord(record))
        logged = [m for m in FileSource(tmp_path / "log") if "logger" in m]
        assert [m["message_type"] for m in logged] == ["eliot:stdlib"] * 4

    def test_value_that_logs(self, logger, tmp_path):
        """A value that logs when it is written does so once, not for ever."""

        class Chatty:
            def __repr__(self):
                logger.info("asked", extra={"me": self})
                return "chatty"

        add_destinations(FileDestination(tmp_path / "log"))
        logger.info("x", extra={"value": Chatty()})
        written = [m["message"] for m in FileSource(tmp_path / "log")]
        assert written == ["asked", "x"]

    def test_destination_that_logs(self, logger, messages):
        """What a destination logs by `logging` goes to the others."""
        add_destinations(lambda message: logger.info("sent"))
        logger.info("x")
        assert [m["message"] for m in messages] == ["x", "sent"]

    def test_threads(self, logger, messages):
        """Threads may log at once: no record is lost or doubled."""

        def log(thread):
            for number in range(250):
                logger.info("x", extra={"id": (thread, number)})

        threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids = [message["id"] for message in messages]
        assert sorted(ids) == [(thread, n) for thread in range(4) for n in range(250)]

    def test_destination_that_waits_for_another_thread_that_logs(self, logger, messages):
        """While one thread is in the handler, others are not kept waiting."""

        def destination(_):
            threads = [threading.Thread(target=lambda: logger.info("y"), daemon=True)]
            remove_destination(destination)
            for thread in threads:
                thread.start()
                thread.join(30)
                assert not thread.is_alive()

        add_destinations(destination)
        logger.info("x")
        assert [m["message"] for m in messages] == ["x", "y"]


def test_budget(handler, tmp_path):
    """A record with `extra`, to a file, is so many calls: a slowdown is seen without a clock."""
    add_destinations(FileDestination(tmp_path / "log"))
    record = logging.makeLogRecord({"msg": "%s", "args": ("x",), "user": 7})
    calls = []

    def note(frame, event, _):
        if event == "call":
            calls.append(frame.f_code.co_name)

    with start_action(action_type="a"):
        handler.handle(record)  # what is done once only is done
        sys.setprofile(note)
        try:
            handler.handle(record)
        finally:
            sys.setprofile(None)
    assert len(calls) <= 18, calls


class TestSetUp:
    """How it gets into a program."""

    def test_dict_config(self, messages):
        """A configuration names it like any handler, or by a factory."""
        for form in (
            {"class": "eliot_etw.stdlib.EliotHandler", "level": "WARNING"},
            {"()": "eliot_etw.stdlib.EliotHandler", "level": "WARNING"},
        ):
            logging.config.dictConfig(
                {
                    "version": 1,
                    "disable_existing_loggers": False,
                    "handlers": {"tree": form},
                    "loggers": {"app.set_up": {"handlers": ["tree"], "level": "DEBUG"}},
                }
            )
            logging.getLogger("app.set_up").info("no")
            logging.getLogger("app.set_up").warning("yes")
        logging.getLogger("app.set_up").handlers.clear()
        assert [m["message"] for m in messages] == ["yes", "yes"]

    def test_behind_a_queue(self, handler, messages):
        """It may be behind a queue: nothing but the place in the tree is lost."""
        records = queue.SimpleQueue()
        logger = logging.getLogger("app.queued")
        logger.addHandler(logging.handlers.QueueHandler(records))
        logger.warning("%s", "x", extra={"user": 7})
        logger.handlers.clear()
        listener = logging.handlers.QueueListener(records, handler)
        listener.start()
        listener.stop()
        (message,) = messages
        assert (message["message"], message["user"]) == ("x", 7)
        assert message["thread_name"] == threading.current_thread().name

    def test_from_another_process(self, handler, messages):
        """Records that were sent as their attributes are messages like others."""
        sender = logging.handlers.SocketHandler("localhost", None)
        record = logging.makeLogRecord({"msg": "%s", "args": ("x",), "user": 7})
        received = pickle.loads(sender.makePickle(record)[4:])
        sender.close()
        handler.handle(logging.makeLogRecord(received))
        assert (messages[0]["message"], messages[0]["user"]) == ("x", 7)


# After the example in Eliot's documentation, which is to run with another import.
EXAMPLE = """
import logging, sys, warnings
from {package} import start_action, to_file
from {package}.stdlib import EliotHandler

to_file(sys.stdout)
logging.getLogger().addHandler(EliotHandler())
logging.getLogger().setLevel(logging.DEBUG)
logging.captureWarnings(True)

def order(number):
    with start_action(action_type="order", number=number):
        logging.getLogger("shop").info("order %d", number)
        try:
            1 / (number - 2)
        except ZeroDivisionError:
            logging.getLogger("shop").exception("no price")

order(1)
order(2)
logging.debug("done")
warnings.warn("old")
"""


def test_example_of_eliot():
    """It runs with only the import changed; each message has all that Eliot's has."""
    pytest.importorskip("eliot")
    logged = []
    for package in ("eliot", "eliot_etw"):
        done = run(EXAMPLE.format(package=package))
        logged.append([json.loads(line) for line in done.stdout.splitlines()])
    theirs, ours = logged
    assert len(theirs) == len(ours) == 10
    for their, our in zip(theirs, ours, strict=True):
        same = their.keys() - {"task_uuid", "timestamp", "traceback"}
        assert {name: their[name] for name in same} == {name: our[name] for name in same}


def test_file_config(messages, tmp_path):
    """The older kind of configuration names it, too."""
    (tmp_path / "log.ini").write_text(
        "[loggers]\nkeys=root,app\n[handlers]\nkeys=tree\n[formatters]\nkeys=\n"
        "[logger_root]\nhandlers=\n"
        "[logger_app]\nhandlers=tree\nqualname=app.file_config\nlevel=INFO\n"
        "[handler_tree]\nclass=eliot_etw.stdlib.EliotHandler\nlevel=INFO\nargs=()\n"
    )
    level = logging.getLogger().level
    logging.config.fileConfig(tmp_path / "log.ini", disable_existing_loggers=False)
    logging.getLogger().setLevel(level)
    logging.getLogger("app.file_config").info("x")
    logging.getLogger("app.file_config").handlers.clear()
    assert [m["message"] for m in messages] == ["x"]
