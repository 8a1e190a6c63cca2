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
