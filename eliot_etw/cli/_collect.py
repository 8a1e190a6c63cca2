"""``eliot-etw collect``: takes messages from many programs, and stores them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from eliot_etw.cli._input import say

_HELP = """\
Take messages from many programs, and store them.

Without --config, it takes what programs on this machine ship with ZmqDestination, and writes it to
a file of JSON lines and to a database of SQLite, in a state folder; it says where.

SIGHUP has it read the configuration again; with a mistake in it, the old one stays. SIGTERM and
Ctrl-C end it in order: what has arrived is stored, and acknowledged.
"""


@click.command(name="collect", help=_HELP)
@click.option("--config", type=click.Path(), help="A YAML file that says what to do.")
@click.option("--state", type=click.Path(), help="The folder for what must outlive a restart.")
@click.option("--check", is_flag=True, help="Only check its names, types and routes.")
def command(config: str | None, state: str | None, *, check: bool) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    return partial(_run, config, state, check)


def _run(config: str | None, state: str | None, check: bool) -> int:
    # Not before: they need packages, and take time to import.
    from eliot_etw.collector._config import (  # noqa: PLC0415
        default_settings,
        default_state,
        read_settings,
    )
    from eliot_etw.collector._service import run  # noqa: PLC0415
    from eliot_etw.exceptions import InvalidSettings  # noqa: PLC0415

    folder = Path(state).absolute() if state else None
    if config is None:
        read = partial(default_settings, folder or default_state())
    else:
        read = partial(read_settings, Path(config).absolute(), folder)
    if not check:
        return run(read, say)
    try:
        read()
    except (InvalidSettings, OSError) as error:
        say(f"eliot-etw: {error}")
        return 2
    return 0
