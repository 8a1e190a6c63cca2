"""The command ``eliot-etw``: reads logs, and shows what a program did. One file for each verb."""

from __future__ import annotations

import io
import sys
from functools import partial

from eliot_etw._program import run_program
from eliot_etw._require import require
from eliot_etw.exceptions import MissingDependency

__all__ = ["main"]


def main() -> int:
    """Run the command that ``sys.argv`` says.

    Returns:
        The exit status: 0; 1 if the output could not be written; 2 for a wrong call, a missing
        package or a file that could not be read; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What an encoding cannot say is said by its number; it is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    return run_program(partial(_run, sys.argv[1:]), sys.stdout)


def _run(arguments: list[str]) -> int:
    """Run a command; what is missing is said in one line."""
    try:
        require("click", feature="The command eliot-etw", extra="cli")
        from eliot_etw.cli._commands import run  # noqa: PLC0415 - it needs click

        return run(arguments)
    except MissingDependency as error:
        sys.stderr.write(f"eliot-etw: {error}\n")
        return 2
