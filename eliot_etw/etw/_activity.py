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
    return _made(task_uuid, tuple(level), process_id)


# A start, its end and what is logged between ask for the same.
@lru_cache(maxsize=1024)
def _made(task_uuid: str, level: tuple[int, ...], process_id: int) -> bytes:
    task = task_uuid.encode("utf-8", "surrogatepass")
    digest = blake2b(task, digest_size=4).digest()
    if digest[-1] and not level:
        # What _pack makes of it, in a fifth of the time: many messages stand in no action.
        path = b"\x1f" + digest + bytes(7)
    else:
        root = int.from_bytes(digest, "little")
        path = _pack([1, root, *level]) or _hashed(task, level)
    return path + _LAST_WORD((sum(_WORDS(path)) + _CHECK) % (1 << 32) ^ process_id % (1 << 32))


def _hashed(task: bytes, level: tuple[int, ...]) -> bytes:
    """Make the path ``1, n, m`` with 64 bits of a hash in n and m."""
    place = "".join(f"/{position}" for position in level).encode()
    digest = blake2b(task + b"@" + place, digest_size=8).digest()
    one_and_mark, mark = b"\x1f", b"\xf0"
    return (one_and_mark + digest[:4] + mark + digest[4:]).ljust(_PATH_BYTES, b"\0")


def _pack(numbers: Iterable[int]) -> bytes | None:
    """Write numbers one after the other into 12 bytes, or return None if they do not fit."""
    path = bytearray()
    is_half_free = False
    for number in numbers:
        if 1 <= number <= _LAST_SHORT:
            if is_half_free:
                path[-1] |= number
            else:
                path.append(number << 4)
            is_half_free = not is_half_free
            continue
        if not 0 <= number < 1 << 32:
            return None
        size = max(1, (number.bit_length() + 7) // 8)
        mark = _ONE_BYTE_FOLLOWS - 1 + size
        if is_half_free:
            path[-1] |= mark
            path += number.to_bytes(size, "little")
        elif number < 1 << 12:
            # The other half has the upper 4 bits, so that one byte must follow, even if .NET
            # says two: it adds a zero byte there at which all readers stop.
            path += bytes([_ONE_BYTE_FOLLOWS << 4 | number >> 8, number & 0xFF])
        else:
            path += bytes([mark << 4]) + number.to_bytes(size, "little")
        is_half_free = False
    return bytes(path.ljust(_PATH_BYTES, b"\0")) if len(path) <= _PATH_BYTES else None
