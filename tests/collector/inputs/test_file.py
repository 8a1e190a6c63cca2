"""Tests of following a file: each line is given once, also over restarts and renamings."""

import os
import random

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector.inputs import file as file_input
from eliot_etw.collector.inputs.file import FileInput
from tests.collector._processes import lines_of, wait_until
from tests.collector.inputs.test_zmq import Taken


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    """Look often."""
    monkeypatch.setattr(file_input, "_POLL_S", 0.01)
    monkeypatch.setattr(file_input, "_SAVE_EVERY_S", 0.0)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "app.log"


@pytest.fixture
def follow(log, tmp_path):
    """Return a function that starts to follow the log; all are closed at the end."""
    started = []

    def follow(taken):
        started.append(FileInput(str(log)))
        started[-1].start(taken, tmp_path / "input")
        return started[-1]

    yield follow
    for each in started:
        each.close(5)
        each.close(5)


def write(log, *numbers):
    with open(log, "ab") as file:
        file.write(b"".join(lines_of(1, start=number)[0] + b"\n" for number in numbers))


def places(taken):
    """Return the number of each message's line with its content."""
    return {
        (sender, number): line
        for batch in taken.batches
        for line, (sender, number) in zip(batch.lines, batch.places(), strict=True)
    }


def test_grows(follow, log):
    """A file that is not there yet, then grows, is given line by line."""
    taken = Taken()
    follow(taken)
    write(log, 1, 2)
    wait_until(lambda: taken.numbers == [1, 2])
    with open(log, "ab") as file:
        file.write(lines_of(1, start=3)[0])
        file.flush()
        write(log)
        file.write(b"\n\n  \n")
    write(log, 4)
    wait_until(lambda: taken.numbers == [1, 2, 3, 4])


def test_restart(follow, log):
    """After a restart it goes on where everything was settled."""
    first, second = Taken(), Taken()
    write(log, 1, 2)
    one = follow(first)
    wait_until(lambda: first.numbers == [1, 2])
    one.close(5)
    write(log, 3)
    follow(second)
    wait_until(lambda: second.numbers == [3])


def test_restart_before_it_was_settled(follow, log):
    """What was not settled is given again, under the same numbers."""
    first, second = Taken(), Taken()
    first.settles = False
    write(log, 1, 2)
    one = follow(first)
    wait_until(lambda: first.numbers == [1, 2])
    one.close(5)
    write(log, 3)
    follow(second)
    wait_until(lambda: second.numbers == [1, 2, 3])
    assert places(first).items() <= places(second).items()


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no file that is open")
@pytest.mark.parametrize("is_running", [True, False])
def test_renamed(follow, log, is_running):
    """A file that is put aside is read to its end, then the new one, also if nobody looked."""
    taken = Taken()
    write(log, 1)
    one = follow(taken)
    wait_until(lambda: taken.numbers == [1])
    if not is_running:
        one.close(5)
    write(log, 2)
    log.rename(log.with_suffix(".1"))
    write(log, 3)
    if not is_running:
        follow(taken)
    wait_until(lambda: taken.numbers == [1, 2, 3])
    assert len({sender for sender, _ in places(taken)}) == 2


@pytest.mark.parametrize("is_running", [True, False])
def test_cut(follow, log, is_running):
    """A file that is cut to nothing and written anew counts as another one."""
    taken = Taken()
    write(log, *range(1, 20))
    one = follow(taken)
    wait_until(lambda: len(taken.numbers) == 19)
    if not is_running:
        one.close(5)
    os.truncate(log, 0)
    write(log, 99)
    if not is_running:
        follow(taken)
    wait_until(lambda: taken.numbers[19:] == [99])
    assert len({sender for sender, _ in places(taken)}) == 2


def test_held_back(follow, log):
    """What there is no room for is given again."""
    taken = Taken()
    taken.is_full = True
    write(log, 1)
    one = follow(taken)
    wait_until(lambda: one.stats()["held_back"] > 2)
    taken.is_full = False
    wait_until(lambda: taken.numbers == [1])


def test_window(follow, log, monkeypatch):
    """Only so much is read ahead of what is settled."""
    monkeypatch.setattr(file_input, "_WINDOW_BYTES", 1_000)
    monkeypatch.setattr(file_input, "_CHUNK_BYTES", 500)
    taken = Taken()
    taken.settles = False
    write(log, *range(1, 101))
    follow(taken)
    wait_until(lambda: len(taken.waiting) > 2)
    read = len(taken.numbers)
    assert read < 30
    while len(taken.numbers) < 100:
        for done in taken.waiting[:]:
            done()
    assert taken.numbers == [*range(1, 101)]


def test_overlong(follow, log, monkeypatch):
    """A line that is too long is left out, and those after it are not."""
    monkeypatch.setattr(file_input, "_MAX_LINE_BYTES", 1_000)
    monkeypatch.setattr(file_input, "_CHUNK_BYTES", 300)
    taken = Taken()
    write(log, 1)
    with open(log, "ab") as file:
        file.write(b"x" * 5_000 + b"\n")
    write(log, 2, 3)
    one = follow(taken)
    wait_until(lambda: taken.numbers == [1, 2, 3])
    assert one.stats()["overlong"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_any_restarts(follow, log, seed):
    """However often it is restarted, each line has one number, and none is left out."""
    chance = random.Random(seed)
    every = Taken()
    number = 0
    for _ in range(8):
        count = chance.randrange(1, 200)
        write(log, *range(number + 1, number + count + 1))
        number += count
        taken = Taken()
        taken.settles = chance.random() < 0.7
        one = follow(taken)
        wait_until(lambda taken=taken, last=number: last in taken.numbers)
        one.close(5)
        every.batches += taken.batches
    found = places(every)
    assert len(found) == number
    assert sorted(found.values()) == sorted(lines_of(number))
