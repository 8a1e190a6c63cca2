"""Messages straight into a stream of Redis: added by a thread, each once."""

from __future__ import annotations

from typing import final

from eliot_etw.destinations._engine import Engine, EngineDestination
from eliot_etw.destinations._queued import WhenFull
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S
from eliot_etw.json import json_default
from eliot_etw.shipping._redis_stream import DEFAULT_STREAM, DEFAULT_URL, RedisStream
from eliot_etw.typing import JsonDefault


@final
class RedisDestination(EngineDestination):
    """Adds messages to a stream of Redis, without a collector between.

    The thread that logs makes the line and queues it; another thread adds lines by the batch, with
    numbers, so that what is sent again after a doubt is there once. What Redis has acknowledged is
    as safe as its own settings say: with ``appendfsync always`` it is on its disk.

    While Redis is away, up to `max_queued` messages wait, and some that were taken. Then the
    thread that logs waits, never longer than `block_timeout_s`, and then the message is dropped,
    as are those after it, without waiting, until there is room again. Or nobody waits: then the
    new message is dropped, or the oldest. Whatever is dropped is counted, and the log is told in a
    message ``eliot:dropped``.

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
        max_messages: int | None = None,
        timeout_s: float = 5.0,
        max_queued: int = 10_000,
        when_full: WhenFull = "block",
        block_timeout_s: float = 1.0,
        exit_timeout_s: float = CLOSE_TIMEOUT_S,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Check the settings; the first message starts the thread, which connects.

        Args:
            url: Where Redis is, as ``redis://user:password@host:port/database``; ``rediss://``
                with TLS.
            stream: The name of the stream.
            max_messages: How many messages the stream keeps, or some more; all if left out.
            timeout_s: How long Redis may take for an answer.
            max_queued: How many messages may wait.
            when_full: What happens to a message when there is no room: ``"block"`` waits for some,
                ``"drop_new"`` drops it, ``"drop_old"`` drops the one that waits longest.
            block_timeout_s: How long ``"block"`` waits at most.
            exit_timeout_s: How long the end of the program may take.
            json_default: Converts values that JSON does not know. If it raises, the value's
                `repr` is written.

        Raises:
            MissingDependency: If redis is not installed.
            ValueError: If a setting is wrong.
        """
        self._settings = (url, stream, timeout_s, max_messages)
        super().__init__(max_queued, when_full, block_timeout_s, exit_timeout_s, json_default)

    def _open(self) -> Engine:
        url, stream, timeout_s, max_messages = self._settings
        return RedisStream(
            url, stream, timeout_s=timeout_s, feature="RedisDestination", max_messages=max_messages
        )
