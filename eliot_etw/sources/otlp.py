"""Messages read back from files of OpenTelemetry: spans and log records, as lines of JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, final

import orjson

from eliot_etw._json import decode_line
from eliot_etw.otlp._json import has_metrics, is_request, read_request
from eliot_etw.otlp._model import Log, Span
from eliot_etw.sources._lines import (
    MAX_LINE_BYTES,
    OVERLONG,
    Lines,
    OnBadLine,
    name_of,
    whole,
    why_no_json,
)
from eliot_etw.sources._spans import SpanMessages
from eliot_etw.typing import MessageDict

_MARK: Final = b"\xef\xbb\xbf"


@final
class OtlpJsonSource:
    """The spans and log records of a file as messages, in the order of their times.

    The file has OTLP as JSON: each line a request, as the file exporters of the OpenTelemetry
    collector and of the SDKs write it, or a single request written over many lines. Compressed
    files are recognised by their content.

    What `eliot-etw convert` and `OtlpDestination` made of messages are the same messages again.
    Anybody else's span is an action in that of its parent, its events and log records are messages
    in it, and a trace is a task. All is read before the first message is given, since a span is
    written when it has ended; what is too much for memory waits on disk.

    Args:
        file: A path, or a file opened for bytes. A path is opened anew by each iteration, which
            raises `OSError` if it cannot be read, or (at its end) if compressed data is damaged.
        on_bad_line: Called for each line that is no request, and for each span or log record in
            one that cannot be read; the others are given.
        name: What to call the file in reports, if not by its path.

    Attributes:
        name: What the file is called.
        skipped: How much the last iteration left out: requests of ``metrics``; spans that were
            there before (``repeated``), as after a second attempt to export them; messages without
            a usable place in a task (``misplaced``); and how many traces fell apart (``split``),
            because there was more of each than fits into memory.
        problems: What else is to be said of it, as text.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        on_bad_line: OnBadLine | None = None,
        name: str | None = None,
    ) -> None:
        self._file = file
        self._on_bad_line = on_bad_line
        self.name = name or name_of(file)
        self.skipped: Counter[str] = Counter()
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[MessageDict]:
        with SpanMessages(self.name) as spans:
            damaged = None
            try:
                self.gather(spans)
            except OSError as error:
                damaged = error
            yield from spans
            self.skipped += spans.skipped
            if damaged is not None:
                raise damaged

    def gather(self, spans: SpanMessages) -> None:
        """Put all spans and log records there, for who reads several sources of them.

        Raises:
            OSError: If the file cannot be read, or (at its end) if compressed data is damaged.
        """
        self.skipped = Counter()
        self.problems = []
        requests = _Requests(self.name, self._on_bad_line, self.skipped)
        for item, size_bytes in whole(requests, self._file):
            spans.add(item, size_bytes)

    def others(self) -> Iterable[MessageDict]:
        """Give the messages of all else, which there are none of."""
        return ()


@final
class _Requests(Lines[tuple[Span | Log, int]]):
    """The lines that are requests: what is in them, with about how many bytes it has there.

    A line that begins an object and does not end it may be the first of one that is written over
    several lines. Its end is the next line that is nothing but a closing brace, or before one that
    begins an object itself.
    """

    def __init__(self, name: str, on_bad_line: OnBadLine | None, skipped: Counter[str]) -> None:
        super().__init__(name, on_bad_line)
        self._skipped = skipped
        self._begun: list[bytes] = []
        self._begun_bytes = 0
        self._begun_at = 0

    def rest(self) -> Iterator[tuple[Span | Log, int]]:
        """Give what is in the last line, and in the object that has no end yet."""
        yield from super().rest()
        yield from self._ended(is_whole=False)

    def _decoded(
        self, lines: Iterable[bytes], *, ended: bool = True
    ) -> Iterator[tuple[Span | Log, int]]:
        for line in lines:
            self.number += 1
            if self._begun and not line.startswith(b"{"):
                self._go_on(line)
                if line.rstrip() == b"}":
                    yield from self._ended()
                continue
            yield from self._ended(is_whole=False)
            if line.strip():
                yield from self._line(line, ended=ended)

    def _line(self, line: bytes, *, ended: bool) -> Iterator[tuple[Span | Log, int]]:
        """Give what is in a line that may be a request."""
        try:
            request = _loads(line)
        except (ValueError, RecursionError) as error:
            if ended and line.removeprefix(_MARK).startswith(b"{"):
                self._begun_at = self.number
                self._go_on(line)
            else:
                self._report(why_no_json(line, error, ended=ended))
            return
        yield from self._items(request, len(line), self.number)

    def _go_on(self, line: bytes) -> None:
        """Keep a line of an object; of one that never ends nothing."""
        self._begun_bytes += len(line)
        if self._begun_bytes > MAX_LINE_BYTES:
            self._begun = [OVERLONG]
        else:
            self._begun.append(line)

    def _ended(self, *, is_whole: bool = True) -> Iterator[tuple[Span | Log, int]]:
        """Give what is in an object that was written over several lines."""
        if not self._begun:
            return
        lines, size_bytes = self._begun, self._begun_bytes
        self._begun, self._begun_bytes = [], 0
        if not is_whole and len(lines) > 1:
            self._report("an object begins here that does not end", self._begun_at)
            return
        try:
            request = _loads(b"\n".join(lines))
        except (ValueError, RecursionError) as error:
            self._report(why_no_json(lines[0], error, ended=True), self._begun_at)
            return
        yield from self._items(request, size_bytes, self._begun_at)

    def _items(
        self, request: Any, size_bytes: int, number: int
    ) -> Iterator[tuple[Span | Log, int]]:
        """Give what is in a request; say what is bad in it."""
        if not is_request(request):
            self._report("not OTLP: no resourceSpans, resourceLogs or resourceMetrics", number)
            return
        if has_metrics(request):
            self._skipped["metrics"] += 1
        items = list(read_request(request, lambda why: self._report(why, number)))
        for item in items:
            yield item, size_bytes // len(items)


def _loads(text: bytes) -> Any:
    """Read JSON. Raises ValueError or RecursionError if it is none.

    Times have 19 digits, which `decode_line` would take the slow way to read exactly; here they
    are text, or fit 64 bits.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return decode_line(text)
