"""Messages read back from a stream of NATS JetStream."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, final
from urllib.parse import parse_qsl

from eliot_etw._names import NATS
from eliot_etw.shipping._engines import without_password
from eliot_etw.shipping._nats_stream import (
    DEFAULT_STREAM,
    DEFAULT_URL,
    TIMEOUT_S,
    Access,
    Entry,
    NatsStream,
)
from eliot_etw.sources._entries import message_of
from eliot_etw.typing import MessageDict

# So many entries are read at a time, each of which is at most what a server takes: mostly 1 MiB.
_STEP: Final = 32
_STREAM: Final = "stream"
# How long a server of a cluster may take until it has what the others have.
_PATIENCE_S: Final = 2.0
# How often it is tried to go on after a server has gone, before that is an error.
_MOST_TRIES: Final = 5


@final
class NatsSource:
    """The messages in a stream of JetStream, as a `NatsDestination` or a collector adds them.

    Each iteration reads what is there when it begins to end, in bounded memory, and changes
    nothing in the stream. It raises `OSError` if no server can be reached, or there is no such
    stream.

    Args:
        url: Where servers are: ``nats://user:password@host:port``, with commas between several.
        stream: The name of the stream.
        credentials: The ``.creds`` file of a user.
        tls_ca: Who signs the servers' certificates, if the system does not know.
        tls_certificate: Our certificate.
        tls_key: Its key, if it is in a file of its own.

    Raises:
        MissingDependency: If nats-py is not installed.
        ValueError: If the URL is none of NATS.
        OSError: If a file cannot be used.

    Attributes:
        name: What to call it in reports; without a password.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        stream: str = DEFAULT_STREAM,
        credentials: str | None = None,
        tls_ca: str | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
    ) -> None:
        self._url = url
        self._stream = stream
        self._access = Access(credentials, tls_ca, tls_certificate, tls_key)
        self.name = f"{self._opened().url}?{_STREAM}={stream}"

    @classmethod
    def named(cls, name: str) -> NatsSource:
        """Make the source that a command line names, as ``nats://host:port?stream=NAME``.

        Raises:
            MissingDependency: If nats-py is not installed.
            ValueError: If it names none.
            OSError: If a file that it names cannot be used.
        """
        url, _, query = name.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if not options.keys() <= {_STREAM, *Access._fields} or url == NATS:
            msg = (
                f"{NATS} must be followed by //host:port, and perhaps by ?{_STREAM}=NAME and "
                f"{', '.join(Access._fields)}, got {without_password(name)!r}. "
                f"Write {DEFAULT_URL}?{_STREAM}={DEFAULT_STREAM}"
            )
            raise ValueError(msg)
        return cls(url, **options)

    def _opened(self) -> NatsStream:
        return NatsStream(
            self._url,
            self._stream,
            timeout_s=TIMEOUT_S,
            feature="NatsSource",
            access=self._access,
        )

    def __iter__(self) -> Iterator[MessageDict]:
        followed = self.follow()
        try:
            yield from followed.read()
        finally:
            followed.close()

    def follow(self) -> FollowedNats:
        """Return what reads the same stream as it grows."""
        return FollowedNats(self.name, self._opened())


@final
class FollowedNats:
    """The messages of a stream that grows, as `NatsSource.follow` makes it.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(self, name: str, stream: NatsStream) -> None:
        self.name = name
        self._stream = stream
        self._identity = ""
        self._last = 0
        self._has_begun = False

    def poll(self) -> Iterator[MessageDict]:
        """Give what is there and was not given yet; waits for nothing but the servers' answers.

        Raises:
            OSError: If no server can be reached.
        """
        with suppress(FileNotFoundError):  # nobody has made it yet
            yield from self.read()

    def read(self) -> Iterator[MessageDict]:
        """As `poll`; but raises FileNotFoundError if there is no such stream."""
        end, has_deleted, identity = self._stream.end()
        if identity != self._identity:  # somebody made it anew
            self._identity, self._last, self._has_begun = identity, 0, False
        failures = 0
        while self._last < end:
            try:
                entries = self._pull()
                if not entries and not has_deleted:
                    why = "the server that is asked does not have all of it yet"
                    raise OSError(errno.EIO, f"{self._stream.url}: {why}")
            except OSError:
                # A server that has gone: another one may know as much.
                self._has_begun = False
                failures += 1
                if failures == _MOST_TRIES:
                    raise
                continue
            if not entries:
                return
            for entry in entries:
                self._last = entry.number
                for line in entry.lines:
                    message = message_of(line)
                    if message is not None:
                        yield message

    def _pull(self) -> list[Entry]:
        """Read on, where more is known to be. Raises OSError if that is not possible now."""
        if not self._has_begun:
            self._stream.begin(self._last)
            self._has_begun = True
        return self._stream.pull(_STEP, _PATIENCE_S)

    def close(self) -> None:
        """Stop following."""
        self._stream.close()
