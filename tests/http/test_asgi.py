"""Tests of the middleware for ASGI."""

import asyncio

import pytest

from eliot_etw import current_action, log_message
from eliot_etw.http import AsgiMiddleware
from eliot_etw.parse import Parser
from eliot_etw.testing import LoggedAction


def serve(app, scope, events=(), **options):
    """Serve one request or connection, and return what was sent."""
    sent, waiting = [], list(events)

    async def receive():
        return waiting.pop(0)

    async def send(event):
        sent.append(event)

    asyncio.run(AsgiMiddleware(app, **options)(scope, receive, send))
    assert current_action() is None
    return sent


def scope_of(kind="http", headers=(), **more):
    """Make what a server tells of a request."""
    return {"type": kind, "method": "GET", "path": "/a", "headers": [*headers], **more}


async def app(scope, receive, send):
    """Answer."""
    log_message("app:called")
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"1"})
    log_message("app:background")


def the_action(messages, kind="http:request"):
    """Return the only action of a type: its start, its end, the types of what is in it."""
    assert [task.is_complete() for task in Parser.parse_stream(messages)] == [True]
    (action,) = LoggedAction.of_type(messages, kind)
    return action.start_message, action.end_message, action.type_tree()[kind]


def test_request(messages):
    """A request is a task until the application is done with it: method, path, status."""
    sent = serve(app, scope_of())
    assert [event["type"] for event in sent] == ["http.response.start", "http.response.body"]
    start, end, types = the_action(messages)
    assert (start["method"], start["path"], end["status"]) == ("GET", "/a", 201)
    assert types == ["app:called", "app:background"]


def test_goes_on(messages):
    """A request that names a task is part of it."""
    serve(app, scope_of(headers=[(b"accept", b"*/*"), (b"x-eliot-task-id", b"x@/7")]))
    assert {"x"} == {message["task_uuid"] for message in messages}
    assert messages[0]["task_level"] == [7, 1]


@pytest.mark.parametrize("trust", [False, lambda scope: scope["client"][0] != "127.0.0.1"])
def test_untrusted(messages, trust):
    """What is not trusted is not followed; a function sees the scope."""
    headers = [(b"x-eliot-task-id", b"x@/7")]
    serve(app, scope_of(headers=headers, client=["127.0.0.1", 1]), trust=trust)
    expected = {"reason": "untrusted", "task_id": "x@/7"}
    assert messages[0]["eliot:not_continued"] == expected


def test_trust_that_is_none():
    """A mistake is told when the middleware is made."""
    with pytest.raises(TypeError, match="trust must be"):
        AsgiMiddleware(app, trust="yes")


def test_type(messages):
    """The actions may have another type."""
    serve(app, scope_of(), action_type="shop:request")
    assert messages[0]["action_type"] == "shop:request"


def test_failure(messages):
    """A request fails with what the application raises, and the server gets it."""

    async def app(scope, receive, send):
        raise LookupError("gone")

    with pytest.raises(LookupError):
        serve(app, scope_of())
    _, end, _ = the_action(messages)
    assert (end["action_status"], end["reason"]) == ("failed", "gone")


def test_event_that_is_refused(messages):
    """It is the server who complains, and the status that was not sent is not logged."""

    async def send(event):
        raise AssertionError(event)

    async def app(scope, receive, send):
        with pytest.raises(AssertionError, match=r"\{\}"):
            await send({})
        with pytest.raises(AssertionError, match="200"):
            await send({"type": "http.response.start", "status": 200})

    asyncio.run(AsgiMiddleware(app)(scope_of(), None, send))
    assert "status" not in the_action(messages)[1]


def test_cancelled(messages):
    """A request that is cancelled has failed."""

    async def app(scope, receive, send):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        serve(app, scope_of())
    assert the_action(messages)[1]["action_status"] == "failed"


async def echo(scope, receive, send):
    """Accept a connection, answer what comes, and close it when asked to."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        log_message("app:received")
        if event["text"] == "bye":
            await send({"type": "websocket.close", "code": 3000})
            return
        await send({"type": "websocket.send", "text": event["text"]})


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ({"type": "websocket.receive", "text": "bye"}, 3000),
        ({"type": "websocket.disconnect", "code": 1001}, 1001),
        ({"type": "websocket.disconnect"}, 1005),
    ],
)
def test_websocket(messages, last, code):
    """A connection is a task, which says how it was closed, whoever did."""
    hello = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]
    headers = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    sent = serve(echo, scope_of("websocket", headers), [*hello, last])
    assert {"type": "websocket.send", "text": "hi"} in sent
    start, end, types = the_action(messages, "http:websocket")
    assert (start["path"], end["code"]) == ("/a", code)
    assert start["task_uuid"] == "0af76519-16cd-43dd-8448-eb211c80319c"
    assert types[0] == "app:received"


def test_websocket_that_is_refused(messages):
    """An answer in its place has a status; one that is closed at once has the usual code."""

    async def refuse(scope, receive, send):
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})

    async def close(scope, receive, send):
        await send({"type": "websocket.close"})

    serve(refuse, scope_of("websocket"))
    assert messages[-1]["status"] == 403
    serve(close, scope_of("websocket"))
    assert messages[-1]["code"] == 1000


@pytest.mark.parametrize("kind", ["lifespan", "something-new"])
def test_what_is_no_request(messages, kind):
    """Anything else is passed through as it is."""
    seen = []

    async def app(*arguments):
        seen.append(arguments)

    serve(app, {"type": kind})
    assert seen[0][0] == {"type": kind}
    assert messages == []
