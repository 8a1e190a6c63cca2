"""One TraceLogging event, as a value and as the bytes of its record."""

from __future__ import annotations

import uuid
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eliot_etw.etw._decode import DecodedEvent

# A FILETIME counts 100 ns from 1601-01-01 UTC; this is 1970-01-01.
EPOCH = 116_444_736_000_000_000
TICKS_PER_SECOND = 10_000_000

# The u16 at offset 2 of a record, for a program of 32 bits and of 64.
EVENT_HEADER_32 = 0xC012
EVENT_HEADER_64 = 0xC013

# What TraceLogging's events have in common.
TRACELOGGING_CHANNEL = 11

_RELATED_ACTIVITY_ID = 1
_SCHEMA = 11
_TRAITS = 12
_GROUP_TRAIT = 1
_HAS_ITEMS = 1
_NOBODY = bytes(16)

# Size, type, flags, property, thread, process, time, provider, then the event's descriptor (id,
# version, channel, level, opcode, task, keyword), processor time, activity.
_HEADER = Struct("<HHHHIIq16sHBBBBHQQ16s")
HEADER_BYTES = _HEADER.size
# The same, with all packed before that is the same for a thread (from type to process), and with
# the descriptor.
LANE_HEADER = Struct("<H14sq16s16s8x16s")
LANE_THREAD = Struct("<HHHII")
# Size of the item with its padding, type, whether another follows, size of the data.
_ITEM = Struct("<HHHH")
# What comes before the 16 bytes of a related activity, if other items follow it.
RELATED_ITEM = _ITEM.pack(24, _RELATED_ACTIVITY_ID, 1, 16)


class EtlEvent(NamedTuple):
    """A TraceLogging event of a trace.

    `ticks` and `cpu` are the trace's own: when, and in which processor's stream. The fields that
    the program gave are in `metadata` and `payload`; `decode` makes values of them.
    """

    ticks: int  # 100 ns since 1601-01-01 UTC, as FILETIME counts
    provider_id: uuid.UUID
    traits: bytes  # the provider's name and group, in TraceLogging's form
    metadata: bytes  # the event's name, its fields' names and types, in TraceLogging's form
    payload: bytes  # the fields' values
    level: int = 4
    opcode: int = 0
    keyword: int = 0
    activity_id: uuid.UUID | None = None
    related_activity_id: uuid.UUID | None = None
    thread_id: int = 0
    process_id: int = 0
    id: int = 0
    version: int = 0
    channel: int = TRACELOGGING_CHANNEL
    task: int = 0
    flags: int = 0  # the lowest bit says whether there are items, and is not kept
    event_property: int = 0
    processor_time: int = 0
    pointer_size_bytes: int = 8
    items: tuple[tuple[int, bytes], ...] = ()  # such as stacks: the type and the data of each
    cpu: int = 0

    @property
    def timestamp(self) -> float:
        """When it happened, in seconds since 1970-01-01 UTC; `ticks` is exact."""
        return (self.ticks - EPOCH) / TICKS_PER_SECOND

    @property
    def provider_name(self) -> str:
        """The provider's name, or ``""`` if the event does not say it."""
        return parse_traits(self.traits)[0]

    @property
    def provider_group(self) -> uuid.UUID | None:
        """The group that the provider belongs to, if any."""
        return parse_traits(self.traits)[1]

    def decode(self) -> DecodedEvent:
        """Decode the event's name and fields. Raises InvalidEvent if they are damaged."""
        # Whoever only counts or copies events never pays for the decoder.
        from eliot_etw.etw._decode import decode_event  # noqa: PLC0415 - see above

        return decode_event(self.metadata, self.payload, self.pointer_size_bytes)


class DamagedRecord(Exception):
    """A record does not fit its own sizes. Never leaves the reader."""


@lru_cache(256)
def parse_traits(traits: bytes) -> tuple[str, uuid.UUID | None]:
    """Return a provider's name and group; what is damaged is left out."""
    end = min(int.from_bytes(traits[:2], "little"), len(traits))
    name, _, _ = traits[2:end].partition(b"\0")
    at = 2 + len(name) + 1
    group = None
    while at + 3 <= end:
        size = int.from_bytes(traits[at : at + 2], "little")
        if traits[at + 2] == _GROUP_TRAIT and size == 3 + 16 and at + size <= end:
            group = uuid.UUID(bytes_le=traits[at + 3 : at + size])
        at += max(size, 3)
    return name.decode("utf-8", "replace"), group


# Most events share their provider, and the events of an action its id.
@lru_cache(4096)
def _guid(data: bytes) -> uuid.UUID:
    """Make a UUID of the bytes of a Windows GUID."""
    return uuid.UUID(bytes_le=data)


@lru_cache(4096)
def _guid_bytes(guid: uuid.UUID) -> bytes:
    """Return the bytes of a Windows GUID."""
    return guid.bytes_le


def decode_record(content: bytes, start: int, ticks: int, cpu: int) -> EtlEvent | None:
    """Read one record.

    Args:
        content: A buffer, all of the record in it.
        start: Where the record begins.
        ticks: When it happened; the record itself has the trace's raw clock.
        cpu: The processor whose buffer it is.

    Returns:
        The event, or None if it has no TraceLogging schema.

    Raises:
        DamagedRecord: If an extended item does not fit.
    """
    (
        size, kind, flags, event_property, thread, process, _, provider,
        id_, version, channel, level, opcode, task, keyword, processor_time, activity,
    ) = _HEADER.unpack_from(content, start)  # fmt: skip
    at = start + HEADER_BYTES
    end = start + size
    metadata = traits = related = None
    others = []
    more = flags & _HAS_ITEMS
    while more:
        if at + 8 > end:
            raise DamagedRecord
        item_size, item_type, more, data_size = _ITEM.unpack_from(content, at)
        more &= 1
        following = at + (item_size + 7 & ~7)
        data_end = at + 8 + data_size
        # The event may end where the data does.
        if data_end > end or data_end > following:
            raise DamagedRecord
        data = content[at + 8 : data_end]
        at = following
        if item_type == _SCHEMA:
            metadata = data
        elif item_type == _TRAITS:
            traits = data
        elif item_type == _RELATED_ACTIVITY_ID and data_size == 16:
            related = _guid(data)
        else:
            others.append((item_type, data))
    if metadata is None:
        return None
    return EtlEvent(
        ticks,
        _guid(provider),
        traits or b"",
        metadata,
        content[at:end],
        level,
        opcode,
        keyword,
        None if activity == _NOBODY else _guid(activity),
        related,
        thread,
        process,
        id_,
        version,
        channel,
        task,
        flags & ~_HAS_ITEMS,
        event_property,
        processor_time,
        8 if kind == EVENT_HEADER_64 else 4,
        tuple(others),
        cpu,
    )


def encode_record(event: EtlEvent, raw_time: int) -> bytes:
    """Write one record, as Windows does, without padding behind it.

    Args:
        event: What to write.
        raw_time: When it happened, by the trace's clock.

    Raises:
        struct.error: If a number does not fit its place.
    """
    related = event.related_activity_id
    body = encode_items(event.items, event.traits, event.metadata)
    if related is not None:
        body = RELATED_ITEM + _guid_bytes(related) + body
    body += event.payload
    activity = event.activity_id
    header = _HEADER.pack(
        HEADER_BYTES + len(body),
        EVENT_HEADER_64 if event.pointer_size_bytes == 8 else EVENT_HEADER_32,
        event.flags | _HAS_ITEMS,
        event.event_property,
        event.thread_id,
        event.process_id,
        raw_time,
        _guid_bytes(event.provider_id),
        event.id,
        event.version,
        event.channel,
        event.level,
        event.opcode,
        event.task,
        event.keyword,
        event.processor_time,
        _NOBODY if activity is None else _guid_bytes(activity),
    )
    return header + body


# A program has few kinds of event; their names and types are the same each time.
@lru_cache(1024)
def encode_items(others: tuple[tuple[int, bytes], ...], traits: bytes, metadata: bytes) -> bytes:
    """Write the chain of extended items in Windows's order, which ends with the schema."""
    chain = [*others, (_TRAITS, traits), (_SCHEMA, metadata)]
    if not traits:
        del chain[-2]
    encoded = b""
    for number, (kind, data) in enumerate(chain, 1):
        size = 8 + len(data) + 7 & ~7
        more = number < len(chain)
        encoded += _ITEM.pack(size, kind, more, len(data)) + data
        encoded += bytes(size - 8 - len(data))
    return encoded
