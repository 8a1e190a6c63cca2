"""Tests of buffers: the log header, the clock, where records are."""

from collections import Counter
from dataclasses import replace
from struct import pack, pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eliot_etw.etw import _buffers
from eliot_etw.etw._buffers import (
    BUFFER_HEADER,
    MAX_BUFFER_BYTES,
    Buffer,
    Stream,
    find_events,
    grouped,
    parse_buffer_header,
    parse_log_header,
)
from eliot_etw.etw._etl import EtlWriter, read_etl
from eliot_etw.etw._records import encode_record
from tests.etw._traces import NOW, event, sample


def record(raw_time=NOW, payload=b""):
    """Make a record with its padding, which is not of zeros."""
    data = encode_record(event(payload=payload), raw_time)
    return data + b"\xaa" * (-len(data) & 7)


def buffer_header(size=4096, saved=200, filled=200, cpu=0, flags=0x20):
    """Make a buffer's header."""
    return BUFFER_HEADER.pack(size, saved, 0, 0, 0, 0, cpu, 0, 3, filled, flags, 0)


def log_header_32(name):
    """Make the log header of a system of 32 bits, each field at its documented offset."""
    fields = bytearray(0x110)
    for layout, offset, value in [
        ("<I", 0x00, 65536),
        ("<q", 0x10, NOW + 9),
        ("<I", 0x2C, 4),
        ("<i", 0x40, -60),
        ("<q", 0xF0, NOW - 10**9),
        ("<q", 0xF8, 2_343_750),
        ("<q", 0x100, NOW),
        ("<I", 0x108, 1),
    ]:
        pack_into(layout, fields, offset, value)
    fields += f"{name}\0a-file\0".encode("utf-16-le")
    return pack("<HBBHHIIqQ", 2, 1, 0xC0, 32 + len(fields), 0, 1, 2, 500, 0) + fields


class TestBufferHeader:
    """Where buffers are."""

    def test_uncompressed(self):
        """Of the two sizes that say how much is used, the larger is right."""
        header = buffer_header(saved=100, filled=300, cpu=3)
        assert Buffer(8, 4096, 300, 3, 0, False) == parse_buffer_header(header, 8)

    def test_uncompressed_size_beyond_the_buffer(self):
        """No buffer has more than its size."""
        header = buffer_header(saved=9999, filled=9999)
        assert 4096 == parse_buffer_header(header, 0).used_bytes

    def test_compressed(self):
        """A compressed buffer says how much it was."""
        header = buffer_header(size=100, saved=5000, filled=0, flags=0x60)
        assert Buffer(0, 100, 5000, 0, 0, True) == parse_buffer_header(header, 0)

    @pytest.mark.parametrize(
        "header",
        [
            buffer_header()[:71],
            buffer_header(size=71),
            buffer_header(size=MAX_BUFFER_BYTES + 1),
            buffer_header(saved=MAX_BUFFER_BYTES + 1, flags=0x60),
        ],
        ids=["short", "too small", "too large", "would become too large"],
    )
    def test_damaged(self, header):
        """What Windows never writes is no buffer."""
        assert parse_buffer_header(header, 0) is None


class TestLogHeader:
    """What a trace says of itself."""

    def test_of_windows(self):
        """The fields are those that TraceEvent and dissect.etl show."""
        header = read_etl(sample("primitive-types.etl")).header
        assert ("solar_system", 8192, 19043, 8, 2, 2304, 10_000_000, -120) == (
            header.logger_name,
            header.buffer_size_bytes,
            header.os_build,
            header.processors,
            header.buffers_written,
            header.cpu_mhz,
            header.frequency,
            header.bias_minutes,
        )

    def test_events_that_windows_lost(self):
        """A trace says how many events it has not."""
        assert 3 == read_etl(sample("AMSITrace.etl")).header.events_lost

    def test_of_32_bits(self):
        """The form of 32-bit systems is shorter."""
        header = parse_log_header(log_header_32("a-logger"))
        assert ("a-logger", "a-file", 4, 2_343_750, NOW, NOW + 9, 500, -60) == (
            header.logger_name,
            header.log_file_name,
            header.pointer_size_bytes,
            header.frequency,
            header.start_ticks,
            header.end_ticks,
            header.reference,
            header.bias_minutes,
        )

    @given(st.binary(max_size=400))
    @settings(deadline=None)
    def test_any_bytes(self, data):
        """What is no header is none; the rest may say anything."""
        for prefix in (b"", log_header_32("x")[:8]):
            header = parse_log_header(prefix + data)
            assert header is None or isinstance(header.logger_name, str)


class TestClock:
    """Raw times become ticks."""

    @pytest.fixture
    def header(self, tmp_path):
        """Return a header whose clock said 500 at the start."""
        EtlWriter(tmp_path / "x.etl").close()
        header = read_etl(tmp_path / "x.etl").header
        return replace(header, reference=500, start_ticks=NOW)

    def test_performance_counter(self, header):
        """A counter of 10 MHz counts ticks."""
        assert NOW + 7 == header.ticks(507)

    def test_odd_frequency(self, header):
        """No frequency makes an error that grows: the numbers are whole."""
        year = 3_117_777 * 86400 * 365
        assert NOW + 86400 * 365 * 10**7 == replace(header, frequency=3_117_777).ticks(500 + year)

    def test_system_time(self, header):
        """Raw times may be ticks already."""
        assert NOW == replace(header, clock_type=2).ticks(NOW)

    def test_cpu_cycles(self, header):
        """Cycles are converted by the speed of the processor."""
        cycles = replace(header, clock_type=3, cpu_mhz=2000)
        assert NOW + 10_000_000 == cycles.ticks(500 + 2_000_000_000)

    def test_no_frequency(self, header):
        """A header without a frequency means that of all newer systems."""
        assert NOW + 7 == replace(header, frequency=0).ticks(507)

    def test_cycles_of_no_speed(self, header):
        """A header without a speed does not stop the reader."""
        assert NOW + 7 == replace(header, clock_type=3, cpu_mhz=0).ticks(507)


class TestFindEvents:
    """The walk over records."""

    def test_events(self):
        """Each event is found, where it begins, sorted by time; padding may be anything."""
        content = record(7) + record(5, b"longer") + record(6)
        at = len(record())
        longer = len(record(5, b"longer"))
        expected = [(5, at), (6, at + longer), (7, 0)]
        assert (expected, None) == find_events(content, Counter())

    @pytest.mark.parametrize(
        ("kind", "header"),
        [
            ("system", pack("<HBBHH", 3, 2, 0xC0, 64, 0x303)),
            ("system", pack("<HBBHH", 2, 17, 0xC0, 64, 0x42)),
            ("classic", pack("<HBBHH", 64, 20, 0xC0, 0, 0)),
            ("classic", pack("<HBBHH", 64, 11, 0xC0, 0, 0)),
            ("WPP", pack("<HBBHH", 64, 18, 0x90, 0, 0)),
            ("error", pack("<HBBHH", 64, 13, 0xC0, 0, 0)),
            ("unknown", pack("<HBBHH", 64, 99, 0xC0, 0, 0)),
        ],
    )
    def test_others_are_skipped(self, kind, header):
        """Records of other kinds are counted, and those behind them found."""
        skipped = Counter()
        assert ([(9, 64)], None) == find_events(header.ljust(64, b"\0") + record(9), skipped)
        assert {kind: 1} == skipped

    @pytest.mark.parametrize("marker", [b"\xff" * 8, b"\0" * 8])
    def test_filling(self, marker):
        """What fills a buffer up is no record, and no damage."""
        assert ([(9, 0)], None) == find_events(record(9) + marker + record(10), Counter())

    @pytest.mark.parametrize(
        "bad",
        [
            pack("<HH", 79, 0xC013),
            pack("<HH", 60_000, 0xC013),
            pack("<HH", 64, 0x0013),
            pack("<HBBHH", 3, 2, 0xC0, 7, 0),
            pack("<HBB", 60_000, 0, 0x90),
        ],
        ids=["short event", "long event", "no record", "short", "long"],
    )
    def test_damage(self, bad):
        """A record that does not fit ends the walk, and is reported."""
        content = record(9)
        expected = ([(9, 0)], len(content))
        assert expected == find_events(content + bad.ljust(100, b"\1"), Counter())

    @given(st.binary(max_size=300))
    @settings(deadline=None)
    def test_any_bytes(self, data):
        """Whatever follows, the events before it are found."""
        found, _ = find_events(record(-(2**63)) + data, Counter())
        assert (-(2**63), 0) == found[0]


class TestGrouped:
    """How much is merged at one time."""

    def streams(self, count, used):
        """Make streams with a buffer each."""
        for cpu in range(count):
            stream = Stream(cpu)
            stream.add(Buffer(0, 100, used, cpu, 0, True))
            yield stream

    def test_all(self):
        """The processors of a large machine are merged all at once."""
        assert [512] == [len(group) for group in grouped(self.streams(512, 256 * 1024))]

    def test_too_many_bytes(self):
        """Buffers that claim to be huge are not in memory all at once."""
        groups = [len(group) for group in grouped(self.streams(20, MAX_BUFFER_BYTES))]
        assert [8, 8, 4] == groups

    def test_too_many_processors(self, monkeypatch):
        """No more processors are merged than there can be."""
        monkeypatch.setattr(_buffers, "_MAX_MERGED_STREAMS", 3)
        assert [3, 3, 1] == [len(group) for group in grouped(self.streams(7, 100))]
