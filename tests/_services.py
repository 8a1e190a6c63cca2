"""The servers of the tests that need some; where there are none, they skip, and fail in the CI."""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "services.py"


def start(name, folder):
    """Start a server of one's own: ``redis``, ``nats`` or ``clickhouse``; it is to be stopped."""
    return _tool().started(_kind(name), folder)


def start_cluster(folder):
    """Start three NATS servers that are one, which are to be stopped."""
    _kind("nats")
    return _tool().NatsCluster(folder)


@cache
def shared(name):
    """Start a server for all tests that can share one; each is to use names of its own there."""
    folder = tempfile.mkdtemp(prefix=f"{name}-")
    server = start(name, folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stop)
    return server


def _kind(name):
    """Find what starts servers of a kind, if they can be started here."""
    if sys.platform == "win32":
        pytest.skip("the servers of the tests run on Linux")
    kind = _tool().KINDS[name]
    why = _tool().why_not(kind)
    if why and sys.platform == "linux" and os.environ.get("CI"):
        pytest.fail(why)
    if why:
        pytest.skip(why)
    return kind


@cache
def _tool():
    """Load what starts servers."""
    spec = spec_from_file_location("tools_services", TOOL)
    tool = module_from_spec(spec)
    sys.modules[spec.name] = tool
    spec.loader.exec_module(tool)
    return tool
