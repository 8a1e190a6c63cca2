"""Tests of the pytest plugin, in runs of pytest within the test."""

import subprocess
import sys
from textwrap import dedent

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import unittest

import pytest

from eliot_etw import ActionType, MessageType, fields, log_message, start_action, write_traceback
from eliot_etw.testing import assertHasAction, assertHasMessage, capture_logging

PORT = MessageType("app:port", fields(port=int), "A port was opened.")
COPY = ActionType("app:copy", fields(path=str), fields(), "Copies a file.")


def log_traceback():
    try:
        raise KeyError("missing")
    except KeyError:
        write_traceback()

"""
# As strict as the project's own tests; without the plugin of Hypothesis, which takes a second.
STRICT = """
[pytest]
addopts = --strict-markers --strict-config -p no:hypothesispytest
filterwarnings = error
"""


@pytest.fixture
def run(pytester):
    """Run pytest on some tests."""
    pytester.makeini(STRICT)

    def run(tests, *options):
        pytester.makepyfile(HEAD + dedent(tests))
        return pytester.runpytest(*options)

    return run


@pytest.fixture
def run_in_subprocess(pytester):
    """Run pytest on some tests in a process of its own."""
    pytester.makeini(STRICT)

    def run(tests, *options):
        pytester.makepyfile(HEAD + dedent(tests))
        return pytester.runpytest_subprocess(*options)

    return run


class TestFixture:
    """The fixture `captured_logs`."""

    def test_captures(self, run):
        """What the test logs is there, and the queries find it."""
        result = run("""
        def test(captured_logs):
            with COPY(path="a"):
                PORT.log(port=80)
            assert len(captured_logs.messages) == 3
            assert captured_logs.messages_of(PORT)[0]["port"] == 80
            assert captured_logs.actions_of(COPY)[0].succeeded
            assert "app:copy" in captured_logs.tree()
            assertHasAction(None, captured_logs, COPY, succeeded=True)
        """)
        result.assert_outcomes(passed=1)

    def test_each_test_has_its_own(self, run):
        """What one test logs is not seen by the next."""
        result = run("""
        @pytest.mark.parametrize("number", [1, 2])
        def test(captured_logs, number):
            log_message("app:hello")
            assert len(captured_logs.messages) == 1
        """)
        result.assert_outcomes(passed=2)

    def test_other_fixtures(self, run):
        """What fixtures log that are set up later is captured, too."""
        result = run("""
        @pytest.fixture
        def server(captured_logs):
            log_message("app:up")
            yield
            log_message("app:down")
            assert len(captured_logs.messages) == 2

        def test(server, captured_logs):
            assert len(captured_logs.messages_of("app:up")) == 1
        """)
        result.assert_outcomes(passed=1)

    def test_ends(self, run):
        """After the test, nothing is captured any more."""
        result = run("""
        LOGS = []

        def test_one(captured_logs):
            LOGS.append(captured_logs)

        def test_two():
            log_message("app:hello")
            assert LOGS[0].messages == []
        """)
        result.assert_outcomes(passed=2)

    def test_capture_within(self, run):
        """A capture within the test wins over the fixture."""
        result = run("""
        @capture_logging(assertHasMessage, "app:inner")
        def test(captured_logs, logger):
            log_message("app:inner")
            assert captured_logs.messages == []
        """)
        result.assert_outcomes(passed=1)

    def test_async_test(self, run):
        """A coroutine that the test runs is captured."""
        result = run("""
        import asyncio

        def test(captured_logs):
            async def main():
                await asyncio.sleep(0)
                log_message("app:hello")

            asyncio.run(main())
            assert len(captured_logs.messages) == 1
        """)
        result.assert_outcomes(passed=1)


class TestChecks:
    """What the fixture checks when the test is over."""

    def test_wrong_type(self, run):
        """A message that does not fit its type is an error, told without the frames in between."""
        result = run("""
        def test(captured_logs):
            PORT.log(port="eighty")
        """)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            ["*ERROR at teardown of test*", "ValidationError: *'port' must be of type int*"]
        )
        result.stdout.no_fnmatch_line("*_raised_by*")
        result.stdout.no_fnmatch_line("*During handling*")

    def test_not_json(self, run):
        """A message that cannot be encoded is an error."""
        result = run("""
        def test(captured_logs):
            log_message("app:hello", value={1: 2})
        """)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["TypeError: A message must encode to JSON*"])

    def test_serializer_that_raises(self, run):
        """Whatever a serializer raises is an error of this test, not of the run."""
        result = run("""
        NAMED = MessageType("app:named", [*fields(), __import__("eliot_etw").Field("x", len)])

        def test(captured_logs):
            NAMED.log(x=1)
        """)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["TypeError: *has no len()*"])

    def test_unflushed_traceback(self, run):
        """A traceback that the test did not expect is an error."""
        result = run("""
        def test(captured_logs):
            log_traceback()
        """)
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["UnflushedTracebacks: *got 1 unflushed*", "KeyError*"])

    def test_flushed_traceback(self, run):
        """A traceback that the test expected is none."""
        result = run("""
        def test(captured_logs):
            log_traceback()
            captured_logs.flush_tracebacks(KeyError)
        """)
        result.assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("end", "outcome"),
        [
            ("assert False", {"failed": 1}),
            ("pytest.skip('why')", {"skipped": 1}),
            ("pytest.xfail('why')", {"xfailed": 1}),
        ],
    )
    def test_only_of_tests_that_passed(self, run, end, outcome):
        """A test that failed by itself, or was skipped, is not asked for its logging."""
        result = run(f"""
        def test(captured_logs):
            log_traceback()
            PORT.log(port="eighty")
            {end}
        """)
        result.assert_outcomes(**outcome)

    def test_not_of_a_test_that_could_not_begin(self, run):
        """If another fixture fails, its own error is all."""
        result = run("""
        @pytest.fixture
        def broken(captured_logs):
            log_traceback()
            raise ValueError("by itself")

        def test(broken):
            pass
        """)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*ValueError: by itself*"])


class TestSwitches:
    """The marker and the ini option that turn validation off."""

    WRONG = dedent("""
        def test(captured_logs):
            PORT.log(port="eighty")
            log_message("app:hello", value={1: 2})
        """)

    def test_marker_off(self, run):
        """A test marked so is not validated."""
        run(f"pytestmark = pytest.mark.eliot(validate=False)\n{self.WRONG}").assert_outcomes(
            passed=1
        )

    def test_ini_off(self, run):
        """With the ini option off, no test is validated."""
        run(self.WRONG, "-o", "eliot_validate=false").assert_outcomes(passed=1)

    def test_marker_beats_ini(self, run):
        """A marked test is validated even if others are not."""
        tests = f"pytestmark = pytest.mark.eliot(validate=True)\n{self.WRONG}"
        run(tests, "-o", "eliot_validate=false").assert_outcomes(passed=1, errors=1)

    def test_tracebacks_all_the_same(self, run):
        """Without validation, tracebacks that the test did not expect are errors still."""
        result = run("""
        @pytest.mark.eliot(validate=False)
        def test(captured_logs):
            log_traceback()
        """)
        result.assert_outcomes(passed=1, errors=1)

    @pytest.mark.parametrize("arguments", ["", "False", "valid=False", "validate=False, more=1"])
    def test_marker_with_other_arguments(self, run, arguments):
        """A marker that would mean nothing is an error that says what to write."""
        result = run(f"""
        @pytest.mark.eliot({arguments})
        def test(captured_logs):
            pass
        """)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["The marker eliot must have *validate=False*"])

    def test_both_are_declared(self, run):
        """Marker and ini option are in pytest's own help."""
        run("", "--markers").stdout.fnmatch_lines(["@pytest.mark.eliot(validate): *"])
        run("", "--help").stdout.fnmatch_lines(["*eliot_validate (bool)*"])


class TestReport:
    """The tree in the report of a failing test."""

    def test_of_the_fixture(self, run):
        """What was captured is shown as a tree below what failed."""
        result = run("""
        def test(captured_logs):
            with pytest.raises(KeyError), start_action(action_type="app:outer", name="x"):
                log_message("app:inner", text="two\\nlines \\x1b[31m \\ud800")
                raise KeyError("missing")
            assert False
        """)
        result.stdout.fnmatch_lines(
            [
                "*assert False*",
                "*- eliot log -*",
                "*app:outer*name=x",
                "*KeyError: 'missing'",
                "*app:inner",
                "*two",
                r"*lines \x1b[[]31m \ud800",
            ]
        )

    @pytest.mark.parametrize(
        "test",
        [
            "@capture_logging(None)\ndef test(logger):\n    log_message('app:x')\n    assert 0",
            "@capture_logging(assertHasMessage, 'y')\ndef test():\n    log_message('app:x')",
            "@capture_logging(None)\ndef test():\n    log_message('app:x', value={1: 2})",
            "class Test(unittest.TestCase):\n"
            "    @capture_logging(None)\n    def test(self, logger):\n"
            "        log_message('app:x')\n        assert 0",
            "class Test(unittest.TestCase):\n"
            "    @capture_logging(assertHasMessage, 'y')\n    def test(self):\n"
            "        log_message('app:x')",
            "class Test(unittest.IsolatedAsyncioTestCase):\n"
            "    @capture_logging(None)\n    async def test(self, logger):\n"
            "        log_message('app:x')\n        assert 0",
        ],
        ids=["function", "assertion", "check", "TestCase", "TestCase assertion", "async"],
    )
    def test_of_capture_logging(self, run, test):
        """Tests that use the decorator show their tree, whatever failed in them."""
        result = run(test)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*- eliot log -*", "*app:x*"])

    def test_of_a_failed_subtest(self, run):
        """A subtest that fails shows what was logged so far."""
        result = run("""
        class Test(unittest.TestCase):
            @capture_logging(None)
            def test(self, logger):
                log_message("app:before")
                with self.subTest("one"):
                    self.fail()
                log_message("app:after")
        """)
        if hasattr(pytest, "Subtests"):  # older versions stop at the first that fails
            result.stdout.fnmatch_lines(["*- eliot log -*", "*app:before*"])

    def test_of_an_error_at_teardown(self, run):
        """What the checks complain about is shown."""
        result = run("""
        def test(captured_logs):
            log_message("app:hello", value={1: 2})
        """)
        result.stdout.fnmatch_lines(["*- eliot log -*", "*app:hello*"])

    def test_each_capture_has_its_own(self, run):
        """If there are several captures, each has its section."""
        result = run("""
        @capture_logging(None)
        def test(captured_logs, logger):
            log_message("app:hello")
            assert False
        """)
        assert str(result.stdout).count("- eliot log -") == 2

    def test_not_of_other_tests(self, run):
        """A failing test does not show what an earlier one logged."""
        result = run("""
        @capture_logging(None)
        def test_one():
            log_message("app:hello")

        def test_two():
            assert False
        """)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.no_fnmatch_line("*eliot log*")

    def test_not_of_tests_that_passed(self, run):
        """A test that passed, or was skipped, shows nothing, not even if all outputs are shown."""
        result = run(
            """
        def test_passed(captured_logs):
            log_message("app:hello")

        def test_skipped(captured_logs):
            log_message("app:hello")
            pytest.skip("why")
        """,
            "-rA",
        )
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.no_fnmatch_line("*eliot log*")

    def test_what_cannot_be_drawn(self, run):
        """A test that spoiled the list of messages ends like any other that fails."""
        result = run("""
        def test(captured_logs):
            log_message("app:hello")
            captured_logs.messages[0] = None
            assert False
        """)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["What was logged cannot be drawn: TypeError*"])


class TestLoading:
    """What the plugin does to runs of pytest that do not use it, and to special ones."""

    def test_xdist(self, run_in_subprocess):
        """The report travels from the workers."""
        pytest.importorskip("xdist")
        result = run_in_subprocess(
            """
        @pytest.mark.eliot(validate=False)
        @pytest.mark.parametrize("number", range(4))
        def test(captured_logs, number):
            log_message("app:hello", number=number, text="\\ud800 \\xe4")
            assert len(captured_logs.messages) == number
        """,
            *("-n", "2", "-p", "no:cacheprovider"),
        )
        result.assert_outcomes(passed=1, failed=3)
        result.stdout.fnmatch_lines(["*- eliot log -*", r"*app:hello*number=*\ud800*"])

    def test_turned_off(self, run_in_subprocess):
        """Without the plugin there is no fixture and no tree; capture_logging works."""
        result = run_in_subprocess(
            """
        def test_fixture(captured_logs):
            pass

        @capture_logging(None)
        def test_decorator(logger):
            log_message("app:hello")
            assert len(logger.messages) == 1
            assert False
        """,
            *("-p", "no:eliot_etw", "-p", "no:cacheprovider"),
        )
        result.assert_outcomes(failed=1, errors=1)
        result.stdout.fnmatch_lines(["*fixture 'captured_logs' not found*"])
        result.stdout.no_fnmatch_line("*eliot log*")

    def test_loads_nothing(self):
        """The plugin loads no module besides itself and the packages that it stands in."""
        program = (
            "import sys, pytest, eliot_etw\n"
            "before = set(sys.modules)\n"
            "import eliot_etw.testing.pytest_plugin\n"
            "print(*sorted(set(sys.modules) - before))"
        )
        loaded = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.split()
        assert loaded == ["eliot_etw.testing", "eliot_etw.testing.pytest_plugin"]

    def test_loads_nothing_for_other_tests(self, pytester):
        """A run of tests that do not use the kit does not load it, not even if one fails."""
        pytester.makepyfile("""
        import sys

        def test_fails():
            assert False

        def test_kit():
            kit = {name for name in sys.modules if name.startswith("eliot_etw.testing.")}
            assert kit == {"eliot_etw.testing.pytest_plugin"}
        """)
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
        result.assert_outcomes(passed=1, failed=1)
