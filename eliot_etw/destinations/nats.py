"""Messages straight into a stream of NATS JetStream: added by a thread, each once."""

from __future__ import annotations

from typing import final

from eliot_etw.destinations._engine import Engine, EngineDestination
from eliot_etw.destinations._queued import WhenFull
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S
from eliot_etw.json import json_default
from eliot_etw.shipping._nats_stream import (
    DEFAULT_STREAM,
    DEFAULT_URL,
    TIMEOUT_S,
    Access,
    NatsStream,
    NewStream,
)
from eliot_etw.typing import JsonDefault


@final
class NatsDestination(EngineDestination):
    """Adds messages to a stream of JetStream, without a collector between.

    The thread that logs makes the line and queues it; another thread adds lines by the batch, so
    many as one entry of the stream. Each batch is added only behind the last one, so that what is
    sent again after a doubt is there once. What the servers have acknowledged is on as many of
    them as the stream has replicas; they write it to disk as their own settings say.

    While no server can be reached, up to `max_queued` messages wait, and some that were taken.
    Then the thread that logs waits, never longer than `block_timeout_s`, and then the message is
    dropped, as are those after it, without waiting, until there is room again. Or nobody waits:
    then the new message is dropped, or the oldest. Whatever is dropped is counted, and the log is
    told in a message ``eliot:dropped``.

    At the end of the program, what waits is sent, within `exit_timeout_s`; what is not
    acknowledged by then is dropped, counted, and told on standard error. A process that is killed
    loses what was not acknowledged. A forked child is a sender of its own. No lock is taken in the
    call that logs, so that a signal handler may log too.
    """

    def __init__(  # noqa: PLR0913 - all are named but two, and most are left out
        self,
        url: str = DEFAULT_URL,
        stream: str = DEFAULT_STREAM,
        *,
        replicas: int = 1,
        keep_s: float | None = None,
        max_bytes: int | None = None,
        credentials: str | None = None,
        tls_ca: str | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        max_queued: int = 10_000,
        when_full: WhenFull = "block",
        block_timeout_s: float = 1.0,
        exit_timeout_s: float = CLOSE_TIMEOUT_S,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Check the settings; the first message starts the thread, which connects.

        Args:
            url: Where servers are, as ``nats://user:password@host:port``; with commas between.
            stream: The name of the stream. If it is not there, it is made, as the next three say.
            replicas: How many servers of a cluster have all of it.
            keep_s: How long it keeps messages; for ever if left out.
            max_bytes: How large it may become before the oldest go; unlimited if left out.
            credentials: The ``.creds`` file of a user.
            tls_ca: Who signs the servers' certificates, if the system does not know.
            tls_certificate: Our certificate.
            tls_key: Its key, if it is in a file of its own.
            timeout_s: How long a server may take for an answer.
            max_queued: How many messages may wait.
            when_full: What happens to a message when there is no room: ``"block"`` waits for some,
                ``"drop_new"`` drops it, ``"drop_old"`` drops the one that waits longest.
            block_timeout_s: How long ``"block"`` waits at most.
            exit_timeout_s: How long the end of the program may take.
            json_default: Converts values that JSON does not know. If it raises, the value's
                `repr` is written.

        Raises:
            MissingDependency: If nats-py is not installed.
            ValueError: If a setting is wrong.
            OSError: If a file cannot be used.
        """
        self._settings = (
            url,
            stream,
            timeout_s,
            Access(credentials, tls_ca, tls_certificate, tls_key),
            NewStream(replicas, keep_s, max_bytes),
        )
        super().__init__(max_queued, when_full, block_timeout_s, exit_timeout_s, json_default)

    def _open(self) -> Engine:
        url, stream, timeout_s, access, new = self._settings
        return NatsStream(
            url, stream, timeout_s=timeout_s, feature="NatsDestination", access=access, new=new
        )
