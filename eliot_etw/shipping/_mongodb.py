"""A collection of MongoDB with messages in it: each is one document, found by its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, final

from eliot_etw._require import require
from eliot_etw.shipping._engines import without_password, wrong_url

DEFAULT_URL: Final = "mongodb://127.0.0.1:27017/eliot"
DEFAULT_COLLECTION: Final = "messages"

# What is asked for often, and the order in which messages came.
_ORDER: Final = [("arrived", 1), ("number", 1)]
_INDEXES: Final = (_ORDER, [("task_uuid", 1)], [("type", 1), ("timestamp", 1)])
# Codes of MongoDB's `error_codes.yml`: something with the key is there already; and what it says
# of a document that it will never take: BadValue, InvalidBSON, DollarPrefixedFieldName,
# EmptyFieldName, DocumentValidationFailure, BSONObjectTooLarge.
_IS_THERE: Final = 11000
_OF_A_DOCUMENT: Final = frozenset({2, 22, 52, 56, 121, 10334})
_OWN_INDEX: Final = {"_id": 1}


class Outcome(NamedTuple):
    """What became of documents that were to be inserted.

    Attributes:
        repeated: How many were there already.
        refused: Those that can never be there, by their place among them, and why.
    """

    repeated: int
    refused: Mapping[int, str]


@final
class MongoCollection:
    """One collection of a MongoDB, to insert messages into and to read them from.

    Attributes:
        name: The collection.
        url: Where MongoDB is, without a password, for reports.
        errors: What the methods raise if MongoDB cannot be reached, or refuses.
    """

    def __init__(self, url: str, name: str, *, timeout_s: float, feature: str) -> None:
        """Check the settings; the first call connects.

        Args:
            url: ``mongodb://user:password@host:port/database``, with options of MongoDB's own
                after a question mark; ``mongodb+srv:`` if the DNS knows the hosts.
            name: The collection.
            timeout_s: How long to look for a server, and to wait for each answer.
            feature: Who asks, for the report that pymongo is not installed.

        Raises:
            MissingDependency: If pymongo is not installed.
            ValueError: If a setting is wrong.
        """
        pymongo: Any = require("pymongo", feature=feature, extra="mongodb")
        if not name:
            msg = f"The collection must have a name, got {name!r}. Try {DEFAULT_COLLECTION!r}."
            raise ValueError(msg)
        if not timeout_s > 0:
            msg = f"timeout_s must be more than 0, got {timeout_s!r}. Try 10.0."
            raise ValueError(msg)
        self.name = name
        self.url = without_password(url)
        self._index = pymongo.IndexModel
        self._bulk_error: Any = pymongo.errors.BulkWriteError
        self.errors: tuple[type[Exception], ...] = (pymongo.errors.PyMongoError,)
        wait_ms = int(timeout_s * 1000)
        try:
            self._client: Any = pymongo.MongoClient(
                url,
                connect=False,
                appname="eliot-etw",
                serverSelectionTimeoutMS=wait_ms,
                connectTimeoutMS=wait_ms,
                socketTimeoutMS=wait_ms,
            )
            found = self._client.get_default_database("eliot")[name]
        except (pymongo.errors.PyMongoError, ValueError) as error:
            raise wrong_url("MongoDB", url, DEFAULT_URL, str(error)) from None
        self._collection: Any = found
        if not found.write_concern.document:  # else the URL says what is enough
            safe = pymongo.WriteConcern(w="majority", j=True)
            self._collection = found.with_options(write_concern=safe)

    def prepare(self) -> int:
        """Make the indexes that are missing.

        Returns:
            When the latest of its messages arrived; 0 if it has none.
        """
        self._collection.create_indexes([self._index(fields) for fields in _INDEXES])
        latest = self._collection.find_one({}, {"arrived": 1}, sort=[("arrived", -1)])
        return int(latest["arrived"]) if latest else 0

    def insert(self, documents: Sequence[Mapping[str, Any]]) -> Outcome:
        """Insert documents that are not there yet, by their ``_id``.

        If it raises, some of them may be there.
        """
        if not documents:
            return Outcome(0, {})
        try:
            self._collection.insert_many(documents, ordered=False)
        except self._bulk_error as error:
            failed = error.details["writeErrors"]
            refused = {each["index"]: each["errmsg"] for each in failed if _is_refusal(each)}
            repeated = sum(map(_is_repeated, failed))
            if error.details["writeConcernErrors"] or repeated + len(refused) < len(failed):
                raise
            return Outcome(repeated, refused)
        return Outcome(0, {})

    def find(self, where: Mapping[str, Any], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Read documents in the order in which they came, in bounded memory.

        Args:
            where: A query of MongoDB's.
            fields: Which fields of them, besides ``_id``.
        """
        found = self._collection.find(where, dict.fromkeys(fields, 1))
        # Of a few tasks, or of messages by their ids, MongoDB may have to sort.
        with found.sort(_ORDER).allow_disk_use(True) as cursor:
            yield from cursor

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _is_repeated(error: Mapping[str, Any]) -> bool:
    """Say whether a document was there already, and not only something like it."""
    is_own: bool = error.get("keyPattern", _OWN_INDEX) == _OWN_INDEX
    return is_own and error["code"] == _IS_THERE


def _is_refusal(error: Mapping[str, Any]) -> bool:
    """Say whether a document can never be inserted."""
    return not _is_repeated(error) and error["code"] in {_IS_THERE, *_OF_A_DOCUMENT}
