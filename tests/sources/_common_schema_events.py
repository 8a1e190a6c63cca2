"""Events as OpenTelemetry's exporters to ETW write them, built field by field."""

from uuid import UUID

from eliot_etw.etw import EventEncoder, Field, InType, OutType, Schema, provider_traits
from tests.etw._traces import NOW, event

TRACE = "5b8efff798038103d269b633813fc60c"
SPAN = "eee19b7ec3c1b174"
PARENT = "eee19b7ec3c1b173"

_TYPES = {
    bool: (InType.BOOL32, OutType.DEFAULT),
    int: (InType.INT64, OutType.DEFAULT),
    float: (InType.FLOAT64, OutType.DEFAULT),
    bytes: (InType.BINARY, OutType.DEFAULT),
    str: (InType.ANSI, OutType.UTF8),
}


class Typed:
    """A value with the type of its field."""

    def __init__(self, value, in_type, out_type=OutType.DEFAULT):
        self.value = value
        self.types = (in_type, out_type)


def u8(value, out_type=OutType.DEFAULT):
    """Make a value of one byte."""
    return Typed(value, InType.UINT8, out_type)


def as_json(text):
    """Make a value that is JSON."""
    return Typed(text, InType.ANSI, OutType.JSON)


def built(name, values, ticks=NOW, **others):
    """Make an event of values by name, each of the type that exporters give it."""
    fields, encoded = _fields(values)
    encoder = EventEncoder(Schema(name, fields))
    return event(ticks, encoder.payload(encoded), level=5, keyword=1, **others)._replace(
        metadata=encoder.metadata,
        provider_id=UUID(int=7),
        traits=provider_traits("Their-Provider"),
    )


def _fields(values):
    """Return the fields for values, and the values alone."""
    fields, encoded = [], []
    for name, value in values.items():
        if isinstance(value, dict):
            members, inner = _fields(value)
            fields.append(Field(name, InType.STRUCT, members=members))
            encoded.append(inner)
            continue
        types = value.types if isinstance(value, Typed) else _TYPES[type(value)]
        fields.append(Field(name, *types))
        encoded.append(value.value if isinstance(value, Typed) else value)
    return tuple(fields), tuple(encoded)


def span_event(part_b=None, part_c=None, part_a=None, span_id=SPAN, name="Span", **others):
    """Make the event of a span, as the Rust exporter does; it took a second."""
    values = {
        "__csver__": Typed(0x400, InType.UINT16, OutType.UNSIGNED),
        "PartA": {
            "ext_dt": {"traceId": TRACE, "spanId": span_id},
            "time": "2025-06-15T15:06:41.000000250Z",
            **(part_a or {}),
        },
        "PartB": {
            "_typeName": "Span",
            "name": "work",
            "kind": u8(0),
            "startTime": "2025-06-15T15:06:40Z",
            **(part_b or {}),
        },
    }
    values["PartB"].setdefault("success", u8(True, OutType.BOOLEAN))
    return built(name, values | ({"PartC": part_c} if part_c else {}), **others)


def log_event(part_b=None, part_c=None, part_a=None, name="Log", **others):
    """Make the event of a log record, as the Rust exporter does."""
    values = {
        "__csver__": Typed(0x400, InType.UINT16, OutType.UNSIGNED),
        "PartA": {"time": "2025-06-15T15:06:40.5Z", **(part_a or {})},
        **({"PartC": part_c} if part_c else {}),
        "PartB": {
            "_typeName": "Log",
            "body": "said",
            "severityNumber": Typed(9, InType.INT16),
            "severityText": "INFO",
            **(part_b or {}),
        },
    }
    return built(name, values, **others)


def metrics_event(payload, ticks=NOW):
    """Make the event of metrics, as the Rust exporter does: OTLP's own bytes."""
    made = built("otlp_metrics", {}, ticks, id=81)
    return made._replace(
        payload=payload,
        provider_id=UUID("edc24920-e004-40f6-a8e1-0e6e48f39d84"),
        traits=provider_traits("NativeMetricsExtension_Provider"),
    )
