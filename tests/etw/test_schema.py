"""Tests of the metadata of events."""

import pytest
from hypothesis import given

from eliot_etw.etw import Field, InType, OutType, Schema
from eliot_etw.etw._schema import encode_metadata, parse_metadata
from eliot_etw.exceptions import InvalidEvent
from tests.etw._schemas import PATIENT, events

NUMBER = Field("n", InType.INT64)


@PATIENT
@given(events())
def test_what_was_encoded_is_parsed(event):
    """Every schema comes back equal."""
    schema, _ = event
    assert schema == parse_metadata(encode_metadata(schema))


class TestLimits:
    """What Windows cannot decode is not encoded."""

    @pytest.mark.parametrize(
        ("field", "count"),
        [
            (NUMBER, 128),
            (Field("a", InType.INT64, is_array=True), 64),
            (Field("f", InType.INT64, fixed_count=2), 64),
            (Field("b", InType.BINARY), 64),
            (Field("s", InType.STRUCT, members=(NUMBER,)), 64),
        ],
    )
    def test_fields(self, field, count):
        """128 fields is the end; what has a length or members counts twice."""
        encode_metadata(Schema("e", (field,) * count))
        with pytest.raises(InvalidEvent, match=r"at most 128 fields, got 1\d\d\. Put several"):
            encode_metadata(Schema("e", (field,) * (count + 1)))

    def test_size(self):
        """32 KiB is the end of all names together."""
        encode_metadata(Schema("x" * (32_768 - 4)))
        with pytest.raises(InvalidEvent, match=r"32768 bytes, got 32769\. Shorten the names"):
            encode_metadata(Schema("x" * (32_768 - 3)))

    def test_depth(self):
        """Structs 32 deep can be encoded, and decoded, and no more."""
        field = NUMBER
        for _ in range(32):
            field = Field("s", InType.STRUCT, members=(field,))
        schema = Schema("e", (field,))
        assert schema == parse_metadata(encode_metadata(schema))
        with pytest.raises(InvalidEvent, match="at most 32 deep"):
            encode_metadata(Schema("e", (Field("s", InType.STRUCT, members=(field,)),)))

    @pytest.mark.parametrize(
        ("field", "rule"),
        [
            (Field("a\0", InType.INT8), "must not contain NUL, got 'a"),
            (Field("a", 0), "in_type must be one of InType"),
            (Field("a", InType.INT8, 128), "out_type must be 0 to 127"),
            (Field("a", InType.INT8, tags=1 << 28), "tags must be 0 to 0xfffffff, got 0x10000000"),
            (Field("a", InType.INT8, tags=-1), "tags must be 0 to 0xfffffff, got -0x1"),
            (Field("a", InType.INT8, fixed_count=0x10000), "fixed_count must be 0 to 65535"),
            (Field("a", InType.INT8, is_array=True, fixed_count=1), "is_array or fixed_count"),
            (Field("a", InType.INT8, custom=bytes(0x10000)), "at most 65535 bytes"),
            (Field("a", InType.INT8, is_array=True, custom=b""), "custom must stand alone"),
            (Field("a", InType.STRUCT), "1 to 127 members"),
            (Field("a", InType.STRUCT, members=(NUMBER,) * 128), "1 to 127 members|128 fields"),
            (Field("a", InType.INT8, members=(NUMBER,)), "anything else none"),
            (Field("a", InType.STRUCT, OutType.HEX, members=(NUMBER,)), "no out_type"),
        ],
    )
    def test_field(self, field, rule):
        """A field that makes no sense is refused, with the rule that it breaks."""
        with pytest.raises(InvalidEvent, match=rule):
            encode_metadata(Schema("e", (field,)))

    def test_event_name(self):
        """The name of an event ends at a NUL, so that it can have none."""
        with pytest.raises(InvalidEvent, match="must not contain NUL"):
            encode_metadata(Schema("e\0"))

    def test_event_tags(self):
        """Tags of an event have 28 bits."""
        with pytest.raises(InvalidEvent, match="Use the lowest 28 bits only"):
            encode_metadata(Schema("e", tags=1 << 28))
