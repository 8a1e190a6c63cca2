"""What the tests of the collector share: messages, a sender made by hand, a real collector."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

_WAIT_S = 30.0
COLLECT = (sys.executable, "-m", "eliot_etw.cli", "collect")


def wait_until(is_true, timeout_s=_WAIT_S):
    """Wait until something is true, and return what it said; fail if that takes too long."""
    until = time.monotonic() + timeout_s
    while not (said := is_true()):
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)
    return said


def lines_of(count, task="task", start=1, **fields):
    """Make lines of JSON, each a message with its number."""
    return [
        json.dumps(
            {
                "task_uuid": task,
                "task_level": [number],
                "timestamp": 1.5,
                "message_type": "test:message",
                "number": number,
                **fields,
            }
        ).encode()
        for number in range(start, start + count)
    ]


class Shipper:
    """Speaks the protocol by hand, so that a test can say anything."""

    def __init__(self, endpoint, *, keys=None, server_key=None):
        import zmq

        from eliot_etw.shipping import _protocol

        self.protocol = _protocol
        self.sender = os.urandom(16)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        if keys is not None:
            self.socket.curve_publickey, self.socket.curve_secretkey = keys
            self.socket.curve_serverkey = server_key
        self.socket.connect(endpoint)

    def close(self):
        self.socket.close()
        self.context.term()

    def say(self, message):
        self.socket.send(self.protocol.encode(message))

    def hear(self, timeout_s=_WAIT_S):
        """Return the next message that comes; None if none does."""
        if not self.socket.poll(timeout_s * 1000):
            return None
        return self.protocol.decode(self.socket.recv())

    def hear_a(self, kind, timeout_s=_WAIT_S):
        """Return the next message of a kind."""
        until = time.monotonic() + timeout_s
        while True:
            message = self.hear(max(0, until - time.monotonic()))
            assert message is not None, f"no {kind.__name__} came"
            if isinstance(message, kind):
                return message

    def greet(self):
        """Say who it is, and return the welcome."""
        self.say(self.protocol.Hello((1,), self.sender, "host", 7, "test", 0, "json"))
        return self.hear_a(self.protocol.Welcome)

    def ship(self, lines, first=1):
        """Send lines as a batch."""
        payload = b"".join(line + b"\n" for line in lines)
        self.say(self.protocol.Batch(self.sender, first, len(lines), "json", "", payload))

    def wait_for_ack(self, through):
        """Wait until everything up to a number is acknowledged."""
        while self.hear_a(self.protocol.Ack).through < through:
            pass


class CollectorProcess:
    """A collector as a program of its own."""

    def __init__(self, folder, config):
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "collector.yaml"
        self.config.write_text(config)
        self.program = None

    def start(self, within=(), **options):
        """Start it, by a command that runs another one if so, and wait until it listens."""
        path = self.folder / "stderr.txt"
        offset = path.stat().st_size if path.exists() else 0
        with open(path, "ab") as said:
            self.program = subprocess.Popen(
                [*within, *COLLECT, "--config", str(self.config), "--state", str(self.state)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                **options,
            )
        wait_until(lambda: "/healthz" in self.text()[offset:] or self.program.poll() is not None)
        assert self.program.poll() is None, self.text()
        words = self.text()[offset:].split()
        self.endpoint = words[words.index("from") + 1]
        self.http = next(word for word in words if word.endswith("/healthz"))
        return self

    def text(self):
        """Return all that it said."""
        return (self.folder / "stderr.txt").read_text()

    def kill(self):
        """End it at once, wherever it is."""
        self.program.kill()
        self.program.wait()

    def stop(self):
        """End it in order; return its status."""
        self.program.send_signal(signal.SIGTERM)
        return self.program.wait(_WAIT_S)

    def figures(self):
        """Return its numbers, by name with labels."""
        with closing(urlopen(self.http.replace("healthz", "metrics"), timeout=10)) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name.removeprefix("eliot_etw_collector_"): int(value) for name, _, value in pairs}

    def health(self):
        """Return the status and the text that it gives of its health."""
        try:
            with closing(urlopen(self.http, timeout=10)) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()


def numbers_in(path):
    """Return the numbers of the messages in a file of JSON lines, and in what was put aside."""
    folder = Path(path).parent
    files = [*sorted(folder.glob(f"{Path(path).name}.0*")), Path(path)]
    numbers = []
    for file in files:
        with suppress(FileNotFoundError):
            # What is after the last newline is just being written.
            whole = file.read_bytes().split(b"\n")[:-1]
            numbers += [json.loads(line)["number"] for line in whole]
    return numbers
