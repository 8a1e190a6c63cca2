"""A Windows Python under Wine: where it is, and how it is started."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSEMBLED = ROOT / ".venvs" / "windows"
"""Where `setup.py` puts it all if it is told nothing else."""
RECORDER = "etwrec.dll"
# How long an idle server of Wine waits for the next program. Without one, each start takes 1.4 s.
_SERVER_WAITS_S = 60


def windows_path(path: Path) -> str:
    """Name a file as a Windows program under Wine does."""
    return "Z:" + str(path.resolve()).replace("/", "\\")


def wine_environment(root: Path) -> dict[str, str]:
    """Return the environment variables for Wine's programs.

    Args:
        root: Where `setup.py` put it all.
    """
    # Python's own variables, and those of a desktop, would reach the Windows programs.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in {"DISPLAY", "WAYLAND_DISPLAY"}
    }
    return kept | {
        "WINEPREFIX": str(root / "prefix"),
        "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        # Neither .NET nor a browser, which Wine would offer to download, nor entries in menus.
        "WINEDLLOVERRIDES": "mscoree=;mshtml=;winemenubuilder.exe=",
    }


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Keep other processes out."""
    with (root / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start_server(root: Path) -> None:
    """Start Wine's server and services, if they do not run, so that programs start at once."""

    def run(*command: str) -> int:
        # On /dev/null, because whatever the server inherits is open until the server ends.
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=wine_environment(root),
            check=False,
        ).returncode

    with _only_one(root):
        if run("wineserver", "-k0"):  # signal 0 kills nothing: it asks whether there is a server
            run("wineserver", f"-p{_SERVER_WAITS_S}")
            run("wine", "wineboot")


@dataclass(frozen=True)
class WindowsPython:
    """A Windows Python that was assembled.

    Attributes:
        root: Where `setup.py` put it all.
        version: Which Python, as ``X.Y``.
    """

    root: Path
    version: str

    @property
    def folder(self) -> Path:
        """Where its python.exe is."""
        return self.root / f"python{self.version}"

    def command(self, *arguments: str) -> list[str]:
        """Return the command that starts it with arguments.

        Its standard input and outputs must be pipes or /dev/null: Wine cannot tell Python about a
        regular file, and Python then does not start.
        """
        start_server(self.root)
        return ["wine", str(self.folder / "python.exe"), *arguments]

    def environment(
        self, record: Path | None = None, others: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the environment variables to start it with; it finds the checkout's package.

        Args:
            record: Where each call of the ETW API is recorded, as lines of JSON; None for not.
            others: Variables that are set as well, such as the recorder's.
        """
        environment = wine_environment(self.root) | {
            "PYTHONPATH": windows_path(ROOT),
            "PYTHONUTF8": "1",
            # The compiled files in the checkout are those of the Pythons of this system.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if record:
            environment["PRELOAD_DLL"] = windows_path(self.root / RECORDER)
            environment["ETWREC_FILE"] = windows_path(record)
        return environment | dict(others or {})


def find_assembled(root: Path) -> list[WindowsPython]:
    """List the Windows Pythons that were assembled, oldest first."""
    root = root.resolve()  # Wine takes no other
    versions = [
        folder.name.removeprefix("python")
        for folder in root.glob("python3.*")
        if (folder / "stamp").exists()
    ]
    return [
        WindowsPython(root, version)
        for version in sorted(versions, key=lambda version: int(version.split(".")[1]))
    ]
