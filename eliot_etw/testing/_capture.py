"""Captures what a test logs, and checks it when the test is over: `capture_logging`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeAlias, TypeVar, final

from eliot_etw import _names as names
from eliot_etw._logger import MemoryLogger, swap_logger
from eliot_etw.exceptions import UnflushedTracebacks, ValidationError

_F = TypeVar("_F", bound=Callable[..., Any])
_Assertion: TypeAlias = Callable[..., object] | None
_End: TypeAlias = Callable[[], None]


@final
class _Captures:
    """The captures that are going on, and the latest that are over.

    Attributes:
        loggers: For the report of a failing test: what the latest capture, and those within it,
            were logged to. Bounded, because a new capture that is within no other starts afresh.
    """

    def __init__(self) -> None:
        self.loggers: list[MemoryLogger] = []
        self._running: list[MemoryLogger] = []

    def begin(self, logger: MemoryLogger, *, diverts: bool = True) -> _End:
        """Begin a capture.

        Args:
            logger: What is logged to.
            diverts: Whether it is to take what is logged without naming a logger.

        Returns:
            What ends the capture.
        """
        if not self._running:
            self.forget()
        self.loggers.append(logger)
        self._running.append(logger)
        outer = swap_logger(logger) if diverts else None

        def end() -> None:
            if logger in self._running:
                self._running.remove(logger)
            if outer is not None:
                swap_logger(outer)

        return end

    def forget(self) -> None:
        """Forget the captures that were, and those that should have ended by now."""
        self.loggers.clear()
        self._running.clear()


CAPTURES = _Captures()


def check_tracebacks(logger: MemoryLogger) -> None:
    """Check that all tracebacks that were logged were expected.

    Raises:
        UnflushedTracebacks: If one was not flushed by `MemoryLogger.flush_tracebacks`.
    """
    __tracebackhide__ = True
    texts = [str(message.get(names.TRACEBACK)) for message in logger.tracebackMessages]
    if texts:
        msg = (
            f"A test must flush the tracebacks that it expects, got {len(texts)} unflushed. "
            "If they are expected, call flush_tracebacks(ExceptionType) on the logger.\n\n"
        )
        raise UnflushedTracebacks(msg + "\n".join(texts))


def check_for_errors(logger: MemoryLogger) -> None:
    """Check what was logged, as is done at the end of a test.

    Raises:
        UnflushedTracebacks: If a traceback was logged that the test did not flush.
        ValidationError: If a message is not what its type says.
        TypeError: If a message cannot be encoded.
    """
    __tracebackhide__ = True
    # First, because it tells of an error in what is tested, and the others of one in its logging.
    check_tracebacks(logger)
    try:
        logger.validate()
    except (TypeError, ValidationError) as error:
        # The text says where the message was logged. Where it was checked is of no interest.
        raise error.with_traceback(None) from None


def validate_logging(
    assertion: _Assertion,
    *args: Any,
    encoder_: type[Any] | None = None,
    **kwargs: Any,
) -> Callable[[_F], _F]:
    """Decorate a test so that it gets a logger, and what is logged to that is checked.

    This is `capture_logging` without the capturing: only what is logged to the logger explicitly
    is there.
    """
    return _Decorator(assertion, args, kwargs, encoder_, diverts=False)


validateLogging = validate_logging  # noqa: N816 - Eliot's other spelling


def capture_logging(
    assertion: _Assertion,
    *args: Any,
    encoder_: type[Any] | None = None,
    **kwargs: Any,
) -> Callable[[_F], _F]:
    """Decorate a test so that what is logged during the test is captured, and checked.

    The test gets a `MemoryLogger` as its argument ``logger``, if it takes one. It captures what
    is logged without naming a logger, and what is logged to any `Logger`. When the test is over,
    the assertion is called; then tracebacks that were not flushed, messages that do not fit their
    types, and messages that cannot be encoded make the test fail. Of a test that failed by itself
    or was skipped, the logging is not asserted on top of that.

    It works on methods of `unittest.TestCase` and of plain classes, on functions, and on ``async``
    ones of all these. Other arguments, such as fixtures, are passed on. In a `TestCase`, what
    `tearDown` logs is captured too, the assertion comes after it, and tracebacks that were not
    flushed are reported besides the test's own failure, because they may be its cause.

    Args:
        assertion: Called as ``assertion(test, logger, *args, **kwargs)``, where ``test`` is the
            object whose method the test is, or None if the test is a function. None for no
            assertion.
        *args: Further arguments for the assertion.
        encoder_: A `json.JSONEncoder` class which the messages must be good for, if not for
            `eliot_etw.json.json_default`.
        **kwargs: Further arguments for the assertion.

    Returns:
        The decorator.
    """
    return _Decorator(assertion, args, kwargs, encoder_, diverts=True)


@final
@dataclass(frozen=True)
class _Decorator:
    """Decorates tests; the attributes are what `capture_logging` was given."""

    assertion: _Assertion
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    encoder: type[Any] | None
    diverts: bool

    def __call__(self, function: _F) -> _F:
        signature = inspect.signature(function)
        parameters = dict(signature.parameters)
        takes_logger = "logger" in parameters or any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
        )
        wrapper: Any = self._wrapper(function, takes_logger=takes_logger)
        # Without the logger, or else pytest would look for a fixture of that name.
        parameters.pop("logger", None)
        wrapper.__signature__ = signature.replace(parameters=list(parameters.values()))
        return wrapper  # type: ignore[no-any-return] # it takes the place of the function

    def _wrapper(self, function: Callable[..., Any], *, takes_logger: bool) -> Callable[..., Any]:
        """Wrap a test, plain or async, so that its logging is captured."""

        def capture(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Scope:
            logger = MemoryLogger(encoder=self.encoder)
            if takes_logger:
                kwargs["logger"] = logger
            # Only methods are called with a positional argument: fixtures come by name.
            return self._scope(args[0] if args else None, logger)

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                with capture(args, kwargs):
                    return await function(*args, **kwargs)

        else:

            @wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                with capture(args, kwargs):
                    return function(*args, **kwargs)

        return wrapper

    def _scope(self, test: object, logger: MemoryLogger) -> _Scope:
        """Begin to capture what one test logs."""
        begin = partial(CAPTURES.begin, logger, diverts=self.diverts)
        assertion = self.assertion or _assert_nothing
        finish = partial(assertion, test, logger, *self.args, **self.kwargs)
        if hasattr(test, "addCleanup"):
            return _UntilCleanup(test, logger, begin, finish)
        return _UntilReturn(logger, begin, finish)


def _assert_nothing(*_: object, **__: object) -> None:
    """Be the assertion where there is none."""


@final
class _UntilReturn:
    """Captures until the test returns."""

    def __init__(
        self, logger: MemoryLogger, begin: Callable[[], _End], assertion: Callable[[], object]
    ) -> None:
        self._logger = logger
        self._begin = begin
        self._assertion = assertion

    def __enter__(self) -> None:
        self._end = self._begin()

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        __tracebackhide__ = True
        self._end()
        if exc_type is None:
            self._assertion()
            check_for_errors(self._logger)


@final
class _UntilCleanup:
    """Captures until a `TestCase` cleans up, which is after its `tearDown`."""

    def __init__(
        self,
        test: Any,
        logger: MemoryLogger,
        begin: Callable[[], _End],
        assertion: Callable[[], object],
    ) -> None:
        self._test = test
        self._logger = logger
        self._begin = begin
        self._assertion = assertion
        self._has_returned = False

    def __enter__(self) -> None:
        # Called from the last to the first.
        self._test.addCleanup(self._check)
        self._test.addCleanup(self._assert)
        self._test.addCleanup(self._begin())

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        self._has_returned = exc_type is None

    def _assert(self) -> None:
        if self._has_returned:
            self._assertion()

    def _check(self) -> None:
        check_for_errors(self._logger)


_Scope: TypeAlias = _UntilReturn | _UntilCleanup
