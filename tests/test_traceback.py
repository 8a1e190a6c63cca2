"""Tests of exceptions that are logged as messages of their own."""

import sys

import pytest

from eliot_etw import (
    MemoryLogger,
    log_message,
    start_action,
    write_failure,
    write_traceback,
    writeFailure,
    writeTraceback,
)
from eliot_etw._safe import UNPRINTABLE


class AppError(Exception):
    """An exception of a program's own."""


class Mute(Exception):
    """An exception that has no text."""

    def __str__(self):
        raise AppError

    __repr__ = __str__


class LogsItself(Exception):
    """An exception whose text is logged while it is asked for."""

    def __str__(self):
        log_message("within", error=self)
        write_traceback(exc_info=(type(self), self, None))
        return "outer"

    __repr__ = __str__


class Failure:
    """What is needed of Twisted's class of that name."""

    def __init__(self, value):
        self.value = value

    def getBriefTraceback(self):  # noqa: N802 - Twisted's name
        return "brief"


class TestWriteTraceback:
    """`write_traceback`."""

    def test_being_handled(self, messages):
        """The exception that is being handled is logged, as text."""
        try:
            raise AppError("no room")
        except AppError:
            write_traceback()
        (message,) = messages
        assert message["message_type"] == "eliot:traceback"
        assert message["reason"] == "no room"
        assert message["exception"] == f"{AppError.__module__}.AppError"
        assert message["traceback"].endswith("AppError: no room\n")

    def test_given(self, messages):
        """Another one may be given, as `sys.exc_info` returns it."""
        try:
            raise AppError("no room")
        except AppError:
            exc_info = sys.exc_info()
        write_traceback(exc_info=exc_info)
        assert messages[0]["reason"] == "no room"

    def test_place(self, messages):
        """It belongs to the current action."""
        with start_action(action_type="a") as action:
            write_traceback(exc_info=(AppError, AppError(), None))
        assert (messages[1]["task_uuid"], messages[1]["task_level"]) == (action.task_uuid, [2])

    def test_to_a_logger(self, messages):
        """It goes to the logger that is given."""
        logger = MemoryLogger()
        write_traceback(logger, (AppError, AppError("no room"), None))
        assert not messages
        assert [message["reason"].args for message in logger.flush_tracebacks(AppError)] == [
            ("no room",)
        ]

    @pytest.mark.parametrize("exc_info", [None, (None, None, None)])
    def test_nothing_is_handled(self, messages, exc_info):
        """Where no exception is being handled, that is what is logged."""
        write_traceback(exc_info=exc_info)
        assert messages[0]["traceback"] == "NoneType: None\n"

    def test_no_text(self, messages):
        """An exception without a text is logged all the same."""
        write_traceback(exc_info=(Mute, Mute(), None))
        assert (messages[0]["reason"], messages[0]["exception"]) == (
            UNPRINTABLE,
            f"{Mute.__module__}.Mute",
        )

    def test_text_that_logs(self, messages):
        """An exception that logs itself when it is asked for its text is no endless loop."""
        write_traceback(exc_info=(LogsItself, LogsItself(), None))
        assert messages[-1]["reason"] == "outer"
        assert len(messages) < 20

    def test_spelling_of_eliot(self):
        """Eliot's old names are the same functions."""
        assert writeTraceback is write_traceback
        assert writeFailure is write_failure


class TestWriteFailure:
    """`write_failure`."""

    def test_fields(self, messages):
        """A failure of Twisted is logged with its own brief traceback."""
        assert write_failure(Failure(AppError("no room"))) is None
        (message,) = messages
        assert message["message_type"] == "eliot:traceback"
        assert (message["reason"], message["traceback"]) == ("no room", "brief")
        assert message["exception"] == f"{AppError.__module__}.AppError"

    def test_to_a_logger(self, messages):
        """It goes to the logger that is given."""
        logger = MemoryLogger()
        write_failure(Failure(AppError()), logger)
        assert not messages
        assert len(logger.flush_tracebacks(AppError)) == 1
