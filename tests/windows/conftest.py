"""A Windows Python under Wine, whose calls of the ETW API are recorded below Python."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from eliot_etw.etw._records import EtlEvent

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "windows"
# Where tools/windows/setup.py assembled Windows Pythons; tools/test.py --wine sets it.
ASSEMBLED = "ELIOT_ETW_WINDOWS"
TRAITS, METADATA, PAYLOAD = 2, 1, 0

# For programs that are run: has Windows call back, as when a session starts, changes or stops.
NOTIFY = """
import ctypes, os

def notify(code, level, *, to_all=0):
    mask = ctypes.c_uint64(2**64 - 1 if code else 0)
    recorder = ctypes.CDLL(os.environ["PRELOAD_DLL"])
    recorder.EtwRecNotify(code, level, mask, ctypes.c_uint64(0), to_all)
"""


class Recorded:
    """What a program wrote, how it ended, and how it called Windows."""

    def __init__(self, done, calls):
        self.status = done.returncode
        self.output = done.stdout
        self.errors = done.stderr
        self.calls = calls

    def lines(self):
        """Return the lines of JSON that it wrote."""
        return [json.loads(line) for line in self.output.splitlines()]

    def of(self, function):
        """Return the calls of one function."""
        return [call for call in self.calls if call["function"] == function]

    def events(self, *, result=0):
        """Return the events that were written, as they would be in a trace."""
        written = self.of("EventWriteTransfer")
        return [event_of(call) for call in written if call["result"] == result]

    def is_balanced(self):
        """Say whether what was registered was unregistered, once, and no call was refused."""
        registered, ended = (
            sorted(call["handle"] for call in self.of(function) if not call["result"])
            for function in ("EventRegister", "EventUnregister")
        )
        refused = [call for call in self.calls if call["result"] == 6]
        return registered == ended and not refused


def guid(text):
    """Return the GUID that the recorder wrote; None if there was none."""
    return None if text is None else UUID(bytes_le=bytes.fromhex(text))


def event_of(call):
    """Make the event of a recorded call, as Windows would store it."""
    pieces = {piece["type"]: bytes.fromhex(piece["bytes"]) for piece in call["data"]}
    assert [TRAITS, METADATA, PAYLOAD] == [piece["type"] for piece in call["data"]]
    assert {0} == {piece["reserved"] for piece in call["data"]}
    descriptor = bytes.fromhex(call["descriptor"])
    return EtlEvent(
        0,
        guid(call["provider"]),
        pieces[TRAITS],
        pieces[METADATA],
        pieces[PAYLOAD],
        id=int.from_bytes(descriptor[:2], "little"),
        version=descriptor[2],
        channel=descriptor[3],
        level=descriptor[4],
        opcode=descriptor[5],
        task=int.from_bytes(descriptor[6:8], "little"),
        keyword=int.from_bytes(descriptor[8:], "little"),
        activity_id=guid(call["activity"]),
        related_activity_id=guid(call["related"]),
        thread_id=call["tid"],
        process_id=call["pid"],
    )


@pytest.fixture(scope="session")
def pythons():
    """Return the Windows Pythons that were assembled, by their versions."""
    if os.name == "nt":
        pytest.skip("here is Windows, no Wine")
    root = os.environ.get(ASSEMBLED)
    if root is None:
        pytest.skip(f"{ASSEMBLED} names no folder with Windows Pythons: see tools/windows")
    sys.path.insert(0, str(TOOLS))
    try:
        from _wine import find_assembled
    finally:
        sys.path.remove(str(TOOLS))
    found = {python.version: python for python in find_assembled(Path(root))}
    assert found, f"there are no Windows Pythons in {root}"
    return found


@pytest.fixture(params=["3.11", "3.13"])
def run(request, pythons, tmp_path):
    """Return a function that runs a program with a Windows Python and a recorder."""
    python = pythons.get(request.param)
    if python is None:
        pytest.skip(f"no Windows Python {request.param} was assembled")
    record = tmp_path / "calls.jsonl"

    def run(program, **knobs):
        """Run a program. Each knob is a variable of the recorder, see etwrec.c."""
        knobs = {f"ETWREC_{name.upper()}": str(value) for name, value in knobs.items()}
        done = subprocess.run(
            python.command("-c", program),
            env=python.environment(record, knobs),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        lines = record.read_text("utf-8").splitlines() if record.exists() else []
        return Recorded(done, [json.loads(line) for line in lines])

    return run
