"""Tests of `log_call` and `preserve_context`."""

import asyncio
import functools
import inspect
import pickle
import subprocess
import sys
from threading import Barrier, Thread

import pytest

from eliot_etw import log_call, log_message, preserve_context, start_action
from eliot_etw.exceptions import TooManyCalls
from tests._stories import ended, started, stories


@log_call
def at_the_top(x):
    """Do nothing; to be pickled."""
    return x


class TestLogCall:
    """Calls of plain functions become actions."""

    def test_arguments_and_result(self, messages):
        """The start has the arguments, the end the result."""

        @log_call
        def add(x, y):
            return x + y

        assert add(2, y=3) == 5
        assert started(messages) == {"x": 2, "y": 3}
        assert ended(messages)["result"] == 5

    def test_action_type(self, messages):
        """The type is the module and the qualified name."""
        at_the_top(1)
        assert f"{__name__}.at_the_top" == messages[0]["action_type"]

    def test_given_action_type(self, messages):
        """The type may be given."""
        log_call(action_type="app:work")(lambda: None)()
        assert messages[0]["action_type"] == "app:work"

    def test_body_is_in_the_action(self, messages):
        """What the function logs is part of the action, which is part of the caller's."""

        @log_call(action_type="app:inner")
        def work():
            log_message("app:message")

        with start_action(action_type="app:outer"):
            work()
        assert stories(messages) == [["app:outer", ["app:inner", "app:message"]]]

    def test_exception(self, messages):
        """A function that raises is a failed action, and raises."""

        @log_call
        def fail():
            raise KeyError("x")

        with pytest.raises(KeyError, match="x"):
            fail()
        assert (ended(messages)["action_status"], ended(messages)["exception"]) == (
            "failed",
            "builtins.KeyError",
        )

    def test_defaults_and_stars(self, messages):
        """All parameters are logged, whether or not they were passed."""

        @log_call
        def f(a, /, b=2, *c, d, e=5, **g):
            pass

        f(1, d=4, h=7)
        assert started(messages) == {"a": 1, "b": 2, "c": (), "d": 4, "e": 5, "g": {"h": 7}}

    def test_default_is_the_very_object(self):
        """A default is handed on as it is, however it compares or prints."""

        class Odd:
            __eq__ = __repr__ = None

        odd = Odd()

        @log_call
        def f(x=odd, *, y=odd):
            return x, y

        assert [value is odd for value in f()] == [True, True]

    @pytest.mark.parametrize(
        "name",
        ["action_type", "action_status", "timestamp", "task_uuid", "task_level"],
    )
    def test_reserved_names(self, name, messages):
        """An argument with a reserved name is logged with an underscore after it."""
        namespace = {}
        exec(f"def f({name}): return {name}", namespace)
        assert log_call(namespace["f"], "app:work")("value") == "value"
        assert started(messages) == {f"{name}_": "value"}
        assert messages[0]["action_type"] == "app:work"

    @pytest.mark.parametrize("name", ["logger", "_serializers", "shorten", "fields", "args", "f"])
    @pytest.mark.parametrize("value", ["value", 3])
    def test_names_of_parameters_of_ours(self, name, value, messages):
        """Any other name is logged as it is, though a function of ours may use it too."""
        namespace = {}
        exec(f"def f({name}): return {name}", namespace)
        assert log_call(namespace["f"], max_length=9)(value) == value
        assert started(messages) == {name: value}

    @pytest.mark.parametrize("value", [None, open])
    def test_argument_called_logger(self, value, messages):
        """It is an argument like any other, and not where to log."""

        @log_call
        def f(logger):
            return 1

        f(value)
        assert started(messages) == {"logger": value}

    def test_call_that_does_not_fit(self, messages):
        """The TypeError is the function's own, and nothing is logged."""

        def f(x, y=1):
            pass

        with pytest.raises(TypeError) as own:
            f()
        with pytest.raises(TypeError) as decorated:
            log_call(f)()
        assert str(own.value) == str(decorated.value)
        assert messages == []

    def test_type_error_from_within(self, messages):
        """A TypeError that the function raises is its failure."""

        @log_call
        def f():
            raise TypeError("mine")

        with pytest.raises(TypeError, match="mine"):
            f()
        assert ended(messages)["action_status"] == "failed"

    def test_wrapper_that_hands_on(self, messages):
        """Below a decorator, arguments have the names of the function that it wraps."""

        def f(x):
            pass

        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, **kwargs)

        log_call(wrapper)(1)
        assert started(messages) == {"x": 1}

    def test_wrapper_that_adds_arguments(self, messages):
        """A wrapper may take other arguments than its signature says: they are not logged."""

        def f(injected, x):
            return injected, x

        @functools.wraps(f)
        def wrapper(x):
            return f(0, x)

        assert log_call(wrapper)(1) == (0, 1)
        assert started(messages) == {}

    def test_function_without_signature(self, messages):
        """Where no signature is to be had, arguments are logged as they came."""
        assert log_call(max)(1, 3, key=None) == 3
        assert started(messages) == {"args": (1, 3), "kwargs": {"key": None}}

    def test_partial(self, messages):
        """A partial is a function too; its type is that of the function."""
        assert log_call(functools.partial(at_the_top.__wrapped__, x=2))() == 2
        assert (f"{__name__}.at_the_top", {"x": 2}) == (
            messages[0]["action_type"],
            started(messages),
        )

    def test_callable_object(self, messages):
        """An object that can be called has the type of its class."""

        class Adder:
            def __call__(self, x):
                return x + 1

        assert log_call(Adder())(2) == 3
        assert messages[0]["action_type"].endswith("<locals>.Adder")
        assert started(messages) == {"x": 2}

    def test_metadata(self):
        """The decorated function looks like the one it was."""

        def f(x: int, *, y: str = "") -> bytes:
            """Do it."""

        decorated = log_call(f)
        for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
            assert getattr(f, name) == getattr(decorated, name)
        assert inspect.signature(f) == inspect.signature(decorated)

    def test_pickle(self):
        """A decorated function pickles by its name."""
        assert pickle.loads(pickle.dumps(at_the_top)) is at_the_top

    @pytest.mark.parametrize("wrong", ["app:work", 3, property(at_the_top)])
    def test_not_a_function(self, wrong):
        """What is no function is refused at once, with the way out."""
        with pytest.raises(TypeError, match=r"must wrap a function, got .* next to the def"):
            log_call(wrong)


class TestMethods:
    """Methods are logged without the object that they belong to."""

    def test_method(self, messages):
        """The parameter `self` is left out."""

        class C:
            @log_call
            def f(self, x):
                return self, x

        c = C()
        assert (c, 2) == c.f(2)
        assert started(messages) == {"x": 2}
        assert messages[0]["action_type"].endswith("<locals>.C.f")

    def test_self_if_it_is_asked_for(self, messages):
        """It is logged if its name is listed."""

        class C:
            @log_call(include_args=["self"])
            def f(self, x):
                pass

        c = C()
        c.f(1)
        assert started(messages) == {"self": c}

    @pytest.mark.parametrize("kind", [staticmethod, classmethod])
    @pytest.mark.parametrize("logged_first", [True, False])
    def test_static_and_class_methods(self, kind, logged_first, messages):
        """`log_call` may stand above or below; `cls` is left out."""

        def static(x):
            return x

        def of_class(cls, x):
            return x

        f = static if kind is staticmethod else of_class

        class C:
            g = kind(log_call(f)) if logged_first else log_call(kind(f))

        assert (C.g(1), C().g(2)) == (1, 2)
        assert [m["x"] for m in messages if "x" in m] == [1, 2]
        assert {"cls"} & messages[0].keys() == set()

    def test_bound_method(self, messages):
        """A method that is bound already can be decorated."""
        assert log_call([3].index)(3) == 0
        assert ended(messages)["result"] == 0


class TestCoroutines:
    """The action of a coroutine function spans the awaiting of it."""

    def test_spans_the_run(self, messages):
        """What is logged before and after a suspension is in the action."""

        @log_call(action_type="app:work")
        async def work(x):
            log_message("before")
            await asyncio.sleep(0)
            log_message("after")
            return x

        assert inspect.iscoroutinefunction(work)
        assert asyncio.run(work(3)) == 3
        assert stories(messages) == [["app:work", "before", "after"]]
        assert (started(messages), ended(messages)["result"]) == ({"x": 3}, 3)

    def test_not_awaited(self, messages):
        """A coroutine that is never started logs nothing."""

        @log_call
        async def work():
            pass

        work().close()
        assert messages == []

    def test_object_with_coroutine_as_call(self, messages):
        """What counts is what a call gives."""

        class Work:
            async def __call__(self):
                await asyncio.sleep(0)
                return 3

        assert asyncio.run(log_call(Work())()) == 3
        assert ended(messages)["result"] == 3

    def test_cancelled(self, messages):
        """Cancellation makes the action fail."""

        @log_call
        async def work():
            await asyncio.sleep(60)

        async def main():
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())
        assert ended(messages)["exception"] == "asyncio.exceptions.CancelledError"


class TestPreserveContext:
    """A function takes its place along to where it is called."""

    def test_without_action(self):
        """It stays what it is."""
        assert preserve_context(at_the_top) is at_the_top

    def test_in_another_thread(self, messages):
        """The call is an action at the place that was current, though that action has ended."""
        with start_action(action_type="app:outer"):
            work = preserve_context(lambda: log_message("app:message"))
            log_message("app:later")
        thread = Thread(target=work)
        thread.start()
        thread.join()
        assert stories(messages) == [
            ["app:outer", ["eliot:remote_task", "app:message"], "app:later"]
        ]

    def test_result_and_failure(self, messages):
        """Arguments go in; results and exceptions come out."""
        with start_action(action_type="app:outer"):
            divide = preserve_context(lambda x, /, by: x / by)
            fail = preserve_context(lambda x: x / 0)
            assert divide(6, by=3) == 2
            with pytest.raises(ZeroDivisionError):
                fail(1)
        assert stories(messages) == [["app:outer", ["eliot:remote_task"], ["eliot:remote_task!"]]]

    def test_second_call(self):
        """Its place can be taken only once."""
        with start_action(action_type="app:outer"):
            work = preserve_context(lambda: None)
        work()
        with pytest.raises(TooManyCalls, match=r"must be called once, got a second call of"):
            work()

    def test_calls_at_the_same_time(self, messages):
        """Of several threads that call at once, one gets through."""
        barrier, refused = Barrier(8), []
        with start_action(action_type="app:outer"):
            work = preserve_context(lambda: None)

        def call():
            barrier.wait(timeout=60)
            try:
                work()
            except TooManyCalls as error:
                refused.append(error)

        threads = [Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 7
        assert len(messages) == 4

    def test_coroutine(self, messages):
        """The action spans the awaiting."""

        async def work():
            await asyncio.sleep(0)
            log_message("app:message")

        with start_action(action_type="app:outer"):
            preserved = preserve_context(work)
        assert inspect.iscoroutinefunction(preserved)
        asyncio.run(preserved())
        assert stories(messages) == [["app:outer", ["eliot:remote_task", "app:message"]]]

    def test_generator(self, messages):
        """The action spans the steps."""

        def work():
            yield log_message("app:message")

        with start_action(action_type="app:outer"):
            preserved = preserve_context(work)
        assert list(preserved()) == [None]
        assert stories(messages) == [["app:outer", ["eliot:remote_task", "app:message"]]]

    @pytest.mark.parametrize("f", [functools.partial(pow, 7, exp=2), "7".__len__, [7].copy])
    def test_callables_of_all_kinds(self, f):
        """Partials and bound methods are functions; the signature stays."""
        with start_action(action_type="app:outer"):
            preserved = preserve_context(f)
        assert inspect.signature(f) == inspect.signature(preserved)
        assert f() == preserved()


TYPED = """
from collections.abc import Coroutine
from typing import Any

from typing_extensions import assert_type

from eliot_etw import log_call, preserve_context
from eliot_etw.executors import ProcessPoolExecutor, ThreadPoolExecutor

@log_call
def plain(x: int, *, y: str = "") -> bytes:
    return b""

@log_call(action_type="app:work", redact=["x"])
async def coroutine(x: int) -> str:
    return ""

class C:
    @log_call
    def method(self, x: int) -> int:
        return x

    @log_call
    @classmethod
    def of_class(cls, x: int) -> int:
        return x

assert_type(plain(1, y="2"), bytes)
awaitable = assert_type(coroutine(1), Coroutine[Any, Any, str])
assert_type(C().method(1), int)
assert_type(C.of_class(1), int)
assert_type(preserve_context(plain)(1), bytes)
assert_type(ThreadPoolExecutor().submit(plain, 1).result(), bytes)

plain("1")  # type: ignore[arg-type]
awaitable = coroutine(y=1)  # type: ignore[call-arg]
C().method("1")  # type: ignore[arg-type]
preserve_context(plain)("1")  # type: ignore[arg-type]
ProcessPoolExecutor().submit(plain, "1")  # type: ignore[arg-type]
log_call("app:work")  # type: ignore[call-overload]
"""


def test_types(tmp_path):
    """A type checker sees the signatures of the functions that are wrapped."""
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
    run = subprocess.run([*command, program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
