"""Decompression of a trace's buffers, as Windows compresses them."""

from __future__ import annotations

from contextlib import suppress

# Lengths that the algorithm itself knows: three bits, four bits, then a byte, two bytes or four.
_SHORTEST_MATCH = 3
_NO_NIBBLE = -1


def decompress(data: bytes, size_bytes: int) -> bytes:
    """Undo XPRESS, the plain LZ77 variant.

    Args:
        data: The compressed bytes of one buffer.
        size_bytes: How many bytes it had. What comes after them is ignored, and a hostile buffer
            cannot make more.

    Returns:
        The bytes; fewer than `size_bytes` if the data ends too early or is damaged.

    Source:
        [MS-XCA] 2.4, "Plain LZ77 Decompression Algorithm Details".
    """
    out = bytearray()
    with suppress(IndexError):  # the data ended within a match: what came before it is good
        _fill(out, data, size_bytes)
    return bytes(out[:size_bytes])


def _fill(out: bytearray, data: bytes, size_bytes: int) -> None:
    """Append what the data means. Raises IndexError where it ends within a match.

    One function with few names: a call for each match would halve the speed.
    """
    position = 0
    nibble_at = _NO_NIBBLE
    end = len(data)
    while position < end and len(out) < size_bytes:
        flags = int.from_bytes(data[position : position + 4], "little")
        position += 4
        left = 32
        while position < end:
            # `flags` holds the `left` lowest bits, so its leading zeros are a run of literals.
            run = left - flags.bit_length()
            if run:
                out += data[position : position + run]
                position += run
                left -= run
            if not left:
                break
            left -= 1
            flags ^= 1 << left
            match = data[position] | data[position + 1] << 8
            position += 2
            length = match & 7
            if length == 7:
                # Two matches share a byte: the first takes its low half, the second its high one.
                if nibble_at == _NO_NIBBLE:
                    nibble_at = position
                    length = data[position] & 15
                    position += 1
                else:
                    length = data[nibble_at] >> 4
                    nibble_at = _NO_NIBBLE
                if length == 15:
                    length, position = _long_length(data, position)
                    length = max(min(length, size_bytes - len(out)), 0)
                length += 7
            length += _SHORTEST_MATCH
            start = len(out) - (match >> 3) - 1
            if start < 0:
                return
            source = out[start : start + length]
            if len(source) < length:  # it runs into what it makes itself
                source = (source * (length // len(source) + 1))[:length]
            out += source


def _long_length(data: bytes, position: int) -> tuple[int, int]:
    """Read a length that four bits cannot hold; return what to use instead of them, and go on."""
    length = data[position]
    position += 1
    if length < 255:
        return length + 15, position
    length = int.from_bytes(data[position : position + 2], "little")
    position += 2
    if not length:
        length = int.from_bytes(data[position : position + 4], "little")
        position += 4
    # What is written in full counts from 0, not from 22; damaged data may have less.
    return max(length - 7, 0), position
