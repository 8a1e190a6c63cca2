"""What the tests of traces share: the samples, made-up events, a compressor."""

from pathlib import Path
from struct import pack
from uuid import UUID

import pytest
from hypothesis import strategies as st

from eliot_etw.etw._records import EPOCH, EtlEvent

# Real traces, of other people's licences: beside the checkout, not in it.
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "etw" / "samples"

# TraceLogging events and what else is in each file.
CONTENTS = {
    "SelfDescribingSingleEvent.etl": (1, {"system": 4, "classic": 18}),
    "primitive-types.etl": (5, {"system": 2}),
    "lxcore_kernel.etl": (2, {"system": 2}),
    "AMSITrace.etl": (19, {"system": 2}),
    "waasmedic.20251005.etl": (17, {"system": 4}),
    "CldFlt0.etl": (0, {"system": 4, "WPP": 13}),
}

# A moment of 2025, in ticks.
NOW = EPOCH + 1_750_000_000 * 10_000_000


def sample(name):
    """Return the path of a sample; skip the test where there are none."""
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"the sample traces are not in {SAMPLES}")
    return path


def with_size(blob):
    """Put the size before a blob of metadata or traits."""
    return pack("<H", 2 + len(blob)) + blob


def blobs(max_size):
    """Make blobs that begin with their sizes."""
    return st.binary(max_size=max_size).map(with_size)


def numbers(bits):
    """Make whole numbers that fit so many bits."""
    return st.integers(0, 2**bits - 1)


# Within a thousand years around now, with several events at one moment.
moments = st.integers(NOW - 10**16, NOW + 10**16) | st.integers(NOW, NOW + 3)

events = st.builds(
    EtlEvent,
    ticks=moments,
    provider_id=st.uuids(),
    traits=st.just(b"") | blobs(40),
    metadata=blobs(60),
    payload=st.binary(max_size=300),
    level=numbers(8),
    opcode=numbers(8),
    keyword=numbers(64),
    activity_id=st.none() | st.uuids(),
    related_activity_id=st.none() | st.uuids(allow_nil=True),
    thread_id=numbers(32),
    process_id=numbers(32),
    id=numbers(16),
    version=numbers(8),
    channel=numbers(8),
    task=numbers(16),
    flags=numbers(15).map(lambda number: number * 2),
    event_property=numbers(16),
    processor_time=numbers(64),
    pointer_size_bytes=st.sampled_from([4, 8]),
    items=st.lists(
        st.tuples(st.sampled_from([2, 6, 10, 13]), st.binary(max_size=20)), max_size=2
    ).map(tuple),
    cpu=st.just(0),
)


def event(ticks=NOW, payload=b"", **others):
    """Make an event, of a provider of the same name as the event."""
    return EtlEvent(
        ticks=ticks,
        provider_id=UUID("a61ea624-4944-55fc-c2a8-37838829438d"),
        traits=with_size(b"an-app\0"),
        metadata=with_size(b"\0an-event\0text\0\x02"),
        payload=payload,
        **others,
    )


def compress(data):
    """Compress, simply and slowly, with matches of all lengths that there are."""
    out = bytearray()
    flags_at, bits, used, nibble_at = 0, 0, 32, -1
    at = 0
    while at <= len(data):
        if used == 32:
            out[flags_at : flags_at + 4] = pack("<I", bits) if out else b""
            flags_at, bits, used = len(out), 0, 0
            out += bytes(4)
        if at == len(data):
            break
        length, distance = _longest_match(data, at)
        used += 1
        if length < 3:
            out.append(data[at])
            at += 1
            continue
        bits |= 1 << (32 - used)
        at += length
        length -= 3
        out += pack("<H", (distance - 1) << 3 | min(length, 7))
        if length < 7:
            continue
        length -= 7
        if nibble_at < 0:
            nibble_at = len(out)
            out.append(min(length, 15))
        else:
            out[nibble_at] |= min(length, 15) << 4
            nibble_at = -1
        if length < 15:
            continue
        if length - 15 < 255:
            out.append(length - 15)
        elif length + 7 < 2**16:
            out += pack("<BH", 255, length + 7)
        else:
            out += pack("<BHI", 255, 0, length + 7)
    bits |= (1 << (32 - used)) - 1
    out[flags_at : flags_at + 4] = pack("<I", bits)
    return bytes(out)


def _longest_match(data, at):
    """Find what was there before; return how long it is, and how far back."""
    start = data.rfind(data[at : at + 3], max(at - 8192, 0), at + 2) if at + 3 <= len(data) else -1
    if start < 0:
        return 0, 0
    length = 3
    while at + length < len(data) and data[start + length] == data[at + length]:
        length += 1
    return length, at - start
