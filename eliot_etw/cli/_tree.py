"""``eliot-etw tree``: the tasks of a log as trees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import click

from eliot_etw._names import TASK_UUID
from eliot_etw._program import printable
from eliot_etw.cli._input import Input, files_argument
from eliot_etw.typing import MessageDict
from eliot_etw.viewers import _conditions as conditions
from eliot_etw.viewers._forest import Forest, Task
from eliot_etw.viewers._nodes import Node, Selector
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._text import Clock
from eliot_etw.viewers._tree import TreeText
from eliot_etw.viewers._tree_json import tree_json

if TYPE_CHECKING:
    from eliot_etw.viewers._where import Where

_LIMIT: Final = 300

_EPILOG = """\b
Examples:
  eliot-etw tree app.log
      Everything, each task when it is finished.
  eliot-etw tree --failed --context app.log
      What failed, and what it was part of.
  eliot-etw tree -f status=404 --type 'http:*' client.log server.log.gz
      From two logs, as one tree.
  eliot-etw tree --where 'duration > 0.5 and not failed' --since 10m app.log
      What was slow in the last ten minutes.
  eliot-etw tree --json app.log | jq .task
      For programs: one line of JSON for each tree.

\b
Reading the tree:
  ✓ succeeded   ✗ failed   ◌ has no end   · message   ┄ something is missing
  → begins what the end of an action logged. ◂ marks a slow action: one that
  took --slow or longer, and within it one that took at least half of its time.
"""

_Option = Callable[[Any], Any]
_F = TypeVar("_F", bound=Callable[..., Any])

_SELECTION: Final[tuple[_Option, ...]] = (
    click.option("--failed", is_flag=True, help="Failed actions, and logged tracebacks."),
    click.option("--task", metavar="PREFIX", help="Tasks whose task_uuid begins so."),
    click.option(
        "--type", "types", metavar="GLOB", multiple=True, help="By type; several: any of them."
    ),
    click.option(
        "--since", metavar="TIME", help="Began or ended since: ISO 8601, or 10m, 2h, 1d."
    ),
    click.option("--until", metavar="TIME", help="Began or ended until."),
    click.option("--min-duration", metavar="TIME", help="Took at least: 250ms, 1.5s, 2m."),
    click.option(
        "-f",
        "--field",
        "fields",
        metavar="KEY=VALUE",
        multiple=True,
        help="Has the field: text, number or glob; several: all of them. "
        "KEY may lead into objects: request.method=GET.",
    ),
    click.option(
        "--where",
        metavar="EXPR",
        help="An expression is true. Its names are the fields (None if missing), and type, "
        "status, failed, duration, timestamp, level, depth, task; fields['x'] is any field.",
    ),
    click.option(
        "--context", is_flag=True, help="Show, too, the actions that lead to what is selected."
    ),
)
_APPEARANCE: Final[tuple[_Option, ...]] = (
    click.option(
        "-F", "--follow", is_flag=True, help="Go on reading, like tail -F; see what is running."
    ),
    click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object a tree."),
    click.option(
        "--slow", metavar="TIME", default="1s", show_default=True, help="From when on it is slow."
    ),
    click.option("--full", is_flag=True, help="Show everything: long values whole, ids of spans."),
    click.option("--utc", is_flag=True, help="Show times in UTC instead of local time."),
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        help="auto: by the terminal, NO_COLOR and FORCE_COLOR.",
    ),
    click.option(
        "--width",
        type=click.IntRange(0),
        help="Columns; 0: never break lines. Default: by the terminal.",
    ),
)


def _options(command: _F) -> _F:
    """Give the command all options, in the order of their lists."""
    for option in reversed(_SELECTION + _APPEARANCE):
        command = option(command)
    return command


_HELP = """\
Show the tasks of a log as trees.

Each action is one line, with what it contains below it: time, duration, whether it
succeeded, type, fields. What failed says why. What is incomplete says what is missing.

Options select actions and messages in the finished tree; all that are given must
be true of the same one. A selected action is shown with all that is within it, a selected
message with the action around it. --context adds the actions above, up to the task.
"""


@click.command(name="tree", help=_HELP, epilog=_EPILOG)
@files_argument
@_options
def command(files: tuple[str, ...], **options: Any) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    try:
        return partial(_Program(files, options).run, options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@final
class _Program:
    """One run of the command.

    Args:
        files: What to read.
        options: What the command line says.

    Raises:
        ValueError: If an option's value cannot be understood.
    """

    def __init__(self, files: tuple[str, ...], options: dict[str, Any]) -> None:
        self._where = _where(options["where"])
        self._selector = _selector(options, self._where)
        self._slow_s = conditions.seconds(options["slow"])
        self._input = Input(files)
        self._prefix: str = options["task"] or ""
        self._shown = False

    def run(self, options: dict[str, Any]) -> int:
        """Read everything, and draw it."""
        follows = options["follow"]
        screen = Screen(color=options["color"], width=options["width"])
        tree = TreeText(
            screen,
            Clock(utc=options["utc"]),
            slow_s=self._slow_s,
            limit=0 if options["full"] else _LIMIT,
        )
        draw = tree_json if options["as_json"] else tree.draw

        def show(task: Task) -> None:
            nodes = task.nodes(self._selector, context=options["context"])
            for text in draw(task.uuid, nodes):
                self._shown = True
                screen.write(text)

        if follows and "-" not in self._input.files:
            from eliot_etw.cli._follow import follow  # noqa: PLC0415 - seldom needed
            from eliot_etw.viewers._running import RunningView  # noqa: PLC0415 - seldom needed

            view = None if options["as_json"] else RunningView(screen, tree)
            follow(self._input, screen, show, view, self._is_wanted)
        else:
            self._read(show, screen, follows=follows)
        screen.flush()
        return self._finish()

    def _read(self, show: Callable[[Task], None], screen: Screen, *, follows: bool) -> None:
        """Read to the end."""
        messages = filter(self._is_wanted, self._input) if self._prefix else self._input
        with closing(Forest(hold_bytes=0) if follows else Forest()) as forest:
            for message in messages:
                for task in forest.add(message):
                    show(task)
                    if follows:
                        screen.flush()
            for task in forest.rest():
                show(task)

    def _is_wanted(self, message: MessageDict) -> bool:
        """Say whether a message is of a wanted task: whole tasks can be left out at once."""
        uuid: str = message[TASK_UUID]
        return uuid.startswith(self._prefix)

    def _finish(self) -> int:
        """Report what could not be done."""
        where = self._where
        if where and where.failures:
            click.echo(
                f"eliot-etw: --where failed for some actions or messages ({where.failures:,}), "
                f"which were not selected: {printable(where.first_failure)}",
                err=True,
            )
        return self._input.finish(self._shown)


def _where(text: str | None) -> Where | None:
    """Understand the expression, if there is one."""
    if text is None:
        return None
    from eliot_etw.viewers._where import Where  # noqa: PLC0415 - seldom needed

    try:
        return Where(text)
    except ValueError as error:
        msg = f"--where must be an expression, got {text!r}: {error}."
        raise ValueError(msg) from None


def _selector(options: dict[str, Any], where: Where | None) -> Selector | None:
    """Combine what the options say."""
    chosen: list[Selector] = []
    if options["failed"]:
        chosen.append(_has_failed)
    if options["types"]:
        chosen.append(conditions.has_type(options["types"]))
    since, until = (
        None if options[name] is None else conditions.moment(options[name], utc=options["utc"])
        for name in ("since", "until")
    )
    if since is not None or until is not None:
        chosen.append(conditions.is_within(since, until))
    if options["min_duration"] is not None:
        chosen.append(conditions.takes_at_least(conditions.seconds(options["min_duration"])))
    chosen += map(conditions.has_field, options["fields"])
    if where:
        chosen.append(where)
    return conditions.all_of(chosen)


def _has_failed(node: Node) -> bool:
    return node.has_failed
