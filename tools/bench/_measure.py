"""How a benchmark is asked: contenders in turn, several times, each in a process of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

OURS = "eliot_etw"
ELIOT = "Eliot"


@dataclass(frozen=True)
class Size:
    """How much work a measurement does."""

    calls: int  # to log
    messages: int  # in the file that is read, where time is measured
    many_messages: int  # in the file that is read, where memory is measured

    @classmethod
    def full(cls) -> Size:
        """Return the size that the published numbers are of."""
        return cls(calls=30_000, messages=70_000, many_messages=1_000_000)

    @classmethod
    def quick(cls) -> Size:
        """Return a size to try a change with."""
        return cls(calls=5_000, messages=7_000, many_messages=50_000)


@dataclass(frozen=True)
class Setting:
    """Where a measurement is taken."""

    python: str  # of an environment that has all contenders
    folder: Path  # for the files, the same file system for all of them
    size: Size


@dataclass(frozen=True)
class Reach:
    """A number to reach: a ratio against a contender, or a plain one if there is none.

    For a ratio, ``at_least`` is how many times less than the contender ours has to be, and
    ``at_most`` how many times as much as the contender ours may be.
    """

    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    ours: str = OURS


@dataclass(frozen=True)
class Question:
    """One thing to measure, for all contenders; less is better."""

    what: str
    unit: str
    contenders: Mapping[str, Callable[[], float]]
    reaches: Sequence[Reach] = ()
    # Whether it varies from run to run as a time does.
    is_noisy: bool = True


@dataclass(frozen=True)
class Answer:
    """What was measured: as many values for each contender as there were repetitions."""

    what: str
    unit: str
    values: dict[str, list[float]]
    reaches: Sequence[Reach]

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Answer:
        """Make it again of what `dataclasses.asdict` gave."""
        reaches = [Reach(**reach) for reach in stored["reaches"]]
        return cls(stored["what"], stored["unit"], stored["values"], reaches)


def ask(question: Question, repetitions: int) -> Answer:
    """Let the contenders take turns, so that what else the machine does hits all of them alike."""
    values: dict[str, list[float]] = {name: [] for name in question.contenders}
    names = list(values)
    for number in range(repetitions if question.is_noisy else 1):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            values[name].append(question.contenders[name]())
    return Answer(question.what, question.unit, values, question.reaches)


def printed_number(*command: str | Path) -> float:
    """Run a command and return the number that is the last line of its output.

    Raises:
        RuntimeError: If it failed; with what it wrote.
    """
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if run.returncode:
        msg = f"{' '.join(map(str, command))} ended with {run.returncode}:\n{run.stderr}"
        raise RuntimeError(msg)
    return float(run.stdout.splitlines()[-1])


def seconds_of(*command: str | Path) -> float:
    """Run a whole command, whose output goes nowhere, and return how long it took.

    Raises:
        CalledProcessError: If it failed.
    """
    started = time.perf_counter()
    subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def got(answer: Answer, reach: Reach) -> tuple[float, float]:
    """Compute from the minimums, and from the medians, what is to be reached."""
    ours = answer.values[reach.ours]
    if not reach.against:
        return min(ours), median(ours)
    theirs = answer.values[reach.against]
    if reach.at_least is not None:
        return min(theirs) / min(ours), median(theirs) / median(ours)
    return min(ours) / min(theirs), median(ours) / median(theirs)


def is_reached(answer: Answer, reach: Reach) -> bool:
    """Say whether it is reached by the minimum and by the median."""
    numbers = got(answer, reach)
    enough = reach.at_least is None or min(numbers) >= reach.at_least
    return enough and (reach.at_most is None or max(numbers) <= reach.at_most)
