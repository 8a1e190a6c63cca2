"""A port with keys: libzmq's, where only who has a key that is allowed can say anything."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, Final, final

from eliot_etw._require import require
from eliot_etw.collector._keys import ZAP, AllowedKeys, zap_reply
from eliot_etw.collector.inputs._ports import Received

# So many frames of one connection may wait to be read: a flood waits in its sender's memory.
_FRAMES_AHEAD: Final = 16
# So many frames are given at a time.
_FRAMES_AT_ONCE: Final = 64
# Who has no key may hold a connection, and what it sends meanwhile, for so long.
_HANDSHAKE_MS: Final = 3_000
# So many connections may be there on which nothing was said yet that has a key: each may have the
# beginning of a frame.
# On Windows, libzmq ends the process if one of its connections is ended from outside: there,
# only time bounds them.
_MOST_STRANGERS: Final = 1 << 30 if sys.platform == "win32" else 64
# Those that have just come may be more: after a restart all senders come at once, and each needs
# a while to show its key and to say something.
_MOST_YOUNG: Final = 1_000
_YOUNG_S: Final = 1.0
# So many are told at a time whether they may come in.
_ANSWERS_AT_ONCE: Final = 64
# An event of libzmq's monitor: which it is, and the file that it is about.
_EVENT: Final = struct.Struct("=HI")


@final
class CurvePort:
    """Listens with keys.

    Args:
        endpoint: Where to listen: ``tcp://0.0.0.0:5515``, ``ipc:///run/eliot-etw.sock``.
        wakened: Wakes whoever waits, when there is something to read from it.
        most_bytes: What a frame may have.
        keys: Who may connect.
        own_keys: The collector's public and secret key.
        denied: Is called for each who may not.
        hung_up: Is called for each connection that was ended from here, with the reason.

    Raises:
        OSError: If it is not possible to listen there.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        wakened: socket.socket,
        most_bytes: int,
        keys: AllowedKeys,
        own_keys: tuple[bytes, bytes],
        denied: Callable[[], object],
        hung_up: Callable[[str], object],
    ) -> None:
        self._zmq: Any = require("zmq", feature="ZmqInput", extra="collector")
        self._wakened = wakened
        self._keys = keys
        self._denied = denied
        self._hung_up = hung_up
        # The files of connections on which nothing was said yet, and when they came; the oldest
        # first.
        self._strangers: dict[int, float] = {}
        zmq = self._zmq
        self._context = zmq.Context()
        self._context.linger = 0
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind(ZAP)
        self._router = self._context.socket(zmq.ROUTER)
        self._set_up(most_bytes, own_keys)
        self._monitor = self._router.get_monitor_socket(
            zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
        )
        self._router.ipv6 = "[" in endpoint
        try:
            self._router.bind(endpoint)
        except zmq.ZMQError as error:
            self.close(0)
            raise OSError(error.errno, f"cannot listen at {endpoint}: {error}") from error
        self.endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._zap, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(wakened.fileno(), zmq.POLLIN)

    def _set_up(self, most_bytes: int, own_keys: tuple[bytes, bytes]) -> None:
        """Bound what a stranger can make us hold, and ask for keys."""
        zmq, router = self._zmq, self._router
        router.setsockopt(zmq.MAXMSGSIZE, most_bytes)
        router.setsockopt(zmq.RCVHWM, _FRAMES_AHEAD)
        # Acknowledgements for who does not read them are dropped: the next says it all again.
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        # No heartbeats of ZeroMQ: libzmq 4.3.5 aborts the whole process if one is due on a
        # connection that was closed while it held frames back. Our senders have their own.
        router.setsockopt(zmq.TCP_KEEPALIVE, 1)
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = own_keys
        router.zap_domain = b"eliot_etw"

    def receive(self, timeout_s: float) -> Iterator[Received]:
        """See `Port`."""
        ready = dict(self._poller.poll(timeout_s * 1000))
        if self._wakened.fileno() in ready:
            with suppress(OSError):
                self._wakened.recv(4096)
        if self._zap in ready:
            self._answer_who_may()
        self._count_strangers()
        if self._router in ready:
            with suppress(self._zmq.Again):
                for _ in range(_FRAMES_AT_ONCE):
                    frames = self._router.recv_multipart(self._zmq.NOBLOCK, copy=False)
                    self._strangers.pop(frames[-1].get(self._zmq.SRCFD), None)
                    yield _received(frames)

    def _count_strangers(self) -> None:
        """Take note of who came and went; hang up on the oldest strangers, if there are many."""
        with suppress(self._zmq.Again):
            while True:
                kind, file = _EVENT.unpack(self._monitor.recv_multipart(self._zmq.NOBLOCK)[0])
                self._strangers.pop(file, None)
                if kind == self._zmq.EVENT_ACCEPTED:
                    self._strangers[file] = monotonic()
        while len(self._strangers) > _MOST_STRANGERS:
            file, since = next(iter(self._strangers.items()))
            if len(self._strangers) <= _MOST_YOUNG and monotonic() < since + _YOUNG_S:
                break
            del self._strangers[file]
            if _shut(file, self.endpoint):
                self._hung_up("Too many connections have shown no key.")

    def _answer_who_may(self) -> None:
        """Say whether a connection may be made."""
        self._keys.refresh()
        with suppress(self._zmq.Again):
            for _ in range(_ANSWERS_AT_ONCE):
                reply = zap_reply(self._zap.recv_multipart(self._zmq.NOBLOCK), self._keys)
                if reply[2] != b"200":
                    self._denied()
                self._zap.send_multipart(reply)

    def send(self, route: bytes, frame: bytes) -> bool:
        """See `Port`."""
        try:
            self._router.send_multipart([route, frame], self._zmq.NOBLOCK)
        except self._zmq.ZMQError:
            return False
        return True

    def look_around(self, now_s: float) -> None:
        """See `Port`. libzmq does all that is to be done."""

    def close(self, linger_s: float) -> None:
        """See `Port`."""
        self._router.disable_monitor()
        self._monitor.close(linger=0)
        self._router.close(linger=int(linger_s * 1000))
        self._zap.close(linger=0)
        self._context.term()


def _shut(file: int, endpoint: str) -> bool:
    """Have libzmq find the end of a connection of its own; say whether it was one.

    It may be closed already, and the number be that of another file.
    """
    connection = None
    try:
        connection = socket.socket(fileno=file)
        name = connection.getsockname()
        if connection.family == socket.AF_UNIX:  # one that begins with NUL is of no file system
            its = f"ipc://{os.fsdecode(name).replace(chr(0), '@')}"
        else:
            its = f"tcp://{name[0]}:{name[1]}"
        if its.rpartition(":")[2] != endpoint.rpartition(":")[2]:
            return False
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return False
    finally:
        if connection is not None:
            connection.detach()
    return True


def _received(frames: list[Any]) -> Received:
    """Say what came; each connection has a key, or it would not be there."""
    route, *data = frames
    return Received(
        route.bytes,
        data[0].bytes if len(data) == 1 else None,
        str(frames[-1].get("User-Id")),
        is_from_here=False,
    )
