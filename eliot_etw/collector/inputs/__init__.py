"""Where the collector takes messages from: what an input is, and how one is found by its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from eliot_etw.collector._batch import Batch, Origin
from eliot_etw.collector._kinds import Kinds

__all__ = ["INPUTS", "Batch", "Deliver", "Input", "Origin"]

# Each kind of ours is a module of this package, named like the kind, with this class.
INPUTS: Final = Kinds(
    __name__,
    "eliot_etw.inputs",
    {
        "file": "FileInput",
        "nats": "NatsInput",
        "redis": "RedisInput",
        "zmq": "ZmqInput",
    },
)

Deliver: TypeAlias = Callable[[Batch, Callable[[], object]], bool]
"""Takes a batch, and what to call when every required sink has all of it.

That is called at most once, by any thread, and must neither raise nor wait; batches are not always
settled in the order in which they were given. Returns whether the batch was taken: False means
that too much waits already, and that the input must hold it back and give it again later, before
any later one of the same sender. Never waits; may be called by any thread.
"""


class Input(Protocol):
    """What takes messages from somewhere, and says there when they are stored.

    Its constructor is called with the options of the configuration, whose types are those of its
    annotations. It raises `ValueError`, `TypeError` or `MissingDependency` for options that cannot
    work.

    What it delivers is checked by who takes it: lines that are no JSON objects are put aside.

    One that has an attribute `problem`, a text, is not well while that is not empty; one that has
    an attribute `endpoint` is told of by that.
    """

    def start(self, deliver: Deliver, folder: Path) -> None:
        """Begin to take messages, in a thread of its own.

        Args:
            deliver: Takes batches.
            folder: Where the input may keep what it must know after a restart. Nobody else uses
                it; it may not be there yet.

        Raises:
            OSError: If the place cannot be used at all: an address that is taken.
        """

    def stop(self, timeout_s: float) -> None:
        """Take nothing more. What was delivered is still acknowledged as it is settled."""

    def close(self, timeout_s: float) -> None:
        """Acknowledge what is settled by now, and let go of everything. May be called twice."""

    def stats(self) -> dict[str, int]:
        """Count what happened: names for people and for metrics, to numbers that only grow."""
