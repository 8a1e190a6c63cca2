"""Events of OpenTelemetry in traces: what its exporters to ETW write, in every language.

Logs and spans are of Microsoft's Common Schema 4.0: known by their fields, for each program has
a provider of its own. Metrics are OTLP's own bytes.

Source:
    The Rust crates opentelemetry-etw-logs 0.11, -metrics 0.11 and -traces 0.1, which write them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple, final

from eliot_etw._json import decode_line
from eliot_etw._safe import name_beside
from eliot_etw.etw import DecodedEvent, EtlEvent, OutType
from eliot_etw.etw._json_values import iso_time, json_value
from eliot_etw.etw._message_layout import REST
from eliot_etw.etw._records import EPOCH
from eliot_etw.etw._schema import Field
from eliot_etw.exceptions import MissingDependency
from eliot_etw.otlp._common_schema import (
    CLOUD,
    EVENTS,
    LOG,
    SPAN,
    SPAN_START,
    WELL_KNOWN,
)
from eliot_etw.otlp._model import ERROR, UNSET, Attributes, Event, Link, Log, Span
from eliot_etw.sources._activities import origin
from eliot_etw.sources._metrics import points_of

VERSION_FIELD: Final = b"__csver__\0"
"""What the metadata of each log and span has in it."""

_VERSION_4: Final = 0x400
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_NS_PER_TICK: Final = 100
# In 64 bits with a sign, as OTLP's readers take it: in the year 2262.
_LATEST_NS: Final = 2**63 - 1

_OF_LOGS: Final = {"eventId": "event_id"}
_METRICS_NAME: Final = "otlp_metrics"
_METRICS_ID: Final = 81


def span_or_log(event: EtlEvent, decoded: DecodedEvent) -> Span | Log | None:
    """Return the span or the log record that an event is; None if it is neither."""
    schema = decoded.schema
    if not schema.fields or schema.fields[0].name != "__csver__":
        return None
    parts = _named(schema.fields, decoded.values)
    part_a, part_b, part_c = (parts.get(name, {}) for name in ("PartA", "PartB", "PartC"))
    if parts["__csver__"] != _VERSION_4 or not (
        isinstance(part_a, dict) and isinstance(part_b, dict) and isinstance(part_c, dict)
    ):
        return None
    common = _common(event, part_a)
    if part_b.get("_typeName") in (SPAN, SPAN_START):
        return _span(event, common, part_b, part_c)
    if part_b.get("_typeName") == LOG:
        return _log(event, common, part_b, part_c)
    return None


@final
class _Common(NamedTuple):
    """What PartA says, of logs and spans alike."""

    time_ns: int
    trace_id: str | None
    span_id: str | None
    resource: Attributes


def _common(event: EtlEvent, part_a: Attributes) -> _Common:
    """Read PartA; what it does not say of the time, the event says."""
    ids, cloud = part_a.get("ext_dt"), part_a.get("ext_cloud")
    time_ns = _time_ns(part_a.get("time"))
    if time_ns is None:
        time_ns = min(max((event.ticks - EPOCH) * _NS_PER_TICK, 0), _LATEST_NS)
    return _Common(
        time_ns,
        _id(ids.get("traceId"), _TRACE_ID) if isinstance(ids, dict) else None,
        _id(ids.get("spanId"), _SPAN_ID) if isinstance(ids, dict) else None,
        _renamed(cloud, CLOUD) if isinstance(cloud, dict) else {},
    )


def _span(event: EtlEvent, common: _Common, part_b: Attributes, part_c: Attributes) -> Span | None:
    """Read a span, or the start of one, which has no end yet; None if it does not say which."""
    if common.trace_id is None or common.span_id is None:
        return None
    start_ns, kind = _time_ns(part_b.get("startTime")), part_b.get("kind")
    events = [*_events(part_c.get(EVENTS))]
    if events:
        del part_c[EVENTS]
    return Span(
        trace_id=common.trace_id,
        span_id=common.span_id,
        parent_span_id=_id(part_b.get("parentId"), _SPAN_ID),
        name=str(part_b.get("name", "")),
        # Their numbers begin with 0, OTLP's with 1.
        kind=kind + 1 if isinstance(kind, int) else 0,
        start_ns=common.time_ns if start_ns is None else start_ns,
        end_ns=0 if part_b["_typeName"] == SPAN_START else common.time_ns,
        attributes=_attributes(event, _renamed(part_b, WELL_KNOWN), part_c),
        events=events,
        links=list(_links(part_b.get("links"))),
        status_code=ERROR if part_b.get("success") is False else UNSET,
        status_message=str(part_b.get("statusMessage", "")),
        resource=common.resource,
    )


def _log(event: EtlEvent, common: _Common, part_b: Attributes, part_c: Attributes) -> Log:
    """Read a log record."""
    severity = part_b.get("severityNumber")
    return Log(
        time_ns=common.time_ns,
        severity_number=severity if isinstance(severity, int) else 0,
        severity_text=str(part_b.get("severityText", "")),
        body=part_b.get("body"),
        attributes=_attributes(event, _renamed(part_b, _OF_LOGS), part_c),
        trace_id=common.trace_id,
        span_id=common.span_id,
        event_name=str(part_b.get("name", "")),
        resource=common.resource,
    )


def _attributes(event: EtlEvent, known: Attributes, part_c: Attributes) -> Attributes:
    """Put attributes together, with where the event comes from, as it is said of any event."""
    attributes = known
    rest = part_c.get(REST)  # what our exporters could give no field of its own
    if isinstance(rest, dict):
        del part_c[REST]
    _add(attributes, part_c)
    if isinstance(rest, dict):
        _add(attributes, rest)
    _add(attributes, origin(event))
    return attributes


def _add(attributes: Attributes, more: Attributes) -> None:
    """Add attributes; one whose name is taken gives way."""
    for name, value in more.items():
        attributes[name_beside(name, attributes)] = value


def _named(fields: Iterable[Field], values: Iterable[Any]) -> Attributes:
    """Give values by name; of two of one name the second gets a number."""
    named: Attributes = {}
    for field, value in zip(fields, values, strict=True):
        named[name_beside(field.name, named)] = _value(field, value)
    return named


def _value(field: Field, value: Any) -> Any:
    """Return the value that a field was made of."""
    if field.members and not (field.is_array or field.fixed_count):
        return _named(field.members, value)
    if field.members:
        return [_named(field.members, element) for element in value]
    if field.out_type == OutType.JSON and isinstance(value, str):
        with suppress(ValueError):  # cut off, perhaps: it stays the text that it is
            return decode_line(value.encode("utf-8", "surrogatepass"))
    # Of what OpenTelemetry has no type for, nothing but text is left; bytes it has.
    return value if isinstance(value, (bytes, float)) else json_value(value)


def _renamed(fields: Attributes, names: dict[str, str]) -> Attributes:
    """Give those fields that have another name with OpenTelemetry, by that."""
    return {name: fields[short] for short, name in names.items() if short in fields}


def _id(found: Any, form: re.Pattern[str]) -> str | None:
    """Return an id; None if it is none, or zero."""
    if not isinstance(found, str):
        return None
    found = found.lower()
    return found if form.fullmatch(found) and found.strip("0") else None


def _time_ns(text: Any) -> int | None:
    """Read a time of RFC 3339, of which Python's own reader takes no nanoseconds."""
    found = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    date, clock, fraction, sign, hours, minutes = found.groups()
    try:
        seconds = int(datetime.fromisoformat(f"{date}T{clock}+00:00").timestamp())
    except ValueError:
        return None
    if sign:
        east = int(hours) * 3600 + int(minutes) * 60
        seconds -= east if sign == "+" else -east
    time_ns = seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    return time_ns if 0 <= time_ns <= _LATEST_NS else None


def _events(found: Any) -> Iterator[Event]:
    """Read what happened within a span, which our exporter tells of in an attribute."""
    for event in found if isinstance(found, list) else ():
        if isinstance(event, dict):
            time_ns, attributes = _time_ns(event.get("time")), event.get("attributes")
            if time_ns is not None:
                known = attributes if isinstance(attributes, dict) else {}
                yield Event(str(event.get("name", "")), time_ns, known)


def _links(found: Any) -> Iterator[Link]:
    """Read the list of other spans that a span has to do with: JSON, of whatever type."""
    if isinstance(found, str):
        with suppress(ValueError):
            found = decode_line(found.encode("utf-8", "surrogatepass"))
    for link in found if isinstance(found, list) else ():
        if isinstance(link, dict):
            trace_id = _id(link.get("toTraceId"), _TRACE_ID)
            span_id = _id(link.get("toSpanId"), _SPAN_ID)
            if trace_id and span_id:
                yield Link(trace_id, span_id)


def is_metrics(event: EtlEvent, decoded: DecodedEvent) -> bool:
    """Say whether an event has metrics in it, as OTLP's own bytes behind no fields."""
    return event.id == _METRICS_ID and decoded.name == _METRICS_NAME and not decoded.schema.fields


@final
class Metrics:
    """Decodes the metrics of one trace.

    Args:
        on_problem: Called once if the package is missing that is needed, and with the reason for
            each event that cannot be decoded.
    """

    def __init__(self, on_problem: Callable[[str], object]) -> None:
        self._on_problem = on_problem
        self._is_missing = False

    def points(self, event: EtlEvent, decoded: DecodedEvent) -> list[dict[str, Any]]:
        """Return the data points of an event, usually one; of what cannot be read, its size."""
        if not self._is_missing:
            try:
                return points_of(decoded.rest)
            except MissingDependency as error:
                self._is_missing = True
                self._on_problem(str(error))
            except ValueError as error:
                self._on_problem(f"an event of {iso_time(event.ticks) or event.ticks}: {error}")
        return [{"size_bytes": len(decoded.rest)}]
