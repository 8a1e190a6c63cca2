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


IN_CHILD = """
import os, traceback

def in_child(work):
    # Do something in a forked process, which ends then; it must succeed. Return its number.
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    return child
"""


def run_forking(program, *arguments, **options):
    """Run a program that does things ``in_child(work)``; the rest is as with `run`.

    A process of tests has threads that others left, of which any may have a lock when it is
    forked. Nobody in the child would ever release that one.
    """
    return run(IN_CHILD + dedent(program), *arguments, **options)
