"""One run of a sender: a spool, a socket, and the conversation between them; for one thread."""

from __future__ import annotations

from time import time_ns
from typing import Final, NamedTuple, final, get_args

from eliot_etw.destinations._zmq_link import Address, Connected, Event, Link, NotLetIn
from eliot_etw.shipping._level_rules import LevelRules
from eliot_etw.shipping._protocol import VERSION, Compression, Format, Hello
from eliot_etw.shipping._sender import Sender
from eliot_etw.shipping._spool import DiskSpool, MemorySpool, SpoolFull
from eliot_etw.shipping._spool_folders import SpoolFolders

# How long a collector that is not there is waited for at the end, if all is on disk.
_PATIENCE_S: Final = 1.0
# When to open the socket anew: after the collector did not let us in, which may change; and if
# there was no connection for so long, for the socket gives up what it takes for no collector.
_NOT_LET_IN_S: Final = 2.0
_NOBODY_S: Final = 10.0
# So many handshakes in a row that were broken off are no chance.
_SURE_AFTER: Final = 3
_LEAST_HEARTBEAT_S: Final = 0.1
_MOST_HEARTBEAT_S: Final = 3_600.0


_started_ns: Final = time_ns()


class Options(NamedTuple):
    """How to talk to a collector; see `ZmqDestination`."""

    address: Address
    format: Format
    compression: Compression
    heartbeat_s: float

    def check(self) -> None:
        """Raise ValueError if one of them is wrong."""
        for name, value, choices in (
            ("format", self.format, get_args(Format)),
            ("compression", self.compression, get_args(Compression)),
        ):
            if value not in choices:
                msg = f"{name} must be one of {choices}, got {value!r}. Choose one."
                raise ValueError(msg)
        if not _LEAST_HEARTBEAT_S <= self.heartbeat_s <= _MOST_HEARTBEAT_S:
            msg = (
                f"heartbeat_s must be from {_LEAST_HEARTBEAT_S} to {_MOST_HEARTBEAT_S}, "
                f"got {self.heartbeat_s!r}. Say how many seconds may pass in silence."
            )
            raise ValueError(msg)


@final
class Session:
    """Puts lines into a spool, and sends them from there until they are acknowledged.

    Attributes:
        sender: The conversation.
        spool: What waits.
    """

    def __init__(
        self,
        options: Options,
        spool: MemorySpool | DiskSpool,
        rules: LevelRules,
        others: SpoolFolders | None,
    ) -> None:
        """Begin; the connection is made by the first `receive`.

        Args:
            options: How to talk to the collector.
            spool: Where messages wait.
            rules: Where the rules about levels go that come.
            others: Where to look for what processes left that are gone.
        """
        self.spool = spool
        self.sender = Sender(
            spool,
            Hello(
                versions=(VERSION,),
                sender=spool.identity,
                host=rules.host,
                pid=rules.pid,
                program=rules.program,
                started_ns=_started_ns,
                format=options.format,
            ),
            rules,
            compression=options.compression,
            heartbeat_s=options.heartbeat_s,
            others=others,
        )
        self._address = options.address
        self._link: Link | None = None
        # What the socket did not take yet.
        self._unsent: bytes | None = None
        # How often in a row the handshake failed; when to open the socket anew.
        self._failures = 0
        self._reopen_at = 0.0
        # What the spool had no room for.
        self._held: tuple[bytes, int] | None = None

    @property
    def held(self) -> int:
        """How many messages wait for room in the spool."""
        return 0 if self._held is None else self._held[1]

    @property
    def is_done(self) -> bool:
        """Whether all that was put in is acknowledged, or given up."""
        return self._held is None and not self.sender.is_waiting

    def may_end(self, waited_s: float) -> bool:
        """Say whether there is no sense in waiting any longer at the end.

        Args:
            waited_s: How long it was waited since.
        """
        if self.is_done or self.sender.refusal:
            return not self.sender.is_recovering
        is_safe = isinstance(self.spool, DiskSpool) and self._held is None
        return is_safe and not self.sender.is_welcome and waited_s > _PATIENCE_S

    def put(self, lines: list[bytes]) -> None:
        """Put lines into the spool; not before all were that came before, see `has_room`."""
        self._held = b"".join(lines), len(lines)
        self.has_room()

    def has_room(self) -> bool:
        """Say whether lines may be put in; if some are held, try again to put them in."""
        if self._held is not None:
            try:
                self.spool.append(*self._held)
            except (SpoolFull, OSError, MemoryError):  # there may be room again, in a while
                return False
            self._held = None
        return True

    def receive(self, now_s: float) -> None:
        """Take what came, without waiting.

        Args:
            now_s: What time it is.

        Raises:
            zmq.ZMQError: If the system has no more files or threads.
        """
        link, sender = self._link, self.sender
        if link is None:
            link = self._link = Link(self._address)
            self._reopen_at = now_s + _NOBODY_S
        for event in link.events():
            self._note(event, now_s)
        for frame in link.frames():
            sender.received(frame, now_s)
        if sender.is_dead(now_s) or (not sender.is_connected and now_s >= self._reopen_at):
            sender.disconnected()
            self._unsent = None
            link.reconnect()
            self._reopen_at = now_s + _NOBODY_S

    def _note(self, event: Event, now_s: float) -> None:
        """Take note of what became of the connection."""
        self._unsent = None
        if isinstance(event, Connected):
            self._failures = 0
            self.sender.connected(now_s)
            return
        self.sender.disconnected()
        if isinstance(event, NotLetIn):
            self._failures += 1
            if event.is_sure or self._failures >= _SURE_AFTER:
                self.sender.refusal = event.why
            if event.is_sure:
                # The socket does not try again by itself.
                self._reopen_at = now_s + _NOT_LET_IN_S

    def send(self, now_s: float) -> None:
        """Send until there is nothing to send, or the socket takes no more.

        Args:
            now_s: What time it is.
        """
        link = self._link
        while link is not None:
            frame = self._unsent or self.sender.next_frame(now_s)
            if frame is None:
                return
            if not link.send(frame):
                self._unsent = frame
                return
            self._unsent = None

    def wait(self, timeout_s: float) -> None:
        """Wait until something comes from the collector, or for so long."""
        if self._link is not None:
            self._link.wait(timeout_s)

    def disconnect(self) -> None:
        """Close the socket, after something went wrong with it."""
        link, self._link = self._link, None
        self._unsent = None
        self.sender.disconnected()
        if link is not None:
            link.close()

    def close(self) -> None:
        """Say goodbye, and close the socket. What waits stays in the spool."""
        link, self._link = self._link, None
        last = self.sender.close()
        if link is not None:
            link.close(last)

    def stats(self) -> dict[str, int]:
        """Count messages; for the names see `ZmqDestination.stats`."""
        sender = self.sender
        return {
            "held": self.held,
            "spooled": len(self.spool),
            "acknowledged": sender.acknowledged,
            "refused": sender.refused,
            "dropped": self.spool.dropped,
            "sent": sender.sent,
            "recovered": sender.recovered,
            "reconnects": sender.reconnects,
            "garbage": sender.garbage,
        }
