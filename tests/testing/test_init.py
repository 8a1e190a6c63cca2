"""Tests of the kit's public names."""

import pytest

from eliot_etw import _logger, exceptions, testing
from eliot_etw.testing import _assertions, _capture, _captured_logs, _logged, _recording_etw

pytest.importorskip("eliot.testing")
eliot = pytest.importorskip("eliot")

# The names that eliot.testing has of its own, and that are no detail of it.
ELIOTS = {
    name
    for name, value in vars(eliot.testing).items()
    if getattr(value, "__module__", "") == "eliot.testing"
}


def test_all_of_eliot():
    """Every name that tests for Eliot import is there."""
    assert set() == ELIOTS - set(testing.__all__)


def test_sorted():
    """The names are sorted, and each is there once."""
    assert sorted(set(testing.__all__)) == testing.__all__


def test_from_where():
    """Each name is the thing itself, wherever it is defined."""
    rooms = (
        _assertions,
        _capture,
        _captured_logs,
        _logged,
        _logger,
        _recording_etw,
        exceptions,
    )
    for name in testing.__all__:
        assert any(getattr(testing, name) is vars(room).get(name) for room in rooms), name


def test_unknown_name():
    """Another name is an AttributeError like that of any module."""
    with pytest.raises(AttributeError, match=r"'eliot_etw\.testing' has no attribute 'nonsense'"):
        testing.nonsense  # noqa: B018 - asking for it is what is tested
