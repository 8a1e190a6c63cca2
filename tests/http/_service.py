"""A service as a program of its own: what the tests of clients and servers call over loopback.

    python _service.py KIND LOG FD

It listens on the socket FD that it inherits. ``/`` answers from an action of its own; ``/fail``
raises; ``/next?URL`` calls that URL first, and sends along what this kind of service knows.
"""

import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from urllib.request import Request, urlopen
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


def fetch(url, headers):
    """Call another service."""
    with urlopen(Request(url, headers=headers), timeout=30) as answer:
        answer.read()


def work(path, query):
    """Do what a path asks for, and return the answer."""
    from eliot_etw import log_message, start_action
    from eliot_etw.http import outgoing_headers

    with start_action(action_type="app:work"):
        if path == "/fail":
            raise LookupError("nothing there")
        if path == "/next":
            fetch(query, outgoing_headers())
        log_message("app:done")
    return b"done"


def wsgi_app(environ, start_response):
    """Answer as a WSGI application, in two parts."""
    answer = work(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain")])

    def parts():
        from eliot_etw import log_message

        yield answer
        log_message("app:streamed")
        yield b"."

    return parts()


async def asgi_app(scope, receive, send):
    """Answer as an ASGI application."""
    import asyncio

    assert scope["type"] == "http"
    answer = await asyncio.to_thread(work, scope["path"], scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})


def run_wsgiref(listener):
    """Serve with the standard library's server."""
    from eliot_etw.http import WsgiMiddleware

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments):
            pass

    server = WSGIServer(listener.getsockname(), Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_name, server.server_port = "localhost", listener.getsockname()[1]
    server.setup_environ()
    server.set_app(WsgiMiddleware(wsgi_app))
    server.serve_forever()


def run_gunicorn(listener):
    """Serve with a server that forks."""
    from gunicorn.app.base import BaseApplication

    from eliot_etw.http import WsgiMiddleware

    class Program(BaseApplication):
        def load_config(self):
            self.cfg.set("bind", f"fd://{listener.fileno()}")
            self.cfg.set("workers", 2)
            self.cfg.set("loglevel", "error")
            if "control_socket_disable" in self.cfg.settings:
                self.cfg.set("control_socket_disable", True)

        def load(self):
            return WsgiMiddleware(wsgi_app)

    Program().run()


def run_uvicorn(listener):
    """Serve with an ASGI server."""
    import uvicorn

    from eliot_etw.http import AsgiMiddleware

    config = uvicorn.Config(
        AsgiMiddleware(asgi_app), fd=listener.fileno(), log_level="error", lifespan="off"
    )
    uvicorn.Server(config).run()


def run_aiohttp(listener):
    """Serve with aiohttp."""
    import asyncio

    from aiohttp import web

    from eliot_etw.http import aiohttp_middleware

    async def handle(request):
        answer = await asyncio.to_thread(work, request.path, request.query_string)
        return web.Response(body=answer)

    app = web.Application(middlewares=[aiohttp_middleware()])
    app.router.add_get("/{path:.*}", handle)
    web.run_app(app, sock=listener, print=None)


class Peer(BaseHTTPRequestHandler):
    """Answers a request by what a peer of ours does with its headers."""

    def answer(self, headers):
        """Call the next service, if asked to, and answer."""
        path, _, query = self.path.partition("?")
        if path == "/next":
            fetch(query, headers)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        """Say nothing on standard error."""


class EliotPeer(Peer):
    """A service with Eliot 1.18, which knows its own header and no other."""

    def do_GET(self):
        """Answer in an action, and call the next service in it."""
        import eliot

        task_id = self.headers["X-Eliot-Task-Id"]
        with eliot.Action.continue_task(task_id=task_id, action_type="peer:request") as action:
            eliot.log_message("peer:said")
            self.answer({"X-Eliot-Task-Id": action.serialize_task_id().decode()})


class PlainPeer(Peer):
    """A service with some other tracer, which knows `traceparent` and `tracestate` alone."""

    def do_GET(self):
        """Answer, and call the next service as a child of the span that it has made."""
        _, trace, parent, flags = self.headers["traceparent"].split("-")
        span = os.urandom(8).hex()
        with open(sys.argv[2], "a") as log:
            log.write(json.dumps({"trace": trace, "parent": parent, "span": span}) + "\n")
        self.answer({"traceparent": f"00-{trace}-{span}-{flags}", "tracestate": "peer=1"})


def run_peer(listener, peer):
    """Serve with the standard library's server."""
    server = TCPServer(listener.getsockname(), peer, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


def main():
    """Be the service that the command line names."""
    kind, log, fd = sys.argv[1:]
    listener = socket.socket(fileno=int(fd))
    if kind == "eliot":
        import eliot

        with open(log, "ab") as file:
            eliot.to_file(file)
            run_peer(listener, EliotPeer)
    elif kind == "plain":
        run_peer(listener, PlainPeer)
    else:
        from eliot_etw import to_file

        to_file(log)
        globals()[f"run_{kind}"](listener)


if __name__ == "__main__":
    main()
