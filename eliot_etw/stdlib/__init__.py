"""For programs that log with the standard library's `logging`: handlers for its loggers.

A name is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eliot_etw.stdlib.eliot_handler import EliotHandler
    from eliot_etw.stdlib.etw import EtwHandler
    from eliot_etw.stdlib.task_context import TaskContextFilter, TaskContextRecordFactory

__all__ = [
    "EliotHandler",
    "EtwHandler",
    "TaskContextFilter",
    "TaskContextRecordFactory",
]

_MODULES = {
    "EliotHandler": "eliot_handler",
    "EtwHandler": "etw",
    "TaskContextFilter": "task_context",
    "TaskContextRecordFactory": "task_context",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
