"""Who sends, over which connection, and what of it is settled: an input without its sockets.

Bounded whatever comes: connections and senders are counted, and those that were silent longest
give way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, final

from eliot_etw.shipping._protocol import Hello

# Who says nothing for so long, not even that there is nothing to say, is gone.
_SILENT_S: Final = 60.0
# So many refused batches of a sender are remembered: all of them can be told at once.
_MOST_REFUSED: Final = 100


@final
@dataclass(slots=True)
class Session:
    """A connection on which somebody has said who it is.

    Attributes:
        hello: Who.
        key: The name of its key; empty if there are no keys.
        user: The key, as `AllowedKeys.name_of_user` takes it.
        heard_at: When it last said something, in s of a clock that never goes back.
        revision: The list of levels that it has confirmed; -1 for none.
        matching: How many rules of that are for it.
        held_back: Whose batch was held back last, to come again on this connection.
    """

    hello: Hello
    key: str
    user: str
    heard_at: float
    revision: int = -1
    matching: int = 0
    held_back: Sender | None = None


@final
@dataclass(slots=True)
class UnderWay:
    """A batch that was delivered, and is settled when every sink has it."""

    last: int
    is_settled: bool = False


@final
@dataclass(slots=True)
class Sender:
    """Whoever numbers messages: a process, wherever its connections.

    Attributes:
        identity: Its 16 bytes.
        route: The connection that its last batch came on.
        session: What was said there first.
        taken: The number of its last message that was delivered.
        acknowledged: The number up to which all are settled.
        waits_for: The number that must come next, after a batch was held back; 0 if any may.
        waits_since: Since the last time, in s of a clock that never goes back.
        refused: The first number of each batch that can never be taken. Its sender may not have
            heard that, and takes for acknowledged what is below an acknowledged number.
    """

    identity: bytes
    route: bytes
    session: Session
    taken: int = 0
    acknowledged: int = 0
    waits_for: int = 0
    waits_since: float = 0.0
    under_way: deque[UnderWay] = field(default_factory=deque)
    refused: dict[int, None] = field(default_factory=dict)

    def refuse(self, first: int) -> None:
        """Take note of a batch that can never be taken."""
        self.refused[first] = None
        if len(self.refused) > _MOST_REFUSED:
            del self.refused[next(iter(self.refused))]

    def settle(self) -> bool:
        """Go on to what is settled without a gap; say whether that is more than before."""
        before = self.acknowledged
        while self.under_way and self.under_way[0].is_settled:
            self.acknowledged = self.under_way.popleft().last
        return self.acknowledged > before


@final
class Sessions:
    """All connections, and all senders.

    Args:
        most: How many of each there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._routes: dict[tuple[str, bytes], bytes] = {}
        self._senders: OrderedDict[tuple[str, bytes], Sender] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[tuple[bytes, Session]]:
        """List the connections."""
        return list(self._sessions.items())

    def is_there(self, route: bytes) -> bool:
        """Say whether somebody has said on a connection who it is."""
        return route in self._sessions

    def find(self, route: bytes, now_s: float) -> Session | None:
        """Return the connection on which something came."""
        session = self._sessions.get(route)
        if session is not None:
            session.heard_at = now_s
            self._sessions.move_to_end(route)
        return session

    def begin(self, route: bytes, session: Session) -> bool:
        """Take note of who is on a connection; say whether there was room for it.

        An older connection of the same sender counts no more: what it said may still be on its
        way, and would come out of order.
        """
        self.end(route)
        self.end(self._routes.get((session.key, session.hello.sender), b""))
        if len(self._sessions) >= self._most:
            return False
        self._sessions[route] = session
        self._routes[session.key, session.hello.sender] = route
        return True

    def end(self, route: bytes) -> None:
        """Forget a connection."""
        session = self._sessions.pop(route, None)
        if session is not None:
            self._routes.pop((session.key, session.hello.sender), None)

    def end_silent(self, now_s: float) -> int:
        """Forget connections on which nothing came for long; return how many."""
        ended = 0
        while self._sessions:
            route, session = next(iter(self._sessions.items()))
            if now_s - session.heard_at < _SILENT_S:
                break
            self.end(route)
            ended += 1
        return ended

    def sender(self, session: Session, identity: bytes, route: bytes, first: int) -> Sender:
        """Find a sender, or take note of a new one, when a batch of it comes.

        What one key's owner sends never counts as another's.

        Args:
            session: What was said on the connection that it came on.
            identity: Whose it is.
            route: The connection.
            first: The number that it begins with.
        """
        name = session.key, identity
        found = self._senders.get(name)
        if found is None:
            found = self._senders[name] = Sender(identity, route, session)
            self._forget_idle()
        elif found.session is not session:
            if session.hello.sender == found.session.hello.sender or first <= found.waits_for:
                # It begins again, and everything comes in order.
                found.waits_for = 0
            # Else it is the process that was killed, of which something comes late.
            found.session, found.route = session, route
        self._senders.move_to_end(name)
        return found

    def known(self, key: str, identity: bytes) -> Sender | None:
        """Find a sender, if there is such a one."""
        return self._senders.get((key, identity))

    def _forget_idle(self) -> None:
        """Forget senders that were silent longest, if there are too many."""
        if len(self._senders) > self._most:
            for name, sender in self._senders.items():
                if not sender.under_way:
                    del self._senders[name]
                    return
