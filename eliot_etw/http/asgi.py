"""Requests to an ASGI application as tasks, or as parts of the tasks that they name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias, final

from eliot_etw.http._headers import REQUEST, Trust, checked_trust, continue_request

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
Application: TypeAlias = Callable[[Event, Receive, Send], Awaitable[None]]

WEBSOCKET: Final = "http:websocket"
"""The type of an action that a connection by WebSocket is."""


@final
class AsgiMiddleware:
    """Makes each request to an application an action: a task, or part of one that it names.

    It has the request's method and path, at its end the response's status; or the exception, if
    it fails. It lasts until the application is done with the request, background tasks of the
    framework included. A connection by WebSocket is an action too, which tells how it was closed.
    What is neither is passed through.

    Args:
        app: The application.
        trust: Whether to go on with the task that headers name; or a function of the request's
            scope that says so. See `continue_from`.
        action_type: The type of the actions that are requests.

    Raises:
        TypeError: If `trust` is neither a bool nor a function.
    """

    def __init__(
        self, app: Application, *, trust: Trust = True, action_type: str = REQUEST
    ) -> None:
        self._app = app
        self._trust = checked_trust(trust)
        self._action_type = action_type

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Handle a request, as ASGI wants it."""
        if scope["type"] == "http":
            fields = {"action_type": self._action_type, "method": scope["method"]}
        elif scope["type"] == "websocket":
            fields = {"action_type": WEBSOCKET}
        else:
            await self._app(scope, receive, send)
            return
        fields["path"] = scope["path"]
        with continue_request(scope["headers"], scope, self._trust, fields) as action:

            async def note_sent(event: Event) -> None:
                await send(event)
                kind = event["type"]
                if kind in ("http.response.start", "websocket.http.response.start"):
                    action.add_success_fields(status=event["status"])
                elif kind == "websocket.close":
                    action.add_success_fields(code=event.get("code", 1000))

            async def note_received() -> Event:
                event = await receive()
                if event["type"] == "websocket.disconnect":
                    action.add_success_fields(code=event.get("code", 1005))
                return event

            await self._app(scope, note_received, note_sent)
