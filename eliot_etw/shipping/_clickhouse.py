"""A table of ClickHouse with messages in it, over HTTP: rows in, rows out, in bounded memory."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from json import loads
from typing import Any, Final, final
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from eliot_etw.shipping._engines import without_password, wrong_url

DEFAULT_URL: Final = "clickhouse://127.0.0.1:8123/default"
DEFAULT_TABLE: Final = "messages"

# How each scheme is spoken, and the usual port.
_SCHEMES: Final = {
    "clickhouse": (HTTPConnection, 8123),
    "clickhouses": (HTTPSConnection, 8443),
    "http": (HTTPConnection, 8123),
    "https": (HTTPSConnection, 8443),
}
# The columns in which a message is, and those that say in which order they came.
_COLUMNS: Final = {
    "task_uuid": "String",
    "task_level": "String",
    "key": "String",
    "timestamp": "Nullable(Float64)",
    "type": "String",
    "status": "String",
    "level": "Int32",
    "line": "String",
    "arrived": "UInt64",
    "number": "UInt32",
}
# What is sent again has the same place and key, and is one row: after the next merge, and before
# for who reads with FINAL. All rows of an insert arrived at once, so they are in one partition,
# and ClickHouse takes all of them or none. A day that is no longer wanted is dropped at once.
_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS {table} ({columns}) ENGINE = ReplacingMergeTree() "
    "PARTITION BY toYYYYMMDD(toDateTime(intDiv(arrived, 1000000000), 'UTC')) "
    "ORDER BY (task_uuid, task_level, key)"
)
# Codes of ClickHouse's `ErrorCodes.cpp`.
_UNKNOWN_TABLE: Final = 60
_READ_ONLY: Final = 164
# Older servers do not know the setting, and read what is inserted in one piece anyway.
_PARALLEL_SINCE: Final = 20
_MOST_SAID: Final = 500
_CHUNK_BYTES: Final = 1 << 16
_SORT_BYTES: Final = 256 << 20
_CONNECT_S: Final = 10.0
_ERROR_CODE: Final = re.compile(r"Code: (\d+)")
_NUMBER: Final = re.compile(rb"\d+")


class Refused(OSError):
    """ClickHouse answered, and said no.

    Attributes:
        code: Its number for the reason; 0 if it gave none.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


@final
class ClickHouseTable:
    """One table of a ClickHouse. Each request has a connection of its own.

    Attributes:
        name: The table.
        url: Where ClickHouse is, without a password, for reports.
    """

    def __init__(self, url: str, name: str, *, timeout_s: float) -> None:
        """Check the settings; nothing is asked yet.

        Args:
            url: ``clickhouse://user:password@host:port/database``; ``clickhouses:`` with TLS.
            name: The table.
            timeout_s: How long ClickHouse may take to answer. To connect, it has 10 s at most.

        Raises:
            ValueError: If a setting is wrong.
        """
        if not timeout_s > 0:
            msg = f"timeout_s must be more than 0, got {timeout_s!r}. Try 30.0."
            raise ValueError(msg)
        if not name:
            raise ValueError(f"The table must have a name, got {name!r}. Try {DEFAULT_TABLE!r}.")
        parts = _parts_of(url)
        self._make, usual = _SCHEMES[parts.scheme]
        self._address = (parts.hostname or "", parts.port or usual)
        self._timeout_s = timeout_s
        self._database = unquote(parts.path.strip("/"))
        self._headers = {"Connection": "close"}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        self.name = name
        self.url = without_password(url)
        escaped = name.replace("\\", "\\\\").replace("`", "\\`")
        self._quoted = f"`{escaped}`"
        self._insert_settings: dict[str, str] | None = None

    def prepare(self) -> int:
        """Make the table if it is missing, and see that it has the columns.

        Returns:
            When the latest of its rows arrived; 0 if it has none.

        Raises:
            OSError: If ClickHouse cannot be reached, or refuses.
        """
        columns = ", ".join(_COLUMNS)
        try:
            self._ask(f"SELECT {columns} FROM {self._quoted} LIMIT 0".encode())  # noqa: S608 - quoted
        except Refused as error:
            if error.code != _UNKNOWN_TABLE:
                raise
            typed = ", ".join(f"{name} {type_}" for name, type_ in _COLUMNS.items())
            self._ask(_CREATE.format(table=self._quoted, columns=typed).encode())
        if self._insert_settings is None:
            # Else it takes long inserts in several pieces, and refuses lines of some megabytes.
            takes_pieces = self._number("SELECT version()") >= _PARALLEL_SINCE
            self._insert_settings = {"input_format_parallel_parsing": "0"} if takes_pieces else {}
        return self._number(f"SELECT max(arrived) FROM {self._quoted}")  # noqa: S608 - quoted

    def insert(self, rows: bytes) -> None:
        """Insert rows, all or none. To be called after `prepare`.

        Args:
            rows: Objects of JSON, each with all columns, in lines.

        Raises:
            OSError: If ClickHouse cannot be reached, or refuses.
        """
        columns = ", ".join(_COLUMNS)
        query = f"INSERT INTO {self._quoted} ({columns}) FORMAT JSONEachRow"
        said = self._ask(rows, query=query, **(self._insert_settings or {})).strip()
        if said:  # somebody else, as a proxy that wants to know who this is
            raise _refusal(said, "an odd answer")

    def rows(self, columns: str, *, once: bool, where: str) -> Iterator[dict[str, Any]]:
        """Read rows in the order in which they came.

        Args:
            columns: Which columns.
            once: Whether ClickHouse is to leave out what was sent again. It reads all that may be
                repeated then, wherever it is in the table.
            where: A condition in SQL.

        Raises:
            OSError: If ClickHouse cannot be reached, refuses, or stops in the middle.
        """
        query = (
            f"SELECT {columns} FROM {self._quoted} {'FINAL ' if once else ''}"  # noqa: S608 - quoted
            f"WHERE {where} ORDER BY arrived, number FORMAT JSONEachRow"
        )
        # What is sorted is put on disk if it is large.
        settings = {"max_bytes_before_external_sort": str(_SORT_BYTES)}
        try:
            yield from self._rows(query, **settings)
        except Refused as error:
            if error.code != _READ_ONLY:
                raise
            yield from self._rows(query)  # a user that may read, and set nothing

    def _rows(self, query: str, **settings: str) -> Iterator[dict[str, Any]]:
        with self._posted(query.encode(), **settings) as answer:
            yield from map(_row_of, _lines_of(answer))

    def _number(self, query: str) -> int:
        """Ask for a number, or for what begins with one."""
        said = self._ask(query.encode())
        found = _NUMBER.match(said)
        if not found:
            raise _refusal(said, "an odd answer")
        return int(found[0])

    def _ask(self, body: bytes, **parameters: str) -> bytes:
        """Send something, and return the answer."""
        with self._posted(body, **parameters) as answer:
            return answer.read()

    @contextmanager
    def _posted(self, body: bytes, **parameters: str) -> Iterator[HTTPResponse]:
        """Send a request, and give the answer if it is yes."""
        host, port = self._address
        connection = self._make(host, port, timeout=min(self._timeout_s, _CONNECT_S))
        if self._database:
            parameters["database"] = self._database
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout_s)
            # Who does not want the body may hang up before it has it all, and say why.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", f"/?{urlencode(parameters)}", body, self._headers)
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise _refusal(answer.read(_CHUNK_BYTES), f"HTTP {answer.status}")
            yield answer
        # Who hangs up before it has read all is heard as a reset.
        except (HTTPException, ConnectionResetError) as error:
            raise OSError(f"no answer, or not all of it: {error!r}") from error
        finally:
            connection.close()


def quoted(text: str) -> str:
    r"""Write a text as SQL of ClickHouse has it.

    >>> print(quoted("it's"))
    'it\'s'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _parts_of(url: str) -> SplitResult:
    """Take a URL apart. Raises ValueError if it is none of ClickHouse."""
    with suppress(ValueError):  # it, or its port, is none
        parts = urlsplit(url)
        is_right = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        if is_right and not (parts.query or parts.fragment or "/" in parts.path.strip("/")):
            return parts
    raise wrong_url("ClickHouse's HTTP port", url, DEFAULT_URL)


def _lines_of(answer: HTTPResponse) -> Iterator[bytes]:
    """Read the lines of an answer as they come."""
    rest = b""
    while chunk := answer.read(_CHUNK_BYTES):
        first, *more = chunk.split(b"\n")
        rest += first
        if more:
            yield rest
            yield from more[:-1]
            rest = more[-1]
    if answer.length:  # http.client says so only of an answer in chunks
        raise IncompleteRead(rest, answer.length)
    if rest:
        yield rest


def _row_of(line: bytes) -> dict[str, Any]:
    """Read a row; raise what is there in its place if ClickHouse failed in the middle."""
    if line.startswith(b'{"') and not line.startswith(b'{"exception"'):
        row: dict[str, Any] = loads(line.decode("utf-8", "replace"))
        return row
    raise _refusal(line, "an odd answer")


def _refusal(said: bytes, otherwise: str) -> Refused:
    """Make an exception of what ClickHouse says of a failure."""
    text = said.decode("utf-8", "replace").strip()
    found = _ERROR_CODE.search(text)
    return Refused(text[:_MOST_SAID] or otherwise, int(found[1]) if found else 0)
