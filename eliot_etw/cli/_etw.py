"""``eliot-etw etw``: help with recording a provider's events on Windows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5
from xml.sax.saxutils import quoteattr

import click

from eliot_etw._names import REMOTE_TASK
from eliot_etw._program import printable
from eliot_etw.cli._input import say
from eliot_etw.etw import provider_guid
from eliot_etw.etw._doctor import diagnose
from eliot_etw.etw._message_layout import ACTION, FALLBACK_NAMES
from eliot_etw.viewers._screen import Screen

# Types that actions of any program may have, besides its own.
_ANY_PROGRAMS_TYPES: Final = (REMOTE_TASK, FALLBACK_NAMES[1])
# What needs no quotes, neither in cmd nor in PowerShell.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]+").fullmatch
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9_.-]+")

_HELP = """\
Help with recording events of a provider on Windows.

NAME is what the program calls its provider: EtwDestination("NAME").
"""


@click.group(name="etw", help=_HELP, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show the help, if there is no verb."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _named(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """Check the name of a provider."""
    try:
        provider_guid(name)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    if not name.isprintable():
        msg = f"a provider's name must have no control characters, got {name!r}."
        raise click.BadParameter(msg, context, parameter)
    return name


_name_argument = click.argument("name", callback=_named)

_INFO_HELP = "Show the GUID of a provider, and what to type on Windows to record its events."


@command.command(name="info", help=_INFO_HELP)
@_name_argument
@click.option("--guid", "only_guid", is_flag=True, help="Only the GUID, for scripts.")
def info(name: str, *, only_guid: bool) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    return partial(_write, f"{provider_guid(name)}\n" if only_guid else _instructions(name))


def _write(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _instructions(name: str) -> str:
    """Say what to type, tool by tool."""
    guid = provider_guid(name)
    short = _short(name)
    # Tools make the GUID of a name with a star, but a shell may have ideas about odd names.
    is_plain = bool(_PLAIN(name))
    known_by = f"*{name}" if is_plain else str(guid)
    guid_or_name = known_by if is_plain else f"#{guid}"
    return f"""\
{printable(name)} has the GUID {guid}

Type one of these as an administrator, or as a member of "Performance Log Users".

logman, which comes with Windows:
  logman start {short} -p "{{{guid}}}" 0xFFFFFFFFFFFFFFFF 5 -o {short}.etl -ets
  logman stop {short} -ets

tracelog, from the Windows Driver Kit:
  tracelog -start {short} -guid "{guid_or_name}" -level 5 -f {short}.etl
  tracelog -stop {short}

wpr, which comes with Windows 10 (wpa, which shows the trace, does not):
  eliot-etw etw profile {name if is_plain else "NAME"}
  wpr -start {short}.wprp -filemode
  wpr -stop {short}.etl

PerfView:
  PerfView "/OnlyProviders={known_by}" /Zip:false /DataFile:{short}.etl start
  PerfView stop

Then, on any system:
  eliot-etw tree {short}.etl
or on Windows:
  tracerpt {short}.etl -o {short}.xml -of XML -y
  wpa {short}.etl
  PerfView {short}.etl
"""


def _short(name: str) -> str:
    """Make the name of a session and of files of that of a provider."""
    return _NOT_PLAIN.sub("_", name)


_PROFILE_HELP = """\
Write a profile for wpr (NAME.wprp), and regions for wpa (NAME.regions.xml).

Regions are what wpa draws as bars from the start to the end of an action; it wants to know
each type of actions beforehand.
"""


@command.command(name="profile", help=_PROFILE_HELP)
@_name_argument
@click.option(
    "--type", "types", metavar="TYPE", multiple=True,
    help="A type of actions to be drawn as regions; several: each of them.",
)  # fmt: skip
@click.option(
    "-o", "--output", "folder", metavar="FOLDER", default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where to write.",
)  # fmt: skip
def profile(name: str, *, types: tuple[str, ...], folder: Path) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    for kind in types:
        if not kind.isprintable() or not kind:
            msg = f"--type must be the type of an action, got {kind!r}."
            raise click.UsageError(msg)
    files = {
        f"{_short(name)}.wprp": _profile(name),
        f"{_short(name)}.regions.xml": _regions(name, (*types, *_ANY_PROGRAMS_TYPES)),
    }
    return partial(_write_files, {folder / file: text for file, text in files.items()}, types)


def _write_files(files: dict[Path, str], types: tuple[str, ...]) -> int:
    """Write files that are not there yet."""
    for path, text in files.items():
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            say(f"eliot-etw: {path} is there already; remove it, or choose a folder with -o.")
            return 2
        except OSError as error:
            say(f"eliot-etw: {path}: {error.strerror}")
            return 2
        sys.stdout.write(f"{printable(path)}\n")
    if not types:
        say("eliot-etw: Name your types of actions by --type: wpa wants to know each of them.")
    return 0


def _profile(name: str) -> str:
    """Make a profile for wpr: this provider, to a file or to memory."""
    return f"""\
<?xml version="1.0" encoding="utf-8"?>
<WindowsPerformanceRecorder Version="1.0" Author="eliot_etw">
  <Profiles>
    <EventCollector Id="Collector" Name={quoteattr(name)}>
      <BufferSize Value="256"/>
      <Buffers Value="64"/>
    </EventCollector>
    <EventProvider Id="Provider" Name="{provider_guid(name)}" NonPagedMemory="true" Level="5">
      <Keywords>
        <Keyword Value="0x0"/>
      </Keywords>
    </EventProvider>
{"".join(_modes(name))}\
  </Profiles>
</WindowsPerformanceRecorder>
"""


def _modes(name: str) -> Iterator[str]:
    """Make the two forms of a profile that wpr asks for: to a file, and to memory."""
    for mode in ("File", "Memory"):
        yield f"""\
    <Profile Id="Actions.Verbose.{mode}" Name="Actions" DetailLevel="Verbose"
             LoggingMode="{mode}" Description={quoteattr(f"The events of {name}")}>
      <Collectors>
        <EventCollectorId Value="Collector">
          <EventProviders>
            <EventProviderId Value="Provider"/>
          </EventProviders>
        </EventCollectorId>
      </Collectors>
    </Profile>
"""


def _regions(name: str, types: tuple[str, ...]) -> str:
    """Make regions for wpa: the actions of each type, which have a field that names them."""
    guid = provider_guid(name)
    return f"""\
<?xml version="1.0" encoding="utf-8"?>
<InstrumentationManifest>
  <Instrumentation>
    <Regions>
      <RegionRoot Guid="{{{uuid5(guid, "regions")}}}" Name={quoteattr(name)}>
{"".join(_region(guid, kind) for kind in dict.fromkeys(types))}\
      </RegionRoot>
    </Regions>
  </Instrumentation>
</InstrumentationManifest>
"""


def _region(guid: UUID, kind: str) -> str:
    event = f'Event Provider="{{{guid}}}" Name={quoteattr(kind)}'
    return f"""\
        <Region Guid="{{{uuid5(guid, f"region {kind}")}}}" Name={quoteattr(kind)}>
          <Start><{event} Opcode="1"/></Start>
          <Stop><{event} Opcode="2"/></Stop>
          <Match><Event><Payload FieldName="{ACTION}"/></Event></Match>
          <Naming><PayloadBased NameField="action_type"/></Naming>
        </Region>
"""


_DOCTOR_HELP = """\
Find out, on Windows, why nothing of a provider is recorded.

Is it registered, who listens to it, and what stands in the way? The exit status is 1 if
anything is wrong.
"""


@command.command(name="doctor", help=_DOCTOR_HELP)
@_name_argument
def doctor(name: str) -> Callable[[], int]:
    """Look at the options, and return what is to be run."""
    return partial(_diagnose, name)


def _diagnose(name: str) -> int:
    """Show what is found out."""
    findings = diagnose(name)
    if sys.platform != "win32":
        say(f"eliot-etw: {findings[0].text}")
        return 2
    screen = Screen(color="auto")
    look = screen.palette
    for finding in findings:
        style, sign = (
            (look.good, screen.signs.good) if finding.is_good else (look.bad, screen.signs.bad)
        )
        screen.write(f"{style}{sign}{look.off} {printable(finding.text)}\n")
        if finding.advice:
            screen.write(f"  {printable(finding.advice)}\n")
    screen.flush()
    return 0 if all(finding.is_good for finding in findings) else 1
