"""Exceptions as messages of their own: `write_traceback` and `write_failure`."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, TypeAlias

from eliot_etw import _names as names
from eliot_etw._extract import beside, extract, traceback_fields
from eliot_etw._fields import TRACEBACK_SERIALIZER
from eliot_etw._message import Message
from eliot_etw.typing import MessageDict, Writer

ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def write_traceback(logger: Writer | None = None, exc_info: ExcInfo | None = None) -> None:
    """Log the exception that is being handled, as an ``eliot:traceback`` message.

    The traceback holds the exception's chain, notes and groups; no source lines, so that no file
    is read, and no frame locals.

    Args:
        logger: What to write it to; None for the default.
        exc_info: The exception as `sys.exc_info` gives it, if it is not the one being handled.
    """
    _, exception, _ = exc_info or sys.exc_info()
    _write(traceback_fields(exception), exception, logger)


def write_exception(
    exception: BaseException | None, logger: Writer | None = None, /, **also: Any
) -> None:
    """Log an exception as `write_traceback` does, with more fields, which keep their names."""
    _write({**traceback_fields(exception), **also}, exception, logger)


def write_failure(failure: Any, logger: Writer | None = None) -> None:
    """Log a Twisted `Failure` as an ``eliot:traceback`` message; made to be an errback.

    Args:
        failure: The failure.
        logger: What to write it to; None for the default.
    """
    fields = traceback_fields(failure.value)
    fields[names.TRACEBACK] = failure.getBriefTraceback()
    _write(fields, failure.value, logger)


def _write(fields: MessageDict, exception: BaseException | None, logger: Writer | None) -> None:
    if exception is not None:
        extracted, broken = extract(exception)
        fields = beside(extracted, fields)
        if broken is not None:
            # Without its own extracted fields: its extractor may be the one that is broken.
            _write(traceback_fields(broken), None, logger)
    Message(fields, TRACEBACK_SERIALIZER).write(logger)
