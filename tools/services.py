"""Redis, NATS JetStream and ClickHouse of one's own, on free ports and in a folder of their own.

    python3 tools/services.py                 start all three, say where they are, until Ctrl-C
    python3 tools/services.py redis nats      only those
    python3 tools/services.py --install       only install what is missing (Debian, as root)

What runs on the machine already is left alone. All listen on loopback only, without passwords.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import ClassVar, Final

LOOPBACK: Final = "127.0.0.1"
_START_S: Final = 60.0
_END_S: Final = 30.0
_TRIES: Final = 5


class ServiceError(Exception):
    """A service could not be installed or started; the text is one line."""


class Service:
    """A server: where it listens, where its data is, and what happens to its process.

    Attributes:
        port: Where clients connect to, on loopback. It stays the same over restarts.
        folder: Where its settings, its data and its log are.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    """The program, as it is found in `PATH` or where Debian puts daemons."""
    package: ClassVar[str]
    """Debian's package that has it."""

    def __init__(self, folder: str | os.PathLike[str], *, start: bool = True) -> None:
        """Choose its ports, and start it.

        Args:
            folder: A folder of its own, which is made; what is there from before is its data.
            start: Whether to start it at once.

        Raises:
            ServiceError: If it does not start, or is not installed.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._choose_ports()
        if start:
            self.start()

    @property
    def url(self) -> str:
        """Where it is, as a client wants it."""
        return f"{self.name}://{LOOPBACK}:{self.port}"

    @property
    def log(self) -> Path:
        """The file that it writes to what it has to say."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The number of its process."""
        if self._process is None:
            raise ServiceError(f"{self.name} must be running, it is not. Call start().")
        return self._process.pid

    def start(self) -> None:
        """Start it on the same ports, with the same data, and wait until it answers.

        Raises:
            ServiceError: If it does not.
        """
        program = find(self.program)
        if program is None:
            raise ServiceError(why_not(type(self)))
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command(program),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for whoever started it
            )
        end = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop(signal.SIGKILL)
                said = self.log.read_text("utf-8", "replace").strip().splitlines()
                last = said[-1] if said else "nothing"
                raise ServiceError(f"{self.name} did not start; it says: {last}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal, and wait until it has ended. Its data stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Keep it from doing anything, as a machine that hangs."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it do something again."""
        os.kill(self.pid, signal.SIGCONT)

    def _choose_ports(self) -> None:
        [self.port] = free_ports(1)

    def _command(self, program: str) -> list[str]:
        """Write its settings; the command line that starts it."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Say whether it is ready."""
        raise NotImplementedError


class Redis(Service):
    """A Redis that keeps everything on disk, written at each command."""

    name = "redis"
    program = "redis-server"
    package = "redis-server"

    def _command(self, program: str) -> list[str]:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "daemonize": "no",
        }
        return [
            program,
            *(word for key, value in settings.items() for word in (f"--{key}", value)),
        ]

    def _answers(self) -> bool:
        return _said(self.port, b"PING\r\n", until=b"PONG")


class Nats(Service):
    """A NATS server with JetStream; one of a cluster, if it is given routes.

    Attributes:
        cluster_port: Where the others of its cluster connect to.
    """

    name = "nats"
    program = "nats-server"
    package = "nats-server"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        start: bool = True,
        routes: Sequence[int] = (),
        cluster_port: int = 0,
    ) -> None:
        """Choose its ports, and start it.

        Args:
            folder: As in `Service`; its name is that of the server.
            start: Whether to start it at once.
            routes: The cluster ports of all servers of its cluster; none if it is alone.
            cluster_port: Which of them is its own.

        Raises:
            ServiceError: If it does not start, or is not installed.
        """
        self._routes = routes
        self.cluster_port = cluster_port
        self._monitor = 0
        super().__init__(folder, start=start)

    def _choose_ports(self) -> None:
        self.port, self._monitor = free_ports(2)

    def _command(self, program: str) -> list[str]:
        lines = [
            f'server_name: "{self.folder.name}"',
            f'listen: "{LOOPBACK}:{self.port}"',
            f'http: "{LOOPBACK}:{self._monitor}"',
            f'jetstream {{ store_dir: "{self.folder}/data" }}',
        ]
        if self._routes:
            routes = ", ".join(f'"nats-route://{LOOPBACK}:{port}"' for port in self._routes)
            lines.append(
                f'cluster {{ name: "tests", listen: "{LOOPBACK}:{self.cluster_port}", '
                f"routes: [{routes}] }}"
            )
        settings = self.folder / "nats.conf"
        settings.write_text("\n".join([*lines, ""]), "utf-8")
        return [program, "-c", str(settings)]

    def _answers(self) -> bool:
        # Of a cluster, the server is well as soon as it has found the leader.
        path = "/" if self._routes else "/healthz"
        return _fetched(self._monitor, path)


class NatsCluster:
    """Three NATS servers on one machine, of which each has what the others have.

    Attributes:
        nodes: The servers.
    """

    def __init__(self, folder: str | os.PathLike[str], size: int = 3) -> None:
        """Start them, and wait until all are well.

        Args:
            folder: A folder of its own.
            size: How many they are.

        Raises:
            ServiceError: If they do not start, or NATS is not installed.
        """
        ports = free_ports(size)
        self.nodes: list[Nats] = []
        try:
            for number, port in enumerate(ports):
                node = Nats(Path(folder) / f"n{number}", routes=ports, cluster_port=port)
                self.nodes.append(node)
            self.wait()
        except BaseException:
            self.stop()
            raise

    @property
    def urls(self) -> list[str]:
        """Where they are."""
        return [node.url for node in self.nodes]

    def wait(self) -> None:
        """Wait until each that runs has found the leader, and has caught up.

        Raises:
            ServiceError: If that takes too long.
        """
        end = time.monotonic() + _START_S
        for node in self.nodes:
            while node._process is not None and not _fetched(node._monitor, "/healthz"):
                if time.monotonic() > end:
                    raise ServiceError(f"the cluster of {node.folder} found no leader.")
                time.sleep(0.05)

    def stop(self) -> None:
        """End them all."""
        for node in self.nodes:
            node.stop()


class ClickHouse(Service):
    """A ClickHouse, which speaks HTTP on its port. Debian's is 18.16."""

    name = "clickhouse"
    program = "clickhouse-server"
    package = "clickhouse-server"

    @property
    def url(self) -> str:
        """Where it is, as a client wants it."""
        return f"http://{LOOPBACK}:{self.port}"

    def _choose_ports(self) -> None:
        self.port, self._native = free_ports(2)

    def _command(self, program: str) -> list[str]:
        settings = self.folder / "config.xml"
        temporary = self.folder / "tmp"
        settings.write_text(
            f"""<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <listen_host>{LOOPBACK}</listen_host>
  <http_port>{self.port}</http_port>
  <tcp_port>{self._native}</tcp_port>
  <path>{self.folder}/data/</path>
  <tmp_path>{temporary}/</tmp_path>
  <user_files_path>{self.folder}/files/</user_files_path>
  <mark_cache_size>67108864</mark_cache_size>
  <users_config>{self.folder}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
</yandex>
""",
            "utf-8",
        )
        (self.folder / "users.xml").write_text(
            f"""<yandex>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password><networks><ip>{LOOPBACK}</ip></networks>
    <profile>default</profile><quota>default</quota>
  </default></users>
</yandex>
""",
            "utf-8",
        )
        return [program, f"--config-file={settings}"]

    def _answers(self) -> bool:
        return _fetched(self.port, "/ping")


KINDS: Final[dict[str, type[Service]]] = {kind.name: kind for kind in (Redis, Nats, ClickHouse)}


def find(program: str) -> str | None:
    """Find a program, also where only root looks for it."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    return shutil.which(program, path=path)


def why_not(kind: type[Service]) -> str:
    """Say why a service cannot be started here; nothing if it can."""
    if find(kind.program):
        return ""
    return f"{kind.program} is not installed. On Debian: apt-get install {kind.package}"


def install(kinds: Iterable[type[Service]]) -> None:
    """Install what is missing, from Debian's packages, without starting any of it.

    Raises:
        ServiceError: If that fails.
    """
    packages = [kind.package for kind in kinds if why_not(kind)]
    if not packages:
        return
    if find("apt-get") is None or os.geteuid() != 0:
        raise ServiceError(
            f"{', '.join(packages)} must be installed, which needs Debian and root."
        )
    # In runlevel 1 no package starts its daemon, which would take the usual port.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    wanted = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    for command in (["apt-get", "update"], wanted):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
            raise ServiceError(f"{' '.join(command)} failed: {lines[-1]}")


def free_ports(number: int) -> list[int]:
    """Find ports of loopback that nobody listens on."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def started(kind: type[Service], folder: str | os.PathLike[str]) -> Service:
    """Start a service; again on other ports, if somebody took them just then.

    Raises:
        ServiceError: If it does not start at all.
    """
    for _ in range(_TRIES - 1):
        try:
            return kind(folder)
        except ServiceError as error:
            if "in use" not in str(error):
                raise
    return kind(folder)


def _said(port: int, question: bytes, *, until: bytes) -> bool:
    """Ask a server something, and say whether it answered as expected."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            connection.sendall(question)
            return until in connection.recv(100)
    except OSError:
        return False


def _fetched(port: int, path: str) -> bool:
    """Say whether something can be fetched from a server, which means that all is well there."""
    connection = HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (HTTPException, OSError):
        return False
    finally:
        connection.close()


def main() -> int:
    """Do what the command line says; 2 if it cannot be done."""
    summary, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("service", nargs="*", help=f"which: {', '.join(KINDS)}; all by default")
    parser.add_argument("--install", action="store_true", help="only install what is missing")
    options = parser.parse_args()
    wrong = [name for name in options.service if name not in KINDS]
    if wrong:
        parser.error(f"a service must be one of {', '.join(KINDS)}, got {', '.join(wrong)}.")
    kinds = [KINDS[name] for name in options.service] or list(KINDS.values())
    running: list[Service] = []
    try:
        install(kinds)
        if options.install:
            return 0
        with tempfile.TemporaryDirectory(prefix="services-") as folder:
            try:
                for kind in kinds:
                    service = started(kind, Path(folder) / kind.name)
                    running.append(service)
                    print(f"{service.name:<12}{service.url}", flush=True)
                print("Ctrl-C ends them, and removes their data.", flush=True)
                signal.signal(signal.SIGTERM, signal.default_int_handler)
                signal.pause()
            except KeyboardInterrupt:
                pass
            finally:
                for service in running:
                    service.stop()
    except ServiceError as error:
        print(f"services.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
