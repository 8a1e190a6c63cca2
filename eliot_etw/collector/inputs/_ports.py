"""What the two ports of ZeroMQ have in common: the one with keys, and the one without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Received(NamedTuple):
    """A message that came.

    Attributes:
        route: The connection that it came on.
        data: What it says, valid until the next one is taken; None if it had several parts, of
            which a message must have one.
        user: The key that it came with, as `AllowedKeys.name_of_user` takes it.
        is_from_here: Whether it came from this machine.
    """

    route: bytes
    data: bytes | memoryview | None
    user: str
    is_from_here: bool


class Port(Protocol):
    """Where messages come in, and answers go out. For one thread.

    Attributes:
        endpoint: Where it listens: with the port, where any was wanted.
    """

    endpoint: str

    def receive(self, timeout_s: float) -> Iterator[Received]:
        """Wait until something comes, or somebody wakes us; then give some of what is there.

        All that is given must be taken.

        Args:
            timeout_s: How long to wait at most.
        """

    def send(self, route: bytes, frame: bytes) -> bool:
        """Send a frame, soon, if its receiver is there and reads; never waits.

        Returns:
            Whether it will be; if not, it is left out.
        """

    def look_around(self, now_s: float) -> None:
        """Do what is to be done now and then.

        Args:
            now_s: What time it is, on a clock that never goes back.
        """

    def close(self, linger_s: float) -> None:
        """Let go of everything.

        Args:
            linger_s: How long what was sent last may take to leave.
        """
