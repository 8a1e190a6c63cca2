"""Tests of the names that package sources offers."""

import subprocess
import sys

import pytest

from eliot_etw import sources


def test_every_name_is_there():
    """Each name in `__all__` can be had."""
    assert all(getattr(sources, name).__name__ == name for name in sources.__all__)


def test_names_are_sorted():
    """`__all__` is sorted, so that a name is found and none is there twice."""
    assert sources.__all__ == sorted(set(sources.__all__))


def test_unknown_name():
    """A name that is not there fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'CarrierPigeonSource'"):
        sources.CarrierPigeonSource  # noqa: B018 - the access is the test


def test_nothing_is_loaded_before_it_is_asked_for():
    """Importing the package loads no source."""
    program = (
        "import sys, eliot_etw.sources;"
        "print([m for m in sys.modules if m.startswith('eliot_etw.sources.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
