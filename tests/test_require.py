"""Tests of asking for optional packages."""

import math
import sys

import pytest

from eliot_etw._require import require
from eliot_etw.exceptions import MissingDependency


def test_package_that_is_there():
    """What is installed is simply imported."""
    assert require("math", feature="Sums", extra="sums") is math


def test_missing_package_says_what_to_install(monkeypatch):
    """The error names the feature, the package and the command that installs it."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependency) as caught:
        require("zstandard", feature="Reading .zst", extra="cli")
    assert str(caught.value) == (
        "Reading .zst needs the package 'zstandard', which is not installed. "
        "Install it with: python -m pip install 'eliot-etw[cli]'"
    )


def test_missing_package_of_a_module(monkeypatch):
    """It is the package that has to be installed, not the module within it."""
    monkeypatch.setitem(sys.modules, "rich", None)
    for module in [name for name in sys.modules if name.startswith("rich.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingDependency, match="needs the package 'rich',"):
        require("rich.console", feature="Tables", extra="cli")


def test_broken_package_keeps_its_error(tmp_path, monkeypatch):
    """A package that is installed, but fails to import, must not be called missing."""
    (tmp_path / "broken_package.py").write_text("import something_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_that_nobody_has") as caught:
        require("broken_package", feature="Sums", extra="sums")
    assert not isinstance(caught.value, MissingDependency)
