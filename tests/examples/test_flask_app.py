"""Tests of the example for Flask, with Flask's own test client."""

import pytest

pytest.importorskip("flask")

from tests.examples._examples import (
    failed,
    load,
    started,
    succeeded,
    the_request,
    wait_for_threads,
)

example = load("flask_app")


@pytest.fixture
def client():
    """Return Flask's test client."""
    return example.app.test_client()


def test_answer(client, messages):
    """A request is a task, with the status of the answer at its end."""
    assert client.get("/orders/2", buffered=True).json == {"total": 3.0}
    expected = started("/orders/2"), succeeded(200), [{"shop:find": []}]
    assert the_request(messages) == expected


@pytest.mark.parametrize("path", ["/orders/404", "/nowhere"])
def test_answer_that_is_an_error(client, messages, path):
    """What is no exception of the program is no failure."""
    assert client.get(path, buffered=True).status_code == 404
    assert the_request(messages) == (started(path), succeeded(404), [])


def test_failure(client, messages):
    """What a view raises is the request's failure; the client gets a 500."""
    assert client.get("/orders/1001", buffered=True).status_code == 500
    expected = started("/orders/1001"), failed(1001), [{"shop:find": []}]
    assert the_request(messages) == expected


def test_failure_that_is_passed_on(client, messages, monkeypatch):
    """Likewise if Flask leaves the exception to the server."""
    monkeypatch.setitem(example.app.config, "PROPAGATE_EXCEPTIONS", True)
    with pytest.raises(LookupError):
        client.get("/orders/1001")
    assert the_request(messages)[1] == failed(1001)


def test_stream(client, messages):
    """What is logged while the answer is streamed is in the request."""
    response = client.get("/report?order=1&order=2")
    assert response.text == "1: 1.5\n2: 3.0\n"
    response.close()
    expected = started("/report"), succeeded(200), [{"shop:find": []}] * 2
    assert the_request(messages) == expected


def test_stream_that_fails(client, messages):
    """A failure in the middle is the request's."""
    with pytest.raises(LookupError):
        _ = client.get("/report?order=1&order=1001").data
    assert the_request(messages)[1:] == (failed(1001), [{"shop:find": []}] * 2)


def test_stream_that_nobody_reads(client, messages):
    """The request ends when the client goes."""
    client.get("/report?order=1&order=2").close()
    assert the_request(messages)[1] == succeeded(200)


def test_two_streams_at_a_time(client, messages):
    """Each part is logged in its own request."""
    responses = [client.get(f"/report?order={n}&order={n}") for n in (1, 2)]
    for _ in range(2):
        for response in responses:
            next(response.response)
    for response in responses:
        response.close()
    requests = {m["task_uuid"]: [] for m in messages}
    for message in messages:
        if "number" in message:
            requests[message["task_uuid"]].append(message["number"])
    assert list(requests.values()) == [[1, 1], [2, 2]]


def test_background(client, messages):
    """What goes on in a thread is in the request."""
    assert client.post("/orders", data={"item": "tea"}, buffered=True).status_code == 202
    wait_for_threads()
    expected = succeeded(202), [{"eliot:remote_task": ["shop:packed"]}]
    assert the_request(messages)[1:] == expected


def test_goes_on(client, messages):
    """A request that names a task is part of it."""
    client.get("/orders/2", headers={"X-Eliot-Task-Id": "x@/7"}, buffered=True)
    assert (messages[0]["task_uuid"], messages[0]["task_level"]) == ("x", [7, 1])
