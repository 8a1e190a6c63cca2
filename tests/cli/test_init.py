"""Tests of the command `eliot-etw` itself: what it reads, what it says when something is wrong."""

import errno
import gzip
import os
import signal
import subprocess
import sys

import pytest

import eliot_etw
from eliot_etw import cli
from eliot_etw._json import encode_line

VERBS = ("filter", "pretty", "stats", "tree")


def line(number=1, uuid="a-task", **fields):
    """Write a message outside any action as a line of a log."""
    return encode_line(
        {
            "task_uuid": f"{uuid}-{number}",
            "task_level": [1],
            "timestamp": 1_795_176_000 + number,
            "message_type": f"app:m{number}",
            **fields,
        }
    )


class TestCommandLine:
    """Help, version, and wrong calls."""

    def test_help(self, call):
        """The help shows what there is, with examples."""
        status, output, _ = call("--help")
        assert status == 0
        assert all(f"\n  {verb} " in output for verb in VERBS)
        assert "eliot-etw tree --follow app.log" in output

    def test_nothing_at_all(self, call):
        """Without anything to do it says what can be done."""
        assert call() == call("-h")

    @pytest.mark.parametrize("verb", VERBS)
    def test_help_of_a_verb(self, call, verb):
        """Each verb explains itself."""
        status, output, _ = call(verb, "--help")
        assert (status, output.startswith(f"Usage: eliot-etw {verb}")) == (0, True)

    def test_version(self, call):
        """The version is that of the package."""
        assert call("--version")[:2] == (0, f"eliot-etw, version {eliot_etw.__version__}\n")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["flee"], "No such command 'flee'."),
            (["tree", "--flee"], "No such option"),
            (["tree", "--color", "red"], "Invalid value for '--color'"),
            (["tree", "--\x1b[31m"], "No such option"),
        ],
    )
    def test_wrong_call(self, call, arguments, error):
        """A wrong call is one line on standard error, and status 2."""
        status, output, errors = call(*arguments)
        assert (status, output) == (2, "")
        assert errors.startswith(f"eliot-etw: {error}")
        assert errors.count("\n") == 1
        assert errors.strip().isprintable()

    def test_modules_that_are_not_needed(self):
        """A verb does not wait for what only others need."""
        program = (
            "import sys; sys.argv = ['eliot-etw', 'tree', '-'];"
            "from eliot_etw.cli import main; main();"
            "print([m for m in ('rich', 'simpleeval', 'zstandard', 'sqlite3', 'lzma')"
            " if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], input=line(), capture_output=True, check=True
        )
        assert done.stdout.splitlines()[-1] == b"[]"


class TestFiles:
    """What can be read."""

    def test_several_files(self, call, tmp_path):
        """Several files are read as one log, in the order of time; none twice."""
        (tmp_path / "b.log").write_bytes(line(2) + line(4))
        (tmp_path / "a.log.gz").write_bytes(gzip.compress(line(1) + line(3)))
        files = sorted(tmp_path.iterdir(), reverse=True)
        output = call("pretty", "--compact", *files)[1]
        found = [text.split('message_type="app:')[1][:2] for text in output.splitlines()]
        assert found == ["m1", "m2", "m3", "m4"]

    @pytest.mark.parametrize("arguments", [[], ["-"]])
    def test_standard_input(self, call, arguments):
        """Without a file, and for a dash, standard input is read."""
        status, output, errors = call("tree", *arguments, stdin=line())
        assert (status, "app:m1" in output, errors) == (0, True, "")

    def test_file_and_standard_input(self, call, tmp_path):
        """A dash can stand beside files."""
        path = tmp_path / "a.log"
        path.write_bytes(line(2))
        output = call("tree", path, "-", stdin=line(1))[1]
        assert output.index("app:m1") < output.index("app:m2")

    @pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
    def test_terminal_as_standard_input(self, start):
        """Nobody wants to type a log: it says what to do instead of waiting."""
        ours, theirs = os.openpty()
        program = start("tree", stdin=theirs)
        _, errors = program.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert (program.returncode, errors.decode()) == (
            2,
            "eliot-etw: Nothing to read: name a file, or pipe a log into this command. "
            "See --help.\n",
        )

    @pytest.mark.parametrize("verb", ["tree", "pretty", "stats"])
    def test_nothing_to_show(self, call, verb):
        """An empty log is no failure, but is no silence either."""
        assert call(verb) == (0, "", "eliot-etw: Nothing to show: there are no messages.\n")

    def test_unreadable_files(self, call, tmp_path):
        """A file that cannot be read is one line and status 2; the others are shown."""
        good, missing, cut = (tmp_path / name for name in ("good", "missing", "cut"))
        good.write_bytes(line(1))
        cut.write_bytes(gzip.compress(line(2) * 3)[:-4])
        # Windows lets nobody open a folder.
        folder = os.strerror(errno.EACCES if os.name == "nt" else errno.EISDIR)
        status, output, errors = call("tree", missing, good, tmp_path, cut)
        assert (status, "app:m1" in output, "app:m2" in output) == (2, True, True)
        assert sorted(errors.splitlines()) == sorted(
            [
                f"eliot-etw: {missing}: No such file or directory",
                f"eliot-etw: {tmp_path}: {folder}",
                f"eliot-etw: {cut}: is cut off: its gzip data end too early",
            ]
        )

    @pytest.mark.parametrize("verb", ["tree", "pretty", "stats", "filter"])
    def test_status_of_unreadable_files(self, call, verb):
        """All verbs end alike."""
        assert call(verb, *(["J"] if verb == "filter" else []), "/nowhere")[0] == 2

    def test_name_that_drives_a_terminal(self, call, tmp_path):
        """The name of a file is shown, not obeyed."""
        errors = call("tree", tmp_path / "evil\x1b[2J\n\udc80.log")[2]
        assert "evil\\x1b[2J\\n\\udc80.log: " in errors
        assert errors.strip().isprintable()

    def test_missing_package(self, call, monkeypatch, tmp_path):
        """A package that a file needs is said to be missing; the other files are shown."""
        monkeypatch.setitem(sys.modules, "zstandard", None)
        path = tmp_path / "app.log"
        path.write_bytes(b"\x28\xb5\x2f\xfdrest")
        status, output, errors = call("tree", path, "-", stdin=line())
        assert (status, "app:m1" in output) == (2, True)
        assert errors.startswith(f"eliot-etw: {path}: Reading .zst needs the package 'zstandard'")


class TestBadLines:
    """Lines that are no messages."""

    def test_reported_and_skipped(self, call, tmp_path):
        """Each is reported with its place and the reason, all are counted, the rest is shown."""
        path = tmp_path / "app.log"
        path.write_bytes(line(1) + b"what?\n" + line(2) + line(3)[:-5])
        status, output, errors = call("tree", path)
        assert (status, "app:m1" in output, "app:m2" in output) == (0, True, True)
        assert errors.splitlines() == [
            f"{path}:2: not JSON: Expecting value at column 1",
            f"{path}:4: the last line is unfinished",
            "eliot-etw: 2 lines were skipped, being no messages.",
        ]

    def test_one(self, call):
        """One is one."""
        assert call("stats", stdin=b"[]\n" + line())[2].splitlines() == [
            "<stdin>:1: not a message: a list, not an object",
            "eliot-etw: 1 line was skipped, being no messages.",
        ]

    def test_thousands(self, call):
        """Of thousands the first are reported, and how many more there were."""
        lines = call("pretty", stdin=b"?\n" * 12_345)[2].splitlines()
        assert len(lines) == 20 + 3
        assert lines[20:] == [
            "... and 12,325 more.",
            "eliot-etw: 12,345 lines were skipped, being no messages.",
            "eliot-etw: Nothing to show: there are no messages.",
        ]

    def test_reasons_cannot_drive_a_terminal(self, call):
        """What a bad line holds is not obeyed."""
        errors = call("tree", stdin=b"\x1b[2J\x9b\n{'\xe2\x80\xae'}\n")[2]
        assert errors.replace("\n", "").isprintable()


class TestEnd:
    """How it ends."""

    def test_closed_pipe(self, start, tmp_path):
        """`| head` ends it quietly."""
        path = tmp_path / "app.log"
        path.write_bytes(b"".join(line(n, text="x" * 100) for n in range(5000)))
        program = start("tree", path)
        program.stdout.readline()
        program.stdout.close()
        errors = program.stderr.read()
        assert (program.wait(60), errors) == (0, b"")

    @pytest.mark.parametrize("verb", ["tree", "pretty", "stats"])
    def test_closed_at_once(self, start, verb):
        """So does whoever wants nothing at all, also of what is written at the very end."""
        program = start(verb, "-", stdin=subprocess.PIPE)
        program.stdout.close()
        program.stdin.write(line())
        program.stdin.close()
        errors = program.stderr.read()
        assert (program.wait(60), errors) == (0, b"")

    @pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
    def test_interrupt(self, start):
        """Ctrl-C ends it with the status that shells know, and no traceback."""
        program = start("tree", "-", stdin=subprocess.PIPE)
        # It reads when it has reported a bad line.
        program.stdin.write(b"nonsense\n")
        program.stdin.flush()
        program.stderr.readline()
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
        assert (program.returncode, b"Traceback" in errors) == (130, False)

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    @pytest.mark.parametrize("verb", ["tree", "pretty", "stats"])
    def test_full_disk(self, start, verb):
        """Output that cannot be written is one line and status 1."""
        with open("/dev/full", "wb") as full:
            program = start(verb, "-", stdin=subprocess.PIPE, stdout=full)
            errors = program.communicate(line(), timeout=60)[1]
        why = os.strerror(errno.ENOSPC)
        lines = errors.decode().splitlines()
        assert (program.returncode, lines) == (1, [f"eliot-etw: cannot write: {why}"])

    def test_no_click(self):
        """Without the extra it says what to install, in one line."""
        program = (
            "import sys; sys.modules['click'] = None; from eliot_etw.cli import main;"
            "sys.argv = ['eliot-etw', 'tree']; sys.exit(main())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (
            2,
            "eliot-etw: The command eliot-etw needs the package 'click', which is not installed. "
            "Install it with: python -m pip install 'eliot-etw[cli]'\n",
        )

    def test_installed_command(self):
        """The command is installed with the package."""
        from importlib.metadata import entry_points

        (entry,) = entry_points(group="console_scripts", name="eliot-etw")
        assert entry.load() is cli.main

    def test_output_in_ascii(self, start):
        """An encoding that lacks a letter gets its number; it is no reason to fail."""
        environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        program = start("tree", "-", stdin=subprocess.PIPE, env=environment)
        output, errors = program.communicate(line(text="東京"), timeout=60)
        assert (program.returncode, errors) == (0, b"")
        assert output.rstrip().endswith(b"- app:m1 [a-task-1] text=\\u6771\\u4eac")


class TestLargeLogs:
    """Memory does not grow with the log."""

    @pytest.mark.skipif(sys.platform != "linux", reason="units of ru_maxrss")
    @pytest.mark.parametrize(
        ("shape", "arguments"),
        [
            ("tasks", ["tree"]),
            ("tasks", ["stats"]),
            ("endless", ["tree"]),
            ("endless", ["stats"]),
            ("giant", ["tree"]),
            ("giant", ["tree", "--json"]),
            ("endless", ["convert", "--to", "otlp-json", "-o", os.devnull]),
            ("tasks", ["convert", "--to", "etl", "-o", os.devnull]),
        ],
    )
    def test_flat(self, shape, arguments, tmp_path):
        """Ordinary tasks, tasks that never end, one task that holds all: memory stays bounded."""
        path = tmp_path / "app.log"
        with path.open("wb") as log:
            log.writelines(SHAPES[shape]())
        # By a process in between: to one that was started here, Linux counts our own memory, too.
        command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "eliot_etw.cli"]
        program = subprocess.run(
            [*command, *arguments, path], stdout=subprocess.PIPE, timeout=600, check=True
        )
        assert int(program.stdout) < 150 * 1024


MEASURE = """
import resource, subprocess, sys

subprocess.check_call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""

# Each of these logs is larger than the memory that may be taken for it.


def tasks():
    """Write a log of ordinary tasks."""
    for n in range(40_000):
        place = {"task_uuid": f"task-{n}", "timestamp": n, "action_type": "app:do"}
        text = "x" * 4_000
        yield encode_line({**place, "task_level": [1], "action_status": "started", "text": text})
        yield encode_line({**place, "task_level": [2], "action_status": "succeeded"})


def endless():
    """Write a log of tasks that never end."""
    for n in range(10_000):
        place = {"task_uuid": f"task-{n}", "timestamp": n, "action_type": "app:do"}
        text = "x" * 16_000
        yield encode_line({**place, "task_level": [1], "action_status": "started", "text": text})


def giant():
    """Write a log of a single task."""
    place = {"task_uuid": "service", "timestamp": 0}
    yield encode_line(
        {**place, "task_level": [1], "action_type": "app:main", "action_status": "started"}
    )
    for n in range(2, 10_000):
        text = "x" * 16_000
        yield encode_line({**place, "task_level": [n], "message_type": "app:said", "text": text})


SHAPES = {"tasks": tasks, "endless": endless, "giant": giant}
