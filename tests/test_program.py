"""Tests of what the small command-line programs share."""

import errno
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._program import INTERRUPTED, printable, run_program


@given(st.text())
def test_printable(text):
    """What comes out is printable, and what was printable comes out unchanged."""
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) == text.isprintable()


def test_printable_shows_what_was_there():
    """An escape names the character that it stands for."""
    assert printable("\x1b[2J\x07\u202e\ud800") == r"\x1b[2J\x07\u202e\ud800"


def test_status_of_the_program():
    """The exit status is the program's own."""
    assert run_program(lambda: 3, io.StringIO()) == 3


def test_interrupt():
    """Ctrl-C is the status that shells know, not a traceback."""

    def interrupted():
        raise KeyboardInterrupt

    assert run_program(interrupted, io.StringIO()) == INTERRUPTED


def test_closed_pipe():
    """A reader that went away is no failure, also when only the last flush finds it out."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        assert run_program(lambda: pipe.write("for nobody") and 0, pipe) == 0


def test_other_failures_are_raised():
    """A full disk is not a closed pipe."""

    def full():
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        run_program(full, io.StringIO())
