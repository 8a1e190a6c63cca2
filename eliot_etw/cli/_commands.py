"""The verbs of ``eliot-etw`` by name, each imported when it is called, and how they all end."""

from __future__ import annotations

from importlib import import_module

import click

from eliot_etw import __version__
from eliot_etw._program import printable

_VERBS = (
    "collect",
    "convert",
    "etl",
    "etw",
    "filter",
    "keys",
    "level",
    "pretty",
    "stats",
    "tree",
)

_EPILOG = """\b
Examples:
  eliot-etw tree app.log
  eliot-etw tree --failed --since 1h app.log.2.gz app.log.1 app.log
  eliot-etw tree --follow app.log
  eliot-etw stats app.log
  eliot-etw tree trace.etl
  eliot-etw tree journal:unit=shop.service,since=-1h
  eliot-etw tree 'sqlite:messages.sqlite?search=timeout'
  eliot-etw tree --follow 'redis://127.0.0.1:6379/0?stream=eliot'
  eliot-etw collect --config collector.yaml
  eliot-etw level 'app.db*' debug --for 10m
  eliot-etw convert app.log -o app.etl
"""


class _Verbs(click.Group):
    """A group that knows its commands' names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = import_module(f"eliot_etw.cli._{cmd_name}").command
        return command


_HELP = """\
Show what a program did: the tree of actions in its Eliot log.

A log is a file of JSON lines, plain or compressed (gzip, xz, zstd), Eliot's or
OpenTelemetry's (OTLP), or a trace of Windows (.etl). Several files are read as one log, by
time. Without a file, or for "-", standard input is read.

What is stored elsewhere is read by its name in place of a file: journal:, sqlite:PATH,
redis://HOST:PORT/DB, nats://HOST:PORT, clickhouse://HOST:PORT/DB, mongodb://HOST:PORT/DB,
zmq+sub:ENDPOINT.
"""


@click.group(
    cls=_Verbs,
    help=_HELP,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="eliot-etw")
@click.pass_context
def eliot_etw(context: click.Context) -> None:
    """Show the help, if there is no verb."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: list[str]) -> int:
    """Run a command line; what is wrong with it is said in one line.

    Returns:
        The exit status.
    """
    try:
        # A verb only looks at its options, and returns what is to be run: outside of click, which
        # has ideas of its own of how to end after Ctrl-C or on a closed pipe.
        program = eliot_etw.main(arguments, prog_name="eliot-etw", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        click.echo(f"eliot-etw: {printable(error.format_message())} See --help.", err=True)
        return error.exit_code
    status: int = program() if callable(program) else program or 0
    return status
