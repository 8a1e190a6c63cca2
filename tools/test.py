"""Run everything that must pass, in environments of its own: `python3 tools/test.py`.

Everything is a test that pytest runs: ruff, mypy and the build of the documentation too.
Needs Python and a network on the first run, and nothing else. With ``CI=true`` in the environment
it tests with every supported Python that it finds, and once without any extra; with ``--wine``
also with Windows Pythons, which it assembles on Debian.
"""

from __future__ import annotations

import argparse
import os
import re
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
BARE_MINIMUM = ("pytest >= 8.2", "hypothesis >= 6.100")
WINE = ROOT / "tools" / "windows"
WINDOWS_PYTHONS = ("3.11", "3.13")
# Tests of the checkout and not of the package, which a Windows Python has nothing to add to.
NOT_UNDER_WINE = ("architecture", "bench", "docs", "eliot_suite", "project", "tools")
# A test that misses a package skips with one of these words: pytest.importorskip's, and ours.
_MISSING_PACKAGE = re.compile(r"could not import|needs the package|not installed|extra")


@dataclass
class Tally:
    """What has been found so far."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    complaints: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count also what another one counted."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.complaints += other.complaints

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
    extras, also, parallel = ("", BARE_MINIMUM, []) if bare else (EVERYTHING, (), ["-n", "2"])
    try:
        python = prepare(folder, interpreter, extras, also)
    except SetUpError as error:
        tally.complain(f"{name}: {error}")
        return
    command = [str(python), "-m", "pytest", *parallel, *rest]
    _run_pytest(tally, name, command, folder / "report.xml", complete=not bare, windows=windows)


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
    cache = (windows / f"cache-{version}").relative_to(ROOT).as_posix()
    command += ["--", "-m", "pytest", f"--override-ini=cache_dir={cache}", *quick, *ignored, *rest]
    first = Tally()
    _run_pytest(first, name, command, windows / f"report-{version}.xml", complete=False)
    if first.failed:
        print("Once more what failed: at times Wine cannot start a program.", flush=True)
        again, report = Tally(), windows / f"report-{version}-again.xml"
        _run_pytest(again, name, [*command, "--last-failed"], report, complete=False)
        first.passed += again.passed
        first.failed, first.complaints = again.failed, again.complaints
    tally.add(first)


def _run_pytest(
    tally: Tally,
    name: str,
    command: Sequence[str],
    report: Path,
    *,
    complete: bool,
    windows: Path | None = None,
) -> None:
    """Run it, and count what it reports. Fewer failures than it says is a failure too."""
    report.unlink(missing_ok=True)
    environment = _clean_environment()
    if windows:
        environment["ELIOT_ETW_WINDOWS"] = str(windows)
    # By its path from the checkout, which is the same for programs of both systems.
    options = [f"--junitxml={report.relative_to(ROOT).as_posix()}"]
    status = subprocess.run(
        [*command, *options], cwd=ROOT, env=environment, check=False
    ).returncode
    failed_before = tally.failed
    if report.exists():
        tally.read_report(report, name, complete=complete)
    if status and tally.failed == failed_before:
        tally.complain(f"{name}: pytest ended with status {status}")


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
