"""Gathers messages into tasks: gives out each task when it is finished, holds no more than it may.

A task is finished when each of its actions has its end, and as many items as the position of that
end says. What has to be known for that is one number, however long the task is: the sum, over all
actions, of (items that came - items that the end says) times a number drawn from the action's
level. It is zero if every action is whole, and else, but for one chance in 2**61, it is not. So
the order of the messages does not matter. Something lost, or there twice, leaves the task
unfinished to the end of the log. What stands at a position that was drawn is none of the items
that an end counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Final, final

from eliot_etw._json import encode_line
from eliot_etw._names import TASK_LEVEL, TASK_UUID
from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.typing import MessageDict
from eliot_etw.viewers._nodes import (
    END,
    MESSAGE,
    START,
    BackwardPass,
    Level,
    Node,
    Row,
    Selector,
    is_same,
    role_of,
)

if TYPE_CHECKING:
    from eliot_etw.viewers._spill import Spill

# Measured: a message of Eliot's takes as dict and level some 700 bytes and its text.
_MESSAGE_BYTES: Final = 700
# What waits for the rest of its task may take this much; beyond that it waits on disk.
_BUDGET_BYTES: Final = 48 << 20
# Finished tasks wait until this much came after them, for what was logged after their end.
_HOLD_BYTES: Final = 4 << 20
# No honest tree is that deep, and each level of it costs as long as it is.
_MAX_DEPTH: Final = 1_000

_by_level = itemgetter(0)


@final
class Task:
    """The messages of one ``task_uuid``, as far as they have come in.

    Attributes:
        uuid: The task's name.
        number: Counts the tasks in the order of their first messages.
        rows: The messages that are not on disk.
        size_bytes: What they take in memory, roughly.
        count: How many messages there are, those on disk included.
        spill: Where the others are, if some are on disk.
    """

    __slots__ = (
        "_balance",
        "_bytes_on_disk",
        "_end_position",
        "count",
        "is_held",
        "number",
        "rows",
        "size_bytes",
        "spill",
        "uuid",
    )

    def __init__(self, uuid: str, number: int, spill: Spill | None = None) -> None:
        self.uuid = uuid
        self.number = number
        self.rows: list[Row] = []
        self.size_bytes = 0
        self.spill = spill
        self.is_held = False
        self.count = 0
        self._balance = 0
        # Of the outermost action, if its end has come.
        self._end_position = 0
        self._bytes_on_disk = 0

    @property
    def state(self) -> tuple[int, int, int, int]:
        """What must be known to go on with the task when its messages are on disk."""
        size_bytes = self._bytes_on_disk + self.size_bytes
        return self.count, self._balance, self._end_position, size_bytes

    @state.setter
    def state(self, state: tuple[int, int, int, int]) -> None:
        self.count, self._balance, self._end_position, self._bytes_on_disk = state

    @property
    def has_ended(self) -> bool:
        """Whether the end of the outermost action is there."""
        return self._end_position > 0

    def add(self, level: Level, message: MessageDict) -> bool:
        """Take a message at its level.

        Returns:
            False if it says exactly what the one before it said: a log that is read twice.
        """
        rows = self.rows
        if rows and rows[-1][0] == level and is_same(rows[-1][1], message):
            return False
        rows.append((level, message))
        self.count += 1
        parent = level[:-1]
        role = role_of(message, level[-1])
        if role == END:
            self._balance += (1 - level[-1]) * hash(parent)
            if not parent and not self._end_position:
                self._end_position = level[-1]
            return True
        # What was logged after the end of the task is not waited for: it does not count.
        position = level[-1]
        if position < FIRST_DRAWN and (parent or not 0 < self._end_position < position):
            self._balance += hash(parent)
        if role == START and parent:
            position = parent[-1]
            outer = parent[:-1]
            if position < FIRST_DRAWN and (outer or not 0 < self._end_position < position):
                self._balance += hash(outer)
        return True

    def is_finished(self) -> bool:
        """Say whether nothing is known to be missing."""
        if self._balance:
            return self.count == 1 and self._is_lone()
        return True

    def _is_lone(self) -> bool:
        """Say whether the only message there is stands outside any action."""
        level, message = self.rows[0]
        return level == (1,) and role_of(message, 1) == MESSAGE

    def nodes(self, is_match: Selector | None = None, *, context: bool = False) -> Iterator[Node]:
        """Give the nodes of the tree, the root first; see `BackwardPass`."""
        backward = BackwardPass(is_match, keeps_context=context)
        spill = self.spill
        if spill is None or self._bytes_on_disk + self.size_bytes <= _BUDGET_BYTES:
            rows = [*spill.rows(self.number), *self.rows] if spill else self.rows
            rows.sort(key=_by_level, reverse=True)
            yield from reversed([*backward.nodes(rows)])
        else:
            spill.put(self.number, self.uuid, self.state, self.rows)
            self.rows.clear()
            yield from spill.turned(backward.nodes(spill.rows(self.number)))


@final
class Forest:
    """The tasks that are not finished, and those that wait for a late message.

    Args:
        hold_bytes: How much may come after the end of a task before it is given out.
        budget_bytes: How much may be in memory.
    """

    def __init__(
        self, *, hold_bytes: int = _HOLD_BYTES, budget_bytes: int = _BUDGET_BYTES
    ) -> None:
        self._hold_bytes = hold_bytes
        self._budget_bytes = budget_bytes
        self._tasks: dict[str, Task] = {}
        self._held: deque[Task] = deque()
        self._held_bytes = 0
        self._size_bytes = 0
        self._count = 0
        self._spill: Spill | None = None

    def add(self, message: MessageDict) -> Iterable[Task]:
        """Take a message that has a place.

        Returns:
            Tasks to draw now, usually none. Each must be drawn before the next message.
        """
        uuid = message[TASK_UUID]
        level = tuple(message[TASK_LEVEL])
        if len(level) > _MAX_DEPTH:
            level = level[:_MAX_DEPTH]
        task = self._tasks.get(uuid)
        if task is None:
            task = self._tasks[uuid] = self._begun(uuid)
        if not task.add(level, message):
            return ()
        size = _MESSAGE_BYTES + len(encode_line(message))
        task.size_bytes += size
        self._size_bytes += size
        if task.is_held:
            self._held_bytes += size
        elif task.is_finished():
            task.is_held = True
            self._held.append(task)
            self._held_bytes += task.size_bytes
        if self._held_bytes > self._hold_bytes:
            return self._released()
        if self._size_bytes > self._budget_bytes:
            self._put_away()
        return ()

    def rest(self) -> Iterator[Task]:
        """Give all tasks, finished or not, in the order of their first messages."""
        if self._spill is None:
            yield from self._tasks.values()
            return
        self._held.clear()
        self._put_away()
        for number, uuid, state in self._spill.tasks():
            task = Task(uuid, number, self._spill)
            task.state = state
            yield task

    def unfinished(self) -> Iterator[Task]:
        """Give the tasks in memory that are not finished."""
        return (task for task in self._tasks.values() if not task.is_held)

    def give_up(self, task: Task) -> None:
        """Forget a task that has been drawn."""
        del self._tasks[task.uuid]
        self._size_bytes -= task.size_bytes
        if task.spill:
            task.spill.drop(task.number)

    def close(self) -> None:
        """Give back what was taken on disk. No task may be drawn after that."""
        if self._spill:
            self._spill.close()

    def _begun(self, uuid: str) -> Task:
        """Make a task, or go on with one whose messages are on disk."""
        found = self._spill.state(uuid) if self._spill else None
        if found is None:
            self._count += 1
            return Task(uuid, self._count)
        task = Task(uuid, found[0], self._spill)
        task.state = found[1]
        return task

    def _released(self) -> Iterator[Task]:
        """Give out the tasks that have waited long enough."""
        while self._held_bytes > self._hold_bytes:
            task = self._held.popleft()
            self._held_bytes -= task.size_bytes
            task.is_held = False
            # An action that started after the end of its task keeps the task open.
            if task.is_finished():
                yield task
                self.give_up(task)

    def _put_away(self) -> None:
        """Move to disk what is not about to be given out."""
        spill = self._spill
        if spill is None:
            from eliot_etw.viewers._spill import Spill  # noqa: PLC0415 - most logs never need it

            spill = self._spill = Spill()
        kept = {task.uuid: task for task in self._held}
        spill.begin()
        for task in self._tasks.values():
            if task.uuid not in kept:
                spill.put(task.number, task.uuid, task.state, task.rows)
        spill.commit()
        self._tasks = kept
        self._size_bytes = self._held_bytes
