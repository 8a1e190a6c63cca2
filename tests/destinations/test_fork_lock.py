"""Tests of the lock that a fork waits for."""

import os
import threading

import pytest

from eliot_etw.destinations import _fork_lock
from eliot_etw.destinations._fork_lock import ForkLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def fork():
    """Fork, and end the child at once."""
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_waits():
    """A fork comes after what is done under it."""
    lock, begun, events = ForkLock(), threading.Event(), []

    def work():
        with lock:
            begun.set()
            threading.Event().wait(0.2)
            events.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    fork()
    events.append("forked")
    thread.join(30)
    assert events == ["done", "forked"]
    with lock:  # it is free again
        pass


def test_gives_up(monkeypatch):
    """A fork does not wait for ever."""
    monkeypatch.setattr(_fork_lock, "_TIMEOUT_S", 0.05)
    lock, begun, over = ForkLock(), threading.Event(), threading.Event()

    def work():
        with lock:
            begun.set()
            assert over.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    fork()
    over.set()
    thread.join(30)
    assert not thread.is_alive()
    with lock:
        pass


def test_within():
    """Who holds it may fork."""
    lock = ForkLock()
    with lock:
        fork()
    with lock:
        pass


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
    heard = []
    lock = ForkLock(lambda: heard.append(lock.take()))
    fork()
    assert heard == [True]
