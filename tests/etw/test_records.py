"""Tests of events as records."""

from struct import pack
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eliot_etw.etw._buffers import find_events
from eliot_etw.etw._etl import read_etl
from eliot_etw.etw._records import (
    DamagedRecord,
    EtlEvent,
    decode_record,
    encode_record,
    parse_traits,
)
from tests.etw._traces import CONTENTS, NOW, event, events, sample, with_size

GROUP = UUID("4f50731a-89cf-4782-b3e0-dce8c90476ba")


@given(events, st.binary(max_size=9))
@settings(deadline=None)
def test_decodes_what_was_encoded(one, before):
    """An event is the same after it was a record."""
    content = before + encode_record(one, one.ticks)
    assert one == decode_record(content, len(before), one.ticks, cpu=0)


@pytest.mark.parametrize("name", [name for name in CONTENTS if name != "CldFlt0.etl"])
def test_encodes_as_windows_does(name):
    """Each TraceLogging record of the samples, rebuilt from its parts, has the same bytes."""
    path = sample(name)
    reader = read_etl(path)
    contents = []
    read = reader._read_buffer
    reader._read_buffer = lambda *where: contents.append(read(*where)) or contents[-1]
    list(reader)
    rebuilt = 0
    for content in contents:
        for raw_time, start in find_events(content, reader.skipped)[0]:
            one = decode_record(content, start, NOW, cpu=0)
            size = int.from_bytes(content[start : start + 2], "little")
            assert content[start : start + size] == encode_record(one, raw_time)
            rebuilt += 1
    assert CONTENTS[name][0] == rebuilt


def test_a_record_of_windows():
    """The bytes of a small record, written down one by one from the format's description."""
    one = EtlEvent(
        ticks=NOW,
        provider_id=UUID("30d25124-a468-505c-de82-8411646eb8b5"),
        traits=with_size(b"P\0"),
        metadata=with_size(b"\0Info\0m\0\x01"),
        payload=b"x\0\0\0",
        thread_id=0x5FA4,
        process_id=0x731C,
    )
    expected = bytes.fromhex(
        "7c00 13c0 0100 0000 a45f0000 1c730000 b4196d159e020000"
        "2451d23068a45c50de828411646eb8b5 0000 00 0b 04 00 0000 0000000000000000"
        "00000000 00000000 00000000000000000000000000000000"
        "1000 0c00 0100 0400 0400 5000 00000000"
        "1800 0b00 0000 0b00 0b00 00 496e666f00 6d00 01 0000000000"
        "78000000"
    )
    assert expected == encode_record(one, 0x29E156D19B4)


class TestDamage:
    """Records that do not fit their own sizes."""

    @pytest.mark.parametrize("offset", [0x50, 0x56])
    def test_sizes_of_items(self, offset):
        """An item that is longer than its record is found out."""
        record = bytearray(encode_record(event(), NOW))
        record[offset : offset + 2] = b"\xff\xff"
        with pytest.raises(DamagedRecord):
            decode_record(bytes(record), 0, NOW, 0)

    def test_chain_without_end(self):
        """An item that promises another, where the record ends, is found out."""
        record = bytearray(encode_record(event()._replace(traits=b""), NOW))
        record[0x54] = 1
        with pytest.raises(DamagedRecord):
            decode_record(bytes(record), 0, NOW, 0)

    def test_items_of_no_size(self):
        """A chain cannot go round in circles."""
        record = bytearray(encode_record(event(), NOW))
        record[0x50:0x58] = pack("<HHHH", 0, 2, 1, 0)
        with pytest.raises(DamagedRecord):
            decode_record(bytes(record), 0, NOW, 0)


class TestTraits:
    """What a provider says of itself."""

    def test_name_and_group(self):
        """The group follows the name, among other traits."""
        group = pack("<HB", 19, 1) + GROUP.bytes_le
        blob = with_size(b"a-name\0" + pack("<HBB", 4, 9, 0) + group)
        assert ("a-name", GROUP) == parse_traits(blob)

    def test_of_an_event(self):
        """An event says whose it is."""
        assert ("an-app", None) == (event().provider_name, event().provider_group)

    def test_of_nobody(self):
        """An event need not say it."""
        assert ("", None) == parse_traits(b"")

    @given(st.binary(max_size=60))
    @settings(deadline=None)
    def test_any_bytes(self, blob):
        """Damaged traits give what can be read."""
        assert isinstance(parse_traits(blob)[0], str)

    def test_bytes_that_are_no_text(self):
        """A name in another encoding is shown as far as possible."""
        assert ("caf\ufffd", None) == parse_traits(with_size(b"caf\xe9\0"))


class TestEvent:
    """What can be asked of an event."""

    def test_timestamp(self):
        """The time in seconds is that of Unix."""
        assert event(NOW + 5_000_000).timestamp == 1_750_000_000.5

    def test_decode(self):
        """The fields are decoded when somebody asks for them."""
        decoded = event(payload=b"hello\0").decode()
        assert ("an-event", ("hello",)) == (decoded.schema.name, decoded.values)
