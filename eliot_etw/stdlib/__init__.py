"""For programs that log with the standard library's `logging`: handlers for its loggers.

A name is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from eliot_etw._late import late_names

if TYPE_CHECKING:
    from eliot_etw.stdlib.eliot_handler import EliotHandler
    from eliot_etw.stdlib.etw import EtwHandler
    from eliot_etw.stdlib.task_context import TaskContextFilter, TaskContextRecordFactory
    from eliot_etw.stdlib.zmq import ZmqHandler

__all__ = [
    "EliotHandler",
    "EtwHandler",
    "TaskContextFilter",
    "TaskContextRecordFactory",
    "ZmqHandler",
]

_MODULES = {
    "EliotHandler": "eliot_handler",
    "EtwHandler": "etw",
    "TaskContextFilter": "task_context",
    "TaskContextRecordFactory": "task_context",
    "ZmqHandler": "zmq",
}

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
