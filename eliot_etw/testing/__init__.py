"""What tests of logging are written with: `capture_logging`, assertions, and what they look at."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eliot_etw._logger import MemoryLogger, swap_logger
    from eliot_etw.exceptions import UnflushedTracebacks
    from eliot_etw.testing._assertions import (
        assertContainsFields,
        assertHasAction,
        assertHasMessage,
        issuperset,
    )
    from eliot_etw.testing._capture import (
        capture_logging,
        check_for_errors,
        validate_logging,
        validateLogging,
    )
    from eliot_etw.testing._captured_logs import CapturedLogs
    from eliot_etw.testing._logged import LoggedAction, LoggedMessage
    from eliot_etw.testing._recording_etw import RecordingEtw

__all__ = [
    "CapturedLogs",
    "LoggedAction",
    "LoggedMessage",
    "MemoryLogger",
    "RecordingEtw",
    "UnflushedTracebacks",
    "assertContainsFields",
    "assertHasAction",
    "assertHasMessage",
    "capture_logging",
    "check_for_errors",
    "issuperset",
    "swap_logger",
    "validateLogging",
    "validate_logging",
]

# Imported when first asked for: every run of pytest imports this package for its plugin.
_MODULES = {
    "CapturedLogs": "eliot_etw.testing._captured_logs",
    "LoggedAction": "eliot_etw.testing._logged",
    "LoggedMessage": "eliot_etw.testing._logged",
    "MemoryLogger": "eliot_etw._logger",
    "RecordingEtw": "eliot_etw.testing._recording_etw",
    "UnflushedTracebacks": "eliot_etw.exceptions",
    "assertContainsFields": "eliot_etw.testing._assertions",
    "assertHasAction": "eliot_etw.testing._assertions",
    "assertHasMessage": "eliot_etw.testing._assertions",
    "capture_logging": "eliot_etw.testing._capture",
    "check_for_errors": "eliot_etw.testing._capture",
    "issuperset": "eliot_etw.testing._assertions",
    "swap_logger": "eliot_etw._logger",
    "validateLogging": "eliot_etw.testing._capture",
    "validate_logging": "eliot_etw.testing._capture",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_MODULES[name]), name)
