"""Programs that tests run in an interpreter of their own."""

import subprocess
import sys
from textwrap import dedent


def run(program, *arguments, **options):
    """Run a Python program to its end, in at most two minutes; it must succeed.

    Args:
        program: Its text, which may be indented.
        *arguments: What is in its ``sys.argv``, as text.
        **options: Options for `subprocess.run`.

    Returns:
        What became of it, with both outputs as text.
    """
    command = [sys.executable, "-c", dedent(program), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done
