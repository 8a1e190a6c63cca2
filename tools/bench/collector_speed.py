"""What does it cost to ship a message to a collector, and to store it there?

Each measurement is a process: ``collector_speed.py CONTENDER MESSAGES FOLDER`` prints its number.
The collector is another process, as it is in use.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter, sleep
from typing import IO, Any
from uuid import UUID

from _measure import OURS, Question, Reach, Setting, printed_number

BARE = "bare pyzmq"
EXECUTEMANY = "bare executemany"
ONE, FIFTY = "1 sender", "50 senders"
MEMORY, DOWN, SQLITE = "memory", "down", "sqlite"
PACKAGES = ("zmq", "msgspec", "yaml", "click")
COLLECT = (sys.executable, "-m", "eliot_etw.cli", "collect")
# What one batch has, and about as many bytes as what is compared with it.
PER_BATCH = 1_000
BYTES = 300
# How many batches each sender may have under way.
WINDOW = 4
# How often a batch comes again that is held back, while memory is watched; and how soon.
HELD_BACK = 10
AGAIN_S = 0.2
# A sink that is down, for nobody listens there; and how much may wait for it.
SINK_THAT_IS_DOWN = """\
  down:
    kind: clickhouse
    url: clickhouse://127.0.0.1:1/default
    spool_bytes: {}
"""
WAIT_S = 60.0


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    for package in PACKAGES:
        tried = subprocess.run(
            [setting.python, "-c", f"import {package}"], capture_output=True, check=False
        )
        if tried.returncode:
            print(f"The collector is not measured: {package} is not installed.")
            return []
    calls, many = setting.size.calls, setting.size.many_messages
    ask = partial(_ask, setting)
    return [
        Question(
            "a message to a collector's file, acknowledged",
            "µs",
            {OURS: partial(ask, OURS, calls * 10), BARE: partial(ask, BARE, calls * 10)},
            [Reach(BARE, at_least=0.35)],
        ),
        Question(
            "a message that a collector takes and stores in a file",
            "µs",
            {name: partial(ask, name, max(50 * PER_BATCH, calls * 20)) for name in (ONE, FIFTY)},
            [Reach(ONE, at_least=0.9, ours=FIFTY)],
        ),
        Question(
            "a row of SQLite",
            "µs",
            {
                OURS: partial(ask, SQLITE, calls * 2),
                EXECUTEMANY: partial(ask, EXECUTEMANY, calls * 2),
            },
            [Reach(EXECUTEMANY, at_least=0.5)],
        ),
        Question(
            f"what a collector grows by over {many * 10:,} messages",
            "MiB",
            {OURS: partial(ask, MEMORY, many * 10)},
            [Reach(at_most=16)],
            is_noisy=False,
        ),
        Question(
            f"what a collector grows by while {many // 4:,} wait for a sink that is down",
            "MiB",
            {OURS: partial(ask, DOWN, many // 4)},
            [Reach(at_most=64)],
            is_noisy=False,
        ),
    ]


def _ask(setting: Setting, name: str, messages: int) -> float:
    """Measure one contender in a process of its own."""
    folder = mkdtemp(dir=setting.folder)
    return printed_number(setting.python, __file__, name, str(messages), folder)


# ---- in the child process ----------------------------------------------------------------------


def _lines(count: int, first: int = 0) -> list[bytes]:
    """Make lines of about 300 bytes: tasks of ten messages."""
    lines = []
    for number in range(first, first + count):
        message = {
            "task_uuid": str(
                UUID(int=(number // 10) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)
            ),
            "task_level": [1, number % 10 + 1],
            "timestamp": 1_795_181_013.25 + number / 1000,
            "message_type": "bench:message",
            "number": number,
            "text": "",
        }
        message["text"] = "x" * (BYTES - len(json.dumps(message)))
        lines.append(json.dumps(message, separators=(",", ":")).encode())
    return lines


@contextmanager
def _collector(folder: Path, other_sink: str = "") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a collector with a file as its sink, and perhaps another one; give its address."""
    config = folder / "collector.yaml"
    config.write_text(
        f"""\
http: null
inputs:
  - kind: zmq
    endpoint: tcp://127.0.0.1:*
sinks:
  lines:
    kind: jsonlines
    path: {folder}/messages.jsonl
    keep: 2
{other_sink}"""
    )
    program = subprocess.Popen(
        [*COLLECT, "--config", str(config), "--state", str(folder / "state")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _first_line(program.stderr).split()[-1], program
    finally:
        program.terminate()
        program.communicate(timeout=WAIT_S)


def _first_line(stream: IO[str] | None) -> str:
    """Read what a program says first."""
    if stream is None:
        raise RuntimeError("The program was started without a pipe.")
    return stream.readline()


def _flush(destination: Any) -> None:
    """Wait until all is acknowledged."""
    if not destination.flush(WAIT_S):
        raise RuntimeError(f"Not all was acknowledged: {destination.stats()}")


def _ours(messages: int, folder: Path) -> float:
    """Ship from one program, by the destination."""
    from eliot_etw.destinations.zmq import ZmqDestination

    message = json.loads(_lines(1)[0])
    with _collector(folder) as (endpoint, _), closing(ZmqDestination(endpoint)) as destination:
        destination(message)
        _flush(destination)
        started = perf_counter()
        for _ in range(messages):
            destination(message)
        _flush(destination)
        return (perf_counter() - started) / messages


def _bare(messages: int, folder: Path) -> float:
    """Move the same bytes, one message a frame, from one process to another."""
    import zmq

    line = _lines(1)[0]
    receiving = (
        "import sys, zmq\n"
        "socket = zmq.Context().socket(zmq.PAIR)\n"
        "port = socket.bind_to_random_port('tcp://127.0.0.1')\n"
        "print(port, flush=True)\n"
        "for _ in range(int(sys.argv[1]) + 1): socket.recv()\n"
        "socket.send(b'done')\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", receiving, str(messages)], stdout=subprocess.PIPE, text=True
    )
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket, program:
        socket.connect(f"tcp://127.0.0.1:{_first_line(program.stdout).strip()}")
        socket.send(line)
        sleep(0.2)
        started = perf_counter()
        for _ in range(messages):
            socket.send(line)
        socket.recv()
        return (perf_counter() - started) / messages


class _Sender:
    """Sends ready-made batches, so that the collector is what is measured."""

    def __init__(self, context: Any, endpoint: str, payload: bytes) -> None:
        import zmq

        from eliot_etw.shipping import _protocol

        self._protocol = _protocol
        self._payload = payload
        self._identity = os.urandom(16)
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self.sent = self.acknowledged = 0
        hello = _protocol.Hello((1,), self._identity, "host", 1, "bench", 0, "json")
        self.socket.send(_protocol.encode(hello))
        self._hear_a(_protocol.Welcome)

    def send(self, through: int) -> None:
        """Send as much as may be under way."""
        batch = self._protocol.Batch
        while self.sent < min(through, self.acknowledged + WINDOW * PER_BATCH):
            frame = batch(self._identity, self.sent + 1, PER_BATCH, "json", "", self._payload)
            self.socket.send(self._protocol.encode(frame))
            self.sent += PER_BATCH

    def hear(self) -> None:
        """Take an answer."""
        self.acknowledged = self._hear_a(self._protocol.Ack).through

    def is_held_back(self) -> bool:
        """Take an answer; say whether it is that there is no room, and all is to come again."""
        answer = self._hear_a((self._protocol.Ack, self._protocol.Refused))
        if isinstance(answer, self._protocol.Ack):
            self.acknowledged = answer.through
            return False
        self.sent = answer.first - 1
        return True

    def _hear_a(self, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        answer = self._protocol.decode(self.socket.recv())
        if not isinstance(answer, kind):
            msg = f"The collector must answer with {kind}, got {answer}."
            raise RuntimeError(msg)
        return answer


def _send_all(senders: list[_Sender], each: int) -> None:
    """Have every sender send so many messages more, and wait until all are acknowledged."""
    import zmq

    poller = zmq.Poller()
    by_socket = {}
    goals = {}
    for sender in senders:
        poller.register(sender.socket, zmq.POLLIN)
        by_socket[sender.socket] = sender
        goals[sender.socket] = sender.acknowledged + each
        sender.send(goals[sender.socket])
    while any(by_socket[socket].acknowledged < goal for socket, goal in goals.items()):
        for socket, _ in poller.poll(int(WAIT_S * 1000)):
            by_socket[socket].hear()
            by_socket[socket].send(goals[socket])


def _taken(count: int, messages: int, folder: Path) -> float:
    """Have some senders ship together."""
    import zmq

    payload = b"".join(line + b"\n" for line in _lines(PER_BATCH))
    each = messages // count // PER_BATCH * PER_BATCH
    with _collector(folder) as (endpoint, _), zmq.Context() as context:
        senders = [_Sender(context, endpoint, payload) for _ in range(count)]
        _send_all(senders, PER_BATCH)
        started = perf_counter()
        _send_all(senders, each)
        took = perf_counter() - started
        for sender in senders:
            sender.socket.close()
        return took / (each * count)


def _grown(messages: int, folder: Path) -> float:
    """Return by how many MiB a collector grows after the first quarter of all messages."""
    import zmq

    payload = b"".join(line + b"\n" for line in _lines(PER_BATCH))
    quarter = max(PER_BATCH, messages // 4 // PER_BATCH * PER_BATCH)
    with _collector(folder) as (endpoint, program), zmq.Context() as context:
        sender = _Sender(context, endpoint, payload)
        _send_all([sender], quarter)
        before = _resident_mib(program.pid)
        _send_all([sender], 3 * quarter)
        after = _resident_mib(program.pid)
        sender.socket.close()
        return max(0.1, after - before)


def _grown_while_down(messages: int, folder: Path) -> float:
    """Return by how many MiB a collector grows until it takes no more for a sink that is down."""
    import zmq

    payload = b"".join(line + b"\n" for line in _lines(PER_BATCH))
    sink = SINK_THAT_IS_DOWN.format(max(PER_BATCH, messages) * BYTES)
    with _collector(folder, sink) as (endpoint, program), zmq.Context() as context:
        sender = _Sender(context, endpoint, payload)
        _send_all([sender], PER_BATCH)
        before = _resident_mib(program.pid)
        while True:
            sender.send(sys.maxsize)
            if sender.is_held_back():
                break
        for _ in range(HELD_BACK):
            sleep(AGAIN_S)
            sender.send(sender.sent + PER_BATCH)
            while not sender.is_held_back():
                pass
        after = _resident_mib(program.pid)
        sender.socket.close()
        return max(0.1, after - before)


def _resident_mib(pid: int) -> float:
    """Return what a process has in memory; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


def _sqlite(messages: int, folder: Path) -> float:
    """Store batches by the sink."""
    from eliot_etw.collector.sinks import SINKS, Batch, Origin

    sink = SINKS.find("sqlite")(str(folder / "store.sqlite"))
    batches = [
        Batch(_lines(PER_BATCH, first), [Origin("bench", range(first + 1, first + PER_BATCH + 1))])
        for first in range(0, max(messages, PER_BATCH), PER_BATCH)
    ]
    started = perf_counter()
    for batch in batches:
        sink.write(batch).result()
    took = perf_counter() - started
    sink.close(1.0)
    return took / (len(batches) * PER_BATCH)


def _executemany(messages: int, folder: Path) -> float:
    """Write the rows that the sink has written into the same table of another file."""
    _sqlite(messages, folder)
    with closing(sqlite3.connect(folder / "store.sqlite")) as made:
        schema = made.execute(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = 'messages' AND sql IS NOT NULL "
            "AND type <> 'trigger'"
        ).fetchall()
        rows = made.execute("SELECT * FROM messages ORDER BY id").fetchall()
    with closing(sqlite3.connect(folder / "bare.sqlite", isolation_level=None)) as bare:
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = NORMAL")
        bare.execute("PRAGMA cache_size = -32768")
        for (statement,) in schema:
            bare.execute(statement)
        started = perf_counter()
        for first in range(0, len(rows), PER_BATCH):
            bare.execute("BEGIN")
            bare.executemany(
                "INSERT INTO messages VALUES (?,?,?,?,?,?,?,?,?)", rows[first : first + PER_BATCH]
            )
            bare.execute("COMMIT")
        return (perf_counter() - started) / len(rows)


CONTENDERS: dict[str, Callable[[int, Path], float]] = {
    OURS: _ours,
    BARE: _bare,
    ONE: partial(_taken, 1),
    FIFTY: partial(_taken, 50),
    MEMORY: _grown,
    DOWN: _grown_while_down,
    SQLITE: _sqlite,
    EXECUTEMANY: _executemany,
}


def main() -> None:
    """Print the number of one contender, in µs or MiB."""
    name, messages, folder = sys.argv[1:]
    number = CONTENDERS[name](int(messages), Path(folder))
    print(number if name in (MEMORY, DOWN) else number * 1e6)


if __name__ == "__main__":
    main()
