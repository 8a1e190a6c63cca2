"""A receiver of OTLP for tests, over HTTP or gRPC; of OpenTelemetry it has the protocol alone."""

import gzip
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eliot_etw.otlp._model import Event, Link, Log, Span

# What it may do instead of taking a request, besides an HTTP status.
HANG = "hang"
CLOSE = "close"
OK = 200

# Where there is no OpenTelemetry, tests that need it are skipped.
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
_protocol = "opentelemetry.proto.collector"
_traces = pytest.importorskip(f"{_protocol}.trace.v1.trace_service_pb2")
_logs_ = pytest.importorskip(f"{_protocol}.logs.v1.logs_service_pb2")
_TYPES = {
    "traces": (_traces.ExportTraceServiceRequest, _traces.ExportTraceServiceResponse),
    "logs": (_logs_.ExportLogsServiceRequest, _logs_.ExportLogsServiceResponse),
}


class Receiver:
    """What was received, and how the next requests are answered.

    Attributes:
        url: Where it listens.
        items: The spans and log records that it took, as values of ours.
        headers: Those of each request, by names in lower case.
        answers: What it answers to the next requests; then `answer`.
    """

    def __init__(self):
        self.url = ""
        self.items = []
        self.headers = []
        self.answers = deque()
        self.answer = OK
        self.is_gone = False
        self.goes_on = threading.Event()

    def next_answer(self):
        """Return how to answer a request; wait first if that is what to do."""
        answer = self.answers.popleft() if self.answers else self.answer
        if answer == HANG:
            self.goes_on.wait(60)
            return OK
        return answer

    def take(self, signal, body):
        """Take the body of a request."""
        request = _TYPES[signal][0]()
        request.ParseFromString(body)
        self.items += _spans(request) if signal == "traces" else _logs(request)

    @property
    def spans(self):
        """The spans that it took."""
        return [item for item in self.items if isinstance(item, Span)]

    @property
    def logs(self):
        """The log records that it took."""
        return [item for item in self.items if isinstance(item, Log)]


@contextmanager
def http_receiver(port=0):
    """Run a receiver that speaks HTTP."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.headers.append({name.lower(): text for name, text in self.headers.items()})
            answer = receiver.next_answer()
            if answer == CLOSE or receiver.is_gone:
                self.close_connection = True
                return
            if answer == OK:
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                receiver.take(self.path.rpartition("/v1/")[2], body)
            try:
                self.send_response(answer)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # nobody waits for it any more

        def log_message(self, *_):
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.is_gone = True
        receiver.goes_on.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def grpc_receiver():
    """Run a receiver that speaks gRPC."""
    grpc = pytest.importorskip("grpc")

    receiver = Receiver()

    def handler(signal):
        def export(body, context):
            receiver.headers.append(dict(context.invocation_metadata()))
            if receiver.next_answer() != OK:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            receiver.take(signal, body)
            return _TYPES[signal][1]().SerializeToString()

        return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.server(ThreadPoolExecutor(2))
    for signal, service in (("traces", "trace.v1.TraceService"), ("logs", "logs.v1.LogsService")):
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    f"opentelemetry.proto.collector.{service}", {"Export": handler(signal)}
                )
            ]
        )
    port = server.add_insecure_port("127.0.0.1:0")
    receiver.url = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield receiver
    finally:
        receiver.goes_on.set()
        server.stop(0).wait(10)


# ---- what the protocol says, as values of ours -------------------------------------------------


def _value(value):
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)


def _attributes(pairs):
    return {pair.key: _value(pair.value) for pair in pairs}


def _spans(request):
    for group in request.resource_spans:
        for part in group.scope_spans:
            for span in part.spans:
                yield Span(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex() or None,
                    name=span.name,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    kind=span.kind,
                    attributes=_attributes(span.attributes),
                    events=[
                        Event(event.name, event.time_unix_nano, _attributes(event.attributes))
                        for event in span.events
                    ],
                    links=[
                        Link(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
                        for link in span.links
                    ],
                    status_code=span.status.code,
                    status_message=span.status.message,
                    trace_state=span.trace_state,
                    flags=span.flags,
                    scope=part.scope.name,
                    resource=_attributes(group.resource.attributes),
                )


def _logs(request):
    for group in request.resource_logs:
        for part in group.scope_logs:
            for log in part.log_records:
                yield Log(
                    time_ns=log.time_unix_nano,
                    severity_number=log.severity_number,
                    severity_text=log.severity_text,
                    body=_value(log.body),
                    attributes=_attributes(log.attributes),
                    trace_id=log.trace_id.hex() or None,
                    span_id=log.span_id.hex() or None,
                    event_name=log.event_name,
                    scope=part.scope.name,
                    resource=_attributes(group.resource.attributes),
                )
