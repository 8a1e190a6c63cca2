"""Tests of what docs/collector/running.md has to be copied: the unit and the container file."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

pytest.importorskip("click")
pytest.importorskip("zmq")
pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector._keys import make_keys
from tests.collector._processes import CollectorProcess, Shipper, lines_of, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="units and containers are Linux's")

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "collector" / "running.md"
ELIOT_ETW = (sys.executable, "-m", "eliot_etw.cli")
CONFIG = """\
http: 127.0.0.1:0
inputs:
  - kind: zmq
    endpoint: tcp://127.0.0.1:*
    keys: {folder}/allowed
    secret_key: {folder}/credentials/collector.key_secret
sinks:
  lines: {{kind: jsonlines, path: {folder}/state/lines.jsonl}}
"""
NEW_SINK = "  store: {{kind: sqlite, path: {folder}/state/store.sqlite}}\n"


def block(name):
    """Return the block of the page that a file's name begins."""
    [text] = re.findall(
        rf"```text\n(# \S*{re.escape(name)}\n.*?)```", PAGE.read_text("utf-8"), re.S
    )
    return text


@pytest.fixture
def unit():
    """Read the unit."""
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(block("eliot-etw-collector.service"))
    return parser["Service"]


def test_unit_is_one(tmp_path):
    """Nothing is wrong with the unit: systemd says so."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    text = block("eliot-etw-collector.service")
    assert "/opt/eliot-etw/bin/eliot-etw " in text
    file = tmp_path / "eliot-etw-collector.service"
    # A program that is there: that, too, is looked at.
    file.write_text(text.replace("/opt/eliot-etw/bin/eliot-etw", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if file.name in line]
    assert said == []


def command_of(unit, config, state):
    """Return the command of the unit, with our paths."""
    program, *options = shlex.split(unit["ExecStart"])
    assert program == "/opt/eliot-etw/bin/eliot-etw"
    paths = {
        "/etc/eliot-etw/collector.yaml": str(config),
        f"/var/lib/{unit['StateDirectory']}": str(state),
    }
    return [*ELIOT_ETW, *(paths.get(option, option) for option in options)]


def test_unit_runs(unit, tmp_path):
    """Its command starts a collector that is reloaded and ended as the unit says."""
    credential, _, _ = unit["LoadCredential"].partition(":")
    public, _ = make_keys(tmp_path / "credentials", credential.partition(".")[0])
    assert (tmp_path / "credentials" / credential).exists()
    _, secret = make_keys(tmp_path / "allowed", "web-1")
    collector = CollectorProcess(tmp_path, CONFIG.format(folder=tmp_path))
    collector.state.mkdir()
    assert command_of(unit, collector.config, collector.state) == collector.start().program.args
    log = collector.state / "collector.log"
    try:
        collector.config.write_text((CONFIG + NEW_SINK).format(folder=tmp_path))
        assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
        collector.program.send_signal(signal.SIGHUP)
        wait_until((tmp_path / "state" / "store.sqlite").exists)
        wait_until(lambda: "collector:reloaded" in log.read_text("utf-8"))
        collector.config.write_text("inputs: 5\n")
        collector.program.send_signal(signal.SIGHUP)
        wait_until(lambda: "collector:not_reloaded" in collector.text())
        assert f"{collector.config}:1: sinks is missing" in collector.text()
        certificate = pytest.importorskip("zmq.auth").load_certificate
        shipper = Shipper(
            collector.endpoint, keys=certificate(secret), server_key=certificate(public)[0]
        )
        shipper.greet()
        shipper.ship(lines_of(3))
        shipper.wait_for_ack(3)
        shipper.close()
        collector.program.send_signal(signal.SIGTERM)
        assert collector.program.wait(int(unit["TimeoutStopSec"])) == 0
    finally:
        collector.kill()
    assert len((collector.state / "lines.jsonl").read_bytes().splitlines()) == 3


@pytest.fixture
def container():
    """Read the container file: each instruction and what comes after it."""
    text = block("Containerfile").replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line and line[0] != "#"]
    return {instruction: rest.strip() for instruction, _, rest in lines}


def test_container(container):
    """It installs extras that there are, as one who may write where the state is."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    [extras] = re.findall(r"'eliot-etw\[(.*)\]'", container["RUN"])
    assert set(extras.split(",")) <= setup["options.extras_require"].keys()
    assert f"install -d -o {container['USER']} {container['VOLUME']}" in container["RUN"]
    assert f"{container['USER']} " in container["RUN"].partition("useradd ")[2]
    command = json.loads(container["ENTRYPOINT"]) + json.loads(container["CMD"])
    assert command[:4] == ["eliot-etw", "collect", "--state", container["VOLUME"]]
    done = subprocess.run(
        [*ELIOT_ETW, *command[1:], "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert command[-1] in done.stderr


def test_container_is_well(container, tmp_path):
    """What looks whether it is well says so while it is, and otherwise while it is not."""
    kind, _, words = container["HEALTHCHECK"].partition(" ")
    python, *arguments = json.loads(words)
    assert (kind, python) == ("CMD", "python")
    service = CollectorProcess(
        tmp_path,
        "http: 127.0.0.1:0\n"
        "inputs: [{kind: zmq, endpoint: 'tcp://127.0.0.1:*'}]\n"
        f"sinks: {{a: {{kind: jsonlines, path: {json.dumps(str(tmp_path / 'log'))}}}}}\n",
    )
    service.start()

    def looks():
        program = [
            each.replace("http://127.0.0.1:5516/healthz", service.http) for each in arguments
        ]
        assert program != arguments
        return subprocess.run(
            [sys.executable, *program], capture_output=True, timeout=60, check=False
        ).returncode

    try:
        assert looks() == 0
    finally:
        service.kill()
    assert looks() == 1
