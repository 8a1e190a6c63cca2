"""What tests of logging are written with: `capture_logging`, assertions, and what they look at."""

from typing import TYPE_CHECKING

from eliot_etw._late import late_names
from eliot_etw._logger import MemoryLogger, swap_logger
from eliot_etw.exceptions import UnflushedTracebacks

if TYPE_CHECKING:
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
    "CapturedLogs": "_captured_logs",
    "LoggedAction": "_logged",
    "LoggedMessage": "_logged",
    "RecordingEtw": "_recording_etw",
    "assertContainsFields": "_assertions",
    "assertHasAction": "_assertions",
    "assertHasMessage": "_assertions",
    "capture_logging": "_capture",
    "check_for_errors": "_capture",
    "issuperset": "_assertions",
    "validateLogging": "_capture",
    "validate_logging": "_capture",
}

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
