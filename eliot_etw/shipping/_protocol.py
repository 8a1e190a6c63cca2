"""What a sender and a collector say to each other, as bytes: typed, bounded, never executed.

A message is one frame: three bytes that mark it, one byte with the version, and an array in
MessagePack, whose first item tells the kind of message.

A conversation: the sender says `Hello`, the collector `Welcome`. Then the sender sends `Batch`
after `Batch`, as many as the window allows, and the collector answers `Ack` when what it has is
safe. Whoever has nothing to say sends `Ping` now and then, and gets `Pong`. The collector may send
`Levels` at any time, and the sender answers `LevelsInForce`. After a new connection all begins
again with `Hello`; what was not acknowledged is sent again under the same numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, Literal, TypeAlias, final

from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.msgpack import Decoder, Encoder

from eliot_etw._json import decode_line, encode_line
from eliot_etw.exceptions import ProtocolError

VERSION: Final = 1
MAGIC: Final = b"\xebEW"
MAX_FRAME_BYTES: Final = 16 << 20
"""What a frame may have, and the payload of a batch when it is decompressed."""
MAX_OVERHEAD_BYTES: Final = 1 << 10
"""What a `Batch` has around its payload at most."""
MAX_MESSAGES: Final = 10_000
"""How many messages a batch may have."""
MAX_RULES: Final = 1_000
"""How many rules about levels may be in force at a time."""
MAX_MAP_BYTES: Final = 256 << 10
"""How large a message may be as a map of MessagePack; a larger one is sent as a line of JSON. Maps
must be built to be read, and take up to 72 times as much memory then; lines need not."""

_HEADER: Final = MAGIC + bytes([VERSION])
# MessagePack's marks of short arrays, whose number of items is in the mark, and of others, with
# how many bytes that number has; and those of bytes.
_SHORT_ARRAY: Final = 0x90
_MOST_SHORT: Final = 0x0F
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_BYTES: Final = b"\xc4\xc5\xc6"

Format: TypeAlias = Literal["json", "msgpack"]
Compression: TypeAlias = Literal["", "zlib"]

_Identity: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
_Name: TypeAlias = Annotated[str, Meta(max_length=255)]
_Text: TypeAlias = Annotated[str, Meta(max_length=1_000)]
_Number: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Sequence: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Level: TypeAlias = Annotated[int, Meta(ge=-(10**6), le=10**6)]
# A month: what is set for longer is to be written into the program's own set-up.
_RemainingMs: TypeAlias = Annotated[int, Meta(ge=0, le=31 * 24 * 3600 * 1000)]


@final
class Hello(Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Sender to collector, first of all on each connection: who it is.

    Attributes:
        versions: The versions of the protocol that it speaks.
        sender: 16 random bytes, others for each process and each start of it.
        host: The name of its machine.
        pid: The number of its process there.
        program: Its name.
        started_ns: When it started, in ns since 1970.
        format: What its batches have in them.
    """

    versions: Annotated[tuple[Annotated[int, Meta(ge=0, le=255)], ...], Meta(max_length=16)]
    sender: _Identity
    host: _Name
    pid: _Number
    program: _Name
    started_ns: _Number
    format: Format


@final
class LevelRule(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Sets a level for a while, for what fits all of its patterns, which are globs.

    Attributes:
        pattern: Types of actions and messages, and names of loggers.
        level: The least level that passes, on the scale of `logging`.
        remaining_ms: How long it is in force from now, in ms.
        program: Names of programs, or the number of a process as text.
        host: Names of machines.
    """

    pattern: _Name
    level: _Level
    remaining_ms: _RemainingMs
    program: _Name = "*"
    host: _Name = "*"


_Rules: TypeAlias = Annotated[tuple[LevelRule, ...], Meta(max_length=MAX_RULES)]


@final
class Welcome(Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """Collector to sender: it may send.

    Attributes:
        version: The version of the protocol that both will speak.
        collector: 16 random bytes, others for each start of the collector.
        acknowledged: The number of the last message of this sender that is safe; 0 if the
            collector knows of none. What follows is to be sent again.
        max_batch_bytes: What the payload of a batch may have.
        max_messages: How many messages it may have.
        window_bytes: How many bytes of payload may be under way without an `Ack`; one batch
            always may.
        revision: The number of the list of levels.
        levels: All rules about levels that are in force, those that count first come first.
    """

    version: Annotated[int, Meta(ge=0, le=255)]
    collector: _Identity
    acknowledged: _Number
    max_batch_bytes: Annotated[int, Meta(ge=1, le=MAX_FRAME_BYTES)]
    max_messages: Annotated[int, Meta(ge=1, le=MAX_MESSAGES)]
    window_bytes: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    revision: _Number = 0
    levels: _Rules = ()


@final
class Batch(Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """Sender to collector: messages, with numbers one after another.

    Attributes:
        sender: Whose they are: as in `Hello`, or of a process that is gone and left them on disk.
        first: The number of the first one, counted from 1 for each sender. There may be gaps,
            where the sender had to drop messages.
        count: How many there are.
        format: Lines of JSON, each with its newline; or an array of MessagePack, see `messages`.
        compression: How the payload is packed.
        payload: The messages.
    """

    sender: _Identity
    first: _Sequence
    count: Annotated[int, Meta(ge=1, le=MAX_MESSAGES)]
    format: Format
    compression: Compression
    payload: bytes

    @property
    def last(self) -> int:
        """The number of the last message."""
        return self.first + self.count - 1

    def lines(self, most_bytes: int = MAX_FRAME_BYTES) -> list[bytes]:
        """Give each message as a line of JSON, without its newline.

        Lines that came as such are as they came: that each is a message is not looked at. Takes
        memory in proportion to the payload, whatever is in it.

        Args:
            most_bytes: What the payload may have when it is decompressed.

        Raises:
            ProtocolError: If they are not as many as it says, or not what it says.
        """
        if self.format == "msgpack":
            try:
                return [_line_of(item) for item in self._items(most_bytes)]
            except ProtocolError:
                raise
            except (DecodeError, RecursionError, ValueError, OverflowError) as error:
                raise ProtocolError(_no_maps(error)) from None
        payload = self._unpacked(most_bytes)
        # Before there is a list of them: of some KiB that were packed may come millions.
        self._check(payload.count(b"\n"))
        lines = payload.split(b"\n")
        if lines.pop():
            raise ProtocolError("The last line must end in a newline. Send whole lines.")
        return lines

    def messages(self) -> list[dict[str, Any]]:
        """Give each message as a dict.

        Raises:
            ProtocolError: If they are not as many as it says, or one is no message.
        """
        return [_message_of(line) for line in self.lines()]

    def _items(self, most_bytes: int) -> Iterable[dict[str, Any] | bytes]:
        """Read the array of MessagePack: maps, and lines of JSON where there was no other way."""
        payload = self._unpacked(most_bytes)
        self._check(_items_said(payload))
        if len(payload) <= MAX_MAP_BYTES:
            return _ITEMS.decode(payload)
        # One after another, so that only one of them is in memory at a time.
        return map(_item_of, _RAW_ITEMS.decode(payload))

    def _check(self, count: int) -> None:
        """Hold the number of messages against what is said."""
        if count != self.count:
            msg = f"A batch must have the messages that it says, {self.count}, got {count}."
            raise ProtocolError(msg)

    def _unpacked(self, most_bytes: int) -> bytes:
        """Decompress the payload, as far as it may go."""
        if not self.compression:
            return self.payload
        unpacker = zlib.decompressobj()
        try:
            unpacked = unpacker.decompress(self.payload, most_bytes)
        except zlib.error as error:
            raise ProtocolError(f"The payload must be what zlib packed: {error}.") from None
        if not unpacker.eof or unpacker.unused_data:
            msg = f"The payload must be whole, and at most {most_bytes:,} bytes unpacked."
            raise ProtocolError(msg)
        return unpacked


@final
class Ack(Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """Collector to sender: all messages up to a number are in every sink that must have them.

    Attributes:
        sender: Whose messages: as in `Batch`.
        through: The number of the last one.
    """

    sender: _Identity
    through: _Sequence


@final
class Refused(Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """Collector to sender: it did not take what came.

    Attributes:
        code: Why, for programs: ``"hello"``, say `Hello` first; ``"version"``, there is no version
            that both speak; ``"busy"``, send it again after a while, as all that followed it;
            ``"batch"``, that batch can never be taken; ``"closing"``, it ends; ``"sender"``, it
            takes nothing from this sender; ``"garbage"``, that was no message.
        text: Why, for people.
        sender: For ``"busy"`` and ``"batch"``: whose batch; as in `Batch`.
        first: For those: its number; else 0.
        retry_after_ms: How long to wait before the next try, in ms.
    """

    code: _Name
    text: _Text = ""
    sender: Annotated[bytes, Meta(max_length=16)] = b""
    first: _Number = 0
    retry_after_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0


@final
class Ping(Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True):
    """Either to the other: is anybody there?"""

    number: _Number = 0


@final
class Pong(Struct, frozen=True, array_like=True, tag=7, forbid_unknown_fields=True):
    """The answer, with the number of the `Ping`."""

    number: _Number = 0


@final
class Levels(Struct, frozen=True, array_like=True, tag=8, forbid_unknown_fields=True):
    """Collector to sender: the whole list of rules in force; those that it lacks have ended.

    Attributes:
        revision: The number of the list, one higher for each change.
        rules: Those that count first come first.
    """

    revision: _Number
    rules: _Rules


@final
class LevelsInForce(Struct, frozen=True, array_like=True, tag=9, forbid_unknown_fields=True):
    """Sender to collector: a list of levels is in force.

    Attributes:
        revision: The number of the list.
        matching: How many of its rules are for this process.
    """

    revision: _Number
    matching: _Number


@final
class Bye(Struct, frozen=True, array_like=True, tag=10, forbid_unknown_fields=True):
    """Either to the other: it ends now, in good order."""


Message: TypeAlias = (
    Hello | Welcome | Batch | Ack | Refused | Ping | Pong | Levels | LevelsInForce | Bye
)

_encode: Final = Encoder().encode
_decode: Final = Decoder(Message).decode


def _no_extension(code: int, _data: memoryview) -> Any:
    """Refuse what is not plain data."""
    msg = f"type {code} is none of ours"
    raise ValueError(msg)


_ITEM: Final = Decoder(dict[str, Any] | bytes, ext_hook=_no_extension)
_ITEMS: Final = Decoder(list[dict[str, Any] | bytes], ext_hook=_no_extension)
_RAW_ITEMS: Final = Decoder(list[Raw])


def encode(message: Message) -> bytes:
    """Write a message as a frame.

    Raises:
        ProtocolError: If it is larger than a frame may be.
    """
    frame = _HEADER + _encode(message)
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(_too_large(len(frame)))
    return frame


def decode(frame: bytes | memoryview) -> Message:
    """Read a frame.

    Takes memory in proportion to the frame, whatever is in it.

    Raises:
        ProtocolError: If it is no message of this version; `code` says whether the version is
            the reason.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(_too_large(len(frame)))
    if frame[:3] != MAGIC:
        raise ProtocolError(f"A frame must begin with {MAGIC!r}, got {bytes(frame[:8])!r}.")
    if frame[:4] != _HEADER:
        got = frame[3] if len(frame) > 3 else "none"
        msg = f"A frame must be of version {VERSION}, got {got}. Use releases that fit together."
        raise ProtocolError(msg, code="version")
    try:
        message: Message = _decode(memoryview(frame)[4:])
    except (DecodeError, RecursionError, ValueError, OverflowError) as error:
        raise ProtocolError(f"A frame must be one of our messages: {error}.") from None
    return message


def _too_large(size_bytes: int) -> str:
    return f"A frame must have at most {MAX_FRAME_BYTES:,} bytes, got {size_bytes:,}."


def payload_of(lines: Sequence[bytes], format: Format) -> bytes:  # noqa: A002 - as in `Batch`
    """Make the payload of a batch out of lines of JSON, each with its newline.

    What MessagePack cannot say (integers beyond 64 bits), and what is long, stays a line of JSON
    within it.
    """
    if format == "json":
        return b"".join(lines)
    items = [b"\xdd", len(lines).to_bytes(4, "big")]
    for line in lines:
        item = b""
        if len(line) <= MAX_MAP_BYTES:
            with suppress(ValueError, OverflowError, RecursionError):
                item = _encode(decode_line(line))
        is_map = 0 < len(item) <= MAX_MAP_BYTES  # numbers may be longer than in JSON
        items.append(item if is_map else _encode(line[:-1]))
    return b"".join(items)


def compressed(payload: bytes) -> bytes:
    """Compress a payload as ``"zlib"``, the quick way."""
    return zlib.compress(payload, 1)


def _items_said(payload: bytes) -> int:
    """Return how many items an array of MessagePack says that it has.

    Source:
        https://github.com/msgpack/msgpack/blob/master/spec.md#array-format-family
    """
    mark = payload[0] if payload else 0
    if mark & ~_MOST_SHORT == _SHORT_ARRAY:
        return mark & _MOST_SHORT
    if mark not in _ARRAYS:
        raise ProtocolError(_no_maps(f"it begins with {payload[:1]!r}"))
    return int.from_bytes(payload[1 : 1 + _ARRAYS[mark]], "big")


def _item_of(raw: Raw) -> dict[str, Any] | bytes:
    """Read an item of MessagePack, if it is a line, or a map that is not too large."""
    data = memoryview(raw)
    if len(data) > MAX_MAP_BYTES and data[0] not in _BYTES:
        msg = f"A map must have at most {MAX_MAP_BYTES:,} bytes, got {len(data):,}. Send a line."
        raise ProtocolError(msg)
    item: dict[str, Any] | bytes = _ITEM.decode(raw)
    return item


def _line_of(item: dict[str, Any] | bytes) -> bytes:
    """Make a line of JSON of a message."""
    if isinstance(item, dict):
        return encode_line(item)[:-1]
    if b"\n" in item:
        raise ProtocolError("A line within MessagePack must have no newline.")
    return item


def _no_maps(what: object) -> str:
    return f"The payload must be an array of maps in MessagePack: {what}."


def _message_of(line: bytes) -> dict[str, Any]:
    """Read a line of JSON that is to be a message."""
    try:
        message = decode_line(line)
    except ValueError as error:
        raise ProtocolError(f"A message must be a line of JSON: {error}.") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"A message must be an object, got {line[:80]!r}.")
    return message
