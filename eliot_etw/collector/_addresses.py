"""Where to listen and where to connect: addresses as text."""

from __future__ import annotations

import re
from typing import Final

from eliot_etw.destinations._zmq_link import LOOPBACK

_ANY: Final = re.compile(r"ipc://.+|tcp://.+:(\d{1,5}|\*)", re.ASCII)
_LOCAL: Final = re.compile(rf"ipc://.+|tcp://({LOOPBACK.pattern}):(\d+|\*)", re.ASCII)


def is_local(endpoint: str) -> bool:
    """Say whether only this machine can reach an address of ZeroMQ."""
    return _LOCAL.fullmatch(endpoint) is not None


def is_address(endpoint: str) -> bool:
    """Say whether this is an address of ZeroMQ that can be listened at."""
    found = _ANY.fullmatch(endpoint)
    # ZeroMQ takes ports that are too high, and listens at others.
    return found is not None and (found[1] in (None, "*") or int(found[1]) <= 0xFFFF)
