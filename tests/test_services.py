"""Tests of tools/services.py: the servers that tests and developers start."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests._services import TOOL, shared, start, start_cluster


@pytest.mark.parametrize("name", ["redis", "nats", "clickhouse"])
def test_restart(tmp_path, name):
    """A server that is killed starts again on its port; its log and data are in its folder."""
    server = start(name, tmp_path / name)
    try:
        before = server.url
        server.stop(signal.SIGKILL)
        server.start()
        assert server.url == before
        assert server.log.parent == tmp_path / name
    finally:
        server.stop()


def test_pause(tmp_path):
    """A server that is paused does not answer, and does so when it goes on."""
    server = start("redis", tmp_path)
    try:
        server.pause()
        status = Path(f"/proc/{server.pid}/stat").read_text("ascii")
        assert status.rpartition(")")[2].split()[0] == "T"
        server.go_on()
        assert server._answers()
    finally:
        server.stop()


def test_cluster(tmp_path):
    """Three NATS servers find each other, and those that are left when one is killed."""
    cluster = start_cluster(tmp_path)
    try:
        assert len(set(cluster.urls)) == 3
        cluster.nodes[0].stop(signal.SIGKILL)
        cluster.wait()
    finally:
        cluster.stop()


def test_command(tmp_path):
    """The command says where the servers are, and removes everything when it is told to end."""
    shared("redis")  # where there is none, this skips
    command = [sys.executable, str(TOOL), "redis"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"TMPDIR": str(tmp_path)}
    ) as process:
        assert process.stdout.readline().split()[0] == "redis"
        assert any(tmp_path.iterdir())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not any(tmp_path.iterdir())


def test_unknown_service():
    """A service that there is not is one line that says which there are, and exit status 2."""
    done = subprocess.run(
        [sys.executable, str(TOOL), "foo"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "must be one of redis, nats, clickhouse, got foo." in done.stderr.splitlines()[-1]
