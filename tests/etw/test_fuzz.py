"""Fuzzing of all that reads traces: whatever is in a file, reading ends, and memory is bounded."""

import io
import json
import sys
import tracemalloc
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from struct import pack, pack_into
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eliot_etw import cli
from eliot_etw.etw import EtlWriter, EventEncoder, Field, InType, OutType, Schema, read_etl
from eliot_etw.exceptions import InvalidTrace
from eliot_etw.sources import EtlSource
from tests.etw._traces import CONTENTS, NOW, SAMPLES, compress, event
from tests.etw.test_etl import COMPRESSED, buffer, log_header, records

# No file here is longer than 400 KB. A buffer of 16 MiB, which each of them may claim to hold, is
# there up to three times while it is decompressed.
MOST_BYTES = 100 * 1024 * 1024
# The shortest record has 80 bytes, and a buffer 16 MiB.
MOST_EVENTS = 1_000_000

TYPES = [
    Field("text", InType.ANSI, OutType.UTF8),
    Field("wide", InType.UTF16_Z),
    Field("list", InType.UINT16, is_array=True),
    Field("pair", InType.STRUCT, members=(Field("a", InType.SID), Field("b", InType.GUID))),
    Field("pairs", InType.STRUCT, is_array=True, members=(Field("c", InType.BINARY),)),
    Field("fixed", InType.FLOAT64, fixed_count=2),
    Field("time", InType.SYSTEMTIME),
]
VALUES = [
    "é",
    "w",
    [1, 2],
    ("S-1-5-18", event().provider_id),
    [(b"x",), (b"",)],
    [1.5, 2],
    [0] * 8,
]


def rich_events(count):
    """Make events with fields of many forms, that start and stop activities."""
    encoder = EventEncoder(Schema("an-event", tuple(TYPES), 5))
    payload = encoder.payload(VALUES)
    ids = [None, event().provider_id]
    for number in range(count):
        yield event(
            NOW + number * (-1) ** number, payload, opcode=number % 3,
            activity_id=ids[number % 2], related_activity_id=ids[number // 2 % 2],
        )._replace(metadata=encoder.metadata)  # fmt: skip


@cache
def traces():
    """Return whole traces, real ones and ours, the small ones first."""
    found = [
        buffer(log_header()) + buffer(records(*range(20)), flags=COMPRESSED),
        buffer(log_header(mode=2)) + buffer(records(1, 2), cpu=1) + buffer(records(3), cpu=2),
    ]
    path = io.BytesIO()
    with patch("builtins.open", lambda *_, **__: path):
        writer = EtlWriter("x.etl", buffer_size_bytes=4096)
        for one in rich_events(40):
            writer.write(one)
        writer.flush()
    found.append(path.getvalue())
    found += [(SAMPLES / name).read_bytes() for name in CONTENTS if (SAMPLES / name).exists()]
    return sorted(found, key=len)


EXTREMES = [0, 1, 7, 8, 71, 72, 79, 80, 0x7F, 0x80, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000,
            0xFFFFFFF8, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]  # fmt: skip
# Where headers are is where most can be broken: of the trace, of buffers, of records.
places = st.integers(0, 400_000) | st.integers(0, 600) | st.integers(4096, 4400)
changes = st.one_of(
    st.tuples(st.just("byte"), places, st.integers(0, 255)),
    st.tuples(st.just("bit"), places, st.integers(0, 7)),
    st.tuples(st.sampled_from("HIQ"), places, st.sampled_from(EXTREMES)),
    st.tuples(st.just("cut"), places, st.just(0)),
    st.tuples(st.just("leave out"), places, st.integers(1, 5000)),
    st.tuples(st.just("repeat"), places, st.integers(1, 20_000)),
    st.tuples(st.just("repeat a buffer"), st.integers(0, 20), st.integers(1, 20)),
    st.tuples(st.just("insert"), places, st.binary(max_size=100)),
)


def changed(data, change):
    """Change a trace."""
    kind, place, value = change
    if kind == "repeat a buffer":
        size = int.from_bytes(data[:4], "little")
        start = min(place * size, len(data))
        return data[:start] + data[start : start + size] * value + data[start + size :]
    place %= len(data) + 1
    if kind == "cut":
        return data[:place]
    if kind == "leave out":
        return data[:place] + data[place + value :]
    if kind == "repeat":
        return data[: place + value] + data[place:]
    if kind == "insert":
        return data[:place] + value + data[place:]
    if kind == "byte":
        new = bytes([value])
    elif kind == "bit":
        new = bytes([data[place] ^ 1 << value]) if place < len(data) else b""
    else:
        size = {"H": 2, "I": 4, "Q": 8}[kind]
        new = pack(f"<{kind}", value % (1 << 8 * size))
    return (data[:place] + new + data[place + len(new) :])[: len(data)]


mutated = st.builds(
    lambda number, made: _all_changed(traces()[number % len(traces())], made),
    st.integers(0, 20),
    st.lists(changes, min_size=1, max_size=5),
)


def _all_changed(data, made):
    for change in made:
        if len(data) < 500_000:
            data = changed(data, change)
    return data


def read_all(data):
    """Read all that can be read; return how many events there are, None if it is no trace."""
    try:
        reader = read_etl(io.BytesIO(data))
    except InvalidTrace:
        return None
    count = sum(1 for _ in reader)
    assert count <= MOST_EVENTS
    assert len(reader.problems) <= 100
    damaged = reader.skipped["damaged"]
    decoded = sum(1 for one in reader.decoded() if one[1].as_dict() is not None)
    assert count - decoded == reader.skipped["damaged"] - damaged
    return count


@given(mutated)
@settings(max_examples=300)
def test_reader(data):
    """A damaged trace gives events or is none; what is lost is counted."""
    read_all(data)


@given(mutated)
@settings(max_examples=100)
def test_source(data):
    """Whatever is read is a message of JSON, and what is not is counted."""
    source = EtlSource(io.BytesIO(data))
    try:
        messages = list(source)
    except InvalidTrace:
        return
    json.dumps(messages, allow_nan=False)
    assert len(messages) + source.skipped["damaged"] + source.skipped["misplaced"] >= (
        read_all(data) or 0
    )


@pytest.mark.parametrize("verb", [["tree"], ["stats"], ["pretty"], ["etl", "dump"]])
@given(data=mutated)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_command(tmp_path, verb, data):
    """The command shows what there is, or says in one line that it is no trace."""
    pytest.importorskip("click")
    pytest.importorskip("rich")
    path = tmp_path / "x.etl"
    path.write_bytes(data)
    output, errors = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["eliot-etw", *verb, str(path)]),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        status = cli.main()
    assert status in (0, 2)
    assert "Traceback" not in errors.getvalue()
    if status == 2:
        assert 1 == len(errors.getvalue().splitlines())


@given(mutated)
@settings(max_examples=40)
def test_memory(data):
    """What a damaged trace takes is bounded, whatever it claims."""
    tracemalloc.start()
    try:
        read_all(data)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=3000), st.booleans())
@settings(max_examples=100)
def test_any_content(content, is_compressed):
    """Any bytes may stand in a buffer."""
    flags = COMPRESSED if is_compressed else 0x20
    data = bytearray(buffer(log_header()) + buffer(content, flags=flags))
    read_all(bytes(data))
    if is_compressed:  # not what a compressor makes, but any bytes
        read_all(bytes(data[: 4096 + 72]) + content)


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=200)
def test_any_event(metadata, payload):
    """Any bytes may stand in an event."""
    tracker = event(payload=payload)._replace(metadata=pack("<H", 2 + len(metadata)) + metadata)
    path = io.BytesIO()
    with patch("builtins.open", lambda *_, **__: path):
        writer = EtlWriter("x.etl", buffer_size_bytes=4096)
        writer.write(tracker)
    source = EtlSource(io.BytesIO(path.getvalue()))
    assert 1 == len(list(source)) + source.skipped["damaged"]


class TestBombs:
    """Files that were made to fill the memory, or to take forever."""

    @staticmethod
    def many_bombs(count, stored, flags=0x60):
        """Make buffers that all claim to be as long as a buffer can be."""
        data = bytearray(buffer(log_header(mode=0x4000000)))
        one = bytearray(buffer(b"", flags=flags, size=72)[:72] + stored)
        pack_into("<II", one, 0, len(one), 16 * 1024 * 1024)
        return bytes(data + one * count)

    @pytest.mark.parametrize("count", [1, 300])
    def test_compressed(self, count):
        """Buffers of a few bytes that become 16 MiB are read up to a bound."""
        stored = compress(bytes(16 * 1024))
        data = self.many_bombs(count, stored)
        tracemalloc.start()
        try:
            assert 0 == read_all(data)
            assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        finally:
            tracemalloc.stop()

    def test_many_processors(self):
        """Thousands of processors are merged in groups, and none is lost."""
        data = buffer(log_header(buffer_size=1024), size=1024)
        data += b"".join(buffer(records(number), cpu=number, size=1024) for number in range(5000))
        assert 5000 == read_all(data)

    def test_nested_structs(self):
        """Structs within structs have an end, and arrays of them as many values as bytes."""
        schema = b"\0n\0" + b"s\0\xd8\x01" * 31 + b"x\0\x03"
        made = event(payload=b"\xff\xff" * 3000)
        made = made._replace(metadata=pack("<H", 2 + len(schema)) + schema)
        path = io.BytesIO()
        with patch("builtins.open", lambda *_, **__: path):
            EtlWriter("x.etl").write(made)
        tracemalloc.start()
        try:
            assert 1 == read_all(path.getvalue())
            assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        finally:
            tracemalloc.stop()

    def test_activities_that_never_stop(self, monkeypatch):
        """A trace in which all is started and nothing stopped is read in bounded memory."""
        monkeypatch.setattr("eliot_etw.sources._activities._MAX_OPEN_BYTES", 1_000_000)
        path = io.BytesIO()
        with patch("builtins.open", lambda *_, **__: path):
            writer = EtlWriter("x.etl", flush_interval_s=1000)
            for number in range(5000):
                one = event(NOW + number, b"x\0", opcode=1)
                writer.write(one._replace(activity_id=type(one.provider_id)(int=number + 1)))
            writer.flush()
        source = EtlSource(io.BytesIO(path.getvalue()))
        assert 5000 == sum(1 for _ in source)
        assert source.skipped["unfinished"] > 3000
