"""Messages from a stream of NATS JetStream."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, final

from eliot_etw.collector.inputs import Batch, Origin
from eliot_etw.collector.inputs._pulled import PulledInput
from eliot_etw.shipping._nats_stream import (
    DEFAULT_STREAM,
    DEFAULT_URL,
    TIMEOUT_S,
    Access,
    Entry,
    NatsStream,
    NewStream,
)

DEFAULT_READER: Final = "eliot-collector"

_STEP: Final = 32
# A message's number is that of its entry, and its line there; together they are below 2**53, which
# is as far as some sinks count.
_LINE_BITS: Final = 13


@final
class NatsInput(PulledInput):
    """Takes what is in a stream, from its first entry on, and then what comes.

    The servers know how far this reader is, as a durable consumer, and give what was not
    acknowledged again after a restart; the order and the numbers stay. An entry is acknowledged
    when every required sink has all lines in it. Only one collector at a time may read under a
    name.

    Args:
        url: Where servers are, as ``nats://user:password@host:port``; with commas between.
        stream: The name of the stream; it is made if it is not there.
        reader: The name by which the servers know how far it was read. Two consumers are called
            like it with ``-a`` and ``-b`` behind, by turns.
        credentials: The ``.creds`` file of a user.
        tls_ca: Who signs the servers' certificates, if the system does not know.
        tls_certificate: Our certificate.
        tls_key: Its key, if it is in a file of its own.
        timeout_s: How long a server may take for an answer.

    Raises:
        MissingDependency: If nats-py is not installed.
        ValueError: If a setting is wrong.
        OSError: If a file cannot be used.
    """

    def __init__(  # noqa: PLR0913 - the options of the configuration
        self,
        url: str = DEFAULT_URL,
        stream: str = DEFAULT_STREAM,
        *,
        reader: str = DEFAULT_READER,
        credentials: str | None = None,
        tls_ca: str | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        super().__init__()
        self._stream = NatsStream(
            url,
            stream,
            timeout_s=timeout_s,
            feature="The input nats",
            access=Access(credentials, tls_ca, tls_certificate, tls_key),
            new=NewStream(),
        )
        if not reader or not reader.isprintable() or set(reader) & set(" .*>/\\"):
            msg = f"reader must be a name without dots and spaces, got {reader!r}. Change it."
            raise ValueError(msg)
        self._names = (f"{reader}-a", f"{reader}-b")
        self._sender = ""
        # Up to which entry all was delivered, and settled; None before the servers said so.
        self._taken = 0
        self._settled: int | None = None
        # What was read on this connection and is not acknowledged, oldest first.
        self._entries: deque[Entry] = deque()

    def _begin(self) -> None:
        identity = f"nats:{self._stream.name}:{self._stream.identity()}"
        if identity != self._sender:  # somebody made it anew
            self._sender, self._settled, self._taken = identity, None, 0
        self._entries.clear()
        self._settled = self._stream.begin_again(self._names, self._settled)
        self._taken = max(self._taken, self._settled)

    def _read(self, wait_s: float) -> Sequence[tuple[Batch, int]]:
        entries = self._stream.pull(_STEP, wait_s)
        self._entries.extend(entries)
        # After a failure, what is under way comes once more; some may be settled by now.
        new = [entry for entry in entries if entry.number > self._taken]
        if self._settled is not None and len(new) < len(entries):
            self._acknowledge([self._settled])
        if not new:
            return ()
        self._taken = new[-1].number
        lines = [line for entry in new for line in entry.lines]
        return [(Batch(lines, list(map(self._origin, new))), self._taken)]

    def _origin(self, entry: Entry) -> Origin:
        count = len(entry.lines)
        if count >> _LINE_BITS:  # somebody else's: its lines have no numbers
            return Origin("", range(count))
        first = entry.number << _LINE_BITS
        return Origin(self._sender, range(first, first + count))

    def _acknowledge(self, settled: Sequence[int]) -> None:
        self._settled = settled[-1]
        done = []
        for entry in self._entries:
            if entry.number > self._settled:
                break
            done.append(entry)
        self._stream.acknowledge(done)
        for _ in done:
            self._entries.popleft()

    def _end(self) -> None:
        self._stream.close()
