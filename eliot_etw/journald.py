"""What Eliot's module of this name has: the destination for journald, and its one function."""

from __future__ import annotations

from functools import cache

from eliot_etw.destinations._journal_fields import bytes_field
from eliot_etw.destinations._journal_socket import MAX_WAIT_S, SOCKET_PATH, JournalSocket
from eliot_etw.destinations.journald import JournaldDestination

__all__ = ["JournaldDestination", "sd_journal_send"]


def sd_journal_send(**kwargs: bytes) -> None:
    """Write one entry to the journal.

    Args:
        **kwargs: The fields and their values.

    Raises:
        OSError: If the journal did not take it.
    """
    _journal().send(b"".join(bytes_field(key.encode(), kwargs[key]) for key in kwargs))


@cache
def _journal() -> JournalSocket:
    """Connect when it is first needed."""
    return JournalSocket(SOCKET_PATH, MAX_WAIT_S)
