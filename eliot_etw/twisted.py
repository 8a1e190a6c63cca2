"""Actions across Twisted's Deferreds, and messages in Twisted's log; names as in `eliot.twisted`.

Twisted is a package of its own: ``python -m pip install 'eliot-etw[twisted]'``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from eliot_etw._context import current_action
from eliot_etw._generators import eliot_friendly_generator_function
from eliot_etw._levels import CRITICAL, ERROR, INFO, WARNING, level_of
from eliot_etw._output import add_destinations
from eliot_etw._require import require
from eliot_etw.exceptions import AlreadyFinished
from eliot_etw.typing import MessageDict

require("twisted", feature="eliot_etw.twisted", extra="twisted")

from twisted.internet.defer import Deferred, inlineCallbacks, passthru
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

__all__ = [
    "AlreadyFinished",
    "DeferredContext",
    "TwistedDestination",
    "inline_callbacks",
    "redirectLogsForTrial",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LEVELS: Final = (
    (CRITICAL, LogLevel.critical),
    (ERROR, LogLevel.error),
    (WARNING, LogLevel.warn),
    (INFO, LogLevel.info),
)
# Where Twisted's `trial` is what was started: the program, the module, a worker of ``trial -j``.
_TRIALS: Final = frozenset({"trial", "trial.exe", "workertrial.py"})
_TRIAL_MODULE: Final = ("twisted", "trial", "__main__.py")


class DeferredContext:
    """A `Deferred` whose callbacks run in the action that is current where this is made.

    In a callback that is current, whoever fires the Deferred and whenever; before and after it,
    what was current there. The action ends by `addActionFinish`. If the Deferred never fires, the
    action has no end in the log, which shows just that.

    Attributes:
        result: The Deferred.
    """

    def __init__(self, deferred: Deferred[Any]) -> None:
        """Wrap a Deferred.

        Raises:
            RuntimeError: If there is no current action.
        """
        action = current_action()
        if action is None:
            msg = (
                "DeferredContext() needs a current action, there is none. "
                "Make it within `with start_action(...).context():`."
            )
            raise RuntimeError(msg)
        self.result = deferred
        self._action = action
        self._is_finish_added = False

    def addCallbacks(
        self,
        callback: Callable[..., Any],
        errback: Callable[..., Any] | None = None,
        callbackArgs: tuple[Any, ...] | None = None,
        callbackKeywords: Mapping[str, Any] | None = None,
        errbackArgs: tuple[Any, ...] | None = None,
        errbackKeywords: Mapping[str, Any] | None = None,
    ) -> DeferredContext:
        """Add a callback and an errback that run in the action; the parameters are Deferred's.

        Returns:
            This object.

        Raises:
            AlreadyFinished: If `addActionFinish` was called before.
        """
        self._check_is_open()
        self.result.addCallbacks(
            self._in_action(callback),
            self._in_action(errback or passthru),
            callbackArgs or (),
            callbackKeywords or {},
            errbackArgs or (),
            errbackKeywords or {},
        )
        return self

    def addCallback(
        self, callback: Callable[..., Any], /, *args: Any, **kw: Any
    ) -> DeferredContext:
        """Add a callback that runs in the action; see `addCallbacks`."""
        return self.addCallbacks(callback, passthru, callbackArgs=args, callbackKeywords=kw)

    def addErrback(self, errback: Callable[..., Any], /, *args: Any, **kw: Any) -> DeferredContext:
        """Add an errback that runs in the action; see `addCallbacks`."""
        return self.addCallbacks(passthru, errback, errbackArgs=args, errbackKeywords=kw)

    def addBoth(self, callback: Callable[..., Any], /, *args: Any, **kw: Any) -> DeferredContext:
        """Add one function as callback and as errback; see `addCallbacks`."""
        return self.addCallbacks(callback, callback, args, kw, args, kw)

    def addActionFinish(self) -> Deferred[Any]:
        """Have the action end when all callbacks so far have run: failed, if the result is.

        Nothing can be added here after that; callbacks added to what is returned are outside of
        the action.

        Returns:
            The Deferred.

        Raises:
            AlreadyFinished: If this was called before.
        """
        self._check_is_open()
        self._is_finish_added = True
        self.result.addBoth(self._finish)
        return self.result

    def _finish(self, result: _T) -> _T:
        """End the action, and pass the result on."""
        self._action.finish(result.value if isinstance(result, Failure) else None)
        return result

    def _check_is_open(self) -> None:
        """Raise if the end of the action has been added."""
        if self._is_finish_added:
            msg = (
                "Callbacks must be added before addActionFinish(), which was called already. "
                "Add this one to what addActionFinish() returned, or call that last."
            )
            raise AlreadyFinished(msg)

    def _in_action(self, f: Callable[..., _T]) -> Callable[..., _T]:
        """Wrap a function so that it runs in the action."""
        run = self._action.run

        # A function, and named as the other is: for Twisted's warnings about callbacks.
        @wraps(f)
        def call(*args: Any, **kwargs: Any) -> _T:
            return run(f, *args, **kwargs)

        return call


def inline_callbacks(
    original: Callable[_P, Generator[Deferred[Any], Any, _T]], debug: bool = False
) -> Callable[_P, Deferred[_T]]:
    """Decorate a generator as Twisted's `inlineCallbacks` does, and keep its actions its own.

    An action that the generator enters stays current in it across each ``yield``, and is never
    current elsewhere. The generator starts in the action that is current where it is called.

    Args:
        original: The generator function.
        debug: Whether to log each ``yield``, as a message of type ``yielded``.
    """
    f = eliot_friendly_generator_function(original)
    f.debug = debug  # type: ignore[attr-defined] # a switch of that function
    return inlineCallbacks(f)


class TwistedDestination:
    """Puts messages into Twisted's log, as events with the message under the key ``eliot``.

    Failed actions are errors there, tracebacks are critical; other messages have the level that
    their field ``log_level`` says, by default ``info``. What Twisted does with its log, and
    whether anybody waits for it, is Twisted's: nothing is kept or counted here.

    If observers of Twisted's log log here again, it ends with that: such messages go to the other
    destinations only, and are counted by `eliot_etw.logging_stats`.
    """

    def __init__(self) -> None:
        self._logger = Logger(namespace="eliot")

    def __call__(self, message: MessageDict) -> None:
        """Put a message into Twisted's log."""
        number = level_of(message)
        level = next((level for floor, level in _LEVELS if number >= floor), LogLevel.debug)
        self._logger.emit(level, "Eliot message: {eliot}", eliot=message)


class _Arguments(Protocol):
    """What tells which program was started: the module `sys`."""

    argv: list[str]


class _TrialRedirection:
    """What `redirectLogsForTrial` is: a function that remembers whether it has done its work."""

    def __init__(self, system: _Arguments) -> None:
        self._sys = system
        self._is_done = False
        self._lock = Lock()

    def __call__(self) -> TwistedDestination | None:
        """Put messages into Twisted's log, if tests are being run by Twisted's ``trial``.

        They are in ``_trial_temp/test.log`` then. Otherwise, and from the second call on, nothing
        happens, so that a package may call this whenever it is imported.

        Returns:
            The destination that was added, if one was.
        """
        with self._lock:
            if self._is_done or not _is_trial(self._sys.argv[0]):
                return None
            self._is_done = True
        destination = TwistedDestination()
        add_destinations(destination)
        return destination


def _is_trial(program: str) -> bool:
    """Say whether a program, by its path, is Twisted's ``trial``."""
    path = Path(program)
    return path.name in _TRIALS or path.parts[-3:] == _TRIAL_MODULE


redirectLogsForTrial = _TrialRedirection(sys)
