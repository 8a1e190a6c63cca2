"""``eliot-etw convert``: logs of any kind into one file of one kind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Final, Protocol, final

import click

from eliot_etw._json import encode_line
from eliot_etw._names import TASK_LEVEL, TASK_UUID
from eliot_etw.cli._input import Input, files_argument, say
from eliot_etw.destinations.etl import EtlFileDestination
from eliot_etw.otlp._json import encode_logs, encode_spans
from eliot_etw.otlp._model import Log, Span
from eliot_etw.otlp._spans_of import SpanMaker, messages_in
from eliot_etw.typing import MessageDict

_KINDS: Final = ("json", "etl", "otlp-json")
# By what a name ends with; the first that fits counts.
_SUFFIXES: Final = {
    ".etl": "etl",
    **dict.fromkeys((".otlp", ".otlp.json", ".otlp.jsonl", ".otlp.ndjson"), "otlp-json"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".log"), "json"),
}
_COMPRESSED: Final = (".gz", ".xz", ".zst")
# Of actions that have not ended, so much is held; a message takes that much and its text.
_MOST_OPEN_BYTES: Final = 32 << 20
_MESSAGE_BYTES: Final = 700
# What asks the program to end, besides Ctrl-C; not all systems have both.
_ENDING: Final = ("SIGTERM", "SIGHUP")
# So many messages are put into one request of OTLP.
_MESSAGES_A_REQUEST: Final = 512

_EPILOG = """\b
Examples:
  eliot-etw convert app.log -o app.etl
      A trace for PerfView and WPA.
  eliot-etw convert app.log.1.gz app.log -o app.otlp.jsonl
      What the OpenTelemetry collector's receiver "otlpjsonfile" reads.
  eliot-etw convert collector.jsonl trace.etl --to json -o - | gzip > all.log.gz
      Spans, log records and events of a trace as one log.

\b
Without --to, OUTPUT's name says the kind: .etl; .json, .jsonl, .ndjson and .log for
json; .otlp.json, .otlp.jsonl, .otlp.ndjson and .otlp for otlp-json.
"""

_HELP = """\
Write logs of any kind, merged by time, into one file of one kind.

The kinds are lines of JSON as Eliot has them (json), traces of Windows (etl), and
OpenTelemetry's lines of JSON (otlp-json). What an input holds that is no message is
reported and left out. OUTPUT gets its name when it is whole; "-" is standard output.
"""


@click.command(name="convert", help=_HELP, epilog=_EPILOG)
@files_argument
@click.option("--to", "kind", type=click.Choice(_KINDS), help="What OUTPUT shall be.")
@click.option(
    "-o", "--output", metavar="OUTPUT", required=True, type=click.Path(), help="Where to write."
)
def command(files: tuple[str, ...], *, kind: str | None, output: str) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    if output.lower().endswith(_COMPRESSED):
        msg = f"OUTPUT must be no compressed file, got {output!r}: use -o - and a pipe."
        raise click.UsageError(msg)
    source = Input(files)
    chosen = kind or _kind_of(output)
    if output == "-":
        if chosen == "etl":
            msg = "A trace cannot be written to standard output: name a file."
            raise click.UsageError(msg)
        return partial(_to_standard_output, source, chosen)
    if any(_is_same(name, output) for name in source.files):
        msg = f"OUTPUT must be no input, got {output!r}: take another name."
        raise click.UsageError(msg)
    return partial(_to_file, source, chosen, output)


def _kind_of(output: str) -> str:
    """Say what a file of this name is. Raises UsageError if the name does not say."""
    for suffix, kind in _SUFFIXES.items():
        if output.lower().endswith(suffix):
            return kind
    msg = f"--to must say what to write ({', '.join(_KINDS)}): {output!r} does not."
    raise click.UsageError(msg)


def _is_same(name: str, output: str) -> bool:
    """Say whether an input is the file that shall be written."""
    with suppress(OSError, ValueError):  # there is no such file, or input is none
        status = os.fstat(sys.stdin.fileno()) if name == "-" else os.stat(name)
        return os.path.samestat(status, os.stat(output))
    return False


class _Writer(Protocol):
    """Writes messages in one form."""

    def write(self, message: MessageDict) -> None:
        """Write a message."""

    def finish(self) -> None:
        """Write what waits, and say what could not be written as it was."""


@final
class _Lines:
    """Writes lines of JSON."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, message: MessageDict) -> None:
        self._file.write(encode_line(message))

    def finish(self) -> None:
        self._file.flush()


@final
class _Requests:
    """Writes requests of OTLP: spans, and the messages that belong to none as log records.

    What is open for long, and takes more memory than it may, is written without its end. That
    becomes a log record then, and comes back all the same.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # What is bounded here is bytes.
        self._maker = SpanMaker(max_held=sys.maxsize)
        self._spans: list[Span] = []
        self._logs: list[Log] = []
        self._count = 0
        # What the maker holds of each open action: the oldest is the first here as there.
        self._sizes: dict[tuple[str, tuple[int, ...]], int] = {}
        self._size_bytes = 0

    def write(self, message: MessageDict) -> None:
        key = message[TASK_UUID], tuple(message[TASK_LEVEL][:-1])
        held = self._maker.held
        for item in self._maker.add(message):
            self._add(item)
        if self._maker.held > held:
            size_bytes = _MESSAGE_BYTES + len(encode_line(message))
            self._sizes[key] = self._sizes.get(key, 0) + size_bytes
            self._size_bytes += size_bytes
        elif self._maker.held < held:
            self._size_bytes -= self._sizes.pop(key, 0)
        while self._size_bytes > _MOST_OPEN_BYTES:
            self._add(next(self._maker.rest()))
            self._size_bytes -= self._sizes.pop(next(iter(self._sizes)))

    def finish(self) -> None:
        for span in self._maker.rest():
            self._add(span)
        self._write_out()
        self._file.flush()

    def _add(self, item: Span | Log) -> None:
        if isinstance(item, Span):
            self._spans.append(item)
        else:
            self._logs.append(item)
        self._count += messages_in(item)
        if self._count >= _MESSAGES_A_REQUEST:
            self._write_out()

    def _write_out(self) -> None:
        if self._spans:
            self._file.write(encode_spans(self._spans))
        if self._logs:
            self._file.write(encode_logs(self._logs))
        self._spans.clear()
        self._logs.clear()
        self._count = 0


@final
class _Trace:
    """Writes a trace."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        # Where it will be is what its header names, not where it is written.
        self._destination = EtlFileDestination(path, flush_interval_s=1.0, final_path=name)

    def write(self, message: MessageDict) -> None:
        self._destination(message)

    def __enter__(self) -> _Trace:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # of something that went wrong before, which is what is told
            self._destination.close()

    def finish(self) -> None:
        self._destination.close()
        cut = self._destination.stats()["truncated"]
        if cut:
            messages = "1 message was" if cut == 1 else f"{cut:,} messages were"
            say(
                f"eliot-etw: {self._name}: {messages} cut, for an event has at most 64 KiB; "
                "eliot:truncated in each says of what."
            )


_WRITERS: Final[dict[str, Callable[[BinaryIO], _Writer]]] = {
    "json": _Lines,
    "otlp-json": _Requests,
}


def _to_standard_output(source: Input, kind: str) -> int:
    """Write everything to standard output."""
    _write(source, _WRITERS[kind](sys.stdout.buffer))
    return source.finish(source.count > 0)


def _to_file(source: Input, kind: str, name: str) -> int:
    """Write everything to a file, which gets its name at the end."""
    # What a link names is written, not the link.
    path = Path(os.path.realpath(name))
    try:
        if path.exists() and not path.is_file():  # a device or a pipe, which stays what it is
            _write_all(source, kind, path, name)
        else:
            _replace(source, kind, path, name)
    except OSError as error:
        say(f"eliot-etw: cannot write: {name}: {error.strerror or error}")
        return 1
    return source.finish(source.count > 0)


def _replace(source: Input, kind: str, path: Path, name: str) -> None:
    """Write everything to a new file, and put it in the place of the one that is there."""
    # Named before it is there: whenever a signal comes, it is removed.
    folder = path.parent / f".eliot-etw-{token_hex(8)}"
    unfinished = folder / path.name
    with _ending_in_order():
        try:
            folder.mkdir(0o700)
            _write_all(source, kind, unfinished, name)
            if source.count or not source.could_not_read:
                with suppress(FileNotFoundError):
                    shutil.copymode(path, unfinished)
                os.replace(unfinished, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Have signals that end the program end it as Ctrl-C does: what is unfinished is removed."""
    before = {
        number: signal.signal(number, lambda number, _: sys.exit(128 + number))
        for number in (getattr(signal, name) for name in _ENDING if hasattr(signal, name))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_all(source: Input, kind: str, path: Path, name: str) -> None:
    """Write everything to a file of any name."""
    if kind == "etl":
        with _Trace(path, name) as trace:
            _write(source, trace)
    else:
        with open(path, "wb") as file:
            _write(source, _WRITERS[kind](file))


def _write(source: Input, writer: _Writer) -> None:
    for message in source:
        writer.write(message)
    writer.finish()
