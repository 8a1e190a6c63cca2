"""Where in the tree the next message goes."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Optional

from eliot_etw._task_level import new_task_uuid

if TYPE_CHECKING:
    from eliot_etw._action import Action

# A context variable follows threads' own stacks, asyncio tasks and trio tasks by itself.
CURRENT: ContextVar[Optional["Action"]] = ContextVar("eliot_etw.action", default=None)


def current_action() -> Optional["Action"]:
    """Return the action that what is logged here and now belongs to, or None."""
    return CURRENT.get()


def next_place() -> tuple[str, list[int]]:
    """Take the place of one more message: the task's UUID and the level in it.

    It is the current action's next one; without an action, the message is a task of its own.
    """
    action = CURRENT.get()
    if action is None:
        return new_task_uuid(), [1]
    return action.task_uuid, action.next_level()
