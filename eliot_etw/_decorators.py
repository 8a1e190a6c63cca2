"""Functions that become actions, `log_call`, and that keep their place, `preserve_context`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar, overload

from eliot_etw import _names as names
from eliot_etw._action import Action, start_action
from eliot_etw._arguments import RESULT, Names, Selection
from eliot_etw._context import current_action
from eliot_etw._generators import Span, span_async_generator, span_generator
from eliot_etw._logger import Logger
from eliot_etw.exceptions import TooManyCalls

_P = ParamSpec("_P")
_T = TypeVar("_T")
_F = TypeVar("_F", bound="Callable[..., Any] | classmethod[Any, Any, Any]")


def preserve_context(f: Callable[_P, _T]) -> Callable[_P, _T]:
    """Take a function along to another thread, to be called there within the current action.

    A place in the action is reserved for the call, which becomes an action of the type
    ``eliot:remote_task``. Until it has been made the tree is not complete.

    Args:
        f: A function of any kind. The run of a coroutine or a generator is part of the call.

    Returns:
        What does the same as `f`, once; without a current action, `f` itself.

    Raises:
        TooManyCalls: What was returned raises it when it is called again.
    """
    action = current_action()
    return f if action is None else _spanned(f, _RemoteTask(f, action))


class _RemoteTask:
    """The one call of what `preserve_context` returned."""

    def __init__(self, f: Callable[..., Any], action: Action) -> None:
        self._f = f
        self._place = action.task_uuid, action.next_level()
        self._is_called = Lock()

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Action:
        # Only one thread gets the lock, which is never released.
        if not self._is_called.acquire(blocking=False):
            msg = (
                "What preserve_context() returned must be called once, "
                f"got a second call of {self._f!r}. Call preserve_context() again for each call."
            )
            raise TooManyCalls(msg)
        return continue_at(*self._place)

    def note_result(self, action: Action, result: object) -> None:
        pass


def continue_at(task_uuid: str, level: list[int]) -> Action:
    """Start an ``eliot:remote_task`` action at a place that was reserved for it."""
    return start_action(None, names.REMOTE_TASK, None, (task_uuid, level))


@overload
def log_call(
    wrapped_function: None = None,
    action_type: str | None = None,
    include_args: Names = None,
    include_result: bool = True,
    *,
    exclude_args: Names = None,
    redact: Names = None,
    max_length: int | None = None,
) -> Callable[[_F], _F]: ...


@overload
def log_call(
    wrapped_function: _F,
    action_type: str | None = None,
    include_args: Names = None,
    include_result: bool = True,
    *,
    exclude_args: Names = None,
    redact: Names = None,
    max_length: int | None = None,
) -> _F: ...


def log_call(
    wrapped_function: Any = None,
    action_type: str | None = None,
    include_args: Names = None,
    include_result: bool = True,
    *,
    exclude_args: Names = None,
    redact: Names = None,
    max_length: int | None = None,
) -> Any:
    """Log each call of a function as an action, with its arguments and its result.

    To be used bare or with arguments, on functions and methods of any kind. The action spans the
    whole run, also of a coroutine, a generator or an asynchronous generator, whose caller has its
    own current action back at each ``yield``. A generator that is closed before its end has
    succeeded; one that is never started logs nothing.

    The ``self`` or ``cls`` of a method is left out. An argument whose name is reserved is logged
    with an underscore after it, as in `start_action`. A call that does not fit the function's
    signature raises `TypeError`, and logs nothing.

    Args:
        wrapped_function: The function. ``@staticmethod`` and the like may stand above or below.
        action_type: The action's type; by default the function's module and qualified name.
        include_args: The names of the arguments to log; by default all.
        include_result: Whether to log what is returned, as ``result``.
        exclude_args: The names of arguments that are not to be logged.
        redact: The names of arguments that are logged as ``[redacted]``; ``result`` for the
            result. The text of an exception is logged as it is.
        max_length: Arguments and results of which the text, or else the `repr`, has more than
            this many characters are cut, and their length is logged in place of the rest.

    Raises:
        TypeError: If that is no function.
        ValueError: If the function has no argument of a name that is listed, or max_length is not
            above 0.
    """
    if wrapped_function is None:
        return partial(
            log_call,
            action_type=action_type,
            include_args=include_args,
            include_result=include_result,
            exclude_args=exclude_args,
            redact=redact,
            max_length=max_length,
        )
    f, wrap_again = _unwrapped(wrapped_function)
    selection = Selection(f, include_args, exclude_args, redact, max_length)
    span = _LoggedCalls(action_type or _dotted_name(f), selection, include_result)
    return wrap_again(_spanned(f, span))


class _LoggedCalls:
    """The calls of one function that `log_call` decorates."""

    def __init__(self, action_type: str, selection: Selection, include_result: bool) -> None:
        self._action_type = action_type
        self._fields = selection.fields
        self._result = selection.result
        self._includes_result = include_result
        # Else the argument of that name would be taken for the logger to use.
        self._logger = Logger() if "logger" in selection.names else None

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Action:
        fields = self._fields(args, kwargs)
        return start_action(self._logger, self._action_type, None, **fields)

    def note_result(self, action: Action, result: object) -> None:
        if self._includes_result:
            action.add_success_fields(**{RESULT: self._result(result)})


def _unwrapped(decorated: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the function in a ``staticmethod`` or ``classmethod``, and what wraps it again."""
    if isinstance(decorated, (staticmethod, classmethod)):
        return decorated.__func__, type(decorated)
    if callable(decorated):
        return decorated, lambda f: f
    msg = (
        f"log_call must wrap a function, got {decorated!r}. "
        "Put @log_call next to the def; an action type is given as @log_call(action_type=...)."
    )
    raise TypeError(msg)


def _dotted_name(f: Any) -> str:
    """Return the module and the qualified name of a function, or of what comes nearest to one."""
    while isinstance(f, partial):
        f = f.func
    named = f if hasattr(f, "__qualname__") else type(f)
    return f"{named.__module__}.{named.__qualname__}"


def _spanned(f: Callable[..., Any], span: Span) -> Any:
    """Wrap a function so that each run of it is within an action, by whatever kind it is of."""
    if _is_one(inspect.isasyncgenfunction, f):
        return span_async_generator(f, span)
    if _is_one(inspect.isgeneratorfunction, f):
        return span_generator(f, span)
    if _is_one(inspect.iscoroutinefunction, f):
        return _span_coroutine(f, span)
    return _span_call(f, span)


def _is_one(is_kind: Callable[[object], bool], f: Callable[..., Any]) -> bool:
    """Say whether a function, or what calling this object calls, is of a kind."""
    return is_kind(f) or is_kind(type(f).__call__)


def _span_call(f: Callable[_P, _T], span: Span) -> Callable[_P, _T]:
    @wraps(f)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with span.start(args, kwargs) as action:
            result = f(*args, **kwargs)
            span.note_result(action, result)
            return result

    return call


def _span_coroutine(f: Callable[..., Any], span: Span) -> Callable[..., Any]:
    @wraps(f)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with span.start(args, kwargs) as action:
            result = await f(*args, **kwargs)
            span.note_result(action, result)
            return result

    return call
