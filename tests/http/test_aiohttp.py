"""Tests of servers and clients of aiohttp."""

import asyncio

import pytest

pytest.importorskip("aiohttp")

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from eliot_etw import log_message, start_action
from eliot_etw._trace_context import parse_traceparent, trace_id_of
from eliot_etw.http import aiohttp_client_middleware, aiohttp_middleware
from eliot_etw.testing import LoggedAction
from tests.http._there import calls_in, place_in, there


async def handle(request):
    """Answer, or do not."""
    log_message("app:called")
    if request.path == "/fail":
        raise LookupError("gone")
    if request.path == "/404":
        raise web.HTTPNotFound
    return web.Response(text="1", status=201)


def call(path, headers=(), **options):
    """Send a request to a server, and return the status of the answer."""

    async def get():
        app = web.Application(middlewares=[aiohttp_middleware(**options)])
        app.router.add_get("/{path:.*}", handle)
        async with (
            TestClient(TestServer(app)) as client,
            client.get(path, headers=headers) as answer,
        ):
            return answer.status

    return asyncio.run(get())


class TestServerSide:
    """Requests as tasks."""

    @pytest.mark.parametrize(("path", "status"), [("/a", 201), ("/404", 404)])
    def test_request(self, messages, path, status):
        """A request is a task; an answer that was raised is an answer."""
        assert call(f"{path}?b") == status
        (request,) = LoggedAction.of_type(messages, "http:request")
        start, end = request.start_message, request.end_message
        assert (start["method"], start["path"]) == ("GET", path)
        assert (end["action_status"], end["status"]) == ("succeeded", status)
        assert request.type_tree() == {"http:request": ["app:called"]}

    def test_failure(self, messages):
        """A request fails with what its handler raises."""
        assert call("/fail") == 500
        assert (messages[-1]["action_status"], messages[-1]["reason"]) == ("failed", "gone")

    def test_goes_on(self, messages):
        """A request that names a task is part of it."""
        call("/a", {"X-Eliot-Task-Id": "x@/7"})
        assert [m["task_level"] for m in messages] == [[7, 1], [7, 2], [7, 3]]

    def test_twice(self, messages):
        """A header that is there twice is seen twice."""
        call("/a", [("X-Eliot-Task-Id", "x@/7"), ("X-Eliot-Task-Id", "x@/8")])
        assert messages[0]["eliot:not_continued"]["task_id"] == "x@/7,x@/8"

    @pytest.mark.parametrize("trust", [False, lambda request: request.remote != "127.0.0.1"])
    def test_untrusted(self, messages, trust):
        """What is not trusted is not followed; a function sees the request."""
        call("/a", {"X-Eliot-Task-Id": "x@/7"}, trust=trust, action_type="shop:request")
        expected = {"reason": "untrusted", "task_id": "x@/7"}
        assert messages[0]["eliot:not_continued"] == expected
        assert messages[0]["action_type"] == "shop:request"

    def test_trust_that_is_none(self):
        """A mistake is told when the middleware is made."""
        with pytest.raises(TypeError, match="trust must be"):
            aiohttp_middleware(trust="yes")


def get(url):
    """Call with a client."""

    async def get():
        async with (
            aiohttp.ClientSession(middlewares=[aiohttp_client_middleware]) as session,
            session.get(url) as answer,
        ):
            return answer.status

    return asyncio.run(get())


class TestClientSide:
    """Calls as actions."""

    def test_redirect(self, messages):
        """Each request on the way is an action, with a place of its own."""
        with there() as (url, seen), start_action(action_type="a"):
            assert get(f"{url}/from") == 404
        starts, ends = calls_in(messages)
        assert [start["url"] for start in starts] == [f"{url}/from", f"{url}/to"]
        assert [end["status"] for end in ends] == [302, 404]
        assert [place_in(headers) for headers in seen] == [[2], [3]]

    def test_redirect_alone(self, messages):
        """Outside of any action each request is a task of its own, and names no other."""
        with there() as (url, seen):
            get(f"{url}/from")
        tasks = [trace_id_of(start["task_uuid"]) for start in calls_in(messages)[0]]
        assert [parse_traceparent(headers["traceparent"]).trace_id for headers in seen] == tasks

    def test_failure(self, messages):
        """A call that has no answer fails with the exception, which is passed on."""
        with start_action(action_type="a"), pytest.raises(aiohttp.ClientConnectorError):
            get("http://127.0.0.1:9/")
        assert calls_in(messages)[1][0]["action_status"] == "failed"
