"""Logging that tells a program's story as a tree of actions: the public names, no logic."""

from eliot_etw import _fork  # noqa: F401 - from here on forks are seen to
from eliot_etw._action import Action, log_message, start_action, start_task
from eliot_etw._compat import (
    add_destination,
    addDestination,
    addGlobalFields,
    removeDestination,
    startAction,
    startTask,
    use_asyncio_context,
    writeFailure,
    writeTraceback,
)
from eliot_etw._context import current_action
from eliot_etw._decorators import log_call, preserve_context
from eliot_etw._extract import register_exception_extractor
from eliot_etw._fields import Field, fields
from eliot_etw._logger import ILogger, Logger, MemoryLogger
from eliot_etw._message import Message
from eliot_etw._output import (
    Configuration,
    add_destinations,
    add_global_fields,
    configure,
    logging_stats,
    remove_destination,
    to_file,
)
from eliot_etw._traceback import write_failure, write_traceback
from eliot_etw._types import ActionType, MessageType
from eliot_etw.destinations.file import FileDestination
from eliot_etw.exceptions import ValidationError

__version__ = "0.1.0"

__all__ = [
    "Action",
    "ActionType",
    "Configuration",
    "Field",
    "FileDestination",
    "ILogger",
    "Logger",
    "MemoryLogger",
    "Message",
    "MessageType",
    "ValidationError",
    "__version__",
    "addDestination",
    "addGlobalFields",
    "add_destination",
    "add_destinations",
    "add_global_fields",
    "configure",
    "current_action",
    "fields",
    "log_call",
    "log_message",
    "logging_stats",
    "preserve_context",
    "register_exception_extractor",
    "removeDestination",
    "remove_destination",
    "startAction",
    "startTask",
    "start_action",
    "start_task",
    "to_file",
    "use_asyncio_context",
    "writeFailure",
    "writeTraceback",
    "write_failure",
    "write_traceback",
]
