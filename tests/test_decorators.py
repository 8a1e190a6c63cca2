"""Tests of `log_call` and `preserve_context`, on functions of every kind."""

import asyncio
import functools
import gc
import inspect
import pickle
from contextlib import suppress
from contextvars import ContextVar, copy_context
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import current_action, log_call, log_message, preserve_context, start_action
from eliot_etw._arguments import shortened
from eliot_etw.exceptions import TooManyCalls
from tests._stories import stories

OUTSIDE = ContextVar("OUTSIDE", default="unset")


def started(messages):
    """Return the fields of the one action's start message, without those that every one has."""
    [start] = [m for m in messages if m.get("action_status") == "started"]
    ours = {"action_status", "action_type", "task_level", "task_uuid", "timestamp"}
    return {name: value for name, value in start.items() if name not in ours}


def ended(messages):
    """Return the one action's end message."""
    [end] = [m for m in messages if m.get("action_status") in {"succeeded", "failed"}]
    return end


class Value:
    """What is looked for in memory."""


def is_forgotten_after(call):
    """Say whether an argument of a call, and with it the call's frame, is gone when it is over."""
    gc.collect()
    gc.disable()
    try:
        call(Value())
        return not any(type(found) is Value for found in gc.get_objects())
    finally:
        gc.enable()


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


class TestWhatIsLogged:
    """Arguments and results are left out, hidden or cut as asked for."""

    def test_include(self, messages):
        """Only those that are listed."""
        log_call(include_args=["x"])(lambda x, y: None)(1, 2)
        assert started(messages) == {"x": 1}

    def test_exclude(self, messages):
        """All but those that are listed."""
        log_call(exclude_args=["x"])(lambda x, y: None)(1, 2)
        assert started(messages) == {"y": 2}

    def test_no_result(self, messages):
        """The result can be left out."""
        log_call(include_result=False)(lambda: 1)()
        assert "result" not in ended(messages)

    def test_redact(self, messages):
        """A hidden value is nowhere in the log, but it is said that there was one."""

        @log_call(redact=["password", "result"], max_length=3)
        def login(user, password="hunter2"):
            return password + user

        assert login("me") == "hunter2me"
        login("me", "hunter2")
        assert "hunter" not in repr(messages)
        assert (messages[0]["password"], messages[1]["result"]) == ("[redacted]", "[redacted]")

    @pytest.mark.parametrize("option", ["include_args", "exclude_args", "redact"])
    @pytest.mark.parametrize("given", [["y", "nobody"], "password"])
    def test_name_that_is_not_there(self, option, given):
        """A typing error in a name is loud at once: it might be a secret's."""
        with pytest.raises(ValueError, match=rf"{option} must name arguments .*\bx, y\b"):

            @log_call(**{option: given})
            def f(x, y):
                pass

    def test_longest(self, messages):
        """Arguments and results are cut alike, each by itself."""
        log_call(max_length=3)(lambda x, y: x + x)("abcd", "abc")
        assert started(messages) == {"x": "abc… (4 characters)", "y": "abc"}
        assert ended(messages)["result"] == "abc… (8 characters)"

    @pytest.mark.parametrize("length", [0, -1, True, 1.5, "9"])
    def test_length_that_is_none(self, length):
        """A length is a whole number above 0."""
        with pytest.raises(ValueError, match="max_length must be a whole number above 0, got"):
            log_call(at_the_top, max_length=length)


class Hostile:
    """What has no text."""

    def __repr__(self):
        raise RuntimeError


class Terse(str):
    """Text that is longer than it says."""

    __slots__ = ()

    def __repr__(self):
        return "..."

    def __len__(self):
        return 0


class TestShortened:
    """Long values are cut, visibly."""

    @given(st.text(), st.integers(1, 20))
    def test_text(self, text, length):
        """Text up to that length stays; of longer text, so much is left and the length told."""
        cut = shortened(text, length)
        if len(text) <= length:
            assert text is cut
        else:
            assert cut == f"{text[:length]}… ({len(text)} characters)"

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"abcd", "abc… (4 bytes)"),
            (b"\xff" * 4, "\\xff\\xff\\xff… (4 bytes)"),
            (bytearray(b"abcd"), "abc… (4 bytes)"),
            ([1000], "[10… (6 characters)"),
            (Terse("abcd"), "abc… (4 characters)"),
            (12345, "123… (5 characters)"),
        ],
    )
    def test_other_values(self, value, expected):
        """Bytes are counted as such; of anything else it is the repr that counts."""
        assert expected == shortened(value, 3)

    @pytest.mark.parametrize("value", [None, 1, b"abc", [], Hostile()])
    def test_short_values(self, value):
        """What is short enough stays the object it is; so does what cannot be printed."""
        assert shortened(value, 80) is value


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


@log_call(action_type="app:numbers")
def numbers(limit):
    """Yield numbers, and log between them."""
    received = []
    for number in range(limit):
        log_message(f"inside {number}")
        with start_action(action_type=f"app:step {number}"):
            received.append((yield number))
            log_message("received")
    return received


class TestGenerators:
    """The action of a generator function spans the whole run, and leaves the caller alone."""

    def test_spans_the_run(self, messages):
        """Between the steps the caller logs to its own action, and open actions come back."""
        assert inspect.isgeneratorfunction(numbers)
        with start_action(action_type="app:caller") as caller:
            for number in numbers(2):
                assert current_action() is caller
                log_message(f"outside {number}")
        assert stories(messages) == [
            [
                "app:caller",
                [
                    "app:numbers",
                    "inside 0",
                    ["app:step 0", "received"],
                    "inside 1",
                    ["app:step 1", "received"],
                ],
                "outside 0",
                "outside 1",
            ]
        ]

    def test_protocol(self, messages):
        """Values are sent in, and the return value comes out and is logged."""

        def delegate():
            return (yield from numbers(2))

        generator = delegate()
        sent = [next(generator), generator.send("a")]
        with pytest.raises(StopIteration) as stopped:
            generator.send("b")
        assert sent == [0, 1]
        assert stopped.value.value == ["a", "b"] == messages[-1]["result"]

    def test_throw(self, messages):
        """The generator gets what is thrown, may go on, and gets the next."""

        @log_call
        def stubborn():
            while True:
                try:
                    yield
                except KeyError as error:
                    log_message("caught")
                    yield error

        error = KeyError()
        generator = stubborn()
        next(generator)
        assert generator.throw(error) is error
        next(generator)
        with pytest.raises(ValueError, match="x"):
            generator.throw(ValueError("x"))
        assert [m["task_level"] for m in messages] == [[1], [2], [3]]
        assert ended(messages)["exception"] == "builtins.ValueError"

    def test_never_started(self, messages):
        """A generator that is never started logs nothing."""
        numbers(3).close()
        assert messages == []

    def test_close(self, messages):
        """A generator that is closed has succeeded; what it logs then is in its action."""

        @log_call(action_type="app:closed")
        def generator():
            try:
                yield
            finally:
                log_message("cleaned up")

        running = generator()
        next(running)
        running.close()
        assert stories(messages) == [["app:closed", "cleaned up"]]
        assert "result" not in ended(messages)

    def test_forgotten(self, messages):
        """One that nobody has any more is closed by Python, at once and in its action."""
        for _ in numbers(3):
            break
        assert stories(messages) == [["app:numbers", "inside 0", ["app:step 0!"]]]

    def test_refuses_to_close(self):
        """It is an error to yield instead of closing, as for any generator."""

        @log_call
        def stubborn():
            try:
                yield
            except GeneratorExit:
                yield

        running = stubborn()
        next(running)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            running.close()

    def test_error_keeps_nothing_alive(self):
        """What a generator raised goes away without the garbage collector, as does its frame."""

        @log_call
        def generator():
            yield

        def fail(_):
            running = generator()
            next(running)
            with suppress(ValueError):
                running.throw(ValueError)

        assert is_forgotten_after(fail)

    def test_other_context_variables(self):
        """Any other context variable is shared with the caller, as by any generator."""

        @log_call
        def generator():
            yield OUTSIDE.get()
            OUTSIDE.set("from inside")
            yield None

        running = generator()
        token = OUTSIDE.set("from outside")
        assert [next(running), next(running), OUTSIDE.get()] == [
            "from outside",
            None,
            "from inside",
        ]
        OUTSIDE.reset(token)

    def test_several_at_a_time(self, messages):
        """Generators that take turns do not get into each other's action."""
        list(zip(numbers(1), numbers(1), strict=True))
        story = ["app:numbers", "inside 0", ["app:step 0", "received"]]
        assert stories(messages) == [story, story]

    def test_call_that_does_not_fit(self, messages):
        """The TypeError comes with the first step, and nothing is logged."""
        with pytest.raises(
            TypeError, match=r"^numbers\(\) missing 1 required positional argument"
        ):
            next(numbers())
        assert messages == []


@log_call(action_type="app:ticks")
async def ticks(limit):
    """Yield numbers, and log between them."""
    try:
        for number in range(limit):
            with start_action(action_type=f"app:tick {number}"):
                await asyncio.sleep(0)
                got = yield number
                log_message(f"got {got}")
    finally:
        await asyncio.sleep(0)
        log_message("cleaned up")


class TestAsyncGenerators:
    """The same for asynchronous generator functions."""

    def test_spans_the_run(self, messages):
        """Between the steps the caller logs to its own action, and open actions come back."""

        async def main():
            with start_action(action_type="app:caller") as caller:
                async for number in ticks(2):
                    assert current_action() is caller
                    log_message(f"outside {number}")

        assert inspect.isasyncgenfunction(ticks)
        asyncio.run(main())
        steps = [["app:tick 0", "got None"], ["app:tick 1", "got None"]]
        assert stories(messages) == [
            ["app:caller", ["app:ticks", *steps, "cleaned up"], "outside 0", "outside 1"]
        ]

    def test_asend(self, messages):
        """Values are sent in."""

        async def main():
            generator = ticks(1)
            await generator.asend(None)
            with pytest.raises(StopAsyncIteration):
                await generator.asend("it")

        asyncio.run(main())
        assert stories(messages) == [["app:ticks", ["app:tick 0", "got it"], "cleaned up"]]

    def test_athrow(self, messages):
        """The generator gets what is thrown; what comes out of it makes the action fail."""

        async def main():
            generator = ticks(1)
            await anext(generator)
            with pytest.raises(KeyError):
                await generator.athrow(KeyError())

        asyncio.run(main())
        assert stories(messages) == [["app:ticks!", ["app:tick 0!"], "cleaned up"]]

    def test_aclose(self, messages):
        """A generator that is closed has succeeded; what it logs then is in its action."""

        async def main():
            generator = ticks(2)
            await anext(generator)
            await generator.aclose()

        asyncio.run(main())
        assert stories(messages) == [["app:ticks", ["app:tick 0!"], "cleaned up"]]

    @pytest.mark.parametrize("keep", [True, False])
    def test_closed_by_the_loop(self, keep, messages):
        """One that is forgotten, or left when the loop ends, cleans up within its action."""
        kept = []

        @log_call(action_type="app:closed")
        async def generator():
            try:
                yield
            finally:
                await asyncio.sleep(0)
                log_message("cleaned up")

        async def main():
            running = generator()
            await anext(running)
            if keep:
                kept.append(running)
            del running
            for _ in range(5):  # as many rounds as it takes the loop to close it
                await asyncio.sleep(0)

        asyncio.run(main())
        assert stories(messages) == [["app:closed", "cleaned up"]]

    def test_never_started(self, messages):
        """A generator that is never started logs nothing."""
        asyncio.run(ticks(3).aclose())
        assert messages == []

    def test_error_keeps_nothing_alive(self):
        """What a generator raised goes away without the garbage collector, as does its frame."""

        @log_call
        async def generator():
            yield

        def fail(_):
            running = generator()
            for step in (anext(running), running.athrow(ValueError)):
                with suppress(StopIteration, ValueError):
                    step.send(None)

        assert is_forgotten_after(fail)

    def test_destroyed_while_it_waits(self, messages):
        """What is destroyed elsewhere leaves the current action there as it was."""

        class Wait:
            def __await__(self):
                yield

        @log_call(action_type="app:waiting")
        async def generator():
            await Wait()
            yield

        async def consume():
            async for _ in generator():
                pass

        consumer = consume()
        copy_context().run(consumer.send, None)
        with start_action(action_type="app:caller") as caller:
            consumer.close()
            del consumer
            assert current_action() is caller
        assert stories(messages) == [["app:waiting"], ["app:caller"]]

    def test_steps_in_several_tasks(self, messages):
        """Each step may be another task's."""

        async def main():
            generator = ticks(2)
            steps = [await asyncio.create_task(anext_of(generator)) for _ in range(2)]
            await generator.aclose()
            return steps

        async def anext_of(generator):
            return await anext(generator)

        assert asyncio.run(main()) == [0, 1]
        steps = [["app:tick 0", "got None"], ["app:tick 1!"]]
        assert stories(messages) == [["app:ticks", *steps, "cleaned up"]]


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

    @pytest.mark.parametrize(
        "f", [functools.partial(pow, 7, exp=2), "7".__len__, Terse("7").isdigit]
    )
    def test_callables_of_all_kinds(self, f):
        """Partials and bound methods are functions; the signature stays."""
        with start_action(action_type="app:outer"):
            preserved = preserve_context(f)
        assert inspect.signature(f) == inspect.signature(preserved)
        assert f() == preserved()
