"""Tests of programs that start, end or are put together in other ways than a plain one."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import zipapp
from collections import Counter
from contextlib import closing
from importlib.util import find_spec
from multiprocessing import get_all_start_methods
from pathlib import Path
from time import monotonic, sleep
from uuid import UUID

import pytest

from eliot_etw import __pyinstaller as pyinstaller
from tests._stories import run, stories

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "eliot_etw"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

# A program that logs what there is to log, and is the command for reading it, too.
PROGRAM = """
import eliot_etw, sys
from eliot_etw.cli import main

def story():
    with eliot_etw.configure("settings.toml"):
        with eliot_etw.start_action(action_type="app:outer", size=3):
            eliot_etw.log_message("app:message", password="secret")
            try:
                with eliot_etw.start_action(action_type="app:inner"):
                    raise ValueError("no")
            except ValueError:
                eliot_etw.write_traceback()

if __name__ == "__main__":
    sys.exit(main() if sys.argv[1:] else story())
"""
SETTINGS = """
[[destinations]]
kind = "file"
file = "app.log"
wrappers = [{ kind = "redacted" }, { kind = "level_filter" }, { kind = "background" }]

[[destinations]]
kind = "etl"
path = "app.etl"

[logging]
"""
STORY = [["app:outer", "app:message", ["app:inner!"], "eliot:traceback"]]


def started(*command, folder, **options):
    """Run a command in a folder; it must succeed and say nothing on standard error."""
    ran = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        **options,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def logged(path):
    """Read the messages of a log."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def tells_the_story(folder, *program):
    """Run the program as often as it takes to see all that it does."""
    (folder / "settings.toml").write_text(SETTINGS, "utf-8")

    def call(*arguments):
        environment = os.environ | {"PYTHONUTF8": "1", "NO_COLOR": "1"}
        return started(*program, *arguments, folder=folder, env=environment)

    call()
    messages = logged(folder / "app.log")
    assert stories(messages) == STORY
    assert messages[1]["password"] == "[redacted: key *password*]"
    for name in ("app.log", "app.etl"):
        tree = call("tree", name)
        assert re.findall(r"app:\w+", tree) == ["app:outer", "app:message", "app:inner"]
        assert "ValueError: no" in tree
    assert "app:inner" in call("stats", "app.log")
    assert "app:outer" in call("tree", "--where", "size == 3", "app.log")


class TestInterpreter:
    """Python itself, started in other ways."""

    @pytest.mark.parametrize("option", ["-O", "-OO"])
    def test_options(self, option, tmp_path):
        """Without assertions and docstrings all is as it is with them."""
        pytest.importorskip("click")
        path = tmp_path / "program.py"
        path.write_text(PROGRAM, "utf-8")
        tells_the_story(tmp_path, sys.executable, option, path)

    @pytest.mark.parametrize(
        "verb",
        ["", "tree", "stats", "pretty", "filter", "etl", "etl dump", "etw", "etw info"],
    )
    def test_help_without_docstrings(self, verb, tmp_path):
        """The command explains itself in the same words."""
        pytest.importorskip("click")
        command = ["-m", "eliot_etw.cli", *verb.split(), "--help"]
        plain, stripped = (
            started(sys.executable, option, *command, folder=tmp_path) for option in ("-O", "-OO")
        )
        assert plain == stripped

    def test_zip(self, tmp_path):
        """It may be imported from an archive, and the command run from it."""
        pytest.importorskip("click")
        source = tmp_path / "source"
        # Not by copy2, which calls what Wine doesn't have.
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            PACKAGE, source / PACKAGE.name, ignore=without, copy_function=shutil.copyfile
        )
        (source / "__main__.py").write_text(
            "import eliot_etw\nassert '.pyz' in eliot_etw.__file__\n" + PROGRAM, "utf-8"
        )
        zipapp.create_archive(source, tmp_path / "program.pyz")
        tells_the_story(tmp_path, sys.executable, tmp_path / "program.pyz")


SUBINTERPRETERS = """
import datetime, enum, uuid
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

WORK = f'''
import datetime, eliot_etw, enum, uuid
class Colour(enum.Enum):
    RED = "red"
log = eliot_etw.FileDestination({LOG!r})
eliot_etw.add_destinations(log)
with eliot_etw.start_action(action_type="app:action"):
    eliot_etw.log_message(
        "app:message", id=uuid.UUID(int=1), day=datetime.date(2026, 1, 2), colour=Colour.RED,
        items={{1}},
    )
eliot_etw.remove_destination(log)
'''
"""


@pytest.mark.skipif(
    not (find_spec("_interpreters") or find_spec("_xxsubinterpreters")),
    reason="this Python makes no subinterpreters",
)
class TestSubinterpreters:
    """Several interpreters in one process.

    None of them is destroyed before the process ends: without us, too, orjson crashes if an
    interpreter that has loaded it is destroyed, and another one loads it.
    """

    def test_with_one_lock(self, tmp_path):
        """Those of servers in C, which share the lock, log as the main one does."""
        messages = run(
            tmp_path,
            SUBINTERPRETERS
            + """
exec(WORK)
for _ in range(2):
    if sys.version_info >= (3, 13):
        other = interpreters.create("legacy")
    else:
        other = interpreters.create(isolated=False)
    assert interpreters.run_string(other, WORK) is None
exec(WORK)
""",
        )
        assert stories(messages) == [["app:action", "app:message"]] * 4
        keys = ("id", "day", "colour", "items")
        values = [[m[key] for key in keys] for m in messages if "id" in m]
        assert values == [[str(UUID(int=1)), "2026-01-02", "red", [1]]] * 4

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 all share one lock")
    def test_with_a_lock_of_their_own(self, tmp_path):
        """They refuse: orjson can't be loaded there, and says so. The process goes on."""
        messages = run(
            tmp_path,
            SUBINTERPRETERS
            + """
try:
    failed = interpreters.run_string(interpreters.create(), WORK)
except interpreters.RunFailedError as error:
    failed = error
assert "orjson does not support loading in subinterpreters" in str(failed)
exec(WORK)
""",
        )
        assert stories(messages) == [["app:action", "app:message"]]


SERVER = """
import eliot_etw, os

eliot_etw.configure({"destinations": [
    {"kind": "file", "file": "app.log", "wrappers": [{"kind": "background"}]}]})
eliot_etw.log_message("app:loaded", process=os.getpid())

def application(environ, start_response):
    with eliot_etw.start_task(action_type="app:request", process=os.getpid()):
        eliot_etw.log_message("app:message")
    start_response("200 OK", [("Content-Length", "0"), ("Connection", "close")])
    return [b""]
"""


class _OverSocket(http.client.HTTPConnection):
    """A connection to a server that listens at a path."""

    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def asked(path):
    """Make a request, as soon as the server listens."""
    deadline = monotonic() + 60
    while True:
        with closing(_OverSocket(path)) as connection:
            try:
                connection.request("GET", "/")
                with connection.getresponse() as response:
                    return response.status
            except OSError:
                assert monotonic() < deadline
        sleep(0.02)


@needs_fork
class TestServers:
    """Programs that fork workers, or leave their terminal."""

    def test_gunicorn(self, tmp_path):
        """What is set up before the fork works in each worker; its end delivers what is queued."""
        pytest.importorskip("gunicorn")
        (tmp_path / "server.py").write_text(SERVER, "utf-8")
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2"]
        with subprocess.Popen(
            [*command, "--bind", "unix:socket", "server:application"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        ) as server:
            try:
                assert [asked(tmp_path / "socket") for _ in range(20)] == [200] * 20
                server.send_signal(signal.SIGTERM)
                said = server.communicate(timeout=60)[1].decode()
            finally:
                server.kill()
        messages = logged(tmp_path / "app.log")
        assert Counter(map(json.dumps, stories(messages))) == {
            '"app:loaded"': 1,
            '["app:request", "app:message"]': 20,
        }, said
        assert messages[0]["process"] not in {m.get("process") for m in messages[1:]}

    def test_daemon(self, tmp_path):
        """It forks twice, closes what it inherited, and sets up anew; its end delivers all."""
        messages = run(
            tmp_path,
            """
import time
from pathlib import Path

before = eliot_etw.FileDestination(LOG)
eliot_etw.add_destinations(before)
eliot_etw.log_message("app:started")
child = os.fork()
if child == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.closerange(0, 1000)
    for _ in range(3):
        os.open(os.devnull, os.O_RDWR)
    eliot_etw.remove_destination(before)
    eliot_etw.configure({"destinations": [
        {"kind": "file", "file": LOG, "wrappers": [{"kind": "background"}]}]})
    with eliot_etw.start_action(action_type="app:daemon"):
        eliot_etw.log_message("app:message")
    sys.exit()
os.waitpid(child, 0)
deadline = time.monotonic() + 30
while b"succeeded" not in Path(LOG).read_bytes():
    assert time.monotonic() < deadline
    time.sleep(0.01)
""",
        )
        assert stories(messages) == ["app:started", ["app:daemon", "app:message"]]


@pytest.mark.parametrize("method", get_all_start_methods())
def test_multiprocessing(method, tmp_path):
    """However a process is started, what its queue holds is delivered when it ends."""
    messages = run(
        tmp_path,
        """
from multiprocessing import get_context

def work(number):
    with eliot_etw.start_task(action_type="app:work"):
        eliot_etw.log_message("app:message", number=number)

if sys.argv[1] != "fork" or __name__ == "__main__":
    eliot_etw.configure({"destinations": [
        {"kind": "file", "file": LOG, "wrappers": [{"kind": "background"}]}]})

if __name__ == "__main__":
    context = get_context(sys.argv[1])
    processes = [context.Process(target=work, args=[number]) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with context.Pool(2) as pool:
        pool.map(work, range(3, 20))
        pool.close()
        pool.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
""",
        method,
    )
    assert stories(messages) == [["app:work", "app:message"]] * 20
    assert sorted(m["number"] for m in messages if "number" in m) == list(range(20))


class TestPyInstaller:
    """A program and its Python in one folder."""

    def test_build(self, tmp_path):
        """It logs, and has the whole command in it."""
        pytest.importorskip("PyInstaller")
        pytest.importorskip("click")
        if os.name != "nt" and not sysconfig.get_config_var("Py_ENABLE_SHARED"):
            pytest.skip("PyInstaller needs a Python that is a shared library")
        (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
        [hooks] = pyinstaller.get_hook_dirs()
        subprocess.run(
            [
                sys.executable,
                "-m",
                "PyInstaller",
                "--noconfirm",
                "--paths",
                ROOT,
                "--additional-hooks-dir",
                hooks,
                "program.py",
            ],
            cwd=tmp_path,
            capture_output=True,
            check=True,
            timeout=600,
            env=os.environ | {"PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")},
        )
        tells_the_story(tmp_path, tmp_path / "dist" / "program" / "program")

    def test_hooks_are_announced(self):
        """PyInstaller is told where they are; each is for a module that there is."""
        hooks = Path(*pyinstaller.get_hook_dirs()).glob("hook-*.py")
        modules = [hook.stem.removeprefix("hook-") for hook in hooks]
        assert len(modules) == 3
        assert all(map(find_spec, modules))
        announced = "hook-dirs = eliot_etw.__pyinstaller:get_hook_dirs"
        assert announced in (ROOT / "setup.cfg").read_text("utf-8")
