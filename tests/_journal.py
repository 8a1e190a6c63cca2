"""The journal of the tests that need one; where there is none, they skip, and fail in the CI."""

import atexit
import os
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "_journal.py"


def start(namespace=""):
    """Start a journal, which is to be closed."""
    tool = _tool()
    why = tool.why_not() if tool else "systemd-journald needs Linux"
    if why and sys.platform == "linux" and os.environ.get("CI"):
        pytest.fail(why)
    if why:
        pytest.skip(why)
    return tool.Journal(namespace)


@cache
def shared():
    """Start a journal for all tests that only write to it, and read what they wrote."""
    journal = start()
    atexit.register(journal.close)
    return journal


@cache
def _tool():
    """Load what starts journals, if it can be loaded."""
    if sys.platform != "linux":
        return None
    spec = spec_from_file_location("tools_journal", TOOL)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool
