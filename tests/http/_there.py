"""A server in a thread that keeps the headers which the tests of clients send it."""

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Handler(BaseHTTPRequestHandler):
    """Answers any request; ``/from`` leads to ``/to``, and ``/digest`` wants a name."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Keep the headers and answer."""
        self.server.seen.append(dict(self.headers.items()))
        if self.path == "/digest" and "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Digest realm="there", nonce="1", qop="auth"')
        else:
            self.send_response(302 if self.path == "/from" else 404)
            self.send_header("Location", "/to")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        """Say nothing on standard error."""


@contextmanager
def there():
    """Serve; give the URL, and the headers of what came."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.seen
        finally:
            server.shutdown()
            thread.join()


def calls_in(messages):
    """Return the starts and the ends of the calls."""
    calls = [m for m in messages if m.get("action_type") == "http:call"]
    starts = [m for m in calls if m["action_status"] == "started"]
    return starts, [m for m in calls if m["action_status"] != "started"]


def place_in(headers):
    """Return the action in which a request goes on, by its level."""
    return [int(n) for n in headers["X-Eliot-Task-Id"].split("@/")[1].split("/")[:-1]]
