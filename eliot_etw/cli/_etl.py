"""``eliot-etw etl``: what is in traces, event by event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final, final

import click

from eliot_etw._program import printable
from eliot_etw.cli._input import say, say_of_trace, trace_of_standard_input
from eliot_etw.etw import DecodedEvent, EtlEvent, InType, OutType, read_etl
from eliot_etw.etw._json_values import iso_time, json_value
from eliot_etw.etw._records import EPOCH, TICKS_PER_SECOND
from eliot_etw.etw._schema import Field
from eliot_etw.exceptions import InvalidTrace
from eliot_etw.sources._common_schema import Metrics, is_metrics
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._text import one_line, safe_json, width_of

_LIMIT: Final = 300
_LEVELS: Final = {1: "critical", 2: "error", 3: "warning", 4: "info", 5: "verbose"}
_OPCODES: Final = {
    0: "info", 1: "start", 2: "stop", 3: "dc-start", 4: "dc-stop", 5: "extension", 6: "reply",
    7: "resume", 8: "suspend", 9: "send", 240: "receive",
}  # fmt: skip
_OUT_TYPES: Final = frozenset(OutType)
_INDENT: Final = "    "

_EPILOG = """\b
Examples:
  eliot-etw etl dump trace.etl
  eliot-etw etl dump --provider 'My*' --name '*Error*' trace.etl
  eliot-etw etl dump --json trace.etl | jq .fields

\b
JSON has the shape
  {"time", "ticks", "provider", "provider_guid", "group", "name", "id", "version", "level",
   "opcode", "task", "keyword", "channel", "tags", "pid", "tid", "cpu", "activity", "related",
   "fields": {NAME: value}, "types": {NAME: type}, "rest"}
with the time in UTC, and ticks of 100 ns since 1601. The second field of a name is NAME#2.
"""

_HELP = "Look into traces of Event Tracing for Windows (.etl), on any system."


@click.group(name="etl", help=_HELP, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show the help, if there is no verb."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_DUMP_HELP = """\
Show every TraceLogging event of traces, with all that is known of it.

Files are shown one after the other. "eliot-etw tree" makes one story of them.
"""


@command.command(name="dump", help=_DUMP_HELP, epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object an event.")
@click.option("--provider", metavar="GLOB", help="Of providers with such a name or GUID.")
@click.option("--name", metavar="GLOB", help="Events with such a name.")
@click.option("--full", is_flag=True, help="Show long values whole.")
@click.option("--utc", is_flag=True, help="Show times in UTC instead of local time.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="auto: by the terminal, NO_COLOR and FORCE_COLOR.",
)
def dump(files: tuple[str, ...], **options: Any) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    return partial(_dump, files, options)


def _dump(files: tuple[str, ...], options: dict[str, Any]) -> int:
    """Show the events of each file."""
    screen = Screen(color=options["color"])
    write = _as_json if options["as_json"] else _Text(screen, options).of
    is_wanted = _wanted(options)
    metrics = Metrics(lambda problem: say(f"eliot-etw: {problem}"))
    unreadable: list[str] = []
    count = 0
    for name in files:
        for event, decoded in _events(name, unreadable):
            if is_wanted(event, decoded):
                count += 1
                screen.write(write(event, decoded, _fields(event, decoded, metrics)))
    screen.flush()
    if not count and not unreadable:
        say("eliot-etw: Nothing to show: there are no such TraceLogging events.")
    return 2 if unreadable else 0


def _events(name: str, unreadable: list[str]) -> Iterator[tuple[EtlEvent, DecodedEvent]]:
    """Read a file as far as possible, and report what went wrong then."""
    is_input = name == "-"
    name = "<stdin>" if is_input else name
    try:
        reader = read_etl(trace_of_standard_input() if is_input else name)
        yield from reader.decoded()
    except (OSError, InvalidTrace) as error:
        unreadable.append(name)
        say(f"eliot-etw: {name}: {getattr(error, 'strerror', None) or error}")
    else:
        say_of_trace(name, reader.skipped + reader.header.lost, reader.problems)


def _fields(event: EtlEvent, decoded: DecodedEvent, metrics: Metrics) -> dict[str, Any]:
    """Return the fields of an event; of one that has metrics, what is known of these."""
    if not is_metrics(event, decoded):
        fields: dict[str, Any] = json_value(decoded.as_dict())
        return fields
    points = metrics.points(event, decoded)
    return points[0] if len(points) == 1 else {"points": points}


def _wanted(options: dict[str, Any]) -> Callable[[EtlEvent, DecodedEvent], bool]:
    """Combine the conditions; upper and lower case are one, as ETW has it."""
    provider, name = ((options[key] or "*").casefold() for key in ("provider", "name"))

    def is_wanted(event: EtlEvent, decoded: DecodedEvent) -> bool:
        names = (event.provider_name.casefold(), str(event.provider_id))
        return any(fnmatchcase(one, provider.strip("{}")) for one in names) and fnmatchcase(
            decoded.name.casefold(), name
        )

    return is_wanted


@final
class _Text:
    """Writes events for people: what and when, then the fields."""

    def __init__(self, screen: Screen, options: dict[str, Any]) -> None:
        self._screen = screen
        self._limit = 0 if options["full"] else _LIMIT
        self._zone = time.gmtime if options["utc"] else time.localtime
        self._date_format = "%Y-%m-%d UTC" if options["utc"] else "%Y-%m-%d %Z"
        self._date = ""

    def of(self, event: EtlEvent, decoded: DecodedEvent, fields: dict[str, Any]) -> str:
        """Write an event on as many lines as it needs."""
        look = self._screen.palette
        date, clock = self._when(event.ticks)
        heading = ""
        if date != self._date:
            self._date = date
            heading = f"{look.strong}{date}{look.off}\n"
        provider = printable(event.provider_name) or f"{{{event.provider_id}}}"
        kind = _OPCODES.get(event.opcode, f"opcode {event.opcode}")
        level = _LEVELS.get(event.level, f"level {event.level}")
        style = look.bad if event.level in (1, 2) else look.warning if event.level == 3 else ""
        first = [
            f"{look.faint}{clock}{look.off}",
            f"{provider}/{look.strong}{printable(decoded.name)}{look.off}",
            *([kind] if event.opcode else []),
            f"{style}{level}{look.off if style else ''}",
            *(f"{look.key}{name}={look.off}{value}" for name, value in _ids(event)),
        ]
        if decoded.rest and not is_metrics(event, decoded):
            fields = {**fields, "(rest)": decoded.rest.hex()}
        return f"{heading}{' '.join(first)}\n{''.join(self._lines(fields))}"

    def _when(self, ticks: int) -> tuple[str, str]:
        """Write the date, and the time with all its digits."""
        seconds, fraction = divmod(ticks - EPOCH, TICKS_PER_SECOND)
        try:
            moment = self._zone(seconds)
            return (
                time.strftime(self._date_format, moment),
                f"{time.strftime('%H:%M:%S', moment)}.{fraction:07}",
            )
        except (ValueError, OverflowError, OSError):
            return "", str(ticks)

    def _lines(self, fields: dict[str, Any]) -> Iterator[str]:
        """Put as many fields on a line as fit it; one that is longer goes on as it is."""
        look, width = self._screen.palette, self._screen.width
        line, used = "", 0
        for name, found in fields.items():
            key, value = printable(name), one_line(found, self._limit)
            size = width_of(key) + width_of(value) + 2
            if line and width and len(_INDENT) + used + size > width:
                yield f"{_INDENT}{line.rstrip()}\n"
                line, used = "", 0
            line += f"{look.key}{key}={look.off}{value} "
            used += size
        if line:
            yield f"{_INDENT}{line.rstrip()}\n"


def _ids(event: EtlEvent) -> Iterator[tuple[str, str]]:
    """Give where an event comes from, and what it belongs to."""
    yield "pid", str(event.process_id)
    yield "tid", str(event.thread_id)
    yield "cpu", str(event.cpu)
    if event.keyword:
        yield "keyword", f"{event.keyword:#x}"
    if event.activity_id:
        yield "activity", str(event.activity_id)
    if event.related_activity_id:
        yield "related", str(event.related_activity_id)


def _as_json(event: EtlEvent, decoded: DecodedEvent, fields: dict[str, Any]) -> str:
    """Write an event as one line of JSON."""
    ids = {
        "group": event.provider_group,
        "activity": event.activity_id,
        "related": event.related_activity_id,
    }
    shown: dict[str, Any] = {
        "time": iso_time(event.ticks),
        "ticks": event.ticks,
        "provider": event.provider_name,
        "provider_guid": str(event.provider_id),
        "name": decoded.name,
        "id": event.id,
        "version": event.version,
        "level": event.level,
        "opcode": event.opcode,
        "task": event.task,
        "keyword": event.keyword,
        "channel": event.channel,
        "tags": decoded.tags,
        "pid": event.process_id,
        "tid": event.thread_id,
        "cpu": event.cpu,
        **{name: None if guid is None else str(guid) for name, guid in ids.items()},
        "fields": fields,
        "types": json_value(_types(decoded)),
        "rest": decoded.rest.hex(),
    }
    return safe_json(shown) + "\n"


def _types(decoded: DecodedEvent) -> dict[str, Any]:
    """Name the types of an event's fields as the fields are named."""
    kinds = tuple(map(_type_of, decoded.schema.fields))
    return DecodedEvent(decoded.schema, kinds, b"").as_dict()


def _type_of(field: Field) -> Any:
    """Name the type of a field; of a struct those of its members."""
    is_many = field.is_array or field.fixed_count > 0
    if field.members:
        members = tuple(map(_type_of, field.members))
        return [members] if is_many else members
    kind = InType(field.in_type).name
    if field.out_type:
        is_known = field.out_type in _OUT_TYPES
        kind += f" {OutType(field.out_type).name if is_known else field.out_type}"
    if field.custom is not None:
        return f"{kind} custom"
    return f"{kind}[{field.fixed_count or ''}]" if is_many else kind
