"""What the verbs read: the files of the command line as one stream, and what is wrong in them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, final

import click

from eliot_etw._program import printable
from eliot_etw.exceptions import MissingDependency
from eliot_etw.sources import BadLine, FileSource, merge_by_time
from eliot_etw.typing import MessageDict, Source

# Of the bad lines of one run, so many are reported one by one.
_MOST_REPORTS: Final = 20

_F = TypeVar("_F", bound=Callable[..., Any])


def files_argument(command: _F) -> _F:
    """Give a verb the argument ``[FILE...]``."""
    return click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())(command)


@final
class Input:
    """The messages of all files, merged by time.

    Args:
        files: Paths; ``-`` for standard input, which is also meant by none at all.

    Attributes:
        count: How many messages have been given out.
    """

    def __init__(self, files: tuple[str, ...]) -> None:
        # Python has no standard input if there was none when it started.
        if not files and (sys.stdin is None or sys.stdin.isatty()):
            msg = "Nothing to read: name a file, or pipe a log into this command."
            raise click.UsageError(msg)
        self.files = files or ("-",)
        self.count = 0
        self._bad_lines = 0
        self._could_not_read = False

    def __iter__(self) -> Iterator[MessageDict]:
        for message in merge_by_time([self._readable(self._source(name)) for name in self.files]):
            self.count += 1
            yield message

    def on_bad_line(self, line: BadLine) -> None:
        """Report a line that is no message, if there were not too many already."""
        self._bad_lines += 1
        if self._bad_lines <= _MOST_REPORTS:
            _say(str(line))

    def on_unreadable(self, name: str, error: Exception) -> None:
        """Report a file that cannot be read, or not to its end."""
        self._could_not_read = True
        why = getattr(error, "strerror", None) or str(error)
        _say(f"eliot-etw: {name}: {why}")

    def finish(self, shown: bool = True) -> int:
        """Say what was left out.

        Args:
            shown: Whether anything was shown.

        Returns:
            The exit status: 2 if a file could not be read, else 0.
        """
        if self._bad_lines > _MOST_REPORTS:
            _say(f"... and {self._bad_lines - _MOST_REPORTS:,} more.")
        if self._bad_lines:
            lines = "1 line was" if self._bad_lines == 1 else f"{self._bad_lines:,} lines were"
            _say(f"eliot-etw: {lines} skipped, being no messages.")
        if not shown and not self._could_not_read:
            why = "nothing matches" if self.count else "there are no messages"
            _say(f"eliot-etw: Nothing to show: {why}.")
        return 2 if self._could_not_read else 0

    def _source(self, name: str) -> FileSource:
        if name == "-":
            return FileSource(sys.stdin.buffer, name="<stdin>", on_bad_line=self.on_bad_line)
        return FileSource(name, on_bad_line=self.on_bad_line)

    def _readable(self, source: FileSource) -> Source:
        """Read a file as far as possible, and report what went wrong then."""
        try:
            yield from source
        except (OSError, MissingDependency) as error:
            self.on_unreadable(source.name, error)


def _say(text: str) -> None:
    """Write a line to standard error: a name or a log's content must not drive the terminal."""
    click.echo(printable(text), err=True)
