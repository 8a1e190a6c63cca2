"""Tests of what senders and collectors say to each other."""

import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("msgspec")

from msgspec import msgpack

from eliot_etw.exceptions import EliotError, ProtocolError
from eliot_etw.shipping import _protocol as protocol
from eliot_etw.shipping._protocol import (
    Ack,
    Batch,
    Bye,
    Hello,
    LevelRule,
    Levels,
    LevelsInForce,
    Ping,
    Pong,
    Refused,
    Welcome,
    compressed,
    decode,
    encode,
    payload_of,
)

identities = st.binary(min_size=16, max_size=16)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=255)
numbers = st.integers(0, 2**63 - 1)
sequences = st.integers(1, 2**63 - 1)
formats = st.sampled_from(["json", "msgpack"])
rules = st.builds(
    LevelRule, names, st.integers(-(10**6), 10**6), st.integers(0, 31 * 86_400_000), names, names
)
all_rules = st.lists(rules, max_size=5).map(tuple)
any_message = st.one_of(
    st.builds(
        Hello,
        st.lists(st.integers(0, 255), max_size=16).map(tuple),
        identities,
        names,
        numbers,
        names,
        numbers,
        formats,
    ),
    st.builds(
        Welcome,
        st.integers(0, 255),
        identities,
        numbers,
        st.integers(1, protocol.MAX_FRAME_BYTES),
        st.integers(1, protocol.MAX_MESSAGES),
        sequences,
        numbers,
        all_rules,
    ),
    st.builds(
        Batch,
        identities,
        sequences,
        st.integers(1, protocol.MAX_MESSAGES),
        formats,
        st.sampled_from(["", "zlib"]),
        st.binary(),
    ),
    st.builds(Ack, identities, sequences),
    st.builds(Refused, names, names, st.binary(max_size=16), numbers, st.integers(0, 3_600_000)),
    st.builds(Ping, numbers),
    st.builds(Pong, numbers),
    st.builds(Levels, numbers, all_rules),
    st.builds(LevelsInForce, numbers, numbers),
    st.builds(Bye),
)
HEADER = protocol.MAGIC + bytes([protocol.VERSION])
SENDER = bytes(16)


def batch(payload, *, count=1, format="json", compression=""):  # noqa: A002 - as in Batch
    """Make a batch."""
    return Batch(SENDER, 1, count, format, compression, payload)


class TestFrames:
    """Messages as frames."""

    @given(message=any_message)
    def test_round_trip(self, message):
        """What is encoded is decoded equal."""
        assert message == decode(encode(message))

    @given(frame=st.binary())
    def test_any_bytes(self, frame):
        """Whatever comes is a message, or a ProtocolError."""
        _is_message_or_error(frame)

    @given(body=st.binary())
    @example(b"\xdd\x7f\xff\xff\xff")
    @example(b"\x91" * 100_000)
    @example(b"\x92\x04" + b"\x91" * 100_000)
    def test_any_body(self, body):
        """Also behind a true header."""
        _is_message_or_error(HEADER + body)

    @given(message=any_message, data=st.data())
    def test_damaged(self, message, data):
        """Also where a few bytes of a true frame are others."""
        frame = bytearray(encode(message))
        for _ in range(data.draw(st.integers(1, 3))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        _is_message_or_error(bytes(frame))

    @pytest.mark.parametrize(
        "body",
        [
            b"\xdd\x7f\xff\xff\xff\x03",
            b"\x96\x03\xc6\x7f\xff\xff\xff",
            b"\x93\x08\x01\xdd\x7f\xff\xff\xff",
            b"\x96\x01\xdd\x7f\xff\xff\xff",
            b"\x93\x05\xdb\x7f\xff\xff\xff",
        ],
    )
    def test_claims(self, body):
        """A length that is claimed, and not there, takes no memory."""
        decode(encode(Ping()))
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                decode(HEADER + body)
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()

    def test_too_large(self):
        """A frame that is too large is neither made nor looked into."""
        with pytest.raises(ProtocolError, match="at most"):
            encode(batch(bytes(protocol.MAX_FRAME_BYTES)))
        with pytest.raises(ProtocolError, match="at most"):
            decode(HEADER + bytes(protocol.MAX_FRAME_BYTES))

    def test_overhead(self):
        """What a batch has around its payload is less than is said."""
        most = protocol.MAX_FRAME_BYTES - protocol.MAX_OVERHEAD_BYTES
        full = Batch(bytes(16), 2**63 - 1, protocol.MAX_MESSAGES, "msgpack", "zlib", bytes(most))
        assert full == decode(encode(full))

    @pytest.mark.parametrize(
        "message",
        [
            Hello((1,), b"short", "h", 1, "p", 1, "json"),
            Hello((1,) * 17, SENDER, "h", 1, "p", 1, "json"),
            Hello((1,), SENDER, "h" * 256, 1, "p", 1, "json"),
            Hello((1,), SENDER, "h", -1, "p", 1, "json"),
            Hello((1,), SENDER, "h", 1, "p", 1, "pickle"),
            Batch(SENDER, 0, 1, "json", "", b""),
            Batch(SENDER, 1, 0, "json", "", b""),
            Batch(SENDER, 1, protocol.MAX_MESSAGES + 1, "json", "", b""),
            Batch(SENDER, 1, 1, "json", "lzma", b""),
            Batch(SENDER, 1, 1, "json", "", "text"),
            Refused("busy", "x" * 1001),
            Levels(1, (LevelRule("*", 10, 1),) * (protocol.MAX_RULES + 1)),
            Levels(1, (LevelRule("*", 10, -1),)),
            Levels(1, (LevelRule("*", 1.5, 1),)),
        ],
        ids=lambda message: str(message)[:80],  # Windows knows no longer names
    )
    def test_limits(self, message):
        """What is beyond a limit, or of another type, is refused by whoever reads it."""
        with pytest.raises(ProtocolError, match="must be one of our messages"):
            decode(encode(message))

    def test_other_version(self):
        """A frame of another version is told apart from garbage."""
        with pytest.raises(ProtocolError, match="must be of version 1, got 2") as caught:
            decode(protocol.MAGIC + b"\x02" + b"\x92\x06\x01")
        assert caught.value.code == "version"
        with pytest.raises(ProtocolError) as caught:
            decode(b"GET / HTTP/1.1")
        assert caught.value.code == "garbage"

    def test_more_fields(self):
        """A message with more in it than its version has is refused."""
        with pytest.raises(ProtocolError):
            decode(HEADER + msgpack.encode([6, 1, 2]))

    def test_kind(self):
        """Whoever expects the library's own exceptions, or built-in ones, gets this one."""
        assert issubclass(ProtocolError, EliotError)
        assert issubclass(ProtocolError, ValueError)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=5,
)
messages = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values)


class TestPayload:
    """What is in a batch."""

    @given(
        all_messages=st.lists(messages, min_size=1, max_size=5), form=formats, packed=st.booleans()
    )
    def test_round_trip(self, all_messages, form, packed):
        """Messages come out as they went in, in both formats, packed or not."""
        from eliot_etw._json import decode_line, encode_line

        payload = payload_of([encode_line(message) for message in all_messages], form)
        sent = batch(
            compressed(payload) if packed else payload,
            count=len(all_messages),
            format=form,
            compression="zlib" if packed else "",
        )
        assert all_messages == sent.messages()
        assert all_messages == [decode_line(line) for line in sent.lines()]

    @given(payload=st.binary(), form=formats, packing=st.sampled_from(["", "zlib"]))
    @example(b"\x91" * 100_000, "msgpack", "")
    @example(b"\x91\xd6\xff\xff\xff\xff\xff", "msgpack", "")
    @example(b"[" * 100_000 + b"\n", "json", "")
    def test_any_bytes(self, payload, form, packing):
        """Whatever is in it becomes dicts and lines, or a ProtocolError."""
        sent = batch(payload, format=form, compression=packing)
        for read in (sent.messages, sent.lines):
            with suppress(ProtocolError):
                assert len(read()) == 1

    @pytest.mark.parametrize(
        ("payload", "form"),
        [
            (b"{}\n{}\n", "json"),
            (b"", "json"),
            (b"{}", "json"),
            (b"[]\n", "json"),
            (b"{\n", "json"),
            (b"\x92\x80\x80", "msgpack"),
            (b"\x90", "msgpack"),
            (b"\x80", "msgpack"),
            (b"\x91\x01", "msgpack"),
            (b"\x91\x81\x01\x01", "msgpack"),
            (b"\x91\xc4\x01x", "msgpack"),
            (b"\x91\x81\xa1a\xd4\x05\x00", "msgpack"),
        ],
    )
    def test_wrong(self, payload, form):
        """Another number of messages than it says, or what is no message, is refused."""
        with pytest.raises(ProtocolError):
            batch(payload, format=form).messages()

    def test_bomb(self):
        """What would become too large when it is decompressed is refused before it does."""
        bomb = zlib.compress(bytes(protocol.MAX_FRAME_BYTES + 1))
        with pytest.raises(ProtocolError, match="unpacked"):
            batch(bomb, compression="zlib").lines()

    @pytest.mark.parametrize(
        "payload", [b"x", compressed(b"{}\n")[:-1], compressed(b"{}\n") + b"x"]
    )
    def test_badly_packed(self, payload):
        """What zlib did not pack, or only the beginning of it, or more, is refused."""
        with pytest.raises(ProtocolError):
            batch(payload, compression="zlib").lines()

    @pytest.mark.parametrize("packing", ["", "zlib"])
    @pytest.mark.parametrize(
        ("start", "count"),
        [(b"", 1), (b"\x91", 1), (b"\x91\x81\xa1a", 1), (b"\x92\x80\x81\xa1a", 2)],
        ids=["items", "array in array", "array in map", "array in the second map"],
    )
    @pytest.mark.parametrize("item", [b"\x80", b"\x90", b"\xc0"], ids=["map", "array", "nil"])
    def test_memory(self, start, count, item, packing):
        """A payload of a million empty things takes no more memory than bytes do."""
        most = 1 << 20
        payload = start + b"\xdd" + most.to_bytes(4, "big") + item * most
        sent = batch(
            compressed(payload) if packing else payload,
            count=count,
            format="msgpack",
            compression=packing,
        )
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                sent.lines()
            assert tracemalloc.get_traced_memory()[1] < 6 << 20
        finally:
            tracemalloc.stop()

    def test_large_message(self):
        """What is too large to be a map, on either side, is sent as a line, and comes so."""
        from eliot_etw._json import encode_line

        numbers = [0.5] * (protocol.MAX_MAP_BYTES // 5)
        sent = [{"n": 1}, {"text": "x" * protocol.MAX_MAP_BYTES}, {"numbers": numbers}]
        payload = payload_of([encode_line(message) for message in sent], "msgpack")
        assert batch(payload, count=3, format="msgpack").messages() == sent

    @pytest.mark.parametrize("size", [1, protocol.MAX_MAP_BYTES])
    def test_line_in_line(self, size):
        """A line within MessagePack is one line."""
        payload = msgpack.encode([b"{}\n{}" + b" " * size])
        with pytest.raises(ProtocolError, match="no newline"):
            batch(payload, format="msgpack").lines()

    def test_unpacked_for_others(self):
        """Whoever takes less than a frame may have says how much it may be unpacked."""
        sent = batch(compressed(b" " * 999 + b"\n"), compression="zlib")
        assert sent.lines(1_000) == [b" " * 999]
        with pytest.raises(ProtocolError, match="at most 999 bytes"):
            sent.lines(999)

    def test_last(self):
        """The number of the last message follows from the first and their number."""
        assert Batch(SENDER, 5, 3, "json", "", b"").last == 7


def _is_message_or_error(frame):
    """Decode a frame, and hold what comes out to what may."""
    try:
        message = decode(frame)
    except ProtocolError:
        return
    assert message == decode(encode(message))
