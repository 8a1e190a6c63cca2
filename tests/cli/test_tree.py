"""Tests of `eliot-etw tree`."""

import gzip
import json
import os
import subprocess
import sys

import pytest

from eliot_etw import Action, log_message, start_action, start_task
from eliot_etw._json import encode_line

NOON = 1_795_176_000.0


def at(time, uuid, level, kind, status=None, **fields):
    """Write a message as a line of a log."""
    named = {"action_type": kind, "action_status": status} if status else {"message_type": kind}
    place = {"task_uuid": uuid, "task_level": level, "timestamp": NOON + time}
    return encode_line({**place, **named, **fields})


LOG = b"".join(
    [
        at(0, "first-task", [1], "app:request", "started", path="/a", n=1),
        at(1, "first-task", [2, 1], "app:query", "started", sql="select 1"),
        at(2, "first-task", [2, 2], "app:row", value=7),
        at(3, "first-task", [2, 3], "app:query", "succeeded", rows=1),
        at(4, "first-task", [3], "app:request", "failed", exception="E", reason="no"),
        at(10, "second-task", [1], "app:request", "started", path="/b", n=2),
        at(10.2, "second-task", [2], "app:request", "succeeded"),
        at(20, "third-task", [1], "app:lone", n=3),
    ]
)


@pytest.fixture
def tree(call):
    """Return a function that draws the log, and says which types are shown how deep."""

    def tree(*arguments, log=LOG):
        status, output, errors = call("tree", "--utc", *arguments, stdin=log)
        assert (status, errors) == (0, "")
        lines = [line[22:] for line in output.splitlines() if line[22:23].strip() or "─" in line]
        kinds = [
            (line.index("app:"), line[line.index("app:") :].split()[0])
            for line in lines
            if "app:" in line
        ]
        return [("  " * ((column - 2) // 3) + kind) for column, kind in kinds]

    return tree


class TestWholeTree:
    """Everything."""

    def test_drawing(self, call):
        """The picture that the documentation shows."""
        assert call("tree", "--utc", stdin=LOG)[1] == (
            "2026-11-20 UTC\n"
            "12:00:00.000   4.00s◂ ✗ app:request [first-task] path=/a n=1\n"
            "                      │  E: no\n"
            '12:00:01.000   2.00s◂ └─ ✓ app:query sql="select 1" → rows=1\n'
            "12:00:02.000             └─ · app:row value=7\n"
            "\n"
            "12:00:10.000   200ms  ✓ app:request [second-task] path=/b n=2\n"
            "12:00:20.000          · app:lone [third-task] n=3\n"
        )

    def test_two_programs(self, call, tmp_path, messages):
        """What a client and a server logged of one task is one tree."""
        logs = [tmp_path / "client.log", tmp_path / "server.log"]
        with start_action(action_type="app:client"):
            with start_action(action_type="app:call") as request:
                task_id = request.serialize_task_id()
            log_message("app:done")
        logs[0].write_bytes(b"".join(map(encode_line, messages)))
        messages.clear()
        with Action.continue_task(task_id=task_id, action_type="app:server"):
            log_message("app:work")
        logs[1].write_bytes(b"".join(map(encode_line, messages)))
        output = call("tree", "--width", "0", *logs)[1]
        shown = [line[22:].split("[")[0].rstrip() for line in output.splitlines()[1:]]
        assert shown == [
            "✓ app:client",
            "├─ ✓ app:call",
            "│  └─ ✓ app:server",
            "│     └─ · app:work",
            "└─ · app:done",
        ]

    def test_begun_elsewhere(self, call, messages):
        """What continues a span of somebody else's is a tree in which nothing is missing."""
        span = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        with Action.continue_task(traceparent=span, action_type="app:server"):
            log_message("app:work")
        log = b"".join(map(encode_line, messages))
        output = call("tree", "--width", "0", stdin=log)[1]
        assert [line[22:] for line in output.splitlines()[1:]] == [
            f"✓ app:server [0af76519] eliot:traceparent={span}",
            "└─ · app:work",
        ]
        assert "no start" not in call("stats", stdin=log)[1]
        (line,) = call("tree", "--json", stdin=log)[1].splitlines()
        assert json.loads(line)["tree"]["status"] == "succeeded"

    def test_same_log_twice(self, tree):
        """A log that is read twice gives the tree that it gives once."""
        assert tree(log=LOG + LOG) == tree()

    def test_in_order_of_beginning(self, tree):
        """In a short log the tasks are in the order in which they began, finished or not."""
        story = at(0, "open", [1], "app:open", "started") + LOG
        assert tree(log=story) == ["app:open", *tree()]

    def test_own_log(self, call, tmp_path, messages):
        """What the library logs now is a tree without a mark."""
        with start_task(action_type="app:a"), start_action(action_type="app:b"):
            log_message("app:c", n=1)
        output = call("tree", stdin=b"".join(map(encode_line, messages)))[1]
        assert [line[22:] for line in output.splitlines()[2:]] == [
            "└─ ✓ app:b",
            "   └─ · app:c n=1",
        ]


class TestSelection:
    """Options that select."""

    @pytest.mark.parametrize(
        ("arguments", "shown"),
        [
            (["--failed"], ["app:request", "  app:query", "    app:row"]),
            (["--task", "sec"], ["app:request"]),
            (["--task", "sec", "--task", "thi"], ["app:lone"]),
            (["--type", "app:query"], ["app:query", "  app:row"]),
            (["--type", "*:row", "--type", "app:l*"], ["app:query", "  app:row", "app:lone"]),
            (["--since", "2026-11-20T12:00:15"], ["app:lone"]),
            (["--until", "2026-11-20T12:00:02"], ["app:request", "  app:query", "    app:row"]),
            (["--since", "2026-11-20T12:00:10", "--until", "2026-11-20T12:00:11"],
             ["app:request"]),
            (["--min-duration", "2500ms"], ["app:request", "  app:query", "    app:row"]),
            (["-f", "n=2"], ["app:request"]),
            (["-f", "path=/*", "--field", "n=2"], ["app:request"]),
            (["--where", "n == 3"], ["app:lone"]),
            (["--where", "duration >= 2 and depth == 1"], ["app:query", "  app:row"]),
            (
                ["--type", "app:row", "--context"],
                ["app:request", "  app:query", "    app:row"],
            ),
            (["--failed", "--min-duration", "1s", "--type", "app:*", "-f", "n=1"],
             ["app:request", "  app:query", "    app:row"]),
        ],
    )  # fmt: skip
    def test_selected(self, tree, arguments, shown):
        """What is selected is shown with what is within it, or around it."""
        assert tree(*arguments) == shown

    def test_all_of_the_same(self, call):
        """All that is asked for must be true of one and the same action or message."""
        status, output, errors = call("tree", "--failed", "-f", "value=7", stdin=LOG)
        assert (status, output, errors) == (
            0,
            "",
            "eliot-etw: Nothing to show: nothing matches.\n",
        )

    def test_nothing_as_json(self, call):
        """That nothing matches is said to programs' users, too; programs get no line."""
        assert call("tree", "--json", "--type", "x", stdin=LOG) == (
            0,
            "",
            "eliot-etw: Nothing to show: nothing matches.\n",
        )

    def test_since_ago(self, call):
        """A time may be how long ago."""
        assert call("tree", "--until", "1h", stdin=LOG.replace(b"17951", b"15951"))[1] != ""
        assert call("tree", "--since", "1h", stdin=LOG.replace(b"17951", b"15951"))[1] == ""

    def test_task_without_its_messages_is_no_bad_line(self, call):
        """What is left out on purpose is not reported."""
        assert call("tree", "--task", "sec", stdin=LOG)[2] == ""

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["--since", "soon"], "A time must look like"),
            (["--until", ""], "A time must look like"),
            (["--min-duration", "long"], "A duration must look like"),
            (["--slow", ""], "A duration must look like"),
            (["-f", "n"], "A field must be given as key=value, got 'n'."),
            (["--where", "n ="], "--where must be an expression, got 'n =': it is no expression"),
            (["--where", "x" * 100 + "("], "--where must be an expression"),
            (
                ["--where", "a.__class__"],
                "--where must be an expression, got 'a.__class__': it must",
            ),
        ],
    )
    def test_wrong_value(self, call, arguments, error):
        """A value that makes no sense is one line and status 2, before anything is read."""
        status, output, errors = call("tree", *arguments, stdin=LOG)
        assert (status, output, errors.count("\n")) == (2, "", 1)
        assert errors.startswith(f"eliot-etw: {error}")

    def test_where_fails_for_some(self, call):
        """Where an expression cannot be evaluated, that is said once, and the rest is shown."""
        status, output, errors = call("tree", "--where", "1 / (n - 1) > 0", stdin=LOG)
        assert (status, "app:lone" in output, errors) == (
            0,
            True,
            "eliot-etw: --where failed for some actions or messages (1), which were not selected: "
            "ZeroDivisionError: division by zero\n",
        )

    def test_where_without_package(self, call, monkeypatch):
        """A missing package is said in one line."""
        monkeypatch.setitem(sys.modules, "simpleeval", None)
        status, _, errors = call("tree", "--where", "n == 1", stdin=LOG)
        assert (status, errors.startswith("eliot-etw: --where needs the package")) == (2, True)


class TestAppearance:
    """Options of how it looks."""

    def test_json(self, call):
        """One object for each tree."""
        output = call("tree", "--json", stdin=LOG)[1]
        trees = [json.loads(line) for line in output.splitlines()]
        assert [tree["task"] for tree in trees] == ["first-task", "second-task", "third-task"]
        assert [tree["tree"].get("status") for tree in trees] == ["failed", "succeeded", None]

    def test_json_of_a_selection(self, call):
        """Selecting works for programs, too."""
        output = call("tree", "--json", "--type", "app:query", stdin=LOG)[1]
        assert [json.loads(line)["tree"]["type"] for line in output.splitlines()] == ["app:query"]

    def test_color(self, call, monkeypatch):
        """Colours can be asked for and refused; a pipe gets none by itself."""
        coloured = {
            name: "\x1b[" in call("tree", "--color", name, stdin=LOG)[1]
            for name in ("auto", "always", "never")
        }
        assert coloured == {"auto": False, "always": True, "never": False}
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        assert "\x1b[" in call("tree", stdin=LOG)[1]
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b[" not in call("tree", stdin=LOG)[1]

    def test_slow(self, call):
        """What is slow can be chosen."""
        counts = [
            call("tree", "--slow", slow, stdin=LOG)[1].count("◂") for slow in ("5s", "1s", "100ms")
        ]
        assert counts == [0, 2, 3]

    def test_full(self, call):
        """Long values can be had whole."""
        log = at(0, "t", [1], "app:lone", text="x" * 1000)
        assert "x" * 1000 not in call("tree", stdin=log)[1]
        assert "x" * 1000 in call("tree", "--full", stdin=log)[1]

    def test_width(self, call):
        """Lines can be broken where it is asked for."""
        log = at(0, "t", [1], "app:lone", a="x" * 30, b="y" * 30)
        assert [len(call("tree", *width, stdin=log)[1].splitlines())
                for width in ([], ["--width", "60"], ["--width", "0"])] == [2, 4, 2]  # fmt: skip

    def test_local_time(self, start):
        """Times are local unless UTC is wanted."""
        times = []
        for arguments in ([], ["--utc"]):
            program = start(
                "tree", *arguments, stdin=subprocess.PIPE, env={"TZ": "EST5", "COLUMNS": "200"}
            )
            output, _ = program.communicate(LOG, timeout=60)
            times.append(output.decode().splitlines()[:2])
        # Not the whole name of the zone, which Wine cuts.
        assert [(day[:13], line[:12]) for day, line in times] == [
            ("2026-11-20 ES", "07:00:00.000"),
            ("2026-11-20 UT", "12:00:00.000"),
        ]

    def test_compressed(self, call, tmp_path):
        """A compressed log looks the same."""
        path = tmp_path / "app.log"
        path.write_bytes(gzip.compress(LOG))
        assert call("tree", path)[1] == call("tree", stdin=LOG)[1]


def test_agrees_with_eliot_tree(tmp_path, call, messages):
    """Each action and message that eliot-tree shows is shown here, in the same order."""
    pytest.importorskip("eliottree")
    for n in range(5):
        with start_task(action_type=f"app:task{n}"):
            log_message(f"app:first{n}")
            with start_action(action_type=f"app:inner{n}"):
                log_message(f"app:deep{n}")
            log_message(f"app:last{n}")
    path = tmp_path / "app.log"
    path.write_bytes(b"".join(map(encode_line, messages)))
    theirs = subprocess.run(
        [sys.executable, "-c", "from eliottree._cli import main; main()", "--ascii", str(path)],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "ignore"},
    ).stdout.decode()

    def kinds(text, ends):
        words = [word.split("/")[0] for word in text.split() if word.startswith("app:")]
        # eliot-tree shows the end of an action as a line of its own.
        return list(dict.fromkeys(words)) if ends else words

    assert kinds(call("tree", path)[1], ends=False) == kinds(theirs, ends=True)
