"""Messages in a table of ClickHouse."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import monotonic, sleep, time_ns
from typing import Final, final

from eliot_etw._json import encode_line
from eliot_etw.collector.sinks import Batch, BlockingSink, MessagesRefused, SinkUnavailable
from eliot_etw.shipping._clickhouse import (
    DEFAULT_TABLE,
    DEFAULT_URL,
    ClickHouseTable,
    Refused,
)

# Each insert is a part on the disk of ClickHouse, which it merges with others. It wants some
# large ones in a second, not many small ones; so one that is smaller waits for its turn.
_LARGE_BYTES: Final = 1 << 20
# The last bits of the time of arrival tell apart sinks that write to one table.
_WRITER_BITS: Final = 16
# What it is that ClickHouse does not want, if the table is right: a row of it, not the rest. From
# its `ErrorCodes.cpp`: CANNOT_PARSE_TEXT, ..._QUOTED_STRING, ..._INPUT_ASSERTION_FAILED,
# ARGUMENT_OUT_OF_BOUND, CANNOT_PARSE_NUMBER, INCORRECT_DATA, TOO_LARGE_STRING_SIZE,
# CANNOT_PARSE_UUID, FUNCTION_THROW_IF_VALUE_IS_NON_ZERO, VIOLATED_CONSTRAINT.
_OF_A_ROW: Final = frozenset({6, 26, 27, 69, 72, 117, 131, 376, 395, 469})


@final
class ClickHouseSink(BlockingSink):
    """Inserts messages into a table, over HTTP; it makes the table if that is missing.

    An insert is all or nothing. If it is doubtful whether one was taken, it is sent again; what
    is there twice then is one row to who reads with ``FINAL``, as our source does, and to
    everybody once ClickHouse has merged its parts.

    What is stored outlives the end of ClickHouse; a loss of power only if it is told to write to
    the disk at once (``fsync_after_insert``), or has replicas.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        table: str = DEFAULT_TABLE,
        every_s: float = 0.5,
        timeout_s: float = 30.0,
    ) -> None:
        """Check the settings; the first batch connects.

        Args:
            url: Where ClickHouse is, as ``clickhouse://user:password@host:port/database``, or
                ``clickhouses:`` with TLS.
            table: The name of the table.
            every_s: How much time is between two inserts, if they are small.
            timeout_s: How long ClickHouse may take to answer.

        Raises:
            ValueError: If a setting is wrong.
        """
        if not every_s >= 0:
            msg = f"every_s must be at least 0, got {every_s!r}. Try 0.5."
            raise ValueError(msg)
        self._table = ClickHouseTable(url, table, timeout_s=timeout_s)
        self._every_s = every_s
        self._next_at = 0.0
        self._is_prepared = False
        self._writer = int.from_bytes(os.urandom(_WRITER_BITS // 8), "big")
        self._arrived = 0
        self._counts = {"inserts": 0, "repeated": 0}

    def store(self, batch: Batch) -> None:
        """Insert messages.

        Raises:
            SinkUnavailable: If ClickHouse cannot be reached, or refuses all.
            MessagesRefused: If it refuses some.
        """
        rows = _rows_of(batch)
        if batch.size < _LARGE_BYTES:
            sleep(max(0.0, self._next_at - monotonic()))
        try:
            if not self._is_prepared:
                self._arrived = max(self._arrived, self._table.prepare())
                self._is_prepared = True
            refused = self._insert(list(rows.items()))
        except OSError as error:
            self._is_prepared = False
            raise SinkUnavailable(f"{self._table.url}: {error}") from error
        self._counts["repeated"] += len(batch) - len(rows)
        self._next_at = monotonic() + self._every_s
        if refused:
            raise MessagesRefused(refused)

    def _insert(self, rows: Sequence[tuple[int, bytes]]) -> dict[int, str]:
        """Insert rows; return those that can never be, and why."""
        step = 1 << _WRITER_BITS
        now = time_ns() // step * step + self._writer
        self._arrived = max(now, (self._arrived // step + 1) * step + self._writer)
        arrived = b',"arrived":%d}\n' % self._arrived
        try:
            self._table.insert(b"".join(row + arrived for _, row in rows))
        except Refused as error:
            if error.code not in _OF_A_ROW:
                raise
            if len(rows) == 1:
                return {rows[0][0]: str(error)}
            half = len(rows) // 2
            return {**self._insert(rows[:half]), **self._insert(rows[half:])}
        self._counts["inserts"] += 1
        return {}

    def stats(self) -> dict[str, int]:
        """Count what happened: ``inserts``; ``repeated``, messages twice in one batch."""
        return self._counts.copy()


def _rows_of(batch: Batch) -> dict[int, bytes]:
    """Make a row of each message, by its index, but for its end: when it arrived."""
    rows: dict[int, bytes] = {}
    seen = set()
    for number, (line, head, key) in enumerate(
        zip(batch.lines, batch.heads, batch.keys(), strict=True)
    ):
        if key in seen:
            continue
        seen.add(key)
        row = {
            "task_uuid": key.task_uuid,
            "task_level": key.task_level,
            "key": key.digest.hex(),
            "timestamp": head.timestamp,
            "type": head.type,
            "status": head.action_status,
            "level": head.level,
            "line": line.decode(),
            "number": number,
        }
        rows[number] = encode_line(row)[:-2]
    return rows
