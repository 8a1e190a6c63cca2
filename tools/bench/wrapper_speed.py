"""What do destinations around destinations cost, and how much memory do they need?

As a program it is one measurement: ``wrapper_speed.py CASE CONTENDER FILE COUNT`` prints its
number.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from _measure import Question, Reach, Setting, printed_number

PLAIN: Final = "FileDestination"
BACKGROUND: Final = "BackgroundDestination"
WRAPPED: Final = "five wrappers"
# As many messages as the queue holds in each burst, and of how many bursts the quickest counts.
QUEUED: Final = 10_000
BATCHES: Final = 10
# Of the memory that tail sampling may use.
HELD: Final = 1_000
MESSAGES_OF_A_TASK: Final = 8


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    calls, many = setting.size.calls, setting.size.many_messages
    few = f"{many // 2:,} messages"
    all_ = f"{many:,} messages"
    return [
        Question(
            "`log_message` to a file, in bursts that a queue holds",
            "µs",
            {
                name: partial(_measure, setting, "burst", name, calls)
                for name in (PLAIN, BACKGROUND)
            },
            [Reach(PLAIN, ours=BACKGROUND, at_most=0.5)],
        ),
        Question(
            "`log_message` to a file without a pause, until all is written",
            "µs",
            {
                name: partial(_measure, setting, "sustained", name, calls * BATCHES)
                for name in (PLAIN, BACKGROUND)
            },
            [Reach(PLAIN, ours=BACKGROUND, at_least=0.8)],
        ),
        Question(
            "five wrappers around a destination that does nothing, a message",
            "µs",
            {WRAPPED: partial(_measure, setting, "wrappers", WRAPPED, calls)},
            [Reach(ours=WRAPPED, at_most=3)],
        ),
        Question(
            f"peak memory of tail sampling that may hold {HELD:,} messages",
            "MiB",
            {
                few: partial(_measure, setting, "peak", few, many // 2),
                all_: partial(_measure, setting, "peak", all_, many),
            },
            [Reach(few, ours=all_, at_most=1.05)],
            is_noisy=False,
        ),
    ]


def _measure(setting: Setting, case: str, name: str, count: int) -> float:
    path = setting.folder / f"{name}.log"
    path.unlink(missing_ok=True)  # each measurement gets a fresh file
    return printed_number(setting.python, __file__, case, name, path, str(count))


# ---- in the child process ----------------------------------------------------------------------


def _file(name: str, path: str) -> Any:
    """Make a file, or one with a queue around it."""
    from eliot_etw.destinations import BackgroundDestination, FileDestination

    file = FileDestination(path)
    return file if name == PLAIN else BackgroundDestination(file, max_queued=QUEUED)


def _log(count: int) -> None:
    """Log so many messages."""
    from eliot_etw import log_message

    for number in range(count):
        log_message("bench:message", number=number, text="hello")


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def burst(name: str, path: str, count: int) -> float:
    """Return the microseconds of a message while the queue has room, for the calling thread."""
    from eliot_etw import add_destinations, start_action

    destination = _file(name, path)
    add_destinations(destination)
    start_action(action_type="bench:outer").__enter__()
    size = min(count, QUEUED // 2)
    times = []
    for _ in range(BATCHES * max(1, count // size)):
        times.append(_seconds(partial(_log, size)))
        if name == BACKGROUND:
            destination.flush(timeout_s=60)
    _check(path, len(times) * size)
    # The median of bursts: in some of them the writer is at work, in others it sleeps.
    return sorted(times)[len(times) // 2] / size * 1e6


def sustained(name: str, path: str, count: int) -> float:
    """Return the microseconds of a message, all of them written."""
    from eliot_etw import add_destinations, start_action

    destination = _file(name, path)
    add_destinations(destination)
    start_action(action_type="bench:outer").__enter__()

    def work() -> None:
        _log(count)
        if name == BACKGROUND:
            destination.flush(timeout_s=600)

    seconds = _seconds(work)
    _check(path, count)
    return seconds / count * 1e6


def wrappers(_name: str, _path: str, count: int) -> float:
    """Return the microseconds that the wrappers add to a message."""
    from eliot_etw import add_destinations, remove_destination, start_task
    from eliot_etw.destinations import (
        BackgroundDestination,
        LevelFilter,
        RateLimitedDestination,
        RedactedDestination,
        TailSampledDestination,
    )
    from eliot_etw.destinations.tail_sampled import failed, one_in

    class Null:
        is_leaf = True

        def __call__(self, message: object) -> None:
            pass

    queue = BackgroundDestination(Null(), max_queued=2 * QUEUED)
    sampled = TailSampledDestination(queue, failed() | one_in(1))
    # All messages pass all of them: to drop some is less work.
    limited = RateLimitedDestination(sampled, burst=sys.maxsize)
    wrapped = LevelFilter(RedactedDestination(limited), types={"other:*": "error"})

    def work(tasks: int) -> None:
        for _ in range(tasks):
            with start_task(action_type="bench:task"):
                _log(MESSAGES_OF_A_TASK)

    tasks = max(1, min(count, QUEUED) // (MESSAGES_OF_A_TASK + 2))
    best: dict[type, float] = {}
    for destination in (Null(), wrapped) * BATCHES:
        add_destinations(destination)
        seconds = _seconds(partial(work, tasks))
        remove_destination(destination)
        queue.flush(timeout_s=60)
        best[type(destination)] = min(best.get(type(destination), seconds), seconds)
    delivered = queue.stats()["delivered"]
    expected = BATCHES * tasks * (MESSAGES_OF_A_TASK + 2)
    if delivered != expected:
        msg = f"{delivered} of {expected} messages came through the wrappers."
        raise RuntimeError(msg)
    plain, more = best.values()
    return (more - plain) / expected * BATCHES * 1e6


def peak(_name: str, _path: str, count: int) -> float:
    """Return the MiB that tail sampling needs at most, of tasks that never end."""
    from eliot_etw import add_destinations, start_task
    from eliot_etw.destinations import TailSampledDestination
    from eliot_etw.destinations.tail_sampled import failed

    sampled = TailSampledDestination(
        lambda _message: None, failed(), max_messages=HELD, max_tasks=HELD
    )
    add_destinations(sampled)
    tracemalloc.start()
    for _ in range(max(1, count // 10)):
        action = start_task(action_type="bench:task")
        for number in range(9):
            action.log("bench:message", number=number, text="hello")
    stats = sampled.stats()
    if stats["held"] > HELD or stats["held"] + stats["dropped"] < count - 10:
        msg = f"Messages are missing, or held beyond the bound: {stats}."
        raise RuntimeError(msg)
    return tracemalloc.get_traced_memory()[1] / 2**20


def _check(path: str, messages: int) -> None:
    """Make sure that all was written.

    Raises:
        RuntimeError: If messages are missing.
    """
    written = Path(path).read_bytes().count(b"\n")
    if written < messages:
        msg = f"{written} of {messages} messages were written."
        raise RuntimeError(msg)


def main() -> None:
    """Measure one contender."""
    case, name, path, count = sys.argv[1:]
    cases = {"burst": burst, "sustained": sustained, "wrappers": wrappers, "peak": peak}
    print(cases[case](name, path, int(count)))


if __name__ == "__main__":
    main()
