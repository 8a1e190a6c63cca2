"""Tests of calls by Requests."""

import pytest

pytest.importorskip("requests")

import requests

from eliot_etw import start_action
from eliot_etw._trace_context import parse_traceparent, trace_id_of
from eliot_etw.http import RequestsAdapter
from tests.http._there import calls_in, place_in, there


@pytest.fixture
def session():
    """Return a session whose requests are actions."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", RequestsAdapter(requests.adapters.HTTPAdapter()))
        yield session


def test_redirect(session, messages):
    """Each request on the way is an action, with a place of its own."""
    with there() as (url, seen), start_action(action_type="a"):
        assert session.get(f"{url}/from", timeout=30).status_code == 404
    starts, ends = calls_in(messages)
    assert [start["url"] for start in starts] == [f"{url}/from", f"{url}/to"]
    assert [end["status"] for end in ends] == [302, 404]
    assert [place_in(headers) for headers in seen] == [[2], [3]]
    assert len({headers["traceparent"] for headers in seen}) == 2


def test_redirect_elsewhere(session, messages):
    """Where a redirect leads to another adapter, nothing of ours is sent."""
    with there() as (url, seen):
        session.mount(f"{url}/to", requests.adapters.HTTPAdapter())
        session.get(f"{url}/from", timeout=30)
    first, second = ({"traceparent", "X-Eliot-Task-Id"} & headers.keys() for headers in seen)
    assert (len(first), second) == (2, set())


def test_redirect_alone(session, messages):
    """Outside of any action each request is a task of its own, and names no other."""
    with there() as (url, seen):
        session.get(f"{url}/from", timeout=30)
    tasks = [trace_id_of(start["task_uuid"]) for start in calls_in(messages)[0]]
    assert [parse_traceparent(headers["traceparent"]).trace_id for headers in seen] == tasks


def test_digest(session, messages):
    """A request that is sent again for its authentication is one of its own, too."""
    with there() as (url, seen), start_action(action_type="a"):
        auth = requests.auth.HTTPDigestAuth("me", "secret")
        assert session.get(f"{url}/digest", auth=auth, timeout=30).status_code == 404
    assert [end["status"] for end in calls_in(messages)[1]] == [401, 404]
    assert [place_in(headers) for headers in seen] == [[2], [3]]


def test_alone(session, messages):
    """Outside of any action a call is a task."""
    with there() as (url, seen):
        session.get(url, timeout=30)
    assert messages[0]["task_level"] == [1]
    assert place_in({"X-Eliot-Task-Id": f"{seen[0]['X-Eliot-Task-Id']}"[:36] + "@/1"}) == []


def test_secrets(session, messages):
    """What may be secret in a URL is not logged."""
    with there() as (url, _):
        session.get(url.replace("//", "//me:secret@") + "/a?key=secret#secret", timeout=30)
    assert messages[0]["url"] == f"{url}/a"
    assert "secret" not in str(messages)


def test_type(messages):
    """The actions may have another type."""
    with there() as (url, _), requests.Session() as session:
        session.trust_env = False
        adapter = requests.adapters.HTTPAdapter()
        session.mount(url, RequestsAdapter(adapter, action_type="shop:call"))
        session.get(url, timeout=30)
    assert messages[0]["action_type"] == "shop:call"
