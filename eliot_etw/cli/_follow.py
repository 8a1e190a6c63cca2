"""Reading logs that grow: tasks as they finish, and what is still running."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import chain
from typing import Final

from eliot_etw.cli._input import Followed, Input, is_otlp, is_trace
from eliot_etw.sources import FollowedFile
from eliot_etw.typing import MessageDict
from eliot_etw.viewers._forest import Forest, Task
from eliot_etw.viewers._running import RunningView
from eliot_etw.viewers._screen import Screen

_POLL_S: Final = 0.1
_REFRESH_S: Final = 0.5
# A task that has ended, but of which something is missing, is shown when quiet for so long.
_QUIET_S: Final = 5.0


def follow(
    source: Input,
    screen: Screen,
    show: Callable[[Task], None],
    view: RunningView | None,
    is_wanted: Callable[[MessageDict], bool],
) -> None:
    """Show tasks when they finish, until interrupted, or until there is no file left to read.

    Args:
        source: Names the files, and takes what is wrong with them.
        screen: Where to write.
        show: Draws a task.
        view: Shows what is running, if that is wanted.
        is_wanted: Says which messages to look at.
    """
    files = [_followed(name, source) for name in source.files if not _is_refused(name, source)]
    refresh_at = 0.0
    with closing(Forest(hold_bytes=0)) as forest, ExitStack() as stack:
        for file in files:
            stack.callback(file.close)
        quiet = _Quiet(forest)
        while files:
            for task in chain(_finished(forest, files, source, is_wanted), quiet.tasks()):
                if view:
                    view.clear()
                show(task)
                refresh_at = 0.0
            if view and time.monotonic() >= refresh_at:
                view.show(forest.unfinished())
                refresh_at = time.monotonic() + _REFRESH_S
            screen.flush()
            time.sleep(_POLL_S)


def _followed(name: str, source: Input) -> Followed:
    """Choose how to read what grows."""
    if name in source.named:
        return source.named[name].follow()
    return FollowedFile(name, on_bad_line=source.on_bad_line)


def _is_refused(name: str, source: Input) -> bool:
    """Say whether a file cannot be followed, and report that."""
    kind = "a trace" if is_trace(name) else "OTLP" if is_otlp(name) else None
    if kind is None:
        return False
    # Its events are in the order of their times only when all have been read.
    why = OSError(errno.EINVAL, f"is {kind}; only a log of messages can be followed")
    source.on_unreadable(name, why)
    return True


def _finished(
    forest: Forest,
    files: list[Followed],
    source: Input,
    is_wanted: Callable[[MessageDict], bool],
) -> Iterator[Task]:
    """Give the tasks that new messages finish."""
    for message in filter(is_wanted, _new_messages(files, source)):
        yield from forest.add(message)


def _new_messages(files: list[Followed], source: Input) -> Iterator[MessageDict]:
    """Give what the files have to give now; leave out a file that cannot be read any more."""
    for file in files.copy():
        try:
            for message in file.poll():
                source.count += 1
                yield message
        except OSError as error:
            source.on_unreadable(file.name, error)
            file.close()
            files.remove(file)


class _Quiet:
    """Finds the tasks that have ended incompletely, and to which nothing has come for a while."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        # For each ended task how many messages it had, and since when.
        self._since: dict[str, tuple[int, float]] = {}

    def tasks(self) -> Iterator[Task]:
        """Give the tasks that are not waited for any longer."""
        now = time.monotonic()
        known, self._since = self._since, {}
        for task in [task for task in self._forest.unfinished() if task.has_ended]:
            size = len(task.rows)
            count, since = known.get(task.uuid, (size, now))
            if count == size and now - since > _QUIET_S:
                yield task
                self._forest.give_up(task)
            else:
                self._since[task.uuid] = size, (since if count == size else now)
