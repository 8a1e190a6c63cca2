"""Fixtures of the collector's tests: senders and collectors that are ended after each test."""

import os

import pytest

from tests.collector._faults import SenderProgram
from tests.collector._processes import CollectorProcess, Shipper


@pytest.fixture
def shipper():
    """Return a function that makes senders; they are closed at the end."""
    made = []

    def shipper(*arguments, **options):
        made.append(Shipper(*arguments, **options))
        return made[-1]

    yield shipper
    for each in made:
        each.close()


@pytest.fixture
def collector(tmp_path):
    """Return a function that prepares collectors; they are ended at the end."""
    made = []

    def collector(sinks, endpoint=None, *, inputs="", more="", folder=tmp_path):
        if endpoint is None:
            endpoint = f"ipc://{folder}/in" if hasattr(os, "fork") else "tcp://127.0.0.1:*"
            assert len(endpoint) < 100
        config = f"""\
http: 127.0.0.1:0
inputs:
  - kind: zmq
    endpoint: {endpoint}
{inputs}
sinks:
{sinks}
{more}
"""
        made.append(CollectorProcess(folder, config))
        return made[-1]

    yield collector
    for each in made:
        if each.program is not None:
            each.kill()


@pytest.fixture
def sender():
    """Return a function that starts programs which ship; they are ended at the end."""
    made = []

    def sender(*arguments, **options):
        made.append(SenderProgram(*arguments, **options))
        return made[-1]

    yield sender
    for each in made:
        each.stop()
