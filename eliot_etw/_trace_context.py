"""Where a task stands in a trace of W3C's Trace Context: ids of ours <-> ids of theirs.

A task is a trace, an action a span. Both ids are computed, so that every process, and every
attempt of it, gives an action the same ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from eliot_etw import _names as names
from eliot_etw._safe import safe_repr
from eliot_etw._task_level import TaskLevel, new_task_uuid, parse_task_id
from eliot_etw.exceptions import InvalidTaskID, InvalidTraceParent
from eliot_etw.typing import MessageDict

# That somebody records the trace: what is logged is.
SAMPLED: Final = 0x01
# A position from here on was drawn, and not counted: see `drawn_position`.
FIRST_DRAWN: Final = 1 << 51

_is_canonical_uuid = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_NO_UUID: Final = "00000000-0000-0000-0000-000000000000"
# Of a version later than 00 there may be more, after a dash.
_traceparent = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.ASCII | re.DOTALL,
).fullmatch
# As in level 2 of the specification, which takes whatever level 1 does.
_tracestate_member = re.compile(
    r"([a-z0-9][a-z0-9_\-*/@]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
).fullmatch
_MAX_MEMBERS: Final = 32
_MAX_TRACESTATE: Final = 512
_LARGE_MEMBER: Final = 128
# So much is logged of what came in and was not followed: somebody may send much more.
_MOST_LOGGED: Final = 256
# No task id is longer that comes over the wire: each message of what goes on there has its level.
_LONGEST_TASK_ID: Final = 2_048


class TraceParent(NamedTuple):
    """What the header ``traceparent`` says.

    Attributes:
        trace_id: The trace, 32 hexadecimal digits in lower case.
        parent_id: The span that the sender was in, 16 such digits.
        flags: Eight bits; the lowest is set if the sender records the trace.
    """

    trace_id: str
    parent_id: str
    flags: int

    def to_string(self) -> str:
        """Write the header, in version 00."""
        return f"00-{self.trace_id}-{self.parent_id}-{self.flags:02x}"


def parse_traceparent(text: object) -> TraceParent:
    """Read the header ``traceparent``, of version 00 or any later one.

    >>> parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").parent_id
    'b7ad6b7169203331'

    Args:
        text: Its value. Blanks around it are no part of a header's value, and are refused here.

    Raises:
        InvalidTraceParent: If it is anything else than the specification allows.

    Source:
        W3C Trace Context, level 1 and 2: section 3.2, and 4.3 for later versions.
    """
    found = _traceparent(text) if isinstance(text, str) else None
    if found is not None:
        version, trace_id, parent_id, flags, more = found.groups()
        if version != "00" or more is None:
            return TraceParent(trace_id, parent_id, int(flags, 16))
    msg = (
        "traceparent must look like '00-<32 hex digits>-<16 hex digits>-<2 hex digits>', in lower "
        f"case and neither id all zeros, got {safe_repr(text)}. "
        "Pass what came in the header unchanged."
    )
    raise InvalidTraceParent(msg)


def trace_id_of(task_uuid: str) -> str:
    """Return the id of the trace that a task is.

    >>> trace_id_of("0af76519-16cd-43dd-8448-eb211c80319c")
    '0af7651916cd43dd8448eb211c80319c'

    Args:
        task_uuid: The task. If it is no UUID in its usual spelling, `task_uuid_of` does not give
            it back: the trace's id is then a digest of it.

    Returns:
        32 hexadecimal digits in lower case, not all of them zeros.
    """
    if _is_canonical_uuid(task_uuid) and task_uuid != _NO_UUID:
        return task_uuid.replace("-", "")
    return _digest(task_uuid, 16)


def task_uuid_of(trace_id: str) -> str:
    """Return the task that a trace is: its id in the usual spelling of a UUID.

    >>> task_uuid_of("0af7651916cd43dd8448eb211c80319c")
    '0af76519-16cd-43dd-8448-eb211c80319c'

    Args:
        trace_id: 32 hexadecimal digits in lower case.
    """
    return "-".join(
        (trace_id[:8], trace_id[8:12], trace_id[12:16], trace_id[16:20], trace_id[20:])
    )


def span_id_of(task_uuid: str, level: Iterable[int]) -> str:
    """Return the id of the span that an action is.

    Args:
        task_uuid: The action's task.
        level: Its place there; empty for the root.

    Returns:
        16 hexadecimal digits in lower case, not all of them zeros: a digest of the task and the
        place, written as in a task id.
    """
    return _digest(f"{task_uuid}@/{'/'.join(map(str, level))}", 8)


def drawn_position() -> int:
    """Draw a position for an action of which whoever reads the parent's log may know nothing.

    Any number of processes may continue a trace of which they know nothing but its id. They
    cannot ask one another which positions are taken. And of a service that is called, nobody
    knows whether it logs, and where: nothing is missing if what it logged is not there.

    Returns:
        A number of 52 bits, of which the first is set. No action counts that far, and every
        reader of JSON knows it exactly.
    """
    return FIRST_DRAWN | int.from_bytes(os.urandom(7), "big") >> 5


def drawn_task_id(task_uuid: str, level: Iterable[int]) -> str:
    """Return a task id, for one call of `Action.continue_task`, at a drawn place in an action.

    Args:
        task_uuid: The action's task.
        level: Its place there; empty for the root.

    Returns:
        ``<task_uuid>@/<n>/<n>`` in ASCII; empty if the task has a name that cannot be sent.
    """
    place = TaskLevel((*level, drawn_position())).to_string()
    task_id = f"{task_uuid}@{place}".encode("ascii", "backslashreplace").decode()
    return task_id if _is_sendable(task_id) else ""


def sent_place(task_id: object) -> tuple[str, TaskLevel] | None:
    """Read a task id that came over the wire.

    Returns:
        The task, and the place in it; None if it is none, or not one that we or Eliot make.
    """
    if not isinstance(task_id, str | bytes) or len(task_id) > _LONGEST_TASK_ID:
        return None
    try:
        place = parse_task_id(task_id)
    except InvalidTaskID:
        return None
    return place if _is_sendable(place[0]) and max(place[1]) < 2 * FIRST_DRAWN else None


def valid_tracestate(text: object) -> str:
    """Return what is passed on of the header ``tracestate``.

    >>> valid_tracestate("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE'

    Args:
        text: Its value; of several such headers, all values with commas in between.

    Returns:
        The text unchanged, if it is valid and has no more than 512 characters. Of a longer one
        members are left out, first those of more than 128 characters, then the last ones. Empty
        if it breaks the rules.

    Source:
        W3C Trace Context, level 2, section 3.3 and 3.5.
    """
    if not isinstance(text, str):
        return ""
    members = [member for item in text.split(",") if (member := item.strip(" \t"))]
    matches = [_tracestate_member(member) for member in members]
    keys = {match[1] for match in matches if match}
    if len(members) > _MAX_MEMBERS or len(keys) < len(members):
        return ""
    if len(text) <= _MAX_TRACESTATE:
        return text if members else ""
    kept = ",".join(member for member in members if len(member) <= _LARGE_MEMBER)
    if len(kept) > _MAX_TRACESTATE:
        kept = kept[: kept.rindex(",", 0, _MAX_TRACESTATE + 1)]
    return kept


def traceparent_of(task_uuid: str, level: Iterable[int]) -> str:
    """Return the header ``traceparent`` that names an action as the parent.

    Args:
        task_uuid: The action's task.
        level: Its place there; empty for the root.
    """
    return TraceParent(trace_id_of(task_uuid), span_id_of(task_uuid, level), SAMPLED).to_string()


class Continuation(NamedTuple):
    """Where something goes on that began elsewhere.

    Attributes:
        place: The task, and the place in it.
        fields: What the start of the action there says about it.
        tracestate: The header of that name, to be passed on; may be empty.
    """

    place: tuple[str, TaskLevel]
    fields: MessageDict
    tracestate: str


def continuation(task_id: object, traceparent: object, tracestate: object) -> Continuation:
    """Find the place that headers name. Nothing is raised, whatever they are.

    Args:
        task_id: What `Action.serialize_task_id` returned, or None.
        traceparent: The header of that name, or None.
        tracestate: The header of that name, or None.

    Returns:
        The exact place, unless it is in another trace than the one that ``traceparent`` names;
        else one that is drawn in that trace; else a new task.
    """
    place, parent = sent_place(task_id), _parent(traceparent)
    if parent is None:
        came = {"task_id": None if place else task_id, "traceparent": traceparent}
        refused = not_continued("refused", **came)
        return Continuation(place or (new_task_uuid(), TaskLevel()), refused, "")
    state = valid_tracestate(tracestate)
    passed_on = {names.TRACESTATE: state} if state else {}
    if place and trace_id_of(place[0]) == parent.trace_id:
        # Whoever is between us and the action there, or a span that the action is, has its own id.
        if span_id_of(place[0], place[1][:-1]) != parent.parent_id:
            passed_on[names.OTEL_PARENT_SPAN_ID] = parent.parent_id
        return Continuation(place, passed_on, state)
    reason = "another trace" if place else "refused"
    return Continuation(
        (task_uuid_of(parent.trace_id), TaskLevel((drawn_position(),))),
        {
            names.TRACEPARENT: parent.to_string(),
            **passed_on,
            **not_continued(reason, task_id=task_id),
        },
        state,
    )


def not_continued(reason: str, **came: object) -> MessageDict:
    """Make the field that says what came from elsewhere and was not followed.

    Args:
        reason: Why not, in a word or two.
        **came: What came, by its name; None for what did not.

    Returns:
        The field; nothing if nothing came.
    """
    said = {name: _shortened(value) for name, value in came.items() if value is not None}
    return {names.NOT_CONTINUED: {"reason": reason, **said}} if said else {}


def _shortened(value: object) -> str:
    """Write what came in a size that does not depend on it."""
    return (value if isinstance(value, str) else safe_repr(value))[:_MOST_LOGGED]


def _is_sendable(text: str) -> bool:
    """Say whether a header, or the environment, can have a text as it is."""
    return text.isprintable() and not text.startswith(" ")


def _parent(traceparent: object) -> TraceParent | None:
    """Read a ``traceparent``; None if it is none."""
    try:
        return parse_traceparent(traceparent)
    except InvalidTraceParent:
        return None


def _digest(text: str, size_bytes: int) -> str:
    """Return a digest of a text, as hexadecimal digits that are not all zeros."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size_bytes).hexdigest()
    # No trace and no span may have that id. One of 2**64 has it.
    return digest if digest.strip("0") else f"{1:0{2 * size_bytes}x}"
