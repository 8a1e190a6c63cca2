"""Messages to events of a provider, whatever they hold, within the limits of ETW's tools."""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from struct import error as struct_error
from typing import Any, Final, NamedTuple, final

from eliot_etw import _names as names
from eliot_etw._counter import Counter
from eliot_etw._json import choose_default, value_text
from eliot_etw._levels import is_action, type_of
from eliot_etw.etw._encode import payload_limit_bytes
from eliot_etw.etw._levels import Keywords, Levels, Rules
from eliot_etw.etw._message_layout import FALLBACK_NAMES
from eliot_etw.etw._message_plan import (
    CommonForm,
    EncodeFunction,
    Event,
    Form,
    IsEnabled,
    Plan,
    TooLong,
)
from eliot_etw.etw._message_wire import (
    Fields,
    cuts,
    fallback_fields,
    fields_of,
    lay_out,
    typed_fields,
)
from eliot_etw.etw._records import TRACELOGGING_CHANNEL
from eliot_etw.etw._schema import Schema, encode_metadata
from eliot_etw.exceptions import InvalidEvent
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

PROVIDER_NAME: Final = "eliot_etw"
"""What the provider is called unless told otherwise."""
MAX_SCHEMAS = 4000
"""How many schemas an encoder makes unless told otherwise; each takes some 6 KB of memory."""
# With as many fallbacks, PerfView's limit of 65,000 is not reached.
_MOST_SCHEMAS = 30_000
_LONGEST_NAME = 200
# The same events with other levels and keywords, which may be any.
_MOST_FORMS = 4

_INFO, _START, _STOP = range(3)
_OPCODES: Final = {names.STARTED: _START, names.SUCCEEDED: _STOP, names.FAILED: _STOP}

_DESCRIPTOR: Final = Struct("<HBBBBHQ").pack


@final
class _Summary(NamedTuple):
    """What an event's form depends on besides its fields."""

    name: str | None
    opcode: int
    level: int
    keyword: int


@final
class EncodedEvent(NamedTuple):
    """An event as ETW takes it."""

    descriptor: bytes
    """16 bytes, an ``EVENT_DESCRIPTOR``: level, opcode, keyword."""
    metadata: bytes
    """The event's name, and names and types of its fields."""
    payload: bytes
    """The values of its fields."""
    activity: bytes | None
    """16 bytes, the id of the action that it belongs to; None if the message does not say."""
    related: bytes | None
    """16 bytes, the id of the action above the one that starts; None for all other events."""


def _summary(message: MessageDict, level: int, keyword: int) -> _Summary:
    kind, status = type_of(message), message.get(names.ACTION_STATUS)
    is_name = isinstance(kind, str) and 0 < len(kind) <= _LONGEST_NAME and "\0" not in kind
    has_status = is_action(message) and isinstance(status, str)
    opcode = _OPCODES.get(str(status), _INFO) if has_status else _INFO
    return _Summary(kind if is_name else None, opcode, level, keyword)


class _NoRoom(Exception):
    """There are as many schemas as there may be. Never leaves the encoder."""


# What is raised where an event is too long: a count of bytes, the event, the metadata.
_LONG: Final = (struct_error, TooLong, InvalidEvent)


@final
class MessageEncoder:
    """Makes an event of each message, whatever it holds.

    What the keys, and the types of the values, decide is decided once: a function is made that
    does the rest for messages of that shape. There are no locks: threads, signal handlers and
    forked processes may use an encoder at any time. Activity ids are those of the process that
    encodes.
    """

    def __init__(
        self,
        *,
        traits: bytes,
        levels: Levels | None = None,
        keywords: Keywords | None = None,
        json_default: JsonDefault = json_default,
        max_schemas: int = MAX_SCHEMAS,
    ) -> None:
        """Prepare for a provider's events.

        Args:
            traits: What describes the provider, from `provider_traits`.
            levels: Patterns of types to levels, such as ``{"app:db:*": 5}``, of which the first
                that fits counts; or a function that takes a message and returns its level, or None
                for the usual one.
            keywords: The same for keywords.
            json_default: Converts values that JSON does not know.
            max_schemas: How many different schemas events may have, 1 to 30,000. Further ones
                share schemas, of which there are at most as many again.

        Raises:
            TypeError: If `levels` or `keywords` is neither a mapping nor a function.
            ValueError: If one of them has a level or keyword that is none, or `max_schemas` is out
                of range.
        """
        if not 0 < max_schemas <= _MOST_SCHEMAS:
            msg = (
                f"max_schemas must be from 1 to {_MOST_SCHEMAS}, got {max_schemas!r}. "
                f"Leave it out to have {MAX_SCHEMAS}."
            )
            raise ValueError(msg)
        self._rules = Rules(levels, keywords)
        self._traits = traits
        self._default = choose_default(None, json_default)
        self._max_schemas = max_schemas
        self.known: dict[tuple[str, ...], EncodeFunction] = {}
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._fallback_plans: dict[tuple[Any, ...], Plan] = {}
        self._forms: dict[tuple[Any, ...], CommonForm] = {}
        # Plan, name and opcode of each schema; and the names that events of their own have.
        self._schemas: set[tuple[Plan, str, int]] = set()
        self._known_names: set[str] = set()
        self._truncated = Counter()
        self._fallbacks = Counter()

    def encode(self, message: MessageDict) -> EncodedEvent:
        """Make the event of a message. Never raises.

        If the event would be longer than ETW takes, its largest values are cut.
        """
        event = self.encode_if(message, None)
        assert event is not None  # noqa: S101 - only whoever asks whether it is wanted gets None
        return EncodedEvent(*event)

    def encode_if(self, message: MessageDict, is_enabled: IsEnabled | None) -> Event | None:
        """Make the event of a message, if it is wanted. Never raises.

        Args:
            message: The message.
            is_enabled: Takes a level and a keyword, and says whether such an event is wanted.

        Returns:
            The event as a plain tuple; None if it is not wanted.
        """
        try:
            return self.known[tuple(message)](message, is_enabled, None)
        except Exception:  # noqa: BLE001 - anything unusual, such as a value's own methods
            return self.encode_unknown(message, is_enabled)

    def encode_unknown(self, message: MessageDict, is_enabled: IsEnabled | None) -> Event | None:
        """Do what `encode_if` says after what is in `known` has raised."""
        keys: tuple[str, ...] = ()
        try:
            keys = (*message,)
            plan = self._plans[keys, (*map(type, message.values()),)]
            self.known[keys] = plan.encode
            return plan.encode(message, is_enabled, None)
        except Exception:  # noqa: BLE001, S110 - see above
            pass
        try:
            # The user's functions want to see the message itself.
            if keys in self.known and not self._rules.is_per_message:
                typed = typed_fields(message, self._default)
                plan = self._plans[keys, (*map(type, typed.values()),)]
                return plan.encode(typed, is_enabled, None)
            if len(self._plans) >= self._max_schemas:
                return self._encode_as_fallback(message, is_enabled)
        except Exception:  # noqa: BLE001, S110 - see above
            pass
        return self._encode_carefully(message, is_enabled)

    def _encode_as_fallback(
        self, message: MessageDict, is_enabled: IsEnabled | None
    ) -> Event | None:
        """Make an event of one field for all that other messages do not have.

        In a program that logs ever new keys most messages come here, to which `_encode_carefully`
        would be three times as slow. Raises if the message is not so easy.
        """
        summary = _summary(message, *self.level_and_keyword(message))
        if is_enabled is not None and not is_enabled(summary.level, summary.keyword):
            return None
        wire = fallback_fields(message)
        plan = self._fallback_plans[tuple(wire), (*map(type, wire.values()),)]
        event = plan.encode(wire, None, self._form(plan, summary, wire))
        self._fallbacks.add()
        return event

    def level_and_keyword(self, message: MessageDict) -> tuple[int, int]:
        """Return the level and the keyword that the event of a message has."""
        return self._rules.level_of(message), self._rules.keyword_of(message)

    def stats(self) -> dict[str, int]:
        """Count what was not as usual.

        Returns:
            ``truncated``: events of which something was cut; ``schema_fallbacks``: events that
            share a schema or a name with others, because there were too many; ``rule_failures``:
            how often a function for levels or keywords raised; ``schemas``: how many there are.
        """
        return {
            "truncated": self._truncated.value,
            "schema_fallbacks": self._fallbacks.value,
            "rule_failures": self._rules.failures.value,
            "schemas": len(self._schemas),
        }

    def _encode_carefully(
        self, message: MessageDict, is_enabled: IsEnabled | None
    ) -> Event | None:
        """Make the event of a message of a new shape, or that is hard to encode."""
        fields = fields_of(message, self._default)
        try:
            wanted = self.level_and_keyword(message)
        except Exception:  # noqa: BLE001 - the message's own methods
            wanted = self.level_and_keyword(fields.plain)
        summary = _summary(fields.plain, *wanted)
        if is_enabled is not None and not is_enabled(summary.level, summary.keyword):
            return None
        for is_tight in (False, True):
            with suppress(*_LONG):
                return self._laid_out(fields, summary, {}, is_tight=is_tight)
        self._truncated.add()
        limit = payload_limit_bytes(b"", self._traits, has_related_activity=True)
        for shorter, sizes in cuts(fields, self._default, limit):
            with suppress(*_LONG):
                return self._laid_out(shorter, summary, sizes, is_tight=True)
        msg = "the place and the type of a message always fit"
        raise AssertionError(msg)

    def _laid_out(
        self, fields: Fields, summary: _Summary, sizes: dict[str, int], *, is_tight: bool
    ) -> Event | None:
        """Make an event of these fields. Raises one of _LONG if it would be too long."""
        with suppress(_NoRoom):
            wire = lay_out(fields, self._default, sizes, is_tight=is_tight)
            plan = self._plan(wire, self._plans, self._max_schemas)
            return plan.encode(wire, None, self._form(plan, summary, wire))
        wire = lay_out(fields, self._default, sizes, is_tight=is_tight, is_fallback=True)
        plan = self._plan(wire, self._fallback_plans, _MOST_SCHEMAS)
        event = plan.encode(wire, None, self._form(plan, summary, wire))
        self._fallbacks.add()
        return event

    def _plan(self, wire: MessageDict, plans: dict[tuple[Any, ...], Plan], most: int) -> Plan:
        """Find or make the plan for messages of a shape. Raises _NoRoom if there are enough."""
        key = (*wire,), (*map(type, wire.values()),)
        plan = plans.get(key)
        if plan is None:
            if len(plans) >= most:
                raise _NoRoom
            is_fallback = plans is self._fallback_plans
            plan = plans[key] = Plan(
                wire,
                self._find_form,
                self._utf16_json,
                is_fallback=is_fallback,
                is_per_message=self._rules.is_per_message,
            )
            if not is_fallback:
                self.known[key[0]] = plan.encode
        return plan

    def _utf16_json(self, value: Any) -> bytes:
        return value_text(value, self._default).encode("utf-16-le")

    def _find_form(self, plan: Plan, message: MessageDict, key: Any) -> Form:
        """Find the form of a message that there is a plan for, and keep it for the next."""
        summary = _summary(message, *self.level_and_keyword(message))
        form = self._form(plan, summary, message)
        is_own = (plan, summary.name, summary.opcode) in self._schemas
        if is_own and key is not None:
            plan.keep(key, form, self._max_schemas)
        return form

    def _form(self, plan: Plan, summary: _Summary, message: MessageDict) -> Form:
        """Return the form of an event. Raises _NoRoom if there are too many for this plan."""
        opcode = summary.opcode
        fallback = FALLBACK_NAMES[opcode]
        name = summary.name or fallback
        if not self._is_admitted(plan, name, opcode, self._max_schemas):
            name = fallback
            if not self._is_admitted(plan, name, opcode, 2 * self._max_schemas):
                raise _NoRoom
            if not plan.is_fallback:
                self._fallbacks.add()
        key = plan, name, opcode, summary.level, summary.keyword
        common = self._forms.get(key)
        if common is None:
            if len(self._forms) >= _MOST_FORMS * self._max_schemas:
                self._forms.clear()
            common = self._forms[key] = self._common_form(plan, name, summary)
        return plan.form(common, message)

    def _is_admitted(self, plan: Plan, name: str, opcode: int, most: int) -> bool:
        """Say whether there may be such a schema; from then on there is."""
        schema = plan, name, opcode
        if schema in self._schemas:
            return True
        if plan.is_fallback:
            is_known = name in self._known_names and len(self._schemas) < 2 * self._max_schemas
            is_good = is_known or name == FALLBACK_NAMES[opcode]
        else:
            is_good = len(self._schemas) < most
            if is_good:
                self._known_names.add(name)
        if is_good:
            self._schemas.add(schema)
        return is_good

    def _common_form(self, plan: Plan, name: str, summary: _Summary) -> CommonForm:
        _, opcode, level, keyword = summary
        metadata = encode_metadata(Schema(name, plan.fields))
        is_start = opcode == _START
        limit = payload_limit_bytes(metadata, self._traits, has_related_activity=is_start)
        descriptor = _DESCRIPTOR(0, 0, TRACELOGGING_CHANNEL, level, opcode, 0, keyword)
        return CommonForm(descriptor, metadata, limit, level, keyword, is_start)
