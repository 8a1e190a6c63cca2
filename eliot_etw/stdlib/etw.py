"""Records of the standard library's `logging` as events of Event Tracing for Windows.

An event has the fields that `PyEtw <https://github.com/mgtek/pyetw>`_ gave it, by its names and in
its order, and behind them what it left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from itertools import chain
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, NamedTuple, TypeAlias, final
from uuid import UUID

from eliot_etw._context import current_action
from eliot_etw._counter import Counter
from eliot_etw._json import value_text
from eliot_etw._safe import make_room, safe_repr, safe_str
from eliot_etw.etw._activity import activity_id
from eliot_etw.etw._encode import MAX_EVENT_BYTES, EventEncoder, payload_limit_bytes
from eliot_etw.etw._levels import FAILURES, MESSAGES, level_logged
from eliot_etw.etw._message_plan import Absent, Zoned, field_type
from eliot_etw.etw._message_wire import MOST_FIELDS, Fields, cuts, fields_of, lay_out
from eliot_etw.etw._provider import Provider
from eliot_etw.etw._records import TRACELOGGING_CHANNEL
from eliot_etw.etw._schema import Field, Schema, encode_metadata
from eliot_etw.etw._types import InType, OutType
from eliot_etw.exceptions import InvalidEvent
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

_EVENT = "log"
_ROOT = "root"
# Windows limits how many a process may register; nobody wants to type as many names.
_MAX_PROVIDERS = 500
# Names of loggers and places in the source that are remembered: programs have fewer, unless they
# make them up, or get their records from others.
_MAX_REMEMBERED = 10_000
# PerfView fails at 65,000 schemas of all providers in a trace.
_MAX_SCHEMAS = 60
_LONGEST_NAME_BYTES = 2000

_DESCRIPTOR: Final = Struct("<HBBBBHQ").pack
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
_encode_site: Final = EventEncoder(Schema(_EVENT, _SITE)).payload
_encode_sender: Final = EventEncoder(Schema(_EVENT, _SENDER)).payload
_SITES: Final[dict[tuple[Any, ...], bytes]] = {}
_SENDERS: Final[dict[tuple[Any, ...], bytes]] = {}

# What each record has by itself, and what formatters add to it: all else is from `extra`.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"taskName", "message", "asctime"}
_has_no_extra: Final = _OWN.issuperset
# The types of values whose fields need no look at the value.
_PLAIN: Final = frozenset({int, float, bool, UUID})

# The fields that only some records have, besides those of `extra`.
_OPTIONAL: Final = ("exc_text", "stack_info", "task_uuid", "task_level")
# What is left of the fields that messages have room for.
_MOST_EXTRA = MOST_FIELDS - len(_ALWAYS) - len(_OPTIONAL)
_FORMATTER: Final = logging.Formatter()


class _Unusual(Exception):
    """A record is otherwise than most. Never leaves the handler."""


_Event: TypeAlias = tuple[bytes, bytes, bytes | None]
"""An event's metadata, payload, and activity id."""


class _Kind(NamedTuple):
    """What all records of one level have in common, those with an exception apart."""

    level: int
    keyword: int
    descriptor: bytes


def _kind(levelno: int, keyword: int) -> _Kind:
    level = level_logged(levelno)
    descriptor = _DESCRIPTOR(0, 0, TRACELOGGING_CHANNEL, level, 0, 0, keyword)
    return _Kind(level, keyword, descriptor)


_NUMBERS: Final = range(10, 60, 10)
_USUAL: Final = {number: _kind(number, MESSAGES) for number in _NUMBERS}
_FAILED: Final = {number: _kind(number, MESSAGES | FAILURES) for number in _NUMBERS}


class _Plan(NamedTuple):
    """What all events of one shape have in common."""

    metadata: bytes
    encode: Callable[[Sequence[Any]], bytes]
    """Encodes the values of those fields that not all events have."""
    limit_bytes: int
    """How long a payload may be, together with the provider's traits."""


@final
class EtwHandler(logging.Handler):
    """Writes each record as one event, of a provider that is called as the logger is.

    So ``tracelog -guid *myapp.db`` listens to the logger ``myapp.db``, and ``*root`` to the root
    logger. A logger whose name no provider can have (empty, or with ``ß`` in it) writes to the
    provider of the nearest logger above it that can, as do those for which there is no room: at
    most 500 loggers have a provider of their own.

    The level is 1 for ``CRITICAL``, 2 ``ERROR``, 3 ``WARNING``, 4 ``INFO``, 5 for what is below.
    The keyword is 2, and 4 is added if there is an exception. While nobody listens to a logger,
    its records are not even formatted.

    Threads do not wait for one another, and a record that Windows refuses is counted by `stats`.
    """

    def __init__(
        self,
        level: int | str = logging.NOTSET,
        *,
        provider_name: str | None = None,
        guid: UUID | str | None = None,
        group: UUID | str | None = None,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Register the first provider.

        Args:
            level: Records below this level are ignored.
            provider_name: One provider for all loggers, in place of one for each.
            guid: What Windows knows that provider by, if that is not made from its name.
            group: The GUID of a group that the provider, or all of them, belong to.
            json_default: Converts values in `extra` that JSON does not know.

        Raises:
            ValueError: If the name or a GUID is none, or there is a GUID without a name.
            OSError: If this is not Windows, or Windows refuses.
        """
        if guid is not None and provider_name is None:
            msg = (
                f"a guid must be that of one provider, got {guid} and no provider_name. "
                "Pass both, or neither to have a provider for each logger."
            )
            raise ValueError(msg)
        self._default = json_default
        self._group = _guid(group)
        self._has_many = provider_name is None
        self._top = Provider(provider_name or _ROOT, guid=_guid(guid), group=self._group)
        # Which provider the records of a logger go to; and those that are registered, by name.
        self._providers: dict[str, Provider] = {}
        self._registered = {self._top.name: self._top}
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        self._failed: dict[int, Counter] = {}
        self._errors = Counter()
        self._truncated = Counter()
        self._shared = Counter()
        self._is_closed = False
        self._after_close = Counter()
        # Last, because logging closes every handler that it knows when the program exits.
        super().__init__(level)

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record if the filters let it pass. There is nothing that needs a lock."""
        if self.filters:
            passed: Any = self.filter(record)
            if not passed:
                return False
            if isinstance(passed, logging.LogRecord):  # since Python 3.12
                record = passed
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record if anybody wants it. Never raises."""
        try:
            provider = self._providers.get(record.name) or self._find(record.name)
            has_failed = record.exc_info or record.exc_text
            kinds = _FAILED if has_failed else _USUAL
            level, keyword, descriptor = kinds.get(record.levelno) or _kind(
                record.levelno, MESSAGES | FAILURES if has_failed else MESSAGES
            )
            if level > provider.level or not provider.is_enabled(level, keyword):
                if self._is_closed:
                    self._after_close.add()
                return
            try:
                event = self._encode(record, provider)
            except Exception:  # noqa: BLE001 - a record may be anything
                event = self._encode_carefully(record, provider)
            code = provider.write(descriptor, *event)
            if code:
                self._failed.setdefault(code, Counter()).add()
        except Exception:  # noqa: BLE001 - as all handlers do
            self._errors.add()
            self.handleError(record)

    def close(self) -> None:
        """Unregister the providers. Records that still come are counted. May be called twice."""
        self.acquire()
        try:
            self._is_closed = True
            self._providers.clear()
            for provider in self._registered.values():
                provider.close()
        finally:
            self.release()
        super().close()

    def stats(self) -> dict[str, int]:
        """Count what was not as usual.

        Returns:
            ``failed``: events that Windows refused, and the same by its codes, such as
            ``failed_8``, a disk that is too slow; ``errors``: records that could not be written,
            or whose arguments did not fit their message; ``truncated``: events of which something
            was cut; ``shared``: loggers that write to the provider of one above them;
            ``after_close``: records that came too late.
        """
        failed = {code: counter.value for code, counter in sorted(self._failed.items())}
        return {
            "failed": sum(failed.values()),
            **{f"failed_{code}": count for code, count in failed.items()},
            "errors": self._errors.value,
            "truncated": self._truncated.value,
            "shared": self._shared.value,
            "after_close": self._after_close.value,
        }

    # ---- providers ------------------------------------------------------------------------------

    def _find(self, name: str) -> Provider:
        """Find the provider of a logger that has not logged before."""
        self.acquire()
        try:
            provider = self._providers.get(name)
            if provider is None:
                provider = self._nearest(name)
                if len(self._providers) < _MAX_REMEMBERED:
                    self._providers[name] = provider
            return provider
        finally:
            self.release()

    def _nearest(self, name: str) -> Provider:
        """Return the provider of a logger, or of the nearest above it that can have one."""
        if self._is_closed or not self._has_many:
            return self._top
        nearer = name
        while nearer:
            provider = self._registered.get(nearer) or self._register(nearer)
            if provider is not None:
                break
            nearer = nearer.rpartition(".")[0]
        else:
            provider = self._top
        if provider.name != name:
            self._shared.add()
        return provider

    def _register(self, name: str) -> Provider | None:
        if len(self._registered) >= _MAX_PROVIDERS:
            return None
        try:
            provider = Provider(name, group=self._group)
        except (OSError, ValueError):
            return None
        self._registered[name] = provider
        return provider

    # ---- events ---------------------------------------------------------------------------------

    def _encode(self, record: logging.LogRecord, provider: Provider) -> _Event:
        """Make the event of a record that is as most are.

        Raises:
            Exception: If the record is otherwise, or too long.
        """
        of_site = (
            record.module, record.funcName, record.pathname, record.filename, record.lineno,
            record.levelname,
        )  # fmt: skip
        site = _SITES.get(of_site) or _remember(_SITES, of_site, _encode_site(of_site))
        of_sender = (
            record.name, record.levelno, record.thread, record.threadName, record.processName
        )  # fmt: skip
        sender = _SENDERS.get(of_sender) or _remember(
            _SENDERS, of_sender, _encode_sender(of_sender)
        )
        message = record.getMessage().encode()
        attributes = record.__dict__
        if (
            _has_no_extra(attributes)
            and not (record.exc_info or record.exc_text or record.stack_info)
            and current_action() is None
        ):
            plan = self._plans.get(()) or self._new_plan((), {})
            payload = b"".join((site, _U16(len(message)), message, sender))
            activity = None
        else:
            more, activity = self._more(record)
            for value in more.values():
                if type(value) is str:
                    value.encode()
                elif type(value) not in _PLAIN:
                    raise _Unusual
            shape = (*more, *map(type, more.values()))
            plan = self._plans[shape]
            rest = plan.encode([*more.values()])
            payload = b"".join((site, _U16(len(message)), message, sender, rest))
        if len(payload) + len(provider.traits) > plan.limit_bytes:
            raise _Unusual
        return plan.metadata, payload, activity

    def _encode_carefully(self, record: logging.LogRecord, provider: Provider) -> _Event:
        """Make the event of any record; cut its values until they fit.

        Raises:
            Exception: If something happens that was not foreseen.
        """
        of_site = [getattr(record, field.name) for field in _SITE]
        of_sender = [getattr(record, field.name) for field in _SENDER]
        site, sender = (
            _encode_site(_clean(_SITE, of_site)),
            _encode_sender(_clean(_SENDER, of_sender)),
        )
        more, activity = self._more(record)
        fields = fields_of({_MESSAGE.name: self._message(record), **more}, self._default)
        room = MAX_EVENT_BYTES - len(site) - len(sender) - len(provider.traits)
        uncut: list[tuple[Fields, dict[str, int]]] = [(fields, {}), (fields, {})]
        for number, (form, sizes) in enumerate(chain(uncut, cuts(fields, self._default, room))):
            try:
                message, rest, plan = self._lay_out(form, sizes, is_tight=number > 0)
                payload = b"".join((site, _U16(len(message)), message, sender, rest))
            except (InvalidEvent, struct_error):
                continue
            if len(payload) + len(provider.traits) <= plan.limit_bytes:
                if sizes:
                    self._truncated.add()
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

    def _more(self, record: logging.LogRecord) -> tuple[MessageDict, bytes | None]:
        """Return the fields that not all records have, and the id of the current action."""
        own: MessageDict = {}
        activity = None
        if record.exc_text or record.exc_info:
            own["exc_text"] = record.exc_text or self._traceback(record.exc_info)
        if record.stack_info:
            own["stack_info"] = record.stack_info
        action = current_action()
        if action is not None:
            level = action.task_level
            own["task_uuid"], own["task_level"] = action.task_uuid, level.to_string()
            activity = activity_id(action.task_uuid, level, os.getpid())
        attributes = vars(record)
        if not _has_no_extra(attributes):
            extra = {name: value for name, value in attributes.items() if name not in _OWN}
            make_room(extra, frozenset(own))
            own |= extra
        return own, activity

    def _traceback(self, exc_info: Any) -> str:
        """Return the text of an exception, as the handler's formatter makes it."""
        try:
            return (self.formatter or _FORMATTER).formatException(exc_info)
        except Exception:  # noqa: BLE001 - an exception may refuse to be shown
            return safe_repr(exc_info)

    def _message(self, record: logging.LogRecord) -> str:
        """Return a record's message; its parts, if they do not fit together."""
        try:
            return str(record.getMessage())
        except Exception:  # noqa: BLE001 - arguments of any kind
            self._errors.add()
            self.handleError(record)
            return f"{safe_str(record.msg)} {safe_repr(record.args)}"


def _guid(guid: UUID | str | None) -> UUID | None:
    """Return a GUID, which in a file of settings is text."""
    return UUID(guid) if isinstance(guid, str) else guid


def _field(name: str, value: Any) -> Field:
    """Return the field for a value."""
    kind = type(value)
    types = field_type(kind)
    assert types is not None  # noqa: S101 - values are given types that have one
    return Field(name, *types, kind.tags if issubclass(kind, Zoned) else 0)


def _remember(known: dict[tuple[Any, ...], bytes], key: tuple[Any, ...], data: bytes) -> bytes:
    """Keep what was encoded."""
    if len(known) >= _MAX_REMEMBERED:
        known.clear()
    known[key] = data
    return data


def _clean(fields: Sequence[Field], values: Sequence[Any]) -> list[Any]:
    """Return values that fit their fields: what is missing, or no number, is empty or 0."""
    fitting: list[Any] = []
    for field, value in zip(fields, values, strict=True):
        if field.out_type == OutType.UTF8:
            text = "" if value is None else safe_str(value)
            data = text.encode("utf-8", "backslashreplace")[:_LONGEST_NAME_BYTES]
            fitting.append(data.decode("utf-8", "ignore"))
        else:
            is_fit = type(value) is int and 0 <= value < 1 << 31
            fitting.append(value if is_fit else 0)
    return fitting
