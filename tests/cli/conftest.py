"""What the tests of the command share: ways to run it, here and as a program of its own."""

import io
import os
import subprocess
import sys

import pytest

from eliot_etw import cli


@pytest.fixture(autouse=True)
def extra():
    """Skip what is about the command where its extra is not installed."""
    for package in ("click", "rich", "simpleeval", "zstandard"):
        pytest.importorskip(package)


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs the command here: status, output, errors."""
    # What the tests run in must not show.
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["eliot-etw", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = cli.main()
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def start():
    """Return a function that starts the command as a program of its own."""
    started = []

    def start(*arguments, env=None, **options):
        streams = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        program = subprocess.Popen(
            [sys.executable, "-m", "eliot_etw.cli", *map(str, arguments)],
            env=os.environ | (env or {}),
            **streams | options,
        )
        started.append(program)
        return program

    yield start
    for program in started:
        # One that has ended is left alone.
        program.kill()
        program.wait()
        for stream in (program.stdin, program.stdout, program.stderr):
            if stream is not None:
                stream.close()
