"""What our handlers share: they hold no lock, and say what a record says, whatever it is."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from eliot_etw._counter import Counter
from eliot_etw._safe import safe_repr, safe_str


class SharedHandler(logging.Handler):
    """A handler whose `emit` any number of threads may be in."""

    def __init__(self, level: int | str) -> None:
        self._errors = Counter()
        super().__init__(level)

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record if the filters let it pass. There is nothing that needs a lock."""
        if self.filters:
            passed: Any = self.filter(record)
            if not passed:
                return False
            if isinstance(passed, logging.LogRecord):  # since Python 3.12
                record = passed
        self.emit(record)
        return True

    def _failed(self, record: logging.LogRecord) -> None:
        """Count, and tell as all handlers do, that something is wrong with a record."""
        self._errors.add()
        # It raises RecursionError, and others may put another in its place.
        with suppress(Exception):
            self.handleError(record)

    def _message(self, record: logging.LogRecord) -> str:
        """Return a record's message; its parts, if they do not fit together."""
        try:
            return str(record.getMessage())
        except Exception:  # noqa: BLE001 - arguments of any kind
            self._failed(record)
            return " ".join([safe_str(record.msg), safe_repr(record.args)])
