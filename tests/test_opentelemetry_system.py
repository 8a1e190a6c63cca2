"""Tests of several services, with OpenTelemetry's instrumentation of their libraries: one tree."""

import gzip
import json
import logging
import socket
import subprocess
import sys
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from operator import itemgetter
from pathlib import Path
from threading import Thread, Timer
from types import SimpleNamespace
from urllib.request import ProxyHandler, build_opener

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("opentelemetry.proto")
pytest.importorskip("opentelemetry.instrumentation.fastapi")
pytest.importorskip("opentelemetry.instrumentation.httpx")
pytest.importorskip("opentelemetry.instrumentation.logging")
pytest.importorskip("opentelemetry.instrumentation.requests")
pytest.importorskip("opentelemetry.instrumentation.sqlalchemy")

from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider

from eliot_etw import _names as names
from eliot_etw import add_destinations, log_message
from eliot_etw._trace_context import parse_traceparent, span_id_of, trace_id_of
from eliot_etw.destinations import OtlpDestination
from eliot_etw.opentelemetry import EliotLogRecordProcessor
from eliot_etw.parse import Parser
from eliot_etw.sources import FileSource
from tests._tracing import Tracing, paths, starts

ROOT = Path(__file__).resolve().parents[1]
# Who asks whom.
PAIRS = [
    ("both", "both"),
    ("both", "eliot"),
    ("both", "otel"),
    ("eliot", "both"),
    ("otel", "both"),
]


class Receiver:
    """Takes spans as an OTLP back end does.

    Attributes:
        url: Where to send them.
        spans: What came, each with the name of its service as ``service``.
    """

    def __init__(self):
        receiver = self
        self.spans = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    receiver.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request):
        """Note the spans of a request."""
        for of_resource in request.resource_spans:
            (service,) = (
                attribute.value.string_value
                for attribute in of_resource.resource.attributes
                if attribute.key == "service.name"
            )
            self.spans.extend(
                SimpleNamespace(
                    service=service,
                    name=span.name,
                    kind=span.kind,
                    ids=(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
                )
                for of_scope in of_resource.scope_spans
                for span in of_scope.spans
            )


class Service:
    """A service in a process of its own.

    Attributes:
        url: Where it is.
        log: The file with its messages.
    """

    def __init__(self, name, knows, folder, spans, tree):
        self.log = folder / f"{name}.jsonl"
        settings = {"knows": knows, "log": str(self.log), "spans": spans, "tree": tree}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests._shop", name, json.dumps(settings)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def wait(self):
        """Wait until it is there."""
        giving_up = Timer(120, self._process.kill)
        giving_up.start()
        port = self._process.stdout.readline()
        giving_up.cancel()
        assert port, "the service did not start"
        self.url = f"http://127.0.0.1:{int(port)}"

    def end(self):
        """Have it end, and see that it did so well."""
        self.stop()
        assert self._process.returncode == 0

    def stop(self):
        """Have it end, if it has not."""
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Have each kind of service ask each other kind once, and return what was logged and sent."""
    folder = tmp_path_factory.mktemp("shop")
    theirs, ours = Receiver(), Receiver()
    get = build_opener(ProxyHandler({})).open
    with ExitStack() as stack:
        for receiver in (theirs, ours):
            stack.callback(receiver.server.server_close)
            stack.callback(receiver.server.shutdown)
        services = {}
        for role, knows in sorted(
            {*(("front", f) for f, _ in PAIRS), *(("back", b) for _, b in PAIRS)}
        ):
            service = Service(f"{role} {knows}", knows, folder, theirs.url, ours.url)
            services[role, knows] = service
            stack.callback(service.stop)
        for service in services.values():
            service.wait()
        for front, back in PAIRS:
            order = f"{services['front', front].url}/order?at={services['back', back].url}"
            with get(order, timeout=60) as answer:
                assert {"price": 3, "stock": 7} == json.load(answer)
        for service in services.values():
            service.end()
    messages = {
        role_and_kind: list(FileSource(service.log)) if service.log.exists() else []
        for role_and_kind, service in services.items()
    }
    return System(messages, theirs.spans, ours.spans)


class System:
    """What became of it all.

    Attributes:
        theirs: The spans that OpenTelemetry's exporters have sent.
        ours: Those that our destinations have sent.
    """

    def __init__(self, messages, theirs, ours):
        self._messages = messages
        self.theirs = theirs
        self.ours = ours

    def logged(self, front, back):
        """Return what was logged as one service asked the other: in the first, in the second."""
        logs = self._messages["front", front], self._messages["back", back]
        uuids = [{message["task_uuid"] for message in log} for log in logs if log]
        if "otel" in (front, back):
            traces = {span.ids[0] for span in self.theirs if span.service.endswith(" otel")}
            uuids.append({uuid for uuid in uuids[0] if trace_id_of(uuid) in traces})
        (uuid,) = set.intersection(*uuids)
        return [[message for message in log if message["task_uuid"] == uuid] for log in logs]

    def trace_id(self, front, back):
        """Return the id of the trace that it was."""
        message, *_ = chain(*self.logged(front, back))
        return trace_id_of(message["task_uuid"])

    def span(self, front, back, service, name):
        """Return a span that OpenTelemetry has sent then, by its service and its name."""
        wanted = self.trace_id(front, back), service, name
        (found,) = (s for s in self.theirs if (s.ids[0], s.service, s.name) == wanted)
        return found


def expected_of(name, knows, within):
    """List what a service logs for a request, and return where that is which it calls."""
    if knows == "otel":
        return [], ()
    if knows == "eliot":
        action = (*within, f"shop:{name}")
        return [action], action
    server = (*within, f"GET /{name}")
    sends = [(*server, f"GET /{name} http send")] * 2
    action = (*server, f"shop:{name}")
    call = (*action, "GET") if name == "order" else (*action, "otel:log")
    return [server, *sends, action, (*action, "connect"), (*action, "SELECT"), call], call


@pytest.mark.parametrize(("front", "back"), PAIRS)
class TestOneTree:
    """What services do for one request is one tree, whatever each of them knows."""

    def test_tree(self, system, front, back):
        """All spans, actions and log records are in it, each where it happened."""
        here, there = system.logged(front, back)
        expected, call = expected_of("order", front, ())
        expected += expected_of("stock", back, call)[0]
        assert sorted(expected) == paths([*here, *there])

    def test_complete(self, system, front, back):
        """Nothing is missing in it, and no place is there twice."""
        messages = sorted(chain(*system.logged(front, back)), key=itemgetter("timestamp"))
        (task,) = Parser.parse_stream(messages)
        assert task.is_complete()

    def test_export(self, system, front, back):
        """Each span that OpenTelemetry has sent, our destination has sent with the same ids."""
        trace_id = system.trace_id(front, back)
        theirs, ours = (
            [span for span in spans if span.ids[0] == trace_id]
            for spans in (system.theirs, system.ours)
        )
        of_both = {"front both", "back both"}
        expected = {repr(span) for span in theirs if span.service in of_both}
        assert expected <= {repr(span) for span in ours}
        # And all of it hangs together: there is a span for each parent but that of the first.
        known = {span.ids[1] for span in (*theirs, *ours)}
        if back == "eliot":
            # All that it was told is the place, and not that the action there is a span.
            (call,) = starts(system.logged(front, back)[0], "GET")
            known.add(span_id_of(call["task_uuid"], call["task_level"][:-1]))
        assert [""] == sorted({span.ids[2] for span in (*theirs, *ours)} - known)


class TestPlainPeer:
    """A peer that knows OpenTelemetry alone sees a trace, and we see its."""

    def test_it_is_asked(self, system):
        """Its server span is below our client span."""
        client = system.span("both", "otel", "front both", "GET")
        server = system.span("both", "otel", "back otel", "GET /stock")
        assert client.ids[:2] == (server.ids[0], server.ids[2])

    def test_it_asks(self, system):
        """Our server span, and the action that it is, go on from its client span."""
        client = system.span("otel", "both", "front otel", "GET")
        server = system.span("otel", "both", "back both", "GET /stock")
        assert client.ids[:2] == (server.ids[0], server.ids[2])
        (start,) = starts(system.logged("otel", "both")[1], "GET /stock")
        parent = parse_traceparent(start[names.TRACEPARENT])
        assert client.ids[:2] == (parent.trace_id, parent.parent_id)


class TestNoLoops:
    """What exporters do to send a tree does not become part of it."""

    @pytest.fixture
    def records(self, monkeypatch):
        """Give the root logger handlers of its own."""
        root = logging.getLogger()
        monkeypatch.setattr(root, "handlers", [])
        level = root.level
        root.setLevel(logging.DEBUG)
        yield root
        root.setLevel(level)

    def test_dead_receiver(self, records, messages):
        """Requests, log records and failures of exporters are neither spans nor sent."""
        with socket.create_server(("127.0.0.1", 0)) as dead:
            endpoint = f"http://127.0.0.1:{dead.getsockname()[1]}"
        tracing, logs = Tracing(), LoggerProvider(shutdown_on_exit=False)
        of_logs = EliotLogRecordProcessor()
        logs.add_log_record_processor(of_logs)
        records.addHandler(LoggingHandler(logger_provider=logs))
        otlp = OtlpDestination(endpoint=endpoint, timeout_s=1)
        add_destinations(otlp)
        RequestsInstrumentor().instrument(tracer_provider=tracing.provider)
        try:
            with tracing.tracer.start_as_current_span("span"):
                log_message("hello")
            assert otlp.flush(60)
        finally:
            RequestsInstrumentor().uninstrument()
            otlp.close()
        assert [("span",), ("span", "hello")] == paths(messages)
        assert (3, 0) == (otlp.stats()["failed"], otlp.stats()["delivered"])
        assert of_logs.stats()["suppressed"] > 0
