"""Tests of senders with a real collector: programs that fork and are killed, keys, levels."""

import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

pytest.importorskip("zmq")
pytest.importorskip("msgspec")
pytest.importorskip("yaml")
pytest.importorskip("click")

from eliot_etw.collector._keys import make_keys
from eliot_etw.destinations import LevelFilter, ZmqDestination
from tests.collector._processes import CollectorProcess, wait_until

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")

CONFIG = """\
http: 127.0.0.1:0
inputs:
  - kind: zmq
    endpoint: tcp://127.0.0.1:{port}
{more}
sinks:
  lines:
    kind: jsonlines
    path: {folder}/lines.jsonl
    max_bytes: 100000000
"""
_LONGEST_S = 240
ELIOT_ETW = (sys.executable, "-m", "eliot_etw.cli")


@pytest.fixture
def start():
    """Return a function that starts a Python program; it is ended after the test, or in time."""
    with ExitStack() as ends:

        def start(*arguments):
            pipe = subprocess.PIPE
            program = ends.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", *map(str, arguments)],
                    stdin=pipe, stdout=pipe, stderr=pipe, text=True,
                )
            )  # fmt: skip
            # So that nobody who reads what it says waits for ever.
            late = threading.Timer(_LONGEST_S, program.kill)
            late.start()
            ends.callback(late.join)
            ends.callback(late.cancel)
            ends.callback(program.kill)
            return program

        yield start


@pytest.fixture
def service(tmp_path):
    """Return a function that starts a collector; it is ended after the test."""
    made = []

    def service(more=""):
        config = CONFIG.format(folder=tmp_path, more=more, port="*")
        made.append(CollectorProcess(tmp_path, config))
        made[-1].start()
        # The same port when it is started again.
        port = made[-1].endpoint.rpartition(":")[2]
        made[-1].config.write_text(CONFIG.format(folder=tmp_path, more=more, port=port))
        return made[-1]

    yield service
    for each in made:
        each.kill()


def run(*command):
    """Run a command of ours to its end."""
    subprocess.run([*ELIOT_ETW, *command], check=True, timeout=60, capture_output=True)


def message_of(who, number):
    """Make a message that tells who logged it."""
    return {
        "task_uuid": who,
        "task_level": [number],
        "timestamp": 1.5,
        "message_type": "test:message",
        "who": who,
        "number": number,
    }


def stored(folder):
    """Group the numbers that arrived by who logged them."""
    found = {}
    # What is after the last newline is just being written.
    for line in (folder / "lines.jsonl").read_bytes().split(b"\n")[:-1]:
        message = json.loads(line)
        if message.get("message_type") == "test:message":
            found.setdefault(message["who"], []).append(message["number"])
    return found


def empty(folder, endpoint):
    """Send all that is left in a folder."""
    destination = ZmqDestination(endpoint, spool_folder=folder)
    wait_until(lambda: len(list(folder.iterdir())) == 1, 60)
    destination.close()
    assert list(folder.iterdir()) == []


PROGRAM = """
import os, sys, threading, time, warnings
from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import ZmqDestination

# From 3.12 on, Python warns whoever forks while there are threads, as is done here on purpose.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
endpoint, name, spool = sys.argv[1:]
destination = ZmqDestination(
    endpoint, spool_folder=spool or None, block_timeout_s=60, exit_timeout_s=60, heartbeat_s=0.5
)
add_destinations(destination)

# Before these numbers the threads wait for whoever started us to say that they may go on.
gates = {number: threading.Event() for number in (1_251, 2_501, 3_751)}

def work(who, count):
    for number in range(1, count + 1):
        if number in gates:
            gates[number].wait()
        log_message("test:message", who=who, number=number)
        if number % 100 == 0:
            time.sleep(0.02)

threads = [threading.Thread(target=work, args=(f"{name}.{n}", 5_000)) for n in range(4)]
for thread in threads:
    thread.start()
for child in range(3):
    time.sleep(0.2)
    if not os.fork():
        work(f"{name}.child{child}", 500)
        sys.exit()
for gate in gates.values():
    sys.stdin.readline()
    gate.set()
for child in range(3):
    assert os.wait()[1] == 0
for thread in threads:
    thread.join()
"""
ENDLESS = """
import itertools, sys
from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import ZmqDestination

destination = ZmqDestination(sys.argv[1], spool_folder=sys.argv[2], block_timeout_s=60)
add_destinations(destination)
for number in itertools.count(1):
    log_message("test:message", who="endless", number=number)
    if number % 200 == 0:
        stats = destination.stats()
        print(stats["acknowledged"] + stats["spooled"], flush=True)
"""


class TestFaults:
    """Each message that was logged is stored once."""

    @posix
    def test_rolling_restart(self, service, start, tmp_path):
        """Four programs with threads and children log while the collector is killed, twice."""
        collector = service()
        lines = tmp_path / "lines.jsonl"
        before = lines.stat().st_size
        programs = [
            start(PROGRAM, collector.endpoint, name, spool)
            for name, spool in [("a", ""), ("b", ""), ("c", tmp_path / "s"), ("d", tmp_path / "s")]
        ]
        for end in (collector.kill, collector.stop, collector.kill):
            # With the first lines that are new, so that the rest is under way.
            wait_until(lambda before=before: lines.stat().st_size > before, 60)
            end()
            collector.start()
            before = lines.stat().st_size
            for program in programs:
                program.stdin.write("\n")
                program.stdin.flush()
        for program in programs:
            _, error = program.communicate(timeout=120)
            assert (program.returncode, error) == (0, "")
        # Those that ended while the collector was away left the rest on disk.
        empty(tmp_path / "s", collector.endpoint)
        assert collector.stop() == 0
        expected = {f"{name}.{n}": [*range(1, 5_001)] for name in "abcd" for n in range(4)}
        expected |= {f"{name}.child{n}": [*range(1, 501)] for name in "abcd" for n in range(3)}
        assert {who: sorted(numbers) for who, numbers in stored(tmp_path).items()} == expected

    def test_collector_is_killed(self, service, tmp_path):
        """Killed in mid-stream, it has each message once when it was started again."""
        collector = service()
        destination = ZmqDestination(collector.endpoint, block_timeout_s=60, heartbeat_s=0.5)
        for number in range(1, 3_001):
            destination(message_of("here", number))
            if number == 1_500:
                wait_until((tmp_path / "lines.jsonl").exists)
                collector.kill()
                collector.start()
        assert destination.flush(60)
        destination.close()
        assert stored(tmp_path) == {"here": [*range(1, 3_001)]}

    @posix
    def test_sender_is_killed(self, service, start, tmp_path):
        """All that a process had got rid of when it was killed is stored, once, in the end."""
        collector = service()
        program = start(ENDLESS, collector.endpoint, tmp_path / "s")
        safe = [int(program.stdout.readline()) for _ in range(50)][-1]
        program.kill()
        program.wait(30)
        empty(tmp_path / "s", collector.endpoint)
        assert collector.stop() == 0
        numbers = sorted(stored(tmp_path)["endless"])
        assert numbers == [*range(1, len(numbers) + 1)]
        assert len(numbers) >= safe


class TestKeys:
    """Who may ship."""

    def test_allowed_later(self, service, tmp_path):
        """Only who has a key that the collector knows; and it learns new ones while it runs."""
        (tmp_path / "allowed").mkdir()
        for name in ("collector", "shop", "stranger"):
            make_keys(tmp_path, name)
        (tmp_path / "shop.key").rename(tmp_path / "allowed" / "shop.key")
        collector = service(
            f"    keys: {tmp_path}/allowed\n    secret_key: {tmp_path}/collector.key_secret"
        )
        shop, stranger = (
            ZmqDestination(
                collector.endpoint,
                server_key=tmp_path / "collector.key",
                keys=tmp_path / f"{name}.key_secret",
            )
            for name in ("shop", "stranger")
        )
        for who, destination in (("shop", shop), ("stranger", stranger)):
            destination(message_of(who, 1))
        assert shop.flush(30)
        assert not stranger.flush(1)
        (tmp_path / "stranger.key").rename(tmp_path / "allowed" / "stranger.key")
        assert stranger.flush(30)
        shop.close()
        stranger.close()
        assert stored(tmp_path) == {"shop": [1], "stranger": [1]}


def test_levels(service, tmp_path):
    """The command changes what a filter and a logger let pass, and that ends by itself."""
    collector = service()
    logger = logging.getLogger("shipping_system")
    logger.setLevel(logging.ERROR)
    destination = ZmqDestination(collector.endpoint, sets_loggers=True)
    level_filter = destination.drive(LevelFilter(destination, "error"))
    debug = {"message_type": "shipping_system:x", "log_level": "debug"}
    level_filter(debug)
    assert level_filter.stats()["dropped"] == 1
    command = ("level", "--collector", collector.endpoint, "shipping_system*", "debug")
    run(*command, "--for", "2s")
    wait_until(lambda: logger.level == logging.DEBUG)
    level_filter(debug)
    assert level_filter.stats()["dropped"] == 1
    wait_until(lambda: logger.level == logging.ERROR)
    level_filter(debug)
    assert level_filter.stats()["dropped"] == 2
    destination.close()
