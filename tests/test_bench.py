"""Tests of tools/bench/: each benchmark runs, and the arithmetic on what it measures is right."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "tools" / "bench"


BENCHMARKS = [
    "collector_speed",
    "etl_speed",
    "etw_speed",
    "import_cost",
    "journald_speed",
    "logging_speed",
    "otel_etw_speed",
    "otlp_speed",
    "reading_speed",
    "shipping_speed",
    "stdlib_speed",
    "wrapper_speed",
]
# What the contenders are imported as.
MODULES = [
    "click",
    "eliot",
    "eliottree",
    "etl",
    "loguru",
    "opentelemetry",
    "pyetw",
    "pythonjsonlogger",
    "structlog",
    "traceloggingdynamic",
]

# Writes one event with a contender, and prints it.
ONE_EVENT = """
import ctypes, etw_speed, sys

name, path = sys.argv[1:]
library = etw_speed._load(path)
library.standin_listen(1)
statement, names = etw_speed._WRITERS["event", name](path)
exec(statement, names)
event = ctypes.create_string_buffer(1 << 16)
print(event.raw[: library.standin_last_event(event)].hex())
"""


@pytest.fixture(scope="module", autouse=True)
def _bench_on_path():
    """Let the benchmarks find each other as they do when they are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH.parent)
        patch.syspath_prepend(BENCH)
        yield


@pytest.fixture
def measure():
    """Return the module _measure."""
    return import_module("_measure")


@pytest.fixture
def answer(measure):
    """Return an answer in which ours takes half of Eliot's time by minimum and by median."""
    values = {"eliot_etw": [1.0, 1.5, 1.0], "Eliot": [2.0, 2.0, 5.0], "floor": [0.5, 1.0, 1.0]}
    return measure.Answer("something", "µs", values, [])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs(measure, tmp_path, name):
    """A contender that dies, or logs nothing, is found here and not on the day of a release."""
    for module in MODULES:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    size = measure.Size(calls=20, messages=28, many_messages=28)
    setting = measure.Setting(sys.executable, tmp_path, size)
    questions = import_module(name).questions(setting)
    if not questions:
        pytest.skip("there is no C compiler, no systemd-journald, or Windows")
    for question in questions:
        answer = measure.ask(question, 1)
        assert all(value > 0 for values in answer.values.values() for value in values)


def test_every_benchmark_is_tried():
    """The test above, and measure.py, miss none."""
    files = sorted(path.stem for path in BENCH.glob("[!_]*.py") if path.stem != "run")
    assert files == BENCHMARKS
    assert files == sorted(module.__name__ for module in import_module("run").BENCHMARKS)


def test_one_event_is_the_same_whoever_writes_it(tmp_path):
    """What is compared is the same work: not a byte differs."""
    if find_spec("traceloggingdynamic") is None:
        pytest.skip("traceloggingdynamic is not installed")
    library = import_module("etw_speed").compile_standin(tmp_path)
    if library is None:
        pytest.skip("there is no C compiler, or there is Windows")
    ours, theirs = (
        subprocess.run(
            [sys.executable, "-c", ONE_EVENT, name, library],
            cwd=BENCH,
            capture_output=True,
            check=True,
        ).stdout
        for name in ("eliot_etw", "traceloggingdynamic")
    )
    assert ours == theirs


def test_no_compiler_is_no_failure(measure, tmp_path, monkeypatch, capsys):
    """Where the library cannot be compiled, what needs it is not measured, which is said."""
    monkeypatch.setenv("PATH", str(tmp_path))
    setting = measure.Setting(sys.executable, tmp_path, measure.Size.quick())
    assert import_module("etw_speed").questions(setting) == []
    assert "Writing to ETW is not measured" in capsys.readouterr().out


def test_log_to_read_has_as_many_messages_as_asked_for(tmp_path):
    """The size in the table is the size that was read."""
    path = import_module("reading_speed").write_log(tmp_path / "log", 1000)
    assert path.read_bytes().count(b"\n") == 1000


def test_contenders_take_turns(measure):
    """Each begins as often as the others, so that none always follows a slow one."""
    order = []
    contenders = {name: lambda name=name: order.append(name) or 1.0 for name in "abc"}
    measure.ask(measure.Question("", "", contenders), 3)
    assert list("abcbcacab") == order


def test_ratio_of_those_who_take_longer(measure, answer):
    """How many times as fast we are, by minimums and by medians."""
    assert measure.got(answer, measure.Reach("Eliot", at_least=1.8)) == (2.0, 2.0)


def test_ratio_to_the_floor(measure, answer):
    """How many times what it takes at the very least, by minimums and by medians."""
    assert measure.got(answer, measure.Reach("floor", at_most=1.35)) == (2.0, 1.0)


def test_plain_number(measure, answer):
    """Without somebody to compare with, it is our own number that counts."""
    assert measure.got(answer, measure.Reach(at_most=150)) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("expected", "reach"),
    [
        (True, {"against": "Eliot", "at_least": 2.0}),
        (False, {"against": "Eliot", "at_least": 2.1}),
        (False, {"against": "floor", "at_most": 1.35}),
        (True, {"against": "floor", "at_most": 2.0}),
    ],
)
def test_reached_only_if_both_minimum_and_median_reach_it(measure, answer, expected, reach):
    """A lucky turn does not make a number good."""
    assert expected == measure.is_reached(answer, measure.Reach(**reach))


def test_contender_that_dies_is_an_error(measure):
    """What it wrote is part of the message, for else nobody could say why."""
    with pytest.raises(RuntimeError, match="ended with 1:\nno luck"):
        measure.printed_number(sys.executable, "-c", "raise SystemExit('no luck')")
