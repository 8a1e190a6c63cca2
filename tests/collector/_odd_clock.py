"""Runs a command ``python -m MODULE ...`` while the clock is set forth and back, by up to a year.

What asks the system itself, as SQLite does, sees the right time.
"""

import runpy
import sys
import time

_STEPS_S = (0, 3_600, -3_600, 400 * 86_400, -30 * 86_400, 1)
_EVERY_S = 0.2
_time, _time_ns = time.time, time.time_ns


def step_s():
    """Say by how much the clock is wrong now."""
    return _STEPS_S[int(time.monotonic() / _EVERY_S) % len(_STEPS_S)]


if __name__ == "__main__":
    time.time = lambda: _time() + step_s()
    time.time_ns = lambda: _time_ns() + step_s() * 1_000_000_000
    _, _, module, *arguments = sys.argv[1:]
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
