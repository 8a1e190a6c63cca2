"""The fields of a journal entry: how they are written, and what their names and values are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from eliot_etw import _names as names
from eliot_etw._levels import CRITICAL, ERROR, INFO, WARNING, level_of
from eliot_etw._safe import safe_str
from eliot_etw.destinations._sentence import text_for_people
from eliot_etw.typing import JsonDefault, MessageDict

# journald ignores an entry with more than 1,024 fields, of which it adds some two dozen itself.
MAX_FIELDS: Final = 500
_MAX_NAME: Final = 64
# Put before a name that would not be legal, or has a meaning of its own in the journal.
_BEFORE: Final = "FIELD_"
# What journald, journalctl and we ourselves give a meaning to.
_RESERVED: Final = re.compile(
    r"(MESSAGE|PRIORITY|ERRNO|TID|UNIT|USER_UNIT|INVOCATION_ID|USER_INVOCATION_ID|DOCUMENTATION)$"
    r"|(MESSAGE_|CODE_|SYSLOG_|OBJECT_|COREDUMP_|ELIOT_)"
)
_NOT_LEGAL: Final = re.compile(r"[^A-Z0-9_]")
# What has fields of its own.
_PLACED: Final = names.PLACE_FIELDS | {names.MESSAGE_TYPE, names.ACTION_TYPE}

# The lowest level of the module `logging` for each priority of syslog, the gravest first.
_PRIORITIES: Final = ((CRITICAL, 2), (ERROR, 3), (WARNING, 4), (INFO, 6))
_DEBUG_PRIORITY: Final = 7


def field(name: bytes, value: str) -> bytes:
    r"""Write a field of an entry. Half surrogates become visible.

    >>> field(b"UNIT", "a"), field(b"TEXT", "a\nb")
    (b'UNIT=a\n', b'TEXT\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n')
    """
    return bytes_field(name, str.encode(value, "utf-8", "backslashreplace"))


def bytes_field(name: bytes, value: bytes) -> bytes:
    """Write a field whose value is bytes.

    Source:
        https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: a value with a newline goes after its length.
    """
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name, len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name, value)


def priority_of(message: MessageDict) -> int:
    """Return the priority of a message, as syslog numbers them: 2 for critical to 7 for debug."""
    try:
        level = level_of(message)
    except Exception:  # noqa: BLE001 - a level of any type, whose methods may raise anything
        level = INFO
    found = (priority for least, priority in _PRIORITIES if level >= least)
    return next(found, _DEBUG_PRIORITY)


def legal_name(name: str) -> bytes:
    """Make a name that the journal takes: of capitals, digits and underscores, 64 at most.

    >>> legal_name("user-id"), legal_name("_x"), legal_name("2nd"), legal_name("message")
    (b'USER_ID', b'X', b'FIELD_2ND', b'FIELD_MESSAGE')
    """
    legal = _NOT_LEGAL.sub("_", str.upper(name)).lstrip("_")
    if not legal or legal[0].isdigit() or _RESERVED.match(legal):
        legal = _BEFORE + legal
    return legal[:_MAX_NAME].encode()


def user_fields(message: MessageDict, default: JsonDefault) -> Iterator[bytes]:
    """Write the fields of a message that the user chose, each as a field of the entry.

    Two of them whose names become the same are two values of one field, which the journal allows.
    """
    chosen = [item for item in list(message.items()) if item[0] not in _PLACED]
    for name, value in chosen[:MAX_FIELDS]:
        yield field(legal_name(safe_str(name)), text_for_people(value, default))
