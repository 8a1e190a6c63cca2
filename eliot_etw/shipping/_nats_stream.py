"""A stream of NATS JetStream with messages in it: each is added once, whatever is tried again.

What is added is one or more lines of JSON. Each sender has a subject of its own, and the last
thing there says which of its messages are in. To that the next is added, and to nothing else: the
server compares, so that nothing is there twice and nothing is left out, however long after. So
many lines are one answer to wait for, and nobody has to remember anything between.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.util import find_spec
from threading import Lock
from typing import Any, Final, NamedTuple, TypeVar, final
from urllib.parse import quote, urlsplit

from eliot_etw._require import require
from eliot_etw.exceptions import MessagesRefused, MissingDependency
from eliot_etw.shipping._engines import Item, without_password, wrong_url

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
DEFAULT_STREAM: Final = "eliot"
NEWLINE: Final = b"\n"
"""What stands between the lines of an entry."""
TIMEOUT_S: Final = 5.0
"""How long a server may take to answer, if nothing else is said."""
DUPLICATE_WINDOW_S: Final = 3600.0
"""How long a new stream knows what came with an id, if nothing else is said."""

_SCHEMES: Final = ("nats", "tls")
# How many bytes of lines become one entry, about.
_ENTRY_BYTES: Final = 128 << 10
# What an entry has besides its lines, at most.
_HEADER_BYTES: Final = 2 << 10
# Of so many senders it is known in memory what the stream has.
_MOST_SENDERS: Final = 10_000
# So many entries are on their way to a server at the same time, at most.
_AT_ONCE: Final = 64
# How often it is asked anew what the stream has of a sender, before somebody else is to blame.
_MOST_TRIES: Final = 3
_CLOSE_S: Final = 1.0
# How long after it could not be reached the same server is tried again, once.
_AGAIN_S: Final = 0.1
# In so many steps a client notices that it was disconnected.
_STEPS: Final = 10
# What JetStream allows.
_MOST_REPLICAS: Final = 5
# How long the server keeps what we read by, after we were heard of last.
_UNUSED_S: Final = 60.0
# Where those are put whom nobody numbers: no sender's subject is called so.
_NOBODY: Final = "nobody"
_LAST: Final = "Eliot-Last"
_SENDER: Final = "Eliot-Sender"

# What begins what is in a file of credentials.
_IN_CREDENTIALS: Final = (b"NATS USER JWT", b"USER NKEY SEED")

# What the server calls its errors.
_WRONG_LAST: Final = 10071
_NO_SUCH_STREAM: Final = 10059
_NO_SUCH_ENTRY: Final = 10037
_NO_SUCH_CONSUMER: Final = 10014
# How the server says that there is nothing to give.
_NOTHING: Final = ("404", "408")

_T = TypeVar("_T")


class Access(NamedTuple):
    """What proves who we are, and who the server is; paths of files.

    Attributes:
        credentials: The ``.creds`` file of a user.
        tls_ca: Who signs the server's certificate, if the system does not know.
        tls_certificate: Our certificate.
        tls_key: Its key, if it is in a file of its own.
    """

    credentials: str | None = None
    tls_ca: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None


ANYBODY: Final = Access()


class NewStream(NamedTuple):
    """How a stream is made that is not there.

    Attributes:
        replicas: How many servers have all of it.
        keep_s: How long entries stay; for ever if None.
        max_bytes: How large it may become before the oldest go; unlimited if None.
        duplicate_window_s: How long what came with an id is known.
    """

    replicas: int = 1
    keep_s: float | None = None
    max_bytes: int | None = None
    duplicate_window_s: float = DUPLICATE_WINDOW_S


class Entry(NamedTuple):
    """What was read.

    Attributes:
        number: Its number in the stream; they only grow.
        lines: What is in it, without newlines.
        reply: Where to say that it is done with.
    """

    number: int
    lines: list[bytes]
    reply: str


class _Place(NamedTuple):
    """What the stream has of a sender: the number of its last entry, and of its last message."""

    entry: int = 0
    message: int = 0


@final
class NatsStream:
    """One stream of JetStream, to add messages to and to read them from.

    Whoever calls a method waits until it is done; no thread is needed, so that it works at the
    end of a program, too. One thread at a time is in a method.

    Attributes:
        name: The stream.
        url: Where the servers are, without passwords, for reports.
        errors: What the methods raise if no server can be reached, or it refuses.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(
        self,
        url: str,
        name: str,
        *,
        timeout_s: float,
        feature: str,
        access: Access = ANYBODY,
        new: NewStream | None = None,
    ) -> None:
        """Check the settings; the first call connects.

        Args:
            url: Where servers of a cluster are: ``nats://host:port``, or ``tls://``, with commas
                between several; with ``user:password@`` or ``token@`` before the host, if they
                ask for it.
            name: The stream.
            timeout_s: How long a server may take to connect, and for each answer.
            feature: Who asks, for the report that nats-py is not installed.
            access: What proves who we are.
            new: How the stream is made if it is not there. If None, that is an error.

        Raises:
            MissingDependency: If nats-py is not installed, or what it needs for credentials.
            ValueError: If a setting is wrong.
            OSError: If a file cannot be used.
        """
        for module in ("nats", "nats.js.errors", "nats.js.api"):
            require(module, feature=feature, extra="nats")
        nats_errors: Any = require("nats.errors", feature=feature, extra="nats")
        # What a server raises, or the way to it.
        self._of_servers = (nats_errors.Error, OSError, asyncio.TimeoutError)
        self._servers = _servers_of(url)
        self.url = ",".join(map(without_password, self._servers))
        if not name or not name.isprintable() or set(name) & set(" .*>/\\"):
            msg = (
                f"The stream must have a name without spaces, dots, slashes, * and >, "
                f"got {name!r}. Try {DEFAULT_STREAM!r}."
            )
            raise ValueError(msg)
        _check_positive("timeout_s", timeout_s)
        if new is not None:
            _check_new(new)
        if access.credentials is not None:
            _ask_for_nkeys(feature)
        for path in filter(None, access):
            with open(path, "rb"):  # now, and with its name if it cannot be
                pass
        if access.credentials is not None:
            _check_credentials(access.credentials)
        self.name = name
        self._new = new
        self._timeout_s = timeout_s
        self._options: dict[str, Any] = {
            # We connect anew ourselves, and know what was not answered.
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": _AGAIN_S,
            # So that there is time left if one of several hangs.
            "connect_timeout": timeout_s / 2,
        }
        if access.credentials is not None:
            self._options["user_credentials"] = access.credentials
        if any(access[1:]) or any(each.startswith("tls:") for each in self._servers):
            self._options["tls"] = _tls_of(access)
        self._in_use = Lock()
        self._loop: _Loop | None = None
        self._client: Any = None
        self._most_bytes = 0
        self._places: OrderedDict[str, _Place] = OrderedDict()
        # Up to which message an entry went of which nobody said whether it was added.
        self._unsure: dict[str, int] = {}
        self._reader = ""
        self._read = 0
        self._problem: Exception | None = None

    # ---- to add --------------------------------------------------------------------------------

    def append(self, items: Iterable[Item]) -> int:
        """Add messages that are not there yet, those of each sender in this order.

        What it added before it raised is not added again.

        Returns:
            How many were there already.

        Raises:
            OSError: If no server can be reached, or it does not take them now.
            MessagesRefused: If some are larger than the servers take; all others are added.
        """
        return self._do(self._append(items))

    async def _append(self, items: Iterable[Item]) -> int:
        await self._connect()
        refused: dict[int, str] = {}
        of: dict[str, list[Item]] = {}
        for index, item in enumerate(items):
            if len(item.line) > self._most_bytes:
                refused[index] = f"{len(item.line)} bytes, and {self._most_bytes} are allowed"
            else:
                of.setdefault(item.sender, []).append(item)
        single = of.pop("", [])
        may_go = asyncio.Semaphore(_AT_ONCE)
        done = await asyncio.gather(
            *(self._append_of(sender, some, may_go) for sender, some in of.items()),
            *(self._append_single(item, may_go) for item in single),
            return_exceptions=True,
        )
        repeated = 0
        for each in done:
            if isinstance(each, BaseException):
                raise each
            repeated += each
        if refused:
            raise MessagesRefused(refused)
        return repeated

    async def _append_of(self, sender: str, items: list[Item], may_go: asyncio.Semaphore) -> int:
        """Add what a sender numbers; return how many were there already."""
        async with may_go:
            for _ in range(_MOST_TRIES):
                place = await self._place_of(sender)
                new = list(_after(place.message, items))
                try:
                    for some in _entries(new, self._unsure.get(sender), self._most_bytes):
                        await self._add(sender, some, place)
                        place = self._places[sender]
                except _SomebodyElse:
                    continue
                return len(items) - len(new)
            msg = f"Somebody else adds messages of {sender} at the same time."
            raise OSError(errno.EBUSY, msg)

    async def _add(self, sender: str, items: Sequence[Item], place: _Place) -> None:
        """Add one entry, if what is there of the sender is what we think."""
        token = _token(sender)
        last = items[-1].number
        headers = {
            "Nats-Msg-Id": f"{token}-{items[0].number}-{last}",
            "Nats-Expected-Last-Subject-Sequence": str(place.entry),
            _LAST: str(last),
            _SENDER: quote(sender)[:255],
        }
        # Until the answer is there, nobody knows.
        self._places.pop(sender, None)
        self._unsure[sender] = last
        ack = await self._publish(token, NEWLINE.join(item.line for item in items), headers)
        del self._unsure[sender]
        self._know(sender, _Place(ack.seq, last))

    async def _append_single(self, item: Item, may_go: asyncio.Semaphore) -> int:
        """Add what nobody numbers; return 1 if it was there already."""
        async with may_go:
            headers = {"Nats-Msg-Id": item.name}
            return int(bool((await self._publish(_NOBODY, item.line, headers)).duplicate))

    async def _publish(self, token: str, data: bytes, headers: dict[str, str]) -> Any:
        """Publish an entry, and wait for the answer."""
        from nats.js.errors import APIError  # noqa: PLC0415 - it was asked for

        try:
            return await self._client.jetstream(timeout=self._timeout_s).publish(
                f"{self.name}.{token}", data, stream=self.name, headers=headers
            )
        except APIError as error:
            if error.err_code == _WRONG_LAST:
                raise _SomebodyElse from error
            raise

    async def _place_of(self, sender: str) -> _Place:
        """Say what the stream has of a sender."""
        known = self._places.get(sender)
        if known is not None:
            return known
        from nats.js.errors import APIError  # noqa: PLC0415 - it was asked for

        try:
            # Whoever leads the stream is asked: others may not know the last of it yet.
            last = await self._manager().get_last_msg(self.name, f"{self.name}.{_token(sender)}")
        except APIError as error:
            if error.err_code != _NO_SUCH_ENTRY:
                raise
            place = _Place()
        else:
            place = _Place(last.seq, int((last.headers or {}).get(_LAST, 0)))
        self._know(sender, place)
        return place

    def _know(self, sender: str, place: _Place) -> None:
        self._places[sender] = place
        self._places.move_to_end(sender)
        while len(self._places) > _MOST_SENDERS:
            self._places.popitem(last=False)

    # ---- to read -------------------------------------------------------------------------------

    def end(self) -> tuple[int, bool, str]:
        """Say how far the stream goes.

        Returns:
            The number of its last entry, 0 if there is none; whether entries were deleted, of
            which that may be one; its `identity`.

        Raises:
            FileNotFoundError: If there is no such stream.
            OSError: If no server can be reached.
        """
        info = self._do(self._info())
        state = info.state
        last = state.last_seq if state.messages else 0
        return last, bool(state.num_deleted), str(info.created)

    def identity(self) -> str:
        """Return what tells this stream from one that is made anew under its name."""
        return str(self._do(self._info()).created)

    async def _info(self) -> Any:
        await self._connect()
        return await self._ask_about()

    async def _ask_about(self) -> Any:
        """Ask what the stream is like. Raises _NoSuchStream if there is none."""
        from nats.js.errors import APIError  # noqa: PLC0415 - it was asked for

        try:
            return await self._manager().stream_info(self.name)
        except APIError as error:
            if error.err_code != _NO_SUCH_STREAM:
                raise
            msg = f"{self.url}: there is no stream {self.name!r}"
            raise _NoSuchStream(errno.ENOENT, msg) from error

    def begin(self, after: int) -> None:
        """Begin to read what comes after an entry, without leaving a trace in the stream.

        Raises:
            OSError: If no server can be reached.
        """
        self._do(self._begin(after, ack_policy="none", inactive_threshold=_UNUSED_S))

    def begin_again(self, names: tuple[str, str], after: int | None) -> int:
        """Begin to read under a name by which the servers know how far we are.

        Args:
            names: Two names, which are used in turn: the servers never forget the old one before
                they have the new one.
            after: Which entry to begin after; where the servers think we are, if None.

        Returns:
            The entry that is begun after.

        Raises:
            OSError: If no server can be reached.
        """
        return self._do(self._begin_again(names, after))

    async def _begin_again(self, names: tuple[str, str], after: int | None) -> int:
        from nats.js.api import RetentionPolicy  # noqa: PLC0415 - it was asked for

        info = await self._info()
        known = {name: at for name in names if (at := await self._position(name)) is not None}
        if after is None:
            after = max(known.values(), default=0)
        old = max(known, key=lambda name: known[name], default=names[1])
        [new] = set(names) - {old}
        # Of such a stream what was acknowledged is gone, and only one may read.
        is_queue = info.config.retention == RetentionPolicy.WORK_QUEUE
        for name in known if is_queue else known.keys() & {new}:
            await self._manager().delete_consumer(self.name, name)
        await self._begin(
            0 if is_queue else after, ack_policy="explicit", durable_name=new, ack_wait=3600,
            max_ack_pending=-1,
        )  # fmt: skip
        if not is_queue and old in known:
            await self._manager().delete_consumer(self.name, old)
        return after

    async def _position(self, name: str) -> int | None:
        """Return up to where all was acknowledged under a name; None if nobody knows it."""
        from nats.js.errors import APIError  # noqa: PLC0415 - it was asked for

        try:
            info = await self._manager().consumer_info(self.name, name)
        except APIError as error:
            if error.err_code != _NO_SUCH_CONSUMER:
                raise
            return None
        # Before the first is acknowledged, it only is known where it began.
        begun_after = (info.config.opt_start_seq or 1) - 1
        return max(int(info.ack_floor.stream_seq), int(begun_after))

    async def _begin(self, after: int, **options: Any) -> None:
        from nats.js.api import ConsumerConfig, DeliverPolicy  # noqa: PLC0415 - it was asked for

        await self._connect()
        start: dict[str, Any] = {"deliver_policy": DeliverPolicy.ALL}
        if after:
            start = {
                "deliver_policy": DeliverPolicy.BY_START_SEQUENCE,
                "opt_start_seq": after + 1,
            }
        info = await self._manager().add_consumer(self.name, ConsumerConfig(**start, **options))
        self._reader = info.name
        self._read = 0

    def pull(self, most: int, wait_s: float) -> list[Entry]:
        """Read on.

        Args:
            most: How many entries at most.
            wait_s: How long to wait for the first one.

        Returns:
            The entries; none if there are none.

        Raises:
            OSError: If no server can be reached, or something was lost on the way: then it is to
                be begun again.
        """
        return self._do(self._pull(most, wait_s))

    async def _pull(self, most: int, wait_s: float) -> list[Entry]:
        if not self._reader or not self._is_connected():
            raise OSError(errno.ENOTCONN, "the connection was lost")
        entries = await self._ask({"batch": most, "no_wait": True}, most, 0.0)
        if entries or not wait_s:
            return entries
        # Else the first would have to wait for the last.
        return await self._ask({"batch": 1, "expires": int(wait_s * 1e9)}, 1, wait_s)

    async def _ask(self, question: dict[str, Any], most: int, wait_s: float) -> list[Entry]:
        """Ask for entries, and wait until all are there, or the server says that it has none."""
        client = self._client
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, max_msgs=0, pending_bytes_limit=-1)
        entries: list[Entry] = []
        try:
            await client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.name}.{self._reader}",
                json.dumps(question).encode(),
                reply=inbox,
            )
            while len(entries) < most:
                message = await subscription.next_msg(wait_s + self._timeout_s)
                status = (message.headers or {}).get("Status")
                if status in _NOTHING:
                    break
                if status is not None:
                    why = (message.headers or {}).get("Description", "")
                    raise OSError(errno.EIO, f"{status} {why}".strip())
                entries.append(self._entry(message))
        finally:
            with suppress(Exception):  # the connection is gone
                await subscription.unsubscribe()
        return entries

    def _entry(self, message: Any) -> Entry:
        """Take an entry. Raises OSError if one before it did not arrive."""
        numbers = message.metadata.sequence
        if numbers.consumer != self._read + 1:
            raise OSError(errno.EIO, "an entry was lost on the way")
        self._read += 1
        lines = [line for line in message.data.split(NEWLINE) if line]
        return Entry(numbers.stream, lines, message.reply)

    def acknowledge(self, entries: Iterable[Entry]) -> None:
        """Say that entries are done with. Raises OSError if no server can be reached."""
        self._do(self._acknowledge(entries))

    async def _acknowledge(self, entries: Iterable[Entry]) -> None:
        if not self._is_connected():
            raise OSError(errno.ENOTCONN, "the connection was lost")
        for entry in entries:
            await self._client.publish(entry.reply, b"+ACK")
        await self._client.flush(self._timeout_s)

    # ---- the connection ------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something to its end. Raises OSError for whatever a server or the way to it does."""
        with self._in_use:
            if self._loop is None:
                self._loop = _Loop()
            try:
                return self._loop.run_until_complete(work)
            except MessagesRefused:
                raise
            except _NoSuchStream:
                self._forget()
                raise
            except (*self._of_servers, _SomebodyElse) as error:
                self._forget()
                raise OSError(errno.EIO, f"{self.url}: {self._why(error)}") from error
            except BaseException:
                work.close()
                self._forget()
                raise

    async def _note(self, error: Exception) -> None:
        """Keep an error for whoever waits. To log it might come back here."""
        self._problem = error

    def _why(self, error: BaseException) -> str:
        """Say why something failed: if it only took too long, what came before."""
        problem, self._problem = self._problem, None
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)) or not str(error):
            error = problem or error
        elif "no servers" in str(error) and problem is not None:
            error = problem
        return str(error) or type(error).__name__

    def _is_connected(self) -> bool:
        return self._client is not None and bool(self._client.is_connected)

    async def _connect(self) -> None:
        """Connect, if there is no connection, and see that there is the stream."""
        # What has happened since the last call becomes known: mostly that nothing has.
        for _ in range(_STEPS):
            await asyncio.sleep(0)
        if self._is_connected():
            return
        await self._disconnect()
        from nats.aio.client import Client  # noqa: PLC0415 - it was asked for

        client = Client()
        self._client = client
        try:
            await asyncio.wait_for(
                client.connect(
                    self._servers, name="eliot-etw", error_cb=self._note, **self._options
                ),
                self._timeout_s,
            )
        except Exception as error:
            if isinstance(error, self._of_servers):
                raise
            # Such as credentials that were changed, and are none any more; not with its text,
            # which may cite them.
            path, kind = self._options.get("user_credentials"), type(error).__name__
            raise OSError(errno.EACCES, f"credentials, {path!r}, are useless: {kind}") from None
        try:
            info = await self._ask_about()
        except _NoSuchStream:
            if self._new is None:
                raise
            info = await self._make(self._new)
        allowed = [client.max_payload, *filter(_is_limit, [info.config.max_msg_size])]
        self._most_bytes = min(allowed) - _HEADER_BYTES

    async def _make(self, new: NewStream) -> Any:
        """Make the stream."""
        from nats.js.api import StreamConfig  # noqa: PLC0415 - it was asked for

        window_s = min(new.duplicate_window_s, new.keep_s or new.duplicate_window_s)
        return await self._manager().add_stream(
            StreamConfig(
                name=self.name,
                subjects=[f"{self.name}.>"],
                num_replicas=new.replicas,
                max_age=new.keep_s,
                max_bytes=new.max_bytes,
                duplicate_window=window_s,
            )
        )

    def _manager(self) -> Any:
        return self._client.jsm(timeout=self._timeout_s)

    def _forget(self) -> None:
        """Forget what was known by a connection that failed, and close it."""
        self._places.clear()
        self._reader = ""
        if self._loop is not None:
            with suppress(Exception):
                self._loop.run_until_complete(self._disconnect())

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._reader = ""
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.close(), _CLOSE_S)

    def close(self) -> None:
        """Close the connection. A later call connects anew."""
        with self._in_use:
            loop = self._loop
            if loop is not None:
                self._forget()
                self._loop = None
                loop.end()


class _SomebodyElse(Exception):
    """What is there of a sender is not what we thought."""


class _NoSuchStream(FileNotFoundError):
    """Nobody has made the stream."""


@final
class _Loop(asyncio.SelectorEventLoop):
    """Runs while somebody waits for it; also when threads cannot be started any more."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Look a name up; at the end of a program without a thread."""
        try:
            return await super().getaddrinfo(host, port, **options)
        except RuntimeError:
            return socket.getaddrinfo(host, port, **options)

    def end(self) -> None:
        """End what still runs, and close."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        # Of nothing at all, gather() would make another loop, which nobody closes.
        if left:
            with suppress(Exception):
                self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.close()


def _ask_for_nkeys(feature: str) -> None:
    """Raise MissingDependency if there is nothing that signs; nats-py has that as an extra."""
    if find_spec("nkeys") is None:
        msg = (
            f"{feature} with credentials needs the package 'nkeys', which is not installed. "
            "Install it with: python -m pip install 'nats-py[nkeys]'"
        )
        raise MissingDependency(msg, name="nkeys")


def _check_credentials(path: str) -> None:
    """Raise ValueError if a file is none of credentials; what is in it is not told."""
    with open(path, "rb") as file:
        content = file.read()
    missing = [what.decode() for what in _IN_CREDENTIALS if b"-----BEGIN " + what not in content]
    if missing:
        msg = (
            f"credentials must be a .creds file, got {path!r}, in which is no "
            f"{' and no '.join(missing)}. Have one made by: nsc generate creds"
        )
        raise ValueError(msg)


def _servers_of(url: str) -> list[str]:
    """Split addresses. Raises ValueError for what is none."""
    servers = [each.strip() for each in url.split(",")]
    for each in servers:
        with suppress(ValueError):
            parts = urlsplit(each)
            if parts.scheme in _SCHEMES and parts.hostname and parts.port != 0:
                continue
        raise wrong_url("NATS", url, DEFAULT_URL)
    return servers


def _check_new(new: NewStream) -> None:
    """Raise ValueError if no stream can be made so."""
    if not 1 <= new.replicas <= _MOST_REPLICAS:
        msg = f"replicas must be from 1 to 5, got {new.replicas!r}. Say how many have all of it."
        raise ValueError(msg)
    for name, value in new._asdict().items():
        if value is not None:
            _check_positive(name, value)


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be more than 0, got {value!r}. Leave it out.")


def _is_limit(value: int | None) -> bool:
    return value is not None and value > 0


def _tls_of(access: Access) -> ssl.SSLContext:
    """Make what encrypts. Raises OSError if a file cannot be used."""
    context = ssl.create_default_context(cafile=access.tls_ca)
    if access.tls_certificate is not None:
        context.load_cert_chain(access.tls_certificate, access.tls_key)
    return context


def _token(sender: str) -> str:
    """Name a sender as a subject may be called."""
    return blake2b(sender.encode(), digest_size=16).hexdigest()


def _after(last: int, items: Iterable[Item]) -> Iterator[Item]:
    """Give a sender's messages that come after one, each once."""
    for item in items:
        if item.number > last:
            last = item.number
            yield item


def _entries(items: Iterable[Item], unsure: int | None, most_bytes: int) -> Iterator[list[Item]]:
    """Divide a sender's messages into entries.

    One of which nobody said whether it was added is sent again as it was, for it may still be on
    its way: then the servers know its id.
    """
    entry: list[Item] = []
    size = 0
    for item in items:
        if entry and size + len(item.line) > min(_ENTRY_BYTES, most_bytes):
            yield entry
            entry, size = [], 0
        entry.append(item)
        size += len(item.line) + 1
        if item.number == unsure:
            yield entry
            entry, size = [], 0
    if entry:
        yield entry
