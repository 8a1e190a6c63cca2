"""Lays out the lines of a tree: columns, guides, and what does not fit into one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, final

from eliot_etw.viewers._nodes import ACTION, Node, time_of
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._select import Shown
from eliot_etw.viewers._text import Clock, duration_text, lines_of, width_of

STYLE: Final = re.compile("\x1b\\[[0-9;]*m")

# Time and duration stand in columns of their own, before the tree.
_MARGIN: Final = " " * 22
_NO_DURATION: Final = " " * 8
_NO_TIME: Final = " " * 12
# Deeper nodes are not indented any more: the line names the depth instead.
_DEEPEST: Final = 40
# How many lines to show of a text that is no traceback.
_MOST_LINES: Final = 20
# Lines are not broken to less than this, however narrow the screen.
_LEAST_WIDTH: Final = 20


@final
class Layout:
    """Puts the pieces of each node where they belong.

    Args:
        screen: For how wide a screen, in which styles and signs.
        clock: How to show times.
        slow_s: How many seconds make an action slow.
        limit: 0 for all lines of a text.
    """

    def __init__(self, screen: Screen, clock: Clock, *, slow_s: float, limit: int) -> None:
        self._screen = screen
        self._clock = clock
        self._slow_s = slow_s
        self._most_lines = _MOST_LINES if limit else 0
        self._date = ""
        self._has_begun = False
        self._stands_apart = False
        # By depth: what stands before the children of the action there, and what it took, if slow.
        self._guides = [""] * (_DEEPEST + 1)
        self._took = [0.0] * (_DEEPEST + 1)

    def heading(self, node: Node) -> Iterator[str]:
        """Set a task apart from the one before, and name the day if it has changed."""
        if self._has_begun and (node.has_child or self._stands_apart):
            yield "\n"
        self._has_begun = True
        self._stands_apart = node.has_child
        date = "" if node.timestamp is None else self._clock.date(node.timestamp)
        if date and date != self._date:
            look = self._screen.palette
            self._date = date
            yield f"{look.strong}{date}{look.off}\n"

    def line(self, item: Shown, pieces: list[str]) -> str:
        """Make the line of a node, or its lines if it does not fit."""
        node, depth, is_last, _ = item
        look = self._screen.palette
        branch = ""
        level = depth if depth <= _DEEPEST else _DEEPEST
        if depth:
            signs = self._screen.signs
            outer = self._guides[level - 1]
            branch = f"{look.faint}{outer}{signs.last if is_last else signs.fork}{look.off}"
            self._guides[level] = outer + ("   " if is_last else signs.pass_by)
            if depth > _DEEPEST:
                pieces.insert(1, f"(depth {depth})")
        took = self._duration(node, level) if node.kind == ACTION else _NO_DURATION
        message = node.start or node.end
        time = self._clock.time(time_of(message)) if message else _NO_TIME
        text = f"{look.faint}{time}{look.off} {took} {branch}{' '.join(pieces)}\n"
        width = self._screen.width
        # The styles count, too: what fits with them surely does without.
        if width and (len(text) > width + 1 or not text.isascii()):
            return self._wrapped(text, item, pieces)
        return text

    def failure(self, item: Shown, text: str) -> Iterator[str]:
        """Give the lines that say why something failed."""
        return self._hanging(item, lines_of(text), self._screen.palette.bad)

    def block(self, item: Shown, name: str, text: str, *, whole: bool) -> Iterator[str]:
        """Give the lines of a text of several lines, below its name if it has one."""
        most = 0 if whole else self._most_lines
        left = text.rstrip("\r\n").count("\n") + 1 - most if most else 0
        if left > 0:
            # Only what is shown is prepared: a text may have millions of lines.
            lines = lines_of("\n".join(text.split("\n", most)[:most]))
            lines.append(f"{self._screen.signs.more} {left:,} more lines")
        else:
            lines = lines_of(text)
        if name:
            yield from self._hanging(item, [name], "")
            lines = [f"  {line}" for line in lines]
        yield from self._hanging(item, lines, "")

    def _duration(self, node: Node, level: int) -> str:
        """Fill the column of the duration; mark what is slow."""
        duration = node.duration
        if duration is None:
            self._took[level] = 0.0
            return _NO_DURATION
        look = self._screen.palette
        around = self._took[level - 1] if level else 0.0
        if duration >= self._slow_s or (around and duration * 2 >= around):
            self._took[level] = duration
            return f"{look.slow}{duration_text(duration):>7}{self._screen.signs.slow}{look.off}"
        self._took[level] = 0.0
        return f"{look.faint}{duration_text(duration):>7}{look.off} "

    def _hang(self, item: Shown) -> str:
        """Make what stands before the further lines of a node."""
        node, depth, _, is_context = item
        outer = self._guides[min(depth, _DEEPEST)]
        if node.kind == ACTION and (node.has_child or is_context):
            outer += self._screen.signs.pass_by
        else:
            outer += "   "
        look = self._screen.palette
        return f"{_MARGIN}{look.faint}{outer}{look.off}"

    def _room(self, depth: int) -> int:
        """Say how many columns are left for what a node says."""
        indent = len(_MARGIN) + 3 * (min(depth, _DEEPEST) + 1)
        return max(self._screen.width - indent, _LEAST_WIDTH)

    def _hanging(self, item: Shown, lines: list[str], style: str) -> Iterator[str]:
        """Give lines that hang below a node, broken where the screen ends."""
        hang, off = self._hang(item), self._screen.palette.off if style else ""
        room = self._room(item.depth) if self._screen.width else 0
        for line in lines:
            for part in broken(line, room) if room else [line]:
                yield f"{hang}{style}{part}{off}\n"

    def _wrapped(self, text: str, item: Shown, pieces: list[str]) -> str:
        """Break the line of a node between its pieces."""
        if width_of(STYLE.sub("", text[:-1])) <= self._screen.width:
            return text
        room = self._room(item.depth)
        lines: list[str] = []
        used = 0
        for piece in pieces:
            width = width_of(STYLE.sub("", piece))
            if lines and used + 1 + width <= room:
                lines[-1] += f" {piece}"
                used += 1 + width
            elif width <= room:
                lines.append(piece)
                used = width
            else:
                parts = broken(STYLE.sub("", piece), room)
                lines += parts
                used = width_of(parts[-1])
        before = text[: text.index(pieces[0])]
        return before + f"\n{self._hang(item)}".join(lines) + "\n"


def broken(text: str, room: int) -> list[str]:
    """Break a text into parts of at most so many columns, one part at least."""
    if text.isascii():
        return [text[start : start + room] for start in range(0, max(len(text), 1), room)]
    parts = []
    start = 0
    while start < len(text):
        end = start + room
        # Some characters take two columns, and a few none.
        while width_of(text[start:end]) > room:
            end -= 1
        parts.append(text[start:end])
        start = end
    return parts
