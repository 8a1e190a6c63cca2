"""What our command-line programs share: what they may print, and how they end."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import TextIO

from eliot_etw._safe import safe_str

# What a shell reports of a program that Ctrl-C (signal 2) ended.
INTERRUPTED = 128 + 2
# Windows says EINVAL for a pipe that is being closed, too.
_CLOSED_PIPE = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}


def printable(value: object) -> str:
    r"""Return the text of something, with escapes in place of what is not printed but obeyed.

    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    """
    text = safe_str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def run_program(program: Callable[[], int], stdout: TextIO | None) -> int:
    """Run a program that writes to standard output; end it without a traceback.

    Args:
        program: Returns the exit status.
        stdout: Where it writes. Flushed at the end. None, as Python has it if standard output was
            closed before it started, is output that cannot be written.

    Returns:
        The exit status: the program's; 0 if the reader of a pipe has seen enough; 1 if the output
        cannot be written, which is said on standard error; `INTERRUPTED` after Ctrl-C.
    """
    if stdout is None:
        return _cannot_write(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        status = program()
        stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        _give_up(stdout)
        if error.errno in _CLOSED_PIPE:
            return 0
        return _cannot_write(error)
    return status


def _cannot_write(error: OSError) -> int:
    """Say what is wrong with the output, and return the exit status."""
    sys.stderr.write(f"{Path(sys.argv[0]).name}: cannot write: {error.strerror or error}\n")
    return 1


def _give_up(stdout: TextIO) -> None:
    """Write what is left to nowhere: the interpreter tries once more when it exits."""
    # A standard output that was replaced may be no file of the operating system.
    with suppress(UnsupportedOperation), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stdout.fileno())
