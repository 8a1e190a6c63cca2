"""Stands in for Event Tracing for Windows in a test, on every system: `RecordingEtw`."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from struct import Struct
from typing import NamedTuple, final
from uuid import UUID

from eliot_etw._counter import Counter
from eliot_etw.etw._encode import payload_limit_bytes
from eliot_etw.etw._event_message import message_of
from eliot_etw.etw._guid import provider_guid
from eliot_etw.etw._records import EPOCH, EtlEvent, parse_traits
from eliot_etw.etw._win32 import (
    ARITHMETIC_OVERFLOW,
    DISABLE,
    ENABLE,
    INVALID_HANDLE,
    INVALID_PARAMETER,
    STAND_INS,
    SUCCESS,
    OnChange,
    Writer,
    registration_error,
)
from eliot_etw.typing import MessageDict

# Id, version, channel, level, opcode, task, keyword.
_DESCRIPTOR = Struct("<HBBBBHQ")
_ID_BYTES = 16
_VERBOSE = 5


class _Listening(NamedTuple):
    """What a session wants to have of a provider."""

    level: int
    match_any: int
    match_all: int

    def wants(self, level: int, keyword: int) -> bool:
        """Say whether an event gets to the session, by the rule of Windows."""
        if self.level and level > self.level:
            return False
        if not keyword:
            return True
        is_any = not self.match_any or keyword & self.match_any
        return bool(is_any) and keyword & self.match_all == self.match_all


@dataclass
class _Registration:
    """A provider that is registered."""

    guid: UUID
    on_change: OnChange
    traits: bytes = b""


@final
class RecordingEtw:
    """Takes the place of Windows for the providers that are made within a ``with`` block.

    It keeps the events that somebody would have got, and refuses what Windows would refuse. It
    works on every system, and on Windows nothing reaches Windows. All threads may log at once.

    >>> from eliot_etw.etw import Provider
    >>> with RecordingEtw() as etw:
    ...     provider = Provider("MyCompany.MyProgram")
    ...     etw.registered, provider.is_enabled(4, 1)
    (['MyCompany.MyProgram'], True)

    Attributes:
        events: What was written and wanted, in the order of writing.
    """

    def __init__(self, level: int | None = _VERBOSE, match_any: int = 0) -> None:
        """Prepare to stand in.

        Args:
            level: Listen from the start, to events up to this level: 1 critical, 2 error,
                3 warning, 4 info, 5 all. None for nobody who listens.
            match_any: Listen to keywords that have one of these bits; 0 for all.
        """
        self.events: list[EtlEvent] = []
        self._unwanted = Counter()
        self._default = None if level is None else _Listening(level, match_any, 0)
        self._chosen: dict[UUID, _Listening | None] = {}
        self._registrations: dict[int, _Registration] = {}
        self._handles = count(1)
        self._register_code = self._write_code = SUCCESS

    def __enter__(self) -> RecordingEtw:
        STAND_INS.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the place back. To providers that are left, nobody listens any more."""
        STAND_INS.remove(self)
        self.disable()

    # ---- what a test asks and says --------------------------------------------------------------

    @property
    def messages(self) -> list[MessageDict]:
        """The messages of the events, as a file would have them; other events are left out."""
        found = map(message_of, self.events)
        return [message for message in found if message is not None]

    @property
    def registered(self) -> list[str]:
        """The names of the providers that are registered now, in the order of registration."""
        return [
            parse_traits(registration.traits)[0] or str(registration.guid)
            for registration in self._registrations.values()
        ]

    @property
    def unwanted(self) -> int:
        """How many events were written that nobody listened to: to make them was in vain."""
        return self._unwanted.value

    def enable(
        self,
        level: int = _VERBOSE,
        match_any: int = 0,
        match_all: int = 0,
        provider: str | UUID | None = None,
    ) -> None:
        """Listen, as a session does, from now on.

        Args:
            level: Up to which level, as above; 0 is all levels.
            match_any: Which keywords: one of these bits; 0 for any keyword.
            match_all: And all of these.
            provider: To which provider alone: its name, or its GUID if that is not made from the
                name. None for all, also those that will be registered later.
        """
        self._choose(_Listening(level, match_any, match_all), provider)

    def disable(self, provider: str | UUID | None = None) -> None:
        """Stop listening, to one provider or to all."""
        self._choose(None, provider)

    def fail_writes(self, code: int) -> None:
        """Answer all that is written with a Win32 error code, until told otherwise; 0 ends it."""
        self._write_code = code

    def fail_register(self, code: int) -> None:
        """Answer each registration with a Win32 error code, until told otherwise; 0 ends it."""
        self._register_code = code

    def _choose(self, listening: _Listening | None, provider: str | UUID | None) -> None:
        if provider is None:
            self._default = listening
            self._chosen.clear()
        guid = provider_guid(provider) if isinstance(provider, str) else provider
        if guid is not None:
            self._chosen[guid] = listening
        for registration in list(self._registrations.values()):
            if guid in (None, registration.guid):
                self._tell(registration)

    def _listening_to(self, guid: UUID) -> _Listening | None:
        return self._chosen.get(guid, self._default)

    def _tell(self, registration: _Registration) -> None:
        listening = self._listening_to(registration.guid)
        if listening is None:
            registration.on_change(DISABLE, 0, 0, 0)
        else:
            registration.on_change(ENABLE, *listening)

    # ---- what a provider calls ------------------------------------------------------------------

    def register(self, guid: UUID, on_change: OnChange) -> int:
        """Register a provider, as Windows does."""
        if self._register_code:
            raise registration_error(guid, self._register_code)
        handle = next(self._handles)
        self._registrations[handle] = registration = _Registration(guid, on_change)
        if self._listening_to(guid) is not None:
            self._tell(registration)
        return handle

    def set_traits(self, handle: int, traits: bytes) -> int:
        """Tell a provider's name and group, as to Windows."""
        registration = self._registrations.get(handle)
        if registration is None:
            return INVALID_HANDLE
        if int.from_bytes(traits[:2], "little") != len(traits) or b"\0" not in traits[2:]:
            return INVALID_PARAMETER
        registration.traits = traits
        return SUCCESS

    def unregister(self, handle: int) -> int:
        """End a registration, as Windows does."""
        return INVALID_HANDLE if self._registrations.pop(handle, None) is None else SUCCESS

    def writer(self, handle: int, traits: bytes) -> Writer:
        """Return what keeps an event, or refuses it as Windows does."""
        return partial(self._write, handle, traits)

    def _write(
        self,
        handle: int,
        traits: bytes,
        descriptor: bytes,
        metadata: bytes,
        payload: bytes,
        activity: bytes | None = None,
        related: bytes | None = None,
    ) -> int:
        registration = self._registrations.get(handle)
        if registration is None:
            return INVALID_HANDLE
        ids = [guid for guid in (activity, related) if guid is not None]
        if len(descriptor) != _DESCRIPTOR.size or any(len(guid) != _ID_BYTES for guid in ids):
            return INVALID_PARAMETER
        limit = payload_limit_bytes(metadata, traits, has_related_activity=related is not None)
        if len(payload) > limit:
            return ARITHMETIC_OVERFLOW
        if self._write_code:
            return self._write_code
        id_, version, channel, level, opcode, task, keyword = _DESCRIPTOR.unpack(descriptor)
        listening = self._listening_to(registration.guid)
        if listening is None or not listening.wants(level, keyword):
            self._unwanted.add()
            return SUCCESS
        self.events.append(
            EtlEvent(
                ticks=time.time_ns() // 100 + EPOCH,
                provider_id=registration.guid,
                traits=traits,
                metadata=metadata,
                payload=payload,
                level=level,
                opcode=opcode,
                keyword=keyword,
                activity_id=None if activity is None else UUID(bytes_le=activity),
                related_activity_id=None if related is None else UUID(bytes_le=related),
                thread_id=threading.get_native_id(),
                process_id=os.getpid(),
                id=id_,
                version=version,
                channel=channel,
                task=task,
            )
        )
        return SUCCESS
