"""Messages to spans and log records, one after the other, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Literal, TypeAlias, final

from eliot_etw import _names as names
from eliot_etw._levels import ERROR as ERROR_LEVEL
from eliot_etw._levels import level_of
from eliot_etw._task_level import TaskLevel, new_task_uuid
from eliot_etw._trace_context import (
    SAMPLED,
    parse_traceparent,
    span_id_of,
    task_uuid_of,
    trace_id_of,
)
from eliot_etw._written import place_of
from eliot_etw.exceptions import InvalidTraceParent
from eliot_etw.otlp import _attributes as attr
from eliot_etw.otlp._model import (
    CLIENT,
    ERROR,
    INTERNAL,
    KINDS,
    OK,
    SERVER,
    UNSET,
    Attributes,
    Event,
    Link,
    Log,
    Span,
)
from eliot_etw.typing import MessageDict

MessagesAs: TypeAlias = Literal["events", "logs", "spans"]
"""What messages become."""

MAX_HELD: Final = 20_000
"""How many messages of open actions are held, if nothing else is said."""
MAX_EVENTS: Final = 128
"""How many events a span has at most, as the SDK of OpenTelemetry has it."""
SCOPE: Final = "eliot_etw"
"""The library that our spans and log records name."""

# Of OTLP's flags: that the next one says something, and that the parent is in another process.
_KNOWS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200
_is_span_id = re.compile("(?!0{16})[0-9a-f]{16}").fullmatch
_is_trace_id = re.compile("(?!0{32})[0-9a-f]{32}").fullmatch
_NUMBERS: Final = {name: number for number, name in enumerate(KINDS)}
# What our own wrappers of servers and clients make.
_KINDS_OF_TYPES: Final = {names.HTTP_REQUEST: SERVER, names.HTTP_CALL: CLIENT}
_SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
# What is said by other parts of a span, an event or a log record than its attributes.
_OF_UNPLACED: Final = frozenset({names.TIMESTAMP, names.MESSAGE_TYPE})
_OF_MESSAGE: Final = names.PLACE_FIELDS | {names.MESSAGE_TYPE}
_OF_START: Final = names.PLACE_FIELDS | {names.ACTION_TYPE, names.ACTION_STATUS}
_OF_END: Final = names.PLACE_FIELDS | {names.ACTION_STATUS}

# The field that says something to people, as of messages that were records of `logging`.
_MESSAGE: Final = "message"

_Key: TypeAlias = tuple[str, tuple[int, ...]]


@final
class SpanMaker:
    """Makes a span of each action, and events or log records of messages.

    A span takes no event any more once it is over, nor if it was made in another process or holds
    as many as it may. What stands outside of any action, or is the end of one whose start is not
    known, no span takes either. Nothing vanishes, and what `MessageMaker` makes of the spans and
    log records are the same messages.

    Args:
        messages: What messages become. ``"events"``: events of the action's span, and where no
            span takes them, log records. ``"logs"``: log records that name the span, all but those
            that tell of an exception. ``"spans"``: events, and where no span takes them, spans of
            no length, for receivers that know nothing else.
        resource: What makes the spans: attributes of the program.
        max_held: How many messages are held at most: starts of actions that are open, and their
            events. When that many are, the oldest action is given out unfinished.
    """

    def __init__(
        self,
        *,
        messages: MessagesAs = "events",
        resource: Attributes | None = None,
        max_held: int = MAX_HELD,
    ) -> None:
        self._makes_events = messages != "logs"
        self._makes_logs = messages != "spans"
        self._resource = {} if resource is None else resource
        self._max_held = max_held
        self._open: dict[_Key, _Action] = {}
        # The last task and its trace: mostly it is that of the next message too.
        self._trace = ("", "")
        self.held = 0
        """How many messages are held."""
        self.unfinished = 0
        """How many actions were given out unfinished."""

    def add(self, message: MessageDict) -> Sequence[Span | Log]:
        """Take a message, as it was read back from JSON: with the values that JSON has.

        Returns:
            What is finished by it: mostly nothing, a span or a log record.
        """
        place = place_of(message)
        if place is None:
            return (self._apart(message, None),)
        uuid, level = place
        key = (uuid, tuple(level[:-1]))
        action = self._open.get(key)
        role = _role(message, level[-1])
        if action is None:
            return (
                self._begin(key, message) if role == names.STARTED else self._alone(key, message)
            )
        if role in names.END_STATUSES:
            return (self._closed(key, message),)
        if role is None and self._has_room_in(action, message):
            self.held += 1
            action.count += 1
            action.events.append(_event(message))
            return ()
        return (self._apart(message, key, action.span_id, action.resource),)

    def rest(self) -> Iterator[Span]:
        """Give the actions that are open, unfinished."""
        while self._open:
            yield self._given_up()

    def _has_room_in(self, action: _Action, message: MessageDict) -> bool:
        """Say whether a message becomes an event of an action."""
        if action.count > MAX_EVENTS or self.held >= self._max_held:
            return False
        return self._makes_events or attr.is_traceback(message)

    def _begin(self, key: _Key, start: MessageDict) -> Sequence[Span]:
        """Open an action."""
        uuid, level = key
        above = self._open.get((uuid, level[:-1])) if level else None
        given_up = (self._given_up(),) if self._open and self.held >= self._max_held else ()
        self._open[key] = _Action(self._trace_id(uuid), key, start, above, self._resource)
        self.held += 1
        return given_up

    def _given_up(self) -> Span:
        """Close the oldest action without its end."""
        self.unfinished += 1
        return self._closed(next(iter(self._open)), None)

    def _closed(self, key: _Key, end: MessageDict | None) -> Span:
        """Close an action."""
        action = self._open.pop(key)
        self.held -= action.count
        return action.span(end)

    def _trace_id(self, uuid: str) -> str:
        """Return the id of the trace that a task is."""
        if uuid != self._trace[0]:
            self._trace = uuid, trace_id_of(uuid)
        return self._trace[1]

    def _alone(self, key: _Key, message: MessageDict) -> Sequence[Span | Log]:
        """Make something of a message whose action is not open."""
        # A message at [1] that starts no action stands outside of any.
        is_lone = not key[1] and [*message[names.TASK_LEVEL]] == [1]
        return (self._apart(message, key, None if is_lone else span_id_of(*key)),)

    def _apart(
        self,
        message: MessageDict,
        key: _Key | None,
        span_id: str | None = None,
        resource: Attributes | None = None,
    ) -> Span | Log:
        """Make a log record of a message, or a span of no length.

        Args:
            message: The message.
            key: Its task, and the level of its action; None if it has no place.
            span_id: Its action.
            resource: What made the action, if that is known.
        """
        resource = _resource(message, self._resource if resource is None else resource)
        trace_id = None
        if key is None:
            attributes: Attributes = {attr.TASK_LEVEL: ""}
        else:
            trace_id = self._trace_id(key[0])
            attributes = _placed(key[0], message[names.TASK_LEVEL], trace_id)
        time_ns = attr.put_time(attributes, message)
        name = _put_message(attributes, message, _OF_UNPLACED if key is None else _OF_MESSAGE)
        if self._makes_logs:
            severity, severity_text = _severity(message)
            return Log(
                time_ns=time_ns,
                severity_number=severity,
                severity_text=severity_text,
                body=_body(attributes, name),
                attributes=attributes,
                trace_id=trace_id,
                span_id=span_id,
                event_name=name,
                scope=SCOPE,
                resource=resource,
            )
        attributes[attr.IS_MESSAGE] = True
        # A span must have a trace, and an id there: that of the message's own place.
        uuid, level = (new_task_uuid(), []) if key is None else (key[0], message[names.TASK_LEVEL])
        return Span(
            trace_id=trace_id or trace_id_of(uuid),
            span_id=span_id_of(uuid, level),
            parent_span_id=span_id,
            name=name,
            start_ns=time_ns,
            end_ns=time_ns,
            attributes=attributes,
            status_code=ERROR if level_of(message) >= ERROR_LEVEL else UNSET,
            flags=_flags(is_remote=False),
            scope=SCOPE,
            resource=resource,
        )


def messages_in(item: Span | Log) -> int:
    """Count the messages that `SpanMaker` made a span or log record of."""
    if isinstance(item, Log) or attr.IS_MESSAGE in item.attributes:
        return 1
    end_level = item.attributes.get(attr.END_LEVEL)
    within: int = sum(event.attributes[attr.TASK_LEVEL] != end_level for event in item.events)
    return 1 + bool(end_level) + within


def _body(attributes: Attributes, name: str) -> str:
    """Return what a log record says to people; if it is a field, that is no attribute any more."""
    text = attributes.get(_MESSAGE)
    if isinstance(text, str) and _MESSAGE not in attributes.get(attr.IN_JSON, ()):
        del attributes[_MESSAGE]
        attributes[attr.BODY] = _MESSAGE
        return text
    return str(attributes.get(attr.EXCEPTION_ATTRIBUTES[names.REASON], name))


def _role(message: MessageDict, position: int) -> str | None:
    """Return the status of what starts or ends an action; None if it is neither."""
    if isinstance(message.get(names.ACTION_TYPE), str):
        status = message.get(names.ACTION_STATUS)
        if status == names.STARTED:
            return names.STARTED if position == 1 else None
        if status in names.END_STATUSES:
            return str(status)
    return None


@final
class _Action:
    """An action that is open."""

    __slots__ = (
        "_flags",
        "_parent_id",
        "_start",
        "_start_ns",
        "_trace_id",
        "attributes",
        "count",
        "events",
        "resource",
        "span_id",
        "trace_state",
    )

    def __init__(
        self,
        trace_id: str,
        key: _Key,
        start: MessageDict,
        above: _Action | None,
        resource: Attributes,
    ) -> None:
        self.span_id = _id(start, names.OTEL_SPAN_ID) or span_id_of(*key)
        self.events: list[Event] = []
        # Of the messages in it.
        self.count = 1
        self._trace_id = trace_id
        self._start = start
        self.resource: Attributes = _resource(start, above.resource if above else resource)
        self._parent_id = _foreign_parent(start, trace_id)
        if self._parent_id is None and key[1]:
            self._parent_id = above.span_id if above else span_id_of(key[0], key[1][:-1])
        self._flags = _flags(is_remote=above is None and self._parent_id is not None)
        state = start.get(names.TRACESTATE)
        self.trace_state: str = (
            state if isinstance(state, str) else above.trace_state if above else ""
        )
        self.attributes = _placed(key[0], key[1], trace_id)
        self._start_ns = attr.put_time(self.attributes, start)
        for name, value in start.items():
            if name not in _OF_START:
                attr.put_field(self.attributes, name, value)

    def span(self, end: MessageDict | None) -> Span:
        """Make the span.

        Args:
            end: The message that ended the action; None if it is given out unfinished.
        """
        start = self._start
        name = attr.put_action_name(
            self.attributes, start[names.ACTION_TYPE], end and end.get(names.OTEL_NAME)
        )
        if end is None:
            self.attributes[attr.UNFINISHED] = True
            end_ns = max([self._start_ns, *(event.time_ns for event in self.events)])
            status, status_message = UNSET, ""
        else:
            # Never before the start, even if the clock was set back.
            end_ns = max(attr.nanoseconds(end), self._start_ns)
            status, status_message = self._finish(end, end_ns)
        return Span(
            trace_id=self._trace_id,
            span_id=self.span_id,
            parent_span_id=self._parent_id,
            name=name,
            start_ns=self._start_ns,
            end_ns=end_ns,
            kind=_kind(start),
            attributes=self.attributes,
            events=self.events,
            links=list(_links(start)),
            status_code=status,
            status_message=status_message,
            trace_state=self.trace_state,
            flags=self._flags,
            scope=_text(start, names.OTEL_SCOPE) or SCOPE,
            resource=self.resource,
        )

    def _finish(self, end: MessageDict, end_ns: int) -> tuple[int, str]:
        """Take what the end of the action says, and return the status."""
        attributes = self.attributes
        attributes[attr.END_LEVEL] = end_level = _level_text(end[names.TASK_LEVEL])
        attr.put_exact_time(attributes, end, end_ns, attr.END_TIMESTAMP)
        said: set[str] = set()
        status = OK if end.get(names.OTEL_STATUS) == "ok" else UNSET
        if end[names.ACTION_STATUS] == names.FAILED:
            status = ERROR
            failure: Attributes = {attr.TASK_LEVEL: end_level}
            said = attr.put_exception(failure, end)
            if said:
                self.events.append(Event(attr.EXCEPTION_EVENT, end_ns, failure))
        if end[names.ACTION_TYPE] == self._start[names.ACTION_TYPE]:
            said.add(names.ACTION_TYPE)
        for name, value in end.items():
            if name not in _OF_END and name not in said:
                attr.put_end_field(attributes, name, value)
        reason = _text(end, names.OTEL_STATUS_MESSAGE) or _text(end, names.REASON)
        return status, reason if status == ERROR else ""


def _event(message: MessageDict) -> Event:
    """Make an event of a message."""
    attributes: Attributes = {attr.TASK_LEVEL: _level_text(message[names.TASK_LEVEL])}
    time_ns = attr.put_time(attributes, message)
    return Event(_put_message(attributes, message, _OF_MESSAGE), time_ns, attributes)


def _put_message(attributes: Attributes, message: MessageDict, omitted: frozenset[str]) -> str:
    """Add what a message says, but for some fields, and return the name for it."""
    fields = {name: value for name, value in message.items() if name not in omitted}
    name = attr.put_message_name(attributes, message)
    if attr.is_traceback(message):
        attr.put_traceback_fields(attributes, fields)
    else:
        for field, value in fields.items():
            attr.put_field(attributes, field, value)
    return name


def _placed(uuid: str, level: Sequence[int], trace_id: str) -> Attributes:
    """Make the attributes that say where in a task something stands."""
    attributes: Attributes = {attr.TASK_LEVEL: _level_text(level)}
    if task_uuid_of(trace_id) != uuid:
        attr.put(attributes, attr.TASK_UUID, uuid)
    return attributes


def _level_text(level: Sequence[int]) -> str:
    return TaskLevel(level).to_string()


def _flags(*, is_remote: bool) -> int:
    return SAMPLED | _KNOWS_REMOTE | (IS_REMOTE if is_remote else 0)


def _foreign_parent(start: MessageDict, trace_id: str) -> str | None:
    """Return the parent that a start names itself, where that is not the action around it."""
    parent = _id(start, names.OTEL_PARENT_SPAN_ID)
    if parent is None and names.TRACEPARENT in start:
        with suppress(InvalidTraceParent):
            foreign = parse_traceparent(start[names.TRACEPARENT])
            return foreign.parent_id if foreign.trace_id == trace_id else None
    return parent


def _kind(start: MessageDict) -> int:
    """Return the kind of span that an action is."""
    kind = _NUMBERS.get(_text(start, names.OTEL_KIND))
    return kind or _KINDS_OF_TYPES.get(start[names.ACTION_TYPE], INTERNAL)


def _resource(message: MessageDict, otherwise: Attributes) -> Attributes:
    """Return what made a message, if it says so."""
    said = message.get(names.OTEL_RESOURCE)
    return said if isinstance(said, dict) else otherwise


def _links(start: MessageDict) -> Iterator[Link]:
    """Give the links that a start tells of."""
    told = start.get(names.OTEL_LINKS)
    for link in told if isinstance(told, list) else ():
        if isinstance(link, dict):
            trace_id, span_id = _id(link, "trace_id", _is_trace_id), _id(link, "span_id")
            attributes: Attributes = {}
            said = link.get("attributes")
            for name, value in said.items() if isinstance(said, dict) else ():
                attr.put_field(attributes, name, value)
            if trace_id and span_id:
                yield Link(trace_id, span_id, attributes)


def _id(
    message: MessageDict, name: str, is_id: Callable[[str], object] = _is_span_id
) -> str | None:
    """Return the id that a field says; None if it says none."""
    said = message.get(name)
    return said if isinstance(said, str) and is_id(said) else None


def _text(message: MessageDict, name: str) -> str:
    """Return the text that a field says; empty if it says none."""
    said = message.get(name)
    return said if isinstance(said, str) and attr.is_unicode(said) else ""


def _severity(message: MessageDict) -> tuple[int, str]:
    """Return how grave a message is, by OTLP's numbers, and how it calls that."""
    # From DEBUG on, a step of 10 on the scale of `logging` is one of 4 on that of OTLP.
    step = min(max(level_of(message) // 10, 0), len(_SEVERITIES) - 1)
    return 4 * step + 1, _SEVERITIES[step]
