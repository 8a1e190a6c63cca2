"""Eliot's own tests, run against this package: what programs written for Eliot rely on."""

import json
import os
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import _journal

pytestmark = pytest.mark.skipif(find_spec("eliot") is None, reason="Eliot is not installed")

RUNNER = Path(__file__).with_name("run_eliot_suite.py")

# Each of Eliot's test modules, and which of its tests do not hold here, and why.
MODULES = {
    "test_action": {
        "ActionTests.test_start": "calls the private _start(); start_action logs starts here",
        "ActionTests.test_startFieldsNotInFinish": "calls the private _start()",
        "ActionTests.test_startMessageSerialization": "calls the private _start()",
        "IndividualMessageLogTests.test_log_adds_timestamp": "patches time.time, which is bound",
        "WrittenActionTests.test_children": "transforms private attributes of messages",
    },
    "test_api": {
        "PublicAPITests.test_addDestination": "adds an object that cannot be called: refused here",
    },
    "test_coroutines": {},
    "test_dask": {
        "AddLoggingTests.test_add_logging_explicit": "calls the private _add_logging()",
        "AddLoggingTests.test_add_logging_to_full_graph": "calls the private _add_logging()",
    },
    "test_filter": {},
    "test_generators": {},
    "test_journald": {},
    "test_json": {},
    "test_logwriter": {},
    "test_message": {
        "DeprecatedMessageTests.test_defaultTime": "looks at the private _time",
    },
    "test_output": {
        "LoggerTests.test_interface": "asks zope.interface, which is not needed here",
        "MemoryLoggerTests.test_interface": "asks zope.interface, which is not needed here",
    },
    "test_parse": {},
    "test_prettyprint": {
        "CommandLineTests.test_help": "looks for the very words of Eliot's help",
    },
    "test_serializers": {},
    "test_stdlib": {},
    "test_testing": {
        "LoggedActionTests.test_fromMessagesFinishNotFound": "the very words of an error",
    },
    "test_traceback": {},
    "test_twisted": {},
    "test_validation": {
        "ActionTypeTests.test_as_task": "replaces the private _startTask",
        "ActionTypeTests.test_as_taskArguments": "replaces the private _startTask",
        "ActionTypeTests.test_call": "replaces the private _start_action",
        "ActionTypeTests.test_callArguments": "replaces the private _start_action",
        "ActionTypeTests.test_defaultStartAction": "looks at the private _start_action",
        "ActionTypeTests.test_defaultStartTask": "looks at the private _startTask",
        "MessageSerializerTests.test_fieldInstances": "the very words of an error",
    },
}


@pytest.fixture
def environment(tmp_path):
    """Return an environment whose command eliot-prettyprint is ours.

    Eliot brings one of the same name, and which of them is in the environment of the tests depends
    on what was installed last.
    """
    command = tmp_path / "eliot-prettyprint"
    command.write_text(f"#!{sys.executable}\nfrom eliot_etw.prettyprint import main\nmain()\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


@pytest.mark.parametrize("module", MODULES)
def test_module(module, environment, tmp_path):
    """All tests of the module pass but those that are listed, each of which fails."""
    if module == "test_prettyprint" and os.name == "nt":
        pytest.skip("the command that the tests run is a script with a first line")
    within = _journal.shared().entering(tmp_path) if module == "test_journald" else []
    result = subprocess.run(
        [*within, sys.executable, RUNNER, module],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    outcome = json.loads(result.stdout)
    assert sorted(MODULES[module]) == sorted(outcome["failed"]), result.stderr.decode()
    assert outcome["run"] > len(outcome["skipped"]) + len(outcome["failed"])
