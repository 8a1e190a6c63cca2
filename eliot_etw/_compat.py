"""Eliot's camelCase spellings, and what it calls deprecated; nowhere else."""

import warnings

from eliot_etw import _action, _dispatch, _fields, _logger, _task_level, _traceback, _types
from eliot_etw._output import add_destinations, add_global_fields, remove_destination
from eliot_etw.typing import Destination

startAction = _action.start_action  # noqa: N816 - Eliot's spelling
startTask = _action.start_task  # noqa: N816 - Eliot's spelling
writeTraceback = _traceback.write_traceback  # noqa: N816 - Eliot's spelling
writeFailure = _traceback.write_failure  # noqa: N816 - Eliot's spelling
removeDestination = remove_destination  # noqa: N816 - Eliot's spelling
addGlobalFields = add_global_fields  # noqa: N816 - Eliot's spelling


def add_destination(destination: Destination) -> None:
    """Add one destination; `add_destinations` is the name to use."""
    add_destinations(destination)


addDestination = add_destination  # noqa: N816 - Eliot's spelling


def use_asyncio_context() -> None:
    """Do nothing: asyncio is supported as it is."""
    warnings.warn(
        "use_asyncio_context() does nothing any more: asyncio is supported as it is. "
        "Remove the call.",
        DeprecationWarning,
        stacklevel=2,
    )


_METHODS: dict[type, dict[str, str]] = {
    _action.Action: {
        "serializeTaskId": "serialize_task_id",
        "continueTask": "continue_task",
        "addSuccessFields": "add_success_fields",
    },
    _dispatch.Destinations: {"addGlobalFields": "add_global_fields"},
    _fields.Field: {"forValue": "for_value", "forTypes": "for_types"},
    _logger.MemoryLogger: {"flushTracebacks": "flush_tracebacks"},
    _task_level.TaskLevel: {"fromString": "from_string", "toString": "to_string"},
    _types.ActionType: {"asTask": "as_task"},
}

for _class, _spellings in _METHODS.items():
    for _camel, _snake in _spellings.items():
        # Out of __dict__, so that a classmethod stays one.
        setattr(_class, _camel, _class.__dict__[_snake])
