"""Tests of tools/windows/real_windows.py, as far as it goes without a real Windows."""

import json
from importlib import import_module
from uuid import UUID
from xml.sax.saxutils import escape, quoteattr

import pytest

from eliot_etw.etw import provider_guid
from tests.windows.conftest import TOOLS

START = """
import io, sys
sys.path.insert(0, "tools/windows")
import real_windows
from pathlib import Path

sys.stdin = io.StringIO("\\n")
real_windows.log_sample(Path(r"{}"))
"""


@pytest.fixture
def real(monkeypatch):
    """Return the module real_windows."""
    monkeypatch.syspath_prepend(TOOLS)
    return import_module("real_windows")


@pytest.fixture
def findings(real):
    """Return where differences are noted."""
    return real.Findings()


def test_sample_program(real, findings, run, tmp_path):
    """What it logs arrives at Windows, in the trace that we write and in the file of JSON."""
    done = run(START.format(tmp_path))
    assert (done.status, done.errors) == (0, "")
    counts = json.loads(done.output.splitlines()[-1])
    assert [counts[kind]["failed"] for kind in ("messages", "records")] == [0, 0]
    messages, records = (
        [event for event in done.events() if event.provider_id == provider_guid(name)]
        for name in (real.PROVIDER, real.LOGGER)
    )
    own = real.read_ours(tmp_path / real.OURS, real.PROVIDER)
    real.compare_messages(findings, messages, tmp_path / real.LOGGED)
    real.compare_messages(findings, own, tmp_path / real.LOGGED)
    real.compare_records(findings, records)
    ours, theirs = (list(map(real.as_event, events)) for events in (messages, own))
    as_text = [
        event._replace(fields=[(name, str(value)) for name, value in event.fields])
        for event in theirs
    ]
    real.compare_readers(findings, ours, as_text)
    assert findings.problems == []


def braced(guid):
    return f"{{{guid}}}"


def report_of(real, events, provider):
    """Write events as tracerpt does, and one of somebody else."""

    def xml(event, provider):
        ids = (("ActivityID", event.activity_id), ("RelatedActivityID", event.related_activity_id))
        correlation = " ".join(f"{name}={quoteattr(braced(guid))}" for name, guid in ids if guid)
        data = "\n".join(
            f"<Data Name={quoteattr(name)}>{escape(str(value))}</Data>"
            for name, value in event.fields
        )
        return f"""
<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event">
 <System>
  <Provider Name="any" Guid="{braced(provider)}"/>
  <EventID>0</EventID><Level>{event.level}</Level><Opcode>{event.opcode}</Opcode>
  <Correlation {correlation}/>
 </System>
 <EventData>{data}</EventData>
 <RenderingInfo Culture="en-US"><Task>{escape(event.name)} </Task></RenderingInfo>
</Event>"""

    parts = [xml(event, provider) for event in events] + [xml(events[0], UUID(int=1))]
    return f'<?xml version="1.0"?>\n<Events>{"".join(parts)}\n</Events>'


PLACE = [("task_uuid", "a"), ("task_level", "/1")]
EVENTS = [
    ("app:one", [*PLACE, ("n", -5), ("is_x", True)], 4, 1, 7, 8),
    ("app:two", [("task_level", "/2"), ("part", 0.1), ("t", "a<b")], 2, 0, 7, None),
    ("app:three", [("task_level", "/3"), ("t", ""), ("raw", b"\0")], 4, 2, None, None),
]


@pytest.fixture
def events(real):
    """Return some events."""
    ids = [
        [None if number is None else UUID(int=number) for number in event[4:]] for event in EVENTS
    ]
    return [real.Event(*event[:4], *own) for event, own in zip(EVENTS, ids, strict=True)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_report(real, findings, events, encoding):
    """A report of tracerpt's that has all of it is the same, whatever its encoding."""
    report = report_of(real, events, UUID(int=2)).encode(encoding)
    real.compare_readers(findings, events, real.parse_report(report, UUID(int=2)))
    assert findings.problems == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("app:one", "app:other"),
        (">-5<", ">5<"),
        (">True<", ">false<"),
        (">0.1<", ">0.2<"),
        ("a&lt;b", "ab"),
        ('"n"', '"m"'),
        ("<Opcode>1<", "<Opcode>0<"),
        ("<Level>2<", "<Level>3<"),
        ("000000000007", "000000000009"),
        ("/3", "/4"),
        ("</Events>", '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>'
         '<Provider Guid="{00000000-0000-0000-0000-000000000002}"/></System></Event></Events>'),
    ],
)  # fmt: skip
def test_difference_is_found(real, findings, events, old, new):
    """Whatever tracerpt reads otherwise is noted."""
    report = report_of(real, events, UUID(int=2))
    assert old in report
    theirs = real.parse_report(report.replace(old, new).encode(), UUID(int=2))
    real.compare_readers(findings, events, theirs)
    assert findings.problems
