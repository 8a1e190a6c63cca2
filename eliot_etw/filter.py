"""Line by line through a log with a Python expression: ``python -m eliot_etw.filter EXPRESSION``.

The expression is run as what it is: code, with all the rights of the user who typed it. Never
take one from anybody else. `eliot-etw tree --where` has a language that is safe for that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from json import dumps
from typing import Any, TextIO

from eliot_etw._json import decode_line
from eliot_etw._program import printable, run_program
from eliot_etw.json import json_default

__all__ = ["EliotFilter", "USAGE", "main"]

USAGE = """\
Usage: cat eliot.log | python -m eliot_etw.filter <expression>

Evaluates a Python expression for each line of JSON on standard input, and
writes what comes out as a line of JSON to standard output.

The expression can use:

    J                    the line, decoded
    datetime, timedelta  the classes of Python's datetime module
    SKIP                 as the result: write nothing for this line

It is code, and can do whatever you can: do not use one that you do not trust.
A line that is not JSON, or for which the expression fails, is reported on
standard error and left out; the exit status is 1 then.

Examples:

    Everything:
        python -m eliot_etw.filter J < eliot.log

    One field of one type of message:
        python -m eliot_etw.filter \\
            "J['size'] if J.get('message_type') == 'app:sent' else SKIP" < eliot.log
"""


class EliotFilter:
    """A Python expression over each line of a log.

    Args:
        expr: The expression. It is executed: see the module.
        incoming: Lines of JSON, as bytes or text.
        output: Where the results are written, one line of JSON each.
        errors: Where lines that failed are reported; standard error if None.

    Raises:
        SyntaxError: If the expression is not one.
    """

    _SKIP = object()

    def __init__(
        self,
        expr: str,
        incoming: Iterable[bytes | str],
        output: TextIO,
        errors: TextIO | None = None,
    ) -> None:
        self.code = compile(expr, "<expression>", "eval")
        self.incoming = incoming
        self.output = output
        self.errors = errors

    def run(self) -> int:
        """Evaluate the expression for each line, and write the results.

        Returns:
            For how many lines it failed. Each is reported with its number, the others are
            written.
        """
        failures = 0
        for number, line in enumerate(self.incoming, 1):
            try:
                result = self._evaluate(decode_line(_as_bytes(line)))
                text = None if result is self._SKIP else dumps(result, default=json_default)
            except Exception as error:  # noqa: BLE001 - the user's expression may raise anything
                failures += 1
                reason = f"{type(error).__name__}: {printable(error)}"
                (self.errors or sys.stderr).write(f"line {number}: {reason}\n")
                continue
            if text is not None:
                self.output.write(text + "\n")
        return failures

    def _evaluate(self, message: Any) -> Any:
        """Evaluate the expression for one decoded line."""
        # As globals and not as locals, which a comprehension inside the expression does not see.
        names = {"J": message, "datetime": datetime, "timedelta": timedelta, "SKIP": self._SKIP}
        return eval(self.code, names)  # noqa: S307 - what this program is for


def _as_bytes(line: bytes | str) -> bytes:
    return line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line


def main(sys: Any = sys) -> int:
    """Filter standard input to standard output by the expression on the command line.

    Args:
        sys: Where ``argv``, ``stdin``, ``stdout`` and ``stderr`` are found.

    Returns:
        The exit status: 1 if the call was wrong or a line failed.
    """
    if len(sys.argv) != 2:
        sys.stderr.write(USAGE)
        return 1
    incoming = getattr(sys.stdin, "buffer", sys.stdin)
    try:
        lines = EliotFilter(sys.argv[1], incoming, sys.stdout, sys.stderr)
    except (SyntaxError, ValueError) as error:
        sys.stderr.write(f"The expression must be valid Python, got {sys.argv[1]!r}: {error}\n")
        return 1
    return run_program(partial(_filter_all, lines, sys.stderr), sys.stdout)


def _filter_all(lines: EliotFilter, errors: TextIO) -> int:
    failures = lines.run()
    if failures:
        errors.write(f"{failures} lines failed and were left out.\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
