"""Calls by HTTPX as actions that go on in the service which is called."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, final

from eliot_etw.http._calls import CALL, start_call

if TYPE_CHECKING:
    from httpx import AsyncBaseTransport, BaseTransport, Request, Response
    from typing_extensions import Self  # the type checker brings it along
else:
    # All that a client wants of a transport is what is here.
    BaseTransport = AsyncBaseTransport = object


@final
class HttpxTransport(BaseTransport):
    """Makes each request of a client an action, and sends along where it goes on.

    The action has the request's method and URL, at its end the response's status; or the
    exception, if there is no response. It ends when the response has begun: its body may be read
    later. Each redirect is a request, and an action, of its own.

    Args:
        transport: What sends the requests, such as an `httpx.HTTPTransport`. A client that is
            given a transport asks the environment for no proxy: give it to this one.
        action_type: The type of the actions.
    """

    def __init__(self, transport: BaseTransport, *, action_type: str = CALL) -> None:
        self._transport = transport
        self._action_type = action_type

    def handle_request(self, request: Request) -> Response:
        """Send a request, as the client wants it."""
        sent = _copy(request)
        with start_call(self._action_type, sent.method, sent.url, sent.headers) as action:
            response = self._transport.handle_request(sent)
            action.add_success_fields(status=response.status_code)
            return response

    def close(self) -> None:
        """Close the transport within."""
        self._transport.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(exc_type, exc_value, traceback)


@final
class AsyncHttpxTransport(AsyncBaseTransport):
    """Does for an asynchronous client what `HttpxTransport` does.

    Args:
        transport: What sends the requests, such as an `httpx.AsyncHTTPTransport`.
        action_type: The type of the actions.
    """

    def __init__(self, transport: AsyncBaseTransport, *, action_type: str = CALL) -> None:
        self._transport = transport
        self._action_type = action_type

    async def handle_async_request(self, request: Request) -> Response:
        """Send a request, as the client wants it."""
        sent = _copy(request)
        with start_call(self._action_type, sent.method, sent.url, sent.headers) as action:
            response = await self._transport.handle_async_request(sent)
            action.add_success_fields(status=response.status_code)
            return response

    async def aclose(self) -> None:
        """Close the transport within."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)


def _copy(request: Request) -> Request:
    """Copy a request: redirects begin with its headers, and ours are not for them."""
    return type(request)(
        request.method,
        request.url,
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )
