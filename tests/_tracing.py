"""What tests with OpenTelemetry share: a program's set-up, and the tree of what was logged."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eliot_etw import _names as names
from eliot_etw._trace_context import trace_id_of
from eliot_etw.opentelemetry import EliotSpanProcessor


class Tracing:
    """A program in which OpenTelemetry records spans.

    Attributes:
        processor: Makes actions of them.
        provider: Where they come from.
        tracer: Makes them.
    """

    def __init__(self, **options):
        self.processor = EliotSpanProcessor()
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(self.processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("shop.tests", "1.2")

    @property
    def spans(self):
        """The spans that have ended, by their name."""
        return {span.name: span for span in self._exporter.get_finished_spans()}


def level_of(message):
    """Return the level of the action or message that a message is, or is part of."""
    level = tuple(message["task_level"])
    return level[:-1] if "action_type" in message else level


def paths(messages):
    """Return the types from the outermost action to each action and message, of all tasks."""
    types = {}
    for message in messages:
        name = message.get("action_type") or message.get("message_type")
        types.setdefault((message["task_uuid"], level_of(message)), name)
    return sorted(
        tuple(
            types.get((uuid, level[:depth]), "?")
            for depth in range(len(level) + 1)
            if (uuid, level[:depth]) in types
        )
        for uuid, level in types
    )


def ids_of(messages, action_type):
    """Return the trace id and the span id that exporters give to an action."""
    (start,) = starts(messages, action_type)
    return trace_id_of(start["task_uuid"]), start[names.OTEL_SPAN_ID]


def starts(messages, action_type):
    """List the starts of the actions of a type."""
    return [m for m in messages if (m.get("action_type"), status(m)) == (action_type, "started")]


def ends(messages, action_type):
    """List the ends of the actions of a type."""
    ended = ("succeeded", "failed")
    return [m for m in messages if m.get("action_type") == action_type and status(m) in ended]


def status(message):
    """Return the status that a message gives to an action."""
    return message.get("action_status")
