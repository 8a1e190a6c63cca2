"""Where the exporters' events go: to Event Tracing for Windows, or to a trace (`.etl`)."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from threading import Lock
from typing import Final, TypeAlias, final
from uuid import UUID
from weakref import finalize

from eliot_etw._counter import Counter
from eliot_etw.destinations.etl import EtlFileDestination
from eliot_etw.etw._encode import provider_traits
from eliot_etw.etw._etl_writer import EventLane
from eliot_etw.etw._guid import as_guid, provider_guid
from eliot_etw.etw._provider import Provider
from eliot_etw.etw._records import EPOCH

TraceFile: TypeAlias = str | os.PathLike[str] | EtlFileDestination
"""The path of a trace, or a destination that has one open."""


@final
class _Everybody:
    """In the place of a provider where nobody can be asked: all events are wanted."""

    level = 255

    def is_enabled(self, _level: int, _keyword: int) -> bool:
        """Say yes."""
        return True


class EventOutput(ABC):
    """Takes the events of one exporter, and counts them. Never raises once it is made.

    Attributes:
        listener: Says which events are wanted. Its `level` is less than 0 if none is.
        traits: What describes the provider.
    """

    listener: Provider | _Everybody

    def __init__(self, traits: bytes) -> None:
        """Prepare the counts."""
        self.traits = traits
        self._is_closed = False
        self._written = Counter()
        self._failed: dict[int, Counter] = {}
        self._after_close = Counter()
        self._count_written = self._written.add

    @abstractmethod
    def write(
        self,
        time: int,
        descriptor: bytes,
        metadata: bytes,
        payload: bytes,
        activity: bytes | None = None,
        related: bytes | None = None,
    ) -> bool:
        """Write an event.

        Args:
            time: When it happened, in nanoseconds since 1970.
            descriptor: 16 bytes, an ``EVENT_DESCRIPTOR``.
            metadata: What describes the event.
            payload: The values of its fields.
            activity: The 16 bytes of the activity's id, if there is one.
            related: The 16 bytes of the related activity's id, if there is one.

        Returns:
            Whether it was taken.
        """

    def flush(self) -> bool:
        """Hand to the operating system what waits; say whether it took all."""
        return True

    def close(self) -> None:
        """Take no more events, and count those that still come. May be called twice."""
        self._is_closed = True
        self.listener = _Everybody()

    def stats(self) -> dict[str, int]:
        """Count events: ``written``; ``failed`` and the same by code; ``after_close``."""
        failed = {code: counter.value for code, counter in sorted(self._failed.items())}
        return {
            "written": self._written.value,
            "failed": sum(failed.values()),
            **{f"failed_{code}": count for code, count in failed.items() if code},
            "after_close": self._after_close.value,
        }

    def _refused(self, code: int) -> bool:
        """Count an event that was not taken."""
        if self._is_closed:
            self._after_close.add()
        else:
            self._failed.setdefault(code, Counter()).add()
        return False


@final
class _EtwOutput(EventOutput):
    """Writes to whoever listens to a provider."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider.traits)
        self.listener = self._provider = provider
        self._write = provider.write

    def write(
        self,
        time: int,  # which Windows takes itself
        descriptor: bytes,
        metadata: bytes,
        payload: bytes,
        activity: bytes | None = None,
        related: bytes | None = None,
    ) -> bool:
        """Write an event, as in `EventOutput`."""
        code = self._write(descriptor, metadata, payload, activity, related)
        if code:
            return self._refused(code)
        self._count_written()
        return True

    def close(self) -> None:
        """End the registration."""
        super().close()
        self._provider.close()


@final
class _TraceOutput(EventOutput):
    """Writes to a trace, which others may write to as well."""

    def __init__(
        self, destination: EtlFileDestination, guid: UUID, traits: bytes, path: str | None
    ) -> None:
        super().__init__(traits)
        self.listener = _Everybody()
        self._destination = destination
        self._guid = guid
        self._path = path  # of a trace that ends with the last exporter
        self._lane = EventLane(destination._own_writer(), guid, traits)

    def write(
        self,
        time: int,
        descriptor: bytes,
        metadata: bytes,
        payload: bytes,
        activity: bytes | None = None,
        related: bytes | None = None,
    ) -> bool:
        """Write an event, as in `EventOutput`."""
        if self._is_closed:
            return self._refused(0)
        try:
            lane = self._lane
            if not lane.is_of_this_process:
                writer = self._destination._own_writer()
                lane = self._lane = EventLane(writer, self._guid, self.traits)
            lane.write(time // 100 + EPOCH, descriptor, metadata, payload, activity, related)
        except (OSError, ValueError):
            return self._refused(0)
        self._count_written()
        return True

    def flush(self) -> bool:
        """Hand all that waits to the operating system."""
        try:
            self._destination.flush()
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Finish the trace, if it is no one else's."""
        if self._is_closed:
            return
        self.flush()
        if self._path is not None:
            for _ in range(_leave(self._path)):
                self._refused(0)
        super().close()


# Traces that were begun for a path: exporters of one process that name the same path share one.
_SHARED: Final[dict[str, list[EtlFileDestination]]] = {}
_SHARING = Lock()


def _share(path: str, provider_name: str) -> EtlFileDestination:
    """Begin a trace, or find the one that is being written to this path."""
    with _SHARING:
        found = _SHARED.get(path)
        if found is None:
            found = [EtlFileDestination(path, provider_name=provider_name)]
            _SHARED[path] = found
        else:
            found.append(found[0])
        return found[0]


def _leave(path: str) -> int:
    """Finish the trace at a path with the last exporter that writes to it; say what is lost."""
    with _SHARING:
        found = _SHARED[path]
        destination = found.pop()
        if not found:
            del _SHARED[path]
            with suppress(OSError):
                destination.close()
        return destination.stats()["failed"]


@final
class _Sign:
    """Something that lives as long as the interpreter."""


# The SDK exports the rest of its batches at exit, when traces must still be open. What is
# registered first ends last, and this has `weakref` register itself now: before there are
# providers of the SDK, if programs import what they need at their beginning.
_SIGN: Final = _Sign()
finalize(_SIGN, _Sign)


def open_output(
    name: str,
    *,
    file: TraceFile | None,
    guid: UUID | None = None,
    group: UUID | str | None = None,
) -> EventOutput:
    """Register a provider with Windows, or open a trace.

    Args:
        name: What the provider is called.
        file: The path of a trace, which exporters of one process share; or a destination that has
            one open; None for Windows.
        guid: What the provider is known by, if that is not made from its name.
        group: The GUID of a group of providers that it belongs to.

    Raises:
        OSError: If this is not Windows, it refuses, or the file cannot be written.
        TypeError: If `file` is none of these.
        ValueError: If the name is none that all tools can work with, or the group is no GUID.
    """
    if file is None:
        return _EtwOutput(Provider(name, guid=guid, group=group))
    traits = provider_traits(name, group)
    own_guid = provider_guid(name) if guid is None else as_guid(guid)
    if isinstance(file, EtlFileDestination):
        return _TraceOutput(file, own_guid, traits, None)
    if not isinstance(file, (str, os.PathLike)):
        msg = (
            f"file must be a path or an EtlFileDestination, got {file!r}. "
            "Leave it out to write to Event Tracing for Windows."
        )
        raise TypeError(msg)
    path = os.path.abspath(file)
    return _TraceOutput(_share(path, name), own_guid, traits, path)
