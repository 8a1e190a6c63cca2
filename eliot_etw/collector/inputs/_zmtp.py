"""ZMTP without keys: a collector's side of one connection, without its socket.

libzmq puts together what comes before anybody sees it: messages of any number of parts, and as
many half ones as there are connections. What is here holds one unfinished frame, and says how
large that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from eliot_etw.exceptions import ProtocolError

# https://rfc.zeromq.org/spec/23/: what a connection begins with, and the flags of a frame.
_GREETING_BYTES: Final = 64
_SIGNATURE_FIRST: Final = 0xFF
_SIGNATURE_LAST: Final = 0x7F
_MECHANISM: Final = b"NULL".ljust(20, b"\0")
_LEAST_MAJOR: Final = 3
_MORE: Final = 0x01
_LONG: Final = 0x02
_COMMAND: Final = 0x04
_MOST_SHORT: Final = 255
# What a command may have: that one that must come has some hundred bytes.
_MOST_COMMAND: Final = 1_024
# So many parts of a message that must have one are let pass.
_MOST_PARTS: Final = 1_000
_READY: Final = b"\x05READY"
_SOCKET_TYPE: Final = b"socket-type"


def _header(flags: int, size: int) -> bytes:
    if size > _MOST_SHORT:
        return bytes([flags | _LONG]) + size.to_bytes(8, "big")
    return bytes([flags, size])


def framed(data: bytes) -> bytes:
    """Write a message of one frame."""
    return _header(0, len(data)) + data


_READY_BODY: Final = _READY + b"\x0bSocket-Type\0\0\0\x06ROUTER"
BEGINNING: Final = (
    bytes([_SIGNATURE_FIRST, *bytes(8), _SIGNATURE_LAST, _LEAST_MAJOR, 0])
    + _MECHANISM
    + bytes(32)
    + _header(_COMMAND, len(_READY_BODY))
    + _READY_BODY
)
"""All that a collector says before the first message."""


@final
class Peer:
    """Makes frames of the bytes that come from the other side.

    Args:
        most_bytes: What a frame may have.

    Source:
        https://rfc.zeromq.org/spec/23/, ZMTP 3.0. It has no heartbeats of its own.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held = bytearray()
        # How many bytes there must be before the next piece is whole.
        self._needed = 0
        self._has_greeted = False
        self._is_ready = False
        # How many parts of an unfinished message came.
        self._parts = 0

    @property
    def held_bytes(self) -> int:
        """What is unfinished."""
        return len(self._held)

    @property
    def missing_bytes(self) -> int:
        """How many bytes would finish it, as far as is known."""
        return self._needed - len(self._held)

    def receive(self, data: memoryview) -> Iterator[memoryview | None]:
        """Take bytes, and give the messages that are whole now.

        Args:
            data: What came. It may change after that.

        Yields:
            Each message, valid until the next one is asked for; None in the place of one that has
            several parts. All must be taken.

        Raises:
            ProtocolError: If that is no ZMTP of a DEALER, or too large: the connection is to end.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = memoryview(self._held)
            self._held = bytearray()
            self._needed = 0
        while data:
            size = self._size_of(data)
            if size > len(data):
                self._needed = size
                self._held += data
                return
            piece, data = data[:size], data[size:]
            if not self._has_greeted:
                self._has_greeted = True
            elif piece[0] & _COMMAND:
                self._obey(_body(piece))
            elif not self._is_ready:
                raise ProtocolError("A connection must begin with the command READY.")
            elif piece[0] & _MORE or self._parts:
                if not self._parts:
                    yield None
                self._pass(piece)
            else:
                yield _body(piece)

    def _size_of(self, data: memoryview) -> int:
        """Say how many bytes the first piece has; that many are needed to know, if there are less.

        Raises:
            ProtocolError: If there can be no such piece.
        """  # fmt: skip
        if not self._has_greeted:
            _check_greeting(data)
            return _GREETING_BYTES
        flags = data[0]
        if flags & ~(_MORE | _LONG | _COMMAND) or (flags & _COMMAND and flags & _MORE):
            raise ProtocolError(f"A frame of ZMTP must not have the flags {flags:#x}.")
        head = 9 if flags & _LONG else 2
        if len(data) < head:
            return head
        size = int.from_bytes(data[1:head], "big")
        most_bytes = self._most_bytes
        if flags & _COMMAND:
            most_bytes = min(most_bytes, _MOST_COMMAND)
        if size > most_bytes:
            msg = f"A frame like that must have at most {most_bytes:,} bytes, got {size:,}."
            raise ProtocolError(msg)
        return head + size

    def _pass(self, part: memoryview) -> None:
        """Let a part of a message pass that has several; not for ever."""
        self._parts = self._parts + 1 if part[0] & _MORE else 0
        if self._parts > _MOST_PARTS:
            raise ProtocolError("A message must be one frame, and this one never ends.")

    def _obey(self, command: memoryview) -> None:
        """Take a command: READY of a DEALER, once, is the only one that may come."""
        if self._is_ready or bytes(command[: len(_READY)]) != _READY:
            raise ProtocolError(f"The only command must be READY, got {bytes(command[:8])!r}.")
        kind = _properties(bytes(command[len(_READY) :])).get(_SOCKET_TYPE)
        if kind != b"DEALER":
            raise ProtocolError(f"The other side must be a DEALER, got {kind!r}.")
        self._is_ready = True


def _body(frame: memoryview) -> memoryview:
    """Return what is in a frame."""
    return frame[9 if frame[0] & _LONG else 2 :]


def _check_greeting(data: memoryview) -> None:
    """Look at a greeting as soon as there is any of it: others may never say so much."""
    wanted = {0: _SIGNATURE_FIRST, 9: _SIGNATURE_LAST}
    for place, value in wanted.items():
        if len(data) > place and data[place] != value:
            msg = f"A connection must begin as ZMTP does, got {bytes(data[:8])!r}."
            raise ProtocolError(msg)
    if len(data) > 10 and data[10] < _LEAST_MAJOR:
        msg = f"ZMTP must be of version {_LEAST_MAJOR} or later, got {data[10]}."
        raise ProtocolError(msg)
    if len(data) >= 32 and data[12:32] != _MECHANISM:
        msg = f"There must be no keys, as this collector has none, got {bytes(data[12:32])!r}."
        raise ProtocolError(msg)


def _properties(data: bytes) -> dict[bytes, bytes]:
    """Read the properties of READY: names in lower case, to values."""
    found = {}
    while data:
        end = 1 + data[0]
        name, size = data[1:end], int.from_bytes(data[end : end + 4], "big")
        if len(data) < end + 4 + size:
            raise ProtocolError("The properties of READY must be whole.")
        found[name.lower()] = data[end + 4 : end + 4 + size]
        data = data[end + 4 + size :]
    return found
