"""Finds out why nothing of a provider is recorded: what `eliot-etw etw doctor` says."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from struct import error as struct_error
from typing import Final, NamedTuple
from uuid import UUID

from eliot_etw.etw._guid import provider_guid
from eliot_etw.etw._levels import ACTIONS, ERROR, FAILURES, INFO, MESSAGES
from eliot_etw.etw._provider import NOBODY, Provider
from eliot_etw.etw._win32 import ACCESS_DENIED, Session, SessionApi, session_api

# TRACE_GUID_INFO, TRACE_PROVIDER_INSTANCE_INFO and TRACE_ENABLE_INFO of evntrace.h.
_GUID_INFO: Final = Struct("<II")
_INSTANCE: Final = Struct("<IIII")
_ENABLED: Final = Struct("<IBxHIIQQ")
_PRE_ENABLED = 2
_ALL_KEYWORDS = (1 << 64) - 1
_OUR_KEYWORDS = ACTIONS | MESSAGES | FAILURES
# An event has 64 KB at most, and must fit a buffer.
_BUFFER_KB = 64

_BE_ADMINISTRATOR = (
    "Run this as an administrator, or as a member of the group 'Performance Log Users'."
)


class Finding(NamedTuple):
    """One thing that was found out."""

    is_good: bool
    text: str
    """What is so, in a sentence."""
    advice: str = ""
    """What to do about it, if anything is to be done."""


class _Listener(NamedTuple):
    """What a session wants of the provider."""

    session: int
    level: int
    match_any: int
    match_all: int


class _Found(NamedTuple):
    """What Windows says of a provider."""

    processes: list[int]
    listeners: list[_Listener]


def diagnose(name: str) -> list[Finding]:
    """Find out whether a provider is registered, who listens to it, and what stands in the way.

    The provider is registered for a moment, to see what a program is told.

    Args:
        name: What the provider is called.

    Raises:
        ValueError: If no provider can be called so.
    """
    guid = provider_guid(name)
    try:
        api = session_api()
    except OSError as error:
        return [Finding(False, str(error))]
    return [*examine(name, guid, api)]


def examine(name: str, guid: UUID, api: SessionApi) -> Iterator[Finding]:
    """Do what `diagnose` says, on Windows."""
    yield Finding(True, f"The provider {name!r} has the GUID {guid}.")
    try:
        found = _parsed(api.provider_info(guid))
    except (OSError, struct_error) as error:
        yield _unknown("Who has registered the provider, and who listens", error)
    else:
        yield _registration(found.processes)
        yield from _listening(guid, found.listeners, api)
    yield _probe(name, guid)


def _unknown(what: str, error: Exception) -> Finding:
    text = f"{what}, Windows does not say: {str(error).rstrip('.')}."
    is_denied = getattr(error, "winerror", None) == ACCESS_DENIED
    return Finding(False, text, _BE_ADMINISTRATOR if is_denied else "")


def _parsed(info: bytes) -> _Found:
    """Read a TRACE_GUID_INFO. Raises struct.error if it is cut off."""
    processes: list[int] = []
    listeners: dict[int, _Listener] = {}
    if info:
        count, _ = _GUID_INFO.unpack_from(info)
        at = _GUID_INFO.size
        for _ in range(count):
            following, enable_count, process, flags = _INSTANCE.unpack_from(info, at)
            if not flags & _PRE_ENABLED:
                processes.append(process)
            for number in range(enable_count):
                place = at + _INSTANCE.size + number * _ENABLED.size
                is_enabled, level, session, _, _, match_any, match_all = _ENABLED.unpack_from(
                    info, place
                )
                if is_enabled:
                    listeners[session] = _Listener(session, level, match_any, match_all)
            if not following:
                break
            at += following
    return _Found(sorted(set(processes)), [*listeners.values()])


def _registration(processes: list[int]) -> Finding:
    if processes:
        return Finding(True, f"It is registered, by {_numbered('process', processes)}.")
    return Finding(
        False,
        "No running process has registered it.",
        "Start your program and look again while it runs. EtwDestination registers the provider "
        "when it is made; its name must be this one. EtwHandler has one for each logger.",
    )


def _numbered(what: str, numbers: list[int]) -> str:
    plural = "" if len(numbers) == 1 else "es"
    return f"the {what}{plural} {', '.join(map(str, numbers))}"


def _listening(guid: UUID, listeners: list[_Listener], api: SessionApi) -> Iterator[Finding]:
    """Say who listens, and what is wrong with that."""
    sessions: dict[int, Session] = {}
    try:
        sessions = {session.number: session for session in api.sessions()}
    except OSError as error:
        yield _unknown("Which sessions there are", error)
    if not listeners:
        yield Finding(
            False,
            "No session listens to it.",
            f"Start one: logman start mytrace -p {{{guid}}} 0xffffffffffff 5 -o mytrace.etl -ets",
        )
    for listener in listeners:
        session = sessions.get(listener.session)
        name = f"number {listener.session}" if session is None else repr(session.name)
        yield _listener(name, listener)
        if session is not None:
            yield from _session(session)


def _listener(name: str, listener: _Listener) -> Finding:
    """Say what a session gets."""
    level, match_any, match_all = listener.level or 255, listener.match_any, listener.match_all
    match_any = match_any or _ALL_KEYWORDS
    text = f"The session {name} listens to levels up to {level}, keywords {match_any:#x}"
    text += f" of which it wants all of {match_all:#x}." if match_all else "."
    if match_all & ~_OUR_KEYWORDS or not match_any & _OUR_KEYWORDS:
        return Finding(
            False,
            text + f" No event of ours has these: they have {ACTIONS} for an action, {MESSAGES} "
            f"for a message, and {FAILURES} more for a failure.",
            "Ask for the keywords 0xffffffffffff, and for none that all events must have.",
        )
    if level < INFO:
        what = "failures" if level >= ERROR else "the gravest failures"
        return Finding(False, text + f" So it gets {what} only.", "Ask for level 5.")
    return Finding(True, text)


def _session(session: Session) -> Iterator[Finding]:
    """Say what is wrong with a session, and where its events are."""
    if session.path:
        yield Finding(True, f"It writes to {session.path}.")
    else:
        yield Finding(True, "It writes to no file: what is not read meanwhile is gone.")
    if session.events_lost:
        yield Finding(
            False,
            f"It has lost {session.events_lost} events, of any provider.",
            "Give it more and larger buffers: logman ... -nb 64 256 -bs 1024.",
        )
    if session.buffer_kb < _BUFFER_KB:
        yield Finding(
            False,
            f"Its buffers have {session.buffer_kb} KB; longer events are lost.",
            "Give it larger ones: logman ... -bs 1024.",
        )


def _probe(name: str, guid: UUID) -> Finding:
    """Register the provider for a moment."""
    try:
        provider = Provider(name, guid=guid)
    except OSError as error:
        return Finding(False, str(error))
    try:
        if provider.level == NOBODY:
            text = "A program that registers it now is told that nobody listens."
            return Finding(False, text, "Start a session before you look, or see above.")
        return Finding(
            True,
            f"A program that registers it now is told to write levels up to {provider.level}, "
            f"keywords {provider.match_any:#x}.",
        )
    finally:
        provider.close()
