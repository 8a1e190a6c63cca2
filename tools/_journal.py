"""A real systemd-journald of one's own, for tests and benchmarks; it leaves the machine's alone.

It runs in a mount namespace in which a temporary folder is /run, and another is /etc/systemd. As
systemd does it, whoever starts it holds its sockets, so that they outlive it. That is what this
file does as a program, within the namespace, as it is told by lines of text.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

if sys.platform != "linux":
    msg = f"systemd-journald needs Linux, this is {sys.platform}"
    raise ImportError(msg)

JOURNALD = "/usr/lib/systemd/systemd-journald"
# Everything is kept, and nothing is passed on: the kernel's log is that of the machine.
SETTINGS = """\
[Journal]
Storage=volatile
RateLimitIntervalSec=0
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
"""
# So many entries wait in a socket: as many as systemd sets when it starts a machine.
QUEUED = 512
_SOCKETS = {
    "socket": socket.SOCK_DGRAM,
    "dev-log": socket.SOCK_DGRAM,
    "stdout": socket.SOCK_STREAM,
    "io.systemd.journal": socket.SOCK_STREAM,
}
# sd_listen_fds(3) counts from there.
_FIRST_PASSED = 3
_MANY = 100


class Journal:
    """A journal: where it listens and keeps what it gets, and what happens to its daemon."""

    def __init__(self, namespace: str = "") -> None:
        """Start it.

        Args:
            namespace: The name of the journal's own namespace, if it is to be one.

        Raises:
            OSError: If there can be none here; `why_not` says why.
        """
        self.namespace = namespace
        # Not in a folder of pytest's: the path of a socket is 107 letters long at most.
        self.folder = Path(tempfile.mkdtemp(prefix="journal-", dir="/tmp"))
        for name in (_runtime(namespace)[1:], "run/log/journal", "etc"):
            (self.folder / name).mkdir(parents=True)
        for name in ("journald.conf", f"journald@{namespace}.conf"):
            (self.folder / "etc" / name).write_text(SETTINGS, "utf-8")
        (self.folder / "machine-id").write_text(f"{uuid4().hex}\n", "utf-8")
        command = [*_within_namespaces(self.folder), sys.executable, "-IS", __file__, namespace]
        with open(self.folder / "errors", "wb") as errors:
            self._manager: Any = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            )
        self.make_sockets()
        self.start()

    @property
    def socket_path(self) -> Path:
        """Where it listens, seen from outside."""
        return self.folder / _runtime(self.namespace)[1:] / "socket"

    @property
    def logs(self) -> Path:
        """The folder of its files, seen from outside."""
        return self.folder / "run/log/journal"

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        self._tell("start")
        self.sync()

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the daemon by a signal, and wait until it has ended."""
        self._tell(f"end {int(number)}")

    def stop(self) -> None:
        """Keep the daemon from doing anything."""
        self._tell(f"signal {int(signal.SIGSTOP)}")

    def go_on(self) -> None:
        """Let it do something again."""
        self._tell(f"signal {int(signal.SIGCONT)}")

    def make_sockets(self) -> None:
        """Make the sockets."""
        self._tell("make_sockets")

    def remove_sockets(self) -> None:
        """Remove the sockets; what waited in them is lost."""
        self._tell("remove_sockets")

    def run(self, *command: str | Path) -> str:
        """Run a program to which this is the journal of the machine, and return its output.

        Raises:
            CalledProcessError: If it failed.
        """
        line = [*self.entering(), *map(str, command)]
        return subprocess.run(
            line, stdout=subprocess.PIPE, encoding="utf-8", check=True, timeout=120
        ).stdout

    def entering(self, folder: str | Path = ".") -> list[str]:
        """Begin the command line of such a program, which runs in a folder."""
        user = [] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]
        return [
            "nsenter",
            "-t",
            str(self._manager.pid),
            *user,
            "-m",
            f"--wd={os.path.abspath(folder)}",
            "--",
        ]

    def sync(self) -> None:
        """Wait until all that was sent is in the files."""
        self.run("journalctl", "--sync", *self._selection())

    def _selection(self) -> list[str]:
        return [f"--namespace={self.namespace}"] if self.namespace else []

    def close(self) -> None:
        """End everything, and remove the folder."""
        self._manager.stdin.close()
        self._manager.wait(60)
        self._manager.stdout.close()
        shutil.rmtree(self.folder)

    def _tell(self, what: str) -> None:
        """Have the manager do something, and wait until that is done."""
        print(what, file=self._manager.stdin, flush=True)
        if not self._manager.stdout.readline():
            errors = (self.folder / "errors").read_text("utf-8")
            msg = f"systemd-journald cannot {what} here: {errors}"
            raise OSError(msg)


def why_not() -> str:
    """Say why there can be no such journal here; nothing if there can."""
    if not os.path.exists(JOURNALD):
        return "there is no systemd-journald here"
    done = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, check=False)
    return done.stderr and f"there are no namespaces to run systemd-journald in: {done.stderr}"


def _unshare() -> list[str]:
    """Begin a command line that runs in new namespaces of mounts, and of the network.

    The latter has the setting of how much waits in a socket.
    """
    return ["unshare", *([] if os.geteuid() == 0 else ["-U", "--map-root-user"]), "-m", "-n"]


def _within_namespaces(folder: Path) -> list[str]:
    """Begin a command line that runs where a folder's ``run`` is /run."""
    places = {
        folder / "run": "/run",
        folder / "etc": "/etc/systemd",
        folder / "machine-id": "/etc/machine-id",
        Path("/dev/null"): "/dev/kmsg",
    }
    mounts = [
        f"mount --bind {source} {place}"
        for source, place in places.items()
        if os.path.exists(place)  # a container may not have all of them
    ]
    return [*_unshare(), "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]


def _runtime(namespace: str) -> str:
    return f"/run/systemd/journal.{namespace}" if namespace else "/run/systemd/journal"


# ---- within the namespaces ---------------------------------------------------------------------


class _Manager:
    """Holds the sockets, and starts and ends the daemon."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._sockets: dict[str, socket.socket] = {}
        self._daemon = 0

    def make_sockets(self) -> None:
        """Make the sockets, which everybody may write to."""
        for name, kind in _SOCKETS.items():
            path = f"{_runtime(self._namespace)}/{name}"
            made = socket.socket(socket.AF_UNIX, kind)
            made.bind(path)
            os.chmod(path, 0o666)  # noqa: S103 - as systemd does
            if kind == socket.SOCK_STREAM:
                made.listen()
            self._sockets[path] = made

    def remove_sockets(self) -> None:
        """Close the sockets, and remove their paths."""
        while self._sockets:
            path, made = self._sockets.popitem()
            made.close()
            os.unlink(path)

    def start(self) -> None:
        """Start the daemon, and pass the sockets to it."""
        self._daemon = os.fork()
        if self._daemon == 0:
            # Out of the way first: one may have the number that another is to have.
            for number, made in enumerate(self._sockets.values(), _FIRST_PASSED):
                os.dup2(made.fileno(), number + _MANY)
            for number in range(_FIRST_PASSED, _FIRST_PASSED + len(self._sockets)):
                os.dup2(number + _MANY, number)
                os.close(number + _MANY)
            os.environ["LISTEN_PID"] = str(os.getpid())
            os.environ["LISTEN_FDS"] = str(len(self._sockets))
            os.execv(JOURNALD, [JOURNALD, *filter(None, [self._namespace])])  # noqa: S606 - it is no shell

    def signal(self, number: str) -> None:
        """Send a signal to the daemon."""
        os.kill(self._daemon, int(number))

    def end(self, number: str) -> None:
        """End the daemon by a signal."""
        self.signal(number)
        os.waitpid(self._daemon, 0)
        self._daemon = 0

    def close(self) -> None:
        """End the daemon, if it is there."""
        if self._daemon:
            self.end(str(int(signal.SIGKILL)))


def main() -> None:
    """Do what each line says, until there are no more."""
    with suppress(OSError):  # a user who is not root may not set it
        Path("/proc/sys/net/unix/max_dgram_qlen").write_text(str(QUEUED), "utf-8")
    manager = _Manager(sys.argv[1])
    for line in sys.stdin:
        what, *arguments = line.split()
        getattr(manager, what)(*arguments)
        print("done", flush=True)
    manager.close()


if __name__ == "__main__":
    main()
