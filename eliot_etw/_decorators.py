"""Functions as actions: `log_call`; functions that take their place along: `preserve_context`."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from eliot_etw._action import Action
from eliot_etw._context import current_action
from eliot_etw.exceptions import TooManyCalls

_F = TypeVar("_F", bound=Callable[..., Any])


def preserve_context(f: _F) -> _F:
    action = current_action()
    if action is None:
        return f
    task_id = action.serialize_task_id()
    called = Lock()

    def restore(*args: Any, **kwargs: Any) -> Any:
        if not called.acquire(blocking=False):
            raise TooManyCalls(f)
        with Action.continue_task(task_id=task_id):
            return f(*args, **kwargs)

    return restore  # type: ignore[return-value]


def log_call(f: Any = None, **kw: Any) -> Any:
    return f
