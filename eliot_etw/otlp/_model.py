"""Spans and logs as OTLP has them: plain values, which no package of OpenTelemetry is needed for.

A value of an attribute is what OTLP can say: text, a bool, an integer, a float, bytes, None, a
list of such values, or a dict of them by text.

Source:
    opentelemetry-proto: trace/v1/trace.proto, logs/v1/logs.proto, common/v1/common.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

Attributes: TypeAlias = dict[str, Any]

# Span.kind.
INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
PRODUCER: Final = 4
CONSUMER: Final = 5

KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""What they are called, by their numbers."""

# Span.status_code.
UNSET: Final = 0
OK: Final = 1
ERROR: Final = 2


@final
@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened within a span.

    Attributes:
        name: What.
        time_ns: When, in nanoseconds since the epoch.
        attributes: What is known of it.
    """

    name: str
    time_ns: int
    attributes: Attributes = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Link:
    """Another span that a span has to do with.

    Attributes:
        trace_id: Its trace, 32 hexadecimal digits.
        span_id: The span, 16 hexadecimal digits.
        attributes: What is known of the relation.
    """

    trace_id: str
    span_id: str
    attributes: Attributes = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of work, from its start to its end.

    Attributes:
        trace_id: Which trace it is part of, 32 lower-case hexadecimal digits.
        span_id: Which span it is, 16 of them.
        parent_span_id: The span that it is part of; None if it is the first of its trace.
        name: What work it is.
        start_ns: When it began, in nanoseconds since the epoch.
        end_ns: When it ended.
        kind: `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER` or `CONSUMER`; 0 if nothing is said.
        attributes: What is known of it.
        events: What happened within it, in the order of logging.
        links: What else it has to do with.
        status_code: `UNSET`, `OK` or `ERROR`.
        status_message: What went wrong, if it is an error.
        trace_state: W3C's ``tracestate``; empty if there is none.
        flags: W3C's flags, and OTLP's own in bits 8 and 9.
        scope: The name of the library that made it; empty if nothing is said.
        resource: What made it: the attributes of the program.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    start_ns: int
    end_ns: int
    kind: int = INTERNAL
    attributes: Attributes = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    status_code: int = UNSET
    status_message: str = ""
    trace_state: str = ""
    flags: int = 0
    scope: str = ""
    resource: Attributes = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log record.

    Attributes:
        time_ns: When it was logged, in nanoseconds since the epoch; 0 if nothing is said.
        severity_number: 1 to 24, ``TRACE`` to ``FATAL4``; 0 if nothing is said.
        severity_text: How whoever logged it calls that.
        body: What it says: any value.
        attributes: What is known of it.
        trace_id: The trace that it was logged in, 32 lower-case hexadecimal digits, or None.
        span_id: The span that it was logged in, 16 of them, or None.
        event_name: What kind of event it is; empty if nothing is said.
        scope: The name of the library that made it; empty if nothing is said.
        resource: What made it: the attributes of the program.
    """

    time_ns: int
    severity_number: int = 0
    severity_text: str = ""
    body: Any = None
    attributes: Attributes = field(default_factory=dict)
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str = ""
    scope: str = ""
    resource: Attributes = field(default_factory=dict)
