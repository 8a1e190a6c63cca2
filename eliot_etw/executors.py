"""The pools of `concurrent.futures`, with calls that log below the action which submitted them.

To use them, change the import. Whatever is submitted without a current action, by `submit` or by
`map`, they treat as their base classes do.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import Any, ParamSpec, TypeVar

from eliot_etw._action import Action
from eliot_etw._context import CURRENT
from eliot_etw._decorators import continue_at

__all__ = ["ProcessPoolExecutor", "ThreadPoolExecutor"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ThreadPoolExecutor(futures.ThreadPoolExecutor):
    """A `concurrent.futures.ThreadPoolExecutor` whose calls log to the action they come from.

    A call runs within the action that was current when it was submitted, and what it logs stands
    directly there, as if it had not been given to a pool. A call that is cancelled leaves no
    trace. The action has to wait for its calls, as by ``result()``: to those who read the log, it
    is complete with its end. For a call that nobody waits for, submit ``preserve_context(f)``.

    No other context variable is taken along.
    """

    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> futures.Future[_T]:
        """Have a function called; see `concurrent.futures.Executor.submit`."""
        action = CURRENT.get()
        if action is None:
            return super().submit(fn, *args, **kwargs)
        return super().submit(action.run, fn, *args, **kwargs)


class ProcessPoolExecutor(futures.ProcessPoolExecutor):
    """A `concurrent.futures.ProcessPoolExecutor` whose calls log to the task they come from.

    A call is an ``eliot:remote_task`` action within the action that was current when it was
    submitted; with `map`, each chunk of calls is. The action may end before its calls do. One
    that is cancelled, or cannot be pickled, is logged as failed.

    The processes need destinations of their own, as from an ``initializer``; those that are
    forked have inherited the parent's. When they start they are in no action.
    """

    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> futures.Future[_T]:
        """Have a function called; see `concurrent.futures.Executor.submit`."""
        action = CURRENT.get()
        if action is None:
            return super().submit(fn, *args, **kwargs)
        call = _RemoteCall(partial(fn, *args, **kwargs), action)
        # This may fork a process, which would go on in our action long after this call.
        token = CURRENT.set(None)
        try:
            future = super().submit(call)
        except BaseException as error:
            call.fail(error)
            raise
        finally:
            CURRENT.reset(token)
        future.add_done_callback(call.check)
        return future


class _RemoteCall:
    """A call that another process is going to make, in a place that is reserved for it."""

    def __init__(self, call: Callable[[], Any], action: Action) -> None:
        self._call = call
        self._place = action.task_uuid, action.next_level()
        self._is_sent = False

    def __call__(self) -> Any:
        with continue_at(*self._place):
            return self._call()

    def __getstate__(self) -> dict[str, Any]:
        # Pickled in this order: when it comes to the last, all the rest could be pickled.
        return {"_call": self._call, "_place": self._place, "_is_sent": _OnceSent(self)}

    def check(self, future: futures.Future[Any]) -> None:
        """Fill the place if the call is over without having been sent."""
        if not self._is_sent:
            cancelled = future.cancelled()
            self.fail(futures.CancelledError() if cancelled else future.exception())

    def fail(self, error: BaseException | None) -> None:
        """Log that the call was not made: an empty place would be taken for a lost message."""
        continue_at(*self._place).finish(error)


class _OnceSent:
    """Stands for `True`, and makes it so when it is pickled."""

    def __init__(self, call: _RemoteCall) -> None:
        self._call = call

    def __reduce__(self) -> tuple[Callable[..., bool], tuple[bool]]:
        self._call._is_sent = True
        return bool, (True,)
