"""Run everything that must pass, in environments of its own: `python3 tools/test.py`.

Everything is a test that pytest runs: ruff, mypy and the build of the documentation too.
Needs Python and a network on the first run, and nothing else. With ``CI=true`` in the environment
it tests with every supported Python that it finds, and once without any extra; with ``--wine``
also with Windows Pythons, which it assembles on Debian.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from _environment import (
    ROOT,
    Interpreter,
    SetUpError,
    find_interpreters,
    prepare,
    supported_versions,
    this_interpreter,
)

ENVIRONMENTS = ROOT / ".venvs"
EVERYTHING = "all,test,docs,bench"
# What the suite itself is made of; every other package is an extra that a test may miss.
BARE_MINIMUM = ("pytest >= 9.0", "pytest-xdist >= 3.6", "hypothesis >= 6.100")
WINE = ROOT / "tools" / "windows"
WINDOWS_PYTHONS = ("3.11", "3.13")
# Tests of the checkout and not of the package, which a Windows Python has nothing to add to.
NOT_UNDER_WINE = ("architecture", "bench", "docs", "eliot_suite", "project", "tools")
# A test that misses a package skips with one of these words: pytest.importorskip's, and ours.
_MISSING_PACKAGE = re.compile(r"could not import|needs the package|not installed|extra")
# A run takes less than half of this, also on a busy machine; one that does not end is ended.
LONGEST_RUN_S = 25 * 60
# More than so many failures are no accident, and are not tried again.
MOST_TRIED_AGAIN = 8


@dataclass
class Tally:
    """What has been found so far."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    complaints: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count also what another one counted."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.complaints += other.complaints
        self.unsteady += other.unsteady

    def complain(self, what: str) -> None:
        """Count one failure that is not a test's."""
        self.failed += 1
        self.complaints.append(what)

    def read_report(self, report: Path, name: str, *, complete: bool) -> None:
        """Add what a run of pytest reported.

        Args:
            report: The run's JUnit XML.
            name: What to call the run.
            complete: Whether every package was there, so that missing one is no reason to skip.
        """
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed += 1
                self.failures.append(f"{name}: {case.get('classname')}.{case.get('name')}")
            elif skip is None:
                self.passed += 1
            elif complete and _MISSING_PACKAGE.search(skip.get("message", "")):
                self.complain(f"{name}: {case.get('name')} skipped: {skip.get('message')}")
            else:
                self.skipped += 1


def choose(wanted: Sequence[str], *, is_ci: bool) -> list[Interpreter]:
    """Choose the Pythons to test with, and say which are not there.

    Raises:
        SetUpError: If one that was asked for by name is not there.
    """
    running = this_interpreter()
    if not wanted and not is_ci:
        return [running]
    found = find_interpreters(running)
    missing = set(wanted or supported_versions()) - {each.version for each in found}
    if wanted and missing:
        msg = f"found no working Python {', '.join(sorted(missing))}. Install it, or leave it out."
        raise SetUpError(msg)
    if missing:
        print(f"Not on this machine, so not tested: Python {', '.join(sorted(missing))}")
    return [each for each in found if not wanted or each.version in wanted]


def run_suite(
    tally: Tally,
    interpreter: Interpreter,
    rest: Sequence[str],
    *,
    bare: bool = False,
    windows: Path | None = None,
) -> None:
    """Run pytest with one Python.

    Args:
        tally: Where to count what comes out.
        interpreter: Which Python.
        rest: More arguments for pytest.
        bare: Whether to do it without any extra, and not with all of them.
        windows: Where Windows Pythons were assembled, for the tests that start them.
    """
    name = f"Python {interpreter.version} {'without extras' if bare else 'with everything'}"
    print(f"\n#### {name}", flush=True)
    folder = ENVIRONMENTS / f"{interpreter.version}-{'bare' if bare else 'all'}"
    extras, also = ("", BARE_MINIMUM) if bare else (EVERYTHING, ())
    try:
        python = prepare(folder, interpreter, extras, also)
    except SetUpError as error:
        tally.complain(f"{name}: {error}")
        return
    command = [str(python), "-m", "pytest", *rest]
    run = _Run(name, command, folder, parallel=True, complete=not bare, windows=windows)
    tally.add(run.run())


def assemble_windows(tally: Tally) -> Path | None:
    """Assemble the Windows Pythons, and return where they are; None if that failed."""
    print("\n#### Windows Pythons under Wine", flush=True)
    folder = ENVIRONMENTS / "windows"
    versions = [f"--python={version}" for version in WINDOWS_PYTHONS]
    command = [sys.executable, str(WINE / "setup.py"), str(folder), *versions]
    if subprocess.run(command, check=False).returncode:
        tally.complain("Windows Pythons could not be assembled.")
        return None
    return folder


def run_under_wine(tally: Tally, windows: Path, version: str, rest: Sequence[str]) -> None:
    """Run pytest with a Windows Python, on what a Windows Python can say more about."""
    name = f"Windows Python {version}"
    print(f"\n#### {name}", flush=True)
    ignored = [f"--ignore=tests/test_{about}.py" for about in NOT_UNDER_WINE]
    command = [sys.executable, str(WINE / "wpy.py"), f"--root={windows}", f"--python={version}"]
    # Each look at a file takes long under Wine, and the same properties are tried above.
    quick = ["--hypothesis-profile=few", "--ignore=tests/windows"]
    command += ["--", "-m", "pytest", *quick, *ignored, *rest]
    folder = windows / f"reports-{version}"
    tally.add(_Run(name, command, folder, parallel=False, complete=False).run())


@dataclass(frozen=True)
class _Run:
    """A run of pytest; what fails is tried once more by itself, and told apart if it passes then.

    Attributes:
        name: What to call it.
        command: Python and pytest and their arguments.
        folder: Where its report and its cache are.
        parallel: Whether two processes share the tests, as one test at a time would take long.
        complete: Whether every package is there, so that missing one is no reason to skip.
        windows: Where Windows Pythons were assembled, for the tests that start them.
    """

    name: str
    command: Sequence[str]
    folder: Path
    parallel: bool
    complete: bool
    windows: Path | None = None

    def run(self) -> Tally:
        """Run it, and return what came out."""
        self.folder.mkdir(exist_ok=True)
        first = self._run_once("report.xml", ["-n", "2"] if self.parallel else [])
        if not 0 < len(first.failures) <= MOST_TRIED_AGAIN or first.complaints:
            return first
        print(f"\n#### {self.name}: once more what failed, by itself", flush=True)
        options = ["--last-failed", "--last-failed-no-failures=none"]
        again = self._run_once("report-again.xml", options)
        first.unsteady = sorted(set(first.failures) - set(again.failures))
        first.failed, first.complaints = again.failed, again.complaints
        first.passed += again.passed
        return first

    def _run_once(self, report_name: str, options: Sequence[str]) -> Tally:
        """Run pytest, and count what it reports. Fewer failures than it says is a failure too."""
        tally, report = Tally(), self.folder / report_name
        report.unlink(missing_ok=True)
        environment = _clean_environment()
        if self.windows:
            environment["ELIOT_ETW_WINDOWS"] = str(self.windows)
        # By paths from the checkout, which are the same for programs of both systems.
        place = self.folder.relative_to(ROOT).as_posix()
        files = [f"--override-ini=cache_dir={place}/cache", f"--junitxml={place}/{report_name}"]
        status = _run_bounded([*self.command, *options, *files], environment)
        if status is None:
            tally.complain(f"{self.name}: ended by force after {LONGEST_RUN_S} s")
            return tally
        if report.exists():
            tally.read_report(report, self.name, complete=self.complete)
        # 1 is what it ends with when all tests were run, and some failed.
        if status not in (0, 1) or (status and not tally.failed):
            tally.complain(f"{self.name}: pytest ended with status {status}")
        return tally


def _run_bounded(command: Sequence[str], environment: dict[str, str]) -> int | None:
    """Run a program; with it end the processes that it started, also when it takes too long.

    Returns:
        Its exit status; None if it did not end by itself.
    """
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as process:
        try:
            return process.wait(LONGEST_RUN_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if sys.platform == "win32":
                process.kill()
            else:
                # There is no such group when all have ended.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _clean_environment() -> dict[str, str]:
    """Return the environment variables, without those that let other packages in."""
    unwanted = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"PYTHONNOUSERSITE": "1"}


def _read_arguments() -> argparse.Namespace:
    """Read the command line; what follows ``--`` is pytest's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="X.Y",
        help="test with this Python (may be repeated); default: the one that runs this",
    )
    parser.add_argument(
        "--wine",
        action="store_true",
        help="test with Windows Pythons too, under Wine, which it installs as root on Debian",
    )
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args()


def main() -> int:
    """Run it all, print the sum, and return 0 only if all of it passed."""
    arguments = _read_arguments()
    is_ci = os.environ.get("CI", "").lower() not in {"", "0", "false"}
    started = time.monotonic()
    interpreters = choose(arguments.python, is_ci=is_ci)
    print("Testing with Python", ", ".join(each.version for each in interpreters))
    if not arguments.wine:
        print("Not asked for, so not tested: Windows Pythons under Wine (--wine)")
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    main_one = next((i for i in interpreters if i.version == running), interpreters[-1])
    tally = Tally()
    windows = assemble_windows(tally) if arguments.wine else None
    for interpreter in interpreters:
        started_from = windows if interpreter is main_one else None
        run_suite(tally, interpreter, arguments.pytest, windows=started_from)
    if is_ci:
        run_suite(tally, main_one, arguments.pytest, bare=True)
    if windows:
        for version in WINDOWS_PYTHONS:
            run_under_wine(tally, windows, version, arguments.pytest)
    print("\n#### All together")
    for unsteady in tally.unsteady:
        print("UNSTEADY", unsteady, "failed, and passed by itself: a race, here or in the program")
    for complaint in tally.complaints:
        print("FAILED", complaint)
    seconds = time.monotonic() - started
    runs = len(interpreters) + is_ci + (len(WINDOWS_PYTHONS) if windows else 0)
    print(
        f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped "
        f"in {runs} run{'s' if runs > 1 else ''}, {seconds:.0f} s"
    )
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetUpError as error:
        sys.exit(f"test.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
