"""Where to listen and where to connect: addresses as text."""

from __future__ import annotations

import re

_LOCAL = re.compile(r"(ipc|inproc)://.+|tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):(\d+|\*)")


def is_local(endpoint: str) -> bool:
    """Say whether only this machine can reach an address of ZeroMQ.

    >>> is_local("tcp://127.0.0.1:5515"), is_local("ipc:///run/a.sock"), is_local("tcp://*:5515")
    (True, True, False)
    """
    return _LOCAL.fullmatch(endpoint) is not None
