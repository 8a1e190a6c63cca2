"""Tests of the package `eliot_etw.etw` as users import it."""

import subprocess
import sys

import pytest

from eliot_etw import etw


@pytest.mark.parametrize("name", etw.__all__)
def test_public_names(name):
    """Every public name leads to something of that name, or to a constant."""
    found = getattr(etw, name)
    assert getattr(found, "__name__", name) == name


def test_other_names():
    """A name that is misspelled is told like one of any module."""
    with pytest.raises(AttributeError, match=r"'eliot_etw\.etw' has no attribute 'Feild'"):
        etw.Feild  # noqa: B018 - to ask is the test


def test_nothing_is_imported_before_it_is_asked_for():
    """Who needs the GUID of a provider does not pay for reading files."""
    program = (
        "import sys, eliot_etw.etw as etw; etw.provider_guid;"
        "print(sorted(name for name in sys.modules if name.startswith('eliot_etw.etw.')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "['eliot_etw.etw._guid']\n"
