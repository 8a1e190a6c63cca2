"""What Common Schema calls what OpenTelemetry has, to write it and to read it.

Source:
    The exporters opentelemetry-etw-logs and opentelemetry-etw-traces in
    https://github.com/open-telemetry/opentelemetry-rust-contrib.
"""

from typing import Final

LOG: Final = "Log"
SPAN: Final = "Span"
SPAN_START: Final = "SpanStart"
"""What our exporter writes besides, if spans are to be activities: that one has started."""

EVENTS: Final = "eliot:events"
"""The attribute that has what happened within a span, for which the schema has no field."""

CLOUD: Final = {"role": "service.name", "roleInstance": "service.instance.id"}
"""Of the fields of ``ext_cloud`` the attributes of the resource."""

WELL_KNOWN: Final = {
    "dbSystem": "db.system.name",
    "dbName": "db.namespace",
    "dbStatement": "db.query.text",
    "httpMethod": "http.request.method",
    "httpUrl": "url.full",
    "httpStatusCode": "http.response.status_code",
    "messagingSystem": "messaging.system",
    "messagingDestination": "messaging.destination.name",
    "messagingUrl": "messaging.url",
    "rpcSystem": "rpc.system.name",
    "rpcGrpcStatusCode": "rpc.response.status_code",
}
"""Of the fields of a span the attributes, in the order of the fields."""
