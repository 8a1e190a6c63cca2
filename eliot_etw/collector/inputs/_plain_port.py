"""A port without keys, where anybody on this machine may say anything: all it holds is bounded."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from time import monotonic
from typing import Any, Final, final

from eliot_etw.collector.inputs._ports import Received
from eliot_etw.collector.inputs._zmtp import BEGINNING, Peer, framed
from eliot_etw.exceptions import ProtocolError

# What is read from one connection before it is the others' turn: much of who sends large frames.
_READ_BYTES: Final = 16 << 10
_MOST_READ_BYTES: Final = 1 << 20
_FEW_FRAMES: Final = 64
# What may wait for who does not read, besides one answer of any size.
_UNREAD_BYTES: Final = 64 << 10
# Who says nothing for so long is hung up on. Senders that live say something more often.
_SILENT_S: Final = 60.0
# What Python waits for at once on Windows.
_MOST_FILES: Final = 500 if sys.platform == "win32" else 1 << 20
_ACCEPTS_AT_ONCE: Final = 64
_BACKLOG: Final = 1024
# There is no room for one more file.
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@final
class _Connection:
    """Somebody at the other end."""

    __slots__ = ("heard_at", "held_bytes", "is_from_here", "peer", "read_bytes", "route", "sock",
                 "unsent", "waits_to_write")  # fmt: skip

    def __init__(
        self, sock: socket.socket, route: bytes, peer: Peer, is_from_here: bool, now_s: float
    ) -> None:
        self.sock = sock
        self.route = route
        self.peer = peer
        self.is_from_here = is_from_here
        self.heard_at = now_s
        self.unsent = bytearray(BEGINNING)
        self.read_bytes = _READ_BYTES
        self.held_bytes = 0
        self.waits_to_write = False


@final
class PlainPort:
    """Listens without keys.

    Of each connection it holds one unfinished frame, and some answers that were not read; of all
    together no more than it may: then it hangs up on who has kept it waiting longest. If there
    are too many connections, it hangs up on who has not said who it is for longest.

    Args:
        endpoint: Where to listen: ``tcp://127.0.0.1:5515``, ``ipc:///run/eliot-etw.sock``.
        wakened: Wakes whoever waits, when there is something to read from it.
        most_bytes: What a frame may have.
        memory_bytes: What is held of all connections together.
        most_connections: How many there may be.
        is_known: Says of the route of a connection whether it has said who it is.
        ended: Is told of the routes of connections that are no more.
        hung_up: Is called for each connection that was ended from here, with the reason.

    Attributes:
        endpoint: Where it listens.
        held_bytes: What is held of all connections.

    Raises:
        OSError: If it is not possible to listen there.
    """

    def __init__(  # noqa: PLR0913 - who makes it names them all
        self,
        endpoint: str,
        *,
        wakened: socket.socket,
        most_bytes: int,
        memory_bytes: int,
        most_connections: int,
        is_known: Callable[[bytes], bool],
        ended: Callable[[bytes], object],
        hung_up: Callable[[str], object],
    ) -> None:
        self._listener, self.endpoint = listen(endpoint)
        self._wakened = wakened
        self._most_bytes = most_bytes
        self._memory_bytes = memory_bytes
        self._most_connections = min(most_connections, _MOST_FILES)
        self._is_known = is_known
        self._ended = ended
        self._hung_up = hung_up
        self._numbers = count(1)
        # Who was silent longest comes first; and who began longest ago what is not finished.
        self._connections: OrderedDict[bytes, _Connection] = OrderedDict()
        self._unfinished: OrderedDict[bytes, None] = OrderedDict()
        self.held_bytes = 0
        self._to_write: dict[bytes, _Connection] = {}
        self._buffer = memoryview(bytearray(_MOST_READ_BYTES))
        self._is_accepting = True
        self._selector = DefaultSelector()
        self._selector.register(self._listener, EVENT_READ)
        self._selector.register(wakened, EVENT_READ)

    def receive(self, timeout_s: float) -> Iterator[Received]:
        """See `Port`."""
        self._write()
        for key, events in self._selector.select(timeout_s):
            if isinstance(key.data, _Connection):
                # It may have been hung up on meanwhile.
                if events & EVENT_WRITE and key.data.route in self._connections:
                    self._to_write[key.data.route] = key.data
                if events & EVENT_READ and key.data.route in self._connections:
                    yield from self._read(key.data)
                    self._write()
            elif key.fileobj is self._wakened:
                with suppress(OSError):
                    self._wakened.recv(4096)
            else:
                self._accept()

    def send(self, route: bytes, frame: bytes) -> bool:
        """See `Port`."""
        connection = self._connections.get(route)
        if connection is not None and len(connection.unsent) + len(frame) > _UNREAD_BYTES:
            self._write_to(connection)
            connection = None if connection.unsent else self._connections.get(route)
        if connection is None:
            return False
        connection.unsent += framed(frame)
        self._to_write[route] = connection
        self._weigh(connection)
        return True

    def look_around(self, now_s: float) -> None:
        """See `Port`."""
        while self._connections:
            connection = next(iter(self._connections.values()))
            if now_s - connection.heard_at < _SILENT_S:
                break
            self._hang_up(connection, "It said nothing for long.")
        if not self._is_accepting:
            self._is_accepting = True
            self._selector.register(self._listener, EVENT_READ)

    def close(self, linger_s: float) -> None:
        """See `Port`."""
        if self._is_accepting:
            self._selector.unregister(self._listener)
        self._listener.close()
        path = self.endpoint.removeprefix("ipc://")
        if path != self.endpoint and not path.startswith("@"):
            with suppress(OSError):
                os.unlink(path)
        until = monotonic() + linger_s
        self._write()
        while any(each.unsent for each in self._connections.values()) and monotonic() < until:
            for key, _ in self._selector.select(0.05):
                if isinstance(key.data, _Connection):
                    self._to_write[key.data.route] = key.data
            self._write()
        for connection in list(self._connections.values()):
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
            self._end(connection)
        self._selector.close()

    # ---- connections ---------------------------------------------------------------------------

    def _accept(self) -> None:
        """Let in who is at the door."""
        for number in range(_ACCEPTS_AT_ONCE):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    continue  # who was there is gone
                # After the first, perhaps nobody is there: Linux looks for a file before.
                if not number and not self._make_room("There are too many files."):
                    # Else it would be asked again and again.
                    self._is_accepting = False
                    self._selector.unregister(self._listener)
                return
            has_room = len(self._connections) < self._most_connections
            if not has_room and not self._make_room("There are too many connections."):
                sock.close()
                self._hung_up("All connections are taken.")
                continue
            self._begin(sock, address)

    def _begin(self, sock: socket.socket, address: Any) -> None:
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            with suppress(OSError):  # it may be gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        route = next(self._numbers).to_bytes(8, "big")
        connection = self._connections[route] = _Connection(
            sock, route, Peer(self._most_bytes), _is_from_here(sock, address), monotonic()
        )
        self._selector.register(sock, EVENT_READ, connection)
        self._to_write[route] = connection

    def _make_room(self, why: str) -> bool:
        """Hang up on who has not said who it is for longest; say whether there was anybody."""
        for connection in self._connections.values():
            if not self._is_known(connection.route):
                self._hang_up(connection, why)
                return True
        return False

    def _hang_up(self, connection: _Connection, why: str) -> None:
        self._end(connection)
        self._hung_up(why)

    def _end(self, connection: _Connection) -> None:
        """Forget a connection."""
        route = connection.route
        del self._connections[route]
        self._to_write.pop(route, None)
        self._unfinished.pop(route, None)
        self.held_bytes -= connection.held_bytes
        self._selector.unregister(connection.sock)
        connection.sock.close()
        self._ended(route)

    # ---- bytes ---------------------------------------------------------------------------------

    def _read(self, connection: _Connection) -> Iterator[Received]:
        """Read once, and give what is whole then."""
        route, peer = connection.route, connection.peer
        most_bytes = max(connection.read_bytes, peer.missing_bytes)
        try:
            size = connection.sock.recv_into(self._buffer[:most_bytes])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if not size:
            self._end(connection)
            return
        connection.heard_at = monotonic()
        self._connections.move_to_end(route)
        frames = 0
        try:
            for data in peer.receive(self._buffer[:size]):
                frames += 1
                yield Received(route, data, "", connection.is_from_here)
        except ProtocolError as error:
            if route in self._connections:
                self._hang_up(connection, str(error))
        if route not in self._connections:
            return
        connection.read_bytes = _MOST_READ_BYTES if frames < _FEW_FRAMES else _READ_BYTES
        if frames:  # what is unfinished now began just now
            self._unfinished.pop(route, None)
        self._weigh(connection)

    def _weigh(self, connection: _Connection) -> None:
        """Hold what a connection makes us hold against what may be."""
        held_bytes = connection.peer.held_bytes + len(connection.unsent)
        self.held_bytes += held_bytes - connection.held_bytes
        connection.held_bytes = held_bytes
        if held_bytes:
            self._unfinished.setdefault(connection.route)
        else:
            self._unfinished.pop(connection.route, None)
        while self.held_bytes > self._memory_bytes:
            longest = self._connections[next(iter(self._unfinished))]
            self._hang_up(longest, "Too much is unfinished, and it has kept us waiting longest.")

    def _write(self) -> None:
        """Write what may be written without waiting."""
        while self._to_write:
            self._write_to(self._to_write.popitem()[1])

    def _write_to(self, connection: _Connection) -> None:
        try:
            del connection.unsent[: connection.sock.send(connection.unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # Nobody reads it any more. What was said before may still be there to be read.
            connection.unsent.clear()
        self._weigh(connection)
        is_open = connection.route in self._connections
        if is_open and bool(connection.unsent) != connection.waits_to_write:
            connection.waits_to_write = not connection.waits_to_write
            events = EVENT_READ | (EVENT_WRITE if connection.waits_to_write else 0)
            self._selector.modify(connection.sock, events, connection)


def _is_from_here(sock: socket.socket, address: Any) -> bool:
    """Say whether who connected is on this machine."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        return True
    host = str(address[0]).removeprefix("::ffff:")
    return host == "::1" or host.startswith("127.")


def listen(endpoint: str) -> tuple[socket.socket, str]:
    """Listen at an address of ZeroMQ.

    Args:
        endpoint: ``tcp://HOST:PORT``, where each may be ``*``, or ``ipc://PATH``.

    Returns:
        What listens, and where: with the port, where any was wanted.

    Raises:
        OSError: If that is not possible.
    """
    kind, _, address = endpoint.partition("://")
    try:
        if kind == "ipc":
            return _listen_ipc(address), endpoint
        if kind == "tcp":
            return _listen_tcp(address)
    except (OSError, ValueError, OverflowError) as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        raise OSError(number, f"cannot listen at {endpoint}: {error}") from error
    msg = f"cannot listen at {endpoint}: it must begin with tcp:// or ipc://."
    raise OSError(errno.EPROTONOSUPPORT, msg)


def _listen_tcp(address: str) -> tuple[socket.socket, str]:
    host, _, port = address.rpartition(":")
    is_6 = host.startswith("[")
    listener = socket.socket(socket.AF_INET6 if is_6 else socket.AF_INET)
    try:
        # Else nobody could listen for a minute after a restart; on Windows, it means that others
        # may listen too.
        option = "SO_EXCLUSIVEADDRUSE" if sys.platform == "win32" else "SO_REUSEADDR"
        listener.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        listener.bind(("" if host == "*" else host.strip("[]"), 0 if port == "*" else int(port)))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    host = "0.0.0.0" if host == "*" else host  # noqa: S104 - as it was told to
    return listener, f"tcp://{host}:{listener.getsockname()[1]}"


def _listen_ipc(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EPROTONOSUPPORT, "this system, or its Python, has no such addresses")
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.startswith("@"):
            path = "\0" + path[1:]
        else:
            _remove_left(path)
        listener.bind(path)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_left(path: str) -> None:
    """Remove the socket of who listened here and is gone."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is something else of that name")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
