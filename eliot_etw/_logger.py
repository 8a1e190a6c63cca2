"""What messages are written to: `Logger` in a program, `MemoryLogger` in its tests."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from threading import Lock
from typing import Any, Protocol

from eliot_etw import _names as names
from eliot_etw._dispatch import Destinations, Route, WriterRoute
from eliot_etw._fields import TRACEBACK_SERIALIZER
from eliot_etw._json import choose_default, encode_strictly
from eliot_etw._safe import safe_str, type_name
from eliot_etw.exceptions import ValidationError
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict, MessageSerializer, Writer


class _EmptyIterable(type(Protocol)):  # type: ignore[misc] # the metaclass of protocols
    """Lets zope.interface's ``@implementer(ILogger)`` see a sequence of no interfaces.

    Eliot's `ILogger` is a zope interface, and programs declare that they implement it.
    """

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


class ILogger(Writer, Protocol, metaclass=_EmptyIterable):
    """What takes messages: anything with ``write(dictionary, serializer=None)``.

    `write` does not change the dictionary, and may be called from several threads.
    """


class Logger:
    """Writes messages to the program's destinations."""

    _destinations = Destinations()

    def write(self, dictionary: MessageDict, serializer: MessageSerializer | None = None) -> None:
        """Serialize a copy of the message, and deliver it to the destinations. Never raises."""
        if _captured is not None:
            _captured.write(dictionary, serializer)
        else:
            self._destinations.write_undiverted(dict(dictionary), serializer)


DESTINATIONS = Logger._destinations
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=DESTINATIONS.after_fork)

_default: Writer = Logger()
# While a test captures: where the messages of every Logger go, also of those that were bound to a
# module or an action before the test began.
_captured: WriterRoute | None = None


def swap_logger(logger: Writer) -> Writer:
    """Put another logger in the place of the default one.

    Args:
        logger: From now on it gets what is logged without a logger and, unless it is a `Logger`
            itself, what is logged to any `Logger`.

    Returns:
        The one that was there. Pass it to the next call.
    """
    global _default, _captured  # noqa: PLW0603 - the one place that changes it, for tests
    previous, _default = _default, logger
    _captured = None if isinstance(logger, Logger) else WriterRoute(logger, DESTINATIONS)
    route = route_to(logger)
    DESTINATIONS.divert(None if route is DESTINATIONS else WriterRoute(logger, DESTINATIONS))
    return previous


def route_to(logger: Writer) -> Route:
    """Find the way to a logger that was named."""
    if type(logger) is Logger:
        return logger._destinations
    return WriterRoute(logger, DESTINATIONS)


class MemoryLogger:
    """Keeps messages in memory, for tests.

    Attributes:
        messages: The messages as they were logged, before their fields were serialized.
        serializers: What each message's type says about its fields, or None.
        tracebackMessages: The messages that `write_traceback` and `write_failure` logged and that
            were not flushed.
    """

    def __init__(
        self,
        encoder: type[Any] | None = None,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Start with nothing.

        Args:
            encoder: A `json.JSONEncoder` class to check with, in place of `json_default`.
            json_default: What the messages are going to be encoded with; a message that it cannot
                take fails `validate`.

        Raises:
            RuntimeError: If both are given.
        """
        self._json_default = choose_default(encoder, json_default)
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything that was logged."""
        self.messages: list[MessageDict] = []
        self.serializers: list[MessageSerializer | None] = []
        self.tracebackMessages: list[MessageDict] = []
        self._failed: list[str] = []

    def write(self, dictionary: MessageDict, serializer: MessageSerializer | None = None) -> None:
        """Keep a message; what is wrong with it, and where it came from, is told by `validate`."""
        failure = None
        try:
            self._check(dictionary, serializer)
        except Exception as error:  # noqa: BLE001 - validate() raises it, when the test is over
            failure = f"{_reason(error)}\nLogged at:\n{_where_logged()}"
        with self._lock:
            if failure is not None:
                self._failed.append(failure)
            self.messages.append(dictionary)
            self.serializers.append(serializer)
            if serializer is TRACEBACK_SERIALIZER:
                self.tracebackMessages.append(dictionary)

    def _check(self, message: MessageDict, serializer: MessageSerializer | None) -> None:
        """Serialize a copy of a message, and encode it."""
        message = dict(message)
        if serializer is not None:
            serializer.validate(message)
        for key in message:
            if isinstance(key, bytes):
                key.decode("utf-8")
            elif not isinstance(key, str):
                msg = f"A field name must be text, got {key!r} in {message!r}. Rename the field."
                raise TypeError(msg)
        if serializer is not None:
            serializer.serialize(message)
        try:
            encode_strictly(message, self._json_default)
        except Exception as error:
            msg = f"A message must encode to JSON, got {message!r}: {error}."
            raise TypeError(msg) from error

    def validate(self) -> None:
        """Check all messages: names, types and JSON.

        Raises:
            ValidationError: If a message is not what its type says, or cannot be serialized. The
                text tells of all such messages, and where each was logged.
            TypeError: If a field name is not text, or a value cannot be encoded; likewise.
            UnicodeDecodeError: If a field name is bytes, but not UTF-8.
        """
        with self._lock:
            for message, serializer in zip(self.messages, self.serializers, strict=True):
                try:
                    self._check(message, serializer)
                except UnicodeDecodeError:
                    raise
                except Exception as error:
                    text = "\n\n".join(self._failed) or _reason(error)
                    kind = TypeError if isinstance(error, TypeError) else ValidationError
                    raise kind(text) from error

    def serialize(self) -> list[MessageDict]:
        """Return copies of the messages with their fields serialized."""
        with self._lock:
            result = []
            for message, serializer in zip(self.messages, self.serializers, strict=True):
                copy = dict(message)
                if serializer is not None:
                    serializer.serialize(copy)
                result.append(copy)
            return result

    def flush_tracebacks(self, exception_type: type[BaseException]) -> list[MessageDict]:
        """Accept the logged tracebacks of a class of exceptions.

        Returns:
            Their messages; they no longer fail the test.
        """
        with self._lock:
            flushed: list[MessageDict] = []
            kept: list[MessageDict] = []
            for message in self.tracebackMessages:
                expected = isinstance(message[names.REASON], exception_type)
                (flushed if expected else kept).append(message)
            self.tracebackMessages = kept
            return flushed


def _reason(error: Exception) -> str:
    """Say what is wrong; what a user's own code raised is told with its class."""
    is_ours = type(error) in (TypeError, ValidationError)
    return safe_str(error) if is_ours else f"{type_name(type(error))}: {safe_str(error)}"


def _where_logged() -> str:
    """Return the last lines of the stack outside this package: those that logged."""
    here = os.path.dirname(__file__)
    stack = traceback.extract_stack()
    while len(stack) > 1 and os.path.dirname(stack[-1].filename) == here:
        stack.pop()
    return "".join(traceback.format_list(stack[-3:]))
