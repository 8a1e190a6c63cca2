"""Records of the standard library's `logging` to the bytes of events.

An event has the fields that `PyEtw <https://github.com/mgtek/pyetw>`_ gave it, by its names and in
its order, and behind them what it left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, NamedTuple, TypeAlias, final
from uuid import UUID

from eliot_etw._context import current_action
from eliot_etw._counter import Counter
from eliot_etw._json import value_text
from eliot_etw._safe import make_room, safe_repr, safe_str
from eliot_etw._task_level import TaskLevel
from eliot_etw.etw._activity import activity_id
from eliot_etw.etw._encode import MAX_EVENT_BYTES, EventEncoder, payload_limit_bytes
from eliot_etw.etw._message_plan import Absent, Zoned, field_type
from eliot_etw.etw._message_wire import MOST_FIELDS, Fields, cuts, fields_of, lay_out
from eliot_etw.etw._schema import Field, Schema, encode_metadata
from eliot_etw.etw._types import InType, OutType
from eliot_etw.exceptions import InvalidEvent
from eliot_etw.stdlib._attributes import extra_of, is_without_extra
from eliot_etw.typing import JsonDefault, MessageDict

_EVENT = "log"
# PerfView fails at 65,000 schemas of all providers in a trace.
_MAX_SCHEMAS = 60
# Places in the source, and threads: programs have fewer, unless they get records from others.
_MAX_REMEMBERED = 10_000
_LONGEST_NAME_BYTES = 2000

_U16: Final = Struct("<H").pack


def _text(name: str) -> Field:
    return Field(name, InType.ANSI, OutType.UTF8)


# What a line of the program always has; then comes the message, and then who logged it.
_SITE: Final = (
    _text("module"),
    _text("funcName"),
    _text("pathname"),
    _text("filename"),
    Field("lineno", InType.INT32),
    _text("levelname"),
)
_MESSAGE: Final = _text("msg")
_SENDER: Final = (
    _text("name"),
    Field("levelno", InType.INT32),
    Field("thread", InType.UINT64),
    _text("threadName"),
    _text("processName"),
)
_ALWAYS: Final = (*_SITE, _MESSAGE, *_SENDER)
_SITES: Final[dict[tuple[Any, ...], bytes]] = {}
_SENDERS: Final[dict[tuple[Any, ...], bytes]] = {}

# The types of values whose fields need no look at the value.
_PLAIN: Final = frozenset({int, float, bool, UUID})

# The fields that only some records have, besides those of `extra`.
_OPTIONAL: Final = ("exc_text", "stack_info", "task_uuid", "task_level")
_NAMES: Final = (*(field.name for field in _ALWAYS), *_OPTIONAL)
# What is left of the fields that messages have room for.
_MOST_EXTRA = MOST_FIELDS - len(_ALWAYS) - len(_OPTIONAL)
_FORMATTER: Final = logging.Formatter()


class _Unusual(Exception):
    """A record is otherwise than most. Never leaves the encoder."""


RecordEvent: TypeAlias = tuple[bytes, bytes, bytes | None]
"""An event's metadata, payload, and activity id."""


_Encode: TypeAlias = Callable[[Sequence[Any]], bytes]
"""Encodes the values of some fields."""


class _Plan(NamedTuple):
    """What all events of one shape have in common."""

    metadata: bytes
    encode: _Encode
    """Encodes the values of those fields that not all events have."""
    limit_bytes: int
    """How long a payload may be, together with the provider's traits."""


@final
class RecordEncoder:
    """Makes the events of a handler. All threads may use it.

    Attributes:
        truncated: Counts the events of which something was cut.
    """

    def __init__(self, default: JsonDefault) -> None:
        """Prepare for records; `default` converts values that JSON does not know."""
        self.truncated = Counter()
        self._default = default
        self._plans: dict[tuple[Any, ...], _Plan] = {}

    def encode(
        self, record: logging.LogRecord, traits: bytes, formatter: logging.Formatter | None
    ) -> RecordEvent:
        """Make the event of a record that is as most are.

        Args:
            record: The record.
            traits: What describes the provider.
            formatter: What exceptions are shown by, if not as `logging` does it.

        Raises:
            Exception: If the record is otherwise, or too long.
        """
        of_site = (
            record.module, record.funcName, record.pathname, record.filename, record.lineno,
            record.levelname,
        )  # fmt: skip
        site = _SITES.get(of_site) or _remember(_SITES, of_site, _encode_site)
        of_sender = (
            record.name, record.levelno, record.thread, record.threadName, record.processName
        )  # fmt: skip
        sender = _SENDERS.get(of_sender) or _remember(_SENDERS, of_sender, _encode_sender)
        message = record.getMessage().encode()
        attributes = record.__dict__
        if (
            is_without_extra(attributes)
            and not (record.exc_info or record.exc_text or record.stack_info)
            and current_action() is None
        ):
            plan = self._plans.get(()) or self._new_plan((), {})
            payload = b"".join((site, _U16(len(message)), message, sender))
            activity = None
        else:
            more, activity = _more(record, formatter)
            for value in more.values():
                if type(value) is str:
                    value.encode()
                elif type(value) not in _PLAIN:
                    raise _Unusual
            shape = (*more, *map(type, more.values()))
            plan = self._plans[shape]
            rest = plan.encode([*more.values()])
            payload = b"".join((site, _U16(len(message)), message, sender, rest))
        if len(payload) + len(traits) > plan.limit_bytes:
            raise _Unusual
        return plan.metadata, payload, activity

    def encode_carefully(
        self,
        record: logging.LogRecord,
        traits: bytes,
        formatter: logging.Formatter | None,
        message: str,
    ) -> RecordEvent:
        """Make the event of any record; cut its values until they fit.

        Args:
            record: The record.
            traits: What describes the provider.
            formatter: What exceptions are shown by, if not as `logging` does it.
            message: The record's message, whatever `getMessage` does.

        Raises:
            Exception: If something happens that was not foreseen.
        """
        site = _encode_site([getattr(record, field.name) for field in _SITE])
        sender = _encode_sender([getattr(record, field.name) for field in _SENDER])
        more, activity = _more(record, formatter)
        fields = fields_of({_MESSAGE.name: message, **more}, self._default)
        room = MAX_EVENT_BYTES - len(site) - len(sender) - len(traits)
        # The second time with JSON in UTF-8, as always from then on.
        uncut: list[tuple[Fields, dict[str, int]]] = [(fields, {}), (fields, {})]
        for number, (form, sizes) in enumerate(chain(uncut, cuts(fields, self._default, room))):
            try:
                text, rest, plan = self._lay_out(form, sizes, is_tight=number > 0)
                payload = b"".join((site, _U16(len(text)), text, sender, rest))
            except (InvalidEvent, struct_error):
                continue
            if len(payload) + len(traits) <= plan.limit_bytes:
                if sizes:
                    self.truncated.add()
                return plan.metadata, payload, activity
        raise _Unusual

    def _lay_out(
        self, form: Fields, sizes: dict[str, int], *, is_tight: bool
    ) -> tuple[bytes, bytes, _Plan]:
        """Return the message, the values behind the fields that all have, and what has them."""
        typed = dict(form.typed)
        message = str(typed.pop(_MESSAGE.name, ""))
        own = {name: typed.pop(name) for name in _OPTIONAL if name in typed}
        extra = Fields({name: form.plain[name] for name in typed}, typed)
        for is_fallback in (False, True):
            wire = lay_out(
                extra, self._default, sizes,
                is_tight=is_tight, is_fallback=is_fallback, most_fields=_MOST_EXTRA,
                others=_NAMES,
            )  # fmt: skip
            more = own | {name: value for name, value in wire.items() if type(value) is not Absent}
            shape = (*more, *map(type, more.values()))
            if shape in self._plans or len(self._plans) < _MAX_SCHEMAS:
                break
        plan = self._plans.get(shape) or self._new_plan(shape, more)
        values = [self._encodable(value) for value in more.values()]
        return message.encode(), plan.encode(values), plan

    def _encodable(self, value: Any) -> Any:
        """Return what is encoded for a value: JSON is text."""
        is_json = field_type(type(value)) == (InType.UTF16, OutType.JSON)
        is_text = isinstance(value, str)
        return value_text(value, self._default) if is_json and not is_text else value

    def _new_plan(self, shape: tuple[Any, ...], more: MessageDict) -> _Plan:
        """Plan events of one shape, and keep the plan."""
        rest = tuple(_field(name, value) for name, value in more.items())
        metadata = encode_metadata(Schema(_EVENT, (*_ALWAYS, *rest)))
        # Traits are padded to 8 bytes.
        limit = payload_limit_bytes(metadata, b"", has_related_activity=False) - 7
        plan = _Plan(metadata, EventEncoder(Schema(_EVENT, rest)).payload, limit)
        self._plans[shape] = plan
        return plan


def _more(
    record: logging.LogRecord, formatter: logging.Formatter | None
) -> tuple[MessageDict, bytes | None]:
    """Return the fields that not all records have, and the id of the current action."""
    own: MessageDict = {}
    activity = None
    if record.exc_text or record.exc_info:
        own["exc_text"] = record.exc_text or _traceback(record.exc_info, formatter)
    if record.stack_info:
        own["stack_info"] = record.stack_info
    action = current_action()
    if action is not None:
        own["task_uuid"] = action.task_uuid
        own["task_level"], activity = _place(action.task_uuid, action.task_level, os.getpid())
    attributes = vars(record)
    if not is_without_extra(attributes):
        extra = extra_of(attributes, own.get("task_uuid", ""))
        make_room(extra, frozenset(own))
        own |= extra
    return own, activity


def _traceback(exc_info: Any, formatter: logging.Formatter | None) -> str:
    """Return the text of an exception, as a formatter makes it."""
    try:
        return (formatter or _FORMATTER).formatException(exc_info)
    except Exception:  # noqa: BLE001 - an exception may refuse to be shown
        return safe_repr(exc_info)


def _field(name: str, value: Any) -> Field:
    """Return the field for a value."""
    kind = type(value)
    types = field_type(kind)
    assert types is not None  # noqa: S101 - values are given types that have one
    return Field(name, *types, kind.tags if issubclass(kind, Zoned) else 0)


def _encoder_of(fields: tuple[Field, ...]) -> _Encode:
    """Return what encodes the values of fields, whatever they are."""
    encode = EventEncoder(Schema(_EVENT, fields)).payload

    def encode_any(values: Sequence[Any]) -> bytes:
        return encode(
            [_fitting(field, value) for field, value in zip(fields, values, strict=True)]
        )

    return encode_any


_encode_site: Final = _encoder_of(_SITE)
_encode_sender: Final = _encoder_of(_SENDER)
_RANGES: Final = {InType.INT32: range(-(1 << 31), 1 << 31), InType.UINT64: range(1 << 64)}


def _fitting(field: Field, value: Any) -> Any:
    """Return a value that fits its field: what is missing, or no number, is empty or 0."""
    numbers = _RANGES.get(InType(field.in_type))
    if numbers is not None:
        return value if type(value) is int and value in numbers else 0
    data = ("" if value is None else safe_str(value)).encode("utf-8", "backslashreplace")
    if len(data) <= _LONGEST_NAME_BYTES:
        return data.decode()
    return data[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore") + "..."


def _remember(
    known: dict[tuple[Any, ...], bytes], values: tuple[Any, ...], encode: _Encode
) -> bytes:
    """Encode values, and keep what became of them."""
    if len(known) >= _MAX_REMEMBERED:
        known.clear()
    known[values] = data = encode(values)
    return data


@lru_cache(1024)
def _place(task_uuid: str, level: TaskLevel, process_id: int) -> tuple[str, bytes]:
    """Return how the place of an action is written, and its activity id."""
    return level.to_string(), activity_id(task_uuid, level, process_id)
