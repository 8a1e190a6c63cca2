"""Messages read back from a stream of Redis."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final, final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from eliot_etw._names import REDIS
from eliot_etw.shipping._engines import without_password
from eliot_etw.shipping._redis_stream import DEFAULT_STREAM, DEFAULT_URL, RedisStream, batches
from eliot_etw.sources._entries import message_of
from eliot_etw.typing import MessageDict

_TIMEOUT_S: Final = 10.0
# So many messages are read at a time.
_STEP: Final = 1_000


@final
class RedisSource:
    """The messages in a stream of Redis, as a `RedisDestination` or a collector adds them.

    Each iteration reads what is there when it begins to end, in bounded memory. It raises
    `OSError` if Redis cannot be reached, or has something else under that name.

    Args:
        url: Where Redis is, as ``redis://user:password@host:port/database``.
        stream: The name of the stream.

    Raises:
        MissingDependency: If redis is not installed.
        ValueError: If the URL is none of Redis.

    Attributes:
        name: What to call it in reports; without a password.
    """

    def __init__(self, url: str = DEFAULT_URL, *, stream: str = DEFAULT_STREAM) -> None:
        self._url = url
        self._stream = stream
        self.name = f"{without_password(url)}{'&' if '?' in url else '?'}stream={stream}"
        self.follow().close()

    @classmethod
    def named(cls, name: str) -> RedisSource:
        """Make the source that a command line names, as ``redis://127.0.0.1:6379/0?stream=eliot``.

        Raises:
            MissingDependency: If redis is not installed.
            ValueError: If it names none.
        """
        parts = urlsplit(name)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        stream = options.pop("stream", DEFAULT_STREAM)
        if not stream or not name.startswith(f"{parts.scheme}://"):
            msg = (
                f"{REDIS} must be followed by //host:port/database, and perhaps by ?stream=NAME, "
                f"got {without_password(name)!r}. Write {DEFAULT_URL}?stream={DEFAULT_STREAM}"
            )
            raise ValueError(msg)
        return cls(urlunsplit(parts._replace(query=urlencode(options))), stream=stream)

    def __iter__(self) -> Iterator[MessageDict]:
        followed = self.follow()
        try:
            yield from followed.poll()
        finally:
            followed.close()

    def follow(self) -> FollowedRedis:
        """Return what reads the same stream as it grows."""
        stream = RedisStream(self._url, self._stream, timeout_s=_TIMEOUT_S, feature="RedisSource")
        return FollowedRedis(self.name, stream)


@final
class FollowedRedis:
    """The messages of a stream that grows, as `RedisSource.follow` makes it.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(self, name: str, stream: RedisStream) -> None:
        self.name = name
        self._stream = stream
        self._last = b""

    def poll(self) -> Iterator[MessageDict]:
        """Give what is there and was not given yet; waits for nothing but Redis's answers.

        Raises:
            OSError: If Redis cannot be reached.
        """
        try:
            for entries in batches(self._stream, self._last, _STEP):
                for number, line in entries:
                    self._last = number
                    message = message_of(line)
                    if message is not None:
                        yield message
        except self._stream.errors as error:
            raise OSError(errno.EIO, f"{self._stream.url}: {error}") from error

    def close(self) -> None:
        """Stop following."""
        self._stream.close()
