"""Tests of tools/bench/: each benchmark runs, and the arithmetic on what it measures is right."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "tools" / "bench"


@pytest.fixture(scope="module")
def run():
    """Import tools/bench/run.py as its own folder does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield import_module("run")


@pytest.fixture
def answer(run):
    """Return an answer in which ours takes half of Eliot's time by minimum, less by median."""
    values = {run.OURS: [1.0, 1.5, 1.0], "Eliot": [2.0, 2.0, 5.0], "floor": [0.5, 1.0, 1.0]}
    return run.Answer("something", "µs", values, [])


@pytest.mark.parametrize("number", range(10))
def test_every_benchmark_runs(run, tmp_path, number):
    """A contender that dies, or logs nothing, is found here and not on the day of a release."""
    for package in ("eliot", "eliottree", "structlog", "pythonjsonlogger", "loguru", "click"):
        pytest.importorskip(package)
    size = run.Size(calls=20, messages=28, many_messages=28)
    setting = run.Setting(sys.executable, tmp_path, size)
    question = list(run.all_questions(setting))[number]
    answer = run.ask(question, 1)
    assert all(value > 0 for values in answer.values.values() for value in values)


def test_all_questions_are_tried(run, tmp_path):
    """The test above misses none."""
    setting = run.Setting(sys.executable, tmp_path, run.Size(1, 1, 1))
    assert sum(1 for _ in run.all_questions(setting)) == 10


def test_log_to_read_has_as_many_messages_as_asked_for(run, tmp_path):
    """The size in the table is the size that was read."""
    path = run.reading_speed.write_log(tmp_path / "log", 1000)
    assert path.read_bytes().count(b"\n") == 1000


def test_contenders_take_turns(run):
    """Each begins as often as the others, so that none always follows a slow one."""
    order = []
    contenders = {name: lambda name=name: order.append(name) or 1.0 for name in "abc"}
    run.ask(run.Question("", "", contenders), 3)
    assert list("abcbcacab") == order


def test_ratio_of_those_who_take_longer(run, answer):
    """How many times as fast we are, by minimums and by medians."""
    assert run.got(answer, run.Reach("Eliot", at_least=1.8)) == (2.0, 2.0)


def test_ratio_to_the_floor(run, answer):
    """How many times what it takes at the very least, by minimums and by medians."""
    assert run.got(answer, run.Reach("floor", at_most=1.35)) == (2.0, 1.0)


def test_plain_number(run, answer):
    """Without somebody to compare with, it is our own number that counts."""
    assert run.got(answer, run.Reach(at_most=150)) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("expected", "reach"),
    [
        (True, {"against": "Eliot", "at_least": 2.0}),
        (False, {"against": "Eliot", "at_least": 2.1}),
        (False, {"against": "floor", "at_most": 1.35}),
        (True, {"against": "floor", "at_most": 2.0}),
    ],
)
def test_reached_only_if_both_minimum_and_median_reach_it(run, answer, expected, reach):
    """A lucky turn does not make a number good."""
    assert expected == run.is_reached(answer, run.Reach(**reach))


def test_contender_that_dies_is_an_error(run):
    """What it wrote is part of the message, for else nobody could say why."""
    with pytest.raises(RuntimeError, match="ended with 1:\nno luck"):
        run.import_cost.printed_number(sys.executable, "-c", "raise SystemExit('no luck')")
