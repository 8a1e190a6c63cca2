"""Messages to whoever listens just now, over ZeroMQ; kept for nobody."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, final

from eliot_etw._require import require
from eliot_etw.collector._keys import ZAP, AllowedKeys, check_listener, own_keys, zap_reply
from eliot_etw.collector.sinks import Batch, BlockingSink

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5517"

_MOST_WAITING: Final = 10_000
_POLL_MS: Final = 100


@final
class ZmqPubSink(BlockingSink):
    """Publishes each message to those who have subscribed to its type.

    A message is two frames: its type, and its line. Who subscribes to ``app:`` gets all whose type
    begins so. Nothing is kept: who is not there misses it, and who reads too slowly misses what
    there is no room for. So it never holds anything up, and a message that it has taken counts as
    stored.

    Args:
        endpoint: Where to listen; a port ``*`` is any that is free.
        keys: The folder with the public keys of those who may listen, ``NAME.key``. It is read
            again when it changes.
        secret_key: The collector's own keys: the file ``NAME.key_secret``.
        allow_unencrypted: Whether to listen without keys where other machines may reach it.
        max_waiting: How many messages may wait for each who listens.

    Raises:
        MissingDependency: If pyzmq is not installed.
        OSError: If the keys cannot be read, or it cannot listen there.
        ValueError: If there must be keys, or a setting is wrong.

    Attributes:
        endpoint: Where it listens, with the port.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        keys: str | None = None,
        secret_key: str | None = None,
        allow_unencrypted: bool = False,
        max_waiting: int = _MOST_WAITING,
    ) -> None:
        zmq: Any = require("zmq", feature="The sink zmq_pub", extra="collector")
        check_listener(endpoint, keys, secret_key, allow_unencrypted)
        if max_waiting < 1:
            msg = f"max_waiting must be at least 1, got {max_waiting!r}. Try {_MOST_WAITING}."
            raise ValueError(msg)
        allowed = AllowedKeys(Path(keys).expanduser()) if keys else None
        own = own_keys(secret_key) if secret_key else None
        self._counts = {"published": 0, "denied": 0}
        self._stopping = Event()
        self._gatekeeper: Thread | None = None
        self._context: Any = zmq.Context()
        self._context.linger = 0
        try:
            if allowed is not None:
                asked = self._context.socket(zmq.REP)
                asked.bind(ZAP)
                self._gatekeeper = Thread(
                    target=self._keep_gate,
                    args=(asked, allowed),
                    name="eliot_etw keys",
                    daemon=True,
                )
                self._gatekeeper.start()
            self._socket: Any = self._context.socket(zmq.PUB)
            self._socket.setsockopt(zmq.SNDHWM, max_waiting)
            self._socket.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
            # Nobody has more to say than what to subscribe to.
            self._socket.setsockopt(zmq.MAXMSGSIZE, 1 << 10)
            if own is not None:
                self._socket.curve_server = True
                self._socket.curve_publickey, self._socket.curve_secretkey = own
                self._socket.zap_domain = b"eliot_etw"
            self._socket.ipv6 = "[" in endpoint
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._let_go()
            raise OSError(error.errno, f"cannot listen at {endpoint}: {error}") from error
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _keep_gate(self, asked: Any, allowed: AllowedKeys) -> None:
        """Say who may listen, until the end."""
        while not self._stopping.is_set():
            if asked.poll(_POLL_MS):
                allowed.refresh()
                reply = zap_reply(asked.recv_multipart(), allowed)
                self._counts["denied"] += reply[2] != b"200"
                asked.send_multipart(reply)
        asked.close()

    def store(self, batch: Batch) -> None:
        """Give messages to whoever listens; never waits."""
        send = self._socket.send_multipart
        for line, head in zip(batch.lines, batch.heads, strict=True):
            send((head.type.encode("utf-8", "replace"), line))
        self._counts["published"] += len(batch)

    def close(self, timeout_s: float) -> None:
        """Send what is on its way, and let go of the port."""
        if not self._socket.closed:
            self._socket.close(linger=int(timeout_s * 1000))
            self._let_go()

    def _let_go(self) -> None:
        self._stopping.set()
        if self._gatekeeper is not None:
            self._gatekeeper.join()
        self._context.destroy()

    def stats(self) -> dict[str, int]:
        """Count what happened: ``published``; ``denied``, connections with a wrong key."""
        return self._counts.copy()
