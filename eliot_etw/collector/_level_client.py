"""Talks to a collector about levels: one question, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from eliot_etw._require import require
from eliot_etw.collector import _control as control
from eliot_etw.destinations._zmq_link import address_of


@final
class LevelClient:
    """Who changes levels.

    Args:
        endpoint: Where the collector listens.
        server_key: The file with the collector's public key, if there are keys.
        secret_key: The file with our own keys, if there are keys.
        timeout_s: How long to wait for an answer.

    Raises:
        ValueError: If only one of the keys is given, a key or the address is none.
        OSError: If a key cannot be read, or the address cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        server_key: str | None = None,
        secret_key: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        if (server_key is None) != (secret_key is None):
            raise ValueError("The keys of both sides must be given, or none. Give the other one.")
        self._zmq: Any = require("zmq", feature="Changing levels", extra="collector")
        server_file = Path(server_key) if server_key else None
        address = address_of(endpoint, server_file, secret_key, unencrypted=True)
        self._endpoint = endpoint
        self._timeout_ms = int(timeout_s * 1000)
        self._context = self._zmq.Context()
        self._socket = self._context.socket(self._zmq.DEALER)
        self._socket.linger = 0
        self._socket.ipv6 = True
        if address.server_key:
            self._socket.curve_serverkey = address.server_key
            self._socket.curve_publickey = address.public_key
            self._socket.curve_secretkey = address.secret_key
        try:
            self._socket.connect(endpoint)
        except self._zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"cannot connect to {endpoint}: {error}") from error

    def ask(self, request: control.Request) -> control.LevelReport:
        """Ask for something.

        Raises:
            OSError: If no answer comes.
            PermissionError: If that is not for us.
        """
        self._socket.send(control.encode(request))
        if not self._socket.poll(self._timeout_ms):
            msg = (
                f"no answer from {self._endpoint}. Is the collector there, and are the keys right?"
            )
            raise TimeoutError(msg)
        answer = control.decode(self._socket.recv())
        if isinstance(answer, control.LevelReport):
            return answer
        raise PermissionError(answer.reason if isinstance(answer, control.Denied) else "no report")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
        self._context.term()
