"""Tests of levels and task ids: what is written is what is read back, and nothing else is."""

import contextlib
import os
import subprocess
import sys
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._task_level import TaskLevel, new_task_uuid, parse_task_id
from eliot_etw.exceptions import EliotError, InvalidTaskID

positions = st.lists(st.integers(min_value=1), max_size=8)
inner_positions = st.lists(st.integers(min_value=1), min_size=1, max_size=8)
names = st.text(st.characters(max_codepoint=127, exclude_characters="@"), min_size=1)


class TestTaskLevel:
    """A place as a value."""

    @given(positions)
    def test_text_round_trip(self, level):
        """The text of a level is read back as that level."""
        assert TaskLevel(level) == TaskLevel.from_string(TaskLevel(level).to_string())

    @given(positions)
    def test_list_round_trip(self, level):
        """The list that a message carries makes the level again, also when given by name."""
        assert level == TaskLevel(level).as_list()
        assert TaskLevel(level) == TaskLevel(level=level)

    @given(positions)
    def test_persistent_vector(self, level):
        """`level` holds the positions, as Eliot's does."""
        assert level == list(TaskLevel(level).level)

    @given(positions, positions)
    def test_order(self, one, two):
        """Levels are ordered as their positions are, which is the order of logging."""
        assert (one < two) == (TaskLevel(one) < TaskLevel(two))
        assert (one == two) == (TaskLevel(one) == TaskLevel(two))

    @given(positions)
    def test_equal_levels_hash_alike(self, level):
        """Equal levels are one key of a dict."""
        assert {TaskLevel(level): 1} == {TaskLevel(tuple(level)): 1}

    @given(positions)
    def test_child_and_parent(self, level):
        """The parent of a level's first child is the level, and comes before it."""
        level = TaskLevel(level)
        assert level == level.child().parent()
        assert level < level.child()

    @given(inner_positions)
    def test_next_sibling(self, level):
        """The next sibling comes after, after all that is within, and has the same parent."""
        level = TaskLevel(level)
        sibling = level.next_sibling()
        assert level < level.child() < sibling
        assert level.is_sibling_of(sibling)
        assert level.parent() == sibling.parent()

    @given(inner_positions)
    def test_not_a_sibling(self, level):
        """What is within a level is no sibling of it."""
        level = TaskLevel(level)
        assert not level.is_sibling_of(level.child())

    def test_root_has_no_parent(self):
        """The root is the only level without a parent."""
        assert TaskLevel().parent() is None
        assert TaskLevel([7]).parent() == TaskLevel()

    @pytest.mark.parametrize("text", ["/x", "/1/two", "1.5"])
    def test_text_that_is_no_level(self, text):
        """Text with anything but whole numbers is refused."""
        with pytest.raises(ValueError, match="invalid literal"):
            TaskLevel.from_string(text)

    def test_repr_makes_it_again(self):
        """The repr is an expression for the level."""
        assert TaskLevel([2, 3]) == eval(repr(TaskLevel([2, 3])))

    def test_spellings_of_eliot(self):
        """Eliot's names for reading and writing the text do the same."""
        assert TaskLevel.fromString("/2/3").toString() == "/2/3"


class TestParseTaskID:
    """A task id as it travels from process to process."""

    @given(names, inner_positions)
    def test_round_trip(self, name, level):
        """A task id is read back as the task and the level that it was made of."""
        task_id = name + "@" + TaskLevel(level).to_string()
        assert (name, TaskLevel(level)) == parse_task_id(task_id)
        assert (name, TaskLevel(level)) == parse_task_id(task_id.encode("ascii"))

    @pytest.mark.parametrize(
        "task_id",
        [
            "",
            "@",
            "nonsense",
            "@/1",
            "x@",
            "x@/",
            "x@//",
            "x@1",
            "x@/0",
            "x@/-1",
            "x@/1/0/1",
            "x@/1.0",
            "x@/one",
            "x@/1@/2",
            "x@/\u0661",
            "x@/" + "9" * 5_000,
            b"\xff@/1",
            "é@/1",
            None,
            7,
            ["x@/1"],
        ],
    )
    def test_hostile(self, task_id):
        """Anything else is refused, with words that say what it must look like."""
        with pytest.raises(InvalidTaskID, match=r"must look like '<task_uuid>@/<n>/<n>', got"):
            parse_task_id(task_id)

    @given(st.text() | st.binary())
    def test_nothing_else_is_raised(self, task_id):
        """Whatever the text, it is a task id or an `InvalidTaskID`."""
        with contextlib.suppress(InvalidTaskID):
            name, level = parse_task_id(task_id)
            assert name
            assert min(level) > 0

    def test_caught_as_value_error(self):
        """The error is one of ours, and the built-in one that callers expect."""
        assert issubclass(InvalidTaskID, EliotError)
        assert issubclass(InvalidTaskID, ValueError)


class TestNewTaskUUID:
    """Names for new tasks."""

    def test_version_and_variant(self):
        """Each is a random UUID of RFC 9562 in its usual spelling, whatever the dice say."""
        for _ in range(500):
            text = new_task_uuid()
            parsed = UUID(text)
            assert (4, RFC_4122, text) == (parsed.version, parsed.variant, str(parsed))

    def test_all_the_bits_that_may_differ_do(self):
        """The 122 free bits are random: each is seen both as 0 and as 1."""
        seen = [UUID(new_task_uuid()).int for _ in range(500)]
        ones, zeros = 0, 0
        for value in seen:
            ones |= value
            zeros |= ~value
        fixed = 0xF << 76 | 0x3 << 62
        assert (1 << 128) - 1 - fixed == ones & zeros & ((1 << 128) - 1)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    @pytest.mark.parametrize(
        "fork",
        [
            "os.fork",
            pytest.param(
                "ctypes.PyDLL(None).fork",
                marks=pytest.mark.skipif(
                    sys.platform != "linux", reason="only Linux wipes memory in forked children"
                ),
            ),
        ],
    )
    def test_unique_in_forked_children(self, fork):
        """Children make names of their own, also of a server that forks without telling Python."""
        program = (
            "import ctypes, os\n"
            "from eliot_etw._task_level import new_task_uuid\n"
            f"fork = {fork}\n"
            "def names():\n"
            "    os.write(1, ''.join(new_task_uuid() + '\\n' for _ in range(50)).encode())\n"
            "names()\n"
            "children = []\n"
            "for _ in range(4):\n"
            "    pid = fork()\n"
            "    if not pid:\n"
            "        names()\n"
            "        if not fork():\n"
            "            names()\n"
            "            os._exit(0)\n"
            "        os.wait()\n"
            "        os._exit(0)\n"
            "    children.append(pid)\n"
            "for pid in children:\n"
            "    os.waitpid(pid, 0)\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=60, check=True
        )
        assert len(set(result.stdout.split())) == 450


@pytest.mark.parametrize(
    "level", ["/+1", "/1_0", "/ 1", "/1 ", "/-1", "/1//2", "//1", "/1/", "/٣"]
)
def test_a_position_of_a_task_id_is_written_in_plain_digits(level):
    """What `int` would take, but `serialize_task_id` never writes, is no task id."""
    with pytest.raises(InvalidTaskID, match="must look like"):
        parse_task_id("0b9c@" + level)
