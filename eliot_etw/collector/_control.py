"""What who changes levels says to a collector, as bytes: typed, bounded, never executed.

One frame there, one back, over the same port as messages, but marked otherwise.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias, final

from msgspec import DecodeError, Meta, Struct
from msgspec.msgpack import Decoder, Encoder

from eliot_etw.exceptions import ProtocolError
from eliot_etw.shipping._protocol import LevelRule

MAGIC: Final = b"\xebEC\x01"
"""Begins a frame: three bytes that mark it, and the version."""
MAX_FOR_S: Final = 31 * 24 * 3600
"""How long a rule may be in force, in s."""

_Name: TypeAlias = Annotated[str, Meta(max_length=255)]


@final
class SetLevel(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """To the collector: a rule is to be in force from now on.

    Attributes:
        rule: The rule; a pattern that is in force already for the same senders is replaced.
    """

    rule: LevelRule


@final
class ClearLevels(Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """To the collector: rules are to end now.

    Attributes:
        pattern: Which: those with this very pattern; all, if it is empty.
    """

    pattern: _Name = ""


@final
class ListLevels(Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """To the collector: which rules are in force, and for whom?"""


@final
class SenderLevels(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is in force at a sender.

    Attributes:
        host: The name of its machine.
        program: Its name.
        pid: The number of its process.
        revision: The number of the list that it has confirmed; -1 for none.
        matching: How many rules of that list are for it.
    """

    host: str
    program: str
    pid: int
    revision: int
    matching: int


@final
class LevelReport(Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """From the collector: what is in force now.

    Attributes:
        revision: The number of the list of rules.
        rules: The rules, those that count first come first.
        senders: All senders that are connected.
    """

    revision: int
    rules: list[LevelRule]
    senders: list[SenderLevels]


@final
class Denied(Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """From the collector: that is not for you, or cannot be."""

    reason: str


Request: TypeAlias = SetLevel | ClearLevels | ListLevels
Control: TypeAlias = Request | LevelReport | Denied

_encode: Final = Encoder().encode
_decode: Final = Decoder(Control).decode


def encode(message: Control) -> bytes:
    """Write a message as a frame."""
    return MAGIC + _encode(message)


def decode(frame: bytes | memoryview) -> Control:
    """Read a frame that begins with `MAGIC`.

    Raises:
        ProtocolError: If it is none of these messages.
    """
    try:
        message: Control = _decode(memoryview(frame)[len(MAGIC) :])
    except (DecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"A request must be one of ours: {error}.") from None
    return message
