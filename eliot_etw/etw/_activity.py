"""ETW activity ids of actions: which are computed, not kept, so that readers can do it too.

PerfView draws activities as a tree only if their ids are of the form that .NET gives them, an
*activity path*: whole numbers packed into the first 12 bytes of the GUID, and in the last four the
sum of those, the number ``0x599D99AD`` and, by XOR, the id of the process.

The path of an action is 1 (where .NET has its application domain), a number made from the
task's UUID, and then the action's place in its task. So it is ``1, 2893567203, 2, 3`` for the
action ``/2/3``, and a tool that prints paths shows where it belongs.
What does not fit into 12 bytes (more than 14 levels, or fewer with places above 10) gets a path
of a hash instead: no tool shows its place, but PerfView nests it as well, for it nests by the
related activity that comes with a start.

The number of a task has 32 bits: of a thousand tasks that one process has open at a time, two
share theirs by a chance of 1 in 8,600. Our own readers go by the task's UUID in the payload.

The first 12 bytes depend on the task and the place alone. Whoever wants to find an action that
another process began compares these.

Source:
    ActivityTracker.cs in https://github.com/dotnet/corefx, which makes such ids, and
    StartStopActivityComputer.cs in https://github.com/microsoft/perfview, which reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import Final

_WORDS: Final = Struct("<3I").unpack
_LAST_WORD: Final = Struct("<I").pack
_CHECK = 0x599D_99AD
_PATH_BYTES = 12
# Up to here a number is one half of a byte; halves from 12 on say that 1, 2, 3 or 4 bytes follow.
_LAST_SHORT = 10
_ONE_BYTE_FOLLOWS = 12
_HALVES = "0123456789abcdef"
# A task's name is some 36 characters; only such are kept.
_LONGEST_KEPT = 100


def activity_id(task_uuid: str, level: Sequence[int], process_id: int) -> bytes:
    """Return the activity id of an action.

    The related activity of its start is that of the place above:
    ``activity_id(task_uuid, level[:-1], process_id)``. The outermost action, at ``()``, has none.

    >>> activity_id("0b9c", (2, 3), 2140).hex()
    '1f125077de23000000000000f6c7edd0'

    Args:
        task_uuid: Names the task, as in the action's messages.
        level: The action's place in the task: the ``task_level`` of any message of it without the
            last number.
        process_id: The id of the process that writes the event, as its header has it.

    Returns:
        The 16 bytes as they stand in an event; ``uuid.UUID(bytes_le=...)`` makes a GUID of them.
    """
    if len(task_uuid) > _LONGEST_KEPT:
        return _made.__wrapped__(task_uuid, tuple(level), process_id)
    return _made(task_uuid, tuple(level), process_id)


# A start, its end and what is logged between ask for the same.
@lru_cache(maxsize=1024)
def _made(task_uuid: str, level: tuple[int, ...], process_id: int) -> bytes:
    root = _root if len(task_uuid) <= _LONGEST_KEPT else _root.__wrapped__
    path = _pack(level, root(task_uuid)) or _hashed(task_uuid, level)
    return path + _LAST_WORD((sum(_WORDS(path)) + _CHECK) % (1 << 32) ^ process_id % (1 << 32))


# And so do all actions of a task.
@lru_cache(maxsize=1024)
def _root(task_uuid: str) -> str:
    """Begin a path: 1, and the number of the task."""
    digest = blake2b(_encoded(task_uuid), digest_size=4).digest()
    if digest[-1]:
        # What _digits makes of it, in a fifth of the time: each task has a number of its own.
        return f"1f{digest.hex()}"
    return _digits([1, int.from_bytes(digest, "little")])


def _encoded(task_uuid: str) -> bytes:
    return task_uuid.encode("utf-8", "surrogatepass")


def _hashed(task_uuid: str, level: tuple[int, ...]) -> bytes:
    """Make the path ``1, n, m`` with 64 bits of a hash in n and m."""
    place = "".join(f"/{position}" for position in level).encode()
    digest = blake2b(_encoded(task_uuid) + b"@" + place, digest_size=8).digest()
    one_and_mark, mark = b"\x1f", b"\xf0"
    return (one_and_mark + digest[:4] + mark + digest[4:]).ljust(_PATH_BYTES, b"\0")


def _pack(numbers: Iterable[int], begin: str = "") -> bytes | None:
    """Write numbers one after the other into 12 bytes, or return None if they do not fit."""
    digits = _digits(numbers, begin)
    if len(digits) > 2 * _PATH_BYTES:
        return None
    return bytes.fromhex(digits.ljust(2 * _PATH_BYTES, "0"))


def _digits(numbers: Iterable[int], begin: str = "") -> str:
    """Write numbers behind others, as hexadecimal digits; too many for one that has no form."""
    path = begin
    for number in numbers:
        if 1 <= number <= _LAST_SHORT:
            path += _HALVES[number]
            continue
        if not 0 <= number < 1 << 32:
            return path + "0" * 2 * _PATH_BYTES
        size = max(1, (number.bit_length() + 7) // 8)
        mark = _HALVES[_ONE_BYTE_FOLLOWS - 1 + size]
        if len(path) % 2:
            path += mark + number.to_bytes(size, "little").hex()
        elif number < 1 << 12:
            # The other half has the upper 4 bits, so that one byte must follow, even if .NET
            # says two: it adds a zero byte there at which all readers stop.
            path += f"{_HALVES[_ONE_BYTE_FOLLOWS]}{number:03x}"
        else:
            path += f"{mark}0{number.to_bytes(size, 'little').hex()}"
    return path
