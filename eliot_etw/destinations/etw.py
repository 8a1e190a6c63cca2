"""Messages as events of Event Tracing for Windows."""

from __future__ import annotations

from typing import final
from uuid import UUID

from eliot_etw._counter import Counter
from eliot_etw.etw._encode import provider_traits
from eliot_etw.etw._levels import Keywords, Levels
from eliot_etw.etw._message_event import MAX_SCHEMAS, PROVIDER_NAME, MessageEncoder
from eliot_etw.etw._provider import Provider
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict


class EtwDestination:
    """Writes each message as one event of Event Tracing for Windows, if a session listens.

    The event has the message's fields with their types, a start or stop opcode for actions, and
    activity ids, so that Windows's tools can draw the tree; `eliot_etw.etw.message_of` gives back
    the message. While nobody listens, a message costs next to nothing.

    Nothing raises in the call that logs. What is too long for an event is cut, and says so in the
    field ``eliot:truncated``. What Windows refuses is lost, and counted by its error code: a
    report for each message of a session that cannot keep up would make things worse. `stats` has
    all counts.

    Attributes:
        provider_name: What the provider is called.
        provider_guid: What Windows knows it by.
    """

    def __init__(
        self,
        provider_name: str = PROVIDER_NAME,
        *,
        guid: UUID | str | None = None,
        group: UUID | str | None = None,
        levels: Levels | None = None,
        keywords: Keywords | None = None,
        json_default: JsonDefault = json_default,
        max_schemas: int = MAX_SCHEMAS,
    ) -> None:
        """Register a provider.

        Args:
            provider_name: What the provider is called.
            guid: What Windows knows it by. Made from the name, as all tools make it, if left out;
                PerfView draws activities only for such.
            group: The GUID of a group of providers that it belongs to.
            levels: Which level events have: patterns of types to levels, such as
                ``{"app:db:*": 5}``, or a function that takes a message and returns a level, or
                None for the usual one.
            keywords: Which keyword they have, in the same way.
            json_default: Converts values that JSON does not know.
            max_schemas: How many different sets of fields, with their types, events may have;
                further ones share an event with one field for all.

        Raises:
            OSError: If this is not Windows, or Windows refuses to register the provider.
            TypeError: If `levels` or `keywords` is neither a mapping nor a function.
            ValueError: If the name is none that all tools can work with, a GUID, level or keyword
                is none, or `max_schemas` is out of range.
        """
        self._encoder = MessageEncoder(
            traits=provider_traits(provider_name, group),
            levels=levels,
            keywords=keywords,
            json_default=json_default,
            max_schemas=max_schemas,
        )
        # Last, when nothing can go wrong any more.
        provider = Provider(provider_name, guid=guid, group=group)
        self.provider_name = provider.name
        self.provider_guid = provider.guid
        # To the dispatcher: what is called here logs nothing, but the user's own functions may.
        self.is_leaf = not (callable(levels) or callable(keywords))
        self._closed = _Closed()
        self._written = Counter()
        self._failed: dict[int, Counter] = {}
        self._provider: Provider | _Closed = provider
        self._end = provider.close
        # Looked up once: each message needs them.
        self._known = self._encoder.known
        self._is_enabled = provider.is_enabled
        self._write = provider.write
        self._count_written = self._written.add

    def __call__(self, message: MessageDict) -> None:
        """Write a message, if somebody wants it."""
        if self._provider.level < 0:
            return
        # Not by encode_if, which would be one call more for every message.
        try:
            event = self._known[tuple(message)](message, self._is_enabled, None)
        except Exception:  # noqa: BLE001 - anything unusual, such as a value's own methods
            event = self._encoder.encode_unknown(message, self._is_enabled)
        if event is not None:
            code = self._write(*event)
            if code:
                self._failed.setdefault(code, Counter()).add()
            else:
                self._count_written()

    def stats(self) -> dict[str, int]:
        """Count messages since the start, but for those that nobody wanted.

        Returns:
            ``written``: what Windows took; ``failed``: what it refused, and the same by error
            code, such as ``failed_8``; ``after_close``: what came too late; ``truncated``: events
            of which something was cut; ``schema_fallbacks``: events that share a schema or a name,
            because there were too many; ``rule_failures``: how often a function for levels or
            keywords raised; ``schemas``: how many there are.
        """
        failed = {code: counter.value for code, counter in sorted(self._failed.items())}
        return {
            "written": self._written.value,
            "failed": sum(failed.values()),
            **{f"failed_{code}": count for code, count in failed.items()},
            "after_close": self._closed.refused.value,
            **self._encoder.stats(),
        }

    def close(self) -> None:
        """End the registration. May be called twice; messages that still come are counted."""
        self._provider = self._closed
        self._is_enabled = self._closed.is_enabled
        self._end()


@final
class _Closed:
    """In the place of a provider that is closed: wants to know of each event, and takes none."""

    level = 0

    def __init__(self) -> None:
        self.refused = Counter()

    def is_enabled(self, level: int, keyword: int) -> bool:
        """Count one that came too late."""
        self.refused.add()
        return False
