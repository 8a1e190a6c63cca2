"""Whole tasks, kept or dropped when they are over: those that failed, were slow, or by chance."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from time import monotonic
from typing import Any, Final, NamedTuple, final
from zlib import crc32

from eliot_etw import _names as names
from eliot_etw._counter import Counter
from eliot_etw._levels import type_of
from eliot_etw.destinations._wrapper import (
    Wrapper,
    as_it_is,
    finish_at_exit,
    plain_size,
    size_of,
)
from eliot_etw.typing import Destination, MessageDict

# How often to look, at most, whether a task was waited for long enough.
_BETWEEN_LOOKS_S: Final = 1.0
# Looked up for each message, and twice as fast here.
_TASK_UUID: Final = names.TASK_UUID
_ACTION_STATUS: Final = names.ACTION_STATUS


@final
class SampledTask(NamedTuple):
    """What a rule is asked about.

    Attributes:
        task_uuid: Which task it is.
        messages: Its messages, in the order in which they came.
        duration_s: Seconds from the first message to the last, whatever the clock did meanwhile.
        is_finished: Whether its outermost action has ended.
    """

    task_uuid: Any
    messages: Sequence[MessageDict]
    duration_s: float
    is_finished: bool


@final
class Rule:
    """Says which tasks to keep; ``|``, ``&`` and ``~`` combine rules."""

    def __init__(self, keeps: Callable[[SampledTask], bool]) -> None:
        self._keeps = keeps

    def __call__(self, task: SampledTask) -> bool:
        """Say whether to keep a task."""
        return self._keeps(task)

    def __or__(self, other: Callable[[SampledTask], bool]) -> Rule:
        return Rule(lambda task: self._keeps(task) or other(task))

    def __and__(self, other: Callable[[SampledTask], bool]) -> Rule:
        return Rule(lambda task: self._keeps(task) and other(task))

    def __invert__(self) -> Rule:
        return Rule(lambda task: not self._keeps(task))


def failed() -> Rule:
    """Keep tasks in which an action failed, or a traceback was logged."""
    # By lists and `in`, which takes a third of the time of asking message by message.
    return Rule(
        lambda task: names.FAILED in [m.get(names.ACTION_STATUS) for m in task.messages]
        or names.TRACEBACK_TYPE in [m.get(names.MESSAGE_TYPE) for m in task.messages]
    )


def slower_than(seconds: float) -> Rule:
    """Keep tasks that took longer."""
    return Rule(lambda task: task.duration_s > seconds)


def unfinished() -> Rule:
    """Keep tasks of which the end is not known: they took too long, or the program ended."""
    return Rule(lambda task: not task.is_finished)


def marked(field: str = "keep") -> Rule:
    """Keep tasks in which a message has a field that is true."""
    return Rule(lambda task: any(message.get(field) for message in task.messages))


def typed(pattern: str) -> Rule:
    """Keep tasks in which an action or message is of a type such as ``"shop:pay:*"``."""
    return Rule(
        lambda task: any(
            isinstance(kind, str) and fnmatchcase(kind, pattern)
            for kind in map(type_of, task.messages)
        )
    )


def one_in(number: int) -> Rule:
    """Keep one of so many tasks: the same ones in each process that has messages of a task.

    Raises:
        ValueError: If the number is less than 1.
    """
    if number < 1:
        msg = f"one_in() needs a number of at least 1, got {number!r}. Write 100 for one percent."
        raise ValueError(msg)
    return Rule(lambda task: crc32(str(task.task_uuid).encode("utf-8", "replace")) % number == 0)


class TailSampledDestination(Wrapper):
    """Holds the messages of each task back until it is over, and passes on all of them or none.

    A task is over when its outermost action has ended; of a task that was continued from another
    process, when the actions that were continued here have. A message that no action is around is
    a task of its own. What is logged in a task after it was decided about goes the same way.

    Memory is bounded: when more messages, tasks or bytes are held than may be, the oldest tasks
    are decided about as they are; so are tasks that take too long, at the end of the program, and
    in `close`. A rule can tell such tasks by their `SampledTask.is_finished`. Nothing is torn
    apart by that: what still comes goes where the beginning went.

    A process that is killed loses the messages that it holds. A forked child has none of the
    parent's. If a rule raises, the task is kept, and that is counted.
    """

    def __init__(
        self,
        inner: Destination,
        keep: Callable[[SampledTask], bool],
        *,
        max_messages: int = 20_000,
        max_tasks: int = 5_000,
        max_bytes: int = 100_000_000,
        timeout_s: float = 300.0,
    ) -> None:
        """Set the rule.

        Args:
            inner: Where tasks go that are kept.
            keep: Which tasks to keep, such as ``failed() | slower_than(1.0) | one_in(100)``, or a
                function of a `SampledTask`.
            max_messages: How many messages are held at most.
            max_tasks: Of how many tasks; and of how many it is remembered what was decided.
            max_bytes: How many bytes of memory they may take, about: half a kilobyte for each
                message, and its texts.
            timeout_s: How long a task is waited for; this is looked at when another one begins.

        Raises:
            TypeError: If `inner` or `keep` cannot be called.
            ValueError: If a bound is less than 1, or `timeout_s` is not above 0.
        """
        super().__init__(inner)
        if not callable(keep):
            msg = f"keep must be a rule, or a function of a task, got {keep!r}. Write failed()."
            raise TypeError(msg)
        bounds = {"max_messages": max_messages, "max_tasks": max_tasks, "max_bytes": max_bytes}
        for name, bound in bounds.items():
            if bound < 1:
                msg = f"{name} must be at least 1, got {bound!r}. Say how many may be held."
                raise ValueError(msg)
        if not timeout_s > 0:
            msg = f"timeout_s must be above 0, got {timeout_s!r}. Say how many seconds."
            raise ValueError(msg)
        # A function of the user's may log.
        self.is_leaf = self.is_leaf and isinstance(keep, Rule)
        self._keep = keep
        self._max_messages = max_messages
        self._max_tasks = max_tasks
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._is_over = False
        self._rule_failures = Counter()
        self._forget()
        finish_at_exit(self)

    def _forget(self) -> None:
        # Threads share these without a lock, which a signal handler could not wait for: each step
        # is one call into C, or a statement within which the interpreter does not change threads.
        self._tasks: dict[Any, _Task] = {}
        self._decided: dict[Any, bool] = {}
        self._decided_order: deque[Any] = deque()
        self._look_at = 0.0
        self._held = self._held_bytes = 0
        self._kept = self._dropped = self._failed = 0
        self._kept_tasks = self._dropped_tasks = self._decided_early = 0

    def __call__(self, message: MessageDict) -> None:
        """Hold a message back, or pass it on. Raises what the destination inside does."""
        task = self._tasks.get(message.get(_TASK_UUID))
        is_new = task is None
        if task is None:
            task = self._begin(message)
        size = plain_size(message)
        if size < 0:
            message = as_it_is(message)
            size = size_of(message)
        task.messages.append(message)
        task.size += size
        self._held += 1
        self._held_bytes += size
        if _ACTION_STATUS in message:
            task.note(message)
        if task.is_kept is not None:  # it was decided about just now, or long ago
            self._release(task)
        elif task.is_finished:
            self._decide(task)
        elif (
            self._held > self._max_messages
            or self._held_bytes > self._max_bytes
            or (is_new and self._is_to_look(task))
        ):
            self._make_room()

    def _begin(self, message: MessageDict) -> _Task:
        """Find the task of a message that is not held yet."""
        uuid = message.get(_TASK_UUID)
        task = _Task(uuid)
        task.is_kept = self._decided.get(uuid)
        if task.is_kept is not None:
            return task
        is_alone = names.ACTION_TYPE not in message and message.get(names.TASK_LEVEL) == [1]
        if is_alone or self._is_over or uuid is None:
            task.is_finished = True
            return task
        task.is_held = True
        return self._tasks.setdefault(uuid, task)

    def _is_to_look(self, task: _Task) -> bool:
        """Say whether there are too many tasks, or it is time to look for old ones."""
        if task.begun < self._look_at and len(self._tasks) <= self._max_tasks:
            return False
        self._look_at = task.begun + _BETWEEN_LOOKS_S
        return True

    def _oldest(self) -> _Task | None:
        """Return the task that is held longest."""
        try:
            return next(iter(self._tasks.values()), None)
        except RuntimeError:  # another thread just began or ended one
            return None

    def _make_room(self) -> None:
        """Decide about the oldest tasks, while there are too many, or for too long."""
        while (oldest := self._oldest()) is not None and (
            self._held > self._max_messages
            or self._held_bytes > self._max_bytes
            or len(self._tasks) > self._max_tasks
            or monotonic() - oldest.begun > self._timeout_s
        ):
            if not oldest.right_to_decide:  # somebody is at it, perhaps this very thread
                return
            self._decide(oldest)

    def _decide(self, task: _Task) -> None:
        """Keep a task, or drop it, unless somebody else is at it, who sees to all that came."""
        try:
            task.right_to_decide.pop()
        except IndexError:
            return
        try:
            is_kept = self._asked(task)
        except BaseException:  # of a signal's handler: it is decided about later
            task.right_to_decide.append(True)
            raise
        if task.is_held or self._is_over:
            # If it is over, there may be several of one task.
            is_kept = self._decided.setdefault(task.uuid, is_kept)
            self._decided_order.append(task.uuid)
            if len(self._decided_order) > self._max_tasks:
                self._decided.pop(self._decided_order.popleft(), None)
        task.is_kept = is_kept
        if task.is_held:
            self._tasks.pop(task.uuid, None)
        if is_kept:
            self._kept_tasks += 1
        else:
            self._dropped_tasks += 1
        if not task.is_finished:
            self._decided_early += 1
        self._release(task)

    def _asked(self, task: _Task) -> bool:
        """Ask the rule."""
        duration_s = monotonic() - task.begun
        seen = SampledTask(task.uuid, tuple(task.messages), duration_s, task.is_finished)
        try:
            return bool(self._keep(seen))
        except Exception:  # noqa: BLE001 - a rule must not break the program, nor lose a task
            self._rule_failures.add()
            return True

    def _release(self, task: _Task) -> None:
        """Pass on what is held of a task that was decided about, or drop it.

        Raises:
            BaseException: What ends the program, or else the first that the destination inside
                raised; the other messages got their turn.
        """
        size, task.size = task.size, 0
        self._held_bytes -= size
        error: BaseException | None = None
        taken = failed = 0
        popleft, send, is_kept = task.messages.popleft, self._send, task.is_kept
        # Another thread may be at it too: each message is taken once.
        for _ in range(len(task.messages)):
            try:
                message = popleft()
            except IndexError:
                break
            taken += 1
            if is_kept:
                try:
                    send(message)
                except BaseException as new:  # noqa: BLE001 - raised below
                    failed += 1
                    if error is None or not isinstance(new, Exception):
                        error = new
        self._held -= taken
        if is_kept:
            self._kept += taken - failed
            self._failed += failed
        else:
            self._dropped += taken
        if error is not None:
            raise error

    def _finish(self, deadline: float) -> None:
        """Decide about all tasks as they are, and hold nothing back from now on."""
        self._is_over = True
        while tasks := [t for t in self._tasks.copy().values() if t.right_to_decide]:
            for task in tasks:
                # Nobody is there to be told; it is counted.
                with suppress(Exception):
                    self._decide(task)

    def stats(self) -> dict[str, int]:
        """Count messages and tasks, in this process.

        Returns:
            Of messages: ``held``, and their ``held_bytes``, about; ``kept``: passed on;
            ``dropped``; ``failed``: those of kept tasks for which the destination inside raised.
            Of tasks: ``kept_tasks``, ``dropped_tasks``, and ``decided_early``: those of both that
            were not over. And ``rule_failures``: how often the rule raised.
        """
        return {
            "held": self._held,
            "held_bytes": self._held_bytes,
            "kept": self._kept,
            "dropped": self._dropped,
            "failed": self._failed,
            "kept_tasks": self._kept_tasks,
            "dropped_tasks": self._dropped_tasks,
            "decided_early": self._decided_early,
            "rule_failures": self._rule_failures.value,
        }


@final
class _Task:
    """A task whose messages are held back."""

    __slots__ = (
        "begun", "is_finished", "is_held", "is_kept", "messages", "open", "right_to_decide",
        "size", "uuid",
    )  # fmt: skip

    def __init__(self, uuid: Any) -> None:
        self.uuid = uuid
        self.begun = monotonic()
        self.messages: deque[MessageDict] = deque()
        self.size = 0
        # The outermost actions that were started here, by their levels.
        self.open: set[tuple[int, ...]] = set()
        self.is_finished = False
        # Whether it waits for more, under its UUID.
        self.is_held = False
        # Taken by the one who decides: of two, the second might take a task of the same UUID, that
        # has begun since, for this one.
        self.right_to_decide = [True]
        # None until it is decided.
        self.is_kept: bool | None = None

    def note(self, message: MessageDict) -> None:
        """Note that an action started or ended."""
        level = message.get(names.TASK_LEVEL)
        if type(level) is not list or not level:
            return
        action = tuple(level[:-1])
        if message[_ACTION_STATUS] == names.STARTED:
            if not self.open or (() not in self.open and not self._is_within(action)):
                self.open.add(action)
        elif action in self.open:
            self.open.discard(action)
            self.is_finished = not self.open

    def _is_within(self, action: tuple[int, ...]) -> bool:
        """Say whether an action is within one of those that are open."""
        return any(action[: len(outer)] == outer for outer in self.open.copy())
