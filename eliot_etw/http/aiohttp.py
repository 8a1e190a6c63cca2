"""Requests to an aiohttp server as tasks, and calls by its client as actions that go on there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from eliot_etw.http._calls import CALL, start_call
from eliot_etw.http._headers import REQUEST, Trust, checked_trust, continue_request

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from aiohttp.web import Request, StreamResponse

    Handler: TypeAlias = Callable[[Request], Awaitable[StreamResponse]]
    Middleware: TypeAlias = Callable[[Request, Handler], Awaitable[StreamResponse]]


def aiohttp_middleware(*, trust: Trust = True, action_type: str = REQUEST) -> Middleware:
    """Make a middleware for `aiohttp.web.Application`: each request is an action.

    It is a task, or part of one that the request names. It has the request's method and path, at
    its end the response's status, that of an `aiohttp.web.HTTPException` too; or the exception,
    if it fails.

    Args:
        trust: Whether to go on with the task that headers name; or a function of the request that
            says so. See `continue_from`.
        action_type: The type of the actions.

    Raises:
        TypeError: If `trust` is neither a bool nor a function.
    """
    from aiohttp import web  # noqa: PLC0415 - who has an application has it

    trust = checked_trust(trust)

    @web.middleware
    async def middleware(request: Request, handler: Handler) -> StreamResponse:
        fields = {"action_type": action_type, "method": request.method, "path": request.path}
        with continue_request(request.headers, request, trust, fields) as action:
            try:
                response = await handler(request)
            except web.HTTPException as answer:
                action.add_success_fields(status=answer.status)
                action.finish()
                raise
            action.add_success_fields(status=response.status)
            return response

    return middleware


async def aiohttp_client_middleware(
    request: ClientRequest, handler: ClientHandlerType
) -> ClientResponse:
    """Make each request of an `aiohttp.ClientSession` an action, and send along where it goes on.

    The action has the request's method and URL, at its end the response's status; or the
    exception, if there is no response. It ends when the response has begun: its body may be read
    later. Each redirect is a request, and an action, of its own.

    Pass it in the session's list ``middlewares``, which aiohttp has since version 3.12.
    """
    with start_call(CALL, request.method, request.url, request.headers) as action:
        response = await handler(request)
        action.add_success_fields(status=response.status)
        return response
