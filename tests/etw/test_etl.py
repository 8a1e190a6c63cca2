"""Tests of reading traces: those of Windows, damaged ones, hostile ones."""

import io
import json
import re
import subprocess
import sys
import tracemalloc
from datetime import datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from struct import pack, pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eliot_etw.etw import _etl
from eliot_etw.etw._buffers import BUFFER_HEADER
from eliot_etw.etw._etl import EtlReader, EtlWriter, read_etl
from eliot_etw.etw._records import encode_record
from eliot_etw.exceptions import InvalidTrace
from tests.etw._traces import CONTENTS, NOW, compress, event, sample


def has(module):
    """Say whether a package of another's is there; asked for its part, an absent one raises."""
    return all(find_spec(module.rsplit(".", n)[0]) for n in range(module.count("."), -1, -1))


READERS = Path(__file__).parent
REFERENCE = 10**9
COMPRESSED = 0x60
NORMAL = 0x20


def log_header(buffer_size=4096, mode=1):
    """Make the first record of a trace whose clock says REFERENCE at the moment NOW."""
    fields = bytearray(0x118)
    pack_into("<I", fields, 0, buffer_size)
    pack_into("<I", fields, 0x20, mode)
    pack_into("<qqq", fields, 0xF8, NOW - REFERENCE, 10**7, NOW)
    pack_into("<I", fields, 0x110, 1)
    fields += bytes(8)
    return pack("<HBBHHIIqQ", 2, 2, 0xC0, 32 + len(fields), 0, 1, 2, REFERENCE, 0) + fields


def buffer(content, cpu=0, flags=NORMAL, size=4096, flushed=0):
    """Make a buffer; a compressed one is as long as it needs to be."""
    used = 72 + len(content)
    if flags & 0x40:
        content = compress(content)
        size = 72 + len(content)
    head = BUFFER_HEADER.pack(size, used, 0, 0, flushed, 0, cpu, 0, 3, used, flags, 0)
    return (head + content).ljust(size, b"\xff")


def records(*moments):
    """Make the records of events at these ticks after NOW."""
    content = b""
    for moment in moments:
        content += encode_record(event(NOW + moment), REFERENCE + moment)
        content += bytes(-len(content) & 7)
    return content


def read(data):
    """Read a trace; return when its events were, and the reader."""
    reader = read_etl(io.BytesIO(data))
    return [one.ticks - NOW for one in reader], reader


def written(path, *events, **options):
    """Write events to a file; return its bytes."""
    with EtlWriter(path, **options) as writer:
        for one in events:
            writer.write(one)
    return path.read_bytes()


def ask(reader, path):
    """Let another reader read a trace, in a process of its own."""
    command = [sys.executable, READERS / reader, path]
    result = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return json.loads(result.stdout)


def as_trace_event_shows(value):
    """Show a value as TraceEvent does: letters as numbers, 64 bits with a sign, 20 letters."""
    if isinstance(value, int) and value >= 2**63:
        value -= 2**64
    return str(ord(value) if value in {*"MVEJ"} else value)[:20]


class TestSamples:
    """What Windows wrote is read as others read it."""

    @pytest.mark.parametrize("name", CONTENTS)
    def test_contents(self, name):
        """Every record of a real trace is an event or counted, and nothing is damaged."""
        reader = read_etl(sample(name))
        found = len(list(reader))
        assert (*CONTENTS[name], []) == (found, reader.skipped, reader.problems)

    def test_primitive_types(self):
        """Fields and times are those that TraceEvent shows; it cuts long values."""
        text = sample("primitive-types.baseline.txt").read_text("utf-8-sig")
        pattern = r"EVENT ([\d,.]+): solar_system/\w+ (.*)"
        shown = [
            {
                "time": moment.replace(",", ""),
                **dict(re.findall(r"(\w+)=([^;]*?)(?:\.{3})?;", rest)),
            }
            for moment, rest in re.findall(pattern, text)
        ]
        reader = read_etl(sample("primitive-types.etl"))
        found = []
        for one in reader:
            decoded = one.decode()
            values = zip(decoded.schema.fields, decoded.values, strict=True)
            found.append({
                "time": f"{(one.ticks - reader.header.start_ticks) / 10_000:.3f}",
                "PID": str(one.process_id),
                "TID": str(one.thread_id),
                "ProceNum": str(one.cpu),
                "DataLen": str(len(one.payload)),
                **{
                    field.name: as_trace_event_shows(value)
                    for field, value in values
                    if not field.name.endswith("_time_type")
                },
            })  # fmt: skip
        assert 5 == len(found)
        assert found == [{name: one[name] for name in found[0]} for one in shown]

    def test_struct_in_compressed_buffers(self):
        """A trace that was merged by Windows's tools is compressed."""
        (one,) = read_etl(sample("SelfDescribingSingleEvent.etl"))
        assert ("MySource", "TestEvent") == (one.provider_name, one.decode().schema.name)
        assert b"Hello\0World!\0".decode().encode("utf-16-le") == one.payload

    def test_provider_group(self):
        """A provider may belong to a group."""
        one = next(iter(read_etl(sample("lxcore_kernel.etl"))))
        assert "4f50731a-89cf-4782-b3e0-dce8c90476ba" == str(one.provider_group)

    def test_times_of_dissect(self):
        """Times and threads are those that dissect.etl showed to somebody else, who rounds."""
        text = sample("waasmedic.20251005.dissect-stdout.txt").read_text("utf-8")
        pattern = r"<EventHeader [^>]*timestamp=(\S+ \S+\+00:00) ThreadId=(\d+) "
        shown = re.findall(pattern, text)
        assert 17 == len(shown)
        reader = read_etl(sample("waasmedic.20251005.etl"))
        for (moment, thread), one in zip(shown, reader, strict=True):
            assert thread == str(one.thread_id)
            assert abs(datetime.fromisoformat(moment).timestamp() - one.timestamp) < 2e-6


@pytest.mark.skipif(not has("dissect.etl"), reason="dissect.etl is not installed")
class TestDissect:
    """An independent reader reads the same."""

    @staticmethod
    def as_dissect(one):
        """Say of an event what `_read_with_dissect.py` prints."""
        related = one.related_activity_id
        return {
            "ticks": one.ticks,
            "provider": one.provider_id.bytes_le.hex(),
            "activity": str(one.activity_id or "00000000-0000-0000-0000-000000000000"),
            "opcode": one.opcode,
            "thread": one.thread_id,
            "related": None if related is None else related.bytes_le.hex(),
            "schema": one.metadata.hex(),
            "traits": one.traits.hex() or None,
        }

    @pytest.mark.parametrize("name", [name for name in CONTENTS if name != "CldFlt0.etl"])
    def test_samples(self, name):
        """In real traces."""
        path = sample(name)
        found = [one for one in ask("_read_with_dissect.py", path) if one["schema"]]
        assert sorted(found, key=str) == sorted(map(self.as_dissect, read_etl(path)), key=str)

    def test_ours(self, tmp_path):
        """In what we write, with several buffers and processors."""
        path = tmp_path / "x.etl"
        ids = [event().provider_id, None]
        events = [
            event(NOW + number * (-1 if number > 50 else 1), bytes(100), opcode=number % 3,
                  activity_id=ids[number % 2], related_activity_id=ids[number // 2 % 2])
            for number in range(60)
        ]  # fmt: skip
        written(path, *events, buffer_size_bytes=4096)
        found = ask("_read_with_dissect.py", path)
        key = json.dumps
        assert sorted(map(self.as_dissect, events), key=key) == sorted(found, key=key)


@pytest.mark.skipif(not has("etl"), reason="etl-parser is not installed")
def test_etl_parser_reads_ours(tmp_path):
    """Another independent reader finds our events and their fields."""
    path = tmp_path / "x.etl"
    events = [
        event(payload=f"text {number}\0".encode(), process_id=7, thread_id=number)
        for number in range(60)
    ]
    written(path, *events, buffer_size_bytes=4096)
    expected = [
        {"process": 7, "thread": number, "fields": {"text": f"text {number}"}}
        for number in range(60)
    ]
    assert expected == ask("_read_with_etl_parser.py", path)


class TestOrder:
    """Events of several processors are one sequence."""

    def test_merged_by_time(self):
        """The processors' buffers are merged, wherever they are in the file."""
        data = (
            buffer(log_header())
            + buffer(records(1, 4), cpu=1)
            + buffer(records(2, 3, 9))
            + buffer(records(5, 6), cpu=1)
        )
        moments, reader = read(data)
        assert ([1, 2, 3, 4, 5, 6, 9], []) == (moments, reader.problems)

    def test_circular(self):
        """A circular file, whose oldest buffers were overwritten, is read from its oldest on."""
        data = buffer(log_header(mode=2)) + buffer(records(7), flushed=9)
        data += buffer(records(1), flushed=3) + buffer(records(4), flushed=5)
        assert [1, 4, 7] == read(data)[0]

    def test_more_than_can_be_merged(self, monkeypatch):
        """If not all processors can be merged, it is said that the order is not perfect."""
        monkeypatch.setattr("eliot_etw.etw._buffers._MAX_MERGED_STREAMS", 1)
        data = buffer(log_header()) + buffer(records(5)) + buffer(records(1), cpu=1)
        moments, reader = read(data)
        assert [5, 1] == moments
        expected = "too many processors to merge at once: in 2 groups, the events are in order"
        assert [f"{expected} within each"] == reader.problems

    def test_merges_lazily(self):
        """The first events come before the rest of the file is read."""
        data = buffer(log_header()) + buffer(records(1)) + b"".join(
            buffer(records(number)) for number in range(2, 50)
        )  # fmt: skip
        file = io.BytesIO(data)
        iterator = iter(read_etl(file))
        next(iterator)
        assert file.tell() == 2 * 4096


class TestFile:
    """What can be read."""

    def test_missing(self, tmp_path):
        """A file that is not there is told as such at once."""
        with pytest.raises(FileNotFoundError):
            read_etl(tmp_path / "x.etl")

    @pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 9999, buffer(records(1))])
    def test_no_trace(self, data):
        """What does not begin as a trace is none."""
        with pytest.raises(InvalidTrace, match=r"^A trace must begin .* Pass an \.etl file, as"):
            read_etl(io.BytesIO(data))

    def test_each_iteration_begins_anew(self, tmp_path):
        """A reader can be read twice, also when the first time was broken off."""
        written(tmp_path / "x.etl", event(), event())
        reader = read_etl(tmp_path / "x.etl")
        list(islice(reader, 1))
        assert (2, 2, {"system": 1}) == (len(list(reader)), len(list(reader)), reader.skipped)

    def test_file_object_stays_open(self, tmp_path):
        """A file that the caller opened is the caller's to close."""
        written(tmp_path / "x.etl", event())
        with open(tmp_path / "x.etl", "rb") as file:
            assert ([event()], False) == (list(read_etl(file)), file.closed)

    def test_compressed(self):
        """Compressed buffers follow each other without gaps."""
        header = buffer(log_header(mode=0x4000001), size=512)
        data = header + buffer(records(1, 2), flags=COMPRESSED)
        assert [1, 2, 3] == read(data + buffer(records(3), flags=COMPRESSED))[0]

    def test_may_hold(self, tmp_path, monkeypatch):
        """Bytes are found wherever they are in the file; a compressed one may hold any."""
        written(tmp_path / "x.etl", event())
        reader = read_etl(tmp_path / "x.etl")
        for size in (1 << 20, 7, 1):
            monkeypatch.setattr("eliot_etw.etw._etl._SEARCHED_BYTES", size)
            assert reader.may_hold(b"an-event")
            assert not reader.may_hold(b"another-event")
        compressed = buffer(log_header(mode=0x4000001), size=512)
        assert read_etl(io.BytesIO(compressed)).may_hold(b"an-event")

    def test_events_without_schema(self):
        """Events that only a manifest could explain are counted."""
        record = bytearray(records(1))
        record[0x50 + 24 + 2] = 13  # the type of the second item, which was the schema
        moments, reader = read(buffer(log_header()) + buffer(bytes(record)))
        assert ([], {"system": 1, "manifest": 1}) == (moments, reader.skipped)


class TestDamage:
    """A damaged trace gives what can be read, and says what could not."""

    def test_a_buffer_without_header(self):
        """In an uncompressed trace the buffers behind a damaged one are found."""
        bad = b"\xee" * 4096
        moments, reader = read(buffer(log_header()) + bad + buffer(records(1)))
        assert ([1], 1) == (moments, reader.skipped["damaged"])
        assert ["at offset 4096: this is no buffer"] == reader.problems

    def test_a_compressed_buffer_without_header(self):
        """In a compressed trace nothing says where the next one would be."""
        data = buffer(log_header(mode=0x4000001)) + b"\xee" * 4096 + buffer(records(1))
        assert ([], 1) == (read(data)[0], read(data)[1].skipped["damaged"])

    def test_space_set_aside(self):
        """Zeros at the end are no damage: Windows sets space aside."""
        moments, reader = read(buffer(log_header()) + buffer(records(1)) + bytes(9999))
        assert ([1], []) == (moments, reader.problems)

    def test_a_record(self):
        """What is behind a damaged record is lost, up to the end of its buffer."""
        bad = b"\xff\xff\x13\xc0" + bytes(60)
        data = buffer(log_header()) + buffer(records(1) + bad + records(2)) + buffer(records(3))
        moments, reader = read(data)
        assert [1, 3] == moments
        place = len(records(1))
        expected = f"at offset 4096: a record, {place} bytes into the buffer, does not fit; "
        assert [f"{expected}the rest of the buffer is lost"] == reader.problems

    def test_an_event(self):
        """An event whose items do not fit is left out, and nothing else."""
        bad = bytearray(records(1))
        bad[0x56] = 255
        moments, reader = read(buffer(log_header()) + buffer(bytes(bad) + records(2)))
        assert [2] == moments
        expected = "at offset 4096: an event, 0 bytes into the buffer, is damaged"
        assert [expected] == reader.problems

    def test_compressed_data(self):
        """Of a compressed buffer that ends too early the beginning is read."""
        data = buffer(log_header(mode=0x4000001)) + buffer(records(*range(40)), flags=COMPRESSED)
        moments, reader = read(data[:-20])
        assert list(range(len(moments))) == moments
        assert 0 < len(moments) < 40
        assert re.match(r"at offset 4096: \d+ bytes are missing$", reader.problems[0])

    def test_problems_are_bounded(self):
        """All damage is counted, but not all of it is told."""
        data = buffer(log_header()) + b"\xee" * 4096 * 150
        reader = read(data)[1]
        assert (150, 100) == (reader.skipped["damaged"], len(reader.problems))

    def test_number_of_buffers_is_bounded(self, monkeypatch):
        """So many buffers that their places would fill the memory are not read."""
        monkeypatch.setattr(_etl, "_MAX_BUFFERS", 2)
        moments, reader = read(buffer(log_header()) + buffer(records(1)) + buffer(records(2)))
        assert ([1], ["only the first 2 buffers are read"]) == (moments, reader.problems)

    def test_a_buffer_that_goes_away(self):
        """A file that is being overwritten is damaged at worst."""
        file = io.BytesIO(buffer(log_header()) + buffer(records(1)) + buffer(records(2)))
        iterator = iter(reader := read_etl(file))
        next(iterator)
        file.seek(8192)
        file.write(bytes(4096))
        assert ([], ["at offset 8192: the buffer is gone"]) == (list(iterator), reader.problems)

    def test_a_bomb(self):
        """A small file that claims to be huge is not believed, and takes no memory."""
        bomb = b"\xff\xff\xff\x7f\0" + bytes.fromhex("0700 0f ff 0000 ffffffff")
        used = 16 * 1024 * 1024
        head = BUFFER_HEADER.pack(72 + len(bomb), used, 0, 0, 0, 0, 0, 0, 3, used, COMPRESSED, 0)
        data = buffer(log_header(mode=0x4000001)) + (head + bomb) * 500
        tracemalloc.start()
        moments, reader = read(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert ([], 496) == (moments, reader.skipped["damaged"])
        assert peak < 100 * 1024 * 1024


def mutate(data, changes):
    """Change some bytes."""
    changed = bytearray(data)
    for place, new in changes:
        start = place % len(changed)
        changed[start : start + len(new)] = new
    return bytes(changed)


changes = st.lists(
    st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=8
)


class TestFuzz:
    """Whatever is in a file, the reader comes to its end, and raises nothing unforeseen."""

    def survive(self, data):
        """Read everything."""
        try:
            reader = read_etl(io.BytesIO(data))
        except InvalidTrace:
            return
        for one in reader:
            assert isinstance(one.timestamp, float)
            assert isinstance(one.provider_name, str)

    @pytest.mark.parametrize("name", [name for name in CONTENTS if name != "AMSITrace.etl"])
    @given(changes)
    @settings(max_examples=30, deadline=None)
    def test_mutated_samples(self, name, wanted):
        """A real trace, damaged anywhere."""
        self.survive(mutate(sample(name).read_bytes(), wanted))

    @given(changes)
    @settings(deadline=None)
    def test_mutated_traces(self, wanted):
        """A trace with compressed buffers of two processors, damaged anywhere."""
        self.survive(mutate(SMALL, wanted))

    @given(st.binary(max_size=400), st.sampled_from([NORMAL, COMPRESSED]))
    @settings(deadline=None)
    def test_any_bytes(self, content, flags):
        """A buffer with anything in it."""
        head = BUFFER_HEADER.pack(72 + len(content), 999, 0, 0, 0, 0, 0, 0, 3, 0, flags, 0)
        self.survive(buffer(log_header(mode=0x4000001), size=512) + head + content)


SMALL = (
    buffer(log_header(mode=0x4000001), size=512)
    + buffer(records(1, 3), flags=COMPRESSED)
    + buffer(records(2), flags=COMPRESSED, cpu=1)
)


def test_read_etl_is_all_that_is_needed():
    """The reader's class is what the function returns."""
    assert isinstance(read_etl(io.BytesIO(SMALL)), EtlReader)
