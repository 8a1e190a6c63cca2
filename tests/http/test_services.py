"""Tests of whole systems: clients and services in several processes log one tree."""

import asyncio
import sys
from contextlib import closing

import pytest

from eliot_etw import log_message, start_action
from eliot_etw._trace_context import span_id_of, trace_id_of
from eliot_etw.http import (
    AsyncHttpxTransport,
    HttpxTransport,
    RequestsAdapter,
    aiohttp_client_middleware,
)
from eliot_etw.parse import Parser, WrittenAction

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="a listening socket is inherited by its number"
)

OURS = ["wsgiref", "gunicorn", "uvicorn", "aiohttp"]


def get_requests(*urls):
    """Call with Requests."""
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", RequestsAdapter(requests.adapters.HTTPAdapter()))
        return [session.get(url, timeout=60).status_code for url in urls]


def get_httpx(*urls):
    """Call with HTTPX."""
    httpx = pytest.importorskip("httpx")
    with httpx.Client(transport=HttpxTransport(httpx.HTTPTransport()), timeout=60) as client:
        return [client.get(url).status_code for url in urls]


def get_httpx_async(*urls):
    """Call with HTTPX, all at once."""
    httpx = pytest.importorskip("httpx")

    async def get():
        transport = AsyncHttpxTransport(httpx.AsyncHTTPTransport())
        async with httpx.AsyncClient(transport=transport, timeout=60) as client:
            answers = await asyncio.gather(*map(client.get, urls))
        return [answer.status_code for answer in answers]

    return asyncio.run(get())


def get_aiohttp(*urls):
    """Call with aiohttp, all at once."""
    aiohttp = pytest.importorskip("aiohttp")

    async def get():
        timeout = aiohttp.ClientTimeout(60)
        session = aiohttp.ClientSession(middlewares=[aiohttp_client_middleware], timeout=timeout)

        async def status(url):
            async with session.get(url) as answer:
                await answer.read()
                return answer.status

        async with session:
            return await asyncio.gather(*map(status, urls))

    return asyncio.run(get())


CLIENTS = [get_requests, get_httpx, get_httpx_async, get_aiohttp]


def types_of(action):
    """Say of which types an action is, and what is in it."""
    return {
        action.action_type: [
            types_of(child) if isinstance(child, WrittenAction) else child.contents["message_type"]
            for child in action.children
        ]
    }


def the_tree(*logs):
    """Put logs together; return the only tree, which is complete."""
    logged = sorted((m for log in logs for m in log), key=lambda m: m["timestamp"])
    (task,) = Parser.parse_stream(logged)
    assert task.is_complete()
    return task.root()


def work_of(kind):
    """Say what a service logs of a request."""
    streamed = ["app:streamed"] if kind in ("wsgiref", "gunicorn") else []
    return {"http:request": [{"app:work": ["app:done"]}, *streamed]}


@pytest.mark.parametrize("get", CLIENTS)
@pytest.mark.parametrize("kind", OURS)
def test_one_tree(service, messages, get, kind):
    """Whatever the client and the server: one tree, with each request below its call."""
    there = service(kind)
    with start_action(action_type="app:client"):
        assert get(f"{there.url}/a?secret=1", f"{there.url}/b") == [200, 200]
        log_message("app:over")
    root = the_tree(messages, there.requests(2))
    call = {"http:call": [work_of(kind)]}
    assert types_of(root) == {"app:client": [call, call, "app:over"]}
    for called in root.children[:2]:
        start, end = called.start_message.contents, called.end_message.contents
        assert (start["method"], end["status"]) == ("GET", 200)
        assert start["url"].startswith(f"{there.url}/")
        assert "secret" not in str(called.start_message)
        (request,) = called.children
        start, end = request.start_message.contents, request.end_message.contents
        assert (start["method"], end["status"]) == ("GET", 200)
        assert called.start_message.contents["url"] == there.url + start["path"]


@pytest.mark.parametrize("kind", OURS)
def test_failure(service, messages, kind):
    """What a service fails with is in the tree, below the call that only has a status."""
    there = service(kind)
    with start_action(action_type="app:client"):
        assert get_requests(f"{there.url}/fail") == [500]
    (call,) = the_tree(messages, there.requests()).children
    assert (call.status, call.end_message.contents["status"]) == ("succeeded", 500)
    (request,) = call.children
    assert (request.status, request.reason) == ("failed", "nothing there")


@pytest.mark.parametrize("kind", OURS)
def test_chain(service, messages, kind):
    """What a service calls in turn is below what it did for the request."""
    first, last = service(kind), service("wsgiref")
    with start_action(action_type="app:client"):
        get_requests(f"{first.url}/next?{last.url}/x")
    root = the_tree(messages, first.requests(), last.requests())
    (call,) = root.children
    work = call.children[0].children[0]
    assert types_of(work) == {"app:work": ["app:done", work_of("wsgiref")]}


def test_eliot_in_between(service, messages):
    """A service with Eliot goes on at the place that it was given, and we at the one it gives."""
    peer, last = service("eliot"), service("wsgiref")
    with start_action(action_type="app:client"):
        get_requests(f"{peer.url}/next?{last.url}/x")
    root = the_tree(messages, peer.requests(), last.requests())
    peers = {"peer:request": ["peer:said", work_of("wsgiref")]}
    assert types_of(root) == {"app:client": [{"http:call": [peers]}]}


def test_eliot_calls(service):
    """A client with Eliot, which sends its own header, is in one tree with us."""
    eliot = pytest.importorskip("eliot")
    requests = pytest.importorskip("requests")
    there, logged = service("uvicorn"), []
    eliot.add_destinations(logged.append)
    try:
        with eliot.start_action(action_type="app:client") as action:
            task_id = action.serialize_task_id()
            requests.get(there.url, headers={"X-Eliot-Task-Id": task_id}, timeout=60)
    finally:
        eliot.remove_destination(logged.append)
    root = the_tree(logged, there.requests())
    assert types_of(root) == {"app:client": [work_of("uvicorn")]}
    reader = pytest.importorskip("eliot.parse")
    together = sorted([*logged, *there.requests()], key=lambda m: m["timestamp"])
    assert [task.is_complete() for task in reader.Parser.parse_stream(together)] == [True]


def test_another_tracer_in_between(service, messages):
    """A service that knows `traceparent` alone has our span as its parent, and we have its."""
    peer, last = service("plain"), service("wsgiref")
    with start_action(action_type="app:client"):
        get_requests(f"{peer.url}/next?{last.url}/x")
    root = the_tree(messages, last.requests())
    call, request = root.children
    assert types_of(call) == {"http:call": []}
    assert types_of(request) == work_of("wsgiref")
    (span,) = peer.logged(bool)
    assert span["trace"] == trace_id_of(root.task_uuid)
    assert span["parent"] == span_id_of(root.task_uuid, call.task_level)
    said = request.start_message.contents
    assert said["eliot:traceparent"] == f"00-{span['trace']}-{span['span']}-01"
    assert said["eliot:tracestate"] == "peer=1"


def test_log_of_a_service_alone(service, messages):
    """Without the client's log nothing is missing: the tree of a request is whole."""
    there = service("wsgiref")
    with start_action(action_type="app:client"):
        get_requests(there.url)
    root = the_tree(there.requests())
    assert root.began_elsewhere
    assert the_tree(messages).action_type == "app:client"


def test_nobody_listens(messages):
    """A call that fails has no status, but the exception."""
    requests = pytest.importorskip("requests")
    with start_action(action_type="app:client"), closing(requests.Session()) as session:
        session.trust_env = False
        session.mount("http://", RequestsAdapter(requests.adapters.HTTPAdapter()))
        with pytest.raises(requests.ConnectionError):
            session.get("http://127.0.0.1:9/", timeout=60)
    (call,) = the_tree(messages).children
    assert (call.status, call.exception) == ("failed", "requests.exceptions.ConnectionError")
