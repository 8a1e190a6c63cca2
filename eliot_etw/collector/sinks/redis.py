"""Messages in a stream of Redis."""

from __future__ import annotations

from typing import final

from eliot_etw.collector.sinks import Batch, BlockingSink, SinkUnavailable
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._redis_stream import DEFAULT_STREAM, DEFAULT_URL, RedisStream


@final
class RedisSink(BlockingSink):
    """Adds each message to a stream, once.

    Redis knows which messages of a sender it has, for 30 days; and a message that has no sender's
    number for a day. What it has is as safe as its settings say: with ``appendfsync always`` it
    is on disk.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        stream: str = DEFAULT_STREAM,
        max_messages: int | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        """Check the settings; the first batch connects.

        Args:
            url: Where Redis is, as ``redis://user:password@host:port/database``.
            stream: The name of the stream.
            max_messages: How many messages it keeps, or some more; all if left out.
            timeout_s: How long Redis may take for an answer.

        Raises:
            MissingDependency: If redis is not installed.
            ValueError: If a setting is wrong.
        """
        self._stream = RedisStream(
            url, stream, timeout_s=timeout_s, feature="The sink redis", max_messages=max_messages
        )
        self._repeated = 0

    def store(self, batch: Batch) -> None:
        """Add messages. Raises SinkUnavailable if Redis cannot be reached, or refuses."""
        items = (
            Item(line, sender, number, str(key))
            for line, (sender, number), key in zip(
                batch.lines, batch.places(), batch.keys(), strict=True
            )
        )
        try:
            self._repeated += self._stream.append(items)
        except self._stream.errors as error:
            raise SinkUnavailable(f"{self._stream.url}: {error}") from error

    def close(self, timeout_s: float) -> None:
        """Close the connection."""
        self._stream.close()

    def stats(self) -> dict[str, int]:
        """Count what happened: ``repeated``, messages that came again."""
        return {"repeated": self._repeated}
