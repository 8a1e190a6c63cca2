"""Tests of ``eliot-etw level``: from the command to what a program logs."""

import subprocess
import sys

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")

from eliot_etw.collector.inputs.zmq import ZmqInput
from tests.collector._processes import wait_until
from tests.collector.inputs.test_zmq import Taken

# A program that ships what passes its levels, until its standard input ends.
PROGRAM = """
import sys, threading, time
from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import LevelFilter, ZmqDestination

destination = ZmqDestination(sys.argv[1])
add_destinations(destination.drive(LevelFilter(destination, "warning")))
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
number = 0
while not ended.wait(0.01):
    number += 1
    log_message("app:db:query", log_level="debug", number=number)
    log_message("app:http:get", log_level="debug", number=number)
"""


@pytest.fixture
def taken():
    return Taken()


@pytest.fixture
def port(taken, tmp_path):
    """Return an input that takes what programs ship."""
    port = ZmqInput("tcp://127.0.0.1:*")
    port.start(taken, tmp_path / "input")
    yield port
    port.stop(5)
    port.close(5)


@pytest.fixture
def level(call, port):
    """Return a function that runs the command for this collector."""
    return lambda *arguments: call("level", "--collector", port.endpoint, *arguments)


def types(taken):
    return {entry.message["message_type"] for batch in taken.batches for entry in batch}


def test_program(level, port, taken):
    """A running program logs more when it is told to, and less again when that ends."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, port.endpoint], stdin=subprocess.PIPE
    )
    try:
        wait_until(lambda: port.gauges()["senders"])
        status, out, _ = level("app:db*", "debug", "--for", "1h")
        assert status == 0
        assert out.splitlines()[0] == "app:db* debug, 3600s left"
        wait_until(lambda: "app:db:query" in types(taken))
        assert types(taken) == {"app:db:query"}
        wait_until(lambda: ": 1 of them" in level("--list")[1])
        assert level("--clear")[1].startswith("No levels are set.")
        wait_until(lambda: "not confirmed" not in level("--list")[1])
        count = len(taken.batches)
        level("app:http*", "debug", "--process", "no such program")
        wait_until(lambda: ": 0 of them" in level("--list")[1])
        assert len(taken.batches) <= count + 1
    finally:
        program.communicate(timeout=60)
    assert program.returncode == 0


def test_list(level):
    """What is in force can be asked."""
    assert level("--list") == (0, "No levels are set.\n", "")
    level("a*", "35", "--process", "shop*", "--host", "web-*")
    assert level("--list")[1].startswith("a* 35 process shop* host web-*, 600s left")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give GLOB and LEVEL"),
        (["a"], "Give GLOB and LEVEL"),
        (["a", "loud"], "LEVEL must be a number, or one of critical, "),
        (["a", "debug", "--for", "soon"], "soon"),
        (["a", "debug", "--for", "0s"], "--for must be above 0"),
        (["--list", "--clear"], "Either --list or --clear."),
        (["", "debug"], "must not be empty"),
        (["a", "debug", "--process", ""], "must not be empty"),
        (["a", "debug", "--clear"], "There is too much"),
        (["a", "--list"], "There is too much"),
        (["--list", "--secret-key", "x"], "The keys of both sides must be given"),
    ],
)
def test_wrong_call(call, arguments, words):
    """What makes no sense is said."""
    status, _, errors = call("level", *arguments)
    assert status == 2
    assert words in errors


@pytest.mark.parametrize(
    "where", ["nowhere", "inproc://a", "tcp://127.0.0.1:*", "ipc://" + "a" * 101]
)
def test_no_collector(call, where):
    """Where no collector can be, that is said."""
    status, _, errors = call("level", "--list", "--collector", where)
    assert status == 2
    assert (
        "endpoint must look like 'tcp://host:port', or like 'ipc://path' with a path of" in errors
    )
    assert f"got {where!r}." in errors
