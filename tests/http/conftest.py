"""What the tests of servers and clients share: services as programs of their own, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVICE = Path(__file__).with_name("_service.py")
# Which packages a kind of service needs.
NEEDS = {"gunicorn": "gunicorn", "uvicorn": "uvicorn", "aiohttp": "aiohttp", "eliot": "eliot"}
_PATIENCE_S = 60


class Service:
    """A service that has been started: its URL, and what it logs."""

    def __init__(self, url, log, process):
        self.url = url
        self.process = process
        self._log = log

    def logged(self, is_all):
        """Wait until it has logged all, and return it.

        A service may log the end of a request when the client has its answer already.
        """
        end = time.monotonic() + _PATIENCE_S
        while True:
            text = self._log.read_bytes() if self._log.exists() else b""
            # What follows the last newline is a line that is not yet written.
            lines = text.split(b"\n")[:-1]
            messages = [json.loads(line) for line in lines]
            if is_all(messages):
                return messages
            assert time.monotonic() < end, messages
            time.sleep(0.02)

    def requests(self, count=1):
        """Wait until it has logged so many requests to their end, and return all it logged."""

        def is_all(messages):
            ends = [m for m in messages if m.get("action_status") in ("succeeded", "failed")]
            types = [message["action_type"] for message in ends]
            return types.count("http:request") + types.count("peer:request") >= count

        return self.logged(is_all)


@pytest.fixture
def service(tmp_path):
    """Return a function that starts a service of a kind, see `_service.py`."""
    started = []

    def service(kind):
        if kind in NEEDS:
            pytest.importorskip(NEEDS[kind])
        listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        with listener:
            fd = listener.fileno()
            log = tmp_path / f"{kind}-{len(started)}.log"
            process = subprocess.Popen(
                [sys.executable, SERVICE, kind, log, str(fd)],
                pass_fds=[fd],
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            started.append(process)
            return Service(f"http://127.0.0.1:{listener.getsockname()[1]}", log, process)

    yield service
    for process in started:
        # With the workers that it has forked.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
