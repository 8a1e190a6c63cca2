"""What does it cost a program to ship its messages, and how fast do they go?

What takes them is a process of its own that does as little as can be: what a collector takes is
measured in collector_speed.py. As a program it is one measurement: ``shipping_speed.py CASE
CONTENDER FILE COUNT`` prints its number.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from _measure import Question, Reach, Setting, printed_number

FILE: Final = "FileDestination"
ZMQ: Final = "ZmqDestination"
ON_DISK: Final = "ZmqDestination with a spool on disk"
BARE: Final = "bare pyzmq, a message a frame"
PACKAGES: Final = ("zmq", "msgspec")
# As many messages as the queue holds with room to spare, and of so many bursts the median counts.
BURST: Final = 4_000
BURSTS: Final = 10
# So that a line has about 300 bytes.
TEXT: Final = "x" * 130
WAIT_S: Final = 600.0


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    for package in PACKAGES:
        tried = subprocess.run(
            [setting.python, "-c", f"import {package}"], capture_output=True, check=False
        )
        if tried.returncode:
            print(f"Shipping is not measured: {package} is not installed.")
            return []
    calls = setting.size.calls
    return [
        Question(
            "`log_message` of 300 bytes, the thread that logs, in bursts that a queue holds",
            "µs",
            {
                name: partial(_measure, setting, "burst", name, calls)
                for name in (FILE, ZMQ, ON_DISK)
            },
            [Reach(FILE, ours=ZMQ, at_most=1), Reach(FILE, ours=ON_DISK, at_most=1)],
        ),
        Question(
            "`log_message` of 300 bytes without a pause, until all is acknowledged",
            "µs",
            {
                name: partial(_measure, setting, "sustained", name, calls * BURSTS)
                for name in (ZMQ, ON_DISK, BARE)
            },
            [Reach(BARE, ours=ZMQ, at_least=0.35)],
        ),
    ]


def _measure(setting: Setting, case: str, name: str, count: int) -> float:
    path = setting.folder / "shipping.log"
    path.unlink(missing_ok=True)  # each measurement gets a fresh file
    return printed_number(setting.python, __file__, case, name, path, str(count))


# ---- in the child process ----------------------------------------------------------------------


@contextmanager
def _taker(kind: str, count: int) -> Iterator[str]:
    """Start what takes messages, in a process of its own; give its address."""
    command = [sys.executable, __file__, "take", kind, "-", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("there is no pipe to the process")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def take(kind: str, _path: str, count: int) -> float:
    """Take messages for ever, and acknowledge them as a collector does."""
    import zmq

    router = zmq.Context().socket(zmq.ROUTER)
    router.rcvhwm = 0
    port = router.bind_to_random_port("tcp://127.0.0.1")
    print(f"tcp://127.0.0.1:{port}", flush=True)
    if kind == BARE:
        while True:
            for _ in range(count):
                peer, _frame = router.recv_multipart()
            router.send_multipart([peer, b"all"])
    from eliot_etw.shipping._protocol import Ack, Batch, Hello, Ping, Pong, Welcome, decode, encode

    while True:
        peer, frame = router.recv_multipart()
        message = decode(frame)
        answer: Any = None
        if isinstance(message, Hello):
            answer = Welcome(1, bytes(16), 0, 1 << 20, 10_000, 8 << 20)
        elif isinstance(message, Batch):
            answer = Ack(message.sender, message.last)
        elif isinstance(message, Ping):
            answer = Pong(message.number)
        if answer is not None:
            router.send_multipart([peer, encode(answer)])


def _log(count: int) -> None:
    """Log so many messages."""
    from eliot_etw import log_message

    for number in range(count):
        log_message("bench:message", number=number, text=TEXT)


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _begin(name: str, path: str, endpoint: str) -> Callable[[], object]:
    """Set up what messages go to, in an action; return what waits until all are there."""
    from eliot_etw import FileDestination, add_destinations, start_action
    from eliot_etw.destinations import ZmqDestination

    start_action(action_type="bench:outer").__enter__()
    if name == FILE:
        add_destinations(FileDestination(path))
        return lambda: True
    folder = f"{path}.waiting" if name == ON_DISK else None
    destination = ZmqDestination(endpoint, spool_folder=folder, block_timeout_s=WAIT_S)
    add_destinations(destination)
    return lambda: destination.flush(WAIT_S) or sys.exit("not all messages were acknowledged")


def burst(name: str, path: str, count: int) -> float:
    """Return the microseconds of a message while the queue has room, for the calling thread."""
    size = min(count, BURST)
    times = []
    with _taker(name, count) as endpoint:
        flush = _begin(name, path, endpoint)
        flush()
        for _ in range(BURSTS * max(1, count // size)):
            times.append(_seconds(partial(_log, size)))
            flush()
    # The median of bursts: in some of them the thread is at work, in others it sleeps.
    return sorted(times)[len(times) // 2] / size * 1e6


def sustained(name: str, path: str, count: int) -> float:
    """Return the microseconds of a message, all of them acknowledged."""
    with _taker(name, count) as endpoint:
        if name == BARE:
            return _seconds(_bare(endpoint, count)) / count * 1e6
        flush = _begin(name, path, endpoint)
        flush()

        def work() -> None:
            _log(count)
            flush()

        return _seconds(work) / count * 1e6


def _bare(endpoint: str, count: int) -> Callable[[], object]:
    """Connect; return what sends as many lines, which are there already, each in a frame."""
    import zmq

    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.connect(endpoint)
    line = b"x" * 300

    def work() -> None:
        send = dealer.send
        for _ in range(count):
            send(line)
        dealer.recv()

    return work


if __name__ == "__main__":
    case, contender, file, number = sys.argv[1:]
    cases = {"burst": burst, "sustained": sustained, "take": take}
    print(cases[case](contender, str(Path(file)), int(number)))
