"""The field names, statuses and types of Eliot's wire format, spelled once."""

from typing import Final

TASK_UUID: Final = "task_uuid"
TASK_LEVEL: Final = "task_level"
TIMESTAMP: Final = "timestamp"
MESSAGE_TYPE: Final = "message_type"
ACTION_TYPE: Final = "action_type"
ACTION_STATUS: Final = "action_status"
EXCEPTION: Final = "exception"
REASON: Final = "reason"
TRACEBACK: Final = "traceback"

STARTED: Final = "started"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
# No set: a status that was read may be anything, and a set cannot be asked about a list.
END_STATUSES: Final = (SUCCEEDED, FAILED)

TRACEBACK_TYPE: Final = "eliot:traceback"
DESTINATION_FAILURE: Final = "eliot:destination_failure"
SERIALIZATION_FAILURE: Final = "eliot:serialization_failure"
DROPPED: Final = "eliot:dropped"
REMOTE_TASK: Final = "eliot:remote_task"
# A request that a server answers, and a call that a client makes.
HTTP_REQUEST: Final = "http:request"
HTTP_CALL: Final = "http:call"

# In the start of an action: the W3C header that it continues, of somebody who knows no place in
# our tree; what was passed on beside it; and what came in and was not continued.
TRACEPARENT: Final = "eliot:traceparent"
TRACESTATE: Final = "eliot:tracestate"
NOT_CONTINUED: Final = "eliot:not_continued"

# In an action that an OpenTelemetry span became: its id, 16 hexadecimal digits, which is then the
# id of the action too; that of its parent, where that is not the action around it; and what else
# a span has besides its attributes.
OTEL_SPAN_ID: Final = "otel:span_id"
OTEL_PARENT_SPAN_ID: Final = "otel:parent_span_id"
OTEL_KIND: Final = "otel:kind"
OTEL_SCOPE: Final = "otel:scope"
OTEL_SCOPE_VERSION: Final = "otel:scope_version"
OTEL_LINKS: Final = "otel:links"
OTEL_RESOURCE: Final = "otel:resource"
OTEL_NAME: Final = "otel:name"
OTEL_STATUS: Final = "otel:status"
OTEL_STATUS_MESSAGE: Final = "otel:status_message"
OTEL_DROPPED: Final = "otel:dropped"
# In a message that an OpenTelemetry log record became.
OTEL_EVENT_NAME: Final = "otel:event_name"
OTEL_SEVERITY: Final = "otel:severity"

# What the name of a journal begins with, where the names of logs are read.
JOURNAL: Final = "journal:"
# ... and that of a database.
SQLITE: Final = "sqlite:"
# ... and that of a stream of Redis, the second with TLS.
REDIS: Final = "redis:"
REDIS_TLS: Final = "rediss:"
# ... and that of a table of ClickHouse.
CLICKHOUSE: Final = "clickhouse:"
CLICKHOUSE_TLS: Final = "clickhouses:"
# ... and that of a collection of MongoDB, the second with hosts that the DNS knows.
MONGODB: Final = "mongodb:"
MONGODB_SRV: Final = "mongodb+srv:"
# ... and that of a stream of NATS JetStream, the second with TLS.
NATS: Final = "nats:"
NATS_TLS: Final = "tls:"
# ... and that of what is published over ZeroMQ.
ZMQ_SUB: Final = "zmq+sub:"

# What the framework itself puts into every message: where in which tree, and when.
PLACE_FIELDS: Final = frozenset({TASK_UUID, TASK_LEVEL, TIMESTAMP})
# What a user's field may not be called: what gives a message its place, or makes it the start or
# the end of an action.
RESERVED_IN_MESSAGE: Final = PLACE_FIELDS | {ACTION_TYPE}
RESERVED_IN_ACTION: Final = PLACE_FIELDS | {ACTION_STATUS}
