"""Tests of what messages are written to: `Logger`, `MemoryLogger`, and one in another's place."""

import json
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import (
    Field,
    ILogger,
    Logger,
    MemoryLogger,
    Message,
    MessageType,
    ValidationError,
    add_global_fields,
    fields,
    log_message,
    start_action,
    write_failure,
    write_traceback,
)
from eliot_etw._logger import swap_logger
from eliot_etw.typing import Writer

LENGTH = MessageType("app:length", [Field("text", len)], "How long a text is.")
PORT = MessageType("app:port", fields(port=int), "A port was opened.")

json_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
json_values = st.recursive(
    json_scalars | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=10,
)


class Listener:
    """A logger of a user's own."""

    def __init__(self):
        self.messages = []

    def write(self, dictionary, serializer=None):
        """Keep the message."""
        self.messages.append(dictionary)


class Broken:
    """A logger that raises."""

    def write(self, dictionary, serializer=None):
        """Refuse the message."""
        raise OSError("no place")


class Upper(Logger):
    """A user's logger that changes what it passes on."""

    def write(self, dictionary, serializer=None):
        """Pass on the message with its type in upper case."""
        changed = {**dictionary, "message_type": dictionary["message_type"].upper()}
        super().write(changed, serializer)


def log_exception(exception, logger=None):
    """Log an exception's traceback."""
    try:
        raise exception
    except type(exception):
        write_traceback(logger)


@pytest.fixture
def swapped():
    """A MemoryLogger in the place of the default logger."""
    logger = MemoryLogger()
    previous = swap_logger(logger)
    yield logger
    swap_logger(previous)


class TestLogger:
    """The logger of programs."""

    def test_write(self, messages):
        """What is written goes to the destinations as it is."""
        message = {"message_type": "app:hello", "x": 1}
        Logger().write(message)
        assert [message] == messages

    def test_serializer(self, messages):
        """The message's type serializes it; the dictionary that was given stays as it was."""
        message = {"message_type": "app:length", "text": "four"}
        Logger().write(message, LENGTH._serializer)
        assert messages[0]["text"] == 4
        assert message["text"] == "four"

    def test_message_keeps_what_the_caller_changes_later(self, messages):
        """A dictionary that the caller uses again is another one than the message."""
        message = {"message_type": "app:hello"}
        Logger().write(message)
        message["message_type"] = "app:changed"
        assert messages[0]["message_type"] == "app:hello"


class TestInterface:
    """`ILogger`, which users' loggers declare."""

    def test_implementer(self):
        """A class may declare it as zope.interface does, as programs for Eliot do."""
        zope = pytest.importorskip("zope.interface")
        assert zope.implementer(ILogger)(Listener) is Listener

    @pytest.mark.parametrize("logger", [Logger(), MemoryLogger(), Listener()])
    def test_protocol(self, logger):
        """Whatever has the method is a `Writer`, of which ILogger is Eliot's name."""
        assert isinstance(logger, Writer)
        assert issubclass(ILogger, Writer)


class TestUsersLogger:
    """Loggers of the user's own, given by name."""

    def test_gets_messages(self, messages):
        """It gets what is written to it and logged in actions that are, and nobody else does."""
        logger = Listener()
        with start_action(logger, "app:action") as action:
            action.log("app:within")
        PORT(port=80).write(logger)
        assert len(logger.messages) == 4
        assert messages == []

    def test_subclass(self, messages):
        """A subclass of Logger is asked itself."""
        Message.new(message_type="app:hello").write(Upper())
        assert messages[0]["message_type"] == "APP:HELLO"

    def test_raises(self, messages):
        """One that raises does not break the program; the destinations are told."""
        Message.new(message_type="app:hello").write(Broken())
        (report,) = messages
        assert report["message_type"] == "eliot:destination_failure"
        assert report["reason"] == "no place"
        assert "app:hello" in report["message"]


class TestSwapLogger:
    """Another logger in the place of the default one."""

    def test_takes_all(self, swapped, messages):
        """It gets what is logged without a logger, and to any Logger; the destinations do not."""
        log_message("app:hello")
        Message.log(message_type="app:hello")
        PORT.log(port=80)
        PORT(port=80).write()
        PORT(port=80).write(Logger())
        Logger().write({"message_type": "app:hello"})
        with start_action(action_type="app:action") as action:
            action.log("app:within")
        log_exception(KeyError())
        assert len(swapped.messages) == 10
        assert messages == []

    def test_returns_the_previous_one(self):
        """Each call returns what the one before put there, so that captures may be nested."""
        first, second = MemoryLogger(), MemoryLogger()
        original = swap_logger(first)
        assert swap_logger(second) is first
        assert swap_logger(original) is second

    def test_ends(self, messages):
        """With the original logger back, the destinations get everything again."""
        logger = MemoryLogger()
        swap_logger(swap_logger(logger))
        log_message("app:hello")
        Logger().write({"message_type": "app:hello"})
        assert (len(messages), logger.messages) == (2, [])

    def test_actions_go_on(self, messages):
        """An action's messages go where messages go when they are logged."""
        action = start_action(action_type="app:action")
        logger = MemoryLogger()
        previous = swap_logger(logger)
        action.log("app:captured")
        swap_logger(previous)
        action.finish()
        assert [message["task_level"] for message in logger.messages] == [[2]]
        assert [message["task_level"] for message in messages] == [[1], [3]]

    def test_no_other_logger(self, swapped):
        """What is logged to a logger that is no `Logger` is not taken from it."""
        other = MemoryLogger()
        Message.new(message_type="app:other").write(other)
        assert (len(other.messages), swapped.messages) == (1, [])

    def test_no_global_fields(self, swapped):
        """Global fields are the destinations', so a capture does not show them."""
        add_global_fields(host="h")
        log_message("app:hello")
        assert "host" not in swapped.messages[0]

    def test_not_serialized(self, swapped):
        """The logger gets the values as they were logged, and the type that tells about them."""
        LENGTH.log(text="four")
        assert swapped.messages[0]["text"] == "four"
        assert swapped.serializers == [LENGTH._serializer]

    def test_users_logger(self, messages):
        """A subclass of Logger may be put there: it gets what is logged, and passes it on."""
        previous = swap_logger(Upper())
        log_message("app:hello")
        swap_logger(previous)
        assert [message["message_type"] for message in messages] == ["APP:HELLO"]

    def test_broken(self, messages):
        """One that raises does not break the program; the destinations are told."""
        previous = swap_logger(Broken())
        log_message("app:hello")
        PORT.log(port=80)
        with start_action(action_type="app:action"):
            pass
        swap_logger(previous)
        types = {message["message_type"] for message in messages}
        assert (len(messages), types) == (4, {"eliot:destination_failure"})


class TestMemoryLogger:
    """What a MemoryLogger keeps."""

    def test_write(self):
        """It keeps the very dictionaries, and their serializers, in order."""
        logger = MemoryLogger()
        first, second = {"a": 1}, {"text": "four", "message_type": "app:length"}
        logger.write(first)
        logger.write(second, LENGTH._serializer)
        assert logger.messages[0] is first
        assert logger.messages[1] is second
        assert logger.serializers == [None, LENGTH._serializer]
        assert logger.tracebackMessages == []

    def test_reset(self):
        """After reset() it is as new; what was wrong before is forgotten."""
        logger = MemoryLogger()
        PORT(port="eighty").write(logger)
        log_exception(KeyError(), logger)
        logger.reset()
        assert (logger.messages, logger.serializers, logger.tracebackMessages) == ([], [], [])
        logger.validate()

    def test_serialize(self):
        """serialize() returns what would be written; the messages stay as they were."""
        logger = MemoryLogger()
        LENGTH(text="four").write(logger)
        Message.new(message_type="app:hello", text="four").write(logger)
        assert [message["text"] for message in logger.serialize()] == [4, "four"]
        assert [message["text"] for message in logger.messages] == ["four", "four"]

    def test_threads(self):
        """Of messages that several threads write at once none is lost or gets another's type."""
        logger = MemoryLogger()
        types = [MessageType(f"app:{number}", [], "") for number in range(4)]

        def write(message_type):
            for _ in range(300):
                message_type().write(logger)

        threads = [threading.Thread(target=write, args=(t,)) for t in types]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(logger.messages) == 1200
        logger.validate()

    def test_encoder_or_default(self):
        """An encoder class and a default function exclude each other."""
        with pytest.raises(RuntimeError, match="must not both be given"):
            MemoryLogger(json.JSONEncoder, json_default=str)


class TestTracebacks:
    """Tracebacks that a MemoryLogger keeps."""

    def test_kept(self):
        """A logged traceback is one of the messages, and stands by itself until it is flushed."""
        logger = MemoryLogger()
        error = KeyError("k")
        log_exception(error, logger)
        assert logger.messages == logger.tracebackMessages
        assert logger.tracebackMessages[0]["reason"] is error

    def test_of_a_failure(self):
        """A traceback that write_failure() logged is one, too."""

        class Failure:
            value = KeyError()

            def getBriefTraceback(self):  # noqa: N802 - Twisted's name
                return "brief"

        logger = MemoryLogger()
        write_failure(Failure(), logger)
        (flushed,) = logger.flush_tracebacks(KeyError)
        assert flushed["traceback"] == "brief"

    def test_flush(self):
        """Flushing a class of exceptions takes those of its subclasses, and leaves the others."""
        logger = MemoryLogger()
        for error in (KeyError(), ValueError(), IndexError()):
            log_exception(error, logger)
        key, value, index = logger.messages
        assert logger.flush_tracebacks(LookupError) == [key, index]
        assert logger.tracebackMessages == [value]
        assert logger.flush_tracebacks(LookupError) == []
        assert len(logger.messages) == 3

    def test_flush_after_validate(self):
        """Validating does not make a traceback one of another exception."""
        logger = MemoryLogger()
        log_exception(KeyError(), logger)
        logger.validate()
        assert len(logger.flush_tracebacks(KeyError)) == 1

    def test_spelling_of_eliot(self):
        """Eliot's other name does the same."""
        assert MemoryLogger.flushTracebacks is MemoryLogger.flush_tracebacks


class TestValidate:
    """What `MemoryLogger.validate` finds."""

    @given(st.dictionaries(st.text(st.characters(codec="utf-8")), json_values))
    def test_json_is_valid(self, message):
        """Whatever JSON has is valid."""
        logger = MemoryLogger()
        logger.write(message)
        logger.validate()

    @given(json_scalars.filter(lambda key: not isinstance(key, str)))
    def test_other_keys_are_not(self, key):
        """A field name that is not text is not."""
        logger = MemoryLogger()
        logger.write({key: 1})
        with pytest.raises(TypeError, match="A field name must be text, got "):
            logger.validate()

    def test_key_of_bytes(self):
        """Bytes that are no text are told from those that are, as in Eliot."""
        logger = MemoryLogger()
        logger.write({b"\xff": 1})
        with pytest.raises(UnicodeDecodeError):
            logger.validate()

    @pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {1: 2}, [{(): 1}]])
    def test_what_has_to_be_bent(self, value):
        """What a program would have to bend to write it is wrong in a test."""
        logger = MemoryLogger()
        logger.write({"message_type": "app:hello", "value": value})
        with pytest.raises(TypeError, match="A message must encode to JSON, got "):
            logger.validate()

    def test_circular(self):
        """So is a value that holds itself."""
        value = []
        value.append(value)
        logger = MemoryLogger()
        logger.write({"value": value})
        with pytest.raises(TypeError, match="A message must encode to JSON"):
            logger.validate()

    @pytest.mark.parametrize("value", [object(), {1}, b"x", 1j])
    def test_what_the_default_converts(self, value):
        """What the default function knows is valid."""
        logger = MemoryLogger()
        logger.write({"value": value})
        logger.validate()

    def test_default_of_ones_own(self):
        """With a default function of one's own, its word counts."""

        def refuse(value):
            raise TypeError(f"no {value!r} here")

        logger = MemoryLogger(json_default=refuse)
        logger.write({"value": 1j})
        with pytest.raises(TypeError, match="must encode to JSON"):
            logger.validate()

    def test_encoder(self):
        """With an encoder class, what that knows counts."""

        class Encoder(json.JSONEncoder):
            def default(self, o):
                return str(o) if isinstance(o, complex) else super().default(o)

        logger = MemoryLogger(encoder=Encoder)
        logger.write({"value": 1j})
        logger.validate()
        logger.write({"value": {1}})
        with pytest.raises(TypeError, match="must encode to JSON"):
            logger.validate()

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"port": "eighty"}, "'port' must be of type int"),
            ({}, "'port' is missing"),
            ({"port": 80, "more": 1}, "'more' is not one of"),
        ],
    )
    def test_type(self, wrong, said):
        """A message that is not what its type says is wrong."""
        logger = MemoryLogger()
        PORT(**wrong).write(logger)
        with pytest.raises(ValidationError, match=said):
            logger.validate()

    def test_tells_all_and_where(self):
        """The error tells of each wrong message, and in which line it was logged."""
        logger = MemoryLogger()
        PORT(port="eighty").write(logger)
        PORT(port=80).write(logger)
        PORT(port="http").write(logger)
        with pytest.raises(ValidationError) as raised:
            logger.validate()
        lines = re.findall(r'File ".*test_logger\.py", line \d+.*\n +(.*)', str(raised.value))
        assert lines == ['PORT(port="eighty").write(logger)', 'PORT(port="http").write(logger)']

    def test_text(self):
        """The error begins with the reason; what leads to the place is a few lines."""
        logger = MemoryLogger()
        PORT(port="eighty").write(logger)
        with pytest.raises(ValidationError, match=r"^Field 'port' must be of type int") as raised:
            logger.validate()
        assert len(str(raised.value).splitlines()) < 12

    def test_twice(self):
        """Messages that are right are right the second time, and stay as they were."""
        logger = MemoryLogger()
        LENGTH(text="four").write(logger)
        logger.validate()
        logger.validate()
        assert logger.messages[0]["text"] == "four"

    def test_errors_of_a_serializer(self):
        """What a serializer raises is told, too, with the place where the message was logged."""
        name = MessageType("app:name", [Field("person", lambda person: person.name)], "")
        logger = MemoryLogger()
        name(person=None).write(logger)
        with pytest.raises(ValidationError, match=r"(?s)has no attribute 'name'.*test_logger\.py"):
            logger.validate()

    def test_errors_with_other_arguments(self):
        """An error of the user's own that cannot be made of one text is told like any other."""

        class TooLong(ValidationError):
            def __init__(self, value, limit):
                super().__init__(value, f"{value!r} is longer than {limit}")

        def check(value):
            if len(value) > 3:
                raise TooLong(value, 3)

        short = MessageType("app:short", [Field.for_types("text", [str], "", check)], "")
        logger = MemoryLogger()
        short(text="four").write(logger)
        with pytest.raises(ValidationError, match="is longer than 3"):
            logger.validate()
