"""``eliot-etw filter``: a log through a Python expression."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import click

from eliot_etw._json import encode_line
from eliot_etw.cli._input import Input, files_argument
from eliot_etw.filter import EliotFilter

_EPILOG = """\b
In the expression, J is the message, datetime and timedelta are Python's, and
SKIP as the result writes nothing for this message.

\b
Examples:
  eliot-etw filter "J if J.get('status') == 404 else SKIP" app.log
  eliot-etw filter "J['timestamp']" app.log.gz
"""

_HELP = """\
Write what a Python expression makes of each message, as JSON.

The expression is run with all your rights: never use one that you do not trust.
"eliot-etw tree --where" has a language that is safe.
"""


@click.command(name="filter", help=_HELP, epilog=_EPILOG)
@click.argument("expression")
@files_argument
def command(expression: str, files: tuple[str, ...]) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    source = Input(files)
    try:
        lines = EliotFilter(expression, map(encode_line, source), sys.stdout, sys.stderr)
    except (SyntaxError, ValueError) as error:
        msg = f"The expression must be valid Python, got {expression!r}: {error}"
        raise click.UsageError(msg) from None
    return partial(_run, lines, source)


def _run(lines: EliotFilter, source: Input) -> int:
    """Write all results."""
    failures = lines.run()
    return source.finish() or (1 if failures else 0)
