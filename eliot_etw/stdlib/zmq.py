"""Records of the standard library's `logging` to a collector, over ZeroMQ."""

from __future__ import annotations

import logging
from typing import Any, final

from eliot_etw.destinations.zmq import ZmqDestination
from eliot_etw.stdlib.eliot_handler import EliotHandler
from eliot_etw.typing import MessageDict, MessageSerializer


@final
class ZmqHandler(EliotHandler):
    """Ships each record to a collector, as the message that `EliotHandler` makes of it.

    It has the place of the current action, so that it is in the tree of that task, whatever else
    is logged to where. An exception becomes a message of its own after that.

    For what becomes of messages on their way see `ZmqDestination`.

    Attributes:
        destination: What ships the messages.
    """

    def __init__(self, endpoint: str, level: int | str = logging.NOTSET, **settings: Any) -> None:
        """Make the handler.

        Args:
            endpoint: Where the collector listens: ``"tcp://host:port"``, ``"ipc://path"``.
            level: Records below this level are ignored.
            **settings: All others that `ZmqDestination` takes.

        Raises:
            MissingDependency: If pyzmq or msgspec is not installed.
            ValueError: If a setting is wrong, or the endpoint on another machine and no key given.
            OSError: If the folder, or a file with keys, cannot be used.
        """
        self.destination = ZmqDestination(endpoint, **settings)
        self._logger = _Shipping(self.destination)
        super().__init__(level)

    def stats(self) -> dict[str, int]:
        """Count records that were not as usual, as `EliotHandler`, and messages on their way."""
        return {**super().stats(), **self.destination.stats()}

    def close(self) -> None:
        """Ship what waits, within the time that the end may take. May be called twice."""
        self.destination.close(self.destination.exit_timeout_s)
        super().close()


@final
class _Shipping:
    """What writes messages to a destination of its own, and not to those of the program."""

    def __init__(self, destination: ZmqDestination) -> None:
        self._destination = destination

    def write(self, dictionary: MessageDict, serializer: MessageSerializer | None = None) -> None:
        """Ship a message, which is not used otherwise."""
        if serializer is not None:
            serializer.serialize(dictionary)
        self._destination(dictionary)
