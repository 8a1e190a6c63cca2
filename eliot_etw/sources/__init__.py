"""What messages are read back from: one module for each stored form.

A source is an iterable of the messages that were logged, as dicts. A name is imported when it is
first asked for, so that a form that nobody reads costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eliot_etw.sources.etl import EtlSource
    from eliot_etw.sources.file import BadLine, FileSource, FollowedFile
    from eliot_etw.sources.journald import FollowedJournal, JournalSource
    from eliot_etw.sources.merged import merge_by_time

_HOMES = {
    "BadLine": "file",
    "EtlSource": "etl",
    "FileSource": "file",
    "FollowedFile": "file",
    "FollowedJournal": "journald",
    "JournalSource": "journald",
    "merge_by_time": "merged",
}

__all__ = [
    "BadLine",
    "EtlSource",
    "FileSource",
    "FollowedFile",
    "FollowedJournal",
    "JournalSource",
    "merge_by_time",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
