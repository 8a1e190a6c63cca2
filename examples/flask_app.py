"""A shop in Flask, where each request is a task: what it led to, how it ended, how long it took.

    python examples/flask_app.py
    curl localhost:5000/orders/17
    eliot-etw tree flask_app.log

The middleware is around the whole application, so that a request ends when the last byte of its
answer is made, and what is streamed is logged in it, too. To the client, a failed request is a
status 500 that Flask made of the exception: `note_exception` is what to take along, so that the
request fails with it. A status 500 that the application chose is no failure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread

from flask import Flask, Response, abort, got_request_exception, request

from eliot_etw import log_call, log_message, preserve_context, to_file
from eliot_etw.http import WsgiMiddleware

app = Flask(__name__)
app.wsgi_app = WsgiMiddleware(app.wsgi_app)  # type: ignore[method-assign] # as Flask's manual says


@got_request_exception.connect_via(app)
def note_exception(_app: Flask, exception: BaseException) -> None:
    """Let a request fail with the exception of which Flask is going to make a response."""
    request.environ["eliot_etw.exception"] = exception


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
