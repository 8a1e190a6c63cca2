"""Tests of the encoder of TraceLogging events, beside Microsoft's own for Python."""

import ctypes
import sys
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.etw import (
    EventEncoder,
    Field,
    FileTime,
    InType,
    OutType,
    Schema,
    SystemTime,
    decode_event,
    payload_limit_bytes,
    provider_guid,
    provider_traits,
)
from eliot_etw.exceptions import InvalidEvent
from tests.etw._schemas import PATIENT

GUID = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
NOW = datetime(2026, 2, 3, 4, 5, 6, 789012, timezone(timedelta(hours=1)))
TICKS = int(FileTime.from_datetime(NOW))
SYSTEM_TIME = SystemTime(2026, 2, 2, 3, 4, 5, 6, 789)
SYSTEM_TIME_BYTES = bytes.fromhex("ea07 0200 0200 0300 0400 0500 0600 1503")
SID_BYTES = bytes([1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0])


class WindowsLibrary:
    """Stands in for a DLL of Windows where there is none: every function does nothing."""

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name):
        class Function:
            def __call__(self, *_):
                return 0

        function = Function()
        setattr(self, name, function)
        return function


@pytest.fixture(scope="module")
def microsoft():
    """Return the module traceloggingdynamic, on any system."""
    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(ctypes, "WinDLL"):
            patch.setattr(ctypes, "WinDLL", WindowsLibrary, raising=False)
        yield pytest.importorskip("traceloggingdynamic")
    # The next to import it may want another stand-in.
    sys.modules.pop("traceloggingdynamic", None)


class Theirs:
    """An event as Microsoft's encoder makes it."""

    def __init__(self, microsoft, name="event", tags=0):
        # Not the buffers that it has by itself: a growing one takes over the metadata as data.
        self.builder = microsoft.EventBuilder(32768, 65536)
        self.builder.reset(name.encode(), 4, 1, tag=tags)
        self.provider = microsoft.Provider(b"Provider")

    @property
    def blobs(self):
        """The metadata and the payload."""
        self.provider.write(self.builder)
        return (
            bytes(self.builder._meta)[: self.builder._meta_pos],
            bytes(self.builder._data)[: self.builder._data_pos],
        )


def ours(field, value):
    """Encode an event of one field."""
    encoder = EventEncoder(Schema("event", (field,)))
    return encoder.metadata, encoder.payload([value])


# What to call in their encoder, with which arguments; our field and value.
# Of 8 bits without a sign theirs takes numbers up to 127 only.
SAME = [
    ("zstr16", ["Grüße"], InType.UTF16_Z, 0, "Grüße"),
    ("zstr8", ["Grüße"], InType.ANSI_Z, OutType.UTF8, "Grüße"),
    ("zstr8_bytes", [b"\x80\x81"], InType.ANSI_Z, 0, "€\x81"),
    ("str16", ["Grüße"], InType.UTF16, 0, "Grüße"),
    ("str16", ['{"a": 1}', OutType.JSON], InType.UTF16, OutType.JSON, '{"a": 1}'),
    ("str8", ["Grüße\0\N{SNOWMAN}"], InType.ANSI, OutType.UTF8, "Grüße\0\N{SNOWMAN}"),
    ("str8", [""], InType.ANSI, OutType.UTF8, ""),
    ("str8", ['{"a": 1}', OutType.JSON], InType.ANSI, OutType.JSON, '{"a": 1}'),
    ("str8_bytes", [b"\x80\x81"], InType.ANSI, 0, "€\x81"),
    ("int8", [-128], InType.INT8, 0, -128),
    ("int8", [ord("a"), OutType.STRING], InType.INT8, OutType.STRING, "a"),
    ("uint8", [127], InType.UINT8, 0, 127),
    ("uint8", [1, OutType.BOOLEAN], InType.UINT8, OutType.BOOLEAN, True),
    ("uint8", [0x7E, OutType.STRING], InType.UINT8, OutType.STRING, "~"),
    ("int16", [-(1 << 15)], InType.INT16, 0, -(1 << 15)),
    ("uint16", [65535, OutType.HEX], InType.UINT16, OutType.HEX, 65535),
    ("uint16", [0xBB01, OutType.PORT], InType.UINT16, OutType.PORT, 443),
    ("uint16", [0x20AC, OutType.STRING], InType.UINT16, OutType.STRING, "€"),
    ("int32", [-(1 << 31)], InType.INT32, 0, -(1 << 31)),
    ("uint32", [1234, OutType.PID], InType.UINT32, OutType.PID, 1234),
    ("uint32", [0x010200C0, OutType.IPV4], InType.UINT32, OutType.IPV4, IPv4Address("192.0.2.1")),
    ("int64", [-(1 << 63)], InType.INT64, 0, -(1 << 63)),
    ("uint64", [(1 << 64) - 1], InType.UINT64, 0, (1 << 64) - 1),
    ("float32", [1.5], InType.FLOAT32, 0, 1.5),
    ("float64", [0.1], InType.FLOAT64, 0, 0.1),
    ("float64", [float("inf")], InType.FLOAT64, 0, float("inf")),
    ("bool32", [1], InType.BOOL32, 0, True),
    ("bool32", [0], InType.BOOL32, 0, False),
    ("binary_bytes", [b"\0\1"], InType.BINARY, 0, b"\0\1"),
    (
        "binary_bytes",
        [IPv6Address("2001:db8::1").packed, OutType.IPV6],
        InType.BINARY,
        OutType.IPV6,
        IPv6Address("2001:db8::1"),
    ),
    ("guid", [GUID], InType.GUID, 0, GUID),
    ("filetime_int64", [TICKS, OutType.DATETIME_UTC], InType.FILETIME, OutType.DATETIME_UTC, NOW),
    ("systemtime_bytes", [SYSTEM_TIME_BYTES], InType.SYSTEMTIME, 0, SYSTEM_TIME),
    ("sid_bytes", [SID_BYTES], InType.SID, 0, "S-1-5-18"),
    ("hexint32", [0xFFFFFFFF], InType.HEX_INT32, 0, 0xFFFFFFFF),
    ("hexint64", [1], InType.HEX_INT64, 0, 1),
    ("cbinary_bytes", [b"\0\1"], InType.COUNTED_BINARY, 0, b"\0\1"),
]
# No tool of Microsoft's can decode an array of BINARY.
SAME_ARRAYS = [row for row in SAME if row[0] != "binary_bytes"]


class TestSameAsMicrosofts:
    """Each byte is the one that Microsoft's encoder writes."""

    @pytest.mark.parametrize(("method", "arguments", "in_type", "out_type", "value"), SAME)
    def test_value(self, microsoft, method, arguments, in_type, out_type, value):
        """A field of each type."""
        theirs = Theirs(microsoft)
        getattr(theirs.builder, f"add_{method}")(b"field", *arguments)
        assert theirs.blobs == ours(Field("field", in_type, out_type), value)

    @pytest.mark.parametrize(("method", "arguments", "in_type", "out_type", "value"), SAME_ARRAYS)
    def test_array(self, microsoft, method, arguments, in_type, out_type, value):
        """An array of each type of which there are arrays."""
        theirs = Theirs(microsoft)
        element, *out = arguments
        getattr(theirs.builder, f"add_{method}_seq")(b"field", [element] * 3, *out)
        values = value * 3 if OutType.STRING == out_type else [value] * 3
        assert theirs.blobs == ours(Field("field", in_type, out_type, is_array=True), values)

    @pytest.mark.parametrize("tags", [0, 1, 0x80, 0x4000, 0x20_0000, 0x0FE0_4000, 0x0FFF_FFFF])
    def test_tags(self, microsoft, tags):
        """Tags of an event and of fields, whatever room they need."""
        theirs = Theirs(microsoft, "é", tags)
        theirs.builder.add_int32(b"a", 1, tag=tags)
        theirs.builder.add_int32(b"b", 1, OutType.HRESULT, tags)
        theirs.builder.add_struct(b"c", 1, tags)
        theirs.builder.add_int32("é".encode(), 1)
        inner = Field("é", InType.INT32)
        fields = (
            Field("a", InType.INT32, tags=tags),
            Field("b", InType.INT32, OutType.HRESULT, tags),
            Field("c", InType.STRUCT, tags=tags, members=(inner,)),
        )
        encoder = EventEncoder(Schema("é", fields, tags))
        assert theirs.blobs == (encoder.metadata, encoder.payload([1, 1, (1,)]))

    def test_structs(self, microsoft):
        """Structs within structs, with fields before and behind."""
        theirs = Theirs(microsoft)
        theirs.builder.add_int8(b"a", 1)
        theirs.builder.add_struct(b"b", 2)
        theirs.builder.add_struct(b"c", 1)
        theirs.builder.add_str8(b"d", "2")
        theirs.builder.add_uint16_seq(b"e", [3, 4])
        theirs.builder.add_int8(b"f", 5)
        c = Field("c", InType.STRUCT, members=(Field("d", InType.ANSI, OutType.UTF8),))
        e = Field("e", InType.UINT16, is_array=True)
        fields = (
            Field("a", InType.INT8),
            Field("b", InType.STRUCT, members=(c, e)),
            Field("f", InType.INT8),
        )
        encoder = EventEncoder(Schema("event", fields))
        expected = encoder.metadata, encoder.payload([1, (("2",), [3, 4]), 5])
        assert theirs.blobs == expected

    @PATIENT
    @given(
        st.lists(
            st.text(st.characters(codec="utf-8"))
            | st.integers(-(1 << 63), (1 << 63) - 1)
            | st.floats()
            | st.binary()
            | st.uuids(),
            max_size=20,
        )
    )
    def test_events(self, microsoft, values):
        """Fields of all types side by side, in any order."""
        kinds = {
            str: (InType.ANSI, OutType.UTF8, "str8"),
            int: (InType.INT64, 0, "int64"),
            float: (InType.FLOAT64, 0, "float64"),
            bytes: (InType.BINARY, 0, "binary_bytes"),
            UUID: (InType.GUID, 0, "guid"),
        }
        theirs, fields = Theirs(microsoft), []
        for value in values:
            in_type, out_type, method = kinds[type(value)]
            fields.append(Field("f", in_type, out_type))
            getattr(theirs.builder, f"add_{method}")(b"f", value)
        encoder = EventEncoder(Schema("event", tuple(fields)))
        assert theirs.blobs == (encoder.metadata, encoder.payload(values))

    @pytest.mark.parametrize("group", [None, GUID])
    def test_provider(self, microsoft, group):
        """A provider's GUID and traits, with and without a group."""
        provider = microsoft.Provider(b"MyCompany.MyProgram", group_id=group)
        assert bytes(provider._Provider__traits) == provider_traits("MyCompany.MyProgram", group)
        assert provider.id == provider_guid("MyCompany.MyProgram")

    @PATIENT
    @given(st.text(st.characters(min_codepoint=1, max_codepoint=0x17F), min_size=1))
    def test_guid(self, microsoft, name):
        """The GUID of any name that we take is the one that they make."""
        try:
            guid = provider_guid(name)
        except ValueError:
            return
        assert microsoft.providerid_from_name(name) == guid


class TestBeyondMicrosofts:
    """What Microsoft's encoder for Python cannot write."""

    @pytest.mark.parametrize(("size", "in_type"), [(4, InType.UINT32), (8, InType.UINT64)])
    def test_pointer(self, size, in_type):
        """A pointer is as wide as those of the process."""
        pointer, number = (
            EventEncoder(Schema("e", (Field("p", kind),)), size).payload([1 << 31])
            for kind in (InType.POINTER, in_type)
        )
        assert number == pointer

    def test_lone_surrogate(self):
        """Text that UTF-8 has no form for comes back as it was."""
        encoder = EventEncoder(Schema("e", (Field("t", InType.ANSI, OutType.UTF8),)))
        text = "a\ud800\udc00\0"
        assert decode_event(encoder.metadata, encoder.payload([text])).values == (text,)

    def test_no_fields(self):
        """An event may be no more than a name."""
        encoder = EventEncoder(Schema("e"))
        assert encoder.payload([]) == b""


class TestUnfit:
    """What the type of a field has no room for."""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (Field("f", InType.INT64), 1 << 63),
            (Field("f", InType.UINT8), -1),
            (Field("f", InType.INT64), "1"),
            (Field("f", InType.FLOAT32), 1e39),
            (Field("f", InType.FLOAT64), 10**400),
            (Field("f", InType.ANSI, OutType.UTF8), 1),
            (Field("f", InType.ANSI, OutType.UTF8), "x" * 65_536),
            (Field("f", InType.ANSI), "Ā"),
            (Field("f", InType.UTF16_Z), "a\0b"),
            (Field("f", InType.GUID), "no GUID"),
            (Field("f", InType.FILETIME), datetime(2026, 1, 1)),
            (Field("f", InType.FILETIME), datetime(1600, 1, 1, tzinfo=timezone.utc)),
            (Field("f", InType.SYSTEMTIME), (1, 2)),
            (Field("f", InType.SID), "S"),
            (Field("f", InType.UINT8, OutType.STRING), ""),
            (Field("f", InType.UINT8, is_array=True), [0] * 65_536),
            (Field("f", InType.UINT8, fixed_count=2), [0]),
            (Field("f", InType.UINT8, OutType.STRING, fixed_count=2), "a"),
            (Field("f", InType.STRUCT, members=(Field("g", InType.INT8),)), ()),
            (Field("f", InType.INT8), None),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_value(self, field, value):
        """It is refused, and the error tells which value of which field it is."""
        encoder = EventEncoder(Schema("e", (Field("good", InType.INT8), field)))
        words = r"must fit its type, got .+ for 'f' \([A-Z0-9_]+: .*Cut it, or"
        with pytest.raises(InvalidEvent, match=words):
            encoder.payload([0, value])

    @pytest.mark.parametrize("values", [[], [1, 2]])
    def test_number_of_values(self, values):
        """There is one value for each field."""
        encoder = EventEncoder(Schema("e", (Field("f", InType.INT8),)))
        with pytest.raises(InvalidEvent, match=f"each of 1 fields, got {len(values)}"):
            encoder.payload(values)


class TestLimits:
    """How long an event may be."""

    @pytest.mark.parametrize(
        ("expected", "metadata", "traits", "has_related_activity"),
        [
            (65_535 - 80 - 16 - 16, bytes(8), bytes(8), False),
            (65_535 - 80 - 24 - 16, bytes(9), bytes(8), False),
            (65_535 - 80 - 16 - 24 - 24, bytes(1), bytes(16), True),
        ],
    )
    def test_payload(self, expected, metadata, traits, has_related_activity):
        """All headers count, each rounded up to 8 bytes, as they lie in a file."""
        limit = payload_limit_bytes(metadata, traits, has_related_activity=has_related_activity)
        assert expected == limit

    def test_name_of_a_provider(self):
        """The traits of a provider are counted in 16 bits."""
        assert len(provider_traits("x" * 65_532)) == 65_535
        with pytest.raises(ValueError, match="must be short, got 65533 characters"):
            provider_traits("x" * 65_533)

    def test_name_that_no_provider_can_have(self):
        """What has no GUID has no traits."""
        with pytest.raises(ValueError, match="text without NUL"):
            provider_traits("")
