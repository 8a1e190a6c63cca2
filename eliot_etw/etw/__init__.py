"""Event Tracing for Windows as bytes: events, ids and `.etl` files, on every system.

A name is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from eliot_etw._late import late_names

if TYPE_CHECKING:
    from eliot_etw.etw._activity import activity_id
    from eliot_etw.etw._decode import DecodedEvent, decode_event
    from eliot_etw.etw._encode import EventEncoder, payload_limit_bytes, provider_traits
    from eliot_etw.etw._etl import EtlWriter, read_etl
    from eliot_etw.etw._event_message import message_of
    from eliot_etw.etw._guid import provider_guid
    from eliot_etw.etw._message_event import EncodedEvent, MessageEncoder
    from eliot_etw.etw._provider import Provider
    from eliot_etw.etw._records import EtlEvent
    from eliot_etw.etw._schema import Field, Schema
    from eliot_etw.etw._types import InType, OutType
    from eliot_etw.etw._values import FileTime, SystemTime

__all__ = [
    "DecodedEvent",
    "EncodedEvent",
    "EtlEvent",
    "EtlWriter",
    "EventEncoder",
    "Field",
    "FileTime",
    "InType",
    "MessageEncoder",
    "OutType",
    "Provider",
    "Schema",
    "SystemTime",
    "activity_id",
    "decode_event",
    "message_of",
    "payload_limit_bytes",
    "provider_guid",
    "provider_traits",
    "read_etl",
]

_MODULES = {
    "DecodedEvent": "_decode",
    "EncodedEvent": "_message_event",
    "EtlEvent": "_records",
    "EtlWriter": "_etl",
    "EventEncoder": "_encode",
    "Field": "_schema",
    "FileTime": "_values",
    "InType": "_types",
    "MessageEncoder": "_message_event",
    "OutType": "_types",
    "Provider": "_provider",
    "Schema": "_schema",
    "SystemTime": "_values",
    "activity_id": "_activity",
    "decode_event": "_decode",
    "message_of": "_event_message",
    "payload_limit_bytes": "_encode",
    "provider_guid": "_guid",
    "provider_traits": "_encode",
    "read_etl": "_etl",
}

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
