"""OTLP as JSON, as the file exporter of the OpenTelemetry collector writes it, to values and back.

A request is one JSON object: ``resourceSpans``, ``resourceLogs`` or ``resourceMetrics``, each a
list by resource and by library. What is read comes from files of any origin: field names may be
spelled as in JSON or as in Protocol Buffers (``traceId``, ``trace_id``), whole numbers be numbers
or text, enums numbers or names. What is unknown is left out.

Source:
    The OTLP specification 1.9, section "JSON Protobuf Encoding", and the JSON mapping of Protocol
    Buffers, which it refers to.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from typing import Any, Final, TypeAlias

from eliot_etw._json import encode_line, json_float, value_text
from eliot_etw.json import json_default
from eliot_etw.otlp._model import Attributes, Event, Link, Log, Span

_Json: TypeAlias = dict[str, Any]
OnBadItem: TypeAlias = Callable[[str], object]
"""Called with the reason for each span or log record that cannot be read."""

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
# Times and flags have no sign; a time beyond this is after the year 2262, and no clock's.
_MAX_TIME: Final = 2**63 - 1
# None has more than twenty; a number of thousands takes long to read.
_DIGITS: Final = re.compile(r"[+-]?[0-9]{1,100}")
_INT64: Final = range(-(2**63), 2**63)
# Each level of a value takes up to four of JSON, and its readers give up at some 500 to 1,000.
_MAX_DEPTH: Final = 100
_FIRST_LETTERS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_ENUMS: Final[dict[str, int]] = {
    **{f"SPAN_KIND_{name}": number for number, name in enumerate(_KINDS)},
    **{f"STATUS_CODE_{name}": number for number, name in enumerate(("UNSET", "OK", "ERROR"))},
    "SEVERITY_NUMBER_UNSPECIFIED": 0,
    **{
        f"SEVERITY_NUMBER_{name}{'' if step == 1 else step}": 4 * number + step
        for number, name in enumerate(_SEVERITIES)
        for step in range(1, 5)
    },
}
_SIGNALS: Final = ("resourceSpans", "resourceLogs", "resourceMetrics")


def is_request(value: Any) -> bool:
    """Say whether a JSON value is a request of OTLP: of traces, logs or metrics."""
    return isinstance(value, dict) and any(_get(value, name) is not None for name in _SIGNALS)


def has_metrics(request: _Json) -> bool:
    """Say whether a request has metrics in it."""
    return bool(_get(request, "resourceMetrics"))


def read_request(request: _Json, on_bad_item: OnBadItem) -> Iterator[Span | Log]:
    """Give the spans and the log records of a request; metrics are left out.

    Args:
        request: What `is_request` says yes to.
        on_bad_item: Called for each span or log record that cannot be read, with the reason, and
            for each list that is none.
    """
    readers = (("Spans", "spans", _span), ("Logs", "logRecords", _log))
    for signal, records, read in readers:
        for group in _items(request, f"resource{signal}", on_bad_item):
            old = f"instrumentationLibrary{signal}"
            if old in group:
                on_bad_item(f"{old} is of OTLP before 0.15, and left out")
            resource = _attributes_or_none(_get(group, "resource"), on_bad_item)
            for part in _items(group, f"scope{signal}", on_bad_item):
                scope = _get(part, "scope")
                scope_name = str(_get(scope, "name") or "") if isinstance(scope, dict) else ""
                for record in _items(part, records, on_bad_item):
                    try:
                        yield read(record, scope_name, resource)
                    except RecursionError:
                        on_bad_item(f"{records}: nested too deep")
                    except ValueError as error:
                        on_bad_item(f"{records}: {error}")


def encode_spans(spans: Iterable[Span]) -> bytes:
    """Write spans as one request for traces: a line with its newline."""
    return _encode_request("Spans", "spans", ((span, _span_json(span)) for span in spans))


def encode_logs(logs: Iterable[Log]) -> bytes:
    """Write log records as one request for logs: a line with its newline."""
    return _encode_request("Logs", "logRecords", ((log, _log_json(log)) for log in logs))


def _get(value: _Json, name: str) -> Any:
    """Return a field by either of its spellings, or None."""
    found = value.get(name)
    return value.get(_SNAKE[name]) if found is None and name in _SNAKE else found


_SNAKE: Final = {
    name: _FIRST_LETTERS.sub("_", name).lower()
    for name in (
        *_SIGNALS, "scopeSpans", "scopeLogs", "logRecords", "traceId", "spanId", "parentSpanId",
        "startTimeUnixNano", "endTimeUnixNano", "timeUnixNano", "observedTimeUnixNano",
        "severityNumber", "severityText", "eventName", "traceState", "stringValue", "boolValue",
        "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue",
    )
}  # fmt: skip


def _items(value: _Json, name: str, on_bad_item: OnBadItem) -> Iterator[_Json]:
    """Give the objects of a list, which may be missing."""
    found = _get(value, name)
    if not isinstance(found, list):
        if found is not None:
            on_bad_item(f"{name} must be a list, got {found!r:.80}")
        return
    for item in found:
        if isinstance(item, dict):
            yield item
        else:
            on_bad_item(f"{name} must hold objects, got {item!r:.80}")


def _attributes_or_none(holder: Any, on_bad_item: OnBadItem) -> Attributes:
    """Read the attributes of a resource: without them its spans are still worth reading."""
    try:
        return _attributes(_get(holder, "attributes")) if isinstance(holder, dict) else {}
    except (ValueError, RecursionError) as error:
        on_bad_item(f"resource: {error}")
        return {}


def _span(record: _Json, scope: str, resource: Attributes) -> Span:
    """Read a span. Raises ValueError if it is none."""
    status = _get(record, "status") or {}
    if not isinstance(status, dict):
        msg = f"status must be an object, got {status!r:.80}"
        raise ValueError(msg)
    start_ns = _time(record, "startTimeUnixNano")
    return Span(
        trace_id=_id(record, "traceId", _TRACE_ID),
        span_id=_id(record, "spanId", _SPAN_ID),
        parent_span_id=_id_or_none(record, "parentSpanId", _SPAN_ID),
        name=_text(record, "name"),
        start_ns=start_ns,
        end_ns=_time(record, "endTimeUnixNano"),
        kind=_enum(record, "kind"),
        attributes=_attributes(_get(record, "attributes")),
        events=[_event(event) for event in _objects(record, "events")],
        links=[_link(link) for link in _objects(record, "links")],
        status_code=_enum(status, "code"),
        status_message=_text(status, "message"),
        trace_state=_text(record, "traceState"),
        flags=_whole_number(record, "flags"),
        scope=scope,
        resource=resource,
    )


def _event(event: _Json) -> Event:
    attributes = _attributes(_get(event, "attributes"))
    return Event(_text(event, "name"), _time(event, "timeUnixNano"), attributes)


def _link(link: _Json) -> Link:
    return Link(
        _id(link, "traceId", _TRACE_ID),
        _id(link, "spanId", _SPAN_ID),
        _attributes(_get(link, "attributes")),
    )


def _log(record: _Json, scope: str, resource: Attributes) -> Log:
    """Read a log record. Raises ValueError if it is none."""
    return Log(
        time_ns=_time(record, "timeUnixNano") or _time(record, "observedTimeUnixNano"),
        severity_number=_enum(record, "severityNumber"),
        severity_text=_text(record, "severityText"),
        body=_value(_get(record, "body")),
        attributes=_attributes(_get(record, "attributes")),
        trace_id=_id_or_none(record, "traceId", _TRACE_ID),
        span_id=_id_or_none(record, "spanId", _SPAN_ID),
        event_name=_text(record, "eventName"),
        scope=scope,
        resource=resource,
    )


def _objects(record: _Json, name: str) -> list[_Json]:
    """Return a list of objects, which may be missing. Raises ValueError if it is none."""
    found = _get(record, name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        msg = f"{name} must be a list of objects, got {found!r:.80}"
        raise ValueError(msg)
    return found


def _text(record: _Json, name: str) -> str:
    found = _get(record, name)
    if found is None:
        return ""
    if not isinstance(found, str):
        msg = f"{name} must be text, got {found!r:.80}"
        raise ValueError(msg)
    return found


def _id(record: _Json, name: str, form: re.Pattern[str]) -> str:
    """Read an id, which must be there. Raises ValueError if it is none."""
    found = _id_or_none(record, name, form)
    if found is None:
        msg = f"{name} must not be missing or zero"
        raise ValueError(msg)
    return found


def _id_or_none(record: _Json, name: str, form: re.Pattern[str]) -> str | None:
    """Read an id; one that is empty or zero is none."""
    found = _text(record, name).lower()
    if not found.strip("0"):
        return None
    if not form.fullmatch(found):
        msg = f"{name} must be hexadecimal digits of the usual number, got {found!r:.80}"
        raise ValueError(msg)
    return found


def _time(record: _Json, name: str) -> int:
    """Read a time in nanoseconds since the epoch; 0 if it is missing."""
    number = _whole_number(record, name)
    if number > _MAX_TIME:
        msg = f"{name} must be before the year 2262, got {number}"
        raise ValueError(msg)
    return number


def _whole_number(record: _Json, name: str) -> int:
    """Read a whole number of 0 or above, which may be text; 0 if it is missing."""
    found = _get(record, name)
    number = 0 if found is None else _integer(found)
    if number < 0:
        msg = f"{name} must not be less than 0, got {number}"
        raise ValueError(msg)
    return number


def _integer(found: Any) -> int:
    """Read a whole number, which may be text. Raises ValueError if it is none."""
    if type(found) is int:
        return found
    if isinstance(found, str) and _DIGITS.fullmatch(found):
        return int(found)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    msg = f"a whole number must be one, or its digits as text, got {found!r:.80}"
    raise ValueError(msg)


def _enum(record: _Json, name: str) -> int:
    """Read an enum by its number or its name; 0 if it is missing or unknown."""
    found = _get(record, name)
    if isinstance(found, str) and not found.isdecimal():
        return _ENUMS.get(found, 0)
    return _whole_number(record, name)


def _attributes(found: Any) -> Attributes:
    """Read a list of keys and values, which may be missing. Raises ValueError if it is none."""
    if found is None:
        return {}
    try:
        return {_text(item, "key"): _value(item.get("value")) for item in found}
    except (TypeError, AttributeError):
        msg = f"attributes must be a list of keys and values, got {found!r:.80}"
        raise ValueError(msg) from None


def _value(found: Any) -> Any:
    """Read a value: an object whose only field says the type. Raises ValueError if it is none."""
    if found is None:
        return None
    if not isinstance(found, dict):
        msg = f"a value must be an object with its type as the name, got {found!r:.80}"
        raise ValueError(msg)
    for name, read in _READERS.items():
        value = _get(found, name)
        if value is not None:
            return read(value)
    return None  # as it is written, or of a type that came later


def _string(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _bool(value: Any) -> bool:
    return value not in (0, "false", "False")


def _double(value: Any) -> float:
    # As text there are also NaN, Infinity and -Infinity.
    with suppress(OverflowError):  # a whole number of more than 308 digits
        if isinstance(value, (int, float, str)):
            return float(value)
    msg = f"doubleValue must be a number of at most 308 digits, got {value!r:.80}"
    raise ValueError(msg)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        msg = f"bytesValue must be text in base 64, got {value!r:.80}"
        raise ValueError(msg)
    # Both alphabets are allowed, and to leave out the padding.
    return b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4))


def _array(value: Any) -> list[Any]:
    return [_value(item) for item in _values(value)]


def _kvlist(value: Any) -> Attributes:
    return _attributes(_values(value))


def _values(value: Any) -> list[Any]:
    """Return what is in a list or map. Raises ValueError if it is none."""
    found = value.get("values") if isinstance(value, dict) else value
    if found is None:
        return []
    if not isinstance(found, list):
        msg = f"values must be a list, got {found!r:.80}"
        raise ValueError(msg)
    return found


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "stringValue": _string,
    "boolValue": _bool,
    "intValue": _integer,
    "doubleValue": _double,
    "arrayValue": _array,
    "kvlistValue": _kvlist,
    "bytesValue": _bytes,
}


def _encode_request(signal: str, records: str, items: Iterable[tuple[Span | Log, _Json]]) -> bytes:
    """Write records, those of one program together, and in them those of one library."""
    groups = []
    for resource, of_resource in groupby(items, lambda item: item[0].resource):
        parts = [
            {"scope": {"name": scope} if scope else {}, records: [record for _, record in found]}
            for scope, found in groupby(of_resource, lambda item: item[0].scope)
        ]
        groups.append(
            {"resource": {"attributes": _pairs(resource)}, f"scope{signal}": parts},
        )
    return encode_line({f"resource{signal}": groups})


def _span_json(span: Span) -> _Json:
    record: _Json = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_span_id or "",
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _pairs(span.attributes),
        "events": [
            {
                "timeUnixNano": str(event.time_ns),
                "name": event.name,
                "attributes": _pairs(event.attributes),
            }
            for event in span.events
        ],
        "links": [
            {
                "traceId": link.trace_id,
                "spanId": link.span_id,
                "attributes": _pairs(link.attributes),
            }
            for link in span.links
        ],
        "status": {"message": span.status_message, "code": span.status_code},
    }
    return record | _present(traceState=span.trace_state, flags=span.flags)


def _log_json(log: Log) -> _Json:
    record: _Json = {
        "timeUnixNano": str(log.time_ns),
        "severityNumber": log.severity_number,
        "severityText": log.severity_text,
        "body": _any_value(log.body),
        "attributes": _pairs(log.attributes),
    }
    return record | _present(traceId=log.trace_id, spanId=log.span_id, eventName=log.event_name)


def _present(**fields: Any) -> _Json:
    """Leave out the fields that say nothing."""
    return {name: value for name, value in fields.items() if value}


def _pairs(attributes: Attributes, depth: int = 0) -> list[_Json]:
    return [{"key": key, "value": _any_value(value, depth)} for key, value in attributes.items()]


def _any_value(value: Any, depth: int = 0) -> _Json:
    """Write a value with its type as its name; what OTLP has no type for becomes its text."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and value in _INT64:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": json_float(value)}
    if value is None:
        return {}
    if isinstance(value, bytes):
        return {"bytesValue": b64encode(value).decode()}
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_any_value(item, depth + 1) for item in value]}}
    if depth < _MAX_DEPTH and isinstance(value, dict):
        return {"kvlistValue": {"values": _pairs(value, depth + 1)}}
    return {"stringValue": value_text(value, json_default)}
