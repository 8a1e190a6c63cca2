"""``eliot-etw pretty``: a log one message at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from eliot_etw.cli._input import Input, files_argument
from eliot_etw.prettyprint import compact_format, pretty_format
from eliot_etw.viewers._screen import Screen

_HELP = "Show the messages of a log one at a time, in the order of their time."


@click.command(name="pretty", help=_HELP)
@files_argument
@click.option("-c", "--compact", is_flag=True, help="One line for each message.")
@click.option("-l", "--local-timezone", is_flag=True, help="Show local time instead of UTC.")
def command(files: tuple[str, ...], *, compact: bool, local_timezone: bool) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    return partial(_run, Input(files), compact=compact, local_timezone=local_timezone)


def _run(source: Input, *, compact: bool, local_timezone: bool) -> int:
    """Write every message."""
    screen = Screen()
    form = compact_format if compact else pretty_format
    for message in source:
        screen.write(f"{form(message, local_timezone)}\n")
    screen.flush()
    return source.finish(source.count > 0)
