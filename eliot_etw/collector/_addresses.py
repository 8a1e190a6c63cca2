"""Where to listen and where to connect: addresses as text."""

from __future__ import annotations

import re
from typing import Final

from eliot_etw.destinations._zmq_link import LOOPBACK

_LOCAL: Final = re.compile(rf"(ipc|inproc)://.+|tcp://({LOOPBACK.pattern}):(\d+|\*)", re.ASCII)


def is_local(endpoint: str) -> bool:
    """Say whether only this machine can reach an address of ZeroMQ."""
    return _LOCAL.fullmatch(endpoint) is not None
