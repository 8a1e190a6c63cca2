"""Where the collector puts messages: what a sink is, and how one is found by its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Final, Protocol

from eliot_etw.collector._batch import Batch, Entry, Key, Origin
from eliot_etw.collector._kinds import Kinds
from eliot_etw.exceptions import MessagesRefused, SinkUnavailable

__all__ = [
    "SINKS",
    "Batch",
    "BlockingSink",
    "Entry",
    "Key",
    "MessagesRefused",
    "Origin",
    "Sink",
    "SinkUnavailable",
]

# Each kind of ours is a module of this package, named like the kind, with this class.
SINKS: Final = Kinds(
    __name__,
    "eliot_etw.sinks",
    {
        "clickhouse": "ClickHouseSink",
        "destination": "DestinationSink",
        "journald": "JournaldSink",
        "jsonlines": "JsonLinesSink",
        "mongodb": "MongoSink",
        "nats": "NatsSink",
        "otlp": "OtlpSink",
        "redis": "RedisSink",
        "sqlite": "SqliteSink",
        "zmq_pub": "ZmqPubSink",
    },
)


class Sink(Protocol):
    """What stores messages: a batch in, a promise out.

    Its constructor is called with the options of the configuration, whose types are those of its
    annotations. It raises `ValueError`, `TypeError` or `MissingDependency` for options that cannot
    work; a place that cannot be reached now is no reason to raise.

    The methods are called by one thread, one after the other. The collector gives the next batch
    when the last one is settled, and may join what waits meanwhile into one, so that a sink has
    whole batches to work with.

    The same message may come again, after a failure or a restart: it must be stored once. It is
    the same if its `Entry.key` is the same. Messages with one place but different keys must both
    be stored.
    """

    def write(self, batch: Batch) -> Future[None]:
        """Store messages.

        Returns:
            What is done when all are stored so that they outlive this process. It may be done
            already. Its exception is `SinkUnavailable` if the batch is to be given again later;
            `MessagesRefused` if some of it can never be stored, and all others are; any other
            exception counts as the first.
        """

    def flush(self, timeout_s: float) -> None:
        """Do what has been put off: called when there is nothing to write, and before the end."""

    def close(self, timeout_s: float) -> None:
        """Let go of everything. May be called twice."""

    def stats(self) -> dict[str, int]:
        """Count what happened: names for people and for metrics, to numbers that only grow."""


class BlockingSink(ABC):
    """The part of a sink that is the same for all whose `store` returns when it is done."""

    @abstractmethod
    def store(self, batch: Batch) -> None:
        """Store messages so that they outlive this process.

        Raises:
            SinkUnavailable: If the batch is to be given again later.
            MessagesRefused: If some of it can never be stored, and all others are.
        """

    def write(self, batch: Batch) -> Future[None]:
        """Store messages, and return what says so."""
        future: Future[None] = Future()
        try:
            self.store(batch)
        except Exception as error:  # noqa: BLE001 - whoever waits for the future is told
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def flush(self, timeout_s: float) -> None:  # noqa: B027 - not all put something off
        """Do nothing: nothing is put off."""

    def close(self, timeout_s: float) -> None:  # noqa: B027 - not all hold something
        """Do nothing: nothing is held."""

    def stats(self) -> dict[str, int]:
        """Count nothing."""
        return {}
