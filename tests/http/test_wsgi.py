"""Tests of the middleware for WSGI, under the standard library's checks of the protocol."""

from io import BytesIO
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from eliot_etw import current_action, log_message
from eliot_etw.http import WsgiMiddleware
from eliot_etw.parse import Parser
from eliot_etw.testing import LoggedAction


def app(environ, start_response):
    """Answer with two parts."""
    log_message("app:called")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return parts()


def parts():
    """Make two parts, each of which logs something."""
    for part in (b"1", b"2"):
        log_message("app:part")
        yield part


def environ_of(path="/a", **more):
    """Make the environment of a request."""
    environ = {
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "wsgi.input": BytesIO(),
        **more,
    }
    setup_testing_defaults(environ)
    return environ


def call(app, environ=None, read=True, **options):
    """Send a request and read the answer, as a server does."""
    statuses = []

    def start_response(status, headers, exc_info=None):
        statuses.append(status)
        return lambda _part: None

    wrapped = validator(WsgiMiddleware(validator(app), **options))
    body = wrapped(environ or environ_of(), start_response)
    try:
        return statuses, b"".join(body) if read else next(iter(body))
    finally:
        body.close()
        assert current_action() is None


def the_request(messages):
    """Return the only request: its start, its end, the types of what is in it."""
    assert [task.is_complete() for task in Parser.parse_stream(messages)] == [True]
    (request,) = LoggedAction.of_type(messages, "http:request")
    return request.start_message, request.end_message, request.type_tree()["http:request"]


def test_request(messages):
    """A request is a task: method, path, status, and all that its answer is made of."""
    assert call(app) == (["200 OK"], b"12")
    start, end, types = the_request(messages)
    assert (start["method"], start["path"], end["status"]) == ("GET", "/a", 200)
    assert types == ["app:called", "app:part", "app:part"]


def test_goes_on(messages):
    """A request that names a task is part of it."""
    call(app, environ_of(HTTP_X_ELIOT_TASK_ID="x@/7"))
    assert {"x"} == {message["task_uuid"] for message in messages}
    assert messages[0]["task_level"] == [7, 1]


@pytest.mark.parametrize("trust", [False, lambda environ: environ["REMOTE_ADDR"] != "127.0.0.1"])
def test_untrusted(messages, trust):
    """What is not trusted is not followed; a function sees the environment."""
    environ = environ_of(HTTP_X_ELIOT_TASK_ID="x@/7", REMOTE_ADDR="127.0.0.1")
    call(app, environ, trust=trust)
    expected = {"reason": "untrusted", "task_id": "x@/7"}
    assert messages[0]["eliot:not_continued"] == expected


def test_trust_that_is_none():
    """A mistake is told when the middleware is made."""
    with pytest.raises(TypeError, match="trust must be"):
        WsgiMiddleware(app, trust="yes")


def test_type(messages):
    """The actions may have another type."""
    call(app, action_type="shop:request")
    assert messages[0]["action_type"] == "shop:request"


def test_path(messages):
    """The path is the whole of it, as the client sent it."""
    path = "/grün".encode().decode("latin-1")
    call(app, environ_of(path, SCRIPT_NAME="/shop"))
    assert messages[0]["path"] == "/shop/grün"


def test_client_that_goes(messages):
    """A request ends when the server closes it, also if not all is read."""
    assert call(app, read=False)[1] == b"1"
    assert the_request(messages)[2] == ["app:called", "app:part"]


def test_closing_is_part_of_it(messages):
    """What the application does at the end is in the request."""

    class Body:
        def __iter__(self):
            return iter([b"1"])

        def close(self):
            log_message("app:closed")

    def app(environ, start_response):
        start_response("204 No Content", [])
        return Body()

    statuses = []
    body = WsgiMiddleware(app)(environ_of(), lambda *arguments: statuses.append(arguments))
    assert [*body] == [b"1"]
    body.close()
    assert the_request(messages)[2] == ["app:closed"]


def failing(where):
    """Make an application that fails at some point."""

    class Body:
        def __iter__(self):
            if where == "iter":
                raise LookupError(where)
            yield b"1"
            if where == "part":
                raise LookupError(where)

        def close(self):
            if where == "close":
                raise LookupError(where)

    def app(environ, start_response):
        if where == "call":
            raise LookupError(where)
        start_response("200 OK", [])
        return Body()

    return app


@pytest.mark.parametrize("where", ["call", "iter", "part", "close"])
def test_failure(messages, where):
    """Wherever it fails, the request fails with it, and the server gets the exception."""

    def serve():
        body = WsgiMiddleware(failing(where))(environ_of(), lambda *_arguments: None)
        try:
            list(body)
        finally:
            body.close()

    with pytest.raises(LookupError):
        serve()
    _, end, _ = the_request(messages)
    assert (end["action_status"], end["reason"]) == ("failed", where)


def test_failure_that_was_answered(messages):
    """What a framework makes a response of, and notes, is what the request fails with."""

    def app(environ, start_response):
        environ["eliot_etw.exception"] = LookupError("gone")
        start_response("500 Oops", [("Content-Type", "text/plain")])
        return [b"oops"]

    assert call(app) == (["500 Oops"], b"oops")
    _, end, _ = the_request(messages)
    assert (end["action_status"], end["reason"]) == ("failed", "gone")


def test_second_thoughts(messages):
    """The status is the one that was started last."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            raise LookupError
        except LookupError as error:
            oops = (type(error), error, error.__traceback__)
            start_response("500 Oops", [("Content-Type", "text/plain")], oops)
        return [b"oops"]

    assert call(app)[0] == ["200 OK", "500 Oops"]
    assert the_request(messages)[1]["status"] == 500


def test_status_that_is_none(messages):
    """Nonsense is logged, and left to the server to complain about."""

    def app(environ, start_response):
        start_response("fine", [])
        return []

    WsgiMiddleware(app)(environ_of(), lambda *_arguments: None).close()
    assert the_request(messages)[1]["status"] == "fine"


def test_status_that_is_refused(messages):
    """It is the server who complains, and the status that was not sent is not logged."""

    def start_response(status, headers):
        raise AssertionError(status)

    def app(environ, start_response):
        with pytest.raises(AssertionError, match="None"):
            start_response(None, [])
        return []

    WsgiMiddleware(app)(environ_of(), start_response).close()
    assert "status" not in the_request(messages)[1]


def test_within_itself(messages):
    """Of two in a row, the inner one is an action within the outer one."""
    call(WsgiMiddleware(app), environ_of(HTTP_X_ELIOT_TASK_ID="x@/7"))
    starts = [m["task_level"] for m in messages if m.get("action_status") == "started"]
    assert starts == [[7, 1], [7, 2, 1]]


def test_two_at_a_time(messages):
    """Each part of an answer is logged in its own request."""
    wrapped = WsgiMiddleware(app)
    bodies = [wrapped(environ_of(), lambda *_arguments: None) for _ in range(2)]
    for one, other in zip(*bodies, strict=True):
        assert one == other
    for body in bodies:
        body.close()
    counts = {}
    for message in messages:
        counts[message["task_uuid"]] = counts.get(message["task_uuid"], 0) + 1
    assert list(counts.values()) == [5, 5]
