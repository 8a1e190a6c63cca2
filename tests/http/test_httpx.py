"""Tests of calls by HTTPX."""

import asyncio

import pytest

pytest.importorskip("httpx")

import httpx

from eliot_etw import start_action
from eliot_etw._trace_context import parse_traceparent, trace_id_of
from eliot_etw.http import AsyncHttpxTransport, HttpxTransport
from tests.http._there import calls_in, place_in, there


def get(url, **options):
    """Call with a client."""
    transport = HttpxTransport(httpx.HTTPTransport(), **options)
    with httpx.Client(transport=transport, follow_redirects=True, timeout=30) as client:
        return client.get(url).status_code


def get_async(url, **options):
    """Call with an asynchronous client."""

    async def get():
        transport = AsyncHttpxTransport(httpx.AsyncHTTPTransport(), **options)
        async with httpx.AsyncClient(
            transport=transport, follow_redirects=True, timeout=30
        ) as client:
            return (await client.get(url)).status_code

    return asyncio.run(get())


both = pytest.mark.parametrize("get", [get, get_async])


@both
def test_redirect(get, messages):
    """Each request on the way is an action, with a place of its own."""
    with there() as (url, seen), start_action(action_type="a"):
        assert get(f"{url}/from") == 404
    starts, ends = calls_in(messages)
    assert [start["url"] for start in starts] == [f"{url}/from", f"{url}/to"]
    assert [end["status"] for end in ends] == [302, 404]
    seen = [{"X-Eliot-Task-Id": headers["X-Eliot-Task-Id"]} for headers in seen]
    assert [place_in(headers) for headers in seen] == [[2], [3]]


@both
def test_redirect_alone(get, messages):
    """Outside of any action each request is a task of its own, and names no other."""
    with there() as (url, seen):
        get(f"{url}/from")
    tasks = [trace_id_of(start["task_uuid"]) for start in calls_in(messages)[0]]
    assert [parse_traceparent(headers["traceparent"]).trace_id for headers in seen] == tasks


def test_request_stays():
    """What is sent along is no part of the request, with which a redirect elsewhere begins."""
    body = [b"1", b"2"]
    request = httpx.Request("PUT", "http://127.0.0.1/a", content=iter(body), headers={"a": "b"})
    before = request.headers.copy()

    def answer(sent):
        assert (sent.method, sent.url, sent.read()) == ("PUT", request.url, b"12")
        assert set(sent.headers) - set(before) == {"traceparent", "x-eliot-task-id"}
        return httpx.Response(200)

    with httpx.Client(transport=HttpxTransport(httpx.MockTransport(answer))) as client:
        assert client.send(request).request is request
    assert request.headers == before


@both
def test_failure(get, messages):
    """A call that has no answer fails with the exception, which is passed on."""
    with start_action(action_type="a"), pytest.raises(httpx.ConnectError):
        get("http://127.0.0.1:9/")
    (end,) = calls_in(messages)[1]
    assert (end["action_status"], end["exception"]) == ("failed", "httpx.ConnectError")


@both
def test_type(get, messages):
    """The actions may have another type."""
    with there() as (url, _):
        get(url, action_type="shop:call")
    assert messages[0]["action_type"] == "shop:call"


def test_closed_by_itself():
    """A client that is closed outside of a block closes the transport within."""
    closed = []

    class Inner(httpx.HTTPTransport):
        def close(self):
            closed.append("sync")
            super().close()

    class AsyncInner(httpx.AsyncHTTPTransport):
        async def aclose(self):
            closed.append("async")
            await super().aclose()

    httpx.Client(transport=HttpxTransport(Inner())).close()
    asyncio.run(httpx.AsyncClient(transport=AsyncHttpxTransport(AsyncInner())).aclose())
    assert closed == ["sync", "async"]
