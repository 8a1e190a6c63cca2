"""``eliot-etw stats``: a log in numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import click

from eliot_etw._program import printable
from eliot_etw._require import require
from eliot_etw.cli._input import Input, files_argument
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._stats import ActionStats, Stats
from eliot_etw.viewers._text import Clock, duration_text, safe_json

_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

# By what the table can be sorted; the largest come first.
_ORDERS: Final[dict[str, Callable[[ActionStats], float]]] = {
    "total": lambda stats: stats.durations.total,
    "count": lambda stats: stats.count,
    "failed": lambda stats: stats.failed,
    "incomplete": lambda stats: stats.no_end + stats.no_start,
    "p99": lambda stats: stats.durations.at(_SHARES["p99"]) or 0.0,
    "max": lambda stats: stats.durations.longest,
}

_EPILOG = """\b
JSON has the shape
  {"count", "first", "last",
   "actions": {TYPE: {"count", "failed", "no_start", "no_end", "total",
                      "p50", "p90", "p99", "max"}},
   "messages": {TYPE: count}}
with times in seconds.
"""

_HELP = """\
Show how often each type of action occurred and failed, and how long it took.

Percentiles are exact for up to 200 actions of a type, and within 1% beyond that.
"""


@click.command(name="stats", help=_HELP, epilog=_EPILOG)
@files_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option(
    "--sort",
    type=click.Choice(list(_ORDERS)),
    default="total",
    show_default=True,
    help="What comes first.",
)
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="As for tree."
)
@click.option("--utc", is_flag=True, help="Show times in UTC instead of local time.")
def command(files: tuple[str, ...], **options: Any) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    return partial(_run, Input(files), options)


def _run(source: Input, options: dict[str, Any]) -> int:
    """Read everything, then show the numbers."""
    stats = Stats()
    for message in source:
        stats.add(message)
    stats.finish()
    order = _ORDERS[options["sort"]]
    stats.actions = dict(sorted(stats.actions.items(), key=lambda item: -order(item[1])))
    stats.messages = dict(sorted(stats.messages.items(), key=lambda item: -item[1]))
    if options["as_json"]:
        sys.stdout.write(safe_json(_as_json(stats)) + "\n")
    elif stats.count:
        _show(stats, options)
    return source.finish(stats.count > 0)


def _as_json(stats: Stats) -> dict[str, Any]:
    """Give the numbers in the shape that the help describes."""
    return {
        "count": stats.count,
        "first": stats.first,
        "last": stats.last,
        "actions": {
            name: {
                "count": action.count,
                "failed": action.failed,
                "no_start": action.no_start,
                "no_end": action.no_end,
                "total": action.durations.total,
                **{share: action.durations.at(_SHARES[share]) for share in _SHARES},
                "max": action.durations.longest if action.durations.count else None,
            }
            for name, action in stats.actions.items()
        },
        "messages": stats.messages,
    }


def _show(stats: Stats, options: dict[str, Any]) -> None:
    """Draw the tables."""
    console: Any = require("rich.console", feature="eliot-etw stats", extra="cli")
    screen = Screen(color=options["color"])
    output = console.Console(
        # A table that nobody looks at needs no room but its own.
        width=screen.width or 10_000,
        color_system="standard" if screen.has_colour else None,
        force_terminal=screen.has_colour,
        safe_box=not screen.has_unicode,
        highlight=False,
    )
    clock = Clock(utc=options["utc"])
    # Written by the screen, as of all verbs: on a closed pipe, rich would exit with status 1.
    with output.capture() as captured:
        if stats.first is not None and stats.last is not None:
            span = duration_text(stats.last - stats.first)
            begun = f"{clock.date(stats.first)} {clock.time(stats.first)}"
            output.print(f"{stats.count:,} messages in {span}, from {begun}", soft_wrap=True)
        if stats.actions:
            output.print(_actions(stats))
        if stats.messages:
            output.print(_messages(stats))
    screen.write(captured.get())
    screen.flush()


def _table(title: str, columns: Iterable[str]) -> Any:
    """Begin a table of numbers."""
    tables: Any = require("rich.table", feature="eliot-etw stats", extra="cli")
    boxes: Any = require("rich.box", feature="eliot-etw stats", extra="cli")
    table = tables.Table(box=boxes.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _actions(stats: Stats) -> Any:
    """Make the table of actions; a number that is zero is left out."""
    text: Any = require("rich.text", feature="eliot-etw stats", extra="cli")
    table = _table("action", ["count", "failed", "incomplete", *_SHARES, "max", "total"])
    for name, action in stats.actions.items():
        incomplete = action.no_start + action.no_end
        durations = action.durations
        times = [*map(durations.at, _SHARES.values()), durations.longest, durations.total]
        table.add_row(
            text.Text(printable(name), style="bold"),
            f"{action.count:,}",
            text.Text(f"{action.failed:,}" if action.failed else "", style="bold red"),
            text.Text(f"{incomplete:,}" if incomplete else "", style="yellow"),
            *(
                "" if time is None or not durations.count else duration_text(time)
                for time in times
            ),
        )
    return table


def _messages(stats: Stats) -> Any:
    """Make the table of messages."""
    text: Any = require("rich.text", feature="eliot-etw stats", extra="cli")
    table = _table("message", ["count"])
    for name, count in stats.messages.items():
        table.add_row(text.Text(printable(name), style="cyan"), f"{count:,}")
    return table
