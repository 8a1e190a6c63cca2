"""``eliot-etw level``: changes what programs log while they run, for a while."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from eliot_etw._levels import NUMBERS, level_number
from eliot_etw._program import printable
from eliot_etw.cli._input import say
from eliot_etw.viewers._conditions import seconds

if TYPE_CHECKING:
    from eliot_etw.collector._control import LevelReport

_HELP = """\
Change what programs log while they run, for a while.

GLOB says which types of actions and messages, and which loggers; LEVEL is a name, or a number as
in logging. It reaches every program that ships to the collector and lets it drive its levels,
those too that connect later, and ends by itself.

\b
Examples:
  eliot-etw level 'app:db*' debug --for 10m
  eliot-etw level --process 'shop*' --host 'web-*' 'app:*' debug --for 1h
  eliot-etw level --list
  eliot-etw level --clear
"""
_NAMES: Final = {number: name for name, number in reversed(NUMBERS.items())}


@click.command(name="level", help=_HELP)
@click.argument("glob", required=False)
@click.argument("level", required=False)
@click.option(
    "--collector",
    metavar="ENDPOINT",
    default="tcp://127.0.0.1:5515",
    show_default=True,
    help="Where the collector listens.",
)
@click.option("--for", "for_", metavar="TIME", default="10m", show_default=True, help="How long.")
@click.option(
    "--process", metavar="GLOB", default="*", help="Only programs of this name, or process id."
)
@click.option("--host", metavar="GLOB", default="*", help="Only on these machines.")
@click.option("--list", "lists", is_flag=True, help="Show what is in force, and who confirmed it.")
@click.option("--clear", is_flag=True, help="End what is in force: all of it, or GLOB.")
@click.option("--server-key", type=click.Path(), help="The file with the collector's public key.")
@click.option("--secret-key", type=click.Path(), help="The file with our own secret key.")
def command(**options: Any) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    glob, level = options["glob"], options["level"]
    if options["lists"] and options["clear"]:
        raise click.UsageError("Either --list or --clear.")
    if (options["lists"] and glob) or (options["clear"] and level):
        raise click.UsageError("There is too much after that: give GLOB LEVEL, or an option.")
    if not options["lists"] and not options["clear"] and level is None:
        raise click.UsageError("Give GLOB and LEVEL: eliot-etw level 'app:*' debug")
    if glob == "" or not options["process"] or not options["host"]:
        raise click.UsageError("GLOB, --process and --host must not be empty; * is for all.")
    try:
        number = level_number(int(level) if level and level.lstrip("-").isdigit() else level)
        for_s = seconds(options["for_"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if level is not None and number is None:
        msg = f"LEVEL must be a number, or one of {', '.join(NUMBERS)}, got {level!r}."
        raise click.UsageError(msg)
    return partial(_run, options, number, for_s)


def _run(options: dict[str, Any], number: int | None, for_s: float) -> int:
    """Ask the collector, and show what it says."""
    from eliot_etw.collector import _control as control  # noqa: PLC0415 - they need packages
    from eliot_etw.collector._level_client import LevelClient  # noqa: PLC0415
    from eliot_etw.shipping._protocol import LevelRule  # noqa: PLC0415

    if not 0 < for_s <= control.MAX_FOR_S:
        say("eliot-etw: --for must be above 0, and at most 31 days. See --help.")
        return 2
    request: control.Request
    if options["lists"]:
        request = control.ListLevels()
    elif options["clear"]:
        request = control.ClearLevels(options["glob"] or "")
    else:
        rule = LevelRule(
            options["glob"], number or 0, int(for_s * 1000), options["process"], options["host"]
        )
        request = control.SetLevel(rule)
    try:
        client = LevelClient(
            options["collector"],
            server_key=options["server_key"],
            secret_key=options["secret_key"],
        )
        with closing(client):
            _show(client.ask(request))
    except (ValueError, OSError) as error:
        say(f"eliot-etw: {error}")
        return 2
    return 0


def _show(report: LevelReport) -> None:
    """Show what is in force, and at whom."""
    if not report.rules:
        click.echo("No levels are set.")
    for rule in report.rules:
        level = _NAMES.get(rule.level, str(rule.level))
        which = "".join(
            f" {name} {glob}"
            for name, glob in (("process", rule.program), ("host", rule.host))
            if glob != "*"
        )
        click.echo(
            printable(f"{rule.pattern} {level}{which}, {rule.remaining_ms / 1000:.0f}s left")
        )
    for sender in report.senders:
        is_new = sender.revision == report.revision
        said = f"{sender.matching} of them" if is_new else "not confirmed yet"
        click.echo(printable(f"  {sender.program} {sender.pid} on {sender.host}: {said}"))
