"""Tests of what `eliot_etw.http` loads."""

import subprocess
import sys

from eliot_etw import http

PROGRAM = """
import sys
from eliot_etw import http
print(sorted({"eliot_etw.http._headers", "eliot_etw.http.wsgi"} & sys.modules.keys()))
for name in http.__all__:
    getattr(http, name)
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"aiohttp", "asyncio", "flask", "httpx", "requests", "starlette"}))
"""


def test_loads_nothing():
    """A name is loaded when it is asked for, and none loads a framework."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert result.stdout == "[]\n[]\n"


def test_names():
    """What it has is in its list."""
    assert set(http.__all__) <= set(dir(http))
