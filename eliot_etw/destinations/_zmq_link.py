"""A ZeroMQ socket to a collector: where it may connect to, with which keys, and its events."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeAlias, final

from eliot_etw._require import require
from eliot_etw.shipping._protocol import MAX_FRAME_BYTES

KeyOrFile: TypeAlias = "str | bytes | os.PathLike[str]"

LOOPBACK: Final = re.compile(r"127(?:\.\d{1,3}){3}|localhost|\[::1\]", re.ASCII)
"""What this machine is called in addresses that no other can reach."""

_TCP: Final = re.compile(
    r"tcp://(?:[^;/]+;)?(\[[0-9a-fA-F:.%\w]+\]|[^:/\[\]]+):(\d{1,5})", re.ASCII
)
# Systems differ in how long the name of a socket may be; this much all of them take.
_IPC: Final = re.compile(rb"ipc://.{1,100}")
# As ZeroMQ writes keys of 32 bytes.
_KEY_LENGTH: Final = 40
_MOST_PORT: Final = 65_535
_RECONNECT_MS: Final = 100
_MOST_RECONNECT_MS: Final = 1_000
_CONNECT_TIMEOUT_MS: Final = 5_000
# How long to wait for the last frame to be on its way.
_LINGER_MS: Final = 200

_numbers = count()

_UNKNOWN: Final = "the collector does not know our key"
_DIFFERENT: Final = "what listens there has other keys than we were told, or is no collector"


@final
@dataclass(frozen=True)
class Address:
    """Where a collector is, and with which keys to talk to it.

    Attributes:
        endpoint: The address, as ZeroMQ writes it.
        server_key: The collector's public key; empty if nothing is encrypted.
        public_key: Our own.
        secret_key: The other half of it.
    """

    endpoint: str
    server_key: bytes = b""
    public_key: bytes = b""
    secret_key: bytes = b""

    def __repr__(self) -> str:
        return f"Address({self.endpoint!r})"


def address_of(
    endpoint: str,
    server_key: KeyOrFile | None,
    keys: tuple[str | bytes, str | bytes] | str | os.PathLike[str] | None,
    *,
    unencrypted: bool,
) -> Address:
    """Check where to connect to, and with which keys.

    Args:
        endpoint: The collector's address.
        server_key: Its public key, or the file with it.
        keys: Our public and secret key, or the file with both.
        unencrypted: Whether other machines may be talked to without keys.

    Raises:
        ValueError: If the endpoint is none, is on another machine while there are no keys, or a
            key is none.
        OSError: If a file with a key cannot be read.
    """
    tcp = _TCP.fullmatch(endpoint)
    is_port = tcp is not None and 0 < int(tcp[2]) <= _MOST_PORT
    if not is_port and not _IPC.fullmatch(os.fsencode(endpoint)):
        msg = (
            "endpoint must look like 'tcp://host:port', or like 'ipc://path' with a path of at "
            f"most 100 bytes, got {endpoint!r}. Pass the address that the collector listens on."
        )
        raise ValueError(msg)
    if server_key is None:
        if keys is not None:
            msg = f"keys must come with a server_key, got none for {endpoint!r}. "
            raise ValueError(f"{msg}Pass the public key of the collector too.")
        if not unencrypted and tcp is not None and not LOOPBACK.fullmatch(tcp[1]):
            msg = (
                f"endpoint must be on this machine while there are no keys, got {endpoint!r}. "
                "Pass server_key and keys, which `eliot-etw keys new NAME` makes; or say "
                "unencrypted=True, and anybody on the way reads and forges what is logged."
            )
            raise ValueError(msg)
        return Address(endpoint)
    zmq = require("zmq", feature="ZmqDestination", extra="zmq")
    if not zmq.has("curve"):
        msg = "Keys need a libzmq with CURVE, this one has none. Install pyzmq from its wheels."
        raise ValueError(msg)
    if keys is None:
        # It is encrypted all the same; whether the collector talks to strangers is its affair.
        public, secret = zmq.curve_keypair()
    elif isinstance(keys, tuple):
        public, secret = (_checked(key, "Each of keys") for key in keys)
    else:
        public, secret = _keys_in(keys)
        if secret is None:
            msg = f"The file of keys must have the secret key too, got {os.fspath(keys)!r}, which"
            raise ValueError(f"{msg} has none. Pass the file whose name ends in '.key_secret'.")
    return Address(endpoint, _server_key(server_key), public, secret)


def _server_key(key: KeyOrFile) -> bytes:
    """Take the collector's key, or read its file."""
    if isinstance(key, os.PathLike):
        return _keys_in(key)[0]
    return _checked(key, "server_key")


def _checked(key: str | bytes, name: str) -> bytes:
    """Check a key, without ever showing it."""
    with suppress(Exception):  # whatever is no text either
        raw = key if isinstance(key, bytes) else key.encode()
        from zmq.utils import z85  # noqa: PLC0415 - it was asked for before

        if len(raw) == _KEY_LENGTH and len(z85.decode(raw)) == 32:
            return raw
    msg = f"{name} must be a key of ZeroMQ, 40 characters, got something else. "
    raise ValueError(f"{msg}Copy it from the file that `eliot-etw keys new NAME` made.")


def _keys_in(path: str | os.PathLike[str]) -> tuple[bytes, bytes | None]:
    """Read a file of keys, as ZeroMQ's tools write it."""
    from zmq.auth import load_certificate  # noqa: PLC0415 - it was asked for before

    with open(path, "rb"):  # whose error says more than that of pyzmq
        pass
    public, secret = load_certificate(path)
    return _checked(public, "The public key in a file"), (
        None if secret is None else _checked(secret, "The secret key in a file")
    )


@final
class Connected:
    """There is a connection."""


@final
class Disconnected:
    """There is none any more."""


@final
@dataclass(frozen=True)
class NotLetIn:
    """Somebody is there, and does not talk to us.

    Attributes:
        why: What is wrong.
        is_sure: Whether it must be that; else it may be a collector that just ends.
    """

    why: str
    is_sure: bool = True


Event: TypeAlias = Connected | Disconnected | NotLetIn


@final
class Link:
    """A socket that connects, and connects again, by itself; for one thread."""

    def __init__(self, address: Address) -> None:
        """Begin to connect.

        Args:
            address: Where to.

        Raises:
            zmq.ZMQError: If the system has no more files or threads.
        """
        self._zmq: Any = require("zmq", feature="ZmqDestination", extra="zmq")
        self._address = address
        self._context = self._zmq.Context(io_threads=1)
        try:
            self._open()
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def _open(self) -> None:
        zmq, address = self._zmq, self._address
        self._poller = zmq.Poller()
        self._socket = socket = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            # Nothing is put into a connection that is not there.
            (zmq.IMMEDIATE, 1),
            (zmq.IPV6, 1),
            (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
            (zmq.RECONNECT_IVL, _RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, _MOST_RECONNECT_MS),
            (zmq.CONNECT_TIMEOUT, _CONNECT_TIMEOUT_MS),
        ):
            socket.setsockopt(option, value)
        if address.server_key:
            socket.curve_serverkey = address.server_key
            socket.curve_publickey = address.public_key
            socket.curve_secretkey = address.secret_key
        self._events: dict[int, Event] = {
            zmq.EVENT_HANDSHAKE_SUCCEEDED: Connected(),
            zmq.EVENT_DISCONNECTED: Disconnected(),
            zmq.EVENT_HANDSHAKE_FAILED_AUTH: NotLetIn(_UNKNOWN),
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: NotLetIn(_DIFFERENT),
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: NotLetIn(_DIFFERENT, is_sure=False),
        }
        wanted = 0
        for event in self._events:
            wanted |= event
        # Under a name of its own: that of a socket that was just closed may still be taken.
        self._monitor = socket.get_monitor_socket(wanted, f"inproc://events-{next(_numbers)}")
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        socket.connect(address.endpoint)

    def events(self) -> Iterator[Event]:
        """Give what became of the connection since the last call."""
        for raw, *_ in self._received(self._monitor):
            event = self._events.get(int.from_bytes(raw[:2], sys.byteorder))
            if event is not None:
                yield event

    def frames(self) -> Iterator[bytes]:
        """Give the frames that came; an empty one in the place of what no collector sends."""
        for parts in self._received(self._socket):
            yield parts[0] if len(parts) == 1 else b""

    def _received(self, socket: Any) -> Iterator[list[bytes]]:
        while True:
            try:
                yield socket.recv_multipart(self._zmq.NOBLOCK)
            except self._zmq.Again:
                return

    def send(self, frame: bytes) -> bool:
        """Send a frame, if that can be done without waiting; say whether it was."""
        try:
            self._socket.send(frame, self._zmq.NOBLOCK)
        except self._zmq.Again:
            return False
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait until there is something to take, or for so long."""
        self._poller.poll(max(0, int(timeout_s * 1000)))

    def reconnect(self) -> None:
        """Give up a connection that says nothing, and connect anew."""
        self._close_socket(linger_ms=0)
        self._open()

    def close(self, last: bytes = b"") -> None:
        """Say a last word, if there is somebody to hear it, and end."""
        try:
            linger_ms = _LINGER_MS if last and self.send(last) else 0
            self._close_socket(linger_ms)
        finally:
            # Not term(), which waits for ever for a socket that was left open: for one that was
            # to be the next, and then the system had no files for all of it.
            self._context.destroy(linger=0)

    def _close_socket(self, linger_ms: int) -> None:
        if self._socket.closed:  # and there was no other to be had
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=linger_ms)
