"""What is still running: the innermost actions that have not ended, below the tree or as lines."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, final

from eliot_etw._names import ACTION_TYPE
from eliot_etw._program import printable
from eliot_etw.typing import MessageDict
from eliot_etw.viewers._forest import Task
from eliot_etw.viewers._nodes import END, START, Level, role_of, time_of
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._text import clip, duration_text
from eliot_etw.viewers._tree import TreeText

_MOST_LINES: Final = 8
# Where nothing can be taken back, an action is named when it has run so long, and each time that
# its time has doubled.
_WORTH_A_LINE_S: Final = 5.0


class Running(NamedTuple):
    """An action that has not ended, and has none within it that has not ended either."""

    task: Task
    level: Level
    types: tuple[str, ...]
    start: MessageDict

    def took(self, now: float) -> float:
        """Say for how many seconds it has been running."""
        began = time_of(self.start)
        return 0.0 if began is None else max(now - began, 0.0)


def running(tasks: Iterable[Task]) -> Iterator[Running]:
    """Find the innermost actions of these tasks that have started and not ended."""
    for task in tasks:
        opened: dict[Level, MessageDict] = {}
        ended: set[Level] = set()
        for level, message in task.rows:
            role = role_of(message, level[-1])
            if role == START:
                opened[level[:-1]] = message
            elif role == END:
                ended.add(level[:-1])
        for level in ended:
            opened.pop(level, None)
        around = {level[:n] for level in opened for n in range(len(level))}
        for level in opened.keys() - around:
            path = (opened[level[:n]] for n in range(len(level) + 1) if level[:n] in opened)
            types = tuple(printable(message[ACTION_TYPE]) for message in path)
            yield Running(task, level, types, opened[level])


@final
class RunningView:
    """Shows what is running: on a terminal below the tree, always anew; else in lines.

    Args:
        screen: Where to.
        tree: Writes the fields as it does in the tree.
    """

    def __init__(self, screen: Screen, tree: TreeText) -> None:
        self._screen = screen
        self._tree = tree
        self._is_live = screen.is_terminal and os.environ.get("TERM") not in ("dumb", "unknown")
        self._height = 0
        self._next_line: dict[tuple[str, Level], float] = {}

    def clear(self) -> None:
        """Take back what is below the tree, before something is added to the tree."""
        if self._height:
            self._screen.write(f"\x1b[{self._height}A\x1b[J")
            self._height = 0

    def show(self, tasks: Iterable[Task]) -> None:
        """Show what is running in these tasks."""
        now = time.time()
        found = sorted(running(tasks), key=lambda action: -action.took(now))
        if self._is_live:
            self._show_live(found, now)
        else:
            self._show_lines(found, now)

    def _show_live(self, found: list[Running], now: float) -> None:
        self._screen.measure()
        self.clear()
        width = self._screen.width - 1
        look, signs = self._screen.palette, self._screen.signs
        lines = [self._line(action, now) for action in found[:_MOST_LINES]]
        if len(found) > _MOST_LINES:
            lines.append(f"{signs.more} and {len(found) - _MOST_LINES:,} more running")
        if lines:
            lines.insert(0, "")
        for line in lines:
            self._screen.write(f"{look.warning}{clip(line, width)}{look.off}\n")
        self._height = len(lines)

    def _show_lines(self, found: list[Running], now: float) -> None:
        known, self._next_line = self._next_line, {}
        for action in found:
            key = action.task.uuid, action.level
            due = known.get(key, _WORTH_A_LINE_S)
            took = action.took(now)
            if took >= due:
                self._screen.write(self._line(action, now) + "\n")
                due = took * 2
            self._next_line[key] = due

    def _line(self, action: Running, now: float) -> str:
        """Name an action, without styles."""
        signs = self._screen.signs
        names = f" {signs.result} ".join(action.types)
        took = duration_text(action.took(now))
        fields = self._tree.plain_fields(action.start)
        return (
            f"{signs.open} running for {took}: {names} {self._tree.id(action.task.uuid)} {fields}"
        )
