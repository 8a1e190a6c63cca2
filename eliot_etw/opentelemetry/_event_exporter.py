"""What exporters of log records and of spans share, and what hands these to them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from eliot_etw._counter import Counter
from eliot_etw.etw._encode import provider_traits
from eliot_etw.opentelemetry._common_schema import ResourceParts
from eliot_etw.opentelemetry._event_output import TraceFile, open_output
from eliot_etw.opentelemetry._schema_encoder import SchemaEncoder


class EventExporter:
    """Writes events of Common Schema."""

    def __init__(
        self,
        provider_name: str,
        *,
        file: TraceFile | None,
        group: UUID | str | None,
        event_name: str,
        resource_attributes: Iterable[str],
        is_c_first: bool,
    ) -> None:
        """Register a provider with Windows, or open a trace. Raises as the exporters say."""
        if not isinstance(event_name, str) or not event_name or "\0" in event_name:
            msg = (
                f"event_name must be text without NUL, got {event_name!r}. "
                "Leave it out to have the usual one."
            )
            raise ValueError(msg)
        self._event_name = event_name
        self._encoder = SchemaEncoder(
            provider_traits(provider_name, group),
            resource_attributes=resource_attributes,
            default_name=event_name,
            is_c_first=is_c_first,
        )
        # What the last record's resource says: mostly there is but one.
        self._parts = ResourceParts(None, ())
        self._errors = Counter()
        # Last, when nothing can go wrong any more.
        self._output = open_output(provider_name, file=file, group=group)

    def shutdown(self) -> None:
        """Take no more: end the registration, or finish the trace. May be called twice."""
        self._output.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Hand to the operating system what waits for a trace; say whether it took all.

        Args:
            timeout_millis: Is not needed: nothing here waits for anybody.
        """
        return self._output.flush()

    def stats(self) -> dict[str, int]:
        """Count events since the start, but for those that nobody wanted.

        Returns:
            ``written``: what Windows, or the trace, took; ``failed``: what it refused, and the
            same by Windows's error code, such as ``failed_8``; ``after_close``: what came too
            late; ``errors``: what could not be made an event; ``truncated``: events of which
            something was cut; ``renamed``: events with an attribute that had to give way to
            another of its name; ``schema_fallbacks``: events that share a schema with others,
            because there were too many; ``schemas``: how many there are.
        """
        return {
            **self._output.stats(),
            "errors": self._errors.value,
            **self._encoder.stats(),
        }


class EventProcessor:
    """Hands what there is to an exporter at once, and ends with it."""

    def __init__(self, exporter: EventExporter) -> None:
        """Take the exporter, which is shut down with this."""
        self._exporter = exporter
        self._output = exporter._output

    def shutdown(self) -> None:
        """Shut down the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)
