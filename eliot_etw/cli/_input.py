"""What the verbs read: the files of the command line as one stream, and what is wrong in them."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeVar, final

import click

from eliot_etw import sources
from eliot_etw._names import (
    CLICKHOUSE,
    CLICKHOUSE_TLS,
    JOURNAL,
    MONGODB,
    MONGODB_SRV,
    NATS,
    NATS_TLS,
    REDIS,
    REDIS_TLS,
    SQLITE,
    ZMQ_SUB,
)
from eliot_etw._program import printable
from eliot_etw.exceptions import InvalidTrace, MissingDependency
from eliot_etw.sources import BadLine, FileSource, merge_by_time
from eliot_etw.sources._compressed import plain
from eliot_etw.sources.merged import Repeatable, SpanSource
from eliot_etw.typing import MessageDict, Source

# Of the bad lines of one run, so many are reported one by one.
_MOST_REPORTS: Final = 20
# So much of a file holds a trace's first record, whose end are two names of usual length.
_PEEKED_BYTES: Final = 4096
# Where a buffer says what it is, and what the first of a trace says.
_BUFFER_TYPE: Final = slice(54, 56)
_HEADER_BUFFER: Final = b"\4\0"

# How a line begins that is a request of OTLP, or the first of one that is written over several.
_BEGINS_OTLP: Final = re.compile(
    rb'^(?:\xef\xbb\xbf)?[ \t]*\{\s*"resource_?(?:[sS]pans|[lL]ogs|[mM]etrics)"', re.MULTILINE
)

# What is left out of a trace, where a word is not enough.
_KINDS: Final = {
    "lost": "lost before they were recorded",
    "metrics": "requests of metrics, which are no messages",
    "lost_buffers": "buffers lost with all that was in them",
    "misplaced": "without a place in a task",
    "repeated": "spans that were there before",
    "split": "connections between parts of traces that are too large",
    "unfinished": "activities not waited for, as too many were open",
}

_UNREADABLE: Final = (OSError, MissingDependency, InvalidTrace)

# What a name begins with that is no file's, and the source that reads it.
_NAMED: Final = {
    CLICKHOUSE: "ClickHouseSource",
    CLICKHOUSE_TLS: "ClickHouseSource",
    JOURNAL: "JournalSource",
    MONGODB: "MongoSource",
    MONGODB_SRV: "MongoSource",
    NATS: "NatsSource",
    NATS_TLS: "NatsSource",
    REDIS: "RedisSource",
    REDIS_TLS: "RedisSource",
    SQLITE: "SqliteSource",
    ZMQ_SUB: "ZmqSubSource",
}

if TYPE_CHECKING:
    from eliot_etw.sources import EtlSource, OtlpJsonSource
    from eliot_etw.sources._spans import SpanMessages

_F = TypeVar("_F", bound=Callable[..., Any])


def files_argument(command: _F) -> _F:
    """Give a verb the argument ``[FILE...]``."""
    return click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())(command)


class Followed(Protocol):
    """What is read as it grows."""

    @property
    def name(self) -> str:
        """What to call it in reports."""

    def poll(self) -> Iterator[MessageDict]:
        """Give what is there and was not given yet; never waits. Raises OSError."""

    def close(self) -> None:
        """Stop following."""


class NamedSource(Protocol):
    """What is read by a name that is no file's."""

    @property
    def name(self) -> str:
        """What to call it in reports."""

    def __iter__(self) -> Iterator[MessageDict]:
        """Give all messages. Raises OSError."""

    def follow(self) -> Followed:
        """Return what reads the same as it grows."""


@final
class Input:
    """The messages of all files, merged by time.

    Args:
        files: Paths; ``-`` for standard input, which is also meant by none at all; ``journal:``,
            with what to select after it, for the journal of systemd, or another such name.

    Attributes:
        count: How many messages have been given out.
        could_not_read: Whether a file could not be read, or not to its end.
        named: What those that are no files are read by, by name.
    """

    def __init__(self, files: tuple[str, ...]) -> None:
        # Python has no standard input if there was none when it started.
        if not files and (sys.stdin is None or sys.stdin.isatty()):
            msg = "Nothing to read: name a file, or pipe a log into this command."
            raise click.UsageError(msg)
        self.files = files or ("-",)
        self.count = 0
        self._bad_lines = 0
        self.could_not_read = False
        self._with_skipped: list[EtlSource | OtlpJsonSource] = []
        self.named = {name: made for name in self.files if (made := _named_source(name))}

    def __iter__(self) -> Iterator[MessageDict]:
        for message in merge_by_time(map(self._opened, self.files)):
            self.count += 1
            yield message

    def on_bad_line(self, line: BadLine) -> None:
        """Report a line that is no message, if there were not too many already."""
        self._bad_lines += 1
        if self._bad_lines <= _MOST_REPORTS:
            say(str(line))

    def on_unreadable(self, name: str, error: Exception) -> None:
        """Report a file that cannot be read, or not to its end."""
        self.could_not_read = True
        why = getattr(error, "strerror", None) or str(error)
        say(f"eliot-etw: {name}: {why}")

    def finish(self, shown: bool = True) -> int:
        """Say what was left out.

        Args:
            shown: Whether anything was shown.

        Returns:
            The exit status: 2 if a file could not be read, else 0.
        """
        if self._bad_lines > _MOST_REPORTS:
            say(f"... and {self._bad_lines - _MOST_REPORTS:,} more.")
        if self._bad_lines:
            lines = "1 line was" if self._bad_lines == 1 else f"{self._bad_lines:,} lines were"
            say(f"eliot-etw: {lines} skipped, being no messages.")
        for one in self._with_skipped:
            say_of_trace(one.name, one.skipped, one.problems)
        for source in self.named.values():
            for line in getattr(source, "hint", "").splitlines():
                say(f"{source.name}: {line}")
        if not shown and not self.could_not_read:
            why = "nothing matches" if self.count else "there are no messages"
            say(f"eliot-etw: Nothing to show: {why}.")
        return 2 if self.could_not_read else 0

    def _opened(self, name: str) -> Source:
        """Begin to read a file, or report why that cannot be."""
        named = self.named.get(name)  # whose name, as it was given, may have a password
        shown = named.name if named else "<stdin>" if name == "-" else name
        report = partial(self.on_unreadable, shown)
        try:
            source = self._source(name)
        except _UNREADABLE as error:
            report(error)
            return ()
        if isinstance(source, SpanSource):
            return _ReadableSpans(source, report)
        return _Readable(source, report)

    def _source(self, name: str) -> Source:
        """Choose how to read a file. Raises OSError for a trace in a pipe."""
        if name == "-":
            return self._standard_input()
        if name in self.named:
            return self.named[name]
        if is_trace(name):
            return self._trace(name)
        return self._text(name, _head(name))

    def _standard_input(self) -> Source:
        """Choose how to read standard input, of which only the beginning can be looked at."""
        file = _standard_input()
        head = file.peek(_PEEKED_BYTES) if isinstance(file, io.BufferedReader) else b""
        if not _begins_a_trace(head):
            return self._text(file, head, "<stdin>")
        return self._trace(trace_of_standard_input(), "<stdin>")

    def _text(self, file: str | BinaryIO, head: bytes, name: str | None = None) -> Source:
        """Choose how to read what is no trace, but may be one that was compressed."""
        head = _decompressed(head)
        if _begins_a_trace(head):
            raise OSError(errno.EIO, "is a trace that was compressed; decompress it first")
        if not _BEGINS_OTLP.search(head):
            return FileSource(file, name=name, on_bad_line=self.on_bad_line)
        from eliot_etw.sources import OtlpJsonSource  # noqa: PLC0415 - most logs are none

        source = OtlpJsonSource(file, name=name, on_bad_line=self.on_bad_line)
        self._with_skipped.append(source)
        return source

    def _trace(self, file: str | BinaryIO, name: str | None = None) -> Source:
        from eliot_etw.sources import EtlSource  # noqa: PLC0415 - most logs are none

        trace = EtlSource(file, name=name)
        self._with_skipped.append(trace)
        return trace


class _Readable:
    """A source that is read as far as possible; what goes wrong then is reported."""

    def __init__(self, source: Source, report: Callable[[Exception], None]) -> None:
        self._source = source
        self._report = report

    def __iter__(self) -> Iterator[MessageDict]:
        return self._read(self._source)

    def again(self) -> Iterator[MessageDict]:
        """Give the messages beforehand, if that can be; what goes wrong is reported later."""
        if isinstance(self._source, Repeatable):
            with suppress(*_UNREADABLE):
                yield from self._source.again()

    def _read(self, messages: Iterable[MessageDict]) -> Iterator[MessageDict]:
        try:
            yield from messages
        except _UNREADABLE as error:
            self._report(error)


@final
class _ReadableSpans(_Readable):
    """The same for one that has spans."""

    _source: SpanSource

    @property
    def skipped(self) -> Counter[str]:
        """What was left out."""
        return self._source.skipped

    @skipped.setter
    def skipped(self, skipped: Counter[str]) -> None:
        self._source.skipped = skipped

    def gather(self, spans: SpanMessages) -> None:
        """Put all spans and log records there."""
        try:
            self._source.gather(spans)
        except _UNREADABLE as error:
            self._report(error)
            self._report = _is_said  # the rest cannot be read for the same reason

    def others(self) -> Iterator[MessageDict]:
        """Give the messages of all else."""
        return self._read(self._source.others())


def _is_said(_: Exception) -> None:
    """Say nothing of what has been said."""


def _standard_input() -> BinaryIO:
    """Return standard input. Raises OSError if there is none."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdin.buffer


def trace_of_standard_input() -> BinaryIO:
    """Return standard input if a trace can be read from it. Raises OSError if not."""
    file = _standard_input()
    if file.seekable():
        return file
    raise OSError(errno.ESPIPE, "is a trace, which cannot be read from a pipe; name its file")


def _named_source(name: str) -> NamedSource | None:
    """Make the source for what is no file; None for a file. Raises UsageError if it is neither."""
    kind = next((kind for prefix, kind in _NAMED.items() if name.startswith(prefix)), None)
    if kind is None:
        return None
    try:
        made: NamedSource = getattr(sources, kind).named(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return made


def is_otlp(name: str) -> bool:
    """Say whether a file is to be read as OTLP: by its content."""
    return _BEGINS_OTLP.search(_decompressed(_head(name))) is not None


def is_trace(name: str) -> bool:
    """Say whether a file is to be read as a trace: by its content, or if it is called one."""
    if name.lower().endswith(".etl"):
        return True
    return _begins_a_trace(_head(name))


def _head(name: str) -> bytes:
    """Return how a file begins; nothing of what is none, or cannot be read."""
    if os.path.isfile(name):  # to look into a pipe would take from it
        with suppress(OSError), open(name, "rb") as file:  # reading it will say why
            return file.read(_PEEKED_BYTES)
    return b""


def _decompressed(head: bytes) -> bytes:
    """Return how a file begins that may be compressed, and of which this is the beginning."""
    plain_head = b""
    with suppress(OSError, MissingDependency):  # it is but a part, and who reads it may say why
        for chunk in plain(iter((head,)), ""):
            plain_head += chunk
    return plain_head


def _begins_a_trace(head: bytes) -> bool:
    """Say whether a file that begins so is a trace."""
    if head[_BUFFER_TYPE] != _HEADER_BUFFER:  # as in all text: whoever reads that pays no more
        return False
    from eliot_etw.etw import read_etl  # noqa: PLC0415 - see above

    try:
        read_etl(io.BytesIO(head))
    except InvalidTrace:
        return False
    return True


def say_of_trace(name: str, skipped: Mapping[str, int], problems: Sequence[str]) -> None:
    """Report what was damaged in a trace, and what it has besides TraceLogging events."""
    for problem in problems[:_MOST_REPORTS]:
        say(f"{name}: {problem}")
    counts = [
        f"{count:,} {_KINDS.get(kind, kind)}"
        for kind, count in skipped.items()
        if count and kind != "system"
    ]  # which each trace has: how it was recorded
    if counts:
        say(f"eliot-etw: {name}: left out: {', '.join(counts)}.")


def say(text: str) -> None:
    """Write a line to standard error: a name or a log's content must not drive the terminal."""
    click.echo(printable(text), err=True)
