"""A shop in Flask, where each request is a task: what it led to, how it ended, how long it took.

    python examples/flask_app.py
    curl localhost:5000/orders/17
    eliot-etw tree flask_app.log

`LoggedRequests` is what to take along. It is around the whole application, so that a request ends
when the last byte of its answer is made, and what is streamed is logged in it, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Thread
from typing import Any

from flask import Flask, Response, abort, got_request_exception, request

from eliot_etw import Action, log_call, log_message, preserve_context, start_task, to_file

EXCEPTION = "eliot_etw.exception"  # where a request keeps what it failed with


class LoggedRequests:
    """Makes each request a task, with the status of the response; or the exception, if it fails.

    To the client, a failed request is a status 500 that Flask made of the exception. A status 500
    that the application chose is none.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app.wsgi_app
        got_request_exception.connect(self._note_exception, app)

    def _note_exception(self, _app: Flask, exception: BaseException) -> None:
        request.environ[EXCEPTION] = exception

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Handle a request, as WSGI wants it."""
        action = start_task(
            action_type="http:request",
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"],
        )

        def note_status(status: str, *more: Any) -> Any:
            action.add_success_fields(status=int(status[:3]))
            return start_response(status, *more)

        try:
            body = action.run(self._app, environ, note_status)
        except BaseException as error:
            action.finish(error)
            raise
        return LoggedBody(body, action, environ)


class LoggedBody:
    """The body of a response: each part is made in the action, which ends with the last."""

    def __init__(self, body: Iterable[bytes], action: Action, environ: dict[str, Any]) -> None:
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


app = Flask(__name__)
app.wsgi_app = LoggedRequests(app)  # type: ignore[method-assign] # as Flask's documentation has it


@log_call(action_type="shop:find")
def find(number: int) -> float:
    """Return what an order costs."""
    if number > 1000:
        raise LookupError(f"order {number} is lost")
    return number * 1.5


@app.get("/orders/<int:number>")
def order(number: int) -> dict[str, float]:
    """Answer; one order is not there, and some are lost."""
    if number == 404:
        abort(404)
    return {"total": find(number)}


@app.get("/report")
def report() -> Response:
    """Stream an answer, line by line."""
    numbers = request.args.getlist("order", type=int)

    def lines() -> Iterator[str]:
        for number in numbers:
            yield f"{number}: {find(number)}\n"

    return Response(lines(), mimetype="text/plain")


@app.post("/orders")
def add_order() -> tuple[str, int]:
    """Answer at once, and go on in a thread, which logs in the request all the same."""
    Thread(target=preserve_context(pack), args=(request.form["item"],)).start()
    return "", 202


def pack(item: str) -> None:
    """Take a while."""
    time.sleep(0.01)
    log_message("shop:packed", item=item)


if __name__ == "__main__":
    to_file("flask_app.log")
    app.run()
