"""Start a Windows Python under Wine: `python3 tools/windows/wpy.py -- -m pytest tests/etw`.

Needs what `setup.py` beside it assembles. Standard input is empty; both outputs come as one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from _wine import ASSEMBLED, WindowsPython, find_assembled


def stream(python: WindowsPython, arguments: list[str], record: Path | None = None) -> int:
    """Run it, pass on what it writes as it comes, and return its exit status."""
    with subprocess.Popen(
        python.command(*arguments),
        env=python.environment(record),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type: it is a pipe
        for line in process.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    return process.returncode


def _read_arguments() -> argparse.Namespace:
    """Read the command line; what follows ``--`` is Python's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ASSEMBLED, help="default: %(default)s")
    parser.add_argument("--python", metavar="X.Y", help="default: the oldest that was assembled")
    parser.add_argument("--record", type=Path, help="record each call of the ETW API to this file")
    parser.add_argument("arguments", nargs="*", help="what Python is started with, after --")
    return parser.parse_args()


def main() -> int:
    """Start it, and return its exit status."""
    options = _read_arguments()
    pythons = find_assembled(options.root)
    chosen = [each for each in pythons if options.python in {None, each.version}]
    if not chosen:
        print(
            f"wpy.py: found no Windows Python {options.python or ''} in {options.root}. "
            "Assemble it: python3 tools/windows/setup.py",
            file=sys.stderr,
        )
        return 2
    return stream(chosen[0], options.arguments, options.record)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
