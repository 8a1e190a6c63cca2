"""Tests of generators in actions: each yield gives the caller its own current action back."""

import asyncio
import gc
import inspect
from contextlib import suppress
from contextvars import ContextVar, copy_context

import pytest

from eliot_etw import current_action, log_call, log_message, start_action
from eliot_etw._generators import eliot_friendly_generator_function
from tests._stories import ended, stories

OUTSIDE = ContextVar("OUTSIDE", default="unset")


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


class TestEliotFriendlyGeneratorFunction:
    """A generator that is no action itself."""

    def test_actions_stay_apart(self, messages):
        """Those that it enters are its own, though it starts in the caller's."""

        @eliot_friendly_generator_function
        def generator():
            with start_action(action_type="app:inner"):
                yield "value"
                log_message("inside")
            return "result"

        def delegate():
            log_message((yield from generator()))

        with start_action(action_type="app:caller"):
            for value in delegate():
                log_message(value)
        assert stories(messages) == [["app:caller", ["app:inner", "inside"], "value", "result"]]

    def test_debug(self, messages):
        """Each yield is logged, in its place, while the switch is on."""

        @eliot_friendly_generator_function
        def generator():
            with start_action(action_type="app:inner"):
                yield
            generator.debug = False
            yield

        generator.debug = True
        list(generator())
        assert stories(messages) == [["app:inner", "yielded"]]

    def test_metadata(self):
        """The function looks like the one it was."""

        def original():
            """Do it."""
            yield

        wrapped = eliot_friendly_generator_function(original)
        assert (wrapped.__name__, wrapped.__doc__) == ("original", "Do it.")
        assert inspect.isgeneratorfunction(wrapped)
