"""Tests of the collector as a program: what is promised holds whatever is killed, full or away."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")
pytest.importorskip("click")

if os.name == "nt":
    pytest.skip("programs are ended here as POSIX does it", allow_module_level=True)

from tests.collector._processes import COLLECT, lines_of, numbers_in, wait_until

# What a program runs that ships messages for as long as it lives, and says how many it logged.
SHIPS = """
import sys
from eliot_etw import add_destinations, log_message
from eliot_etw.destinations.zmq import ZmqDestination

endpoint, task, count, spool = sys.argv[1:]
destination = ZmqDestination(endpoint, spool_folder=spool or None)
add_destinations(destination)
for number in range(1, int(count) + 1):
    log_message("test:message", task=task, number=number)
print(destination.flush(60), destination.stats())
"""
LINES = """\
  lines:
    kind: jsonlines
    path: {folder}/lines.jsonl
    max_bytes: 1000000
"""
STORE = """\
  store:
    kind: sqlite
    path: {folder}/store.sqlite
"""


def ship(endpoint, task, count, spool=""):
    """Start a program that ships messages."""
    return subprocess.Popen(
        [sys.executable, "-c", SHIPS, endpoint, task, str(count), str(spool)],
        stdout=subprocess.PIPE,
        text=True,
    )


def rows_in(path):
    """Return the numbers of the messages in a database."""
    with closing(sqlite3.connect(path)) as connection:
        lines = connection.execute("SELECT line FROM messages ORDER BY id").fetchall()
    return [json.loads(line)["number"] for (line,) in lines]


@pytest.fixture
def both(collector, tmp_path):
    """Prepare a collector with a file and a database."""
    return collector((LINES + STORE).format(folder=tmp_path))


class TestFaults:
    """Every message that a sender was told is accepted is in each sink exactly once."""

    def test_collector_is_killed_in_mid_stream(self, both, shipper, tmp_path):
        """A collector that is killed again and again loses nothing, and has nothing twice."""
        both.start()
        sender = shipper(both.endpoint)
        count, per = 40_000, 200
        acknowledged = first = 0
        kill_at = random.Random(7).sample(range(2_000, count), 4)
        sender.greet()
        first = 1
        while acknowledged < count:
            while first <= count and first - acknowledged < 5_000:
                sender.ship(lines_of(per, start=first, text="x" * 100), first)
                first += per
            message = sender.hear(5)
            if isinstance(message, sender.protocol.Ack):
                acknowledged = message.through
            elif message is None or isinstance(message, sender.protocol.Refused):
                # It was killed: after a new connection all that was not acknowledged comes again.
                sender.greet()
                first = acknowledged + 1
            if kill_at and acknowledged > min(kill_at):
                kill_at.remove(min(kill_at))
                both.kill()
                both.start()
        assert both.stop() == 0
        assert numbers_in(tmp_path / "lines.jsonl") == [*range(1, count + 1)]
        assert sorted(rows_in(tmp_path / "store.sqlite")) == [*range(1, count + 1)]

    def test_collector_is_killed_under_a_real_sender(self, both, tmp_path):
        """The same with `ZmqDestination`, which finds out by itself."""
        both.start()
        count = 30_000
        program = ship(both.endpoint, "a", count)
        for _ in range(3):
            time.sleep(0.3)
            both.kill()
            both.start()
        out, _ = program.communicate(timeout=120)
        assert out.startswith("True"), out
        assert both.stop() == 0
        assert sorted(numbers_in(tmp_path / "lines.jsonl")) == [*range(1, count + 1)]
        assert sorted(rows_in(tmp_path / "store.sqlite")) == [*range(1, count + 1)]

    def test_sender_is_killed(self, both, tmp_path):
        """What a killed sender had on its disk comes from the next one, once."""
        both.start()
        spool = tmp_path / "spool"
        first = ship(both.endpoint, "a", 10_000_000, spool)
        wait_until(lambda: numbers_in(tmp_path / "lines.jsonl"))
        first.kill()
        first.communicate()
        second = ship(both.endpoint, "b", 1, spool)
        assert second.communicate(timeout=120)[0].startswith("True")
        assert both.stop() == 0
        numbers = [
            json.loads(line)["number"]
            for file in sorted(tmp_path.glob("lines.jsonl*"))
            if not file.name.endswith((".commits", ".lock"))
            for line in file.read_bytes().splitlines()
            if json.loads(line)["task"] == "a"
        ]
        assert sorted(numbers) == [*range(1, len(numbers) + 1)]

    def test_sink_goes_and_comes_back(self, collector, shipper, tmp_path):
        """A sink that is down holds back only itself, and gets the rest when it is back."""
        service = collector((LINES + STORE).format(folder=tmp_path)).start()
        sender = shipper(service.endpoint)
        sender.greet()
        sender.ship(lines_of(10))
        sender.wait_for_ack(10)
        # Nobody else can write to the database now.
        with closing(sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for first in range(11, 2_000, 100):
                sender.ship(lines_of(100, start=first), first)
            wait_until(lambda: service.health()[0] == 503)
            assert "sink store is down" in service.health()[1]
            sender.wait_for_ack(2_010)
            assert numbers_in(tmp_path / "lines.jsonl") == [*range(1, 2_011)]
            other.execute("ROLLBACK")
        wait_until(lambda: service.figures()['sink_waiting{sink="store"}'] == 0)
        assert service.health()[0] == 200
        assert rows_in(tmp_path / "store.sqlite") == [*range(1, 2_011)]
        assert service.stop() == 0

    def test_down_sink_and_killed_collector(self, collector, shipper, tmp_path):
        """What waits on disk for a sink outlives the collector."""
        service = collector(STORE.format(folder=tmp_path)).start()
        sender = shipper(service.endpoint)
        sender.greet()
        with closing(sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            sender.ship(lines_of(100))
            sender.wait_for_ack(100)
            service.kill()
        service.start()
        wait_until(lambda: service.figures()['sink_waiting{sink="store"}'] == 0)
        assert rows_in(tmp_path / "store.sqlite") == [*range(1, 101)]

    def test_disk_is_full(self, collector, shipper, tmp_path):
        """While nothing can be written nothing is acknowledged; then all is there, once."""
        pytest.importorskip("resource")
        sinks = f"""\
  lines:
    kind: jsonlines
    path: {tmp_path}/lines.jsonl
    spool_bytes: 0
"""
        service = collector(sinks)
        limited = (
            "import os, resource, sys\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
            "os.execv(sys.argv[1], sys.argv[1:])\n"
        )
        service.start(within=[sys.executable, "-c", limited])
        sender = shipper(service.endpoint)
        sender.greet()
        for first in range(1, 3_000, 100):
            sender.ship(lines_of(100, start=first, text="x" * 100), first)
        acknowledged = 0
        while (message := sender.hear(1)) is not None:
            acknowledged = getattr(message, "through", acknowledged)
        assert 0 < acknowledged < 3_000
        assert numbers_in(tmp_path / "lines.jsonl") == [*range(1, acknowledged + 1)]
        service.kill()
        service.start()
        sender = shipper(service.endpoint)
        sender.greet()
        sender.ship(lines_of(3_000 - acknowledged, start=acknowledged + 1), 1)
        sender.wait_for_ack(3_000 - acknowledged)
        assert numbers_in(tmp_path / "lines.jsonl") == [*range(1, 3_001)]

    def test_a_hundred_senders_at_once(self, both, shipper, tmp_path):
        """All are served, and each has all of its messages there once."""
        both.start()
        senders = [shipper(both.endpoint) for _ in range(100)]

        def run(number, sender):
            sender.greet()
            for first in (1, 11, 21):
                sender.ship(lines_of(10, f"task-{number}", first), first)
            sender.wait_for_ack(30)

        threads = [threading.Thread(target=run, args=pair) for pair in enumerate(senders)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert both.figures()['input_messages_total{input="inputs[0]"}'] == 3_000
        assert both.stop() == 0
        assert sorted(numbers_in(tmp_path / "lines.jsonl")) == sorted([*range(1, 31)] * 100)
        assert len(rows_in(tmp_path / "store.sqlite")) == 3_000


class TestOrders:
    """What signals make it do."""

    def test_stop(self, both, shipper, tmp_path):
        """What has arrived is stored before it ends."""
        both.start()
        sender = shipper(both.endpoint)
        sender.greet()
        sender.ship(lines_of(1_000))
        sender.hear_a(sender.protocol.Ack)
        assert both.stop() == 0
        assert numbers_in(tmp_path / "lines.jsonl") == [*range(1, 1_001)]

    def test_reload(self, both, shipper, tmp_path):
        """A new configuration counts at once; senders stay connected."""
        both.start()
        sender = shipper(both.endpoint)
        sender.greet()
        sender.ship(lines_of(10))
        sender.wait_for_ack(10)
        text = both.config.read_text()
        new = f"  new:\n    kind: jsonlines\n    path: {tmp_path}/new.jsonl\n"
        both.config.write_text(text.replace("sinks:\n", "sinks:\n" + new))
        both.program.send_signal(signal.SIGHUP)
        wait_until((tmp_path / "new.jsonl").exists)
        wait_until(lambda: both.figures()["reloads_total"])
        sender.ship(lines_of(10, start=11), 11)
        sender.wait_for_ack(20)
        assert both.stop() == 0
        assert numbers_in(tmp_path / "new.jsonl") == [*range(11, 21)]
        assert numbers_in(tmp_path / "lines.jsonl") == [*range(1, 21)]

    @pytest.mark.parametrize("mistake", ["pathh: x", "keep_s: !!int x", "keep_s: -1"])
    def test_broken_configuration(self, both, shipper, tmp_path, mistake):
        """A mistake is told with its line, and the old configuration stays."""
        both.start()
        text = both.config.read_text()
        both.config.write_text(text.replace("kind: sqlite", f"kind: sqlite\n    {mistake}"))
        both.program.send_signal(signal.SIGHUP)
        line = text[: text.index("kind: sqlite")].count("\n") + 2
        option = mistake.partition(":")[0]
        wait_until(lambda: f"{both.config}:{line}: sinks.store.{option}" in both.text())
        wait_until(lambda: both.figures()["failed_reloads_total"] == 1)
        sender = shipper(both.endpoint)
        sender.greet()
        sender.ship(lines_of(10))
        sender.wait_for_ack(10)
        assert both.stop() == 0
        assert len(rows_in(tmp_path / "store.sqlite")) == 10

    def test_cannot_start(self, collector, tmp_path):
        """A mistake in the configuration is a status, and one line."""
        service = collector("  lines:\n    kind: jsonlinez")
        program = subprocess.run(
            [*COLLECT, "--config", str(service.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert program.returncode == 2
        assert re.search(r"yaml:\d+: sinks\.lines\.kind must be one of ", program.stderr)

    def test_one_at_a_time(self, both):
        """A second one with the same state is told so."""
        both.start()
        program = subprocess.run(
            [*COLLECT, "--config", str(both.config), "--state", str(both.state)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert program.returncode == 2
        assert "is in use by another collector" in program.stderr

    def test_its_own_log(self, both, shipper):
        """It logs about itself to a file, what is wrong also to standard error; not to sinks."""
        both.start()
        sender = shipper(both.endpoint)
        sender.socket.send(b"garbage")
        sender.hear_a(sender.protocol.Refused)
        wait_until(lambda: "collector:refused" in both.text())
        assert both.stop() == 0
        kinds = {
            json.loads(line)["message_type"]
            for line in (both.state / "collector.log").read_bytes().splitlines()
        }
        assert {"collector:started", "collector:refused", "collector:stopped"} <= kinds
