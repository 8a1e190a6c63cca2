"""Tests of the package `eliot_etw.stdlib` as users import it."""

import pytest

from eliot_etw import stdlib
from eliot_etw.stdlib import eliot_handler, etw, task_context, zmq


def test_public_names():
    """Each public name leads to the thing itself."""
    things = [
        eliot_handler.EliotHandler,
        etw.EtwHandler,
        task_context.TaskContextFilter,
        task_context.TaskContextRecordFactory,
        zmq.ZmqHandler,
    ]
    assert things == [getattr(stdlib, name) for name in stdlib.__all__]


def test_other_names():
    """A name that is misspelled is told like one of any module."""
    with pytest.raises(AttributeError, match=r"'eliot_etw\.stdlib' has no attribute 'Handler'"):
        stdlib.Handler  # noqa: B018 - to ask is the test
