"""A Twisted service that writes messages in a thread of its own; names as in `eliot.logwriter`.

Twisted is a package of its own: ``python -m pip install 'eliot-etw[twisted]'``.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from eliot_etw._output import add_destinations, remove_destination
from eliot_etw._require import require
from eliot_etw.destinations.background import BackgroundDestination
from eliot_etw.typing import Destination

require("twisted", feature="eliot_etw.logwriter", extra="twisted")

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool

__all__ = ["ThreadedWriter"]


class ThreadedWriter(BackgroundDestination, Service):
    """Has a thread deliver messages to the destination inside, while the service runs.

    The reactor never waits. Up to `max_queued` messages may wait for the thread; one for which
    there is no room is dropped and counted, and the log is told. All else is as in
    `eliot_etw.destinations.BackgroundDestination`, which this is.
    """

    name = "Eliot Log Writer"

    def __init__(
        self,
        destination: Destination,
        reactor: Any,
        *,
        max_queued: int = 100_000,
        stop_timeout_s: float = 30.0,
    ) -> None:
        """Make the service, which does nothing before it is started.

        Args:
            destination: Where the thread delivers messages.
            reactor: The reactor whose threads wait for the end of the writing.
            max_queued: How many messages may wait.
            stop_timeout_s: How long the end waits for what is queued to be delivered; what is not
                by then is dropped, counted and told on standard error.

        Raises:
            TypeError: If `destination` cannot be called.
            ValueError: If `max_queued` is less than 1.
        """
        super().__init__(destination, max_queued=max_queued, when_full="drop_new")
        self._reactor = reactor
        self._stop_timeout_s = stop_timeout_s

    def startService(self) -> None:
        """Start the thread, and add this destination. A second call does nothing.

        Raises:
            RuntimeError: If the service is just being stopped.
        """
        if self.running:
            return
        if self._stops or self._is_over:
            self._begin_again()
        Service.startService(self)  # type: ignore[no-untyped-call] # Twisted has no type for it
        self._has_writer()
        add_destinations(self)

    def _begin_again(self) -> None:
        """Begin with an empty queue, after the end of the last one."""
        if not self._is_over:
            msg = (
                "startService() must come after the end of stopService(), which is not done yet. "
                "Wait for the Deferred that it returned."
            )
            raise RuntimeError(msg)
        self._is_over = False
        self._forget()

    def stopService(self) -> Deferred[None]:
        """Remove this destination, and have the thread end. A second call does nothing.

        Returns:
            What fires when everything is delivered. What is inside is not closed.
        """
        if not self.running:
            return succeed(None)
        Service.stopService(self)  # type: ignore[no-untyped-call] # Twisted has no type for it
        remove_destination(self)
        # At once: the thread that waits for it may have to wait itself.
        self._stop()
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, self._finish_in_time)

    def _finish_in_time(self) -> None:
        """Wait for the writer, as long as the service may."""
        self._finish(monotonic() + self._stop_timeout_s)
