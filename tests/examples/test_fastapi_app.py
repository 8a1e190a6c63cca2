"""Tests of the example for FastAPI, with the test client that comes with it."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

from fastapi.testclient import TestClient

from tests.examples._examples import failed, load, started, succeeded, the_request

example = load("fastapi_app")


@pytest.fixture
def client():
    """Return a client that gets a 500 where the program fails, as any other does."""
    return TestClient(example.app, raise_server_exceptions=False)


@pytest.mark.parametrize("path", ["/orders/2", "/threads/2"])
def test_answer(client, messages, path):
    """A request is a task, with the status of the answer at its end; in a thread, too."""
    assert client.get(path).json() == {"total": 3.0}
    assert the_request(messages) == (started(path), succeeded(200), [{"shop:find": []}])


@pytest.mark.parametrize("path", ["/orders/404", "/nowhere"])
def test_answer_that_is_an_error(client, messages, path):
    """What is no exception of the program is no failure."""
    assert client.get(path).status_code == 404
    assert the_request(messages) == (started(path), succeeded(404), [])


@pytest.mark.parametrize("path", ["/orders/1001", "/threads/1001"])
def test_failure(client, messages, path):
    """What is raised is the request's failure; the client gets a 500."""
    assert client.get(path).status_code == 500
    assert the_request(messages) == (started(path), failed(1001), [{"shop:find": []}])


def test_stream(client, messages):
    """What is logged while the answer is streamed is in the request."""
    assert client.get("/report?first=1&last=2").text == "1: 1.5\n2: 3.0\n"
    expected = started("/report"), succeeded(200), [{"shop:find": []}] * 2
    assert the_request(messages) == expected


def test_stream_that_fails(client, messages):
    """A failure in the middle is the request's."""
    client.get("/report?first=1000&last=1003")
    assert the_request(messages)[1:] == (failed(1001), [{"shop:find": []}] * 2)


def test_background(client, messages):
    """What goes on after the answer is in the request, which lasts as long."""
    assert client.post("/orders?item=tea").status_code == 202
    assert the_request(messages)[1:] == (succeeded(202), ["shop:packed"])


def test_server_starts(messages, tmp_path, monkeypatch):
    """The program logs to its file from its start; starting is no request."""
    monkeypatch.chdir(tmp_path)
    with TestClient(example.app) as client:
        client.get("/orders/1")
    assert the_request(messages)[1] == succeeded(200)
    assert len((tmp_path / "fastapi_app.log").read_bytes().splitlines()) == len(messages)


def test_goes_on(client, messages):
    """A request that names a task is part of it."""
    client.get("/orders/2", headers={"X-Eliot-Task-Id": "x@/7"})
    assert (messages[0]["task_uuid"], messages[0]["task_level"]) == ("x", [7, 1])
