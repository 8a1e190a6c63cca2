"""What our small command-line programs share: what they may print, and how they end."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TextIO

from eliot_etw._safe import safe_str

# What a shell reports of a program that Ctrl-C (signal 2) ended.
INTERRUPTED = 128 + 2
# Windows says EINVAL where others say EPIPE.
_CLOSED_PIPE = {errno.EPIPE, errno.EINVAL}


def printable(value: object) -> str:
    r"""Return the text of something, with escapes in place of what is not printed but obeyed.

    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    """
    text = safe_str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def run_program(program: Callable[[], int], stdout: TextIO) -> int:
    """Run a program that writes to standard output; end quietly on a closed pipe or Ctrl-C.

    Args:
        program: Returns the exit status.
        stdout: Where it writes. Flushed at the end.

    Returns:
        The exit status: the program's; 0 if the reader of a pipe has seen enough;
        `INTERRUPTED` after Ctrl-C.

    Raises:
        OSError: If the output failed in any other way.
    """
    try:
        status = program()
        stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _CLOSED_PIPE:
            raise
        # The interpreter flushes standard output once more when it exits, and would report the
        # closed pipe then.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stdout.fileno())
        return 0
    return status
