"""Messages read back from a collection of MongoDB."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final, final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from eliot_etw._names import MONGODB
from eliot_etw.shipping._engines import without_password
from eliot_etw.shipping._mongodb import DEFAULT_COLLECTION, DEFAULT_URL, MongoCollection
from eliot_etw.sources._entries import message_of
from eliot_etw.typing import MessageDict

_TIMEOUT_S: Final = 30.0
# How often MongoDB is asked what is new.
_POLL_S: Final = 0.5
# Sinks on several machines write to one collection: what has arrived is there in the order of
# their clocks but for so much, and inserts that take their time.
_WINDOW_NS: Final = 30_000_000_000
# So many messages that were given are known.
_MOST_KNOWN: Final = 100_000
# So many new messages are asked for at once.
_AT_ONCE: Final = 1_000


@final
class MongoSource:
    """The messages in a collection that a collector's `MongoSink` writes, as they came.

    Each iteration reads what is there, in bounded memory. It raises `OSError` if MongoDB cannot
    be reached, or refuses.

    Args:
        url: Where MongoDB is, as ``mongodb://user:password@host:port/database``, with its own
            options after a question mark.
        collection: The name of the collection.
        task: Only tasks whose ``task_uuid`` begins so.

    Raises:
        MissingDependency: If pymongo is not installed.
        ValueError: If the URL is none of MongoDB.

    Attributes:
        name: What to call it in reports; without a password.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        collection: str = DEFAULT_COLLECTION,
        task: str | None = None,
    ) -> None:
        self._arguments = (url, collection, task or "")
        options = {"collection": collection} | ({"task": task} if task else {})
        mark = "&" if "?" in url else "?"
        self.name = f"{without_password(url)}{mark}{urlencode(options)}"
        self._reader().close()

    @classmethod
    def named(cls, name: str) -> MongoSource:
        """Make the source that a command line names, as ``mongodb://127.0.0.1/eliot?task=7a1f``.

        Raises:
            MissingDependency: If pymongo is not installed.
            ValueError: If it names none.
        """
        parts = urlsplit(name)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        collection = options.pop("collection", DEFAULT_COLLECTION)
        task = options.pop("task", None)
        if not collection or not parts.netloc:
            msg = (
                f"{MONGODB} must be followed by //host:port/database, and perhaps by "
                f"?collection=NAME&task=UUID, got {without_password(name)!r}. "
                f"Write {DEFAULT_URL}?collection={DEFAULT_COLLECTION}"
            )
            raise ValueError(msg)
        url = urlunsplit(parts._replace(query=urlencode(options)))
        return cls(url, collection=collection, task=task)

    def _reader(self) -> _Reader:
        return _Reader(*self._arguments)

    def __iter__(self) -> Iterator[MessageDict]:
        reader = self._reader()
        try:
            for document in reader.find({}, ["line"]):
                yield from _messages_of(document)
        finally:
            reader.close()

    def follow(self) -> FollowedMongo:
        """Return what reads the same collection as it grows."""
        return FollowedMongo(self.name, self._reader())


@final
class FollowedMongo:
    """The messages of a collection that grows, as `MongoSource.follow` makes it.

    It looks back half a minute each time, for what came late from a collector whose clock is
    behind.

    Attributes:
        name: What to call it in reports.
    """

    def __init__(self, name: str, reader: _Reader) -> None:
        self.name = name
        self._reader = reader
        self._is_caught_up = False
        self._next_at = 0.0
        # What was given, and when it arrived; what arrived before all that is not looked at.
        self._known: dict[str, int] = {}
        self._since = 0

    def poll(self) -> Iterator[MessageDict]:
        """Give what is there and was not given yet; waits for nothing but MongoDB's answers.

        Raises:
            OSError: If MongoDB cannot be reached, or refuses.
        """
        if monotonic() < self._next_at:
            return
        where = {"arrived": {"$gt": self._since}}
        if self._is_caught_up:
            yield from self._latest(where)
        else:
            yield from self._new(self._reader.find(where, ["arrived", "line"]))
        self._is_caught_up = True
        self._next_at = monotonic() + _POLL_S

    def _latest(self, where: Mapping[str, Any]) -> Iterator[MessageDict]:
        """Find out what is new, and ask for no more than that."""
        found = [each["_id"] for each in self._reader.find(where, [])]
        new = [each for each in found if each not in self._known]
        for start in range(0, len(new), _AT_ONCE):
            chosen = {"_id": {"$in": new[start : start + _AT_ONCE]}}
            yield from self._new(self._reader.find(chosen, ["arrived", "line"]))

    def _new(self, documents: Iterator[dict[str, Any]]) -> Iterator[MessageDict]:
        """Give the messages of documents that were not given yet."""
        for document in documents:
            key, arrived = document["_id"], document["arrived"]
            if key in self._known:
                continue
            self._known[key] = arrived
            self._since = max(self._since, arrived - _WINDOW_NS)
            if len(self._known) > _MOST_KNOWN:
                self._since = max(self._since, self._known.pop(next(iter(self._known))))
            yield from _messages_of(document)

    def close(self) -> None:
        """Stop following."""
        self._reader.close()


@final
class _Reader:
    """Reads documents, of some tasks or of all."""

    def __init__(self, url: str, collection: str, task: str) -> None:
        self._collection = MongoCollection(
            url, collection, timeout_s=_TIMEOUT_S, feature="MongoSource"
        )
        self._tasks = {"task_uuid": {"$gte": task, "$lt": task + chr(0x10FFFF)}} if task else {}

    def find(self, where: Mapping[str, Any], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Read some of the documents. Raises OSError if that is not possible."""
        try:
            yield from self._collection.find({**where, **self._tasks}, fields)
        except self._collection.errors as error:
            raise OSError(errno.EIO, f"{self._collection.url}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._collection.close()


def _messages_of(document: Mapping[str, Any]) -> Iterator[MessageDict]:
    """Read a document; nothing of what is no message: anybody may add to a collection."""
    line = document.get("line")
    message = message_of(line.encode()) if isinstance(line, str) else None
    if message is not None:
        yield message
