"""Which messages go to which sinks: by type, level and fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final, NamedTuple, final

from eliot_etw.collector._batch import Batch, Entry

# How many types of messages are remembered with what fits them.
_MAX_REMEMBERED: Final = 10_000
_NOTHING: Final = object()


class Route(NamedTuple):
    """A rule: what fits all its conditions goes to some sinks.

    Attributes:
        to: The names of the sinks; none, for messages that are not wanted.
        types: Globs, of which one must fit the type of the action or message; None for any type.
        level: The least level, on the scale of `logging`; None for any.
        fields: Values that fields must have. A name may lead into objects: ``request.method``.
        final: Whether the routes that follow are not asked about what fits.
    """

    to: tuple[str, ...]
    types: tuple[str, ...] | None = None
    level: int | None = None
    fields: Mapping[str, Any] = {}
    final: bool = False

    def fits(self, entry: Entry) -> bool:
        """Say whether a message goes this way."""
        head = entry.head
        if self.types is not None and not _has_type(head.type, self.types):
            return False
        if self.level is not None and head.level < self.level:
            return False
        if not self.fields:
            return True
        message = entry.message
        return all(_field(message, name) == value for name, value in self.fields.items())

    @property
    def fits_all(self) -> bool:
        """Whether every message goes this way."""
        return self.types is None and self.level is None and not self.fields


@lru_cache(_MAX_REMEMBERED)
def _has_type(kind: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(kind, glob) for glob in globs)


def _field(message: Mapping[str, Any], name: str) -> object:
    """Look up a field, or one within objects."""
    if name in message:
        return message[name]
    value: Any = message
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _NOTHING
        value = value[part]
    return value


class Split(NamedTuple):
    """What becomes of a batch.

    Attributes:
        parts: What is for each sink, by name; sinks that get nothing are left out.
        left_out: How many messages go to none.
    """

    parts: dict[str, Batch]
    left_out: int


@final
class Routes:
    """All rules together.

    Args:
        routes: The rules, in the order in which they are asked.
        sinks: The names of all sinks: each gets everything if there are no rules.
    """

    def __init__(self, routes: Sequence[Route], sinks: Iterable[str]) -> None:
        self._sinks = tuple(sinks)
        self._routes = routes or (Route(self._sinks),)
        self._is_plain = len(self._routes) == 1 and self._routes[0].fits_all

    def split(self, batch: Batch) -> Split:
        """Say what of a batch goes to which sink."""
        if self._is_plain:
            to = self._routes[0].to
            return Split(dict.fromkeys(to, batch), 0 if to else len(batch))
        wanted = {name: [False] * len(batch) for name in self._sinks}
        left_out = 0
        for index, entry in enumerate(batch):
            goes = False
            for route in self._routes:
                if route.fits(entry):
                    for name in route.to:
                        wanted[name][index] = goes = True
                    if route.final:
                        break
            left_out += not goes
        parts = {
            name: batch if all(chosen) else batch.only(chosen)
            for name, chosen in wanted.items()
            if any(chosen)
        }
        return Split(parts, left_out)
