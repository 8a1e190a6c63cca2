"""Tests of faults with real senders and collectors: what was acknowledged is stored, and once.

What is not acknowledged is counted. The tests of `collector.service` and of `shipping` have
collectors and senders that are killed.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")
pytest.importorskip("click")

from eliot_etw.sources import FileSource, RedisSource
from tests import _services
from tests.collector._processes import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="collectors are ended by signals")

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (sys.executable, "-m")
_PATIENCE_S = 60
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
        self, endpoint, who="x", *, within=(), burst=20, pause_s=0.005, children=0, **settings
    ):
        asked = {
            "who": who,
            "burst": burst,
            "pause_s": pause_s,
            "children": children,
            "patience_s": _PATIENCE_S,
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


@pytest.fixture
def sender():
    """Return a function that starts senders; they are ended at the end."""
    made = []

    def sender(*arguments, **options):
        made.append(SenderProgram(*arguments, **options))
        return made[-1]

    yield sender
    for each in made:
        each.stop()


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
        assert {name: end[name] for name in left} == dict.fromkeys(left, 0), who
    for store in stores:
        numbers, reports = numbers_of(store)
        assert reports == 0
        assert numbers.keys() == expected.keys()
        for who, its in numbers.items():
            times = Counter(its)
            missing = [number for number in expected[who] if not times[number]]
            assert missing == [], who
            assert [number for number, count in times.items() if count > 1] == [], who


def end(service):
    """End a collector in order, when its sinks have all that waited for them."""
    wait_until(
        lambda: not any(v for k, v in service.figures().items() if k.startswith("sink_waiting"))
    )
    assert service.stop() == 0


def more_lines(folder):
    """Return what says whether there are more lines than now."""
    before = len(lines_in(folder))
    return lambda: len(lines_in(folder)) > before


def test_clock_steps(collector, sender, tmp_path):
    """Clocks that go forth and back, of senders and of the collector, disturb nobody."""
    sinks = LINES + "    every_s: 3600\n" + STORE
    odd = (*PYTHON, "tests.collector._odd_clock")
    service = collector(sinks.format(folder=tmp_path)).start(within=odd, cwd=ROOT)
    senders = [
        sender(service.endpoint, "odd", within=odd, heartbeat_s=0.3),
        sender(service.endpoint, "right", heartbeat_s=0.3),
    ]
    time.sleep(3)
    ends = {each.who: each.end()[0] for each in senders}
    assert service.health()[0] == 200
    end(service)
    each_is_there_once(ends, lines_in(tmp_path), rows_in(tmp_path))
    stamps = [message["timestamp"] for message in rows_in(tmp_path) if message["who"] == "odd"]
    assert max(stamps) - min(stamps) > 86_400
    assert [end["reconnects"] for end in ends.values()] == [0, 0]


def test_a_hundred_senders_at_once(collector, sender, tmp_path):
    """Processes that were forked from one, and all begin at once, are each served."""
    service = collector((LINES + STORE).format(folder=tmp_path)).start()
    ends = sender(service.endpoint, children=100).end()
    end(service)
    assert len(ends) == 100
    each_is_there_once(
        {f"child {n}": end for n, end in enumerate(ends)}, lines_in(tmp_path), rows_in(tmp_path)
    )


def test_rolling_restart(collector, sender, tmp_path):
    """Collectors that are restarted one after the other, under load, take each message once."""
    folders = [tmp_path / name for name in "ab"]
    services = []
    for folder in folders:
        folder.mkdir()
        sinks = (LINES + STORE).format(folder=folder)
        services.append(collector(sinks, folder=folder).start())
    senders = [
        [sender(service.endpoint, f"{n}", heartbeat_s=0.5) for n in range(2)]
        for service in services
    ]
    for _ in range(2):
        for folder, service in zip(folders, services, strict=True):
            wait_until(more_lines(folder))
            assert service.stop() == 0
            service.start()
    for folder, service, its in zip(folders, services, senders, strict=True):
        ends = {each.who: each.end()[0] for each in its}
        end(service)
        each_is_there_once(ends, lines_in(folder), rows_in(folder))
        assert all(end["reconnects"] for end in ends.values())


def test_engine_is_killed_and_hangs(collector, sender, tmp_path):
    """A sink whose server is killed, or hangs, gets all when it is back; no other waits."""
    pytest.importorskip("redis")
    redis = _services.start("redis", tmp_path / "redis")
    try:
        sinks = LINES + f"  redis:\n    kind: redis\n    url: {redis.url}\n    timeout_s: 1\n"
        service = collector(sinks.format(folder=tmp_path)).start()
        program = sender(service.endpoint)
        wait_until(more_lines(tmp_path))
        redis.stop(9)
        wait_until(lambda: service.health()[0] == 503)
        wait_until(more_lines(tmp_path))
        redis.start()
        wait_until(lambda: service.health()[0] == 200)
        redis.pause()
        wait_until(lambda: service.health()[0] == 503)
        wait_until(more_lines(tmp_path))
        redis.go_on()
        wait_until(lambda: service.health()[0] == 200)
        ends = {program.who: program.end()[0]}
        end(service)
        each_is_there_once(ends, lines_in(tmp_path), RedisSource(redis.url))
    finally:
        redis.stop()


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 3 MiB; give its folder, and what makes it larger."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("a disk of its own needs Linux and root")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    mounted = mount("size=3m")
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr}")
    try:
        yield folder, lambda: mount("remount", "size=200m").check_returncode()
    finally:
        # Whatever still has files open there.
        subprocess.run(["umount", "--lazy", folder], timeout=30, check=True)


@pytest.mark.parametrize("is_killed", [False, True])
def test_disk_is_full(small_disk, collector, sender, is_killed):
    """What was acknowledged before the disk was full is stored; the rest is when there is room.

    Not even the collector's own log, its spools and its journals have room; and it may be killed.
    """
    folder, make_larger = small_disk
    service = collector((LINES + STORE).format(folder=folder), folder=folder).start()
    program = sender(service.endpoint, burst=200)
    wait_until(lambda: service.health()[0] == 503)
    time.sleep(0.5)  # so that more comes
    if is_killed:
        service.kill()
    make_larger()
    if is_killed:
        service.start()
    wait_until(lambda: service.health()[0] == 200)
    wait_until(more_lines(folder))
    ends = {program.who: program.end()[0]}
    end(service)
    each_is_there_once(ends, lines_in(folder), rows_in(folder))
