"""Tests of the lock that a fork waits for."""

import os
import threading

import pytest

from eliot_etw.destinations import _fork_lock
from eliot_etw.destinations._fork_lock import ForkLock
from tests._programs import run_forking

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


PREAMBLE = """
import threading
from eliot_etw.destinations import _fork_lock
from eliot_etw.destinations._fork_lock import ForkLock

begun, over = threading.Event(), threading.Event()

def fork():
    in_child(lambda: None)

def start(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert begun.wait(30)
    return thread
"""


def forking(program):
    """Run a program that forks."""
    run_forking(f"{PREAMBLE}{program}")


def test_waits():
    """A fork comes after what is done under it."""
    forking("""
lock, events = ForkLock(), []

def work():
    with lock:
        begun.set()
        over.wait(0.2)
        events.append("done")

thread = start(work)
fork()
events.append("forked")
thread.join(30)
assert events == ["done", "forked"], events
with lock:  # it is free again
    pass
""")


def test_gives_up():
    """A fork does not wait for ever."""
    forking("""
_fork_lock._TIMEOUT_S = 0.05
lock = ForkLock()

def work():
    with lock:
        begun.set()
        assert over.wait(30)

thread = start(work)
fork()
over.set()
thread.join(30)
assert not thread.is_alive()
with lock:
    pass
""")


def test_within():
    """Who holds it may fork."""
    forking("""
lock = ForkLock()
with lock:
    fork()
with lock:
    pass
""")


def test_by_several_threads(monkeypatch):
    """Threads that fork at the same time leave it free: who got it for the fork gives it back."""
    monkeypatch.setattr(_fork_lock, "_TIMEOUT_S", 0.01)
    lock = ForkLock()
    lock._before_fork()
    other = threading.Thread(target=lambda: (lock._before_fork(), lock._after_fork_in_parent()))
    other.start()
    other.join(30)
    assert not lock.take()
    lock._after_fork_in_parent()
    assert lock.take()


def test_taken():
    """Only who finds it free gets it, and no fork comes while that one has it."""
    lock, taken = ForkLock(), []
    assert lock.take()
    assert lock.owner == threading.get_ident()
    other = threading.Thread(target=lambda: taken.append(lock.take()))
    other.start()
    other.join(30)
    assert taken == [False]
    lock.release()
    assert lock.owner is None
    assert lock.take()


def test_after_a_fork():
    """In the parent, who made it hears of the fork when it is free again."""
    forking("""
heard = []
lock = ForkLock(lambda: heard.append(lock.take()))
fork()
assert heard == [True]
""")


def test_all_are_free_after_a_fork():
    """Who hears of the fork may take any other lock, and may fail."""
    forking("""
heard = []

def fail():
    heard.append([lock.take() for lock in locks])
    for lock in locks:
        lock.release()
    raise OSError("no")

locks = [ForkLock(fail) for _ in range(3)]
fork()
assert heard == [[True] * 3] * 3, heard
assert [lock.take() for lock in locks] == [True] * 3
""")
