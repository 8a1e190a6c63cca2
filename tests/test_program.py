"""Tests of what the small command-line programs share."""

import errno
import io
import os
import subprocess
import sys

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


def test_output_that_cannot_be_written(monkeypatch, capsys):
    """A full disk is said in one line, and the status is that of a failure."""

    def full():
        raise OSError(errno.ENOSPC, "No room")

    monkeypatch.setattr("sys.argv", ["/usr/bin/app"])
    assert run_program(full, io.StringIO()) == 1
    assert capsys.readouterr().err == "app: cannot write: No room\n"


def test_output_that_was_closed_before(monkeypatch, capsys):
    """Where there is no standard output, nothing is done for it, and that is said in one line."""
    monkeypatch.setattr("sys.argv", ["/usr/bin/app"])
    assert run_program(lambda: sys.exit("must not be started"), None) == 1
    assert capsys.readouterr().err == f"app: cannot write: {os.strerror(errno.EBADF)}\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_no_traceback_on_a_full_disk():
    """The interpreter has nothing to complain about either when it exits."""
    program = "from eliot_etw._program import run_program as r; import sys; sys.argv = ['app']; "
    program += "exit(r(lambda: sys.stdout.write('x' * 10) and 0, sys.stdout))"
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert result.stderr.startswith(b"app: cannot write: ")
