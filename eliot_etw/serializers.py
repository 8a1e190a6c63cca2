"""Ready-made serializers for `eliot_etw.Field`: time, digest, and the value as it is."""

from __future__ import annotations

from datetime import datetime, timezone
from hashlib import md5
from typing import TypeVar

__all__ = ["identity", "md5hex", "timestamp"]

_T = TypeVar("_T")


def identity(value: _T) -> _T:
    """Return the value itself."""
    return value


def timestamp(dt: datetime) -> str:
    """Write a time as text, to the microsecond.

    >>> timestamp(datetime(2024, 2, 29, 12, 30))
    '2024-02-29T12:30:00.000000Z'

    Args:
        dt: The time, taken for UTC if it names no timezone.
    """
    if dt.tzinfo is not None:
        dt = dt.astimezone(timezone.utc)
    return dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def md5hex(data: bytes) -> str:
    """Return the MD5 digest in hexadecimal: a name for the data, no protection of it.

    >>> md5hex(b"")
    'd41d8cd98f00b204e9800998ecf8427e'
    """
    return md5(data, usedforsecurity=False).hexdigest()
