"""The socket of systemd-journald: entries sent to it natively, and what to do when it refuses."""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any, Final, NoReturn, final

from eliot_etw._counter import Counter

SOCKET_PATH: Final = "/run/systemd/journal/socket"
MAX_WAIT_S: Final = 0.1
_LEAST_WAIT_S: Final = 0.001
_TRY_AGAIN_S: Final = 0.005

_NAMESPACE_PATH: Final = "/run/systemd/journal.{}/socket"
# As much as systemd's own library asks for, so that a burst finds room; the system may give less.
_SEND_BUFFER_BYTES: Final = 8 << 20
# Nobody listens any more, or not yet again.
_GONE: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE})
# A daemon closes all files that it has inherited, and may open others under their numbers.
_NOT_OURS: Final = frozenset({errno.EBADF, errno.ENOTSOCK})
_TOO_LARGE: Final = frozenset({errno.EMSGSIZE, errno.ENOBUFS})


def path_of(socket_path: str | os.PathLike[str] | None, namespace: str | None) -> str:
    """Choose the path of the journal's socket.

    Raises:
        ValueError: If both a path and a namespace are given.
    """
    if socket_path is None:
        return _NAMESPACE_PATH.format(namespace) if namespace else SOCKET_PATH
    if namespace:
        msg = (
            "socket_path and namespace must not both be given, got "
            f"{socket_path!r} and {namespace!r}. Leave one of them out."
        )
        raise ValueError(msg)
    return os.fspath(socket_path)


@final
class JournalSocket:
    """A connection to a journal, which all threads and forked processes may use at once.

    There is no lock: the system takes each entry in one step, and notes itself who sent it. It is
    connected, because to look up the path for each entry takes 1.7 µs, and all the rest 2.5.

    A call waits for room no longer than the user said. Once that was in vain, none waits until the
    journal takes an entry again, so that a program whose journal hangs goes on at its usual speed.

    Attributes:
        path: Where the journal listens.
        send_now: Sends an entry, or raises `OSError`, which is to be given to `send_again`.
        failed: Counts the entries that were lost.
        full: Counts those of them that the journal had no room for.

    Source:
        https://systemd.io/JOURNAL_NATIVE_PROTOCOL/; unix(7); memfd_create(2).
    """

    def __init__(self, path: str, max_wait_s: float) -> None:
        """Connect to the journal.

        Raises:
            OSError: If this is not Linux, or no journal listens there.
            ValueError: If `max_wait_s` is less than a thousandth, or infinite.
        """
        if not _LEAST_WAIT_S <= max_wait_s < inf:
            msg = f"max_wait_s must be {_LEAST_WAIT_S} or more, got {max_wait_s!r}. Try 0.1."
            raise ValueError(msg)
        self.path = path
        self.failed, self.full = Counter(), Counter()
        self._max_wait_s = max_wait_s
        self._is_closed = False
        self._socket = _open()
        self.send_now: Callable[[bytes], object] = self._socket.send
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            msg = (
                f"no journal listens at {path}: {error.strerror or error}. Start "
                "systemd-journald, mount its socket into the container, or use FileDestination."
            )
            raise type(error)(error.errno, msg) from error

    def send(self, entry: bytes) -> None:
        """Send an entry. Raises OSError if it is lost."""
        try:
            self.send_now(entry)
        except OSError as error:
            self.send_again(entry, error)

    def send_again(self, entry: bytes, error: OSError) -> None:
        """Send an entry that was refused: connect anew, or send it as a file.

        Args:
            entry: The entry.
            error: What `send_now` raised.

        Raises:
            OSError: If it is lost.
        """
        try:
            if error.errno in _TOO_LARGE:
                with _sealed(entry) as file:
                    self._send_file(file)
            else:
                self._overcome(error, lambda: self.send_now(entry))
        except BaseException:  # also what a signal's handler raises while this waits
            self.failed.add()
            raise

    def close(self) -> None:
        """Close the connection. May be called twice; what is sent later is lost, and counted."""
        self._is_closed = True
        self.send_now = _refuse
        self._socket.close()

    def _send_file(self, file: int) -> None:
        """Send an entry that is a file's content. Raises OSError if it is lost."""

        def send() -> None:
            socket.send_fds(self._socket, [b""], [file])  # type: ignore[attr-defined,unused-ignore] # not on Windows

        try:
            send()
        except OSError as error:
            self._overcome(error, send)

    def _overcome(self, error: OSError, send: Callable[[], object]) -> None:
        """Do what may let the next try succeed, and try.

        Args:
            error: What the last try raised.
            send: Tries.

        Raises:
            OSError: If there is nothing to be done, or nothing that helps.
        """
        deadline = monotonic() + self._max_wait_s
        is_connected_anew = False
        while True:
            if error.errno == errno.EAGAIN:
                self._wait_for_room(deadline)
            elif is_connected_anew:
                raise error
            else:
                self._connect_anew(error)
                is_connected_anew = True
            try:
                send()
            except OSError as again:
                error = again
            else:
                return

    def _wait_for_room(self, deadline: float) -> None:
        """Wait for a moment, until there may be room. Raises OSError if it is enough."""
        left_s = deadline - monotonic()
        fd = self._socket.fileno()
        if left_s <= 0 or fd < 0 or self.send_now == self._probe:
            self._give_up()
        # Not by a socket that waits itself: a signal that comes again and again, as a profiler's
        # does, would have it wait anew each time.
        room = select.poll()  # type: ignore[attr-defined,unused-ignore] # not on Windows
        room.register(fd, select.POLLOUT)  # type: ignore[attr-defined,unused-ignore] # likewise
        # To be tried again now and then all the same: long before the system says that there is
        # room, which is when the journal has read nearly all of it, there is some.
        room.poll(min(left_s, _TRY_AGAIN_S) * 1000)

    def _connect_anew(self, error: OSError) -> None:
        """Find the journal again. Raises OSError if that is not what is wrong, or it is gone."""
        if self._is_closed:
            raise error
        if error.errno in _NOT_OURS:
            self._replace()
        elif error.errno in _GONE:
            self._socket.connect(self.path)
        else:
            raise error

    def _give_up(self) -> NoReturn:
        """Let nothing wait until the journal takes an entry again. Raises OSError."""
        self.full.add()
        self._send_by(self._probe)
        msg = f"the journal at {self.path} is full: it took nothing for {self._max_wait_s} s"
        raise BlockingIOError(errno.EAGAIN, msg)

    def _probe(self, entry: bytes) -> None:
        """Send an entry; if the journal takes it, go back to the usual way, and to waiting."""
        self._socket.send(entry)
        self._send_by(self._socket.send)

    def _replace(self) -> None:
        """Open a new socket in place of one that others closed, whose number is not ours now."""
        broken, self._socket = self._socket, _open()
        broken.detach()
        self._socket.connect(self.path)
        self._send_by(self._socket.send)

    def _send_by(self, send: Callable[[bytes], object]) -> None:
        """Choose how to send, unless it is over."""
        if not self._is_closed:
            self.send_now = send


class _Socket(socket.socket):
    """A socket that is closed without a warning, if nobody closed the destination."""

    def __del__(self) -> None:
        self.close()


def _open() -> socket.socket:
    """Open a socket that never waits. Raises OSError elsewhere than on Linux."""
    if sys.platform != "linux":
        msg = (
            f"journald needs Linux, this is {sys.platform}. Use FileDestination here"
            f"{', or EtwDestination' if sys.platform == 'win32' else ''}."
        )
        raise OSError(msg)
    opened = _Socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.setblocking(False)  # whatever the program's default is
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return opened


@contextmanager
def _sealed(entry: bytes) -> Iterator[int]:
    """Write an entry to a file that nobody can change any more, as the journal wants it."""
    import fcntl as files  # noqa: PLC0415 - Windows has none

    # For type checkers elsewhere, which know none of this.
    system: Any = os
    fcntl: Any = files
    file = system.memfd_create("eliot_etw", system.MFD_CLOEXEC | system.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(entry)
        while rest:
            rest = rest[os.write(file, rest) :]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        yield file
    finally:
        os.close(file)


def _refuse(_entry: bytes) -> None:
    """Stand in the place of a socket that is closed."""
    raise OSError(errno.EBADF, "The destination is closed. Make a new JournaldDestination.")
