"""What does it cost to write a trace, and to read one?

As a program it is one measurement: ``etl_speed.py CASE CONTENDER FILE COUNT`` prints its number.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from timeit import Timer
from types import ModuleType
from typing import Any
from uuid import UUID

from _measure import OURS, Question, Reach, Setting, printed_number

ETL_PARSER = "etl-parser"
JSON_FILE = "FileDestination"
BATCHES = 10
# In the trace that is read, unless a smaller one is asked for.
EVENTS = 20_000
BUFFER_BYTES = 1 << 16
# A moment of 2025, in units of 100 ns since 1601.
_FIRST_TICKS = 133_900_000_000_000_000

MESSAGE: dict[str, Any] = {
    "task_uuid": "5b1f5a3e-3c0b-4a8e-9f0d-2f6c1f1d7a10",
    "task_level": [2, 7],
    "timestamp": 1_795_181_013.25,
    "message_type": "bench:message",
    "number": 123456,
    "text": "hello",
}


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    count = min(setting.size.messages, EVENTS)
    trace = setting.folder / "read.etl"
    printed_number(setting.python, __file__, "write", OURS, trace, str(count))
    ask = partial(printed_number, setting.python, __file__)
    return [
        Question(
            "a message of 6 fields to an `.etl` file",
            "µs",
            {name: partial(_store, setting, name) for name in (OURS, JSON_FILE)},
            [Reach(JSON_FILE, at_most=1.5)],
        ),
        Question(
            f"reading an `.etl` file of {count:,} events, all fields",
            "s",
            {name: partial(ask, "read", name, trace, str(count)) for name in (OURS, ETL_PARSER)},
            [Reach(ETL_PARSER, at_least=20)],
        ),
        Question(
            "decompressing 1 MB of an `.etl` file",
            "ms",
            {OURS: partial(ask, "decompress", OURS, trace, str(count))},
            [Reach(at_most=100)],
        ),
    ]


def _store(setting: Setting, name: str) -> float:
    """Measure what a message to a file costs; each measurement gets a fresh file."""
    path = setting.folder / f"{name}.file"
    path.unlink(missing_ok=True)
    return printed_number(setting.python, __file__, "store", name, path, str(setting.size.calls))


# ---- in the child process ----------------------------------------------------------------------


def _time_storing(name: str, path: str, calls: int) -> float:
    """Return the microseconds of a message to a file.

    Raises:
        RuntimeError: If messages are missing.
    """
    from eliot_etw import FileDestination
    from eliot_etw.destinations.etl import EtlFileDestination

    write = EtlFileDestination(path) if name == OURS else FileDestination(path)
    # The garbage collector runs, as it does in a program; timeit would stop it.
    names = {"gc": gc, "write": write, "message": MESSAGE}
    timer = Timer("write(message)", "gc.enable()", globals=names)
    batch = calls // BATCHES
    timer.timeit(batch)  # warm up
    seconds = min(timer.repeat(BATCHES, batch))
    write.close()
    stored, expected = _count(name, path), batch * (BATCHES + 1)
    if stored != expected:
        msg = f"of {expected} messages, {stored} are in the file of {name}."
        raise RuntimeError(msg)
    return seconds / batch * 1e6


def _count(name: str, path: str) -> int:
    """Count what is in a file."""
    from eliot_etw.etw import read_etl

    return sum(1 for _ in read_etl(path)) if name == OURS else Path(path).read_bytes().count(b"\n")


# One event in four is of each kind.
_KINDS = ("app:request", "app:query", "app:row", "app:answer")


def _write_trace(_name: str, path: str, count: int) -> float:
    """Write the trace that all read, of types that all know; return how many events it has."""
    from eliot_etw.etw import (
        EtlWriter,
        EventEncoder,
        Field,
        InType,
        Schema,
        provider_guid,
        provider_traits,
    )
    from eliot_etw.etw._records import EtlEvent

    fields = (
        Field("number", InType.INT64),
        Field("text", InType.ANSI_Z),
        Field("share", InType.FLOAT64),
        Field("rows", InType.UINT32),
        Field("is_done", InType.BOOL32),
        Field("id", InType.GUID),
    )
    encoders = [EventEncoder(Schema(kind, fields)) for kind in _KINDS]
    own = UUID(MESSAGE["task_uuid"])
    provider, traits = provider_guid("bench"), provider_traits("bench")
    with EtlWriter(path, flush_interval_s=1) as trace:
        for number in range(count):
            encoder = encoders[number % len(encoders)]
            values = (number, f"/items/{number}", number / 7, number % 100, number % 2 == 0, own)
            event = EtlEvent(
                _FIRST_TICKS + 137 * number,
                provider,
                traits,
                encoder.metadata,
                encoder.payload(values),
                activity_id=own,
                thread_id=7,
                process_id=9,
            )
            trace.write(event)
    return count


def _time_reading(name: str, path: str, count: int) -> float:
    """Return the seconds that it takes to read a trace, with all names and values.

    Raises:
        RuntimeError: If events are missing, or have other values than were written.
    """
    read = _read_ours if name == OURS else _prepare_etl_parser()
    started = time.perf_counter()
    numbers = [fields["number"] for fields in read(path)]
    seconds = time.perf_counter() - started
    if [int(number) for number in numbers] != list(range(count)):
        msg = f"{name} read other events than were written."
        raise RuntimeError(msg)
    return seconds


def _read_ours(path: str) -> Iterator[dict[str, Any]]:
    """Read the fields of each event."""
    from eliot_etw.etw import read_etl

    return (decoded.as_dict() for _, decoded in read_etl(path).decoded())


def _prepare_etl_parser() -> Callable[[str], list[Any]]:
    """Return what reads the fields of each event with etl-parser."""
    # What it knows of Windows's own providers takes four seconds to import, and is not used here.
    core: Any = ModuleType("etl.parsers.etw.core")
    core.Etw = core.Guid = core.build_etw = None
    sys.modules["etl.parsers.etw"] = ModuleType("etl.parsers.etw")
    sys.modules["etl.parsers.etw.core"] = core
    from etl.etl import IEtlFileObserver, build_from_stream

    class Reader(IEtlFileObserver):  # type: ignore[misc] # it has no types
        """Collects the fields of each event."""

        def __init__(self) -> None:
            self.found: list[Any] = []

        def on_event_record(self, event: Any) -> None:
            """Decode an event."""
            self.found.append(dict(event.parse_tracelogging()))

        def on_trace_record(self, event: Any) -> None:
            """Leave out what is no TraceLogging event."""

        on_perfinfo_trace = on_system_trace = on_win_trace = on_trace_record

    def read(path: str) -> list[Any]:
        reader = Reader()
        build_from_stream(Path(path).read_bytes()).parse(reader)
        return reader.found

    return read


def _time_decompressing(_name: str, path: str, _count: int) -> float:
    """Return the milliseconds that it takes to decompress 1 MB of a trace's buffers.

    Raises:
        RuntimeError: If something else comes out than was compressed.
    """
    from eliot_etw.etw._xpress import decompress

    content = Path(path).read_bytes()
    buffers = [content[at : at + BUFFER_BYTES] for at in range(0, len(content), BUFFER_BYTES)][:16]
    stored = [_compress(buffer) for buffer in buffers]
    seconds = []
    for _ in range(BATCHES):
        started = time.perf_counter()
        found = [decompress(data, BUFFER_BYTES) for data in stored]
        seconds.append(time.perf_counter() - started)
        if found != buffers:
            msg = "decompression gave other bytes than were compressed."
            raise RuntimeError(msg)
    return min(seconds) * 1000 / (sum(map(len, buffers)) / 1e6)


def _compress(data: bytes) -> bytes:
    """Compress as Windows does (XPRESS, plain LZ77), with the last match of three bytes or more.

    Source:
        [MS-XCA] 2.3, "Plain LZ77 Compression Algorithm Details".
    """
    out = bytearray(4)
    flags, used, flags_at, nibble_at = 0, 0, 0, -1
    places: dict[bytes, int] = {}
    at = 0
    while at < len(data):
        if used == 32:
            out[flags_at : flags_at + 4] = flags.to_bytes(4, "little")
            flags, used, flags_at = 0, 0, len(out)
            out += bytes(4)
        start = places.get(data[at : at + 3], -1)
        places[data[at : at + 3]] = at
        used += 1
        if start < 0 or at - start > 8192 or at + 3 > len(data):
            out.append(data[at])
            at += 1
            continue
        length = _common_length(data, start, at)
        flags |= 1 << 32 - used
        out += (at - start - 1 << 3 | min(length - 3, 7)).to_bytes(2, "little")
        at += length
        if length < 10:
            continue
        nibble = min(length - 10, 15)
        if nibble_at < 0:
            nibble_at = len(out)
            out.append(nibble)
        else:
            out[nibble_at] |= nibble << 4
            nibble_at = -1
        if nibble == 15:
            out.append(length - 25)
    flags |= (1 << 32 - used) - 1  # the end is a match without a place
    out[flags_at : flags_at + 4] = flags.to_bytes(4, "little")
    return bytes(out)


def _common_length(data: bytes, start: int, at: int) -> int:
    """Count the bytes that are the same, as many as one byte more can say."""
    length = 3
    while length < 279 and at + length < len(data) and data[start + length] == data[at + length]:
        length += 1
    return length


_CASES: dict[str, Callable[[str, str, int], float]] = {
    "store": _time_storing,
    "write": _write_trace,
    "read": _time_reading,
    "decompress": _time_decompressing,
}


def main() -> None:
    """Measure once."""
    case, name, path, count = sys.argv[1:]
    print(_CASES[case](name, path, int(count)))


if __name__ == "__main__":
    main()
