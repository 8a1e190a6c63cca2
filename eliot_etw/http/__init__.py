"""Tasks that go on in other services: headers in and out, for servers and for clients.

What is here is imported when it is first asked for, and imports no framework: it wraps what is
given to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eliot_etw._late import late_names

if TYPE_CHECKING:
    from eliot_etw.http._headers import continue_from, outgoing_headers
    from eliot_etw.http.aiohttp import aiohttp_client_middleware, aiohttp_middleware
    from eliot_etw.http.asgi import AsgiMiddleware
    from eliot_etw.http.httpx import AsyncHttpxTransport, HttpxTransport
    from eliot_etw.http.requests import RequestsAdapter
    from eliot_etw.http.wsgi import WsgiMiddleware

_MODULES = {
    "AsgiMiddleware": "asgi",
    "AsyncHttpxTransport": "httpx",
    "HttpxTransport": "httpx",
    "RequestsAdapter": "requests",
    "WsgiMiddleware": "wsgi",
    "aiohttp_client_middleware": "aiohttp",
    "aiohttp_middleware": "aiohttp",
    "continue_from": "_headers",
    "outgoing_headers": "_headers",
}

__all__ = [
    "AsgiMiddleware",
    "AsyncHttpxTransport",
    "HttpxTransport",
    "RequestsAdapter",
    "WsgiMiddleware",
    "aiohttp_client_middleware",
    "aiohttp_middleware",
    "continue_from",
    "outgoing_headers",
]

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
