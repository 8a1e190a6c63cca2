"""Tests of the checkout as a whole: lint, types, and papers that agree with the code."""

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest

import eliot_etw

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = ROOT / "docs" / "architecture.md"


def run(*command, **options):
    """Run a program in the checkout."""
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def setup_cfg():
    """Return the settings of the package."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


class TestLint:
    """The tools that read code find nothing."""

    def test_ruff_check(self):
        """No rule that the project chose is broken anywhere."""
        pytest.importorskip("ruff")
        result = run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")
        assert (result.returncode, result.stdout) == (0, "All checks passed!\n")

    def test_ruff_format(self):
        """All files look as the formatter leaves them."""
        pytest.importorskip("ruff")
        result = run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", ".")
        assert result.returncode == 0, result.stdout

    def test_mypy(self, tmp_path):
        """The types are right in the package, the tools and the examples, in strict mode."""
        pytest.importorskip("mypy")
        # Not the folder of another run: two at a time would spoil each other's.
        result = run(sys.executable, "-m", "mypy", "--cache-dir", tmp_path)
        assert result.returncode == 0, result.stdout


class TestVersion:
    """There is one version."""

    def test_changelog(self):
        """The first version in the changelog is that of the package."""
        text = (ROOT / "CHANGELOG.md").read_text("utf-8")
        first = re.search(r"^## \[(.+?)\]", text, re.MULTILINE)
        assert first is not None
        assert first[1] == setup_cfg()["metadata"]["version"]

    def test_package(self):
        """The package knows its version."""
        assert setup_cfg()["metadata"]["version"] == eliot_etw.__version__


class TestDependencies:
    """Each package that is asked for is explained."""

    def test_architecture_names_all_of_them(self):
        """A dependency without a reason in docs/architecture.md is one too many."""
        config = setup_cfg()
        lines = config["options"]["install_requires"].splitlines()
        for extra in config["options.extras_require"].values():
            lines += extra.splitlines()
        names = {re.split(r"[ \[<>=]", line)[0] for line in lines if line} - {"eliot-etw"}
        page = ARCHITECTURE.read_text("utf-8")
        rows = " ".join(line for line in page.splitlines() if line.startswith("|"))
        missing = {name for name in names if not re.search(rf"\b{re.escape(name)}\b", rows)}
        assert set() == missing


class TestPapers:
    """What the README and its neighbours say is so."""

    @pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
    def test_links_within_the_checkout_lead_somewhere(self, paper):
        """No link to a file is broken."""
        text = (ROOT / paper).read_text("utf-8")
        targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
        assert [name for name in targets if not (ROOT / name).exists()] == []

    def test_numbers_are_those_that_were_measured(self):
        """The README's table is what results.json says; run.py --readme writes it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(ROOT / "tools" / "bench")
            bench = import_module("run")
        results = json.loads(bench.RESULTS.read_text("utf-8"))
        expected = f"{bench.BEGIN}\n{bench.table(results)}\n{bench.END}"
        assert expected in bench.README.read_text("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no executable bit")
def test_ci_can_be_started():
    """.ci/run is a program that bash finds nothing wrong with."""
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert run("bash", "-n", ".ci/run").returncode == 0
