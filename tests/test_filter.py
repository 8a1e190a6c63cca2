"""Tests of filtering a log by a Python expression."""

import io
import json
import subprocess
import sys
from datetime import datetime
from inspect import signature
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.filter import USAGE, EliotFilter, main


def filtered(expression, *lines):
    """Return what comes out, what is reported, and the number of failures."""
    output, errors = io.StringIO(), io.StringIO()
    failures = EliotFilter(expression, lines, output, errors).run()
    return output.getvalue(), errors.getvalue(), failures


def run_main(*arguments, stdin=""):
    """Run the program; return its status, output and errors."""
    system = SimpleNamespace(
        argv=["filter", *arguments],
        stdin=io.StringIO(stdin),
        stdout=io.StringIO(),
        stderr=io.StringIO(),
    )
    return main(system), system.stdout.getvalue(), system.stderr.getvalue()


class TestExpression:
    """What the expression sees and what becomes of its result."""

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )

    @given(json_values)
    def test_line_comes_through(self, value):
        """`J` is the decoded line, and each result is one line of JSON."""
        output, _, failures = filtered("J", json.dumps(value).encode())
        assert (value, 1, 0) == (json.loads(output), output.count("\n"), failures)

    def test_format_of_the_output(self):
        """Results are written as Python's json writes them, as in Eliot."""
        assert filtered("J", b'{"a":[1,"\xc3\xa9"]}')[0] == '{"a": [1, "\\u00e9"]}\n'

    def test_text_lines(self):
        """Lines may be text as well as bytes."""
        assert filtered("J['é']", '{"é": 1}')[0] == "1\n"

    def test_other_names(self):
        """Classes for times are there, and a time comes out as ISO 8601."""
        moment = "datetime(2012, 12, 31) + timedelta(hours=J)"
        assert (
            json.dumps(datetime(2012, 12, 31, 5).isoformat()) + "\n" == filtered(moment, b"5")[0]
        )

    def test_skip(self):
        """`SKIP` leaves the line out, which is no failure."""
        assert filtered("J if J > 1 else SKIP", b"1", b"2") == ("2\n", "", 0)

    def test_names_inside_a_comprehension(self):
        """`J` is seen everywhere in the expression, in inner scopes as well."""
        assert filtered("[J[k] for k in J if k in J]", b'{"a": 1}')[0] == "[1]\n"

    def test_lines_do_not_share_names(self):
        """What an expression assigns for one line is gone at the next."""
        expression = "[(seen := globals().get('seen', 0) + 1)]"
        assert filtered(expression, b"0", b"0")[0] == "[1]\n[1]\n"

    def test_big_integers(self):
        """Integers keep every digit."""
        assert filtered("J", b"123456789012345678901234567890")[0][:-1].endswith("567890")


class TestFailures:
    """What is good is not lost for what is bad."""

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"nonsense", "JSONDecodeError"),
            (b"\xff", "JSONDecodeError|UnicodeDecodeError"),
            (b"{}", "KeyError: 'a'"),
        ],
    )
    def test_bad_line(self, line, reason):
        """A line that fails is reported with its number, and the others are written."""
        output, errors, failures = filtered("J['a']", b'{"a": 1}', line, b'{"a": 3}')
        assert (output, failures) == ("1\n3\n", 1)
        assert errors.startswith("line 2: ")
        assert any(name in errors for name in reason.split("|"))

    def test_result_that_is_not_json(self):
        """A result that cannot be written is a failure of that line only."""
        output, errors, failures = filtered("{(): 1} if J else 2", b"1", b"0")
        assert (output, failures) == ("2\n", 1)
        assert "keys must be" in errors

    def test_report_cannot_drive_the_terminal(self):
        """Control characters of the log do not come out in a report."""
        _, errors, _ = filtered("datetime.strptime(J, J + '%')", b'"\\u001b[2J"')
        assert "\x1b" not in errors

    def test_reported_on_standard_error(self, capsys):
        """Without a file for them, failures go to standard error."""
        EliotFilter("J", [b"nonsense"], io.StringIO()).run()
        assert capsys.readouterr().err.startswith("line 1: ")


class TestMain:
    """The program."""

    def test_default(self):
        """The program uses Python's own `sys` unless given another."""
        assert sys is signature(main).parameters["sys"].default

    def test_success(self):
        """Standard input is filtered to standard output, with status 0."""
        assert run_main("J[0]", stdin="[1, 2]\n[4, 5]\n") == (0, "1\n4\n", "")

    def test_failure(self):
        """Failures are counted at the end, and the status is 1."""
        status, output, errors = run_main("J[0]", stdin="[1]\nnonsense\n[2]\n[]\n")
        assert (status, output) == (1, "1\n2\n")
        assert errors.splitlines()[-1].startswith("2 lines")

    @pytest.mark.parametrize("arguments", [[], ["J", "J"]])
    def test_usage(self, arguments):
        """With anything but one argument the usage is shown, and the status is 1."""
        assert run_main(*arguments) == (1, "", USAGE)

    @pytest.mark.parametrize("expression", ["J[", "x = 1", "a\0b"])
    def test_invalid_expression(self, expression):
        """What is not an expression is said in one line."""
        status, output, errors = run_main(expression)
        assert (status, output, errors.count("\n")) == (1, "", 1)
        assert "must be valid Python" in errors

    def test_as_a_module(self):
        """`python -m eliot_etw.filter` runs it, on bytes of any encoding of the terminal."""
        result = subprocess.run(
            [sys.executable, "-m", "eliot_etw.filter", "len(J)"],
            input='"é"\nnonsense\n'.encode(),
            capture_output=True,
            env={"PYTHONIOENCODING": "ascii", "SYSTEMROOT": "C:\\Windows"},
            timeout=60,
            check=False,
        )
        assert (result.returncode, result.stdout.strip()) == (1, b"1")
        assert b"line 2" in result.stderr
