"""Tests of ZMTP as a collector without keys speaks it: frames out of bytes, or a reason."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("msgspec")

from eliot_etw.collector.inputs._zmtp import BEGINNING, Peer, framed
from eliot_etw.exceptions import ProtocolError

MOST = 1_000
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me"
HELLO = GREETING + b"\x04" + bytes([len(READY)]) + READY


def taken(peer, data):
    """Return the messages in bytes."""
    return [each if each is None else bytes(each) for each in peer.receive(memoryview(data))]


@pytest.fixture
def peer():
    """Return the other side's bytes, from after its beginning."""
    peer = Peer(MOST)
    assert taken(peer, HELLO) == []
    return peer


@given(
    st.lists(st.binary(max_size=MOST)),
    st.lists(st.integers(0, 5_000), max_size=20),
)
def test_frames(messages, cuts):
    """What is written is read, wherever it is cut; no more is held than one frame has."""
    said = HELLO + b"".join(map(framed, messages))
    places = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    peer, found = Peer(MOST), []
    for start, end in pairwise(places):
        found += taken(peer, said[start:end])
        assert peer.held_bytes <= MOST + 9
    assert found == messages
    assert peer.held_bytes == 0


@given(st.booleans(), st.lists(st.binary(max_size=3_000)))
def test_any_bytes(is_greeted, pieces):
    """Whatever comes are messages, or a reason to hang up; no more is held than one frame has."""
    peer = Peer(MOST)
    try:
        for piece in [HELLO if is_greeted else b"", *pieces]:
            taken(peer, piece)
            assert peer.held_bytes <= MOST + 9
    except ProtocolError:
        pass


def test_missing(peer):
    """How much is missing is known, and what was claimed is not held before it comes."""
    taken(peer, b"\x02" + struct.pack(">Q", MOST) + b"x")
    assert peer.held_bytes == 10
    assert peer.missing_bytes == MOST - 1


def test_nothing_missing(peer):
    """When a frame is whole, nothing is missing of it any more."""
    for said in (framed(b"x" * 500)[:400], framed(b"x" * 500)[400:]):
        taken(peer, said)
    assert peer.missing_bytes <= 0


def test_several_parts(peer):
    """A message of several parts is none, once; what follows is read."""
    said = b"\x01\x01a" + b"\x01\x00" + b"\x00\x01b" + framed(b"next") + b"\x01\x00\x00\x00"
    assert taken(peer, said) == [None, b"next", None]


def test_parts_without_end(peer):
    """One that never ends is a reason to hang up."""
    with pytest.raises(ProtocolError, match="never ends"):
        taken(peer, b"\x01\x00" * 2_000)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\x02" + struct.pack(">Q", MOST + 1), "at most 1,000 bytes, got 1,001"),
        (b"\x02" + b"\xff" * 8, "at most 1,000 bytes"),
        (b"\x08\x00", "must not have the flags 0x8"),
        (b"\x05\x00", "must not have the flags 0x5"),
        (b"\x04\x07\x04PING\0\0", "only command must be READY"),
        (b"\x04" + bytes([len(READY)]) + READY, "only command must be READY"),
    ],
)
def test_hung_up(peer, said, words):
    """What no DEALER of ours says is a reason to hang up: also the heartbeats of ZeroMQ."""
    with pytest.raises(ProtocolError, match=words):
        taken(peer, said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "must begin as ZMTP does"),
        (GREETING[:9] + b"\0", "must begin as ZMTP does"),
        (GREETING[:10] + b"\x01", "of version 3 or later, got 1"),
        (GREETING.replace(b"NULL\0", b"CURVE"), "no keys, as this collector has none"),
        (GREETING + framed(b"x"), "must begin with the command READY"),
        (GREETING + b"\x04\x06\x05READY", "must be a DEALER, got None"),
        (HELLO.replace(b"DEALER", b"ROUTER"), "must be a DEALER, got b'ROUTER'"),
        (GREETING + b"\x04\x08\x05READY\x0bS", "must be whole"),
        (GREETING + b"\x04\x0c\x05READY\x01a\xff\xff\xff\xff", "must be whole"),
    ],
)
def test_no_beginning(said, words):
    """Who does not begin as a DEALER without keys does is hung up on."""
    with pytest.raises(ProtocolError, match=words):
        taken(Peer(MOST), said)


def test_large_command():
    """A command need not be large, and is refused by its size: nobody is to read it."""
    with pytest.raises(ProtocolError, match="at most 1,024 bytes, got 5,000"):
        taken(Peer(1 << 20), GREETING + b"\x06" + struct.pack(">Q", 5_000))


def test_own_beginning():
    """What we say first is a greeting and a READY, as they are written down in the RFC."""
    assert BEGINNING[:64] == GREETING
    body = b"\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"
    assert BEGINNING[64:] == b"\x04" + bytes([len(body)]) + body
