"""A stream of Redis with messages in it: each is added once, whatever is tried again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, final

from eliot_etw._require import require
from eliot_etw.shipping._engines import Item, without_password, wrong_url

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"
DEFAULT_STREAM: Final = "eliot"
FIELD: Final = b"message"
"""The field of a stream's entry that has the message, as a line of JSON without its newline."""

# Options of a URL that are files: who signs the server's certificate, and our own and its key.
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
# So many messages are added by one script. Meanwhile Redis serves nobody else.
_AT_ONCE: Final = 500
# For so long Redis knows which messages of a sender it has, after the last of them.
_REMEMBERED_S: Final = 30 * 24 * 3600
# For so long it knows a message that no sender numbers.
_SEEN_S: Final = 24 * 3600
# Adds what is not there yet, all of it or nothing: Redis runs nothing else meanwhile, and writes
# what a script did as one transaction. KEYS: the stream, the messages that nobody numbers, and the
# last number of each sender. ARGV: how long the stream may become, how long each of the latter two
# is known, and for each message its sender's place in KEYS (0 without), number, name and line.
_APPEND: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
local last = {}
for i = 3, #KEYS do last[i] = tonumber(redis.call('GET', KEYS[i]) or 0) end
local repeated = 0
for i = 4, #ARGV, 4 do
  local sender, number = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local is_new
  if sender > 0 then
    is_new = number > last[sender]
    if is_new then last[sender] = number end
  else
    is_new = redis.call('ZADD', KEYS[2], 'NX', now, ARGV[i + 2]) == 1
  end
  if not is_new then
    repeated = repeated + 1
  elseif ARGV[1] == '' then
    redis.call('XADD', KEYS[1], '*', 'message', ARGV[i + 3])
  else
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'message', ARGV[i + 3])
  end
end
for i = 3, #KEYS do
  redis.call('SET', KEYS[i], string.format('%.0f', last[i]), 'EX', ARGV[3])
end
return repeated
"""


@final
class RedisStream:
    """One stream of a Redis, to add messages to and to read them from.

    Attributes:
        name: The stream.
        url: Where Redis is, without a password, for reports.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        timeout_s: float,
        feature: str,
        max_messages: int | None = None,
    ) -> None:
        """Check the settings; the first call connects.

        Args:
            url: Where Redis is: ``redis://host:port/database``, ``rediss://`` with TLS,
                ``unix://path``; with ``user:password@`` before the host, if it asks for them,
                and redis-py's options behind, as ``?ssl_ca_certs=path``.
            name: The stream.
            timeout_s: How long Redis may take to connect, and for each answer.
            feature: Who asks, for the report that redis is not installed.
            max_messages: How many messages the stream keeps, or some more; all if left out.

        Raises:
            MissingDependency: If redis is not installed.
            ValueError: If a setting is wrong.
            OSError: If a file that the URL names cannot be read.
        """
        redis: Any = require("redis", feature=feature, extra="redis")
        if not name:
            raise ValueError(f"The stream must have a name, got {name!r}. Try {DEFAULT_STREAM!r}.")
        if max_messages is not None and max_messages < 1:
            msg = f"max_messages must be at least 1, got {max_messages!r}. Leave it out for all."
            raise ValueError(msg)
        if not timeout_s > 0:
            msg = f"timeout_s must be more than 0, got {timeout_s!r}. Try 5.0."
            raise ValueError(msg)
        self.errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        """What the methods raise if Redis cannot be reached, or refuses."""
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=None,
                client_name="eliot-etw",
            )
            pool = self._client.connection_pool
            options = pool.connection_kwargs
            if url.startswith("rediss:") and "ssl_cert_reqs" not in options:
                options.setdefault("ssl_check_hostname", True)  # as is usual since 6.0
            pool.make_connection()  # which knows all options
        except (ValueError, TypeError) as error:
            # Only the latter says nothing of a password.
            why = str(error) if isinstance(error, TypeError) else ""
            raise wrong_url("Redis", url, DEFAULT_URL, why) from None
        for option in _FILES:
            if option in options:
                with open(options[option], "rb"):  # now, and with its name if it cannot be
                    pass
        self.name = name
        self.url = without_password(url)
        self._most = "" if max_messages is None else str(max_messages)
        # In braces is what decides where a key is, if there are several servers.
        self._seen = f"{{{name}}}:seen"
        self._script: Any = self._client.register_script(_APPEND)

    def append(self, items: Iterable[Item]) -> int:
        """Add messages that are not there yet, in this order.

        What it added before it raised is not added again.

        Returns:
            How many were there already.
        """
        repeated = 0
        rest = iter(items)
        while some := list(islice(rest, _AT_ONCE)):
            repeated += self._append(some)
        return repeated

    def _append(self, items: Sequence[Item]) -> int:
        keys = [self.name, self._seen]
        places = {"": 0}
        arguments: list[Any] = [self._most, _SEEN_S, _REMEMBERED_S]
        for line, sender, number, name in items:
            if sender not in places:
                keys.append(f"{{{self.name}}}:sender:{sender}")
                places[sender] = len(keys)
            arguments += (places[sender], number, name, line)
        repeated: int = self._script(keys=keys, args=arguments)
        return repeated

    def read(self, after: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Read messages that were added after another one.

        Args:
            after: The id of that one; empty to begin with the first.
            most: How many to read at most.

        Returns:
            For each its id and its line. Entries that others have added, without a message, have
            an empty line.
        """
        begin = b"(" + after if after else b"-"
        entries = self._client.xrange(self.name, min=begin, max=b"+", count=most)
        return [(number, fields.get(FIELD, b"")) for number, fields in entries]

    def close(self) -> None:
        """Close the connections. A later call connects anew."""
        self._client.close()

    # ---- as one of a group, of which Redis knows what each has taken and not acknowledged ------

    def join(self, group: str) -> None:
        """Make a group that begins with the first entry, if there is no such group."""
        try:
            self._client.xgroup_create(self.name, group, id="0", mkstream=True)
        except self.errors as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def take(self, group: str, who: str, most: int, wait_s: float) -> list[tuple[bytes, bytes]]:
        """Take entries that nobody in the group has taken yet; wait for one, if there is none."""
        wait_ms = max(1, int(wait_s * 1000))
        return self._taken(group, who, ">", count=most, block=wait_ms)

    def taken(self, group: str, who: str, after: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Read what somebody has taken and not acknowledged, after an entry."""
        return self._taken(group, who, after or b"0", count=most)

    def _taken(
        self, group: str, who: str, after: Any, **options: Any
    ) -> list[tuple[bytes, bytes]]:
        found: Any = self._client.xreadgroup(group, who, {self.name: after}, **options)
        # One stream was asked for; its entries are there in one list or several.
        if isinstance(found, dict):
            entries = [entry for some in found.values() for part in some for entry in part]
        else:
            entries = [entry for _, some in found or () for entry in some]
        return [(number, (fields or {}).get(FIELD, b"")) for number, fields in entries]

    def take_over(self, group: str, whose: Container[str], who: str, idle_s: float) -> None:
        """Take over what others have taken and not acknowledged for long.

        Args:
            group: The group.
            whose: Those of whom nothing is taken over.
            who: Who has it then.
            idle_s: For how long.
        """
        idle_ms = int(idle_s * 1000)
        for other in self._client.xinfo_consumers(self.name, group):
            name = other["name"].decode()
            if name in whose or not other["pending"]:
                continue
            while waiting := self._client.xpending_range(
                self.name, group, "-", "+", _AT_ONCE, name, idle=idle_ms
            ):
                numbers = [each["message_id"] for each in waiting]
                self._client.xclaim(self.name, group, who, idle_ms, numbers, justid=True)

    def acknowledge(self, group: str, numbers: Iterable[bytes]) -> None:
        """Say that entries are done with."""
        rest = iter(numbers)
        while some := list(islice(rest, _AT_ONCE)):
            self._client.xack(self.name, group, *some)


def batches(stream: RedisStream, after: bytes, most: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Read a stream to its present end, so many messages at a time."""
    while entries := stream.read(after, most):
        after = entries[-1][0]
        yield entries
