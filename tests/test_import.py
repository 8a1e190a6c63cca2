"""Tests of what `import eliot_etw` loads: nothing that only some programs need."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

# What must not be loaded: it is optional, heavy, or for other programs than those that log.
UNNEEDED = {
    "asyncio",
    "boltons",
    "click",
    "concurrent",
    "ctypes",
    "dask",
    "eliot",
    "hypothesis",
    "logging",
    "multiprocessing",
    "numpy",
    "pandas",
    "polars",
    "pydantic",
    "pyrsistent",
    "pytest",
    "rich",
    "simpleeval",
    "socket",
    "tempfile",
    "trio",
    "twisted",
    "unittest",
    "zstandard",
}
# The modules of ours that only some programs need.
OWN = {
    "eliot_etw._configure",
    "eliot_etw.cli",
    "eliot_etw.dask",
    "eliot_etw.destinations.memory",
    "eliot_etw.etw",
    "eliot_etw._trace_context",
    "eliot_etw.environment",
    "eliot_etw.executors",
    "eliot_etw.filter",
    "eliot_etw.http",
    "eliot_etw.logwriter",
    "eliot_etw.parse",
    "eliot_etw.prettyprint",
    "eliot_etw.serializers",
    "eliot_etw.sources",
    "eliot_etw.stdlib",
    "eliot_etw.testing",
    "eliot_etw.twisted",
    "eliot_etw.viewers",
}
LOADED = """
import sys
before = set(sys.modules)
{}
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(statement):
    """Return the modules that a statement loads in a new interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", LOADED.format(statement)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(result.stdout))


def test_nothing_unneeded():
    """Importing the package loads no optional package, and nothing heavy of Python's own."""
    packages = {name.partition(".")[0] for name in loaded_by("import eliot_etw")}
    assert packages & UNNEEDED == set()


def test_nothing_unneeded_of_ours():
    """Nor does it load what reads logs or tests programs."""
    assert loaded_by("import eliot_etw") & OWN == set()


@pytest.mark.skipif(find_spec("eliot") is None, reason="Eliot is not installed")
def test_fewer_than_eliot():
    """It loads fewer modules than Eliot does."""
    assert len(loaded_by("import eliot_etw")) < len(loaded_by("import eliot"))


def test_nothing_unneeded_to_log():
    """Nor does a program that logs to a file, with a failure and a rich value in it."""
    program = (
        "import eliot_etw, os\n"
        "eliot_etw.to_file(os.devnull)\n"
        "try:\n"
        "    with eliot_etw.start_action(action_type='a', value={1}):\n"
        "        eliot_etw.log_message('t', big=2**70)\n"
        "        raise ValueError\n"
        "except ValueError:\n"
        "    eliot_etw.write_traceback()\n"
    )
    packages = {name.partition(".")[0] for name in loaded_by(program)}
    assert packages & UNNEEDED == set()


def test_names_that_are_imported_late():
    """A name that is imported when it is first asked for is there, and loads only its own."""
    loaded = loaded_by("from eliot_etw.destinations import MemoryDestination")
    assert "eliot_etw.destinations.memory" in loaded
    assert loaded & (OWN - {"eliot_etw.destinations.memory"}) == set()


def test_pytest_plugin():
    """Pytest loads our plugin in every run: it loads the kit only when a test asks for it."""
    loaded = loaded_by("import eliot_etw.testing.pytest_plugin")
    assert {name for name in loaded if name.startswith("eliot_etw.testing._")} == set()
