"""Show what the library does, from a fresh clone: `python3 tools/demo.py [URL or folder]`.

Checks the links of a small site, or of the one given, and draws the log of it as a tree. Needs
Python and a network on the first run, and nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from _environment import ROOT, SetUpError, prepare, script, this_interpreter

LOG = "linkcheck.log"
# What examples/linkcheck.py ends with when it did its work: all is well, or links are broken.
DONE = (0, 1)


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[2])
    parser.add_argument("site", nargs="?", help="a URL or a folder to check instead of the demo's")
    arguments = parser.parse_args()
    environment = ROOT / ".venv"
    python = prepare(environment, this_interpreter(), "cli", keep=True)
    program = ROOT / "examples" / "linkcheck.py"
    print("Checking links with examples/linkcheck.py ...\n", flush=True)
    command = [python, program, "--log", LOG, *filter(None, [arguments.site])]
    checked = subprocess.run(command, check=False)
    if checked.returncode not in DONE:
        return checked.returncode
    print(f"\nWhat happened, from {LOG}: eliot-etw tree {LOG}\n", flush=True)
    return subprocess.run([script(environment, "eliot-etw"), "tree", LOG], check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetUpError as error:
        sys.exit(f"demo.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
