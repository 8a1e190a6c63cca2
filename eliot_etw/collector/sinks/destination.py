"""Messages for any destination of the library, or of a user."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final

from eliot_etw._configure import destination_maker
from eliot_etw._settings import parameters_of
from eliot_etw.collector.sinks._one_by_one import OneByOneSink
from eliot_etw.exceptions import InvalidSettings
from eliot_etw.typing import Destination, MessageDict

# How long a destination with a queue of its own may take to bring a batch to its place.
_FLUSH_S: Final = 30.0
# What such a destination counts as lost; and what may become less, and so is no count.
_LOST: Final = ("dropped", "failed")
_NOW: Final = "queued"


class DestinationSink(OneByOneSink):
    """Calls a destination with each message.

    If the destination raises `OSError`, the message comes again later, before all others; if it
    raises anything else, the message is refused. One that has a queue of its own is waited for
    after each batch. If it counts some as lost then, messages are tried one by one.

    No destination tells what it has from before: messages whose acknowledgement was lost when the
    collector ended come to it twice.
    """

    def __init__(self, destination: dict[str, Any]) -> None:
        """Check the settings, and make the destination, if its place is there.

        Args:
            destination: Which, and its settings, as `configure` takes them: a table with ``kind``,
                the destination's own settings, and perhaps ``wrappers``.

        Raises:
            InvalidSettings: If something is wrong in them.
        """
        super().__init__()
        self._make = destination_maker(destination)
        self._undo = ExitStack()
        self._destination: Destination | None = None
        self._flush: Callable[[], object] | None = None
        self._lost = 0
        with suppress(OSError):
            self._made()

    def _made(self) -> Destination:
        """Return the destination, which is made if that was not possible before."""
        if self._destination is None:
            try:
                made = self._make(self._undo)
            except InvalidSettings as error:
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None
                raise
            self._flush = _flush_of(made)
            self._destination = made
        return self._destination

    def take(self, message: MessageDict) -> None:
        """Call the destination. Raises what it raises."""
        self._made()(message)

    def settle(self) -> None:
        """Wait for a queue of the destination's own.

        Raises:
            OSError: If that takes too long.
            RuntimeError: If some of what was in it is lost.
        """
        if self._flush is None:
            return
        if self._flush() is False:
            raise TimeoutError("The destination has not brought all to its place yet.")
        before, self._lost = self._lost, sum(self.stats().get(name, 0) for name in _LOST)
        if self._lost > before:
            self.forget()
            raise RuntimeError(f"The destination lost {self._lost - before:,} messages.")

    def close(self, timeout_s: float) -> None:
        """Close the destination."""
        self._undo.close()

    def stats(self) -> dict[str, int]:
        """Count what the destination counts."""
        stats: Callable[[], dict[str, int]] | None = getattr(self._destination, "stats", None)
        counts = {} if stats is None else stats()
        return {name: number for name, number in counts.items() if name != _NOW}


def _flush_of(destination: Destination) -> Callable[[], object] | None:
    """Find what waits until a destination has brought everything to its place."""
    flush: Callable[..., object] | None = getattr(destination, "flush", None)
    if flush is None or "timeout_s" not in parameters_of(flush).types:
        return flush
    return lambda: flush(timeout_s=_FLUSH_S)
