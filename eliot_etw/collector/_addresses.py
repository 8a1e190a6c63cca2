"""Where to listen and where to connect: addresses as text."""

from __future__ import annotations

import re

_LOCAL = re.compile(r"(ipc|inproc)://.+|tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):(\d+|\*)")


def is_local(endpoint: str) -> bool:
    """Say whether only this machine can reach an address of ZeroMQ."""
    return _LOCAL.fullmatch(endpoint) is not None
