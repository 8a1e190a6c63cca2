"""Requests to a WSGI application as tasks, or as parts of the tasks that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias, final

from eliot_etw._action import Action
from eliot_etw.http._headers import REQUEST, Trust, checked_trust, continue_request

Environ: TypeAlias = dict[str, Any]
Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

EXCEPTION: Final = "eliot_etw.exception"
"""Where in the environment of a request a framework may put the exception that it answered."""

# The headers that name a task, as WSGI spells them.
_NAMES: Final = {
    "HTTP_TRACEPARENT": "traceparent",
    "HTTP_TRACESTATE": "tracestate",
    "HTTP_X_ELIOT_TASK_ID": "x-eliot-task-id",
}


@final
class WsgiMiddleware:
    """Makes each request to an application an action: a task, or part of one that it names.

    It has the request's method and path, at its end the response's status; or the exception, if
    it fails. Each part of the response is made in it, and it ends when the response is closed.

    Many frameworks make a response of an exception, so that it does not come out of the
    application. What they put into ``environ["eliot_etw.exception"]`` is what the action fails
    with.

    Args:
        app: The application.
        trust: Whether to go on with the task that headers name; or a function of the request's
            environment that says so. See `continue_from`.
        action_type: The type of the actions.

    Raises:
        TypeError: If `trust` is neither a bool nor a function.
    """

    def __init__(
        self, app: Application, *, trust: Trust = True, action_type: str = REQUEST
    ) -> None:
        self._app = app
        self._trust = checked_trust(trust)
        self._action_type = action_type

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request, as WSGI wants it."""
        fields = {
            "action_type": self._action_type,
            "method": environ.get("REQUEST_METHOD", ""),
            "path": _path(environ),
        }
        headers = [(_NAMES[key], environ[key]) for key in _NAMES if key in environ]
        action = continue_request(headers, environ, self._trust, fields)

        def note_status(status: str, *more: Any) -> Any:
            write = start_response(status, *more)
            action.add_success_fields(status=_number(status))
            return write

        try:
            body = action.run(self._app, environ, note_status)
            return _Body(body, action, environ)
        except BaseException as error:
            action.finish(error)
            raise


@final
class _Body:
    """The body of a response: each part is made in the action, which ends when it is closed."""

    def __init__(self, body: Iterable[bytes], action: Action, environ: Environ) -> None:
        self._body = body
        self._parts = iter(body)
        self._action = action
        self._environ = environ

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            part: bytes = self._action.run(next, self._parts)
            return part
        except StopIteration:
            raise
        except BaseException as error:
            self._action.finish(error)
            raise

    def close(self) -> None:
        """End the request; servers call this in any case, also if the client has gone."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                self._action.run(close)
        except BaseException as error:
            self._action.finish(error)
            raise
        self._action.finish(self._environ.get(EXCEPTION))


def _path(environ: Environ) -> str:
    """Return the path of a request, of which WSGI gives the bytes as Latin-1."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _number(status: str) -> int | str:
    """Return the number of a status such as ``200 OK``."""
    number = status[:3]
    return int(number) if number.isdecimal() else status
