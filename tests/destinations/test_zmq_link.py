"""Tests of a socket to a collector: it can be closed, whatever the system had not for it."""

import errno
import threading

import pytest

pytest.importorskip("zmq")
pytest.importorskip("msgspec")

import zmq

from eliot_etw.destinations._zmq_link import Address, Link


@pytest.mark.parametrize(
    ("kind", "name", "fails"),
    [(zmq.Context, "socket", 1), (zmq.Context, "socket", 2), (zmq.Socket, "connect", 1)],
    ids=["no socket", "no monitor", "no connection to the monitor"],
)
def test_no_files(monkeypatch, kind, name, fails):
    """It ends also if the system had no files for all of what it connects anew with."""
    link = Link(Address("tcp://127.0.0.1:1"))
    method = getattr(kind, name)
    calls = []

    def refuse(*arguments, **options):
        calls.append(arguments)
        if len(calls) == fails:
            raise zmq.ZMQError(errno.EMFILE)
        return method(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, refuse)
        # What was caught keeps alive, and so open, what there was by then.
        with pytest.raises(zmq.ZMQError) as caught:
            link.reconnect()
    assert caught.value.errno == errno.EMFILE
    closing = threading.Thread(target=link.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
