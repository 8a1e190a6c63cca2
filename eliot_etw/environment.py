"""Tasks that go on in child processes, whose environment says where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from eliot_etw._action import Action, start_continued
from eliot_etw._context import current_action
from eliot_etw._trace_context import continuation, drawn_task_id

__all__ = ["child_environment", "continue_from_environment"]

_TASK_ID: Final = "ELIOT_TASK_ID"
_TRACEPARENT: Final = "TRACEPARENT"
_TRACESTATE: Final = "TRACESTATE"


def child_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child process that goes on in the current action.

    ``ELIOT_TASK_ID`` names a place in the action, ``TRACEPARENT`` the action, for those who know
    no more than W3C's Trace Context; ``TRACESTATE`` is what came in with the task.

    Each call gives another place: call it for each child. The places are drawn, and not counted
    as those of `Action.serialize_task_id` are: of a child that logs nothing, nothing is missing.
    Without an action, the child gets what there is of ``TRACEPARENT`` and ``TRACESTATE``, but no
    place: if there is one, it is for this process.

    Args:
        environment: What else the child is to have; None for the environment of this process.
    """
    child = dict(os.environ if environment is None else environment)
    child.pop(_TASK_ID, None)
    action = current_action()
    if action is None:
        return child
    child.pop(_TRACESTATE, None)
    ours = {
        _TRACEPARENT: action.traceparent(),
        _TASK_ID: drawn_task_id(action.task_uuid, action.task_level),
        _TRACESTATE: action.tracestate,
    }
    child.update((name, value) for name, value in ours.items() if value)
    return child


def continue_from_environment(
    environment: Mapping[str, str] | None = None, /, **fields: Any
) -> Action:
    """Start an action that goes on with the task which the environment names.

    See `Action.continue_task` for what is followed. Whatever is there, nothing is raised for it;
    without a task to go on with, the action is a new one.

    A place is good for one action: ``ELIOT_TASK_ID`` is taken out of the environment of this
    process, so that neither a second call nor a child takes it again.

    Args:
        environment: Where to look; None for the environment of this process.
        **fields: Fields of the start message, ``action_type`` among them.
    """
    if environment is None:
        task_id = os.environ.pop(_TASK_ID, None)
        environment = os.environ
    else:
        task_id = environment.get(_TASK_ID)
    found = continuation(task_id, environment.get(_TRACEPARENT), environment.get(_TRACESTATE))
    return start_continued(None, found, fields)
