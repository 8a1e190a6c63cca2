"""The fan-out of messages to destinations: start-up buffer, global fields, failure reports."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from threading import Lock
from time import time
from types import FrameType
from typing import Any, Protocol, TypeAlias

from eliot_etw import _names as names
from eliot_etw._context import next_place
from eliot_etw._counter import Counter
from eliot_etw._extract import traceback_fields
from eliot_etw._fields import TRACEBACK_SERIALIZER
from eliot_etw._safe import make_room, safe_repr, safe_str, type_name
from eliot_etw.typing import Destination, MessageDict, MessageSerializer, Writer

# Messages logged before there is a destination are kept up to this many, as in Eliot.
MAX_BUFFERED = 1000

_RESERVED = names.RESERVED_IN_MESSAGE | names.RESERVED_IN_ACTION

Failure: TypeAlias = tuple[Destination, Exception]


class Route(Protocol):
    """The way from code that logs to what takes its messages. Nothing on it raises."""

    @property
    def call(self) -> Destination:
        """What the hot path calls with each message that has no serializer."""

    def failed(self, call: Destination, error: Exception, message: MessageDict) -> None:
        """Report that the call raised."""

    def write(self, message: MessageDict, serializer: MessageSerializer | None = None) -> None:
        """Take a message, which is the route's to keep, that may have a serializer."""


class Destinations:
    """The destinations of a program, and what happens when one of them fails.

    Delivering never raises. A destination that raised gets the next message all the same; that it
    raised is told to the others in an ``eliot:destination_failure`` message (to itself only if
    there is no other), and counted.
    """

    def __init__(self) -> None:
        self._buffer = _StartUpBuffer()
        self._destinations: list[Destination] = [self._buffer]
        # What is really called for each destination, in the same order.
        self._own_calls: tuple[Destination, ...] = (self._buffer,)
        self._global_fields: MessageDict = {}
        self._diversion: WriterRoute | None = None
        self.call: Destination = self._buffer
        self._lock = Lock()
        self._failures = Counter()
        self._reentries = Counter()

    def add(self, *destinations: Destination) -> None:
        """Add destinations; the first to come get what was logged before (up to 1,000 messages).

        Args:
            *destinations: Callables of one message. They read it and never change it.

        Raises:
            TypeError: If one of them cannot be called.
        """
        for destination in destinations:
            if not callable(destination):
                msg = (
                    f"A destination must be callable with one message, got {destination!r}. "
                    "Pass a function, or an instance of a class with __call__."
                )
                raise TypeError(msg)
        if not destinations:
            return
        with self._lock:
            kept = [known for known in self._destinations if known is not self._buffer]
            self._set([*kept, *destinations])
        self._buffer.drain_to(self.send)

    def remove(self, destination: Destination) -> None:
        """Remove a destination that was added before.

        Raises:
            ValueError: If it is not there.
        """
        with self._lock:
            left = list(self._destinations)
            if destination not in left:
                msg = (
                    f"{destination!r} is not one of the destinations. "
                    "Pass the very object that was added."
                )
                raise ValueError(msg)
            left.remove(destination)
            self._set(left)

    def _set(self, destinations: list[Destination]) -> None:
        """Put a new list in the place of the old one."""
        # Those that stay are called as before: another thread may be within such a call.
        known = {id(d): call for d, call in zip(self._destinations, self._own_calls, strict=True)}
        self._own_calls = tuple(known.get(id(d)) or self._call_of(d) for d in destinations)
        self._destinations = destinations
        self._choose_call()

    def _call_of(self, destination: Destination) -> Destination:
        """Find what to call: as directly as is safe."""
        if getattr(destination, "is_leaf", False):
            # A bound method is called some 80 ns faster than an instance of a class.
            call: Destination = destination.__call__  # type: ignore[operator] # it is callable
            return call
        return _not_from_within(destination, self._reentries)

    def _choose_call(self) -> None:
        """Keep what is not the usual case out of the hot path: there, it is one more call."""
        if self._diversion is not None:
            self.call = self._diversion.call
        elif self._global_fields or len(self._own_calls) != 1:
            self.call = self.send
        else:
            self.call = self._own_calls[0]

    def add_global_fields(self, /, **fields: Any) -> None:
        """Add fields to every message from now on; a message's own field of the same name wins.

        Args:
            **fields: The fields. One that has a reserved name is logged with an underscore after
                it, as those of a message are.
        """
        make_room(fields, _RESERVED)
        with self._lock:
            self._global_fields = {**self._global_fields, **fields}
            self._choose_call()

    def remove_global_fields(self, *names: str) -> None:
        """Forget global fields; those that are not there do not matter."""
        with self._lock:
            kept = {name: v for name, v in self._global_fields.items() if name not in names}
            self._global_fields = kept
            self._choose_call()

    def divert(self, diversion: WriterRoute | None) -> None:
        """Send what the hot path delivers somewhere else; None ends that."""
        with self._lock:
            self._diversion = diversion
            self._choose_call()

    def send(self, message: MessageDict, logger: object = None) -> None:
        """Deliver a message, which from here on belongs to the destinations.

        Args:
            message: The message.
            logger: Not used; Eliot's signature.
        """
        if self._global_fields:
            message = {**self._global_fields, **message}
        failures: list[Failure] = []
        for call in self._own_calls:
            try:
                call(message)
            except Exception as error:  # noqa: BLE001 - a destination must not break the program
                failures.append((call, error))
        for failure in failures:
            self.failed(*failure, message)

    def failed(self, call: Destination, error: Exception, message: MessageDict) -> None:
        """Count that a destination raised, and report it."""
        self._failures.add()
        # A report that fails is counted, and that is all: no recursion.
        if message.get(names.MESSAGE_TYPE) != names.DESTINATION_FAILURE:
            self.report(call, error, message)

    def report(
        self, failed: Callable[..., object], error: Exception, message: MessageDict
    ) -> None:
        """Tell the destinations other than this one that it failed with this message."""
        report = {
            **self._global_fields,
            **_placed(
                {
                    names.MESSAGE_TYPE: names.DESTINATION_FAILURE,
                    names.REASON: safe_str(error),
                    names.EXCEPTION: type_name(type(error)),
                    "message": text_of(message),
                }
            ),
        }
        calls = self._own_calls
        for call in tuple(call for call in calls if call != failed) or calls:
            try:
                call(report)
            except Exception:  # noqa: BLE001 - see above
                self._failures.add()

    def write(self, message: MessageDict, serializer: MessageSerializer | None = None) -> None:
        """Take a message, which is ours to keep, that may have a serializer."""
        if self._diversion is not None:
            self._diversion.write(message, serializer)
        else:
            self.write_undiverted(message, serializer)

    def write_undiverted(
        self, message: MessageDict, serializer: MessageSerializer | None = None
    ) -> None:
        """Serialize and deliver a message; one that cannot be serialized is logged as text."""
        if serializer is not None:
            try:
                serializer.serialize(message)
            except Exception as error:  # noqa: BLE001 - the types' own code; told in the log
                self._report_serialization(message, error)
                return
        self.send(message)

    def _report_serialization(self, message: MessageDict, error: Exception) -> None:
        """Log what kept a message from being serialized, the message as text, and its place.

        The place must not stay empty, or the tree would look as if something was lost: the start
        or end of an action is logged without its fields, another message's place is the report's.
        """
        why = _placed(traceback_fields(error))
        TRACEBACK_SERIALIZER.serialize(why)
        self.send(why)
        report = {names.MESSAGE_TYPE: names.SERIALIZATION_FAILURE, "message": text_of(message)}
        kept = {name: value for name, value in message.items() if name in _RESERVED}
        if names.ACTION_TYPE in message:
            self.send(kept)
            self.send(_placed(report))
        else:
            self.send({**report, **kept} if names.TASK_LEVEL in kept else _placed(report))

    def stats(self) -> dict[str, int]:
        """Count what went wrong so far.

        Returns:
            ``destination_failures``: calls of a destination that raised;
            ``dropped_before_first_destination``: messages beyond the 1,000 that are kept;
            ``dropped_as_reentrant``: messages that a destination logged while it was called, which
            went to the others only.
        """
        return {
            "destination_failures": self._failures.value,
            "dropped_before_first_destination": self._buffer.dropped.value,
            "dropped_as_reentrant": self._reentries.value,
        }

    def after_fork(self) -> None:
        """Forget, in a forked child, what the parent's other threads were in the middle of."""
        self._lock = Lock()
        self._own_calls = tuple(self._call_of(destination) for destination in self._destinations)
        self._choose_call()


class WriterRoute:
    """The way to a logger that is not our own, such as a test's `MemoryLogger`.

    What the logger raises is reported to the program's destinations.
    """

    def __init__(self, writer: Writer, destinations: Destinations) -> None:
        self.writer = writer
        self._destinations = destinations

    def call(self, message: MessageDict) -> None:
        """Hand a message to the logger. Raises what the logger does."""
        self.writer.write(message, None)

    def write(self, message: MessageDict, serializer: MessageSerializer | None = None) -> None:
        """Hand a message that may have a serializer to the logger."""
        try:
            self.writer.write(message, serializer)
        except Exception as error:  # noqa: BLE001 - logging must not break the program
            self.failed(self.call, error, message)

    def failed(self, call: Destination, error: Exception, message: MessageDict) -> None:
        """Report that the logger raised."""
        self._destinations.report(call, error, message)


class _StartUpBuffer:
    """Keeps the first messages until there is a destination; the oldest give way."""

    is_leaf = True

    def __init__(self) -> None:
        self._messages: deque[MessageDict] = deque()
        self._successor: Callable[[MessageDict], object] | None = None
        self.dropped = Counter()

    def __call__(self, message: MessageDict) -> None:
        if len(self._messages) >= MAX_BUFFERED:
            self._messages.popleft()
            self.dropped.add()
        self._messages.append(message)
        # Another thread may have drained the buffer since this one looked up where to deliver.
        if self._successor is not None:
            self.drain_to(self._successor)

    def drain_to(self, successor: Callable[[MessageDict], object]) -> None:
        """Deliver what was kept, oldest first, and pass on what still comes."""
        self._successor = successor
        while self._messages:
            try:
                message = self._messages.popleft()
            except IndexError:  # another thread took the last one
                return
            successor(message)


def _not_from_within(destination: Destination, reentries: Counter) -> Destination:
    """Wrap a destination so that what it logs itself while it is called does not come to it."""
    calls_under_way = 0

    def call(message: MessageDict) -> None:
        nonlocal calls_under_way
        # Rarely true, and then mostly another thread's doing. A set of the threads within would
        # tell at once, but cost each message 60 ns more.
        if calls_under_way and _is_below(sys._getframe(1), call.__code__, destination):
            reentries.add()
            return
        # The interpreter does not change threads in such a statement, which calls nothing. If one
        # did, the count would never come back to zero: slower, but as safe.
        calls_under_way += 1
        try:
            destination(message)
        finally:
            calls_under_way -= 1

    return call


def _is_below(frame: FrameType | None, code: object, destination: Destination) -> bool:
    """Say whether the destination is being called further down this stack."""
    while frame is not None:
        if frame.f_code is code and frame.f_locals.get("destination") is destination:
            return True
        frame = frame.f_back
    return False


def _placed(message: MessageDict) -> MessageDict:
    """Give a message of our own its place: in the current action, here and now."""
    uuid, level = next_place()
    message[names.TIMESTAMP] = time()
    message[names.TASK_UUID] = uuid
    message[names.TASK_LEVEL] = level
    return message


def text_of(message: MessageDict) -> str:
    """Write a message as text, whatever is in it, for reports about it."""
    try:
        return str({safe_repr(key): safe_repr(value) for key, value in message.items()})
    except Exception:  # noqa: BLE001 - a report about a failure must not fail
        return safe_repr(message)
