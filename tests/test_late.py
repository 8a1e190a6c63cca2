"""Tests of names that are imported when they are first asked for."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from eliot_etw.exceptions import MissingDependency

ROOT = Path(__file__).resolve().parents[1] / "eliot_etw"
PACKAGES = [
    f"eliot_etw.{path.parent.name}"
    for path in sorted(ROOT.glob("*/__init__.py"))
    if "late_names(" in path.read_text("utf-8")
]


@pytest.fixture(params=PACKAGES)
def package(request):
    """Give each package that imports its names late, if what these need is installed."""
    package = importlib.import_module(request.param)
    try:
        for name in package.__all__:
            getattr(package, name)
    except MissingDependency as error:
        pytest.skip(str(error))
    return package


def test_all_are_there(package):
    """Each public name is there when it is asked for, is shown by dir(), and has a module."""
    assert all(hasattr(package, name) for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    assert set(package._MODULES) <= set(package.__all__)


def test_others_are_not(package):
    """Any other name is missing, as in any module."""
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no'"):
        package.no  # noqa: B018 - asking for it is the test


def test_type_checkers_see_the_same(package, monkeypatch):
    """What type checkers are told to import is what is there."""
    seen = {}
    monkeypatch.setattr("typing.TYPE_CHECKING", True)
    source = Path(package.__file__).read_text("utf-8")
    exec(source, {"__name__": package.__name__}, seen)
    assert {name: seen[name] for name in package.__all__} == {
        name: getattr(package, name) for name in package.__all__
    }
    assert "__getattr__" not in seen


def test_type_checkers_find_mistakes(tmp_path):
    """A type checker finds a name that is not there, which it could not if any were taken."""
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "from eliot_etw.destinations import FileDestination, FileDestinatoin\n"
        "reveal_type(FileDestination)\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert 'has no attribute "FileDestinatoin"' in result.stdout
    assert "file.FileDestination" in result.stdout
