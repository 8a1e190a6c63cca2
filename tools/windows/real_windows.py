"""Record our events with the tools of a real Windows, and compare who reads what in them.

`python tools/windows/real_windows.py FOLDER` needs Windows, and an administrator: logman starts
sessions. A sample program logs to EtwDestination, EtwHandler, EtlFileDestination and a file of
JSON. Then it is compared

* what our reader finds in the sessions' traces with what was logged,
* what tracerpt finds in them with what our reader finds,
* what both find in the trace that we wrote ourselves with what was logged,

and while the sessions run, ``eliot-etw etw doctor`` has to find nothing that stands in the way.
All traces and reports stay in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from xml.etree import ElementTree as ET

from eliot_etw import add_destinations, log_message, start_action, start_task, to_file
from eliot_etw.destinations.etl import EtlFileDestination
from eliot_etw.destinations.etw import EtwDestination
from eliot_etw.etw import activity_id, message_of, provider_guid, read_etl
from eliot_etw.etw._records import EtlEvent
from eliot_etw.stdlib import EtwHandler

PROVIDER = "eliot-etw-real"
LOGGER = "eliot-etw-real.stdlib"
MESSAGES, RECORDS = "messages.etl", "records.etl"  # what the sessions write
OURS = "ours.etl"  # what we write
LOGGED = "logged.json"  # what was logged
THREADS, MESSAGES_OF_A_THREAD, LOG_RECORDS = 4, 100, 20
# Room for an event of 64 KiB in each buffer; buffers enough to lose none.
SESSION_OPTIONS = ("-bs", "128", "-nb", "16", "64", "-ct", "perf")
_XML = "{http://schemas.microsoft.com/win/2004/08/events/event}"


class Event(NamedTuple):
    """An event as somebody reads it."""

    name: str
    fields: list[tuple[str, Any]]
    level: int
    opcode: int
    activity_id: UUID | None
    related_activity_id: UUID | None

    def key(self) -> tuple[str, ...]:
        """Return what names the event among all that are compared."""
        found = dict(self.fields)
        return tuple(str(found.get(name, "")) for name in ("task_uuid", "task_level", "msg"))


class Findings:
    """What was compared, and what was different."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def compare(self, what: str, expected: Any, found: Any) -> None:
        """Note whether two things are equal."""
        if expected != found:
            self.problems.append(f"{what}: expected {expected!a:.300}, found {found!a:.300}")

    def say(self, what: str, before: int) -> None:
        """Print how a comparison came out. `before` is how many problems there were before it."""
        new = self.problems[before:]
        print(f"{'DIFFERENT' if new else 'same     '} {what}")
        for problem in new[:10]:
            print(f"    {problem}")  # ASCII: the console may have no more
        if len(new) > 10:
            print(f"    ... and {len(new) - 10} more")


# ---- the program that is recorded ---------------------------------------------------------------


def log_sample(folder: Path) -> None:
    """Log messages and records of all kinds, when told to by a line on standard input."""
    etw, handler = EtwDestination(PROVIDER), EtwHandler()
    etl = EtlFileDestination(folder / OURS, provider_name=PROVIDER)
    to_file(folder / LOGGED)
    add_destinations(etw, etl)
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    logger.propagate = False
    print("ready", flush=True)
    sys.stdin.readline()
    _log_messages()
    for number in range(LOG_RECORDS):
        logger.info("record %d", number, extra={"number": number, "is_even": number % 2 == 0})
    etl.close()
    counts = {"messages": etw.stats(), "records": handler.stats()}
    etw.close()
    handler.close()
    print(json.dumps(counts))


def _log_messages() -> None:
    """Log trees of actions, from several threads, with values of all kinds."""
    with start_task(action_type="real:tree", path="C:\\a b", number=-1):
        log_message("real:values", text="text", empty="", flag=True, whole=2**40, part=0.25)
        log_message(
            "real:more", huge=10**30, none=None, accents="aé€😀", items=[1, "two"], data={}
        )
        try:
            with start_action(action_type="real:fails", rows=3):
                raise LookupError("no such row")
        except LookupError:
            log_message("real:after")

    def work(thread: int) -> None:
        with start_task(action_type="real:thread", thread=thread):
            for number in range(MESSAGES_OF_A_THREAD):
                log_message("real:step", number=number, text="x" * number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log_message("real:long", text="x" * 60_000)


# ---- recording ----------------------------------------------------------------------------------


def run(*command: str | Path) -> None:
    """Run one of Windows's tools.

    Raises:
        RuntimeError: If it failed; with what it said.
    """
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        msg = f"{' '.join(map(str, command))} ended with {done.returncode}: {said}"
        raise RuntimeError(msg)


@contextmanager
def session(name: str, provider: UUID, trace: Path) -> Iterator[None]:
    """Record what a provider writes, at all levels and with all keywords."""
    everything = ("-p", f"{{{provider}}}", "0xffffffffffffffff", "0xff")
    run("logman", "start", name, *everything, "-o", trace, *SESSION_OPTIONS, "-ets")
    try:
        yield
    finally:
        run("logman", "stop", name, "-ets")


def record(findings: Findings, folder: Path, *, is_session_first: bool) -> None:
    """Run the sample program with two sessions.

    Args:
        findings: Where to note what was not as it should be.
        folder: Where to put the traces and what was logged.
        is_session_first: Whether providers are registered when sessions listen already, or have
            to be told later that one does.

    Raises:
        RuntimeError: If a tool or the program failed.
    """
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, "--log", str(folder)]
    with ExitStack() as sessions:

        def listen() -> None:
            for name, trace in ((PROVIDER, MESSAGES), (LOGGER, RECORDS)):
                sessions.enter_context(session(name, provider_guid(name), folder / trace))

        if is_session_first:
            listen()
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdin is not None  # noqa: S101 - for the types: they are pipes
            assert program.stdout is not None  # noqa: S101
            if program.stdout.readline() != "ready\n":
                msg = "The sample program did not start."
                raise RuntimeError(msg)
            if not is_session_first:
                listen()
            _ask_doctor(findings)
            program.stdin.write("\n")
            program.stdin.close()
            said = program.stdout.read()
        if program.returncode:
            msg = f"The sample program ended with {program.returncode}."
            raise RuntimeError(msg)
    print(said.strip())
    refused = {kind: counts["failed"] for kind, counts in json.loads(said).items()}
    findings.compare("events that Windows refused", {"messages": 0, "records": 0}, refused)


def _ask_doctor(findings: Findings) -> None:
    """Have it looked who listens to the sample program, which is being recorded."""
    command = [sys.executable, "-m", "eliot_etw.cli", "etw", "doctor", PROVIDER]
    environment = os.environ | {"PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    said = (done.stdout + done.stderr).decode()
    print(said.encode("ascii", "backslashreplace").decode())
    findings.compare("what doctor ended with", 0, done.returncode)


# ---- reading ------------------------------------------------------------------------------------


def read_ours(trace: Path, provider: str) -> list[EtlEvent]:
    """Read a provider's events with our reader."""
    guid = provider_guid(provider)
    return [event for event in read_etl(trace) if event.provider_id == guid]


def as_event(event: EtlEvent) -> Event:
    """Return an event as our reader decodes it."""
    decoded = event.decode()
    return Event(
        decoded.name,
        decoded.fields,
        event.level,
        event.opcode,
        event.activity_id,
        event.related_activity_id,
    )


def read_with_tracerpt(trace: Path, provider: str) -> list[Event]:
    """Have tracerpt make a report, and return a provider's events in it; all values are text.

    Raises:
        RuntimeError: If it failed.
    """
    report = trace.with_suffix(".xml")
    run("tracerpt", trace, "-o", report, "-of", "XML", "-y")
    return parse_report(report.read_bytes(), provider_guid(provider))


def parse_report(report: bytes, provider: UUID) -> list[Event]:
    """Return a provider's events in a report of tracerpt's."""
    text = report.decode(
        "utf-16" if report[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace"
    )
    # Without the declaration, whose encoding is not that of the text any more.
    text = text.partition("?>")[2] if text.lstrip().startswith("<?xml") else text
    events = ET.fromstring(text).iter(f"{_XML}Event")  # noqa: S314 - Windows's own tool wrote it
    return [_reported(event) for event in events if _guid(event, "Provider", "Guid") == provider]


def _reported(event: ET.Element) -> Event:
    data = [
        (item.get("Name", ""), item.text or "")
        for item in event.iterfind(f"{_XML}EventData/{_XML}Data")
    ]
    return Event(
        # It pads names with blanks.
        (event.findtext(f"{_XML}RenderingInfo/{_XML}Task") or "").strip(),
        data,
        int(event.findtext(f"{_XML}System/{_XML}Level") or 0),
        int(event.findtext(f"{_XML}System/{_XML}Opcode") or 0),
        _guid(event, "Correlation", "ActivityID"),
        _guid(event, "Correlation", "RelatedActivityID"),
    )


def _guid(event: ET.Element, element: str, attribute: str) -> UUID | None:
    """Return a GUID from the head of an event; None if there is none, or only zeros."""
    found = event.find(f"{_XML}System/{_XML}{element}")
    text = "" if found is None else found.get(attribute, "")
    return UUID(text) if text.strip("{}0-") else None


# ---- comparing ----------------------------------------------------------------------------------


def compare_messages(findings: Findings, events: Sequence[EtlEvent], logged: Path) -> None:
    """Compare the messages that our reader makes of events with those that were logged."""
    expected = [json.loads(line) for line in logged.read_text("utf-8").splitlines()]
    found = [message_of(event) or {} for event in events]
    findings.compare("number of messages", len(expected), len(found))
    by_place = {_place(message): message for message in found}
    for message in expected:
        findings.compare(f"message {_place(message)}", message, by_place.get(_place(message)))
    for event, message in zip(events, found, strict=True):
        if message:
            *level, _ = message["task_level"]
            expected_id = activity_id(message["task_uuid"], level, event.process_id)
            findings.compare(
                f"activity of {_place(message)}", UUID(bytes_le=expected_id), event.activity_id
            )


def _place(message: dict[str, Any]) -> tuple[Any, ...]:
    return (message.get("task_uuid"), *message.get("task_level", ()))


def compare_records(findings: Findings, events: Sequence[EtlEvent]) -> None:
    """Compare the log records in events with those that were logged."""
    expected = [(f"record {n}", n, n % 2 == 0, "INFO", 4) for n in range(LOG_RECORDS)]
    found = []
    for event in events:
        fields = event.decode().as_dict()
        names = ("msg", "number", "is_even", "levelname")
        found.append((*(fields.get(name) for name in names), event.level))
    findings.compare("log records", expected, found)


def compare_readers(findings: Findings, ours: Sequence[Event], theirs: Sequence[Event]) -> None:
    """Compare what our reader and tracerpt make of the same events."""
    findings.compare("number of events", len(ours), len(theirs))
    by_key = {event.key(): event for event in theirs}
    for event in ours:
        other = by_key.get(event.key())
        if other is None:
            findings.problems.append(f"{event.name!a} {event.key()!a}: tracerpt has no such event")
            continue
        names = [name for name, _ in event.fields]
        findings.compare(f"fields of {event.name!a}", names, [name for name, _ in other.fields])
        findings.compare(
            f"head of {event.name!a}", event._replace(fields=[]), other._replace(fields=[])
        )
        for (name, value), (_, text) in zip(event.fields, other.fields, strict=False):
            if not is_same(value, text):
                findings.compare(f"{name} of {event.name!a}", value, text)


def is_same(value: Any, text: str) -> bool:
    """Say whether a text of tracerpt's stands for a value, as far as we know how it writes it."""
    text = text.strip()
    try:
        if isinstance(value, bool):
            return text.lower() in ({"true", "1"} if value else {"false", "0"})
        if isinstance(value, int):
            return int(text, 0) == value
        if isinstance(value, float):
            return isclose(float(text), value, rel_tol=1e-5, abs_tol=1e-5)
    except ValueError:
        return False
    if isinstance(value, str) and value.isascii() and value.isprintable():
        return text == value.strip()
    # Bytes, times, and what XML cannot have, or one code page has not: it is there, at least.
    return True


def compare_all(findings: Findings, folder: Path) -> None:
    """Compare everything that one run of the sample program left."""
    messages, records = read_ours(folder / MESSAGES, PROVIDER), read_ours(folder / RECORDS, LOGGER)
    own = read_ours(folder / OURS, PROVIDER)
    traces = ((MESSAGES, PROVIDER, messages), (RECORDS, LOGGER, records), (OURS, PROVIDER, own))

    before = len(findings.problems)
    compare_messages(findings, messages, folder / LOGGED)
    findings.say("messages in the session's trace, and those that were logged", before)

    before = len(findings.problems)
    compare_records(findings, records)
    findings.say("log records in the session's trace, and those that were logged", before)

    before = len(findings.problems)
    compare_messages(findings, own, folder / LOGGED)
    findings.say("messages in the trace that we wrote, and those that were logged", before)

    for name, provider, events in traces:
        before = len(findings.problems)
        theirs = read_with_tracerpt(folder / name, provider)
        compare_readers(findings, list(map(as_event, events)), theirs)
        findings.say(f"{name} as tracerpt reads it, and as we do", before)


def _read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where traces and reports go: a new folder")
    parser.add_argument("--log", action="store_true", help="only be the sample program")
    return parser.parse_args()


def main() -> int:
    """Record twice, compare everything, and return 0 if nothing was different."""
    options = _read_arguments()
    if sys.platform != "win32":
        print(f"real_windows.py: needs Windows, this is {sys.platform}.", file=sys.stderr)
        return 2
    if options.log:
        log_sample(options.folder)
        return 0
    findings = Findings()
    for is_session_first in (True, False):
        kind = "session-first" if is_session_first else "program-first"
        print(f"\n{kind}")
        before = len(findings.problems)
        record(findings, options.folder / kind, is_session_first=is_session_first)
        findings.say("what was recorded, and that nothing stood in its way", before)
        compare_all(findings, options.folder / kind)
    print(f"\n{len(findings.problems)} differences")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
