"""Where output goes: how wide it is, whether it takes colours, which signs it can write."""

from __future__ import annotations

import os
import sys
from typing import Final, TextIO, final

from eliot_etw._require import require

_ENOUGH_CHARACTERS: Final = 1 << 16


@final
class Palette:
    """The escape sequence that begins each style; `off` ends any of them."""

    def __init__(self, *, colour: bool) -> None:
        def style(code: str) -> str:
            return f"\x1b[{code}m" if colour else ""

        self.off = style("0")
        self.faint = style("2")
        self.strong = style("1")
        self.good = style("32")
        self.bad = style("1;31")
        self.warning = style("33")
        self.slow = style("1;33")
        self.message = style("36")
        self.key = style("2;36")


@final
class Signs:
    """The signs that are not ASCII, or what stands for them where they cannot be written."""

    def __init__(self, *, unicode: bool) -> None:
        self.fork = "├─ " if unicode else "|- "
        self.last = "└─ " if unicode else "`- "
        self.pass_by = "│  " if unicode else "|  "
        self.good = "✓" if unicode else "+"
        self.bad = "✗" if unicode else "X"
        self.open = "◌" if unicode else "?"
        self.message = "·" if unicode else "-"
        self.gap = "┄" if unicode else "~"
        self.result = "→" if unicode else "=>"
        self.slow = "◂" if unicode else "<"
        self.more = "…" if unicode else "..."


@final
class Screen:
    """An output stream, and what is known of it.

    Args:
        stream: Where to write.
        color: ``auto``, ``always`` or ``never``. The first goes by the terminal and by the
            environment variables ``NO_COLOR`` and ``FORCE_COLOR``.
        width: After how many columns to go on in the next line; 0 for never; None to go by the
            terminal, and not to break lines if it is none.

    Attributes:
        is_terminal: Whether a person is looking.
        has_colour: Whether styles are written.
        has_unicode: Whether signs and lines can be written that are not ASCII.
        width: See above; 0 for never.
    """

    def __init__(
        self, stream: TextIO | None = None, *, color: str = "never", width: int | None = None
    ) -> None:
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        self.has_colour = color == "always"
        self.width = width or 0
        self._goes_by_terminal = self.is_terminal and width is None
        self._waiting: list[str] = []
        self._waiting_characters = 0
        if color == "auto" and (self.is_terminal or os.environ.get("FORCE_COLOR")):
            self.has_colour = self._takes_colour()
        self.measure()
        self.palette = Palette(colour=self.has_colour)
        self.has_unicode = self._takes("├─└│✓✗◌·┄→◂…µ")
        self.signs = Signs(unicode=self.has_unicode)

    def measure(self) -> None:
        """Take the width from the terminal again: it may have changed."""
        if self._goes_by_terminal:
            console = require("rich.console", feature="Output to a terminal", extra="cli")
            self.width = console.Console(file=self.stream).width

    def write(self, text: str) -> None:
        """Write text, at some time before `flush` returns."""
        self._waiting.append(text)
        self._waiting_characters += len(text)
        if self._waiting_characters > _ENOUGH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written yet."""
        text = "".join(self._waiting)
        self._waiting.clear()
        self._waiting_characters = 0
        self.stream.write(text)
        self.stream.flush()

    def _takes_colour(self) -> bool:
        """Ask rich, which knows the terminals and NO_COLOR."""
        console = require("rich.console", feature="Output to a terminal", extra="cli").Console(
            file=self.stream, force_terminal=True
        )
        # Whether Windows' console is too old for them says nothing of a pipe.
        is_too_old = self.is_terminal and console.legacy_windows
        return not (console.no_color or is_too_old or console.color_system is None)

    def _takes(self, text: str) -> bool:
        """Say whether the stream's encoding has all these characters."""
        try:
            text.encode(self.stream.encoding or "ascii")
        except UnicodeEncodeError:
            return False
        return True
