"""Messages that repeat themselves folded into one that says how often."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import Any, Final, final

from eliot_etw import _names as names
from eliot_etw._safe import safe_repr
from eliot_etw.destinations._wrapper import Wrapper, as_it_is, finish_at_exit
from eliot_etw.typing import Destination, MessageDict

REPEATED: Final = "eliot:repeated"
"""The field that says what a message stands for."""

# How often, at most, all that is folded is looked at.
_BETWEEN_SWEEPS_S: Final = 1.0
# What exceptions are told apart by, besides the type of the message.
_OF_EXCEPTIONS: Final = (names.EXCEPTION, names.REASON)
_WITH_EXCEPTION: Final = (names.TRACEBACK_TYPE, names.DESTINATION_FAILURE)
# Looked up for each message, and twice as fast here.
_MESSAGE_TYPE: Final = names.MESSAGE_TYPE


class RateLimitedDestination(Wrapper):
    """Passes on so many messages of a kind in an interval, and folds the others into one.

    Messages are of a kind if they have the same type, and the same values in the fields that are
    named; tracebacks and reports of failed destinations, if they have the same exception and
    reason. The last of those that were folded is passed on when the interval is over, in its own
    place in its task, with a field ``eliot:repeated`` that has their number, and the times of the
    first and the last: ``{"times": 12, "first": 1795184815.36, "last": 1795184819.1}``.

    Starts and ends of actions always pass, as do messages without a type: no tree is torn apart,
    but it has gaps where messages were folded.

    That an interval is over is noticed when the next message comes, in `close`, and at the end of
    the program. A process that is killed loses what is folded; a forked child has none of its
    parent's. Memory is bounded by `max_kinds`: beyond, the oldest kind's interval ends early.
    """

    def __init__(
        self,
        inner: Destination,
        *,
        interval_s: float = 10.0,
        burst: int = 1,
        fields: Iterable[str] = (),
        max_kinds: int = 1000,
    ) -> None:
        """Set the limit.

        Args:
            inner: Where messages go.
            interval_s: How long messages of a kind are counted together, from the first on.
            burst: How many of them pass before the others are folded.
            fields: Fields whose values make kinds of messages of one type, such as ``["host"]``.
            max_kinds: How many kinds are told apart at a time.

        Raises:
            TypeError: If `inner` cannot be called, or `fields` is one text.
            ValueError: If `interval_s` is not above 0, or a number is less than 1.
        """
        super().__init__(inner)
        if isinstance(fields, str):
            msg = f"fields must be several texts, got one, {fields!r}. Write [{fields!r}]."
            raise TypeError(msg)
        if not interval_s > 0:
            msg = f"interval_s must be above 0, got {interval_s!r}. Say how many seconds."
            raise ValueError(msg)
        for name, number in (("burst", burst), ("max_kinds", max_kinds)):
            if number < 1:
                msg = f"{name} must be at least 1, got {number!r}. Say how many."
                raise ValueError(msg)
        self._interval_s = interval_s
        self._burst = burst
        self._fields = tuple(fields)
        self._max_kinds = max_kinds
        self._is_over = False
        self._forget()
        finish_at_exit(self)

    def _forget(self) -> None:
        # Threads share these without a lock, which a signal handler could not wait for: each step
        # is one call into C, or a statement within which the interpreter does not change threads.
        self._kinds: dict[Any, _Kind] = {}
        self._sweep_at = monotonic() + _BETWEEN_SWEEPS_S
        self._folded = self._told = 0

    def __call__(self, message: MessageDict) -> None:
        """Pass a message on, or fold it. Raises what the destination inside does."""
        now = monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _BETWEEN_SWEEPS_S
            kinds = self._kinds.copy().items()
            self._take_after([key for key, kind in kinds if now >= kind.until], message)
            return
        # The usual case first; it is not for kinds that need more than the type as their key.
        type_ = message.get(_MESSAGE_TYPE)
        kind = self._kinds.get(type_) if type(type_) is str else None
        if kind is not None and kind.left > 0 and now < kind.until:
            kind.left -= 1
            self._send(message)
        else:
            self._take(message, now)

    def _take(self, message: MessageDict, now: float) -> None:
        """Pass a message on that begins an interval or is never folded; or fold it."""
        type_ = message.get(_MESSAGE_TYPE)
        if type(type_) is not str or names.ACTION_TYPE in message or self._is_over:
            self._send(message)
            return
        key = self._key(message) if self._fields or type_ in _WITH_EXCEPTION else type_
        kind = self._kinds.get(key)
        if kind is None:
            self._begin(key, now, message)
        elif now >= kind.until:
            self._take_after([key], message)
        elif kind.left > 0:
            kind.left -= 1
            self._send(message)
        else:
            self._folded += 1
            kind.fold(message)
            if kind.is_told:  # by another thread, just now
                self._unfold(kind)

    def _key(self, message: MessageDict) -> Any:
        """Return what tells the kinds of messages apart."""
        type_ = message[_MESSAGE_TYPE]
        fields = self._fields + (_OF_EXCEPTIONS if type_ in _WITH_EXCEPTION else ())
        # Of values only the text: they may be anything, and are kept for a while.
        return (type_, *(safe_repr(message.get(field)) for field in fields))

    def _begin(self, key: Any, now: float, message: MessageDict) -> None:
        """Begin an interval with a message; if there are too many, the oldest one ends."""
        kind = _Kind(now + self._interval_s, self._burst - 1)
        if self._kinds.setdefault(key, kind) is not kind:
            self(message)  # another thread was quicker
            return
        if len(self._kinds) <= self._max_kinds:
            self._send(message)
            return
        try:
            self._end(islice(self._kinds.copy(), 1))
        finally:
            self._send(message)

    def _take_after(self, keys: Iterable[Any], message: MessageDict) -> None:
        """End the intervals of some kinds; then take the message, whatever that raised."""
        try:
            self._end(keys)
        finally:
            self(message)

    def _end(self, keys: Iterable[Any]) -> None:
        """End intervals, and tell of what was folded in them.

        Raises:
            Exception: The last that the destination inside raised.
        """
        last_error: Exception | None = None
        for key in keys:
            kind = self._kinds.pop(key, None)
            if kind is not None:
                try:
                    self._unfold(kind)
                except Exception as error:  # noqa: BLE001 - raised below
                    last_error = error
        if last_error is not None:
            raise last_error

    def _unfold(self, kind: _Kind) -> None:
        """Pass on the last message of those that were folded, with their number."""
        message = kind.unfolded()
        if message is not None:
            self._told += 1
            self._send(message)

    def _finish(self, deadline: float) -> None:
        """Tell of all that is folded, and fold nothing from now on."""
        self._is_over = True
        # Nobody is there to be told of a failure, which the destination inside counts.
        with suppress(Exception):
            self._end(list(self._kinds))

    def stats(self) -> dict[str, int]:
        """Count messages, in this process.

        Returns:
            ``folded``: those that were not passed on by themselves; ``told``: those that were
            passed on in the place of such.
        """
        return {"folded": self._folded, "told": self._told}


@final
class _Kind:
    """Messages of one kind in one interval."""

    __slots__ = ("_first", "_last", "_times", "is_told", "left", "until")

    def __init__(self, until: float, left: int) -> None:
        self.until = until
        self.left = left
        self.is_told = False
        self._times = 0
        self._first: Any = None
        self._last: MessageDict = {}

    def fold(self, message: MessageDict) -> None:
        """Count a message, and keep it as long as it is the last."""
        if not self._times:
            self._first = message.get(names.TIMESTAMP)
        self._last = as_it_is(message)
        self._times += 1

    def unfolded(self) -> MessageDict | None:
        """Return the message that stands for those that were folded, if there are any."""
        self.is_told = True
        # The interpreter does not change threads within this line.
        times, self._times = self._times, 0
        last = self._last
        if times <= 1:
            return last if times else None
        about = {"times": times, "first": self._first, "last": last.get(names.TIMESTAMP)}
        return {**last, REPEATED: about}
