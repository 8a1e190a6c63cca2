"""What destinations around destinations share: what is inside, how they end, and when."""

from __future__ import annotations

import atexit
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from sys import getsizeof
from time import monotonic
from traceback import format_exc
from typing import Any, Final, Protocol, final
from weakref import WeakValueDictionary

from eliot_etw import _names as names
from eliot_etw.typing import Destination, MessageDict

CLOSE_TIMEOUT_S: Final = 5.0
"""How long the end waits for what is held back to be delivered, if nothing else is said."""

# Values that nobody can change.
_PLAIN: Final = frozenset({str, int, float, bool, type(None), bytes})
_CONTAINERS: Final = frozenset({dict, list, tuple, set})
# The fields in which nothing changes once a message is made.
_FRAMEWORKS: Final = names.PLACE_FIELDS | {
    names.ACTION_TYPE,
    names.ACTION_STATUS,
    names.MESSAGE_TYPE,
}
# How many sets of keys are remembered.
_MAX_REMEMBERED: Final = 1000
# How many containers of a message are copied, and so how deep; what is beyond stays as it is.
_MOST_COPIES: Final = 200
# What a message takes besides its texts, about; and how many containers of it are looked into.
_LEAST_BYTES: Final = 500
_MOST_MEASURED: Final = 10_000


class Wrapper(ABC):
    """A destination around another one, which it calls with what it lets pass.

    Attributes:
        inner: What is inside. Counts are each wrapper's own: ask ``wrapper.inner.stats()`` for
            those of what is inside.
        is_leaf: To the dispatcher: whether nothing that is called here logs.
        closes_in_time: To a wrapper around this: `close` may be given a timeout.
    """

    closes_in_time: Final = True

    def __init__(self, inner: Destination) -> None:
        """Take what is inside.

        Raises:
            TypeError: If it cannot be called.
        """
        if not callable(inner):
            msg = (
                f"{type(self).__name__} needs a destination inside, got {inner!r}. "
                "Pass a function of one message, or an instance of a class with __call__."
            )
            raise TypeError(msg)
        self.inner = inner
        self.is_leaf = bool(getattr(inner, "is_leaf", False))
        # A bound method is called some 80 ns faster than an instance of a class.
        self._send: Destination = inner.__call__ if self.is_leaf else inner  # type: ignore[operator] # it is callable

    @abstractmethod
    def __call__(self, message: MessageDict) -> None:
        """Take a message. Raises what the destination inside does."""

    @abstractmethod
    def stats(self) -> dict[str, int]:
        """Count what this wrapper did; what is inside counts for itself."""

    def _finish(self, deadline: float) -> None:  # noqa: B027 - not all hold something back
        """Deliver what is held back, and hold nothing back from now on; may come twice.

        Args:
            deadline: When to be done, on the clock of `time.monotonic`.
        """

    def _forget(self) -> None:  # noqa: B027 - likewise
        """Forget what is held back, in a forked child: it is the parent's to deliver."""

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Deliver what is held back, and close what is inside, if it can be closed.

        May be called twice. What is logged later goes straight to what is inside.

        Args:
            timeout_s: How long it may take in all, for this and all wrappers inside.
        """
        deadline = monotonic() + timeout_s
        self._finish(deadline)
        close: Any = getattr(self.inner, "close", None)
        if getattr(self.inner, "closes_in_time", False):
            close(max(0.0, deadline - monotonic()))
        elif close is not None:
            close()


class Holder(Protocol):
    """A destination that holds messages back."""

    def _finish(self, deadline: float) -> None:
        """Do what `Wrapper._finish` does."""

    def _forget(self) -> None:
        """Do what `Wrapper._forget` does."""


# Those that hold messages back, by a number that tells in which order they were made.
_holding: WeakValueDictionary[int, Holder] = WeakValueDictionary()
_numbers = count()
# Of what multiprocessing does at the end of a process.
_LAST: Final = -100


def finish_at_exit(holder: Holder) -> None:
    """Have a destination deliver what it holds back when the process ends."""
    _holding[next(_numbers)] = holder
    _finish_with_multiprocessing()


@contextmanager
def _each_for_itself() -> Iterator[None]:
    """Tell what one of them raises, and go on: the others are to have their turn."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is
        with suppress(Exception):  # there may be no stderr
            sys.stderr.write(format_exc())


@atexit.register
def _finish_all() -> None:
    """Finish all of them; first those made last, which may have others inside."""
    begin = monotonic()
    for _, holder in sorted(_holding.items(), reverse=True):
        with _each_for_itself():
            # Some may be told how long they have.
            holder._finish(begin + getattr(holder, "exit_timeout_s", CLOSE_TIMEOUT_S))


def _finish_with_multiprocessing() -> None:
    """Have processes of `multiprocessing` finish all of them, which end without `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _finish_all, exitpriority=_LAST)
        # A new process forgets what was to be done at its end; then it does what was to be done
        # after a fork.
        util.register_after_fork(
            _finish_all, lambda _: util.Finalize(None, _finish_all, exitpriority=_LAST)
        )


def _begin_anew() -> None:
    """Make a forked child a process that holds nothing back, and will finish what it does."""
    for holder in list(_holding.values()):
        with _each_for_itself():
            holder._forget()
    _finish_with_multiprocessing()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_anew)


def as_it_is(message: MessageDict) -> MessageDict:
    """Return a message that stays as it is now, whatever the program does with its values.

    Returns:
        The message itself, if all its values are plain; else a copy, with copies of the
        containers in it. Other objects are in it as they are.
    """
    for key in _own_keys[tuple(message)]:
        if type(message[key]) not in _PLAIN:
            copy: MessageDict = _copy(message, {})
            return copy
    return message


def plain_size(message: MessageDict) -> int:
    """Estimate how many bytes of memory a message takes; -1 if not all its values are plain."""
    size = _LEAST_BYTES
    for key in _own_keys[tuple(message)]:
        value = message[key]
        kind = type(value)
        if kind is str or kind is bytes:
            size += len(value)
        elif kind not in _PLAIN:
            return -1
    return size


def size_of(message: MessageDict) -> int:
    """Estimate the same for any message, in bounded time; what it shares counts in each."""
    size, waiting, seen = _LEAST_BYTES, [message], set[int]()
    while waiting and len(seen) < _MOST_MEASURED:
        value: Any = waiting.pop()
        if type(value) in _CONTAINERS:
            if id(value) not in seen:
                seen.add(id(value))
                waiting.extend(value.values() if type(value) is dict else value)
        else:
            with suppress(Exception):  # an object may say anything of itself
                size += getsizeof(value)
    return size


@final
class _OwnKeys(dict[tuple[Any, ...], tuple[Any, ...]]):
    """The keys of the program's own fields in messages that have these keys."""

    def __missing__(self, keys: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        own = self[keys] = tuple(key for key in keys if key not in _FRAMEWORKS)
        return own


_own_keys = _OwnKeys()


def _copy(value: Any, copies: dict[int, Any]) -> Any:
    """Copy a message, and the containers in it; `copies` has those that are copied already."""
    if type(value) in _PLAIN or len(copies) > _MOST_COPIES:
        return value
    known = copies.get(id(value))
    if known is not None:
        return known
    copy: Any = value
    kind = type(value)  # not isinstance(), which asks the value for its class: that may raise
    if issubclass(kind, dict):
        copy = copies[id(value)] = {}
        copy.update((key, _copy(item, copies)) for key, item in list(dict.items(value)))
    elif issubclass(kind, list):
        copy = copies[id(value)] = []
        copy.extend(_copy(item, copies) for item in list.copy(value))
    elif kind is tuple:
        copy = tuple(_copy(item, copies) for item in value)
    elif kind in (set, bytearray):
        copy = value.copy()
    return copy
