"""Where a message stands in its task: levels and task ids, text <-> value."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING, final

from eliot_etw.exceptions import InvalidTaskID

if TYPE_CHECKING:
    from pyrsistent.typing import PVector


@final
class TaskLevel(tuple[int, ...]):
    """A place in the tree of a task: positions counted from 1, outermost action first.

    ``(2, 3)`` is the third message within the action that is the second item of the task.

    >>> TaskLevel([2, 3]) == TaskLevel(level=[2, 3]) == (2, 3)
    True
    >>> TaskLevel([2, 3]).parent()
    TaskLevel((2,))
    """

    __slots__ = ()

    def __new__(cls, level: Iterable[int] = ()) -> TaskLevel:
        return super().__new__(cls, level)

    def __repr__(self) -> str:
        return f"TaskLevel({super().__repr__()})"

    @property
    def level(self) -> PVector[int]:
        """The positions as a persistent vector, as Eliot gives them."""
        # pyrsistent takes longer to import than all the rest: only who asks for it pays.
        from pyrsistent import pvector  # noqa: PLC0415 - see above

        return pvector(self)

    def as_list(self) -> list[int]:
        """Return the positions as the list that a message carries in ``task_level``."""
        return list(self)

    @classmethod
    def from_string(cls, string: str) -> TaskLevel:
        """Read what `to_string` wrote.

        >>> TaskLevel.from_string("/2/3")
        TaskLevel((2, 3))

        Raises:
            ValueError: If a position is not a whole number.
        """
        return cls(int(position) for position in string.split("/") if position)

    def to_string(self) -> str:
        """Write the level as text.

        >>> TaskLevel([2, 3]).to_string()
        '/2/3'
        """
        return "/" + "/".join(map(str, self))

    def next_sibling(self) -> TaskLevel:
        """Return the place that follows this one within the same action."""
        return TaskLevel((*self[:-1], self[-1] + 1))

    def child(self) -> TaskLevel:
        """Return the first place within this one."""
        return TaskLevel((*self, 1))

    def parent(self) -> TaskLevel | None:
        """Return the place of the action that this one stands in; the root has none."""
        return TaskLevel(self[:-1]) if self else None

    def is_sibling_of(self, task_level: TaskLevel) -> bool:
        """Say whether both stand in the same action."""
        return self.parent() == task_level.parent()


def parse_task_id(task_id: str | bytes) -> tuple[str, TaskLevel]:
    """Split a serialized task id into the task and the place inside it.

    >>> parse_task_id("0b9c@/2/1")
    ('0b9c', TaskLevel((2, 1)))

    Args:
        task_id: What `Action.serialize_task_id` returned, as text or ASCII bytes.

    Returns:
        The task's UUID, and the level: one or more positions counted from 1, outermost first.

    Raises:
        InvalidTaskID: If there is no ``@``, a position is not a whole number above 0, or it is
            not ASCII.

    Source:
        Eliot's task id format, ``<task_uuid>@/<n>/<n>``.
    """
    try:
        text = task_id.decode("ascii") if isinstance(task_id, bytes) else task_id
        uuid, at, level = text.partition("@")
        empty, *positions = level.split("/")
        # Not by int() alone, which also takes signs, spaces and underscores.
        are_numbers = all(position.isdecimal() for position in positions)
        if text.isascii() and uuid and at and not empty and positions and are_numbers:
            place = TaskLevel(map(int, positions))
            if min(place) > 0:
                return uuid, place
    except (AttributeError, TypeError, ValueError):
        pass
    msg = (
        f"task_id must look like '<task_uuid>@/<n>/<n>', got {task_id!r}. "
        "Pass the value returned by serialize_task_id() unchanged."
    )
    raise InvalidTaskID(msg)


def _is_zero_after_fork() -> bytearray | mmap.mmap:
    """Make a byte that is 1 for now, and 0 in every child that is forked from here on.

    Servers such as uWSGI fork without telling Python: what `os.register_at_fork` calls is not
    called there. The system knows.

    Raises:
        OSError: If this system has no such thing.

    Source:
        madvise(2), MADV_WIPEONFORK, since Linux 4.14; its number is that of linux/mman.h.
    """
    if not hasattr(os, "fork"):
        return bytearray(b"\1")
    if sys.platform != "linux":
        raise OSError
    memory = mmap.mmap(-1, 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(18)
    memory[0] = 1
    return memory


# So many are made at a time: asking the system for random bytes costs more than all the rest.
# One, and none to spare, where parent and child might both hand them out.
try:
    _is_here: bytearray | mmap.mmap = _is_zero_after_fork()
    _batch = 64
except OSError:
    _is_here = bytearray(b"\1")
    _batch = 1
# The bits that RFC 9562 fixes: in the seventh byte the version 4, in the ninth the variant.
_VERSION = bytes(0x40 | byte & 0x0F for byte in range(256))
_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))
_split = Struct("8s4s4s4s12s" * _batch).unpack
_spare: list[str] = []
if hasattr(os, "register_at_fork"):  # not on Windows
    # An emulator of Linux may say yes to madvise() and do nothing.
    os.register_at_fork(after_in_child=_spare.clear)


def new_task_uuid() -> str:
    """Make the name of a new task: a random (version 4) UUID as text.

    `uuid.uuid4` gives the same at many times the cost.

    Source:
        RFC 9562, section 5.4.
    """
    if not _is_here[0]:
        # In this order: until the second line is done, no other thread takes a name either.
        _spare.clear()
        _is_here[0] = 1
    try:
        return _spare.pop()
    except IndexError:
        fresh = _make_uuids()
        first = fresh.pop()
        _spare.extend(fresh)
        return first


def _make_uuids() -> list[str]:
    """Make a batch of them."""
    random = bytearray(os.urandom(16 * _batch))
    random[6::16] = random[6::16].translate(_VERSION)
    random[8::16] = random[8::16].translate(_VARIANT)
    text = b"-".join(_split(random.hex().encode())).decode()
    return [text[at : at + 36] for at in range(0, len(text), 37)]
