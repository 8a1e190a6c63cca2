"""Tests of the example for Django, with Django's own test clients."""

import asyncio

import pytest

pytest.importorskip("django")

import django
from django.test import AsyncClient, Client

from tests.examples._examples import (
    failed,
    load,
    started,
    succeeded,
    the_request,
    wait_for_threads,
)

example = load("django_app")
django.setup()


@pytest.fixture
def client():
    """Return a client that gets a 500 where the program fails, as any other does."""
    return Client(raise_request_exception=False)


def get_async(path):
    """Send a request to the asynchronous handler, and read all of the answer."""

    async def get():
        response = await AsyncClient(raise_request_exception=False).get(path)
        if not response.streaming:
            return response.status_code, response.content
        try:
            return response.status_code, b"".join([part async for part in response])
        finally:
            response.close()

    return asyncio.run(get())


def get_sync(path):
    """Send a request to the synchronous handler, and read all of the answer."""
    response = Client(raise_request_exception=False).get(path)
    try:
        return response.status_code, b"".join(response)
    finally:
        response.close()


both_handlers = pytest.mark.parametrize("get", [get_sync, get_async])


@both_handlers
@pytest.mark.parametrize("path", ["/orders/2", "/async/orders/2"])
def test_answer(get, messages, path):
    """A request is a task, with the status of the answer at its end; whatever runs in what."""
    assert get(path) == (200, b'{"total": 3.0}')
    assert the_request(messages) == (started(path), succeeded(200), [{"shop:find": []}])


@both_handlers
@pytest.mark.parametrize("path", ["/orders/404", "/nowhere"])
def test_answer_that_is_an_error(get, messages, path):
    """What is no exception of the program is no failure."""
    assert get(path)[0] == 404
    assert the_request(messages)[1] == succeeded(404)


@both_handlers
@pytest.mark.parametrize("path", ["/orders/1001", "/async/orders/1001"])
def test_failure(get, messages, path):
    """What a view raises is the request's failure; the client gets a 500."""
    assert get(path)[0] == 500
    assert the_request(messages) == (started(path), failed(1001), [{"shop:find": []}])


@pytest.mark.parametrize(
    ("get", "path"), [(get_sync, "/report/1/2"), (get_async, "/async/report/1/2")]
)
def test_stream(get, messages, path):
    """What is logged while the answer is streamed is in the request."""
    assert get(path) == (200, b"1: 1.5\n2: 3.0\n")
    assert the_request(messages) == (started(path), succeeded(200), [{"shop:find": []}] * 2)


@pytest.mark.parametrize(
    ("get", "path"), [(get_sync, "/report/1000/1003"), (get_async, "/async/report/1000/1003")]
)
def test_stream_that_fails(get, messages, path):
    """A failure in the middle is the request's."""
    with pytest.raises(LookupError):
        get(path)
    assert the_request(messages)[1:] == (failed(1001), [{"shop:find": []}] * 2)


def test_stream_that_nobody_reads(client, messages):
    """The request ends when the client goes."""
    client.get("/report/1/2").close()
    assert the_request(messages)[1] == succeeded(200)


def test_two_streams_at_a_time(client, messages):
    """Each part is logged in its own request."""
    responses = [client.get(f"/report/{n}/{n + 1}") for n in (1, 5)]
    streams = [iter(response) for response in responses]
    for _ in range(2):
        for stream in streams:
            next(stream)
    for response in responses:
        response.close()
    requests = {m["task_uuid"]: [] for m in messages}
    for message in messages:
        if "number" in message:
            requests[message["task_uuid"]].append(message["number"])
    assert list(requests.values()) == [[1, 2], [5, 6]]


def test_background(client, messages):
    """What goes on in a thread is in the request."""
    assert client.get("/add/tea").status_code == 202
    wait_for_threads()
    assert the_request(messages)[1:] == (
        succeeded(202),
        [{"eliot:remote_task": ["shop:packed"]}],
    )


def test_goes_on(client, messages):
    """A request that names a task is part of it."""
    client.get("/orders/2", headers={"X-Eliot-Task-Id": "x@/7"})
    assert (messages[0]["task_uuid"], messages[0]["task_level"]) == ("x", [7, 1])
