"""Tests of `eliot-etw stats`."""

import json
import re

import pytest

from eliot_etw._json import encode_line

NOON = 1_795_176_000.0


def action(n, kind, took, status="succeeded"):
    """Write the start and the end of an action as lines of a log."""
    place = {"task_uuid": f"task-{n}", "action_type": kind}
    return encode_line(
        {**place, "task_level": [1], "timestamp": NOON + n, "action_status": "started"}
    ) + encode_line(
        {**place, "task_level": [2], "timestamp": NOON + n + took, "action_status": status}
    )


LOG = (
    b"".join(action(n, "app:quick", 0.001 * n) for n in range(1, 101))
    + action(200, "app:slow", 50, "failed")
    + action(300, "app:[red]x\x1b[31m", 1).split(b"\n")[0]
    + b"\n"
    + encode_line(
        {"task_uuid": "m", "task_level": [1], "timestamp": NOON, "message_type": "app:said"}
    )
)


def rows(output):
    """Return the rows of the tables, by their first column."""
    return {
        line.split()[0]: line.split()[1:]
        for line in output.splitlines()
        if line.strip().startswith("app:")
    }


def test_table(call):
    """Each type has its numbers; a zero is left out."""
    status, output, errors = call("stats", "--utc", stdin=LOG)
    assert (status, errors) == (0, "")
    assert output.splitlines()[0] == "204 messages in 5m00s, from 2026-11-20 UTC 12:00:00.000"
    table = rows(output)
    assert table["app:quick"] == ["100", "50.0ms", "90.0ms", "99.0ms", "100ms", "5.05s"]
    assert table["app:slow"] == ["1", "1", "50.0s", "50.0s", "50.0s", "50.0s", "50.0s"]
    assert table["app:said"] == ["1"]


def test_hostile_type(call):
    """A type is shown as it is: it is neither obeyed by the terminal nor taken for markup."""
    output = call("stats", stdin=LOG)[1]
    assert rows(output)["app:[red]x\\x1b[31m"] == ["1", "1"]
    assert "\x1b" not in output


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("total", "app:slow"),
        ("count", "app:quick"),
        ("failed", "app:slow"),
        ("incomplete", "app:[red]x\x1b[31m"),
        ("p99", "app:slow"),
        ("max", "app:slow"),
    ],
)
def test_sort(call, order, first):
    """What is largest comes first."""
    output = call("stats", "--json", "--sort", order, stdin=LOG)[1]
    assert next(iter(json.loads(output)["actions"])) == first


def test_json(call):
    """The shape is the one that programs rely on."""
    output = call("stats", "--json", stdin=LOG)[1]
    stats = json.loads(output)
    assert stats["actions"].pop("app:quick") == {
        "count": 100,
        "failed": 0,
        "no_start": 0,
        "no_end": 0,
        "total": pytest.approx(5.05),
        "p50": pytest.approx(0.05),
        "p90": pytest.approx(0.09),
        "p99": pytest.approx(0.099),
        "max": pytest.approx(0.1),
    }
    assert stats["actions"].pop("app:[red]x\x1b[31m") == {
        "count": 1,
        "failed": 0,
        "no_start": 0,
        "no_end": 1,
        "total": 0.0,
        "p50": None,
        "p90": None,
        "p99": None,
        "max": None,
    }
    stats.pop("actions")
    assert stats == {
        "count": 204,
        "first": NOON,
        "last": NOON + 300,
        "messages": {"app:said": 1},
    }
    assert output.rstrip().isprintable()


def test_color(call):
    """Failures stand out where there are colours."""
    output = call("stats", "--color", "always", stdin=LOG)[1]
    assert re.search("\x1b\\[1;31m *1\x1b\\[0m", output)


def test_long_names(call):
    """Nothing is cut where nobody's screen ends."""
    kind = "app:" + "x" * 300
    assert kind in call("stats", stdin=action(1, kind, 1))[1]


def test_no_times(call):
    """A log without times has counts."""
    log = encode_line({"task_uuid": "m", "task_level": [1], "message_type": "app:said"})
    assert rows(call("stats", stdin=log)[1]) == {"app:said": ["1"]}
