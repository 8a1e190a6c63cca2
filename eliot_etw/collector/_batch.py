"""Messages on their way through the collector: many lines at once, read only by who needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import compress
from typing import Final, NamedTuple, final, overload

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from eliot_etw._json import decode_line
from eliot_etw._levels import LOG_LEVEL, is_action, level_of, type_of
from eliot_etw._names import ACTION_STATUS, ACTION_TYPE, MESSAGE_TYPE
from eliot_etw._written import WrittenMessage, place_of
from eliot_etw.typing import MessageDict

# Two contents of one place are told apart by so much of a hash.
_DIGEST_BYTES = 8

# What every store has room for.
_MOST_LEVEL: Final = (1 << 31) - 1


class Origin(NamedTuple):
    """Where consecutive lines of a batch come from.

    Attributes:
        sender: Who sent them: a name that no other has, and that it keeps when it sends again.
            Empty if a sender's lines may come in another order than that of their numbers.
        numbers: The number of each line. A sender's numbers only grow; a line that is sent again
            has the number that it had.
    """

    sender: str
    numbers: Sequence[int]


class Key(NamedTuple):
    """What makes a message the same when it comes again.

    Two messages that claim one place but say different things have different keys: both stay.

    Attributes:
        task_uuid: Its task; empty if it has no place in one.
        task_level: Its place there, as ``/1/2``.
        digest: A hash of its line; of its origin, too, if it has no place.
    """

    task_uuid: str
    task_level: str
    digest: bytes

    def __str__(self) -> str:
        return f"{self.task_uuid}{self.task_level}#{self.digest.hex()}"


@final
class Head(Struct, gc=False, frozen=True):
    """What a message says of itself: read in a third of the time that the whole takes.

    Attributes:
        task_uuid: Its task; empty if it has no usable place.
        task_level: Its place there; empty if it has none.
        timestamp: Seconds since the epoch; None if it has no time that is a number.
        action_type: The type of the action that it begins or ends; empty if it does neither.
        message_type: Its type, if it has one that is text.
        action_status: ``started``, ``succeeded`` or ``failed``; whatever text it says.
        log_level: Its level, as it says: a name or a number.
    """

    task_uuid: str = ""
    task_level: list[int] = []
    timestamp: float | None = None
    action_type: str = ""
    message_type: str = ""
    action_status: str = ""
    log_level: str | int | None = None

    @property
    def type(self) -> str:
        """Its action type, or message type; empty if it has neither."""
        return self.action_type or self.message_type

    @property
    def level(self) -> int:
        """Its level, on the scale of `logging`, as far as an integer of 32 bits holds it."""
        if self.action_type:
            return level_of({ACTION_TYPE: self.action_type, ACTION_STATUS: self.action_status})
        level = level_of({MESSAGE_TYPE: self.message_type, LOG_LEVEL: self.log_level})
        return max(-_MOST_LEVEL, min(level, _MOST_LEVEL))

    @property
    def has_place(self) -> bool:
        """Whether it has a place in a task."""
        return bool(self.task_uuid and self.task_level) and min(self.task_level) > 0


@final
class Entry:
    """One message of a batch.

    Attributes:
        line: Its JSON, in UTF-8, without a newline.
        sender: Who sent it, see `Origin`.
        number: Its number there.
    """

    __slots__ = ("_head", "_message", "line", "number", "sender")

    def __init__(
        self, line: bytes, sender: str = "", number: int = 0, head: Head | None = None
    ) -> None:
        self.line = line
        self.sender = sender
        self.number = number
        self._head = head
        self._message: MessageDict | None = None

    def __repr__(self) -> str:
        return f"Entry({self.line!r}, {self.sender!r}, {self.number!r})"

    @property
    def message(self) -> MessageDict:
        """The message. Raises ValueError for a line that is no JSON, as no collected one is."""
        if self._message is None:
            self._message = decode_line(self.line)
        return self._message

    @property
    def head(self) -> Head:
        """What it says of itself."""
        if self._head is None:
            self._head = head_of(self.line)
        return self._head

    @property
    def key(self) -> Key:
        """What makes it the same when it comes again."""
        return key_of(self.line, self.head, self.sender, self.number)


@final
class Batch(Sequence[Entry]):
    """Messages that are stored together, in the order in which they came. Never changes.

    Whoever stores whole lines takes `lines`, which costs nothing for each message.

    Attributes:
        lines: The JSON of each message, in UTF-8, without a newline; it has none within.
        origins: Where they come from, piece by piece.
        size: The bytes of all lines.
    """

    __slots__ = ("_entries", "_heads", "lines", "origins", "size")

    def __init__(self, lines: Sequence[bytes], origins: Sequence[Origin] = ()) -> None:
        """Keep lines together.

        Args:
            lines: The JSON of each message.
            origins: Where they come from: as many numbers as there are lines. Without any, lines
                come from nobody.
        """
        self.lines = lines
        self.origins = origins or (Origin("", range(len(lines))),)
        self.size = sum(map(len, lines))
        self._entries: list[Entry] | None = None
        self._heads: list[Head] | None = None

    @property
    def heads(self) -> list[Head]:
        """What the messages say of themselves, each read at most once.

        `NO_HEAD` stands for a line that is no JSON object.
        """
        if self._heads is None:
            self._heads = list(map(head_of, self.lines))
        return self._heads

    def keys(self) -> Iterator[Key]:
        """Give the key of each message."""
        for line, head, (sender, number) in zip(
            self.lines, self.heads, self.places(), strict=True
        ):
            yield key_of(line, head, sender, number)

    @property
    def entries(self) -> list[Entry]:
        """The messages, each read at most once."""
        if self._entries is None:
            self._entries = [
                Entry(line, sender, number, head)
                for line, head, (sender, number) in zip(
                    self.lines, self.heads, self.places(), strict=True
                )
            ]
        return self._entries

    def places(self) -> Iterator[tuple[str, int]]:
        """Give the sender of each message, and its number there."""
        for sender, numbers in self.origins:
            for number in numbers:
                yield sender, number

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        return self.entries[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        return f"Batch({self.lines!r}, {self.origins!r})"

    def only(self, wanted: Sequence[bool]) -> Batch:
        """Make a batch of some of the messages.

        Args:
            wanted: For each message whether it is to be in it.
        """
        origins: list[Origin] = []
        start = 0
        for sender, numbers in self.origins:
            end = start + len(numbers)
            chosen = list(compress(numbers, wanted[start:end]))
            if chosen:
                origins.append(Origin(sender, chosen))
            start = end
        made = Batch(list(compress(self.lines, wanted)), origins)
        if self._heads is not None:
            made._heads = list(compress(self._heads, wanted))
        return made

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Make one batch of several."""
        if len(batches) == 1:
            return batches[0]
        made = cls(
            [line for batch in batches for line in batch.lines],
            [origin for batch in batches for origin in batch.origins],
        )
        if all(batch._heads is not None for batch in batches):
            made._heads = [head for batch in batches for head in batch.heads]
        return made


NO_HEAD: Final = Head()
"""Stands for a line that is no JSON object."""
_HEADS: Final = Decoder(Head)


def head_of(line: bytes) -> Head:
    """Read what a message says of itself; `NO_HEAD` of a line that is no JSON object."""
    try:
        return _HEADS.decode(line)
    except (DecodeError, ValueError, RecursionError):  # ValueError: text that is no UTF-8
        # Most are a field of another type than ours, or something that only Python's json reads.
        return _careful_head(line)


def _careful_head(line: bytes) -> Head:
    """Take from a message what has the type that it should have."""
    try:
        message = decode_line(line)
    except (ValueError, RecursionError):
        return NO_HEAD
    if type(message) is not dict:
        return NO_HEAD
    uuid, level = place_of(message) or ("", [])
    kind = _text(type_of(message))
    return Head(
        _text(uuid),
        level,
        WrittenMessage(message).timestamp,
        action_type=kind if is_action(message) else "",
        message_type="" if is_action(message) else kind,
        action_status=_text(message.get(ACTION_STATUS)),
        log_level=level_of(message),
    )


def _text(value: object) -> str:
    """Take a text, with halves of surrogate pairs made visible; nothing of what is none."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def key_of(line: bytes, head: Head, sender: str = "", number: int = 0) -> Key:
    """Return what makes a message the same when it comes again."""
    if head.has_place:
        digest = blake2b(line, digest_size=_DIGEST_BYTES).digest()
        return Key(head.task_uuid, "/" + "/".join(map(str, head.task_level)), digest)
    origin = f"{sender}\n{number}\n".encode() if sender else b""
    return Key("", "", blake2b(origin + line, digest_size=_DIGEST_BYTES).digest())
