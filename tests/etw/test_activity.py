"""Tests of activity ids."""

from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.etw import activity_id
from eliot_etw.etw._activity import _made, _pack, _root
from tests.etw._schemas import PATIENT

TASK = "2b1d7d60-0d6c-4f5e-9d35-4b6a6a8f1a11"
PROCESSES = st.integers(0, (1 << 32) - 1)
LEVELS = st.lists(st.integers(1, 300) | st.integers(1, 1 << 40), max_size=30)


def is_activity_path(guid, process_id):
    """Say whether PerfView would take this for an activity path of a process."""
    *words, last = unpack("<4I", guid)
    return (sum(words) + 0x599D99AD) % (1 << 32) ^ process_id == last


def numbers(path):
    """Read the numbers of a path as PerfView does, written after its reader, not our writer."""
    found, at = [], 0
    while at < 12:
        byte = path[at]
        high, low = byte >> 4, byte & 15
        if high == 0:
            break
        value = low
        if high <= 10:
            found.append(high)
            if low == 0 or low <= 10:
                found += [low] if low else []
                at += 1
                if low == 0:
                    break
                continue
            high, value = low, 0
        size = high - 11
        following = path[at + 1 : at + 1 + size]
        for digit in reversed(following):
            value = value << 8 | digit
        found.append(value)
        at += 1 + size
    return found


class TestForm:
    """The ids are such as .NET makes, and PerfView wants."""

    def test_id_from_dotnet(self):
        """A path is written in the very bytes that a .NET program wrote."""
        assert _pack([1, 1, 6]) == bytes.fromhex("11600000 00000000 00000000".replace(" ", ""))
        assert is_activity_path(bytes.fromhex("1160000000000000 00000000e2f19d59"), 2140)

    @PATIENT
    @given(st.lists(st.integers(1, 10) | st.integers(0, (1 << 32) - 1), max_size=8))
    def test_numbers_there_and_back(self, path):
        """PerfView reads the numbers that were written, as many as fit."""
        packed = _pack(path)
        assert packed is None or numbers(packed) == path

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ([10, 10], "aa"),
            ([11], "c00b"),
            ([1, 11], "1c0b"),
            ([255, 1], "c0ff10"),
            ([4095], "cfff"),
            ([1, 256], "1d0001"),
            ([4096], "d00010"),
            ([1 << 16], "e0000001"),
            ([1, 1 << 24], "1f00000001"),
            ([0], "c000"),
        ],
    )
    def test_number(self, path, expected):
        """Small numbers take half a byte, larger ones as many as they need."""
        assert _pack(path).hex() == expected.ljust(24, "0")

    @PATIENT
    @given(st.text(), LEVELS, PROCESSES)
    def test_all_pass_for_activity_paths(self, task_uuid, level, process_id):
        """The checksum is right for whatever task, place and process there is."""
        made = activity_id(task_uuid, level, process_id)
        assert len(made) == 16
        assert is_activity_path(made, process_id)
        assert numbers(made)[0] == 1


class TestPlace:
    """What an id says."""

    def test_place_can_be_read(self):
        """The path ends in the action's place in its task."""
        root, child = (activity_id(TASK, level, 77) for level in [(), (2, 13, 4)])
        assert numbers(child) == [*numbers(root), 2, 13, 4]

    def test_depth(self):
        """Fourteen levels fit where places are small."""
        level = [10] * 14
        assert numbers(activity_id(TASK, level, 77))[2:] == level

    def test_too_deep(self):
        """A place that does not fit has a path of its own, and so has its neighbour."""
        deep, neighbour = [(*[1] * 30, last) for last in (1, 2)]
        made = {activity_id(TASK, level, 77) for level in [deep, neighbour, deep[:-1]]}
        assert [3, 3, 3] == [len(numbers(one)) for one in made]

    @pytest.mark.parametrize("level", [(1 << 32,), (-1,)])
    def test_numbers_that_no_path_can_have(self, level):
        """A damaged level gets an id too."""
        assert is_activity_path(activity_id(TASK, level, 77), 77)

    def test_task_that_is_no_text(self):
        """A lone surrogate in the task's name does no harm."""
        assert is_activity_path(activity_id("\ud800", (), 77), 77)


class TestMemory:
    """What is kept of the ids."""

    def test_long_names(self):
        """A task whose name is a megabyte has an id, and is forgotten."""
        before = [kept.cache_info().currsize for kept in (_made, _root)]
        assert is_activity_path(activity_id("x" * 10**6, (2,), 77), 77)
        assert before == [kept.cache_info().currsize for kept in (_made, _root)]


class TestSame:
    """Who computes an id anew gets the same."""

    @PATIENT
    @given(LEVELS)
    def test_level_of_any_type(self, level):
        """A list from a message and a tuple from an action give the same."""
        assert activity_id(TASK, level, 77) == activity_id(TASK, tuple(level), 77)

    def test_stays_the_same(self):
        """The ids in traces of old can be computed for ever."""
        expected = "1f0ec8374d0000000000000045a06591"
        assert expected == activity_id(TASK, (), 2140).hex()

    def test_other_process(self):
        """The first 12 bytes are the same in another process, and only these."""
        one, other = (activity_id(TASK, (2,), process_id) for process_id in (77, 78))
        assert one[:12] == other[:12]
        assert one[12:] == pack("<I", unpack("<I", other[12:])[0] ^ 77 ^ 78)

    def test_other_task(self):
        """The same place in another task has another id."""
        assert activity_id(TASK, (2,), 77) != activity_id("other", (2,), 77)
