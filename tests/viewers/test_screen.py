"""Tests of what is known of the place to which output goes."""

import io
import os
import sys

import pytest

from eliot_etw.exceptions import MissingDependency
from eliot_etw.viewers._screen import Screen

pytest.importorskip("rich")

console = pytest.mark.skipif(os.name == "nt", reason="on Windows the console is asked: none here")


class Terminal(io.TextIOWrapper):
    """A stream that says that it is a terminal."""

    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")

    def isatty(self):
        return True


def plain(encoding="utf-8"):
    """Make a stream that is no terminal."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Give each test a usual terminal, whatever the tests run in."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return monkeypatch


@console
def test_terminal_has_colour():
    """A terminal gets colours."""
    assert Screen(Terminal(), color="auto").has_colour


def test_file_has_none():
    """A file or a pipe gets none."""
    assert not Screen(plain(), color="auto").has_colour


def test_no_color(environment):
    """NO_COLOR takes them from a terminal."""
    environment.setenv("NO_COLOR", "1")
    assert not Screen(Terminal(), color="auto").has_colour


def test_force_color(environment):
    """FORCE_COLOR gives them to a pipe."""
    environment.setenv("FORCE_COLOR", "1")
    assert Screen(plain(), color="auto").has_colour


def test_dumb_terminal(environment):
    """A terminal that cannot do it gets none."""
    environment.setenv("TERM", "dumb")
    assert not Screen(Terminal(), color="auto").has_colour


def test_command_line_has_the_last_word(environment):
    """What was asked for is done, whatever the surroundings say."""
    environment.setenv("NO_COLOR", "1")
    assert Screen(plain(), color="always").has_colour
    environment.delenv("NO_COLOR")
    assert not Screen(Terminal(), color="never").has_colour


def test_colour_is_what_the_palette_writes():
    """Without colours no style writes anything."""
    assert set(vars(Screen(plain(), color="never").palette).values()) == {""}
    assert all(vars(Screen(plain(), color="always").palette).values())


@console
def test_width_of_a_terminal(environment):
    """COLUMNS counts on a terminal."""
    environment.setenv("COLUMNS", "57")
    assert Screen(Terminal()).width == 57


def test_width_of_a_file(environment):
    """Lines in a file are never broken, so that a search finds whole ones."""
    environment.setenv("COLUMNS", "57")
    assert Screen(plain()).width == 0


def test_width_that_was_asked_for(environment):
    """Even on a terminal."""
    environment.setenv("COLUMNS", "57")
    assert [Screen(Terminal(), width=width).width for width in (0, 33)] == [0, 33]


@console
def test_changed_width(environment):
    """A terminal may be made wider while something is shown."""
    environment.setenv("COLUMNS", "57")
    screen = Screen(Terminal())
    environment.setenv("COLUMNS", "99")
    screen.measure()
    assert screen.width == 99


def test_signs():
    """Where the encoding has no boxes, ASCII stands for them."""
    ascii_signs = vars(Screen(plain("ascii")).signs)
    assert "".join(ascii_signs.values()).isascii()
    assert Screen(plain("latin-1")).signs.fork == "|- "
    assert Screen(plain("utf-8")).signs.fork == "├─ "


def test_signs_are_as_wide_as_each_other():
    """The columns of the tree are the same in ASCII."""
    for name in ("fork", "last", "pass_by"):
        widths = {len(getattr(Screen(plain(code)).signs, name)) for code in ("ascii", "utf-8")}
        assert widths == {3}


def test_written_at_the_latest_when_flushed():
    """Nothing is kept back after a flush."""
    stream = plain()
    screen = Screen(stream)
    screen.write("one\n")
    before = stream.buffer.getvalue()
    screen.flush()
    assert (before, stream.buffer.getvalue()) == (b"", b"one\n")


def test_not_everything_is_kept():
    """Much text is written before the flush."""
    stream = plain()
    screen = Screen(stream)
    for _ in range(100):
        screen.write("x" * 1000)
    assert len(stream.buffer.getvalue()) > 50_000


def test_rich_is_not_installed(monkeypatch):
    """Only a terminal needs rich, and says so."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    Screen(plain(), color="auto")
    with pytest.raises(MissingDependency, match=r"^Output to a terminal needs the package 'rich'"):
        Screen(Terminal(), color="auto")
