"""Tests of the module with Eliot's name: Eliot's example, and what Eliot itself writes."""

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from eliot_etw import journald
from tests import _journal

# The example in Eliot's documentation, which is to run with another import.
EXAMPLE = """
from {package} import log_message, start_action, add_destinations
from {package}.journald import JournaldDestination

add_destinations(JournaldDestination())


def divide(a, b):
    with start_action(action_type="divide", a=a, b=b):
        return a / b

print(divide(10, 2))
log_message(message_type="inbetween")
print(divide(10, 0))
"""
# What is different from run to run.
VARYING = {"task_uuid", "timestamp"}


@pytest.fixture
def journal():
    """Return a journal of the test's own."""
    with closing(_journal.start()) as journal:
        yield journal


def run_example(journal, folder, package):
    """Run the example, and return what is in the journal then."""
    program = folder / "journald.py"
    program.write_text(EXAMPLE.format(package=package), "utf-8")
    done = subprocess.run(
        [*journal.entering(), sys.executable, program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "5.0\n"
    assert "ZeroDivisionError" in done.stderr
    journal.sync()
    output = journal.run("journalctl", "--output=json", "--all", "SYSLOG_IDENTIFIER=journald.py")
    return [json.loads(line) for line in output.splitlines()]


def comparable(entry):
    """Return what ought to be the same in the entry, whoever wrote it."""
    ours = {name: value for name, value in entry.items() if not name.startswith("_")}
    message = json.loads(ours.pop("MESSAGE"))
    assert ours.pop("ELIOT_TASK") == message["task_uuid"]
    return ours, {name: value for name, value in message.items() if name not in VARYING}


def test_names():
    """It has the names that Eliot's module has."""
    assert journald.__all__ == ["JournaldDestination", "sd_journal_send"]


def test_example(journal, tmp_path):
    """Eliot's example runs, and the commands in Eliot's documentation find what it logged."""
    entries = run_example(journal, tmp_path, "eliot_etw")
    assert [entry["ELIOT_TYPE"] for entry in entries] == [
        "divide", "divide", "inbetween", "divide", "divide",
    ]  # fmt: skip
    pretty = f"{sys.executable} -c 'from eliot_etw.prettyprint import main; main()'"
    cat = "journalctl --all --output cat"
    between = journal.run("sh", "-c", f"{cat} ELIOT_TYPE=inbetween | {pretty}")
    assert "message_type: 'inbetween'" in between
    failed = journal.run("sh", "-c", f"{cat} --priority=err ELIOT_TYPE=divide | {pretty}")
    assert "action_status: 'failed'" in failed
    assert failed.count("action_type") == 1
    tree = shutil.which("eliot-tree", path=str(Path(sys.executable).parent))
    if tree:
        task = entries[-1]["ELIOT_TASK"]
        drawn = journal.run("sh", "-c", f"{cat} ELIOT_TASK={task} | {tree}")
        assert "divide/1" in drawn


def test_as_eliot_writes(journal, tmp_path):
    """Each entry has the fields that Eliot's own destination gives it."""
    pytest.importorskip("eliot")
    pytest.importorskip("cffi")
    entries = run_example(journal, tmp_path, "eliot")
    theirs, ours = entries, run_example(journal, tmp_path, "eliot_etw")[len(entries) :]
    assert len(ours) == 5
    assert list(map(comparable, theirs)) == list(map(comparable, ours))


def test_sd_journal_send(journal):
    """The function sends fields as they are, to the journal of the machine."""
    program = (
        "from eliot_etw.journald import sd_journal_send\n"
        "sd_journal_send(MESSAGE=b'hello %s', A_B=b'x\\ny', SYSLOG_IDENTIFIER=b'sent')\n"
    )
    journal.run(sys.executable, "-W", "error", "-c", program)
    journal.sync()
    [line] = journal.run("journalctl", "--output=json", "SYSLOG_IDENTIFIER=sent").splitlines()
    entry = json.loads(line)
    assert (entry["MESSAGE"], entry["A_B"]) == ("hello %s", "x\ny")


@pytest.mark.parametrize("name", ["", "a", "_A", "1", "A=B", "A\n", "A" * 65])
def test_sd_journal_send_with_a_name_that_is_none(name):
    """What the journal would leave out without a word is an OSError."""
    with pytest.raises(OSError, match="Invalid argument"):
        journald.sd_journal_send(**{name: b"x"})


def test_sd_journal_send_without_a_journal(monkeypatch):
    """Without a journal it is an OSError."""
    monkeypatch.setattr(journald, "SOCKET_PATH", "/no/such/socket")
    with pytest.raises(OSError, match="journal"):
        journald.sd_journal_send(MESSAGE=b"x")
