"""Tests of `eliot-etw filter`."""

import gzip

from eliot_etw._json import encode_line

LOG = b"".join(
    encode_line({"task_uuid": "t", "task_level": [n], "timestamp": n, "n": n}) for n in (1, 2, 3)
)


def test_results(call):
    """What the expression makes of each message is written as JSON."""
    assert call("filter", "J['n'] * 10", stdin=LOG) == (0, "10\n20\n30\n", "")


def test_skip(call):
    """SKIP leaves a message out."""
    assert call("filter", "J['n'] if J['n'] > 1 else SKIP", stdin=LOG)[1] == "2\n3\n"


def test_files(call, tmp_path):
    """Whatever the other verbs can read, this one can."""
    path = tmp_path / "app.log.gz"
    path.write_bytes(gzip.compress(LOG))
    assert call("filter", "J['n']", path)[1] == "1\n2\n3\n"


def test_failures(call):
    """A message for which it fails is reported and left out; the status is 1."""
    status, output, errors = call("filter", "1 // (J['n'] - 2)", stdin=LOG)
    assert (status, output) == (1, "-1\n1\n")
    assert "ZeroDivisionError" in errors


def test_bad_line(call):
    """A line that is no message is reported as by the other verbs."""
    status, output, errors = call("filter", "J['n']", stdin=b"?\n" + LOG)
    assert (status, output) == (0, "1\n2\n3\n")
    assert errors.startswith("<stdin>:1: not JSON")


def test_wrong_expression(call):
    """What is no Python is one line and status 2."""
    status, output, errors = call("filter", "J[", stdin=LOG)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("eliot-etw: The expression must be valid Python, got 'J['")
