"""Generators in actions: at each ``yield``, their caller has its own current action back.

Only the current action is swapped, not the whole context: other context variables behave as they
do in any generator.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from eliot_etw._action import Action, log_message
from eliot_etw._context import CURRENT, current_action

_P = ParamSpec("_P")
_Yield = TypeVar("_Yield")
_Send = TypeVar("_Send")
_Return = TypeVar("_Return")


class Span(Protocol):
    """The actions that runs of one function are to be logged as."""

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Action:
        """Start the action of a call with these arguments."""

    def note_result(self, action: Action, result: object, /) -> None:
        """Take note of what was returned, before the action ends."""


def span_generator(
    f: Callable[_P, Generator[_Yield, _Send, _Return]], span: Span
) -> Callable[_P, Generator[_Yield, _Send, _Return]]:
    """Wrap a generator function so that an action lasts from the first step to the last."""

    @wraps(f)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> Generator[_Yield, _Send, _Return]:
        action = span.start(args, kwargs)
        with _to_the_end_of(action):
            result = yield from _in_action(f(*args, **kwargs), action)
            span.note_result(action, result)
        return result

    return call


def _in_action(
    generator: Generator[_Yield, _Send, _Return],
    action: Action | None,
    on_yield: Callable[[], object] | None = None,
) -> Generator[_Yield, _Send, _Return]:
    """Run a generator within an action, and within those that it enters itself.

    Args:
        generator: The generator, not started yet.
        action: What is to be the current action when it starts.
        on_yield: Called in the generator's place in the tree after each value it yielded.
    """
    step: Callable[[Any], _Yield] = generator.send
    argument: Any = None
    while True:
        outer = CURRENT.set(action)
        try:
            value = step(argument)
            if on_yield is not None:
                on_yield()
        except StopIteration as stop:
            result: _Return = stop.value
            return result
        finally:
            # An exception refers to this frame; if the frame referred to it, both would stay in
            # memory until the garbage collector comes.
            argument = None
            action = CURRENT.get()
            CURRENT.reset(outer)
        try:
            argument = yield value
            step = generator.send
        except BaseException as error:  # noqa: BLE001 - all of them are for the generator
            step, argument = generator.throw, error


def span_async_generator(
    f: Callable[_P, AsyncGenerator[_Yield, _Send]], span: Span
) -> Callable[_P, AsyncGenerator[_Yield, _Send]]:
    """Wrap an asynchronous generator function as `span_generator` does; it returns nothing."""

    @wraps(f)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> AsyncGenerator[_Yield, _Send]:
        action = span.start(args, kwargs)
        inner: Action | None = action
        with _to_the_end_of(action):
            generator = f(*args, **kwargs)
            step: Any = _first_step(generator)
            while True:  # as in _in_action, to which an asynchronous generator cannot delegate
                outer = CURRENT.set(inner)
                try:
                    value = await step
                except StopAsyncIteration:
                    return
                finally:
                    step = None
                    inner = CURRENT.get()
                    # A task that is destroyed while it waits ends in another's context.
                    with suppress(ValueError):
                        CURRENT.reset(outer)
                try:
                    step = generator.asend((yield value))
                except BaseException as error:  # noqa: BLE001 - all of them are for the generator
                    step = generator.athrow(error)

    return call


def _first_step(generator: AsyncGenerator[Any, Any]) -> object:
    """Start an asynchronous generator without telling the event loop about it.

    The loop closes the generators that it knows when it ends, in any order. Closed before the one
    that steps it, this one would clean up outside of its action.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


@contextmanager
def _to_the_end_of(action: Action) -> Iterator[None]:
    """End an action with the block, in which it need not be the current one.

    A generator that is closed was not needed to its end: that is no failure.
    """
    try:
        yield
    except GeneratorExit:
        action.finish()
        raise
    except BaseException as error:
        action.finish(error)
        raise
    action.finish()


def eliot_friendly_generator_function(
    original: Callable[_P, Generator[_Yield, _Send, _Return]],
) -> Callable[_P, Generator[_Yield, _Send, _Return]]:
    """Keep the actions that a generator enters apart from those of its caller.

    The generator starts in the action that is current at its first step. It does not become an
    action itself: `log_call` is for that.

    Args:
        original: A generator function.

    Returns:
        One that does the same. While its attribute ``debug`` is true, each ``yield`` is logged as
        a message of type ``yielded``.
    """

    @wraps(original)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Generator[_Yield, _Send, _Return]:
        generator = original(*args, **kwargs)
        return (yield from _in_action(generator, current_action(), note_yield))

    def note_yield() -> None:
        if wrapper.debug:  # type: ignore[attr-defined] # set below
            log_message("yielded")

    wrapper.debug = False  # type: ignore[attr-defined] # Eliot's switch
    return wrapper
