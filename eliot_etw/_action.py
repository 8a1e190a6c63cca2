"""Actions: `start_action`, `start_task`, `Action`, and `log_message` within them.

The hot path is here: `log_message`, `start_action` and `Action.__exit__` call the destinations
themselves. Each Python call less is some 60 ns, and three times that right after a system call;
the budget of calls is held by tests/test_hot_path.py, the times are measured by
tools/bench/logging_speed.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Token
from itertools import count
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar

from eliot_etw import _names as names
from eliot_etw._context import CURRENT
from eliot_etw._dispatch import Route
from eliot_etw._extract import beside, extract, failure_fields, traceback_fields
from eliot_etw._fields import TRACEBACK_SERIALIZER
from eliot_etw._logger import DESTINATIONS, route_to
from eliot_etw._safe import make_room
from eliot_etw._task_level import TaskLevel, new_task_uuid, parse_task_id
from eliot_etw.typing import MessageDict, MessageSerializer, Writer

if TYPE_CHECKING:
    from typing_extensions import Self  # the type checker brings it along

    from eliot_etw._trace_context import Continuation

_T = TypeVar("_T")

_UNSET: Final[Any] = object()
# The places after a start, and those after an end that follows it at once. Of what gives out
# numbers one by one, a range is the quickest to make.
_SECOND_AND_ON: Final = range(2, sys.maxsize)
_THIRD_AND_ON: Final = range(3, sys.maxsize)
# Most actions have nothing in them, and need no count. Where Python changes threads also within
# a statement that calls nothing, they have one from the start.
_COUNTS_LATE: Final = sys.version_info >= (3, 11)
_get_current, _set_current, _reset_current = CURRENT.get, CURRENT.set, CURRENT.reset


class ActionSerializers:
    """What the three messages of an action say about their fields."""

    __slots__ = ("failure", "start", "success")

    def __init__(
        self, start: MessageSerializer, success: MessageSerializer, failure: MessageSerializer
    ) -> None:
        self.start = start
        self.success = success
        self.failure = failure


# A task's UUID, and a level in it.
Place: TypeAlias = tuple[str, Iterable[int]]


class _Ending:
    """What the end of an action is to have besides the usual."""

    __slots__ = ("serializers", "success_fields")

    def __init__(self, serializers: ActionSerializers | None = None) -> None:
        self.serializers = serializers
        self.success_fields: MessageDict = {}


# In the place of such: the action has ended already.
OVER: Final = _Ending()

_Tokens: TypeAlias = "Token[Action | None] | tuple[Token[Action | None], ...] | None"


class Action:
    """Something with a start and an end, which owns what is logged in between.

    Use `start_action` or `start_task` to make one. As a context manager it is the current action
    within the block, and ends with it: it has failed if the block raised.

    Several threads may log to one action at a time.
    """

    __slots__ = (
        "__weakref__",
        "_ending",
        "_level",
        "_parent",
        "_places",
        "_route",
        "_token",
        "_tracestate",
        "action_type",
        "task_uuid",
    )

    def __init__(
        self,
        logger: Writer | None,
        task_uuid: str,
        task_level: Iterable[int],
        action_type: str,
        serializers: ActionSerializers | None = None,
    ) -> None:
        """Make an action without logging its start; `start_action` does both.

        Args:
            logger: What its messages are written to; None for the default.
            task_uuid: The task it belongs to.
            task_level: Its place there, a `TaskLevel`; empty for the root.
            action_type: Its type, like ``app:part:what``.
            serializers: What its type says about its fields.
        """
        self.task_uuid = task_uuid
        self.action_type = action_type
        self._level: Iterable[int] = task_level
        # Taking the next is one call into C: levels are unique however many threads log. None
        # if there was only the start so far, see `_open_places`.
        self._places: Iterator[int] | None = count(1)
        self._route: Route = DESTINATIONS if logger is None else route_to(logger)
        self._ending = None if serializers is None else _Ending(serializers)
        # What __exit__ is to undo; while the action is entered more than once, what each exit is
        # to undo, the latest first.
        self._token: _Tokens = None
        self._parent: Action | None = None
        # There only once it is set: few actions have one.
        self._tracestate: str

    def __repr__(self) -> str:
        level = TaskLevel(self._level).to_string()
        return f"<Action {self.action_type!r} {self.task_uuid}@{level}>"

    @property
    def task_level(self) -> TaskLevel:
        """The action's place in its task; its start message is the first place within."""
        return TaskLevel(self._level)

    @property
    def _serializers(self) -> ActionSerializers | None:
        """What the action's type says about its fields; where Eliot's own tests look for it."""
        return None if self._ending is None else self._ending.serializers

    def next_level(self) -> list[int]:
        """Take the place of the next message."""
        return [*self._level, next(self._places or self._open_places())]

    def _open_places(self) -> Iterator[int]:
        """Return what gives out the action's places; make it, if there was only the start so far.

        The usual end of an action takes the second place without it. So it must not change here
        whether the action is over between the look and the step. Nothing is called in between,
        where Python 3.11 and later change threads.
        """
        while self._places is None:
            ending = self._ending
            fresh = iter(_THIRD_AND_ON if ending is OVER else _SECOND_AND_ON)
            if self._places is None and self._ending is ending:
                self._places = fresh
        return self._places

    def serialize_task_id(self) -> bytes:
        """Take a place for an action that another thread, process or machine is going to start.

        Returns:
            ``<task_uuid>@/<n>/<n>`` in ASCII, for one call of `continue_task`.
        """
        level = "/".join(map(str, self.next_level()))
        return f"{self.task_uuid}@/{level}".encode("ascii", "backslashreplace")

    def traceparent(self) -> str:
        """Return the header ``traceparent`` of W3C's Trace Context for whatever goes on elsewhere.

        It names the task as the trace and this action as the parent. Whoever continues it is in
        the same tree, but at no place that was kept for it: for that, send what
        `serialize_task_id` returns as well.

        Returns:
            Text like ``00-<32 hex digits>-<16 hex digits>-01``.
        """
        from eliot_etw._trace_context import traceparent_of  # noqa: PLC0415 - few programs need it

        return traceparent_of(self.task_uuid, self._level)

    @property
    def tracestate(self) -> str:
        """The header ``tracestate`` that came with what is continued here; empty if none did."""
        action: Action | None = self
        while action is not None:
            if hasattr(action, "_tracestate"):
                return action._tracestate
            action = action._parent
        return ""

    @classmethod
    def continue_task(
        cls, logger: Writer | None = None, task_id: str | bytes = _UNSET, /, **fields: Any
    ) -> Action:
        """Start an action at a place that `serialize_task_id` gave out, or below a foreign span.

        ``logger``, ``task_id`` and ``action_type`` may be given by name, and only so
        ``traceparent`` and ``tracestate``: the headers of W3C's Trace Context, or None.

        With a ``traceparent`` nothing is raised for what came in, for it came from elsewhere. If
        it names the trace that the task is, the action is at the place of ``task_id``; if not, or
        without such a place, it is below the span that ``traceparent`` names, which the field
        ``eliot:traceparent`` of its start says. If neither is any good it is a new task.
        ``eliot:not_continued`` says what was not followed, and why.

        Args:
            logger: What its messages are written to; None for the default.
            task_id: What `serialize_task_id` returned, as text or ASCII bytes.
            **fields: Fields of the start message; the action's type is ``action_type`` if it is
                among them, else ``eliot:remote_task``.

        Raises:
            RuntimeError: If there is neither a task_id nor a traceparent.
            InvalidTaskID: If the task_id is none, and there is no traceparent.
        """
        if task_id is _UNSET:
            task_id = fields.pop("task_id", _UNSET)
        fields.setdefault("action_type", names.REMOTE_TASK)
        if "traceparent" in fields:
            from eliot_etw._trace_context import continuation  # noqa: PLC0415 - as above

            known = None if task_id is _UNSET else task_id
            headers = fields.pop("traceparent"), fields.pop("tracestate", None)
            return start_continued(logger, continuation(known, *headers), fields)
        if task_id is _UNSET:
            msg = (
                "continue_task() needs the keyword argument task_id or traceparent, got neither. "
                "Pass what serialize_task_id() returned, or the header of that name."
            )
            raise RuntimeError(msg)
        return start_action(logger, "", None, parse_task_id(task_id), **fields)

    def child(
        self,
        logger: Writer | None,
        action_type: str,
        serializers: ActionSerializers | None = None,
    ) -> Action:
        """Make an action within this one without logging its start; `start_action` does both."""
        # A subclass has children of its class, as in Eliot, and perhaps Eliot's constructor.
        child = self.__class__(logger, self.task_uuid, self.next_level(), action_type, serializers)
        child._parent = self
        return child

    def log(self, message_type: str = _UNSET, /, **fields: Any) -> None:
        """Log a message within this action.

        Args:
            message_type: Its type, like ``app:part:what``; may be given by name.
            **fields: Its fields. Any name will do; one that is reserved (``timestamp``,
                ``task_uuid``, ``task_level``, ``action_type``) is logged with an underscore
                after it.
        """
        if message_type is not _UNSET:
            _set_type(fields, "message_type", message_type)
        self.log_fields(fields)

    def log_fields(
        self,
        fields: MessageDict,
        serializer: MessageSerializer | None = None,
        logger: Writer | None = None,
        timestamp: float | None = None,
    ) -> None:
        """Log a message within this action, of which the fields become part.

        Args:
            fields: Its fields, ``message_type`` among them.
            serializer: What its type says about them.
            logger: What to write it to, if not to the action's logger.
            timestamp: When it was, in seconds since 1970, if not now.
        """
        make_room(fields, names.RESERVED_IN_MESSAGE)
        if "message_type" not in fields:
            fields["message_type"] = ""
        fields["timestamp"] = time() if timestamp is None else timestamp
        fields["task_uuid"] = self.task_uuid
        fields["task_level"] = self.next_level()
        route = self._route if logger is None else route_to(logger)
        route.write(fields, serializer)

    def add_success_fields(self, /, **fields: Any) -> None:
        """Add fields to the end message, if the action succeeds."""
        # Made before it is known whether it is needed: between the two lines after that, the
        # interpreter changes no threads, and an end that another thread logs is not forgotten.
        fresh = _Ending()
        if self._ending is None:
            self._ending = fresh
        ending = self._ending
        if ending is not OVER:
            ending.success_fields = {**ending.success_fields, **fields}

    def finish(self, exception: BaseException | None = None) -> None:
        """Log the end message; a second call does nothing.

        Args:
            exception: What the action failed with; None if it succeeded.
        """
        self._open_places()  # whose second place is not for an end as in __exit__
        ending = self._ending
        if ending is OVER:
            return
        # Nothing is called in between, where Python 3.11 and later change threads: of several
        # threads that end an action, one does.
        self._ending = OVER
        if ending is None:
            ending = _Ending()
        serializers = ending.serializers
        if exception is None:
            status, fields = names.SUCCEEDED, ending.success_fields
            serializer = None if serializers is None else serializers.success
        else:
            status, fields = names.FAILED, self._extracted(exception)
            serializer = None if serializers is None else serializers.failure
        end = {
            names.ACTION_TYPE: self.action_type,
            names.ACTION_STATUS: status,
            names.TIMESTAMP: time(),
            names.TASK_UUID: self.task_uuid,
            names.TASK_LEVEL: self.next_level(),
        }
        self._route.write(beside(fields, end), serializer)

    def _extracted(self, exception: BaseException) -> MessageDict:
        """Describe what the action failed with."""
        fields, broken = extract(exception)
        if broken is not None:
            # Not through write_traceback: it would ask the extractor that is broken.
            self.log_fields(traceback_fields(broken), TRACEBACK_SERIALIZER)
        return beside(fields, failure_fields(exception))

    def run(self, f: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
        """Call a function with this action as the current one; the action does not end with it."""
        token = CURRENT.set(self)
        try:
            return f(*args, **kwargs)
        finally:
            CURRENT.reset(token)

    @contextmanager
    def context(self) -> Iterator[Action]:
        """Make this the current action within a block; the action does not end with it."""
        token = CURRENT.set(self)
        try:
            yield self
        finally:
            try:
                _reset_current(token)
            except ValueError:
                self._leave(token)

    def _leave(self, token: Token[Action | None]) -> None:
        """Leave a block that was entered in another context than this one.

        A generator's steps may each be made in another task. If the event loop closes it, on the
        other hand, this action is not the current one there.
        """
        if _get_current() is self:
            outer = token.old_value
            _set_current(outer if isinstance(outer, Action) else None)

    def _exit_unusually(self, tokens: _Tokens) -> None:
        """Leave a block of several, or one that was entered in another context, or none at all."""
        if tokens is None:
            return
        left = list(tokens) if isinstance(tokens, tuple) else [tokens]
        # Several threads may be in it at a time: what this one is to undo need not be the first.
        for token in left:
            try:
                _reset_current(token)
            except (RuntimeError, ValueError):
                continue
            left.remove(token)
            break
        else:
            self._leave(left.pop(0))
        self._token = tuple(left) or None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        msg = (
            f"What is pickled must hold no action, got {self!r}. Send what its "
            "serialize_task_id() returns, and call Action.continue_task() with that there."
        )
        raise TypeError(msg)

    def __enter__(self) -> Self:
        tokens = self._token
        if tokens is None:
            self._token = _set_current(self)
        else:
            others = tokens if isinstance(tokens, tuple) else (tokens,)
            self._token = (_set_current(self), *others)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        token = self._token
        self._token = None
        try:
            _reset_current(token)  # type: ignore[arg-type] # if it is no token, see there
        except (RuntimeError, TypeError, ValueError):
            self._exit_unusually(token)
        if exception is not None or self._ending is not None:
            self.finish(exception)
            return
        # The usual end, as in finish(), with four calls less.
        self._ending = OVER
        places = self._places
        end = {
            "action_type": self.action_type,
            "action_status": "succeeded",
            "timestamp": time(),
            "task_uuid": self.task_uuid,
            "task_level": [*self._level, 2 if places is None else next(places)],
        }
        route = self._route
        call = route.call
        try:
            call(end)
        except Exception as error:  # noqa: BLE001 - a destination must not break the program
            route.failed(call, error, end)


def start_continued(logger: Writer | None, found: Continuation, fields: MessageDict) -> Action:
    """Start an action at the place that headers, or the environment, name."""
    fields.setdefault("action_type", names.REMOTE_TASK)
    action = start_action(logger, "", None, found.place, **{**fields, **found.fields})
    if found.tracestate:
        action._tracestate = found.tracestate
    return action


class _Started(Action):
    """What `start_action` makes. A constructor would take longer than all that it sets."""

    __slots__ = ()
    __init__ = object.__init__
    __class__ = Action  # type: ignore[assignment] # nobody else has to tell the two apart


def _set_type(fields: MessageDict, name: str, value: str) -> None:
    """Set the type of a message or an action; a user's field of that name gives way."""
    if name in fields:
        make_room(fields, frozenset({name}))
    fields[name] = value


def _take_parameters(
    logger: Writer | None, serializers: ActionSerializers | None, fields: MessageDict
) -> tuple[Writer | None, ActionSerializers | None]:
    """Take what was given by name out of an action's fields, and rename the reserved ones.

    Any text is a legal field name: ``logger`` and ``_serializers`` are parameters only if their
    values can be that.
    """
    given = fields.get("logger")
    if logger is None and (given is None or hasattr(given, "write")):
        logger = fields.pop("logger", None)
    given = fields.get("_serializers")
    if serializers is None and (given is None or hasattr(given, "success")):
        serializers = fields.pop("_serializers", None)
    make_room(fields, names.RESERVED_IN_ACTION)
    return logger, serializers


def start_action(
    logger: Writer | None = None,
    action_type: str = "",
    _serializers: ActionSerializers | None = None,
    _place: Place | None = None,
    /,
    **fields: Any,
) -> Action:
    """Start an action within the current one; a task of its own if there is none.

    The first three parameters may also be given by name.

    Args:
        logger: What its messages are written to; None for the default.
        action_type: Its type, like ``app:part:what``.
        _serializers: What its type says about its fields; `ActionType` fills it in.
        _place: Where it starts instead; for the functions beside this one.
        **fields: Fields of the start message. Any name will do; one that is reserved
            (``timestamp``, ``task_uuid``, ``task_level``, ``action_status``) is logged with an
            underscore after it.

    Returns:
        The action, which is to be used in a ``with`` statement, or ended by `Action.finish`.
    """
    level: Iterable[int]
    if _place is not None:
        task_uuid, level = _place
        parent = None
    else:
        parent = _get_current()
        if parent is None:
            task_uuid, level = new_task_uuid(), ()
        else:
            task_uuid = parent.task_uuid
            level = [*parent._level, next(parent._places or parent._open_places())]
    # Lookups cost less than one isdisjoint().
    if (
        "timestamp" in fields
        or "task_uuid" in fields
        or "task_level" in fields
        or "action_status" in fields
        or "logger" in fields
        or "_serializers" in fields
    ):
        logger, _serializers = _take_parameters(logger, _serializers, fields)
    if action_type:
        _set_type(fields, "action_type", action_type)
    else:
        try:
            action_type = fields["action_type"]
        except KeyError:
            fields["action_type"] = ""
    # What Action.__init__ does.
    action: Action = _Started()
    action.task_uuid = task_uuid
    action.action_type = action_type
    action._level = level
    action._places = None if _COUNTS_LATE else iter(_SECOND_AND_ON)
    action._route = route = DESTINATIONS if logger is None else route_to(logger)
    action._ending = action._token = None
    action._parent = parent
    fields["action_status"] = "started"
    fields["timestamp"] = time()
    fields["task_uuid"] = task_uuid
    fields["task_level"] = [*level, 1]
    if _serializers is not None:
        action._ending = _Ending(_serializers)
        route.write(fields, _serializers.start)
        return action
    call = route.call
    try:
        call(fields)
    except Exception as error:  # noqa: BLE001 - a destination must not break the program
        route.failed(call, error, fields)
    return action


def start_task(
    logger: Writer | None = None,
    action_type: str = "",
    _serializers: ActionSerializers | None = None,
    /,
    **fields: Any,
) -> Action:
    """Start an action that is a task of its own, whatever the current one is.

    The parameters are those of `start_action`.
    """
    return start_action(logger, action_type, _serializers, (new_task_uuid(), ()), **fields)


def log_message(message_type: str = _UNSET, /, **fields: Any) -> None:
    """Log a message within the current action; without one, it is a task of its own.

    Args:
        message_type: Its type, like ``app:part:what``; may be given by name.
        **fields: Its fields. Any name will do; one that is reserved (``timestamp``,
            ``task_uuid``, ``task_level``, ``action_type``) is logged with an underscore after it.
    """
    if message_type is not _UNSET:
        _set_type(fields, "message_type", message_type)
    # From here on as in Action.log_fields, with two calls less.
    action = _get_current()
    if action is None:
        action = place_of_its_own(None)
    # As in start_action.
    if (
        "timestamp" in fields
        or "task_uuid" in fields
        or "task_level" in fields
        or "action_type" in fields
    ):
        make_room(fields, names.RESERVED_IN_MESSAGE)
    if "message_type" not in fields:
        fields["message_type"] = ""
    fields["timestamp"] = time()
    fields["task_uuid"] = action.task_uuid
    fields["task_level"] = [*action._level, next(action._places or action._open_places())]
    route = action._route
    call = route.call
    try:
        call(fields)
    except Exception as error:  # noqa: BLE001 - a destination must not break the program
        route.failed(call, error, fields)


def place_of_its_own(logger: Writer | None) -> Action:
    """Make what a message outside of any action is logged to: a task of that message alone."""
    return Action(logger, new_task_uuid(), (), "")
