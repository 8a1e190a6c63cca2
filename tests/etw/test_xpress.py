"""Tests of the decompression of buffers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from eliot_etw.etw._xpress import decompress
from tests.etw._traces import compress

# Text that repeats itself, near and far.
data = st.lists(st.binary(max_size=40), max_size=8).flatmap(
    lambda parts: st.lists(st.sampled_from(parts or [b""]), max_size=60).map(b"".join)
) | st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 700)).map(
    lambda pair: pair[0] * (pair[1] // len(pair[0]))
)


class TestSpecification:
    """The examples of [MS-XCA] 3.1."""

    def test_literals(self):
        """Text that never repeats itself is stored as it is."""
        alphabet = b"abcdefghijklmnopqrstuvwxyz"
        assert alphabet == decompress(b"\x3f\0\0\0" + alphabet, 26)

    def test_long_match(self):
        """One match may run over what it makes itself."""
        stored = bytes.fromhex("ffffff1f 616263 1700 0f ff 2601")
        assert b"abc" * 100 == decompress(stored, 300)


@given(data)
@settings(deadline=None)
def test_gives_back_what_was_compressed(original):
    """All lengths of matches are understood."""
    assert original == decompress(compress(original), len(original))


def test_longest_lengths():
    """A length of more than 16 bits is read from four bytes."""
    assert bytes(200_000) == decompress(compress(bytes(200_000)), 200_000)


@given(data, st.data())
@settings(deadline=None)
def test_what_is_cut_off_gives_its_beginning(original, choices):
    """Of a buffer that ends too early, what is there is right."""
    stored = compress(original)
    cut = stored[: choices.draw(st.integers(0, len(stored)))]
    found = decompress(cut, len(original))
    assert original[: len(found)] == found


@given(st.binary(max_size=200), st.integers(0, 500))
@settings(deadline=None)
def test_any_bytes(stored, size):
    """Damaged data raises nothing, and makes no more than was asked for."""
    assert len(decompress(stored, size)) <= size


def test_a_bomb_makes_no_more_than_was_asked_for():
    """A length of four gigabytes is believed only as far as the size goes."""
    stored = b"\xff\xff\xff\x7fa" + bytes.fromhex("0700 0f ff 0000 ffffffff") * 32
    assert b"a" * 100_000 == decompress(stored, 100_000)


def test_a_match_before_the_beginning():
    """A match that reaches back too far ends the data."""
    assert b"a" == decompress(b"\xff\xff\xff\x7fa\x08\x00", 10)


def test_ignores_what_follows():
    """What comes after the last byte asked for is not read."""
    assert b"abc" == decompress(compress(b"abcdefgh"), 3)
