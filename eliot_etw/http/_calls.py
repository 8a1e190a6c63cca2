"""Calls of other services: each an action of its own, in which the headers for it are made."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from eliot_etw._action import Action, start_action
from eliot_etw._names import HTTP_CALL
from eliot_etw._trace_context import trace_id_of
from eliot_etw.http._headers import outgoing_headers

CALL: Final = HTTP_CALL
"""The type of an action that a client's wrapper makes of a call."""


def start_call(
    action_type: str, method: object, url: object, headers: MutableMapping[str, Any]
) -> Action:
    """Start the action of a call, and put into its headers where the other service goes on.

    Args:
        action_type: The action's type.
        method: Such as ``GET``.
        url: Where to; logged without user, password, query and fragment, which may hold secrets.
        headers: The headers that are going to be sent this once; ours are added.
    """
    action = start_action(action_type=action_type, method=str(method), url=_plain(str(url)))
    fresh = outgoing_headers(action)
    there = headers.get("traceparent")
    if there and trace_id_of(action.task_uuid) not in str(there):
        # Another tracer is at work: its traces must not break.
        fresh.pop("traceparent")
        fresh.pop("tracestate", None)
    headers.update(fresh)
    return action


def _plain(url: str) -> str:
    """Leave out of a URL what may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
