"""What the tests of faults share: senders as programs, and what must be true in the end."""

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from eliot_etw.sources import FileSource
from tests.collector._processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (sys.executable, "-m")
_PATIENCE_S = 60
_LOST = ("sink_dropped", "sink_refused")
# So much of what a collector said is shown when a test fails, in characters.
_SAID = 4_000
LINES = """\
  lines:
    kind: jsonlines
    path: {folder}/lines.jsonl
"""
STORE = """\
  store:
    kind: sqlite
    path: {folder}/store.sqlite
"""


class SenderProgram:
    """A program that ships until it is told to end."""

    def __init__(
        self,
        endpoint,
        who="x",
        *,
        within=(),
        burst=20,
        pause_s=0.005,
        children=0,
        patience_s=_PATIENCE_S,
        **settings,
    ):
        asked = {
            "who": who,
            "burst": burst,
            "pause_s": pause_s,
            "children": children,
            "patience_s": patience_s,
            "settings": settings,
        }
        self.who = who
        self.program = subprocess.Popen(
            [*within, *PYTHON, "tests.collector._sender", endpoint, json.dumps(asked)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def end(self):
        """Have it end, and return what it has counted; nothing is missing in that."""
        said, wrong = self.program.communicate(timeout=2 * _PATIENCE_S)
        assert self.program.returncode == 0, wrong
        ends = json.loads(said)
        for each in ends:
            where = ("queued", "spooled", "acknowledged", "refused", "dropped")
            assert each["logged"] + each["reports"] == sum(each[name] for name in where), each
            assert each["system_errors"] == 0
        return ends

    def stop(self):
        """End it at once, if it has not ended."""
        self.program.kill()
        self.program.communicate()


def numbers_of(messages):
    """Group the numbers of messages by who logged them; count the reports of what was dropped."""
    numbers, reports = {}, 0
    for message in messages:
        if message["message_type"] == "eliot:dropped":
            reports += 1
        else:
            numbers.setdefault(message["who"], []).append(message["number"])
    return {who: sorted(its) for who, its in numbers.items()}, reports


def lines_in(folder):
    """Read the file of lines of a collector, and what was put aside of it."""
    files = [*folder.glob("lines.jsonl.0*"), folder / "lines.jsonl"]
    return [message for file in files if file.exists() for message in FileSource(file)]


def rows_in(folder):
    """Read the database of a collector."""
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
        lines = connection.execute("SELECT line FROM messages").fetchall()
    return [json.loads(line) for (line,) in lines]


def each_is_there_once(ends, *stores):
    """See that each store has all that was logged, once.

    Args:
        ends: What senders counted, by their names.
        *stores: Messages of stores.
    """
    expected = {who: [*range(1, end["logged"] + 1)] for who, end in ends.items()}
    left = ("queued", "spooled", "refused", "dropped", "reports")
    for who, end in ends.items():
        assert {name: end[name] for name in left} == dict.fromkeys(left, 0), (who, end)
    for store in stores:
        numbers, reports = numbers_of(store)
        assert reports == 0
        assert numbers.keys() == expected.keys()
        for who, its in numbers.items():
            times = Counter(its)
            missing = [number for number in expected[who] if not times[number]]
            assert missing == [], (who, len(missing), missing[:3], missing[-3:])
            double = [number for number, count in times.items() if count > 1]
            assert double == [], (who, len(double), double[:3], double[-3:])


def end(service):
    """End a collector in order, when its sinks have all that waited for them, and lost nothing."""
    wait_until(
        lambda: not any(v for k, v in service.figures().items() if k.startswith("sink_waiting"))
    )
    lost = {k: v for k, v in service.figures().items() if k.startswith(_LOST) and v}
    assert lost == {}, lost
    assert service.stop() == 0


@contextmanager
def what_is_left(service):
    """Say what a collector has on disk, how it counts and what it said, if a test fails."""
    try:
        yield
    except (AssertionError, subprocess.TimeoutExpired) as error:
        figures = {}
        with suppress(OSError):
            figures = {name: value for name, value in service.figures().items() if value}
        files = {
            str(path.relative_to(service.folder)): path.stat().st_size
            for path in sorted(service.folder.rglob("*"))
            if path.is_file()
        }
        said = service.text()[-_SAID:]
        msg = f"{error}\n\nIts files: {files}\n\nIts numbers: {figures}\n\nIt said: {said}"
        raise AssertionError(msg) from error


def more_lines(folder):
    """Return what says whether there are more lines than now."""
    before = len(lines_in(folder))
    return lambda: len(lines_in(folder)) > before
