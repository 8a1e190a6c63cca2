"""A virtual environment with the package in it: what demo, tests and benchmarks run in."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = os.name == "nt"

_STAMP = "eliot-etw-stamp"
_PIP_LOG = "eliot-etw-pip.log"
# An interpreter without `ensurepip` (Debian keeps it in a package of its own) makes environments
# without pip, and a pyenv shim may stand for a version that is not there: so both are tried out.
_PROBE = (
    "import sys, venv, ensurepip; "
    "print(*sys.version_info[:2], sys.executable, sys.base_prefix, sep='\\n')"
)
# What pip says when it reached no index at all, as opposed to an index without the package.
_NO_NETWORK = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "Network is")


class SetUpError(Exception):
    """An environment could not be made; the text is one line for whoever started the tool."""


class Interpreter(NamedTuple):
    """A Python that works: its ``X.Y`` version, its program, and the installation behind it."""

    version: str
    program: str
    base: str


def probe(program: str | Path) -> Interpreter | None:
    """Ask a program what Python it is; None if it is none, or cannot make environments."""
    try:
        answer = subprocess.run(
            [program, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor, executable, base = answer.stdout.splitlines()
    return Interpreter(f"{major}.{minor}", executable, base)


def this_interpreter() -> Interpreter:
    """Describe the Python that runs the tool.

    Raises:
        SetUpError: If it is too old, or cannot make virtual environments.
    """
    oldest = supported_versions()[0]
    if sys.version_info < tuple(map(int, oldest.split("."))):
        msg = f"needs Python {oldest} or later, this is {sys.version.split()[0]}."
        raise SetUpError(msg)
    interpreter = probe(sys.executable)
    if interpreter is None:
        msg = (
            f"needs the modules venv and ensurepip, which {sys.executable} lacks. "
            "On Debian and Ubuntu: apt-get install python3-venv"
        )
        raise SetUpError(msg)
    return interpreter


def supported_versions() -> list[str]:
    """Read from setup.cfg which Pythons the package is for, as ``X.Y``, oldest first."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["metadata"]["classifiers"].splitlines()
    versions = [line.rpartition(" :: ")[2] for line in lines]
    return [version for version in versions if version.startswith("3.")]


def find_interpreters(running: Interpreter) -> list[Interpreter]:
    """Find one Python of each supported version, the running one for its own."""
    found = {running.version: running}
    for version in supported_versions():
        if version not in found:
            candidates = (probe(program) for program in _candidates(version))
            match = next((c for c in candidates if c and c.version == version), None)
            if match:
                found[version] = match
    return sorted(found.values(), key=lambda interpreter: int(interpreter.version.split(".")[1]))


def _candidates(version: str) -> list[str]:
    """List programs that may be a Python of the version: those on the PATH, then pyenv's."""
    name = f"python{version}"
    # Each folder on its own, because the first hit may be a pyenv shim which only fails.
    folders = os.environ.get("PATH", "").split(os.pathsep)
    on_path = [shutil.which(name, path=folder) for folder in folders if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    program = "python.exe" if WINDOWS else f"bin/{name}"
    pattern = str(pyenv / f"{glob.escape(version)}.*" / program)
    return [path for path in on_path if path] + sorted(glob.glob(pattern), reverse=True)


def script(folder: Path, name: str) -> Path:
    """Return where an environment keeps one of its programs."""
    return folder / ("Scripts" if WINDOWS else "bin") / (f"{name}.exe" if WINDOWS else name)


def prepare(
    folder: Path,
    interpreter: Interpreter,
    extras: str = "",
    also: Sequence[str] = (),
    *,
    keep: bool = False,
) -> Path:
    """Make an environment that has the package, editable, or use it again as it is.

    It is made anew when setup.cfg, pyproject.toml, the interpreter or the wishes have changed, so
    that no package which is no longer asked for hides that something needs it.

    Args:
        folder: Where it is, or shall be.
        interpreter: The Python to make it with.
        extras: Names of the package's extras, separated by commas.
        also: Other requirements.
        keep: Add to the environment that is there instead of making it anew: it may be the user's.

    Returns:
        Its Python.

    Raises:
        SetUpError: If it could not be made; with the reason, in one line.
    """
    python = script(folder, "python")
    wishes = ["-e", f"{ROOT}[{extras}]" if extras else str(ROOT), *also]
    stamp = folder / _STAMP
    fingerprint = _fingerprint(interpreter, wishes)
    if python.exists() and stamp.exists() and stamp.read_text("utf-8") == fingerprint:
        return python
    print(f"Installing the package into {folder.name}; this takes a moment.", flush=True)
    if keep and folder.exists():
        if probe(python) is None:
            msg = f"{folder} holds no working Python. Remove that folder and try again."
            raise SetUpError(msg)
    else:
        _make(folder, interpreter)
    _install(python, wishes, folder / _PIP_LOG)
    stamp.write_text(fingerprint, "utf-8")
    return python


def _fingerprint(interpreter: Interpreter, wishes: Sequence[str]) -> str:
    """Digest what an environment depends on; it is written last, so half-made ones have none."""
    digest = hashlib.sha256(repr((interpreter.version, interpreter.base, wishes)).encode())
    for name in ("setup.cfg", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _make(folder: Path, interpreter: Interpreter) -> None:
    """Make an empty environment, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    made = subprocess.run(
        [interpreter.program, "-m", "venv", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        reason = (made.stderr or made.stdout).strip().splitlines() or ["no reason given"]
        msg = f"could not make the environment {folder}: {reason[-1]}"
        raise SetUpError(msg)


def _install(python: Path, wishes: Sequence[str], log: Path) -> None:
    """Install packages, with pip's own report in a file: a newcomer needs none of its lines."""
    # In compat mode the checkout is an ordinary entry of sys.path. The default is an import hook,
    # which costs each start of Python modules and time that the benchmarks would count.
    compat = ("--config-settings", "editable_mode=compat")
    command = [str(python), "-m", "pip", "install", *compat, *wishes]
    with log.open("w", encoding="utf-8") as output:
        installed = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if installed.returncode == 0:
        return
    report = log.read_text("utf-8", errors="replace")
    if any(sign in report for sign in _NO_NETWORK):
        msg = (
            "could not install the package: there is no connection to the package index. "
            "It is needed for the first run only."
        )
    else:
        lines = report.splitlines() or ["pip said nothing"]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
        msg = f"could not install the package: {errors[0]} (see {log})"
    raise SetUpError(msg)
