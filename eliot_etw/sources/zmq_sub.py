"""Messages as a collector publishes them just now, over ZeroMQ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import parse_qsl

from eliot_etw._names import ZMQ_SUB
from eliot_etw._require import require
from eliot_etw.sources._entries import message_of
from eliot_etw.typing import MessageDict

if TYPE_CHECKING:
    from eliot_etw.destinations._zmq_link import Address, KeyOrFile

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5517"
FOR_S: Final = 10.0
"""For how long an iteration listens, if nothing else is said."""

# So many messages may wait to be read; what comes then is lost at the collector.
_MOST_WAITING: Final = 100_000
_MOST_BYTES: Final = 16 << 20
_OPTIONS: Final = ("topic", "for_s", "server_key", "keys", "unencrypted")


@final
class ZmqSubSource:
    """The messages that a collector's `ZmqPubSink` publishes while somebody listens.

    What was published before, or while nobody listened, is not there; nor is what there was no
    room for. An iteration ends after a while; `follow` goes on.

    Args:
        endpoint: Where the collector publishes: ``tcp://host:port``, ``ipc://path``.
        topics: How the types begin of the messages that are wanted; all if left out.
        for_s: For how many seconds an iteration listens.
        server_key: The collector's public key; or, as a `pathlib.Path`, the file with it.
        keys: Our own public and secret key, or the file with both; new ones if left out.
        unencrypted: Whether another machine may be listened to without keys.

    Raises:
        MissingDependency: If pyzmq is not installed.
        ValueError: If a setting is wrong, or the endpoint on another machine and no key given.
        OSError: If a file with keys cannot be read.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        topics: Sequence[str] = (),
        for_s: float = FOR_S,
        server_key: KeyOrFile | None = None,
        keys: tuple[str | bytes, str | bytes] | str | None = None,
        unencrypted: bool = False,
    ) -> None:
        for package in ("zmq", "msgspec"):
            require(package, feature="ZmqSubSource", extra="zmq")
        from eliot_etw.destinations._zmq_link import address_of  # noqa: PLC0415 - needs those

        if not for_s > 0:
            raise ValueError(f"for_s must be more than 0, got {for_s!r}. Try {FOR_S}.")
        self._address = address_of(endpoint, server_key, keys, unencrypted=unencrypted)
        self._topics = topics or ("",)
        self._for_s = for_s
        self.name = ZMQ_SUB + endpoint

    @classmethod
    def named(cls, name: str) -> ZmqSubSource:
        """Make the source that a command line names, as ``zmq+sub:tcp://host:port?topic=app:``.

        Raises:
            MissingDependency: If pyzmq is not installed.
            ValueError: If it names none.
            OSError: If a file with keys cannot be read.
        """
        endpoint, _, query = name.removeprefix(ZMQ_SUB).partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        options = dict(pairs)
        if not options.keys() <= {*_OPTIONS} or not endpoint:
            msg = (
                f"{ZMQ_SUB} must be followed by an endpoint, and perhaps by {', '.join(_OPTIONS)},"
                f" got {name!r}. Write {ZMQ_SUB}{DEFAULT_ENDPOINT}?topic=app:"
            )
            raise ValueError(msg)
        return cls(
            endpoint,
            topics=[value for key, value in pairs if key == "topic"],
            for_s=float(options.get("for_s", FOR_S)),
            server_key=Path(options["server_key"]) if "server_key" in options else None,
            keys=options.get("keys"),
            unencrypted="unencrypted" in options,
        )

    def __iter__(self) -> Iterator[MessageDict]:
        until = monotonic() + self._for_s
        listening = self.follow()
        try:
            while (left_s := until - monotonic()) > 0:
                listening.wait(left_s)
                yield from listening.poll()
        finally:
            listening.close()

    def follow(self) -> FollowedZmqSub:
        """Return what goes on listening; it begins at once."""
        return FollowedZmqSub(self.name, self._address, self._topics)


@final
class FollowedZmqSub:
    """The messages that come, as `ZmqSubSource.follow` makes it.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(self, name: str, address: Address, topics: Sequence[str]) -> None:
        zmq: Any = require("zmq", feature="ZmqSubSource", extra="zmq")
        self.name = name
        self._again, self._at_once = zmq.Again, zmq.NOBLOCK
        self._context: Any = zmq.Context()
        self._socket: Any = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, _MOST_WAITING)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MOST_BYTES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        if address.server_key:
            self._socket.curve_serverkey = address.server_key
            self._socket.curve_publickey = address.public_key
            self._socket.curve_secretkey = address.secret_key
        for topic in topics:
            self._socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        self._socket.connect(address.endpoint)

    def wait(self, timeout_s: float) -> None:
        """Wait until something comes, or for so long."""
        self._socket.poll(int(timeout_s * 1000) + 1)

    def poll(self) -> Iterator[MessageDict]:
        """Give what has come and was not given yet; never waits."""
        for _ in range(_MOST_WAITING):
            try:
                frames = self._socket.recv_multipart(self._at_once)
            except self._again:
                return
            message = message_of(frames[-1])
            if message is not None:
                yield message

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._context.term()
