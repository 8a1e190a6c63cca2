"""The part of a sink that is the same for all that take messages one by one."""

from __future__ import annotations

from abc import abstractmethod

from eliot_etw._safe import safe_str
from eliot_etw.collector._batch import Key
from eliot_etw.collector.sinks import Batch, BlockingSink, MessagesRefused, SinkUnavailable
from eliot_etw.typing import MessageDict


class OneByOneSink(BlockingSink):
    """Takes messages one by one; what it has taken of a batch that failed, it does not take again.

    That is known as long as the process lives; nobody else tells what is there already.
    """

    def __init__(self) -> None:
        # What was taken of the present batch, or of the last one if that failed, and why not.
        self._taken: dict[Key, str | None] = {}

    @abstractmethod
    def take(self, message: MessageDict) -> None:
        """Take a message.

        Raises:
            OSError: If it is to come again later. Anything else refuses it.
        """

    @abstractmethod
    def settle(self) -> None:
        """See that all that was taken is where it is to be.

        Raises:
            OSError: If it is not, yet; then it is asked again.
            Exception: If some of it will not be; then each message is tried alone.
        """

    def forget(self) -> None:
        """Have all of the batch come again."""
        self._taken.clear()

    def store(self, batch: Batch) -> None:
        """Take what was not taken yet, and settle it."""
        keys = [*batch.keys()]
        try:
            for entry, key in zip(batch, keys, strict=True):
                if key not in self._taken:
                    self._taken[key] = self._reason_against(entry.message)
            self.settle()
        except OSError as error:
            raise SinkUnavailable(str(error)) from error
        taken, self._taken = self._taken, {}
        refused = {
            number: why for number, key in enumerate(keys) if (why := taken[key]) is not None
        }
        if refused:
            raise MessagesRefused(refused)

    def _reason_against(self, message: MessageDict) -> str | None:
        """Take a message; return why not, if it never will be. Raises OSError."""
        try:
            self.take(message)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - a destination of a user may raise anything
            return safe_str(error)
        return None
