"""Messages to trees: a stream of logged messages becomes the tasks that they tell of.

Messages may come in any order, twice, contradicting each other, or not at all. Nothing raises
and nothing is dropped:

* What is not all there is not complete, and says so: `Task.is_complete`,
  `WrittenAction.is_complete`, `WrittenAction.missing`.
* A message that claims a place which another holds is in `WrittenAction.conflicts`.
  An exact duplicate counts once. Of two ends at different places the first to come is the end,
  the other one of the children.
* A message without a usable place (no text in ``task_uuid``, no positions in ``task_level``) is
  a task of its own, complete as it is, whose root is that message.
* A task is given out and forgotten when its last message is there. What still comes later for
  the same ``task_uuid`` (a duplicate, or a child logged after the task's end) is a further task,
  a fragment that is not complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, final

from pyrsistent import pmap

from eliot_etw._task_level import TaskLevel
from eliot_etw._tree import TaskBuilder
from eliot_etw._written import Written, WrittenAction, WrittenMessage, place_of
from eliot_etw.exceptions import InvalidTree, WrongTask, WrongTaskLevel
from eliot_etw.typing import MessageDict

if TYPE_CHECKING:
    from pyrsistent.typing import PMap

__all__ = ["Parser", "Task", "TaskLevel", "WrittenAction", "WrittenMessage"]


@final
class Task:
    """The messages of one ``task_uuid``, as far as they have come in. Never changes.

    Adding to the newest version of a task is quick; adding to an older one has to go through
    the older one's messages again.
    """

    # The newest version of a task has the builder, in a list that is empty in all others: popping
    # it is atomic, so that of two threads which add to one version only one can have it. The log
    # is shared and only ever grows; a version is its first so many messages.
    __slots__ = ("_builder", "_is_complete", "_log", "_root", "_size")
    _builder: list[TaskBuilder]
    _is_complete: bool
    _log: list[MessageDict]
    _root: Written | None
    _size: int

    def __init__(self) -> None:
        self._become(TaskBuilder())

    def root(self) -> Written:
        """Return the tree: the outermost action, or the one message if it stands outside any.

        The tree is built when it is first asked for.

        Raises:
            InvalidTree: If nothing has been added yet.
        """
        if self._root is None:
            if not self._size:
                msg = (
                    "A task must have a message before it has a root, got none. Call add() first."
                )
                raise InvalidTree(msg)
            builder = self._take_builder()
            self._root = builder.build()
            if not self._is_complete:
                # What is complete is rarely added to, and the builder is as large as the tree.
                self._builder.append(builder)
        return self._root

    def is_complete(self) -> bool:
        """Say whether all messages are there: of every action its start, its end and all between.

        A message outside any action is complete by itself.
        """
        return self._is_complete

    @property
    def task_uuid(self) -> str:
        """The task's name; empty if there is no message yet, or one that names no task."""
        return WrittenMessage(self._log[0]).task_uuid if self._size else ""

    def messages(self) -> Iterator[WrittenMessage]:
        """Go through all messages, in the order in which they came in."""
        return map(WrittenMessage, islice(self._log, self._size))

    def add(self, message_dict: Mapping[str, Any]) -> Task:
        """Return the task with one message more; itself if it has that very message already.

        Raises:
            WrongTaskLevel: If the message has no usable place. `Parser.add` takes those.
            WrongTask: If the message is of another task.
        """
        message = dict(message_dict)
        place = place_of(message)
        if place is None:
            msg = f"A message must have a place in the task, got {WrittenMessage(message)!r}."
            raise WrongTaskLevel(msg)
        first = place_of(self._log[0]) if self._size else place
        if first is None or first[0] != place[0]:
            msg = f"A message must be of task {self.task_uuid!r}, got {WrittenMessage(message)!r}."
            raise WrongTask(msg)
        return self._add(message, place[1])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        if self._size != other._size:
            return False
        return not self._size or self.root() == other.root()

    def __hash__(self) -> int:
        return hash((self.task_uuid, self._size))

    def __repr__(self) -> str:
        completeness = "complete" if self._is_complete else "incomplete"
        return f"<Task {self.task_uuid!r}: {self._size} messages, {completeness}>"

    def _add(self, message: MessageDict, level: list[int]) -> Task:
        builder = self._take_builder()
        if not builder.add(message, level):
            self._builder.append(builder)
            return self
        return Task._of(builder)

    def _take_builder(self) -> TaskBuilder:
        """Take the builder out, or make another if a newer version has it."""
        try:
            return self._builder.pop()
        except IndexError:
            return TaskBuilder(islice(self._log, self._size))

    @classmethod
    def _of(cls, builder: TaskBuilder) -> Task:
        task = cls.__new__(cls)
        task._become(builder)
        return task

    def _become(self, builder: TaskBuilder) -> None:
        self._builder = [builder]
        self._is_complete = builder.is_complete
        self._log = builder.log
        self._size = len(builder.log)
        self._root = None


@final
class Parser:
    """The tasks of which some messages are still missing. Never changes.

    A task leaves the parser when it is complete, so that a parser's size is that of what is
    unfinished, not that of the log.
    """

    __slots__ = ("_count", "_tasks")

    def __init__(self) -> None:
        # With each task goes its number, since a persistent map keeps no order.
        self._tasks: PMap[str, tuple[int, Task]] = pmap()
        self._count = 0

    def add(self, message_dict: Mapping[str, Any]) -> tuple[list[Task], Parser]:
        """Take a message, whatever it looks like.

        What is no mapping at all becomes the field ``value`` of one that has no place.

        Returns:
            The tasks that are complete with it, and the parser of what is not.
        """
        message = _own(message_dict)
        place = place_of(message)
        if place is None:
            return [Task._of(TaskBuilder([message]))], self
        uuid, level = place
        number, task = self._tasks.get(uuid) or (self._count, Task())
        task = task._add(message, level)
        if not task._is_complete:
            return [], self._with(self._tasks.set(uuid, (number, task)))
        return [task], self._with(self._tasks.discard(uuid))

    def incomplete_tasks(self) -> list[Task]:
        """Return the tasks of which something is missing, in the order of their first messages."""
        return [task for _, task in sorted(self._tasks.values(), key=itemgetter(0))]

    @classmethod
    def parse_stream(cls, iterable: Iterable[Mapping[str, Any]]) -> Iterator[Task]:
        """Go through messages, and give out each task as soon as it is complete.

        Args:
            iterable: The messages, in any order.

        Yields:
            Complete tasks, then at the end of the messages the others, in the order of their
            first messages.
        """
        # What a loop over `add` does, without a version for each message.
        builders: dict[str, TaskBuilder] = {}
        for message_dict in iterable:
            message = _own(message_dict)
            place = place_of(message)
            if place is None:
                yield Task._of(TaskBuilder([message]))
                continue
            uuid, level = place
            builder = builders.get(uuid)
            if builder is None:
                builder = builders[uuid] = TaskBuilder()
            builder.add(message, level)
            if builder.is_complete:
                del builders[uuid]
                yield Task._of(builder)
        yield from map(Task._of, builders.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parser):
            return NotImplemented
        return self.incomplete_tasks() == other.incomplete_tasks()

    def __hash__(self) -> int:
        return hash(frozenset(self._tasks))

    def _with(self, tasks: PMap[str, tuple[int, Task]]) -> Parser:
        parser = Parser.__new__(Parser)
        parser._tasks = tasks
        parser._count = self._count + 1
        return parser


def _own(message: Mapping[str, Any]) -> MessageDict:
    """Copy a message, which then cannot change under a value that must not."""
    if type(message) is dict:
        return message.copy()
    return dict(message) if isinstance(message, Mapping) else {"value": message}
