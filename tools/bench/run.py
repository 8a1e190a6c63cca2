"""Measure everything and compare: `python3 tools/bench/run.py [--quick] [--only WORD]`.

Needs Python and a network on the first run, and nothing else. A full run takes about a quarter of
an hour, keeps what it measured in results.json beside this file, and rewrites the table in
README.md from that; ``--readme`` does only the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where _environment is

import collector_speed
import etl_speed
import etw_speed
import import_cost
import journald_speed
import logging_speed
import otel_etw_speed
import otlp_speed
import reading_speed
import shipping_speed
import stdlib_speed
import wrapper_speed
from _environment import ROOT, SetUpError, prepare, this_interpreter
from _measure import OURS, Answer, Question, Reach, Setting, Size, ask, got, is_reached

RESULTS = Path(__file__).parent / "results.json"
README = ROOT / "README.md"
BEGIN = "<!-- numbers: written by tools/bench/run.py -->"
END = "<!-- end of numbers -->"
BENCHMARKS = (
    logging_speed,
    reading_speed,
    import_cost,
    etw_speed,
    etl_speed,
    otel_etw_speed,
    otlp_speed,
    journald_speed,
    stdlib_speed,
    wrapper_speed,
    shipping_speed,
    collector_speed,
)
PACKAGES = (
    "eliot",
    "eliot-tree",
    "structlog",
    "python-json-logger",
    "loguru",
    "traceloggingdynamic",
    "pyetw",
    "etl-parser",
    "opentelemetry-sdk",
    "orjson",
)

_VERSIONS = f"""
import json
from importlib.metadata import version
print(json.dumps({{name: version(name) for name in {PACKAGES}}}))
"""


def all_questions(setting: Setting) -> Iterator[Question]:
    """List the questions of every benchmark."""
    for benchmark in BENCHMARKS:
        yield from benchmark.questions(setting)


def measure(setting: Setting, repetitions: int, only: str) -> list[Answer]:
    """Ask all questions, printing each answer as it comes."""
    answers = []
    for question in all_questions(setting):
        if only in question.what:
            answers.append(ask(question, repetitions))
            print(describe(answers[-1]), flush=True)
    return answers


def describe(answer: Answer) -> str:
    """Write what was measured as lines for a terminal."""
    lines = [f"\n{answer.what} ({answer.unit}, minimum and median)"]
    for name, values in answer.values.items():
        lines.append(f"  {name:20} {min(values):10.3f} {median(values):10.3f}")
    for reach in answer.reaches:
        verdict = "reached" if is_reached(answer, reach) else "FALLS SHORT"
        lines.append(
            f"  {_comparison(answer, reach)}, to reach: {_goal(answer, reach)}: {verdict}"
        )
    return "\n".join(lines)


def _comparison(answer: Answer, reach: Reach) -> str:
    """Write what was got: a ratio by minimums and by medians, or a plain number."""
    by_minimum, by_median = got(answer, reach)
    if not reach.against:
        return f"{reach.ours}: {by_minimum:.0f} {answer.unit}"
    pair = (
        (reach.against, reach.ours) if reach.at_least is not None else (reach.ours, reach.against)
    )
    return f"{pair[0]} / {pair[1]}: {by_minimum:.2f} ({by_median:.2f})"


def _goal(answer: Answer, reach: Reach) -> str:
    """Write what is to be reached."""
    unit = "" if reach.against else f" {answer.unit}"
    if reach.at_least is not None:
        return f"at least {reach.at_least:g}{unit}"
    return f"at most {reach.at_most:g}{unit}"


def circumstances(python: Path, repetitions: int) -> dict[str, Any]:
    """Describe on what the numbers were measured."""
    versions = subprocess.run([python, "-c", _VERSIONS], capture_output=True, check=True)
    return {
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_since": bool(
            _git("status", "--porcelain", "--", "eliot_etw", "tools/bench/*.py")
        ),
        "cores": os.cpu_count(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": _processor(),
        "packages": json.loads(versions.stdout),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "repetitions": repetitions,
        "system": platform.system(),
    }


def _git(*arguments: str) -> str:
    """Ask git about the checkout; it may be none."""
    run = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return run.stdout.strip()


def _processor() -> str:
    """Name the processor; `platform.processor` knows only its architecture on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def table(results: dict[str, Any]) -> str:
    """Write the results as what stands in the README."""
    about = results["circumstances"]
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    answers = [Answer.from_json(stored) for stored in results["answers"]]
    rows = [_row(answer, reach) for answer in answers for reach in answer.reaches]
    return "\n".join(
        [
            "| what | eliot_etw | others | ratio | to reach | |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *(line for answer in answers for line in _others(answer)),
            f"The least of {about['repetitions']} turns is shown, the ratio also of the medians "
            "(in brackets).",
            "The floor is a dict literal, `orjson.dumps` and one `os.write`.",
            f"{about['python']}, {about['cores']} cores of {about['machine']}, {about['system']}; "
            f"{versions}; commit {about['commit']}, {about['date']}.",
        ]
    )


def _row(answer: Answer, reach: Reach) -> str:
    """Write one number to reach."""
    what = answer.what if reach.ours == OURS else f"{answer.what}, {reach.ours}"
    cells = [what, _least(answer, reach.ours), "", "", _goal(answer, reach)]
    if reach.against:
        cells[2] = f"{reach.against}: {_least(answer, reach.against)}"
        cells[3] = "{:.2f} ({:.2f})".format(*got(answer, reach))
    cells.append("reached" if is_reached(answer, reach) else "**falls short**")
    return f"| {' | '.join(cells)} |"


def _others(answer: Answer) -> Iterator[str]:
    """Write what contenders took with whom nothing has to be reached."""
    compared = {name for reach in answer.reaches for name in (reach.ours, reach.against)}
    others = [f"{name} {_least(answer, name)}" for name in answer.values if name not in compared]
    if len(others) > 1:  # the floor alone says nothing about others
        yield f"For {answer.what}, others take: {', '.join(others)}."


def _least(answer: Answer, name: str) -> str:
    """Write the least that a contender took, with three digits."""
    least = min(answer.values[name])
    return f"{least:.0f} {answer.unit}" if least >= 100 else f"{least:.3g} {answer.unit}"


def write_readme(results: dict[str, Any]) -> None:
    """Put the table into the README, between its marks."""
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", "utf-8")


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="do little work, and keep no results")
    parser.add_argument("--only", default="", metavar="WORD", help="only questions that have it")
    parser.add_argument("--repetitions", type=int, default=9, help="how often (%(default)s)")
    parser.add_argument("--readme", action="store_true", help="only rewrite README.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return 0 even if a number falls short: that is a finding, not an error."""
    options = _read_arguments(arguments)
    if options.readme:
        write_readme(json.loads(RESULTS.read_text("utf-8")))
        return 0
    interpreter = this_interpreter()
    folder = ROOT / ".venvs" / f"{interpreter.version}-bench"
    python = prepare(folder, interpreter, "bench,cli,collector,otel")
    size = Size.quick() if options.quick else Size.full()
    with tempfile.TemporaryDirectory() as files:
        answers = measure(
            Setting(str(python), Path(files), size), options.repetitions, options.only
        )
    if options.quick or options.only:
        return 0
    results = {
        "circumstances": circumstances(python, options.repetitions),
        "answers": [asdict(answer) for answer in answers],
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    write_readme(results)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetUpError as error:
        sys.exit(f"run.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
