"""What the collector tells about itself over HTTP: whether it is well, and in numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread
from typing import Any, Final, NamedTuple, final

_PREFIX: Final = "eliot_etw_collector_"
_MOST_AT_ONCE: Final = 8
_TIMEOUT_S: Final = 5.0


class Figure(NamedTuple):
    """A number that is told.

    Attributes:
        name: What it counts.
        value: How many.
        labels: Of what: the sink, the input.
        is_gauge: Whether it may fall again.
    """

    name: str
    value: int
    labels: Mapping[str, str] = {}
    is_gauge: bool = False


class Report(NamedTuple):
    """How the collector is.

    Attributes:
        problems: What is wrong now; nothing, if all is well.
        figures: All numbers.
    """

    problems: list[str]
    figures: list[Figure]


def exposition(figures: list[Figure]) -> str:
    """Write numbers as Prometheus reads them.

    Source:
        https://prometheus.io/docs/instrumenting/exposition_formats/, the text format.
    """
    return "".join(line + "\n" for line in _lines(figures))


def _lines(figures: list[Figure]) -> Iterator[str]:
    """Give the lines, those of one name together, as they must be."""
    by_name: dict[str, list[Figure]] = {}
    for figure in figures:
        name = _PREFIX + re.sub(r"\W", "_", figure.name, flags=re.ASCII)
        by_name.setdefault(name if figure.is_gauge else f"{name}_total", []).append(figure)
    for name, group in by_name.items():
        yield f"# TYPE {name} {'gauge' if group[0].is_gauge else 'counter'}"
        for figure in group:
            labels = ",".join(f'{key}="{_escaped(text)}"' for key, text in figure.labels.items())
            yield f"{name}{'{' + labels + '}' if labels else ''} {figure.value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@final
class HttpServer:
    """Answers ``/healthz`` and ``/metrics``, a few questions at a time.

    Args:
        address: Host and port; port 0 for any that is free.
        report: Says how the collector is.

    Raises:
        OSError: If it cannot listen there.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, address: tuple[str, int], report: Callable[[], Report]) -> None:
        try:
            self._server = _Server(address, _handler(report))
        except OSError as error:
            where = ":".join(map(str, address))
            msg = f"cannot listen at {where}: {error.strerror}. Say another host:port, or null"
            raise OSError(error.errno, msg) from error
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment] # of TCP
        thread = Thread(target=self._server.serve_forever, name="eliot_etw http", daemon=True)
        thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@final
class _Server(ThreadingHTTPServer):
    """A server that takes no more than a few questions at a time."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who asked has gone."""


def _handler(report: Callable[[], Report]) -> type[BaseHTTPRequestHandler]:
    """Make what answers."""

    class Handler(BaseHTTPRequestHandler):
        """Answers one question."""

        timeout = _TIMEOUT_S

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                problems = report().problems
                self._say(503 if problems else 200, "\n".join(problems or ["ok"]) + "\n")
            elif path == "/metrics":
                self._say(200, exposition(report().figures))
            else:
                self._say(404, "There are /healthz and /metrics.\n")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _say(self, status: int, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing: it is asked every few seconds."""

    return Handler
