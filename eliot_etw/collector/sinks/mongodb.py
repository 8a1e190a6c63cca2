"""Messages in a collection of MongoDB."""

from __future__ import annotations

from time import time_ns
from typing import Any, Final, final

from eliot_etw._json import decode_line
from eliot_etw._names import ACTION_STATUS, ACTION_TYPE, MESSAGE_TYPE, PLACE_FIELDS
from eliot_etw._require import require
from eliot_etw.collector._batch import Head, Key
from eliot_etw.collector.sinks import Batch, BlockingSink, MessagesRefused, SinkUnavailable
from eliot_etw.shipping._mongodb import DEFAULT_COLLECTION, DEFAULT_URL, MongoCollection

# What a document of MongoDB's may have.
_MOST_BYTES: Final = 16 << 20
_MOST_INTEGER: Final = 1 << 63
# Deeper than that, fields are in the line only; MongoDB goes to 100.
_MOST_DEPTH: Final = 50
# The fields of a longer line are in the line only: as BSON they may be six times as long.
_LONG_BYTES: Final = 1 << 20
# What has a field of its own beside the others.
_BESIDE: Final = PLACE_FIELDS | {ACTION_TYPE, ACTION_STATUS, MESSAGE_TYPE}
_LEFT_OUT: Final = object()


@final
class MongoSink(BlockingSink):
    """Inserts each message as one document, which has its key as ``_id``: so it is there once.

    The document has the message's line as it came, and beside it what BSON can hold of its
    fields, to be asked for.

    Unless the URL says otherwise, what is stored is in the journal of the majority of servers.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        collection: str = DEFAULT_COLLECTION,
        fields: bool = True,
        timeout_s: float = 10.0,
    ) -> None:
        """Check the settings; the first batch connects.

        Args:
            url: Where MongoDB is, as ``mongodb://user:password@host:port/database``, with its
                own options after a question mark.
            collection: The name of the collection.
            fields: Whether the messages' own fields can be asked for.
            timeout_s: How long to look for a server, and to wait for each answer.

        Raises:
            MissingDependency: If pymongo is not installed.
            ValueError: If a setting is wrong.
        """
        self._collection = MongoCollection(
            url, collection, timeout_s=timeout_s, feature="The sink mongodb"
        )
        self._encode: Any = require("bson", feature="The sink mongodb", extra="mongodb").encode
        self._has_fields = fields
        self._is_prepared = False
        self._arrived = 0
        self._repeated = 0

    def store(self, batch: Batch) -> None:
        """Insert messages.

        Raises:
            SinkUnavailable: If MongoDB cannot be reached, or refuses all.
            MessagesRefused: If some are too large, or against the collection's own rules.
        """
        try:
            if not self._is_prepared:
                self._arrived = self._collection.prepare()
                self._is_prepared = True
            refused = self._insert(batch)
        except self._collection.errors as error:
            self._is_prepared = False
            raise SinkUnavailable(f"{self._collection.url}: {error}") from error
        if refused:
            raise MessagesRefused(refused)

    def _insert(self, batch: Batch) -> dict[int, str]:
        """Insert messages; return those that can never be, and why."""
        self._arrived = max(time_ns(), self._arrived + 1)
        refused: dict[int, str] = {}
        documents: dict[int, dict[str, Any]] = {}
        for number, (line, head, key) in enumerate(
            zip(batch.lines, batch.heads, batch.keys(), strict=True)
        ):
            document = _document_of(line, head, key)
            document |= {"arrived": self._arrived, "number": number}
            if len(line) > _LONG_BYTES:
                size = len(self._encode(document))
                if size > _MOST_BYTES:
                    refused[number] = f"{size:,} bytes are more than MongoDB takes"
                    continue
            elif self._has_fields:
                document["fields"] = _fields_of(line)
            documents[number] = document
        outcome = self._collection.insert([*documents.values()])
        self._repeated += outcome.repeated
        numbers = [*documents]
        return refused | {numbers[place]: why for place, why in outcome.refused.items()}

    def close(self, timeout_s: float) -> None:
        """Close the connections."""
        self._collection.close()

    def stats(self) -> dict[str, int]:
        """Count what happened: ``repeated``, messages that came again."""
        return {"repeated": self._repeated}


def _document_of(line: bytes, head: Head, key: Key) -> dict[str, Any]:
    """Make what any document has."""
    return {
        "_id": str(key),
        "task_uuid": key.task_uuid,
        "task_level": key.task_level,
        "timestamp": head.timestamp,
        "type": head.type,
        "status": head.action_status,
        "level": head.level,
        "line": line.decode(),
    }


def _fields_of(line: bytes) -> dict[str, Any]:
    """Take what BSON can hold of a message's fields."""
    message = decode_line(line)
    if not isinstance(message, dict):
        return {}
    own = {name: value for name, value in message.items() if name not in _BESIDE}
    found: dict[str, Any] = _bson_of(own, 0)
    return found


def _bson_of(value: Any, depth: int) -> Any:
    """Take what BSON can hold of a value, and can be asked for by its name."""
    if isinstance(value, str):
        return value if _is_text(value) else _LEFT_OUT
    if isinstance(value, int):
        return value if -_MOST_INTEGER <= value < _MOST_INTEGER else _LEFT_OUT
    if isinstance(value, list | dict) and depth > _MOST_DEPTH:
        return _LEFT_OUT
    if isinstance(value, list):
        items = (_bson_of(item, depth + 1) for item in value)
        return [None if item is _LEFT_OUT else item for item in items]
    if isinstance(value, dict):
        pairs = (
            (name, _bson_of(item, depth + 1)) for name, item in value.items() if _is_name(name)
        )
        return {name: item for name, item in pairs if item is not _LEFT_OUT}
    return value


def _is_name(name: str) -> bool:
    """Say whether a name means nothing else to MongoDB."""
    return not name.startswith("$") and "." not in name and "\0" not in name and _is_text(name)


def _is_text(text: str) -> bool:
    """Say whether a text has no halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
