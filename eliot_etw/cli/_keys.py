"""``eliot-etw keys``: makes the keys by which collectors and senders know each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from eliot_etw.cli._input import say

_HELP = """\
Make keys for collectors and senders.

\b
Examples:
  eliot-etw keys new collector --folder /etc/eliot-etw
  eliot-etw keys new web-1

The first makes the collector's own, the second those of a sender. A collector takes messages from
whose public key, NAME.key, is in the folder that its option `keys` names; NAME.key_secret stays
where it is used.
"""


@click.group(name="keys", help=_HELP, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show the help, if there is no verb."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command(name="new")
@click.argument("name")
@click.option(
    "--folder", type=click.Path(), default=".", show_default=True, help="Where to put the files."
)
def _new(name: str, folder: str) -> Callable[[], int]:
    """Make a pair: NAME.key is public, NAME.key_secret is nobody else's."""
    return partial(_make, name, Path(folder))


def _make(name: str, folder: Path) -> int:
    from eliot_etw.collector._keys import make_keys  # noqa: PLC0415 - it needs packages

    try:
        public, secret = make_keys(folder, name)
    except (ValueError, OSError) as error:
        say(f"eliot-etw: {error}")
        return 2
    click.echo(f"public: {public}")
    click.echo(f"secret: {secret}")
    return 0
