"""A provider of events: registered with Windows, told who listens, and ended without a trace."""

from __future__ import annotations

import atexit
from functools import partial
from typing import Final, final
from uuid import UUID
from weakref import finalize, ref

from eliot_etw.etw._encode import provider_traits
from eliot_etw.etw._guid import as_guid, provider_guid
from eliot_etw.etw._win32 import BUSY, DISABLE, ENABLE, EtwApi, current_api

NOBODY = -1
"""The level of a provider that nobody listens to: below that of any event."""
_ALL_LEVELS = 255
_ALL_KEYWORDS = (1 << 64) - 1


@final
class Provider:
    """A registered provider of events, from its construction until `close`.

    It is closed too when it is no longer used, and when the interpreter exits: Windows must not
    call back into an interpreter that is gone. What is written after that is refused with the
    code 6, which the writer counts.

    All threads may use it. There is no lock, because Windows waits in `close` until its callbacks
    are over, and calls them on threads of its own at any time.

    Attributes:
        name: What it is called.
        guid: What Windows knows it by.
        traits: Its name and group, as each event has them.
        traits_error: The code with which Windows refused to be told the traits, or 0. Windows 7
            without updates does; the events can be decoded all the same, by their channel 11.
        level: An event is wanted if its level is not above this, and its keyword matches too.
            `NOBODY` if nobody listens. If several sessions do, the widest of their levels.
        match_any: An event's keyword must have one of these bits, if it has any itself.
        match_all: And all of these.
        write: Writes one event, and never raises: takes its descriptor, metadata, payload,
            activity id and related activity id, as `Writer` says. Returns a Win32 error code: 0
            for success, 6 after `close`, 8 if a disk is too slow, 234 or 534 if it is too long.
    """

    __slots__ = (
        "__weakref__", "_end", "guid", "level", "match_all", "match_any", "name", "traits",
        "traits_error", "write",
    )  # fmt: skip

    def __init__(
        self, name: str, *, guid: UUID | str | None = None, group: UUID | str | None = None
    ) -> None:
        """Register a provider.

        Args:
            name: What it is called.
            guid: What Windows knows it by, if that is not made from the name.
            group: The GUID of a group of providers that it belongs to.

        Raises:
            ValueError: If the name is none that all tools can work with, or a GUID is none.
            OSError: If there is no Windows, or it refuses.
        """
        self.name = name
        self.guid = provider_guid(name) if guid is None else as_guid(guid)
        self.traits = provider_traits(name, group)
        self.level = NOBODY
        self.match_any = self.match_all = 0
        api = current_api()
        # Windows may call back before it returns.
        handle = api.register(self.guid, partial(_on_change, ref(self)))
        self.write = api.writer(handle, self.traits)
        # A sign of its own, because Windows may give out a handle again.
        sign = object()
        _OPEN[sign] = api, handle
        self._end = finalize(self, _unregister, sign, api, handle)
        self._end.atexit = False  # _unregister_all does it
        if _EXITING:
            self.close()
        self.traits_error = api.set_traits(handle, self.traits)

    def is_enabled(self, level: int, keyword: int) -> bool:
        """Say whether anybody wants events of a level and a keyword.

        Source:
            ``TraceLoggingProviderEnabled`` in TraceLoggingProvider.h of the Windows SDK; Windows
            itself applies the same rule for each session.
        """
        return level <= self.level and (
            not keyword
            or (keyword & self.match_any != 0 and keyword & self.match_all == self.match_all)
        )

    def close(self) -> None:
        """End the registration. May be called twice."""
        # Not by calling it, which does nothing any more when the interpreter exits.
        end = self._end.detach()
        if end is not None:
            _, unregister, arguments, _ = end
            unregister(*arguments)
        # Now that no callback can come any more.
        self.level = NOBODY


_OPEN: Final[dict[object, tuple[EtwApi, int]]] = {}
# Has an element when the interpreter exits.
_EXITING: Final[list[bool]] = []


def _on_change(
    provider: ref[Provider], code: int, level: int, match_any: int, match_all: int
) -> None:
    """Note who listens; another code asks providers that keep a state to write it down.

    For Windows 0 is the level that lets all pass, as it is the keyword of which any is good.
    """
    found = provider()
    if found is None:
        return
    if code == ENABLE:
        found.match_any, found.match_all = match_any or _ALL_KEYWORDS, match_all
        found.level = level or _ALL_LEVELS
    elif code == DISABLE:
        found.level = NOBODY


def _unregister(sign: object, api: EtwApi, handle: int) -> None:
    """End a registration; one that is used last within its own callback, at exit."""
    if api.unregister(handle) != BUSY:
        _OPEN.pop(sign, None)


# At import, so that what a program has called at its exit is called before.
@atexit.register
def _unregister_all() -> None:
    """Have nothing call back any more."""
    _EXITING.append(True)
    while _OPEN:
        _, (api, handle) = _OPEN.popitem()
        api.unregister(handle)
