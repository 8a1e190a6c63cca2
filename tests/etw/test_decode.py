"""Tests of the decoder of TraceLogging events."""

from contextlib import suppress
from datetime import datetime, timezone
from ipaddress import IPv4Address
from struct import pack
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eliot_etw.etw import (
    EventEncoder,
    Field,
    FileTime,
    InType,
    OutType,
    Schema,
    SystemTime,
    _decode,
    decode_event,
)
from eliot_etw.exceptions import EliotError, InvalidEvent
from tests.etw._schemas import PATIENT, events


def metadata_of(body):
    """Put the size in front of the rest of a metadata blob."""
    return pack("<H", len(body) + 2) + body


def value_of(field, payload, pointer_size_bytes=8):
    """Decode an event that has one field; its description is given without the name."""
    event = decode_event(metadata_of(b"\0e\0f\0" + field), payload, pointer_size_bytes)
    assert event.rest == b""
    return event.values[0]


class TestWindows:
    """Bytes that Windows wrote."""

    def test_text(self):
        """An event of one field, as a system service wrote it."""
        event = decode_event(
            b"\x0b\x00\x00Info\0m\0\x01", "** Service starting **\0".encode("utf-16-le")
        )
        assert event.name == "Info"
        assert event.tags == 0
        assert event.fields == [("m", "** Service starting **")]

    def test_tags_with_needless_bytes(self):
        """Tags of two bytes may be 0, as a driver writes them."""
        event = decode_event(metadata_of(b"\x80\0Debug\0x\0\x07"), b"\xff\xff\xff\xff")
        assert (event.tags, event.fields) == (0, [("x", -1)])

    def test_struct(self):
        """.NET writes an anonymous object as a struct."""
        body = b"\0e\0a\0\x98\x02b\0\x01c\0\x01"
        event = decode_event(metadata_of(body), "Hello\0World!\0".encode("utf-16-le"))
        assert event.values == (("Hello", "World!"),)
        assert event.as_dict() == {"a": {"b": "Hello", "c": "World!"}}

    def test_array_of_structs(self):
        """.NET writes a dict as an array of structs with a key and a value."""
        body = b"\0e\0a\0\xd8\x02Key\0\x01Value\0\x01"
        payload = b"\x02\0" + "k\0v\0l\0w\0".encode("utf-16-le")
        event = decode_event(metadata_of(body), payload)
        assert event.values == ([("k", "v"), ("l", "w")],)
        expected = {"a": [{"Key": "k", "Value": "v"}, {"Key": "l", "Value": "w"}]}
        assert expected == event.as_dict()


class TestTypes:
    """The bytes of each in type."""

    @pytest.mark.parametrize(
        ("expected", "field", "payload"),
        [
            pytest.param("hé", b"\x01", "hé\0".encode("utf-16-le"), id="utf-16-z"),
            pytest.param("Āā", b"\x01", b"\0\x01\x01\x01\0\0", id="utf-16-z, zeros astride"),
            pytest.param("hé", b"\x01", "hé".encode("utf-16-le"), id="utf-16-z, no end"),
            pytest.param("\x81€", b"\x02", b"\x81\x80\0", id="cp1252-z"),
            pytest.param("é", b"\x02", b"\xe9", id="cp1252-z, no end"),
            pytest.param("é", b"\x82\x23", "é\0".encode(), id="utf-8-z"),
            pytest.param("é", b"\x82\x0b", "é\0".encode(), id="xml"),
            pytest.param(-1, b"\x03", b"\xff", id="int8"),
            pytest.param(255, b"\x04", b"\xff", id="uint8"),
            pytest.param(True, b"\x84\x03", b"\x02", id="uint8 boolean"),
            pytest.param("€", b"\x84\x02", b"\x80", id="uint8 character"),
            pytest.param("€", b"\x83\x02", b"\x80", id="int8 character"),
            pytest.param(-2, b"\x05", b"\xfe\xff", id="int16"),
            pytest.param(0xFFFE, b"\x06", b"\xfe\xff", id="uint16"),
            pytest.param("€", b"\x86\x02", b"\xac\x20", id="uint16 character"),
            pytest.param(443, b"\x86\x07", b"\x01\xbb", id="port"),
            pytest.param(-2, b"\x07", b"\xfe\xff\xff\xff", id="int32"),
            pytest.param(0xFFFFFFFE, b"\x08", b"\xfe\xff\xff\xff", id="uint32"),
            pytest.param(IPv4Address("192.0.2.1"), b"\x88\x08", b"\xc0\0\x02\x01", id="ipv4"),
            pytest.param(-2, b"\x09", b"\xfe" + b"\xff" * 7, id="int64"),
            pytest.param((1 << 64) - 2, b"\x0a", b"\xfe" + b"\xff" * 7, id="uint64"),
            pytest.param(1.5, b"\x0b", pack("<f", 1.5), id="float32"),
            pytest.param(0.1, b"\x0c", pack("<d", 0.1), id="float64"),
            pytest.param(True, b"\x0d", b"\0\x01\0\0", id="bool32"),
            pytest.param(False, b"\x0d", b"\0\0\0\0", id="bool32, false"),
            pytest.param(b"ab", b"\x0e", b"\x02\0ab", id="binary"),
            pytest.param(b"ab", b"\x8e\x09", b"\x02\0ab", id="ipv6, too short"),
            pytest.param(
                UUID("00010203-0405-0607-0809-0a0b0c0d0e0f"),
                b"\x0f",
                bytes.fromhex("03020100050407060809 0a0b0c0d0e0f"),
                id="guid",
            ),
            pytest.param(
                SystemTime(2021, 9, 4, 9, 14, 59, 35, 799),
                b"\x12",
                pack("<8H", 2021, 9, 4, 9, 14, 59, 35, 799),
                id="systemtime",
            ),
            pytest.param(
                "S-1-5-18", b"\x13", bytes([1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]), id="sid"
            ),
            pytest.param(0xFFFFFFFE, b"\x14", b"\xfe\xff\xff\xff", id="hex32"),
            pytest.param((1 << 64) - 2, b"\x15", b"\xfe" + b"\xff" * 7, id="hex64"),
            pytest.param("a\0", b"\x16", b"\x04\0a\0\0\0", id="utf-16"),
            pytest.param("a\\x62", b"\x16", b"\x03\0a\0b", id="utf-16, odd"),
            pytest.param("\ud800", b"\x16", b"\x02\0\0\xd8", id="utf-16, half a character"),
            pytest.param("é", b"\x17", b"\x01\0\xe9", id="cp1252"),
            pytest.param("é", b"\x97\x23", b"\x02\0\xc3\xa9", id="utf-8"),
            pytest.param("\\xe9", b"\x97\x23", b"\x01\0\xe9", id="utf-8, wrong"),
            pytest.param("é", b"\x97\x0c", b"\x02\0\xc3\xa9", id="json"),
            pytest.param("", b"\x17", b"\0\0", id="empty"),
            pytest.param(b"ab", b"\x19", b"\x02\0ab", id="counted binary"),
            pytest.param([1, -1], b"\x43", b"\x02\0\x01\xff", id="array"),
            pytest.param([], b"\x43", b"\0\0", id="array, empty"),
            pytest.param([1, -1], b"\x23\x02\0", b"\x01\xff", id="fixed array"),
            pytest.param(["a", ""], b"\x57", b"\x02\0\x01\0a\0\0", id="array of texts"),
            pytest.param("ab", b"\xc6\x02", b"\x02\0a\0b\0", id="array of characters"),
            pytest.param("ab", b"\xa4\x02\x02\0", b"ab", id="fixed array of characters"),
            pytest.param(b"xyz", b"\x68\x02\0??", b"\x03\0xyz", id="custom"),
        ],
    )
    def test_value(self, expected, field, payload):
        """A value is what its type says, and of that type in Python."""
        value = value_of(field, payload)
        assert expected == value
        assert type(expected) is type(value)

    def test_filetime(self):
        """A FILETIME keeps its 100 ns, and is a time in UTC."""
        value = value_of(b"\x91\x26", pack("<Q", 132756731757990001))
        assert value == 132756731757990001
        expected = datetime(2021, 9, 9, 14, 59, 35, 799000, timezone.utc)
        assert expected == value.to_datetime()

    @pytest.mark.parametrize("size", [4, 8])
    def test_pointer(self, size):
        """A pointer is as wide as those of the process that wrote it."""
        assert value_of(b"\x10", b"\xfe" + b"\xff" * (size - 1), size) == (1 << 8 * size) - 2

    def test_field_tags(self):
        """Tags of a field are read to their last byte."""
        event = decode_event(metadata_of(b"\0e\0f\0\x87\x81\x81\x82\x83\x04"), bytes(4))
        assert event.schema.fields[0].tags == 1 << 21 | 2 << 14 | 3 << 7 | 4

    def test_types_are_told(self):
        """The in and out type of each field can be asked for."""
        event = decode_event(metadata_of(b"\0e\0f\0\x88\x05"), bytes(4))
        assert event.schema == Schema("e", (Field("f", InType.UINT32, OutType.PID),))

    def test_name_that_is_no_utf8(self):
        """A wrong name is shown as well as can be."""
        assert decode_event(metadata_of(b"\0\xff\0"), b"").name == "\\xff"


class TestAsDict:
    """Fields by name."""

    def test_names_that_come_twice(self):
        """No value is lost where names are the same, or look like those that we make."""
        names = ["a", "a#2", "a", "a"]
        schema = Schema("e", tuple(Field(name, InType.UINT8) for name in names))
        encoder = EventEncoder(schema)
        event = decode_event(encoder.metadata, encoder.payload([1, 2, 3, 4]))
        assert event.as_dict() == {"a": 1, "a#2": 2, "a#3": 3, "a#4": 4}
        assert event.fields == list(zip(names, [1, 2, 3, 4], strict=True))


@pytest.mark.parametrize("pointer_size_bytes", [4, 8])
@PATIENT
@given(events())
def test_what_was_encoded_is_decoded(pointer_size_bytes, event):
    """Every type, in every form and nesting, comes back equal."""
    schema, values = event
    encoder = EventEncoder(schema, pointer_size_bytes)
    decoded = decode_event(encoder.metadata, encoder.payload(values), pointer_size_bytes)
    assert (schema, values, b"") == decoded


class TestDamage:
    """What is wrong is said, in one way, and does no harm."""

    def test_errors_are_of_our_own_and_of_value(self):
        """Whoever expects a ValueError gets it."""
        assert issubclass(InvalidEvent, EliotError)
        assert issubclass(InvalidEvent, ValueError)

    @pytest.mark.parametrize(
        ("metadata", "words"),
        [
            (b"", "as long as it says, got 0 bytes"),
            (b"\x05\0\0a", "as long as it says, got 4 bytes for 5"),
            (b"\x03\0\0", "as long as it says, got 3 bytes for 3"),
            (metadata_of(b"\0a"), "end within a field"),
            (metadata_of(b"\x80\x80\x80"), "end within a field"),
            (metadata_of(b"\0a\0f"), "end within a field"),
            (metadata_of(b"\0a\0f\0"), "end within a field"),
            (metadata_of(b"\0a\0f\0\x83"), "end within a field"),
            (metadata_of(b"\0a\0f\0\x23\x01"), "end within a field"),
            (metadata_of(b"\0a\0f\0\x63\x02\0x"), "end within a field"),
            (metadata_of(b"\0a\0f\0\x98\x02g\0\x03"), "end within a field"),
            (metadata_of(b"\0a\0f\0\x00"), "known one, got 0x00 for 'f'"),
            (metadata_of(b"\0a\0f\0\x1a"), "known one, got 0x1a"),
            (metadata_of(b"\0a\0f\0\xf8\x01\0\0g\0\x03"), "known one, got 0xf8"),
            (metadata_of(b"\0a\0f\0\x23\0\0"), "must not be empty, got 'f'"),
            (metadata_of(b"\0a\0f\0\x18"), "must have members"),
            (metadata_of(b"\0a\0" + b"\0\x04" * 1025), "at most 1024 fields"),
            (metadata_of(b"\0a\0" + b"\0\x98\x01" * 20_000), "at most 32 deep"),
        ],
    )
    def test_metadata(self, metadata, words):
        """Metadata that cannot be is refused, with the reason."""
        with pytest.raises(InvalidEvent, match=words):
            decode_event(metadata, bytes(100))

    @pytest.mark.parametrize(
        ("field", "payload"),
        [
            pytest.param(b"\x01", b"", id="utf-16-z"),
            pytest.param(b"\x02", b"", id="ansi-z"),
            pytest.param(b"\x07", bytes(3), id="number"),
            pytest.param(b"\x0f", bytes(15), id="guid"),
            pytest.param(b"\x13", b"\x01", id="sid without count"),
            pytest.param(b"\x13", b"\x01\x02" + bytes(13), id="sid"),
            pytest.param(b"\x17", b"\x03\0ab", id="text"),
            pytest.param(b"\x17", b"\x03", id="text without count"),
            pytest.param(b"\x43", b"\x03\0ab", id="array"),
            pytest.param(b"\x23\x03\0", b"ab", id="fixed array"),
            pytest.param(b"\xc6\x02", b"\x02\0a\0b", id="characters"),
            pytest.param(b"\x68\x02\0??", b"\x03\0xy", id="custom"),
        ],
    )
    def test_payload_cut_off(self, field, payload):
        """A value that is not there is none."""
        with pytest.raises(InvalidEvent, match=f"got {len(payload)} bytes, which is too short"):
            value_of(field, payload)

    def test_counts_without_end(self):
        """Arrays within arrays end where the bytes do, not after 2 ** 48 empty texts."""
        nested = b"\0\xb8\x01\xff\xff" * 3 + b"\0\x22\xff\xff"
        with pytest.raises(InvalidEvent, match="too short"):
            decode_event(metadata_of(b"\0a\0" + nested), b"text")

    def test_rest(self):
        """Bytes that no field wants are handed out, not hidden."""
        assert decode_event(metadata_of(b"\0a\0f\0\x04"), b"\x01\x02\x03").rest == b"\x02\x03"

    def test_bytes_behind_the_metadata(self):
        """The size in the metadata counts, as for Windows."""
        assert decode_event(metadata_of(b"\0a\0f\0\x04") + b"junk", b"\x01").values == (1,)

    def test_memory(self):
        """What is kept of metadata seen before does not grow with the file."""
        for number in range(20):
            decode_event(metadata_of(b"\0%d" % number + b"x" * 30_000 + b"\0"), b"")
        assert sum(len(blob) for blob, _ in _decode._KNOWN._found) <= _decode._Known.MAX_BYTES

    @PATIENT
    @given(st.binary(max_size=60), st.binary(max_size=40), st.sampled_from([4, 8]))
    @example(b"\0a\0f\0\x86\x02", b"\xff\xdf", 8)
    def test_any_bytes(self, body, payload, pointer_size_bytes):
        """Whatever the bytes are, there is an event or an InvalidEvent."""
        with suppress(InvalidEvent):
            decode_event(metadata_of(b"\0" + body), payload, pointer_size_bytes)

    @PATIENT
    @given(events(), st.data())
    def test_mutated_bytes(self, event, data):
        """Whatever happened to the bytes, there is an event or an InvalidEvent."""
        schema, values = event
        encoder = EventEncoder(schema)
        metadata = data.draw(mutations(encoder.metadata))
        payload = data.draw(mutations(encoder.payload(values)))
        with suppress(InvalidEvent):
            decode_event(metadata, payload).as_dict()


@st.composite
def mutations(draw, data):
    """Change a few bytes, or cut some out, or put some in."""
    for _ in range(draw(st.integers(0, 3))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 4))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + size :]
    return data


def test_time_of_a_file_time():
    """A time that Python cannot have says so, when it is asked for."""
    with pytest.raises(OverflowError):
        FileTime((1 << 64) - 1).to_datetime()
