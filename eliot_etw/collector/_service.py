"""The collector as a program: its own log, the signals that it obeys, what it says."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from eliot_etw import add_destinations, remove_destination
from eliot_etw._levels import WARNING, level_of, type_of
from eliot_etw._names import PLACE_FIELDS
from eliot_etw._safe import safe_str
from eliot_etw.collector._config import Settings
from eliot_etw.collector._daemon import Collector
from eliot_etw.destinations.rate_limited import RateLimitedDestination
from eliot_etw.destinations.rotating_file import RotatingFileDestination
from eliot_etw.exceptions import InvalidSettings
from eliot_etw.typing import MessageDict

# Our own log: its size, how much of it is kept, and how often one thing is told.
_LOG_BYTES: Final = 10_000_000
_LOG_FILES: Final = 5
_BURST: Final = 5
# What makes two messages of one type different things.
_FIELDS: Final = ("code", "sink", "name", "key")
# How long what waits may take to be stored at the end; service managers wait longer.
_STOP_S: Final = 10.0
# Threads that wait for the interpreter get it sooner than Python's 5 ms: much of the work is done
# without it, in short pieces.
_SWITCH_S: Final = 0.0005
# How long the main thread sleeps at most: on Windows, it obeys signals only when it wakes.
_WAIT_S: Final = 0.5

Say = Callable[[str], object]


def run(read: Callable[[], Settings], say: Say) -> int:
    """Run a collector until it is told to end.

    Args:
        read: Reads the settings: at the start, and again at each SIGHUP.
        say: Writes a line for people.

    Returns:
        The exit status: 0 after an orderly end, 2 if it could not start.
    """
    sys.setswitchinterval(_SWITCH_S)
    try:
        settings = read()
        with ExitStack() as stack:
            orders: SimpleQueue[str] = SimpleQueue()
            stack.enter_context(_own_log(settings.state, say))
            stack.enter_context(_obedience(orders))
            collector = Collector(settings)
            _say_where(collector, say)
            _serve(collector, orders, read)
    except (InvalidSettings, OSError) as error:
        say(f"eliot-etw: {error}")
        return 2
    return 0


def _serve(collector: Collector, orders: SimpleQueue[str], read: Callable[[], Settings]) -> None:
    """Do what signals say, until one says to end."""
    try:
        while (order := _next(orders)) != "stop":
            if order == "reload":
                _reload(collector, read)
            collector.look()
    finally:
        collector.stop(_STOP_S)


def _next(orders: SimpleQueue[str]) -> str:
    """Wait for an order, for a while."""
    try:
        return orders.get(timeout=_WAIT_S)
    except Empty:
        return ""


def _reload(collector: Collector, read: Callable[[], Settings]) -> None:
    """Read the settings again; if they are broken, say so and go on with the old ones."""
    try:
        collector.reload(read())
    except (InvalidSettings, OSError) as error:
        collector.tell_of_failed_reload(safe_str(error))


@contextmanager
def _own_log(state: Path, say: Say) -> Iterator[None]:
    """Log what the collector does: all of it to a file, what is wrong also to people.

    Neither goes through the collector, so that no message about a message can have no end.
    """
    state.mkdir(parents=True, exist_ok=True)
    file = RotatingFileDestination(state / "collector.log", max_bytes=_LOG_BYTES, keep=_LOG_FILES)
    limited = RateLimitedDestination(file, burst=_BURST, fields=_FIELDS)
    spoken = RateLimitedDestination(_Spoken(say), burst=_BURST, fields=_FIELDS)
    add_destinations(limited, spoken)
    try:
        yield
    finally:
        for each in (limited, spoken):
            remove_destination(each)
            each.close()


class _Spoken:
    """Says in a line what is wrong."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def __call__(self, message: MessageDict) -> None:
        """Say it, if it is important enough."""
        if level_of(message) >= WARNING:
            hidden = {*PLACE_FIELDS, "message_type", "log_level"}
            said = " ".join(f"{k}={v}" for k, v in message.items() if k not in hidden)
            self._say(f"eliot-etw: {type_of(message)}: {said}")


@contextmanager
def _obedience(orders: SimpleQueue[str]) -> Iterator[None]:
    """Have signals give orders: SIGHUP to reload, others to stop."""
    meanings = {"SIGHUP": "reload", "SIGTERM": "stop", "SIGINT": "stop", "SIGBREAK": "stop"}
    before: dict[int, Any] = {}
    for name, meaning in meanings.items():
        number = getattr(signal, name, None)  # each system has some of them
        if number is not None:
            # A queue that a signal handler may put into, whatever its thread is just doing.
            before[number] = signal.signal(number, lambda *_, order=meaning: orders.put(order))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_where(collector: Collector, say: Say) -> None:
    """Say where everything is."""
    where = collector.where()
    for place in where["inputs"]:
        say(f"eliot-etw: takes messages from {place}")
    for name, place in where["sinks"].items():
        say(f"eliot-etw: sink {name}: {place}")
    say(f"eliot-etw: keeps its state in {where['state']}, and logs there to collector.log")
    if where["http"]:
        say(f"eliot-etw: tells how it is at http://{where['http']}/healthz and /metrics")
