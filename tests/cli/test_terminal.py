"""Tests of the command on a real terminal."""

import os
import re
import struct

import pytest

from eliot_etw._json import encode_line

fcntl = pytest.importorskip("fcntl", reason="needs pseudo-terminals")
termios = pytest.importorskip("termios", reason="needs pseudo-terminals")

LOG = encode_line(
    {
        "task_uuid": "a-task",
        "task_level": [1],
        "timestamp": 1_795_176_000,
        "message_type": "app:said",
        **{f"field{n}": "some text" for n in range(10)},
        "city": "東京" * 40,
        "combining": "e\u0301" * 90,
    }
)


@pytest.fixture
def terminal(start, tmp_path):
    """Return a function that runs a verb on a terminal of some width, and gives the lines."""
    path = tmp_path / "app.log"
    path.write_bytes(LOG)

    def terminal(*arguments, width=80, **environment):
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        unset = {"NO_COLOR": "", "FORCE_COLOR": "", "COLUMNS": "", "TERM": "xterm-256color"}
        program = start(*arguments, path, stdout=theirs, env=unset | environment)
        os.close(theirs)
        output = b""
        try:
            while data := os.read(ours, 65536):
                output += data
        except OSError:
            pass  # what Linux says when the other side is closed
        os.close(ours)
        assert program.wait(60) == 0
        return output.decode().replace("\r\n", "\n").splitlines()

    return terminal


def plain(lines):
    """Take the styles off."""
    return [re.sub("\x1b\\[[0-9;]*m", "", line) for line in lines]


def columns(line):
    """Count the columns that a line takes."""
    return sum(
        0 if character == "\u0301" else 2 if character in "東京" else 1 for character in line
    )


def test_colours(terminal):
    """A terminal gets colours, unless NO_COLOR says otherwise."""
    assert "\x1b[36mapp:said\x1b[0m" in "\n".join(terminal("tree"))
    assert "\x1b" not in "\n".join(terminal("tree", NO_COLOR="1"))
    assert "\x1b" not in "\n".join(terminal("tree", "--color", "never"))


@pytest.mark.parametrize("width", [60, 80, 133])
def test_width(terminal, width):
    """No line is wider than the terminal, whatever the letters are, and no room is wasted."""
    lines = plain(terminal("tree", width=width))
    widest = max(map(columns, lines))
    assert width - 2 <= widest <= width


def test_columns(terminal):
    """COLUMNS overrides what the terminal says."""
    assert max(map(columns, plain(terminal("tree", COLUMNS="100")))) in (99, 100)


def test_nothing_is_lost_by_breaking(terminal):
    """Broken lines hold what whole lines hold."""
    broken, whole = (
        re.sub(r"\s", "", "".join(plain(terminal("tree", "--width", width)))) for width in "70"
    )
    assert broken == whole


def test_stats(terminal):
    """The table fits, too."""
    assert max(map(columns, plain(terminal("stats", width=60)))) <= 60
