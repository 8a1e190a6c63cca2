"""Headers that carry a task from one service to the next: Eliot's own, and W3C's Trace Context."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final, Protocol, TypeAlias

from eliot_etw import _names as names
from eliot_etw._action import Action, start_action, start_continued, start_task
from eliot_etw._context import current_action
from eliot_etw._safe import safe_repr
from eliot_etw._trace_context import Continuation, continuation, drawn_task_id, not_continued
from eliot_etw.typing import MessageDict

TASK_ID: Final = "X-Eliot-Task-Id"

REQUEST: Final = names.HTTP_REQUEST
"""The type of an action that a server's middleware makes of a request."""

Pairs: TypeAlias = Iterable[tuple[str | bytes, str | bytes]]


class HasItems(Protocol):
    """A mapping of names to values, or what looks like one: the headers of `http.server` do."""

    def items(self) -> Pairs:
        """Return the pairs."""
        ...


Headers: TypeAlias = HasItems | Pairs
Trust: TypeAlias = bool | Callable[[Any], bool]

# Headers by their names in lower case, and the parameters of continue_task that they are.
_PARAMETERS: Final = {
    "x-eliot-task-id": "task_id",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}


def outgoing_headers(action: Action | None = None) -> dict[str, str]:
    """Return the headers with which another service goes on in this task.

    ``X-Eliot-Task-Id`` names a place in the action, ``traceparent`` the action, for those who
    know no more than W3C's Trace Context; ``tracestate`` is what came in with the task.

    Each call gives another place: call it for each request. The places are drawn, and not counted
    as those of `Action.serialize_task_id` are: of a service that logs nothing, or elsewhere,
    nothing is missing.

    Args:
        action: The action that the request is part of; None for the current one.

    Returns:
        The headers; none if there is no action.
    """
    if action is None:
        action = current_action()
        if action is None:
            return {}
    headers = {
        "traceparent": action.traceparent(),
        TASK_ID: drawn_task_id(action.task_uuid, action.task_level),
        "tracestate": action.tracestate,
    }
    return {name: value for name, value in headers.items() if value}


def continue_from(headers: Headers, /, *, trust: Trust = True, **fields: Any) -> Action:
    """Start an action that goes on with the task which the headers of a request name.

    See `Action.continue_task` for what is followed. Whatever came in, nothing is raised for it;
    without a task to go on with, the action is a new one.

    Args:
        headers: All headers: a mapping, or pairs of names and values as text or bytes.
        trust: Whether to go on with what they name; or a function of the headers that says so,
            for whoever may send them can write into any tree. What is not trusted is kept in the
            field ``eliot:not_continued`` of a new task.
        **fields: Fields of the start message, ``action_type`` among them.
    """
    return continue_request(headers, headers, trust, fields)


def continue_request(
    headers: Headers, request: object, trust: Trust, fields: MessageDict
) -> Action:
    """Do what `continue_from` does; a function for `trust` is asked about the request.

    If somebody else has read the same headers, and we are within what was made of them, the action
    is in that: one place is for one action.
    """
    fields.setdefault("action_type", names.REMOTE_TASK)
    came, current = _came(headers), current_action()
    if not came:
        return (start_action if _is_in_request(current) else start_task)(**fields)
    why_not = _why_not(trust, request)
    if why_not:
        return start_task(**{**fields, **not_continued(why_not, **came)})
    found = continuation(came.get("task_id"), came.get("traceparent"), came.get("tracestate"))
    if current is not None and _is_there(current, found):
        return start_action(**fields)
    return start_continued(None, found, fields)


def _is_in_request(action: Action | None) -> bool:
    """Say whether an action is within what OpenTelemetry made of the same request."""
    while action is not None and not getattr(action, "is_server", False):
        action = action._parent
    return action is not None


def _is_there(action: Action, found: Continuation) -> bool:
    """Say whether an action is at a place already, or within it: somebody else read the headers.

    Of a trace without a place of ours, each who reads the headers draws another one.
    """
    uuid, level = found.place
    if action.task_uuid != uuid:
        return False
    return names.TRACEPARENT in found.fields or action.task_level[: len(level)] == level


def checked_trust(trust: Trust) -> Trust:
    """Return what a middleware is to trust.

    Raises:
        TypeError: If it is neither a bool nor a function, or has to be awaited.
    """
    if isinstance(trust, bool) or (callable(trust) and not iscoroutinefunction(trust)):
        return trust
    msg = (
        f"trust must be True, False or a function of the request, not async, got {trust!r}. "
        "Pass True where only services of your own can call, else False."
    )
    raise TypeError(msg)


def _came(headers: Headers) -> dict[str, str]:
    """Pick out the headers that name a task, by the names of the parameters that they are."""
    pairs: Any = headers.items() if hasattr(headers, "items") else headers
    came: dict[str, str] = {}
    for key, value in pairs:
        parameter = _PARAMETERS.get(_text(key).lower())
        if parameter is not None and value is not None:
            text = _text(value).strip(" \t")
            # As RFC 9110, section 5.3, has it: one list may come in several headers.
            came[parameter] = f"{came[parameter]},{text}" if parameter in came else text
    # Alone it means nothing.
    return {} if came.keys() == {"tracestate"} else came


def _text(value: object) -> str:
    """Return a header as text: any, if it is something else, as it may be in a queue's message."""
    if isinstance(value, bytes | bytearray | memoryview):
        return str(value, "latin-1")
    return value if isinstance(value, str) else safe_repr(value)


def _why_not(trust: Trust, request: object) -> str:
    """Say why what came with a request is not to be trusted; nothing if it is."""
    if callable(trust):
        try:
            answer = trust(request)
            trust = bool(answer) and not isawaitable(answer)
        except Exception as error:  # noqa: BLE001 - a mistake there must not fail the request
            return f"trust() raised {type(error).__name__}"
    return "" if trust is True else "untrusted"
