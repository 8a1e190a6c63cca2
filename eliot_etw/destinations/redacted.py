"""Messages without what nobody may read: passwords, tokens, and what a program's rules name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase, translate
from typing import Any, Final, TypeAlias, final
from uuid import UUID

from eliot_etw import _names as names
from eliot_etw._counter import Counter
from eliot_etw._json import choose_default, decode_line, encode_line
from eliot_etw._safe import name_beside, safe_repr, type_name
from eliot_etw.destinations._wrapper import Wrapper
from eliot_etw.json import json_default
from eliot_etw.typing import Destination, JsonDefault, MessageDict

DEFAULT_KEYS: Final = (
    "*password*",
    "*passwd*",
    "*passphrase*",
    "*secret*",
    "*token*",
    "*authorization*",
    "*cookie*",
    "*credential*",
    "*api_key*",
    "*apikey*",
    "*private_key*",
)
"""What the keys of values are like that are redacted if nothing else is said."""

Patterns: TypeAlias = Mapping[str, str | re.Pattern[str]] | Iterable[str | re.Pattern[str]]
"""Regular expressions; with what they find, or without."""

# What gives a message its place and its type.
_UNTOUCHED: Final = names.PLACE_FIELDS | {
    names.ACTION_TYPE,
    names.ACTION_STATUS,
    names.MESSAGE_TYPE,
}
# Whose field `message` is the text of another message.
_REPORTS: Final = (names.DESTINATION_FAILURE, names.SERIALIZATION_FAILURE)
_TEXT_OF_MESSAGE: Final = "message"
_TYPE_IN_TEXT: Final = re.compile(r"""'(?:action|message)_type'": "'(.*?)'\"""")
# What holds nothing that keys or patterns could find.
_HARMLESS: Final = frozenset(
    {int, float, bool, type(None), datetime, date, time, timedelta, Decimal, UUID}
)
# How deep values are looked through, and how many containers of one field.
_MAX_DEPTH: Final = 100
_MOST_CONTAINERS: Final = 10_000
# How many paths, and sets of keys, are remembered with what becomes of them.
_MAX_REMEMBERED: Final = 1000


class RedactedDestination(Wrapper):
    """Passes on messages in which secret values have become text that says why they are gone.

    A value is redacted if its key, anywhere in the message, is like one of `keys`; and in texts,
    what one of `patterns` finds. Objects that are neither text, numbers, times, dicts, lists nor
    tuples are passed on as what a file would have of them, looked through in the same way; one of
    which only the `repr` could be written is redacted if that mentions a key.

    ``task_uuid``, ``task_level``, ``timestamp``, the types and the status stay as they are.
    The message itself is not changed: if there is something to redact, a copy is passed on.

    It never raises, but what the destination inside raises. A value that cannot be looked through
    to its end, because it is circular, too deep or raises, is redacted.
    """

    def __init__(
        self,
        inner: Destination,
        keys: Iterable[str] = DEFAULT_KEYS,
        patterns: Patterns = (),
        allow: Iterable[str] = (),
        json_default: JsonDefault = json_default,
    ) -> None:
        r"""Set the rules.

        Args:
            inner: Where messages go.
            keys: What keys of secret values are like, such as ``"*password*"``; capitals do not
                matter, and ``-`` is the same as ``_``.
            patterns: Regular expressions for secret parts of texts, such as
                ``{"card number": r"\b\d{16}\b"}``; the name is what the log shows.
            allow: What stays as it is whatever else is said: keys such as ``"token_count"``, or
                paths such as ``"request.headers.cookie"``, in which items of lists do not count.
            json_default: Converts values that JSON does not know.

        Raises:
            TypeError: If `inner` cannot be called, or `keys` or `allow` is one text.
            ValueError: If a pattern is no regular expression.
        """
        super().__init__(inner)
        globs = _globs("keys", keys)
        self._mentions = _mentions(globs)
        self._patterns = _compiled(patterns)
        self._default = choose_default(None, json_default)
        self._passed = _HARMLESS if self._patterns else _HARMLESS | {str}
        self._fates = _Fates(globs, _globs("allow", allow))
        self._plans = _Plans(self._fates)
        self._redacted = Counter()
        self._failed = Counter()

    def __call__(self, message: MessageDict) -> None:
        """Pass a message on, redacted. Raises what the destination inside does."""
        try:
            secret, open_, has_text = self._plans[tuple(message)]
            changes = secret
            for key in open_:
                value = message[key]
                if type(value) not in self._passed:
                    redacted = self._look_through(value, key)
                    if redacted is not value:
                        changes = {**changes, key: redacted}
            if has_text and message[names.MESSAGE_TYPE] in _REPORTS:
                changes = {**changes, **self._report(message)}
            if changes:
                for _ in secret:
                    self._redacted.add()
                message = {**message, **changes}
        except Exception:  # noqa: BLE001 - what is not known to be harmless must not be passed on
            self._failed.add()
            message = _place_of(message)
        self._send(message)

    def stats(self) -> dict[str, int]:
        """Count what was done.

        Returns:
            ``redacted``: values, or parts of texts, that were replaced; ``failed``: those that
            were replaced because they could not be looked through.
        """
        return {"redacted": self._redacted.value, "failed": self._failed.value}

    def _report(self, message: MessageDict) -> MessageDict:
        """Redact the text of another message in a report about it, if it mentions a key."""
        text = message[_TEXT_OF_MESSAGE]
        if not isinstance(text, str):
            return {_TEXT_OF_MESSAGE: self._gone("not a text")}
        why = self._mentioned(text)
        # Types stay. Those that tell what comes from `logging` keep it from going there again.
        kind = _TYPE_IN_TEXT.search(text)
        of_what = f", of {kind[1]}" if kind else ""
        return {_TEXT_OF_MESSAGE: self._gone(why + of_what)} if why else {}

    def _mentioned(self, text: str) -> str:
        """Return why a text has to go: a key that it mentions; empty if it does not."""
        text = _normal(text)
        found = (glob for glob, regex in self._mentions if regex.search(text))
        return next((f"text that mentions {glob}" for glob in found), "")

    def _look_through(self, value: Any, path: str) -> Any:
        """Return a value with all that is secret in it replaced; itself if there is nothing."""
        try:
            return _Look(self).into(value, path)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed.add()
            return _marked(f"could not be looked through, {type_name(type(error))}")

    def _gone(self, why: str) -> str:
        """Count a value that is gone, and return what takes its place."""
        self._redacted.add()
        return _marked(why)

    def _without_matches(self, text: str) -> str:
        """Replace what the patterns find in a text."""
        for mark, pattern in self._patterns:
            text, count = pattern.subn(mark, text)
            for _ in range(count):
                self._redacted.add()
        return text

    def _as_in_a_file(self, value: Any) -> Any:
        """Return what a file would have of an object."""
        return decode_line(encode_line({"value": value}, self._known))["value"]

    def _known(self, value: Any) -> Any:
        """Convert an object; one of which there is only the repr may have to go."""
        converted = self._default(value)
        if isinstance(converted, str) and converted == safe_repr(value):
            why = self._mentioned(converted)
            return self._gone(why) if why else converted
        return converted


@final
class _Look:
    """One look into a value, which ends, whatever the value is."""

    def __init__(self, rules: RedactedDestination) -> None:
        self._rules = rules
        self._containers = 0
        self._within: set[int] = set()

    def into(self, value: Any, path: str) -> Any:
        """Return the value redacted; itself if there is nothing to redact."""
        rules = self._rules
        kind = type(value)
        if kind in rules._passed:
            return value
        if kind is dict or kind is list or kind is tuple:
            return self._into_container(value, path)
        if kind is str:
            return rules._without_matches(value)
        return self.into(rules._as_in_a_file(value), path)

    def _into_container(self, value: Any, path: str) -> Any:
        """Return a container redacted; a mark, if it is more than can be looked through."""
        self._containers += 1
        is_circular = id(value) in self._within
        if is_circular or len(self._within) >= _MAX_DEPTH or self._containers > _MOST_CONTAINERS:
            self._rules._failed.add()
            return _marked("circular reference" if is_circular else "too large to look through")
        self._within.add(id(value))
        into = self._into_dict if type(value) is dict else self._into_items
        redacted = into(value, path)
        self._within.remove(id(value))
        return redacted

    def _into_dict(self, value: dict[Any, Any], path: str) -> Any:
        rules = self._rules
        items = list(value.items())
        if not all(type(key) is str for key, _ in items):
            return self.into(rules._as_in_a_file(value), path)
        redacted: dict[str, Any] = {}
        is_same = True
        for key, item in items:
            fate = rules._fates.of(f"{path}.{key}", key)
            new_key, new = key, item
            if fate:
                new = rules._gone(f"key {fate}")
            elif fate is not None:
                new = self.into(item, f"{path}.{key}")
                new_key = name_beside(rules._without_matches(key), redacted)
            is_same = is_same and new is item and new_key == key
            redacted[new_key] = new
        return value if is_same else redacted

    def _into_items(self, value: list[Any] | tuple[Any, ...], path: str) -> Any:
        if self._rules._passed.issuperset(map(type, value)):
            return value
        items = list(value)
        redacted = [self.into(item, path) for item in items]
        if all(new is item for new, item in zip(redacted, items, strict=True)):
            return value
        return type(value)(redacted)


@final
class _Fates:
    """What becomes of values by their keys and paths, remembered for those that were seen."""

    def __init__(self, keys: tuple[str, ...], allow: tuple[str, ...]) -> None:
        self._keys = keys
        self._allow = allow
        self._known: dict[str, str | None] = {}

    def of(self, path: str, key: str) -> str | None:
        """Find out what becomes of a value.

        Returns:
            The pattern of keys for which it has to go; empty if it is to be looked through; None
            if it stays as it is.
        """
        try:
            return self._known[path]
        except KeyError:
            pass
        fate = self._found(_normal(path), _normal(key))
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[path] = fate
        return fate

    def _found(self, path: str, key: str) -> str | None:
        if any(fnmatchcase(key, glob) or fnmatchcase(path, glob) for glob in self._allow):
            return None
        return next((glob for glob in self._keys if fnmatchcase(key, glob)), "")


# The marks of values that have to go, by key; the keys of those to look into; whether the message
# may be a report that has the text of another one.
_Plan: TypeAlias = tuple[dict[Any, str], tuple[Any, ...], bool]


@final
class _Plans(dict[tuple[Any, ...], _Plan]):
    """What is to be done with messages that have these keys; made when they are first seen."""

    def __init__(self, fates: _Fates) -> None:
        super().__init__()
        self._fates = fates

    def __missing__(self, keys: tuple[Any, ...]) -> _Plan:
        secret: dict[Any, str] = {}
        open_: list[Any] = []
        for key in keys:
            if key in _UNTOUCHED:
                continue
            name = key if isinstance(key, str) else safe_repr(key)
            fate = self._fates.of(name, name)
            if fate:
                secret[key] = _marked(f"key {fate}")
            elif fate is not None:
                open_.append(key)
        plan = secret, tuple(open_), {names.MESSAGE_TYPE, _TEXT_OF_MESSAGE} <= {*keys}
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        self[keys] = plan
        return plan


def _marked(why: str) -> str:
    """Return what takes the place of a value.

    >>> _marked("key *password*")
    '[redacted: key *password*]'
    """
    return f"[redacted: {why}]"


def _place_of(message: MessageDict) -> MessageDict:
    """Return what is left of a message that could not be looked through at all."""
    kept = {name: value for name, value in message.items() if name in _UNTOUCHED}
    return {**kept, "redacted": _marked("the message could not be looked through")}


def _normal(key: str) -> str:
    """Return a key in the spelling in which keys are compared."""
    return key.lower().replace("-", "_")


def _globs(what: str, given: Iterable[str]) -> tuple[str, ...]:
    """Check patterns of keys."""
    if isinstance(given, str):
        msg = f"{what} must be several texts, got one, {given!r}. Write [{given!r}]."
        raise TypeError(msg)
    return tuple(_normal(glob) for glob in given)


def _compiled(given: Patterns) -> list[tuple[str, re.Pattern[str]]]:
    """Compile regular expressions, each with what takes the place of its matches."""
    if isinstance(given, str):
        msg = f"patterns must be several, got one text, {given!r}. Write [{given!r}]."
        raise TypeError(msg)
    pairs: Iterable[tuple[str | None, str | re.Pattern[str]]]
    pairs = given.items() if isinstance(given, Mapping) else ((None, each) for each in given)
    compiled = []
    for what, pattern in pairs:
        try:
            regex = re.compile(pattern)
        except re.error as error:
            msg = f"A pattern must be a regular expression, got {pattern!r}: {error}. Correct it."
            raise ValueError(msg) from error
        mark = _marked(f"pattern {regex.pattern if what is None else what}")
        # In what replaces a match, a backslash would be the beginning of something.
        compiled.append((mark.replace("\\", r"\\"), regex))
    return compiled


def _mentions(keys: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    """Make what finds keys in the midst of a text."""
    mentions = []
    for glob in keys:
        # Of "(?s:...)\Z", what is within the brackets.
        anchored = translate(glob.strip("*"))
        mentions.append((glob, re.compile(anchored[: anchored.rindex(")") + 1])))
    return mentions
