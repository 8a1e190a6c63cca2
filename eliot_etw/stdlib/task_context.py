"""Where in the tree a record was logged, for formatters: by a filter, or by a record factory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, final

from eliot_etw import _names as names
from eliot_etw._context import current_action


@final
class TaskContextFilter(logging.Filter):
    """Gives each record ``task_uuid`` and ``task_level`` of the current action, as text.

    ``task_level`` is the place of the action, such as ``/2/1``. Outside of any action, both are
    empty. A record that has them already keeps them. No record is kept out, and none takes a place
    in the tree.

    Add it to a handler, or to each logger that is logged to: filters of loggers above are not
    asked. A handler that has a queue before it is too late; put the filter on what fills the
    queue.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Give a record the two attributes."""
        attributes = vars(record)
        if names.TASK_UUID not in attributes:
            _give_context(attributes)
        return True


@final
class TaskContextRecordFactory:
    """Makes records with the two attributes that `TaskContextFilter` adds, for all handlers.

    Use it as ``logging.setLogRecordFactory(TaskContextRecordFactory())``. From then on, ``extra``
    cannot have fields of these two names: `logging` raises `KeyError` then, as it does for all
    names that records have by themselves. The filter has no such effect.
    """

    def __init__(self, factory: Callable[..., logging.LogRecord] | None = None) -> None:
        """Take what makes the records.

        Args:
            factory: That; what is in use now, if left out.
        """
        self._factory = factory or logging.getLogRecordFactory()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Make a record."""
        record = self._factory(*args, **kwargs)
        _give_context(vars(record))
        return record


def _give_context(attributes: dict[str, Any]) -> None:
    """Add the place of the current action to a record's attributes."""
    action = current_action()
    attributes[names.TASK_UUID] = "" if action is None else action.task_uuid
    attributes[names.TASK_LEVEL] = "" if action is None else action.task_level.to_string()
