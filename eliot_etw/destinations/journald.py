"""Messages as entries of the journal of systemd."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Final, final

from orjson import dumps

from eliot_etw._json import LINE_OPTIONS, choose_default, encode_carefully
from eliot_etw._levels import type_of
from eliot_etw._safe import safe_str
from eliot_etw.destinations._journal_fields import field, priority_of, user_fields
from eliot_etw.destinations._journal_socket import MAX_WAIT_S, JournalSocket, path_of
from eliot_etw.destinations._sentence import sentence_of
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

# So much is kept of what depends on type, status and level: most programs have fewer of them.
_MOST_KEPT: Final = 1000
_LONGEST_KEPT: Final = 1000
_KEPT_TYPES: Final = frozenset({str, int, type(None)})


@final
class JournaldDestination:
    """Writes each message as one entry to the journal of systemd, by its native protocol.

    ``MESSAGE`` has the message as JSON, ``ELIOT_TASK`` its task, ``ELIOT_TYPE`` its type,
    ``PRIORITY`` how grave it is: 2 for a traceback, 3 for a failed action, else what ``log_level``
    says, else 6.

    If the journal is full, the call waits a tenth of a second at most, and then not again until
    the journal takes entries again. If it is gone, it does not wait at all, and finds it when it
    is back. What is lost in either case is a destination failure, and counted by `stats`. What
    the journal took and did not keep (it has limits of rate and size), only the journal knows.
    """

    def __init__(
        self,
        *,
        identifier: str | None = None,
        sentences: bool = False,
        index_fields: bool = False,
        namespace: str | None = None,
        socket_path: str | os.PathLike[str] | None = None,
        max_wait_s: float = MAX_WAIT_S,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Connect to the journal.

        Args:
            identifier: What ``SYSLOG_IDENTIFIER`` says; the name of the program if left out.
            sentences: Whether ``MESSAGE`` is a line for people, and the JSON in ``ELIOT_MESSAGE``.
            index_fields: Whether the message's own fields are fields of the journal too, which
                ``journalctl USER_ID=7`` finds.
            namespace: The journal's namespace, if it is not that of the system.
            socket_path: Where the journal listens, if it is not the usual place.
            max_wait_s: How long to wait for a journal that is full, in seconds.
            json_default: Converts values that JSON does not know. If it raises, the value's
                `repr` is written.

        Raises:
            OSError: If this is not Linux, or no journal listens.
            ValueError: If both a namespace and a path are given, or `max_wait_s` is less than
                a thousandth.
        """
        self._socket = JournalSocket(path_of(socket_path, namespace), max_wait_s)
        if identifier is None:
            identifier = os.path.basename(sys.argv[0])
        self._identifier = field(b"SYSLOG_IDENTIFIER", identifier)
        self._default = choose_default(None, json_default)
        self._has_more = sentences or index_fields
        self._sentences, self._index_fields = sentences, index_fields
        # The fields before the message: for the task of the last one, and for each kind.
        self._last_task: tuple[Any, bytes] = (None, b"")
        self._kinds: dict[Any, bytes] = {}
        # To the dispatcher: nothing that is called here logs.
        self.is_leaf = True

    def __call__(self, message: MessageDict) -> None:
        """Write a message. Raises OSError if it is lost; the dispatcher reports it."""
        try:
            line = dumps(message, None, LINE_OPTIONS)
        except TypeError:
            line = encode_carefully(message, self._default)
        task, task_field = self._last_task
        if message.get("task_uuid") is not task:
            task_field = self._task_field(message)
        key: Any = message.get("message_type")
        if "action_type" in message:
            key = message["action_type"], message.get("action_status")
        elif "log_level" in message:
            key = key, message["log_level"], None
        try:
            entry = task_field + self._kinds[key] + line
        except Exception:  # noqa: BLE001 - a new kind, or one whose methods raise anything
            entry = task_field + self._kind_fields(message, key) + line
        if self._has_more:
            entry += b"".join(self._more(message))
        try:
            self._socket.send_now(entry)
        except OSError as error:
            self._socket.send_again(entry, error)

    def stats(self) -> dict[str, int]:
        """Count what went wrong.

        Returns:
            ``failed``: the messages that were lost; ``full``: those of them that the journal had
            no room for.
        """
        return {"failed": self._socket.failed.value, "full": self._socket.full.value}

    def close(self) -> None:
        """Close the connection. May be called twice; messages that still come are failures."""
        self._socket.close()

    def _task_field(self, message: MessageDict) -> bytes:
        """Write which task a message belongs to, and keep that for the next."""
        task = message.get("task_uuid")
        if task is None:
            return b""
        written = field(b"ELIOT_TASK", safe_str(task))
        if type(task) is str:
            self._last_task = task, written
        return written

    def _kind_fields(self, message: MessageDict, key: Any) -> bytes:
        """Write what depends on type, status and level, and keep it for the next of that kind.

        At its end is the name of the field with the message as JSON, which is to follow.
        """
        kind = type_of(message)
        written = b"%b%bPRIORITY=%d\n%b=" % (
            field(b"ELIOT_TYPE", "" if kind is None else safe_str(kind)),
            self._identifier,
            priority_of(message),
            b"ELIOT_MESSAGE" if self._sentences else b"MESSAGE",
        )
        parts = key if type(key) is tuple else (key,)
        has_room = len(self._kinds) < _MOST_KEPT and len(written) < _LONGEST_KEPT
        if has_room and all(type(part) in _KEPT_TYPES for part in parts):
            self._kinds[key] = written
        return written

    def _more(self, message: MessageDict) -> Iterator[bytes]:
        """Write the fields that the user asked for."""
        if self._sentences:
            yield field(b"MESSAGE", sentence_of(message, self._default))
        if self._index_fields:
            yield from user_fields(message, self._default)
