"""Spans and log records to messages: our own come back as they were, others become a tree."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, NamedTuple, TypeAlias, final

from eliot_etw import _names as names
from eliot_etw._bridge import LOG_TYPE
from eliot_etw._extract import beside
from eliot_etw._json import decode_line, encode_line
from eliot_etw._levels import LOG_LEVEL, level_number
from eliot_etw._safe import make_room
from eliot_etw._task_level import TaskLevel, new_task_uuid
from eliot_etw._trace_context import FIRST_DRAWN, task_uuid_of
from eliot_etw.otlp import _attributes as attr
from eliot_etw.otlp._model import ERROR, KINDS, OK, Attributes, Event, Log, Span
from eliot_etw.typing import MessageDict

MAX_HELD: Final = 100_000
"""How many spans and log records of others are held, and spans of ours remembered, at most."""

_Item: TypeAlias = Span | Log


@final
class _Around(NamedTuple):
    """The span that the action around something is: its id, and the program that made it."""

    span_id: str | None
    resource: Attributes


_NOBODY: Final = _Around(None, {})
# Where an item goes, and what is around it.
_Placed: TypeAlias = tuple[_Item, TaskLevel, _Around]
_ROOT: Final = TaskLevel()
# Where a message stands that no action is around.
_LONE: Final = TaskLevel((1,))
# No honest tree is that deep, and each level of it costs as long as it is.
_MAX_DEPTH: Final = 1_000
# What gives a message its place, and what makes it more than a message.
_OF_PLACE: Final = names.PLACE_FIELDS - {names.TIMESTAMP}
_RESERVED: Final = _OF_PLACE | {names.ACTION_TYPE}
_ERROR_TYPE: Final = "error.type"


@final
class MessageMaker:
    """Makes messages of spans and log records.

    What `SpanMaker` made gives back the very same messages, at once. All others are held, trace
    by trace, until `rest`: a span becomes an action within that of its parent; its events and log
    records become messages in it, by their times. What has a parent of ours stands in that behind
    all that was counted, at positions of its own (see `FIRST_DRAWN`). If a trace has several
    beginnings, they stand side by side in a root of which nothing else is known.

    Args:
        max_held: How many are held or remembered at most. When there are more, the trace that came
            first is given out as it is; what still comes of it begins another such tree.
    """

    def __init__(self, *, max_held: int = MAX_HELD) -> None:
        self._max_held = max_held
        self._traces: dict[str, _Trace] = {}
        self._held = 0
        self.split = 0
        """How many traces of others were given out early."""

    def add(self, item: Span | Log) -> Iterator[MessageDict]:
        """Take a span or log record.

        Returns:
            The messages that it tells of, if it is ours; those of another trace, if there were
            too many.
        """
        level = _level(item.attributes.get(attr.TASK_LEVEL))
        if level is _NOWHERE:
            yield attr.message_of(*_told(item))
            return
        if item.trace_id is None:  # a log record that was made outside of any span
            trace = _Trace(new_task_uuid())
            trace.items.append(item)
            yield from trace.rest()
            return
        trace = self._traces.get(item.trace_id) or _Trace(task_uuid_of(item.trace_id))
        self._traces[item.trace_id] = trace
        self._held += 1
        trace.count += 1
        if level is None:
            trace.items.append(item)
        else:
            yield from trace.messages_of_ours(item, level)
        while self._held > self._max_held:
            trace = self._traces.pop(next(iter(self._traces)))
            self._held -= trace.count
            self.split += bool(trace.items)
            yield from trace.rest()

    def know(self, trace_id: str, task_uuid: str, span_id: str, level: TaskLevel) -> None:
        """Know where an action of ours is that is no span here, for what others did within it."""
        trace = self._traces.setdefault(trace_id, _Trace(task_uuid))
        trace.know(task_uuid, span_id, level)

    def rest(self) -> Iterator[MessageDict]:
        """Give the messages of what is held."""
        while self._traces:
            trace = self._traces.pop(next(iter(self._traces)))
            self._held -= trace.count
            yield from trace.rest()


# ---- ours --------------------------------------------------------------------------------------

_NOWHERE: Final = TaskLevel((0,))


def _level(text: Any) -> TaskLevel | None:
    """Read a level; `_NOWHERE` if it is that of a message without a place, None if it is none."""
    if text == "":
        return _NOWHERE
    if isinstance(text, str) and text.startswith("/"):
        try:
            level = TaskLevel.from_string(text)
        except ValueError:
            return None
        if min(level, default=1) > 0:
            return level
    return None


def _told(item: _Item) -> tuple[Attributes, str, int]:
    """Return attributes, name and time of what a message was made to."""
    if isinstance(item, Span):
        return item.attributes, item.name, item.start_ns
    attributes = item.attributes
    field = attributes.get(attr.BODY)
    if isinstance(field, str):
        attributes = {**attributes, field: item.body}
    return attributes, item.event_name, item.time_ns


@final
class _Trace:
    """What is known of a trace."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        # What is not ours.
        self.items: list[_Item] = []
        self.count = 0
        # Where our spans are, and of which program; and the last position that is taken in an
        # action.
        self._ours: dict[str, tuple[TaskLevel, Attributes]] = {}
        self._last: dict[TaskLevel, int] = {}
        self._has_ours = False

    def know(self, uuid: str, span_id: str, level: TaskLevel) -> None:
        """Know where one of our spans is."""
        self._uuid = uuid
        self._has_ours = True
        self._ours[span_id] = level, {}

    def messages_of_ours(self, item: _Item, level: TaskLevel) -> Iterator[MessageDict]:
        """Give the messages of a span or log record of ours, and remember where it is."""
        self._uuid = attr.task_uuid_of(item.attributes) or self._uuid
        self._has_ours = True
        if isinstance(item, Log) or attr.IS_MESSAGE in item.attributes:
            yield self._placed(attr.message_of(*_told(item)), level)
            return
        self._ours[item.span_id] = level, item.resource
        self._note(level)
        fields, end_fields = attr.fields_of(item.attributes)
        kind = {names.ACTION_TYPE: fields.get(names.ACTION_TYPE, item.name)}
        start = {**kind, names.ACTION_STATUS: names.STARTED, **fields}
        attr.put_back_time(start, item.attributes, item.start_ns)
        yield self._placed(start, TaskLevel((*level, 1)))
        end_level = _level(item.attributes.get(attr.END_LEVEL))
        failure: MessageDict = {}
        for event in item.events:
            event_level = _level(event.attributes.get(attr.TASK_LEVEL))
            if event_level is None or event_level is _NOWHERE:  # somebody added it
                self.items.append(_as_log(event, item))
            elif event_level == end_level:
                failure = attr.exception_fields_of(event.attributes)
            else:
                message = attr.message_of(event.attributes, event.name, event.time_ns)
                yield self._placed(message, event_level)
        if end_level:
            status = names.FAILED if item.status_code == ERROR else names.SUCCEEDED
            end = {**kind, names.ACTION_STATUS: status, **failure, **end_fields}
            attr.put_back_time(end, item.attributes, item.end_ns, attr.END_TIMESTAMP)
            yield self._placed(end, end_level)

    def _placed(self, message: MessageDict, level: TaskLevel) -> MessageDict:
        """Give a message its place, and note that it is taken."""
        self._note(level)
        message[names.TASK_UUID] = self._uuid
        message[names.TASK_LEVEL] = level.as_list()
        return message

    def _note(self, level: TaskLevel) -> None:
        """Note that a position is taken."""
        # What was drawn is not counted on from.
        if level and level[-1] < FIRST_DRAWN:
            action = TaskLevel(level[:-1])
            self._last[action] = max(self._last.get(action, 1), level[-1])

    # ---- others' -------------------------------------------------------------------------------

    def rest(self) -> Iterator[MessageDict]:
        """Give the messages of what is not ours."""
        inside: dict[str, list[_Item]] = {}
        waiting: deque[_Placed] = deque()
        tops: list[_Item] = []
        spans = {item.span_id for item in self.items if isinstance(item, Span)}
        for item in sorted(self.items, key=_time_of):
            parent = _parent_of(item)
            if parent in spans:
                inside.setdefault(parent, []).append(item)
            elif parent in self._ours:
                level, resource = self._ours[parent]
                waiting.append((item, self._next(level), _Around(parent, resource)))
            else:
                tops.append(item)
        waiting.extend(self._roots(tops, inside))
        while waiting or inside:
            if not waiting:  # what is left are spans of which each is within the other
                cycle = inside.pop(next(iter(inside)))
                waiting.extend((item, self._next(_ROOT), _NOBODY) for item in cycle)
            item, level, around = waiting.popleft()
            if isinstance(item, Log):
                yield self._foreign(_log_message(item, around), level)
            else:
                yield from self._action(item, level, around, inside, waiting)

    def _roots(self, tops: list[_Item], inside: dict[str, list[_Item]]) -> Iterator[_Placed]:
        """Give what is within nothing that is known."""
        roots = [item for item in tops if isinstance(item, Span)]
        if self._has_ours or len(roots) > 1 or (not roots and len(tops) > 1):
            yield from ((item, self._next(_ROOT), _NOBODY) for item in tops)
        elif roots:
            yield roots[0], _ROOT, _NOBODY
            # Log records that name no span.
            inside.setdefault(roots[0].span_id, []).extend(i for i in tops if isinstance(i, Log))
        else:
            yield from ((item, _LONE, _NOBODY) for item in tops)

    def _next(self, action: TaskLevel) -> TaskLevel:
        """Take the place behind all that is in an action; in one of ours, of what is counted."""
        last = max(self._last.get(action, 1), FIRST_DRAWN if self._has_ours else 1)
        position = self._last[action] = last + 1
        return TaskLevel((*action, position))

    def _action(
        self,
        span: Span,
        level: TaskLevel,
        around: _Around,
        inside: dict[str, list[_Item]],
        waiting: deque[_Placed],
    ) -> Iterator[MessageDict]:
        """Give the messages of a span, and put the spans within it to those that wait."""
        events = list(span.events)
        end = _end_message(span, events)
        yield self._foreign(_start_message(span, around), TaskLevel((*level, 1)))
        within: list[_Item | Event] = [*events]
        for item in inside.pop(span.span_id, ()):
            if isinstance(item, Span) and len(level) >= _MAX_DEPTH:
                waiting.append((item, self._next(_ROOT), _NOBODY))
            else:
                within.append(item)
        place, here = TaskLevel((*level, 1)), _Around(span.span_id, span.resource)
        for kid in sorted(within, key=_time_of):
            place = place.next_sibling()
            if isinstance(kid, Span):
                waiting.append((kid, place, here))
            elif isinstance(kid, Log):
                yield self._foreign(_log_message(kid, here), place)
            else:
                yield self._foreign(_event_message(kid), place)
        if span.end_ns:
            yield self._foreign(end, place.next_sibling())

    def _foreign(self, message: MessageDict, level: TaskLevel) -> MessageDict:
        """Give a message its place, and its values the types that JSON has."""
        said: MessageDict = decode_line(encode_line(message))
        return self._placed(said, level)


def _time_of(item: _Item | Event) -> int:
    """Return when something was."""
    return item.start_ns if isinstance(item, Span) else item.time_ns


def _parent_of(item: _Item) -> str | None:
    """Return the span that something is in."""
    return item.parent_span_id if isinstance(item, Span) else item.span_id


def _time(time_ns: int) -> MessageDict:
    """Say when something was, if that is known."""
    return {names.TIMESTAMP: attr.seconds(time_ns)} if time_ns else {}


def _program(item: _Item, around: _Around) -> MessageDict:
    """Say which program made something, if that is not what made what is around it."""
    made_there = not item.resource or item.resource == around.resource
    return {} if made_there else {names.OTEL_RESOURCE: item.resource}


def _start_message(span: Span, around: _Around) -> MessageDict:
    """Say what the start of a span says."""
    ours = {
        **_time(span.start_ns),
        names.ACTION_TYPE: span.name,
        names.ACTION_STATUS: names.STARTED,
        names.OTEL_SPAN_ID: span.span_id,
    }
    if span.parent_span_id and span.parent_span_id != around.span_id:
        ours[names.OTEL_PARENT_SPAN_ID] = span.parent_span_id
    if 0 < span.kind < len(KINDS):
        ours[names.OTEL_KIND] = KINDS[span.kind]
    if span.scope:
        ours[names.OTEL_SCOPE] = span.scope
    if span.links:
        ours[names.OTEL_LINKS] = [asdict(link) for link in span.links]
    if span.trace_state:
        ours[names.TRACESTATE] = span.trace_state
    return _joined(span.attributes, {**ours, **_program(span, around)}, _OF_PLACE)


def _end_message(span: Span, events: list[Event]) -> MessageDict:
    """Say what the end of a span says; the event that tells why it failed is taken out."""
    end = {
        names.TIMESTAMP: attr.seconds(span.end_ns),
        names.ACTION_TYPE: span.name,
        names.ACTION_STATUS: names.SUCCEEDED,
    }
    if span.status_code != ERROR:
        return {**end, names.OTEL_STATUS: "ok"} if span.status_code == OK else end
    end[names.ACTION_STATUS] = names.FAILED
    also: Attributes = {}
    exception: MessageDict = {}
    for event in reversed(events):
        if event.name == attr.EXCEPTION_EVENT:
            events.remove(event)
            also, exception = _split(event.attributes)
            break
    kind = exception.get(names.EXCEPTION) or span.attributes.get(_ERROR_TYPE) or "ERROR"
    reason = exception.get(names.REASON, span.status_message)
    if not f"{kind}: {reason}".endswith(span.status_message):
        end[names.OTEL_STATUS_MESSAGE] = span.status_message
    ours = {**end, **exception, names.EXCEPTION: kind, names.REASON: reason}
    return _joined(also, ours, _OF_PLACE)


def _joined(attributes: Attributes, ours: MessageDict, reserved: frozenset[str]) -> MessageDict:
    """Join attributes with fields of ours; what is called as those, or reserved, is renamed."""
    others = attributes.copy()
    make_room(others, reserved)
    return beside(others, ours)


def _split(attributes: Attributes) -> tuple[Attributes, MessageDict]:
    """Part what attributes say of an exception from the others."""
    known = {*attr.EXCEPTION_ATTRIBUTES.values(), attr.EXCEPTION_ESCAPED}
    others = {name: value for name, value in attributes.items() if name not in known}
    return others, attr.exception_fields_of(attributes)


def _event_message(event: Event) -> MessageDict:
    """Say what an event says."""
    ours: MessageDict = {**_time(event.time_ns), names.MESSAGE_TYPE: event.name}
    others = event.attributes
    if event.name == attr.EXCEPTION_EVENT:
        others, exception = _split(others)
        ours = {**ours, names.MESSAGE_TYPE: names.TRACEBACK_TYPE, **exception}
    return _joined(others, ours, _RESERVED)


def _log_message(log: Log, around: _Around) -> MessageDict:
    """Say what a log record says."""
    others, exception = _split(log.attributes)
    ours: MessageDict = {
        **_time(log.time_ns),
        names.MESSAGE_TYPE: LOG_TYPE,
        "message": log.body,
        **exception,
    }
    if log.body is None and log.event_name:  # an event is said by its name and attributes
        del ours["message"]
    if log.scope:
        ours["logger"] = log.scope
    if log.event_name:
        ours[names.OTEL_EVENT_NAME] = log.event_name
    number, text = log.severity_number, log.severity_text
    if level_number(text) is not None:
        ours[LOG_LEVEL] = text
    else:
        level = attr.level_of_severity(number)
        if level:
            ours[LOG_LEVEL] = level
        if text:
            ours[names.OTEL_SEVERITY] = text
    return _joined(others, {**ours, **_program(log, around)}, _RESERVED)


def _as_log(event: Event, span: Span) -> Log:
    """Make a log record of an event."""
    return Log(
        time_ns=event.time_ns,
        body=event.name,
        attributes=event.attributes,
        trace_id=span.trace_id,
        span_id=span.span_id,
        event_name=event.name,
    )
