"""Messages in a stream of NATS JetStream."""

from __future__ import annotations

from itertools import repeat
from typing import final

from eliot_etw.collector.sinks import Batch, BlockingSink, SinkUnavailable
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._nats_stream import (
    DEFAULT_STREAM,
    DEFAULT_URL,
    DUPLICATE_WINDOW_S,
    TIMEOUT_S,
    Access,
    NatsStream,
    NewStream,
)


@final
class NatsSink(BlockingSink):
    """Adds each message to a stream, once.

    The stream itself says which messages of a sender it has: the last entry under the sender's
    subject. A message that has no sender's number is known for `duplicate_window_s`.
    """

    def __init__(  # noqa: PLR0913 - the options of the configuration
        self,
        url: str = DEFAULT_URL,
        stream: str = DEFAULT_STREAM,
        *,
        replicas: int = 1,
        keep_s: float | None = None,
        max_bytes: int | None = None,
        duplicate_window_s: float = DUPLICATE_WINDOW_S,
        credentials: str | None = None,
        tls_ca: str | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Check the settings; the first batch connects.

        Args:
            url: Where servers are, as ``nats://user:password@host:port``; with commas between.
            stream: The name of the stream. If it is not there, it is made, as the next four say.
            replicas: How many servers of a cluster have all of it.
            keep_s: How long it keeps messages; for ever if left out.
            max_bytes: How large it may become before the oldest go; unlimited if left out.
            duplicate_window_s: How long the servers know what has no sender's number.
            credentials: The ``.creds`` file of a user.
            tls_ca: Who signs the servers' certificates, if the system does not know.
            tls_certificate: Our certificate.
            tls_key: Its key, if it is in a file of its own.
            timeout_s: How long a server may take for an answer.

        Raises:
            MissingDependency: If nats-py is not installed.
            ValueError: If a setting is wrong.
            OSError: If a file cannot be used.
        """
        self._stream = NatsStream(
            url,
            stream,
            timeout_s=timeout_s,
            feature="The sink nats",
            access=Access(credentials, tls_ca, tls_certificate, tls_key),
            new=NewStream(replicas, keep_s, max_bytes, duplicate_window_s),
        )
        self._repeated = 0

    def store(self, batch: Batch) -> None:
        """Add messages.

        Raises:
            SinkUnavailable: If no server can be reached, or it does not take them now.
            MessagesRefused: If some are larger than the servers take.
        """
        is_numbered = all(sender for sender, _ in batch.origins)
        names = repeat("", len(batch)) if is_numbered else map(str, batch.keys())
        items = (
            Item(line, sender, number, name)
            for line, (sender, number), name in zip(
                batch.lines, batch.places(), names, strict=True
            )
        )
        try:
            self._repeated += self._stream.append(items)
        except OSError as error:
            raise SinkUnavailable(str(error)) from error

    def close(self, timeout_s: float) -> None:
        """Close the connection."""
        self._stream.close()

    def stats(self) -> dict[str, int]:
        """Count what happened: ``repeated``, messages that came again."""
        return {"repeated": self._repeated}
