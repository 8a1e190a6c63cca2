"""Tests of ``eliot-etw collect``; what the collector does is tested where it is."""

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")

from tests.collector._processes import wait_until

CONFIG = """\
inputs: [{kind: zmq, endpoint: "tcp://127.0.0.1:*"}]
http: 127.0.0.1:0
sinks:
  a: {kind: jsonlines, path: PATH}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "collector.yaml"
    path.write_text(CONFIG.replace("PATH", str(tmp_path / "log")))
    return path


def test_check(call, config):
    """A configuration can be checked without running it."""
    assert call("collect", "--config", config, "--check") == (0, "", "")
    config.write_text(CONFIG.replace("kind: json", "kind: xml"))
    status, _, errors = call("collect", "--config", config, "--check")
    assert status == 2
    assert errors.startswith(f"eliot-etw: {config}:4: sinks.a.kind must be one of ")


def test_no_file(call, tmp_path):
    """A file that is not there is said to be so."""
    status, _, errors = call("collect", "--config", tmp_path / "no.yaml", "--check")
    assert status == 2
    assert "No such file" in errors


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_says_where(start, config, tmp_path):
    """It says at its start where everything is, and ends in order."""
    program = start("collect", "--config", config, "--state", tmp_path / "state")
    said = [program.stderr.readline().decode() for _ in range(4)]
    assert said[0].startswith("eliot-etw: takes messages from tcp://127.0.0.1:")
    assert said[1].endswith(f"sink a: {tmp_path / 'log'}\n")
    assert str(tmp_path / "state") in said[2]
    assert "/healthz and /metrics" in said[3]
    program.send_signal(signal.SIGTERM)
    assert wait_until(lambda: program.poll() is not None)
    assert program.returncode == 0


ENDS_ITSELF = """
import signal, sys, threading
from eliot_etw.cli import main

def end():
    sys.stdin.readline()
    signal.raise_signal(getattr(signal, "SIGBREAK", signal.SIGINT))

threading.Thread(target=end, daemon=True).start()
sys.exit(main())
"""


def test_ends_at_a_key(config, tmp_path):
    """Ctrl-Break of Windows, and Ctrl-C elsewhere, end it in order."""
    state = tmp_path / "state"
    command = (sys.executable, "-c", ENDS_ITSELF, "collect", "--config", config, "--state", state)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as program:
        said = [program.stderr.readline() for _ in range(4)]
        assert b"/healthz" in said[3]
        program.communicate(b"\n", timeout=60)
        assert program.returncode == 0
    assert "collector:stopped" in (state / "collector.log").read_text("utf-8")


def test_default_state(start, tmp_path):
    """Without options, everything is in the state folder of the user."""
    env = {"XDG_STATE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    program = start("collect", env=env)
    # Somebody may have the usual port on this machine: then it says that.
    said = program.stderr.readline().decode()
    assert "takes messages from tcp://127.0.0.1:5515" in said or "cannot listen" in said
    assert (tmp_path / "eliot-etw" / "lock").exists()
