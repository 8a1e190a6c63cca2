"""Tests of capturing and checking what tests log, in tests of every kind."""

import asyncio
import inspect
import json
import unittest
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import (
    ActionType,
    Logger,
    MessageType,
    ValidationError,
    fields,
    log_message,
    start_action,
    write_traceback,
)
from eliot_etw.testing import (
    MemoryLogger,
    UnflushedTracebacks,
    assertHasAction,
    assertHasMessage,
    capture_logging,
    check_for_errors,
    swap_logger,
    validate_logging,
    validateLogging,
)
from eliot_etw.testing._capture import CAPTURES

trio = pytest.importorskip("trio")

MODULE_LOGGER = Logger()
PORT = MessageType("app:port", fields(port=int), "A port was opened.")
COPY = ActionType("app:copy", fields(path=str), fields(size=int), "Copies a file.")

both = pytest.mark.parametrize("decorator", [capture_logging, validate_logging])


class OwnError(Exception):
    """What a test fails with by itself."""


def types(logger):
    """Return the types of the messages, None for those of actions."""
    return [message.get("message_type") for message in logger.messages]


def log_traceback(logger=None):
    """Log the traceback of an `OwnError`."""
    try:
        raise OwnError
    except OwnError:
        write_traceback(logger)


def run(method, *, base=unittest.TestCase, **others):
    """Run a test method in a TestCase of its own."""
    result = unittest.TestResult()
    type("Case", (base,), {"test": method, **others})("test").run(result)
    return result


def told(pairs):
    """Return what a result says of its errors or failures."""
    return [text for _, text in pairs]


class TestFunction:
    """A test that is a function."""

    def test_captures_without_a_logger(self, messages):
        """What is logged without naming a logger is captured, and goes nowhere else."""

        @capture_logging(None)
        def test(logger):
            log_message("app:hello")
            assert types(logger) == ["app:hello"]

        test()
        assert messages == []

    def test_ends(self, messages):
        """After the test, messages go where they went before."""
        loggers = []

        @capture_logging(None)
        def test(logger):
            loggers.append(logger)

        test()
        log_message("app:after")
        assert [message["message_type"] for message in messages] == ["app:after"]
        assert loggers[0].messages == []

    def test_ends_when_it_fails(self, messages):
        """So they do after a test that failed; its failure is what is raised."""

        @capture_logging(lambda *_: pytest.fail("asserted"))
        def test(logger):
            log_traceback()
            raise OwnError

        with pytest.raises(OwnError):
            test()
        log_message("app:after")
        assert len(messages) == 1

    @both
    def test_each_run_has_a_logger_of_its_own(self, decorator):
        """A second run does not see what the first one logged."""
        loggers = []

        @decorator(None)
        def test(logger):
            assert isinstance(logger, MemoryLogger)
            loggers.append(logger)

        test()
        test()
        assert loggers[0] is not loggers[1]

    @both
    def test_signature(self, decorator):
        """The logger is not in the signature: pytest would look for a fixture of that name."""

        @decorator(None)
        def test_name(tmp_path, logger, *, other=1):
            """Its docstring."""

        assert str(inspect.signature(test_name)) == "(tmp_path, *, other=1)"
        assert (test_name.__name__, test_name.__doc__) == ("test_name", "Its docstring.")

    @both
    def test_arguments_and_result(self, decorator):
        """All other arguments come through, and so does the result."""

        @decorator(None)
        def test(a, b=2, *, c, logger):
            return a, b, c

        assert test(a=1, c=3) == (1, 2, 3)

    def test_logger_is_optional(self):
        """A test that does not look at the logger need not take it; it is checked all the same."""

        @capture_logging(assertHasMessage, PORT, {"port": 80})
        def test(port):
            PORT.log(port=port)

        test(port=80)
        with pytest.raises(AssertionError, match="'port' must be 80, got 443"):
            test(port=443)

    @both
    def test_any_keyword(self, decorator):
        """A test that takes anything by name takes the logger."""

        @decorator(None)
        def test(**kwargs):
            return set(kwargs)

        assert test(a=1) == {"a", "logger"}

    @both
    def test_assertion(self, decorator):
        """The assertion is called after the test with the logger and its own arguments."""
        calls = []

        @decorator(lambda *args, **kwargs: calls.append((args, kwargs)), 1, x=2)
        def test(logger):
            calls.append(logger)

        test()
        logger = calls[0]
        assert calls[1:] == [((None, logger, 1), {"x": 2})]

    def test_no_assertion(self):
        """Arguments for an assertion that is not there do no harm."""

        @capture_logging(None, 1, x=2)
        def test(logger):
            return "passed"

        assert test() == "passed"

    def test_assertion_runs_outside(self, messages):
        """What the assertion logs is not part of what it looks at."""

        @capture_logging(lambda *_: log_message("app:asserting"))
        def test(logger):
            pass

        test()
        assert len(messages) == 1

    def test_assertion_may_flush(self):
        """The assertion comes before the check of tracebacks, so it may say which are expected."""

        @capture_logging(lambda _, logger: logger.flush_tracebacks(OwnError))
        def test(logger):
            log_traceback()

        test()

    def test_unflushed_traceback(self):
        """A traceback that the test did not expect fails it, and is shown."""

        @capture_logging(None)
        def test(logger):
            log_traceback()

        with pytest.raises(UnflushedTracebacks, match=r"(?s)got 1 unflushed.*\.OwnError"):
            test()

    def test_flushed_traceback(self):
        """A traceback that the test expected does not fail it."""

        @capture_logging(None)
        def test(logger):
            log_traceback()
            assert len(logger.flush_tracebacks(OwnError)) == 1

        test()

    @pytest.mark.parametrize("skip", [pytest.skip, unittest.SkipTest("why")])
    def test_skipped(self, skip):
        """A test that was skipped on its way is not asked for its logging."""

        @capture_logging(assertHasMessage, PORT)
        def test(logger):
            log_traceback()
            if isinstance(skip, Exception):
                raise skip
            skip("why")

        with pytest.raises((unittest.SkipTest, pytest.skip.Exception), match="why"):
            test()

    def test_built_in_assertions(self):
        """The assertions of the kit work where there is no TestCase."""

        @capture_logging(assertHasAction, COPY, succeeded=True, endFields={"size": 1})
        def test():
            with COPY(path="a") as action:
                action.add_success_fields(size=1)

        test()

    @pytest.mark.parametrize("number", [1, 2])
    @capture_logging(assertHasMessage, "app:fixture")
    def test_with_pytest(self, tmp_path, number, logger):
        """Fixtures, parameters and the logger are arguments side by side."""
        assert tmp_path.is_dir()
        assert number in {1, 2}
        log_message("app:fixture")
        assert len(logger.messages) == 1

    @mock.patch("json.dumps")
    @capture_logging(None)
    @mock.patch("json.loads")
    def test_with_patches(self, loads, dumps, logger):
        """Patches, outside and inside, are arguments as they are without the logger."""
        assert (loads, dumps) == (json.loads, json.dumps)
        assert logger.messages == []

    @given(number=st.integers())
    @capture_logging(assertHasMessage, "app:number")
    def test_within_hypothesis(self, number, logger):
        """Each example has its own capture."""
        log_message("app:number", number=str(number))
        assert len(logger.messages) == 1

    @capture_logging(assertHasMessage, "app:number")
    @given(number=st.integers())
    def test_around_hypothesis(self, logger, number):
        """All examples have one capture."""
        log_message("app:number", number=str(number))


class TestValidation:
    """What is checked when the test is over."""

    def test_type(self):
        """A message that does not fit its type fails the test, which says where it was logged."""

        @capture_logging(None)
        def test(logger):
            PORT.log(port="eighty")

        with pytest.raises(
            ValidationError, match=r"(?s)'port' must be of type int.*test_capture\.py"
        ):
            test()

    def test_json(self):
        """A message that cannot be encoded without bending it fails the test."""

        @capture_logging(None)
        def test(logger):
            log_message("app:hello", value={1: 2})

        with pytest.raises(TypeError, match=r"must encode to JSON"):
            test()

    def test_traceback_comes_first(self):
        """An error in the program is told before errors in its logging."""

        @capture_logging(None)
        def test(logger):
            PORT.log(port="eighty")
            log_traceback()

        with pytest.raises(UnflushedTracebacks):
            test()

    def test_encoder(self):
        """With an encoder given, a message must be good for that, whatever the default is."""

        class Encoder(json.JSONEncoder):
            def default(self, o):
                if isinstance(o, bytes):
                    return o.decode()
                return super().default(o)

        @capture_logging(None, encoder_=Encoder)
        def test(value, logger):
            log_message("app:hello", value=value)

        test(value=b"x")
        with pytest.raises(TypeError, match="must encode to JSON"):
            test(value={1, 2})

    def test_by_hand(self):
        """The same checks can be called for any logger."""
        logger = MemoryLogger()
        check_for_errors(logger)
        log_traceback(logger)
        with pytest.raises(UnflushedTracebacks):
            check_for_errors(logger)


class TestValidateLogging:
    """The decorator that does not capture."""

    def test_captures_nothing(self, messages):
        """What is logged without naming the logger goes where it always goes."""

        @validate_logging(None)
        def test(logger):
            log_message("app:elsewhere")
            PORT().bind(port=80).write(logger)
            assert types(logger) == ["app:port"]

        test()
        assert len(messages) == 1

    def test_checks(self):
        """What is logged to the logger is checked."""

        @validate_logging(None)
        def test(logger):
            log_traceback(logger)

        with pytest.raises(UnflushedTracebacks):
            test()

    def test_spelling_of_eliot(self):
        """Eliot's other name does the same."""
        assert validate_logging is validateLogging


class TestPlainClass:
    """A test that is a method of a class which is no TestCase."""

    @capture_logging(lambda self, logger, *expected: self.check(logger, *expected), "app:hello")
    def test_assertion_gets_the_object(self, logger):
        """The assertion is called with the object whose method the test is."""
        log_message("app:hello")

    def check(self, logger, *expected):
        """Assert that messages of these types were logged."""
        assert types(logger) == [*expected]


class TestTestCase:
    """A test that is a method of a `unittest.TestCase`."""

    def test_assertion(self):
        """The assertion is called with the TestCase, after tearDown, which is captured too."""
        calls = []

        def log_bye(_):
            log_message("app:bye")

        @capture_logging(lambda *args: calls.append((*args, types(args[1]))), 1)
        def method(self, logger):
            calls.append((self, logger))

        result = run(method, tearDown=log_bye)
        assert result.wasSuccessful()
        case, logger = calls[0]
        assert calls[1:] == [(case, logger, 1, ["app:bye"])]

    def test_assertion_may_flush(self):
        """The assertion comes before the check of tracebacks, so it may say which are expected."""

        @capture_logging(lambda _, logger: logger.flush_tracebacks(OwnError))
        def method(self, logger):
            log_traceback()

        assert run(method).wasSuccessful()

    def test_ends(self, messages):
        """After the test, messages go where they went before."""

        @capture_logging(None)
        def method(self, logger):
            raise OwnError

        run(method)
        log_message("app:after")
        assert len(messages) == 1

    def test_own_failure_is_all(self):
        """Of a test that failed, the assertion is not called on top of that."""

        @capture_logging(lambda *_: pytest.fail("asserted"))
        def method(self, logger):
            self.fail("by itself")

        result = run(method)
        assert [text for text in told(result.failures) if "by itself" in text] == told(
            result.failures
        )
        assert result.errors == []

    def test_own_failure_comes_before_tracebacks(self):
        """A traceback that may be the cause of a failure is reported after it."""

        @capture_logging(None)
        def method(self, logger):
            log_traceback()
            raise KeyError

        first, second = told(run(method).errors)
        assert "KeyError" in first
        assert "UnflushedTracebacks" in second

    def test_skipped(self):
        """A test that is skipped on its way is skipped, and nothing else."""

        @capture_logging(assertHasMessage, PORT)
        def method(self, logger):
            self.skipTest("why")

        result = run(method)
        assert [why for _, why in result.skipped] == ["why"]
        assert result.errors == result.failures == []

    def test_failed_subtest(self):
        """A failed subtest does not keep the logging from being asserted."""

        @capture_logging(assertHasMessage, PORT)
        def method(self, logger):
            with self.subTest("one"):
                self.fail("subtest")

        subtest, assertion = told(run(method).failures)
        assert "subtest" in subtest
        assert "No message of type 'app:port'" in assertion

    def test_unflushed_traceback(self):
        """A traceback that the test did not expect fails it."""

        @capture_logging(None)
        def method(self, logger):
            log_traceback()

        (error,) = told(run(method).errors)
        assert "UnflushedTracebacks" in error

    def test_validation(self):
        """A message that does not fit its type fails the test."""

        @capture_logging(None)
        def method(self, logger):
            PORT.log(port="eighty")

        (error,) = told(run(method).errors)
        assert "'port' must be of type int" in error


class TestAsync:
    """A test that is a coroutine function."""

    @both
    def test_stays_a_coroutine_function(self, decorator):
        """What runs async tests recognises them by that."""

        @decorator(None)
        async def test(logger):
            pass

        assert inspect.iscoroutinefunction(test)

    @pytest.mark.parametrize(
        "run_async", [asyncio.run, lambda coroutine: trio.run(lambda: coroutine)]
    )
    def test_function(self, run_async):
        """What is logged after an await is captured, too, until the coroutine is over."""

        @capture_logging(assertHasMessage, PORT, {"port": 80})
        async def test(port, logger):
            await (trio if run_async is not asyncio.run else asyncio).sleep(0)
            PORT.log(port=port)
            return logger

        assert types(run_async(test(port=80))) == ["app:port"]
        with pytest.raises(AssertionError, match="'port' must be 80, got 443"):
            run_async(test(port=443))

    def test_function_ends_when_it_fails(self, messages):
        """After a coroutine that failed, messages go where they went before."""

        @capture_logging(None)
        async def test(logger):
            await asyncio.sleep(0)
            raise OwnError

        with pytest.raises(OwnError):
            asyncio.run(test())
        log_message("app:after")
        assert len(messages) == 1

    def test_tasks(self):
        """What the test's tasks log is captured, each in its place in the tree."""

        async def fetch(number):
            with start_action(action_type=f"app:fetch{number}"):
                await asyncio.sleep(0)
                log_message("app:fetched")

        @capture_logging(None)
        async def test(logger):
            with start_action(action_type="app:all"):
                await asyncio.gather(fetch(1), fetch(2))
            return assertHasAction(None, logger, "app:all", succeeded=True)

        fetched = [{"app:fetch1": ["app:fetched"]}, {"app:fetch2": ["app:fetched"]}]
        assert asyncio.run(test()).type_tree() == {"app:all": fetched}

    def test_isolated_asyncio_test_case(self):
        """Methods of IsolatedAsyncioTestCase are captured until after asyncTearDown."""
        calls = []

        async def log_bye(_):
            await asyncio.sleep(0)
            log_message("app:bye")

        @capture_logging(lambda self, logger: calls.append(types(logger)))
        async def method(self, logger):
            await asyncio.sleep(0)
            log_message("app:hello")

        result = run(method, base=unittest.IsolatedAsyncioTestCase, asyncTearDown=log_bye)
        assert result.wasSuccessful()
        assert calls == [["app:hello", "app:bye"]]

    def test_isolated_asyncio_test_case_fails(self):
        """An unflushed traceback fails such a method after its own failure."""

        @capture_logging(assertHasMessage, PORT)
        async def method(self, logger):
            log_traceback()
            await asyncio.sleep(0)
            raise KeyError

        first, second = told(run(method, base=unittest.IsolatedAsyncioTestCase).errors)
        assert "KeyError" in first
        assert "UnflushedTracebacks" in second


class TestBoundBefore:
    """Loggers and actions from before the test."""

    @capture_logging(None)
    def test_logger_of_a_module(self, logger):
        """What is logged to a `Logger` that was bound when a module was imported is captured."""
        PORT(port=80).write(MODULE_LOGGER)
        with COPY(MODULE_LOGGER, path="a") as action:
            action.add_success_fields(size=1)
        MODULE_LOGGER.write({"message_type": "app:written"})
        assert len(logger.messages) == 4

    def test_action(self, messages):
        """What is logged to an action that was started before the test is captured."""

        @capture_logging(None)
        def test(action, logger):
            action.log("app:within")
            with action.context():
                log_message("app:current")
                start_action(action_type="app:child")
            assert types(logger) == ["app:within", "app:current", None]

        with start_action(MODULE_LOGGER, "app:long") as action:
            test(action=action)
        assert [message["task_level"] for message in messages] == [[1], [5]]


class TestNested:
    """Captures within captures."""

    def test_inner_wins(self):
        """The inner capture takes all until it is over; the outer one goes on then."""

        @capture_logging(None)
        def inner(logger):
            log_message("app:inner")
            assert types(logger) == ["app:inner"]
            raise OwnError

        @capture_logging(None)
        def outer(logger):
            log_message("app:before")
            with pytest.raises(OwnError):
                inner()
            log_message("app:after")
            assert types(logger) == ["app:before", "app:after"]

        outer()

    def test_swap_within(self):
        """A logger swapped in by hand within a capture wins, until it is swapped out."""

        @capture_logging(None)
        def test(logger):
            other = MemoryLogger()
            assert swap_logger(other) is logger
            log_message("app:other")
            assert swap_logger(logger) is other
            log_message("app:hello")
            assert (types(other), types(logger)) == (["app:other"], ["app:hello"])

        test()

    def test_decorated_twice(self):
        """Two decorators on one test make two captures; the assertions of both are called."""
        calls = []

        @capture_logging(lambda _, logger: calls.append(("outer", types(logger))))
        @capture_logging(lambda _, logger: calls.append(("inner", types(logger))))
        def test(logger):
            log_message("app:hello")

        test()
        assert calls == [("inner", ["app:hello"]), ("outer", [])]


class TestCaptures:
    """What is kept for the report of a failing test."""

    def test_latest_and_those_within(self):
        """The loggers of the latest capture are kept, and of those within it, in order."""
        loggers = []

        @capture_logging(None)
        def inner(logger):
            loggers.append(logger)

        @capture_logging(None)
        def outer(logger):
            loggers.append(logger)
            inner()
            inner()

        outer()
        assert loggers == CAPTURES.loggers
        del loggers[:]
        outer()
        assert loggers == CAPTURES.loggers

    def test_forget(self):
        """A capture that was forgotten ends like any other."""

        @capture_logging(None)
        def test(logger):
            CAPTURES.forget()
            assert CAPTURES.loggers == []

        test()
        assert CAPTURES.loggers == []
