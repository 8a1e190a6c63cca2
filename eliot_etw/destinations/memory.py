"""Messages in a list, for scripts and notebooks."""

from __future__ import annotations

from eliot_etw.typing import MessageDict


class MemoryDestination:
    """Keeps every message it gets in `messages`, without bound.

    Attributes:
        messages: The messages, oldest first. Appending is one call into C: several threads may
            log at once.
    """

    is_leaf = True

    def __init__(self) -> None:
        self.messages: list[MessageDict] = []

    def __call__(self, message: MessageDict) -> None:
        """Keep a message."""
        self.messages.append(message)
