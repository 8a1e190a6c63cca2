"""Tests of the action that a call is, and of its headers."""

import pytest

from eliot_etw import Action, start_action
from eliot_etw.http._calls import start_call

OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_headers_that_are_there(messages):
    """What is there is kept; what an earlier attempt left is made anew."""
    headers = {"accept": "*/*"}
    with start_action(action_type="a"):
        with start_call("http:call", "GET", "http://x/", headers):
            first = dict(headers)
        with start_call("http:call", "GET", "http://x/", headers) as second:
            pass
    assert headers["accept"] == "*/*"
    assert first["X-Eliot-Task-Id"] != headers["X-Eliot-Task-Id"]
    assert headers["traceparent"] == second.traceparent()


@pytest.mark.parametrize("there", [OTHER, OTHER.encode()])
def test_another_tracer(there):
    """The header of another tracer is left alone, and so is what belongs to it."""
    headers = {"traceparent": there, "tracestate": "other=1"}
    with Action.continue_task(traceparent=OTHER.replace("0af", "1af"), tracestate="a=1"):
        start_call("http:call", "GET", "http://x/", headers).finish()
    assert (headers["traceparent"], headers["tracestate"]) == (there, "other=1")
    assert "X-Eliot-Task-Id" in headers


def test_tracestate():
    """What came in with the task goes on with it."""
    headers = {}
    with Action.continue_task(traceparent=OTHER, tracestate="a=1"):
        start_call("http:call", "GET", "http://x/", headers).finish()
    assert headers["tracestate"] == "a=1"


@pytest.mark.parametrize(
    ("url", "logged"),
    [
        ("http://x/a?b#c", "http://x/a"),
        ("https://me:secret@x:81/a", "https://x:81/a"),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ("http://[1", ""),
        ("", ""),
    ],
)
def test_url(messages, url, logged):
    """A URL is logged without what may be secret; what is none is left out."""
    start_call("http:call", "GET", url, {}).finish()
    assert messages[0]["url"] == logged
