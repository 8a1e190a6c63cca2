"""What Eliot's module of this name has: the destination for journald, and its one function."""

from __future__ import annotations

import errno
import os
import re
from functools import cache
from typing import Final

from eliot_etw.destinations._journal_fields import bytes_field
from eliot_etw.destinations._journal_socket import MAX_WAIT_S, SOCKET_PATH, JournalSocket
from eliot_etw.destinations.journald import JournaldDestination

__all__ = ["JournaldDestination", "sd_journal_send"]

_LEGAL_NAME: Final = re.compile("[A-Z][A-Z0-9_]{0,63}")


def sd_journal_send(**kwargs: bytes) -> None:
    """Write one entry to the journal.

    Args:
        **kwargs: The fields and their values.

    Raises:
        OSError: If a name is none that the journal takes, or the journal did not take it all.
    """
    if not all(map(_LEGAL_NAME.fullmatch, kwargs)):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    _journal().send(b"".join(bytes_field(key.encode(), kwargs[key]) for key in kwargs))


@cache
def _journal() -> JournalSocket:
    """Connect when it is first needed."""
    return JournalSocket(SOCKET_PATH, MAX_WAIT_S)
