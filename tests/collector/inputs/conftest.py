"""Fixtures of the inputs' tests: streams and inputs that are closed after each test."""

from uuid import uuid4

import pytest

from eliot_etw.shipping._nats_stream import NatsStream, NewStream
from eliot_etw.shipping._redis_stream import RedisStream
from tests import _services


@pytest.fixture
def open_stream():
    """Return a function that opens an engine's streams; they are closed at the end."""
    made = []

    def open_stream(engine, url=None, name=None):
        """Open a stream; one that no other test uses, if nothing is said."""
        place = url or _services.shared(engine).url, name or f"test-{uuid4()}"
        if engine == "nats":
            made.append(NatsStream(*place, timeout_s=30, feature="a test", new=NewStream()))
        else:
            made.append(RedisStream(*place, timeout_s=30, feature="a test"))
        return made[-1]

    yield open_stream
    for each in made:
        each.close()


@pytest.fixture
def start(tmp_path):
    """Return a function that starts inputs; they are closed at the end."""
    started = []

    def start(port, taken):
        started.append(port)
        port.start(taken, tmp_path)
        return port

    yield start
    for each in started:
        each.close(30)
        each.close(30)
