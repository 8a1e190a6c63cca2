"""Tests of what a receiver of OTLP gets, over HTTP and gRPC, and what happens if it is ill."""

import io
import logging
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import pytest
from hypothesis import given, settings

from eliot_etw import (
    Action,
    add_destinations,
    configure,
    log_message,
    remove_destination,
    start_action,
    write_traceback,
)
from eliot_etw._json import decode_line
from eliot_etw.destinations import FileDestination, OtlpDestination
from eliot_etw.exceptions import MissingDependency
from eliot_etw.otlp._spans_of import messages_in
from eliot_etw.parse import Parser
from eliot_etw.sources import FileSource
from eliot_etw.stdlib import EliotHandler
from tests._otlp_receiver import CLOSE, HANG, grpc_receiver, http_receiver
from tests._programs import run_forking
from tests.otlp._trees import hostile_logs, messages_of, spans_of
from tests.test_hostile_values import HOSTILE
from tests.test_parse import is_permutation, logs

ROOT = Path(__file__).resolve().parents[2]
UUID = "5b1f5a3e-3c0b-4a8e-9f0d-2f6c1f1d7a10"
PLACE = {"task_uuid": "u", "task_level": [1], "timestamp": 1.5}
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Have nothing of OpenTelemetry in the environment, and the SDK wait no longer than needed."""
    for name in os.environ.keys() - ENVIRONMENT.keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "50")


@pytest.fixture
def receiver():
    """Return a receiver that speaks HTTP."""
    with http_receiver() as receiver:
        yield receiver


@contextmanager
def sending(receiver, **options):
    """Have what is logged go to a receiver, and all of it be there after the block."""
    destination = OtlpDestination(endpoint=receiver.url, **options)
    add_destinations(destination)
    try:
        yield destination
    finally:
        remove_destination(destination)
        destination.close(60)


def settled(stats):
    """Count all that something became of."""
    return stats["delivered"] + stats["failed"] + stats["dropped"] + stats["dropped_as_reentrant"]


def fail():
    """Log a traceback, and fail."""
    try:
        raise OSError(5, "no disk")
    except OSError:
        write_traceback()
        raise


def wait_until(is_so):
    """Wait until something is so."""
    deadline = monotonic() + 30
    while not is_so():
        assert monotonic() < deadline
        sleep(0.005)


def roots(messages):
    """Return the trees of messages."""
    trees = {task.task_uuid: task.root() for task in Parser.parse_stream(messages)}
    return [trees[name] for name in sorted(trees)]


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks at threads as Linux does")


class TestReadBack:
    """The tree that is rebuilt from what a receiver got is the one that the file has."""

    def check(self, log, receiver, **options):
        """Log to a receiver and to a file, and compare."""
        receiver.items.clear()
        file = io.BytesIO()
        destination = OtlpDestination(endpoint=receiver.url, **options)
        for message in log:
            destination(message)
            FileDestination(file)(message)
        destination.close(60)
        written = [decode_line(line) for line in file.getvalue().splitlines()]
        assert is_permutation(written, messages_of(receiver.items))
        assert {**destination.stats(), "unfinished": 0} == {
            "queued": 0,
            "delivered": len(log),
            "failed": 0,
            "dropped": 0,
            "dropped_as_reentrant": 0,
            "unfinished": 0,
        }
        return written

    @pytest.mark.parametrize("messages", ["events", "logs", "spans"])
    def test_trees(self, messages):
        """Whatever trees are logged, over HTTP."""
        with http_receiver() as receiver:

            @given(logs())
            @settings(max_examples=20)
            def check(log):
                written = self.check(log, receiver, messages=messages)
                assert roots(written) == roots(messages_of(receiver.items))

            check()

    def test_trees_by_grpc(self):
        """Whatever trees are logged, over gRPC."""
        with grpc_receiver() as receiver:

            @given(logs())
            @settings(max_examples=10)
            def check(log):
                written = self.check(log, receiver, protocol="grpc")
                assert roots(written) == roots(messages_of(receiver.items))

            check()

    def test_any_messages(self):
        """Whatever messages are logged, whether they make sense or not."""
        with http_receiver() as receiver:

            @given(hostile_logs)
            @settings(max_examples=30)
            def check(log):
                self.check(log, receiver)

            check()

    # What is queued has copies of sets, in which the order may be another one.
    @pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"set"}))
    def test_any_values(self, receiver, name):
        """Whatever values are logged."""
        value = HOSTILE[name]()
        start = {**PLACE, "task_uuid": "v", "action_type": "a", "action_status": "started"}
        log = [
            {"message_type": "t", "x": value, **PLACE},
            {**start, "x": value},
            {**PLACE, "task_uuid": "v", "task_level": [2], "x": [value]},
            {**start, "action_status": "failed", "task_level": [3], "x": value, "reason": value},
        ]
        self.check(log, receiver)

    def test_whole_span(self, receiver):
        """A receiver gets all that a span has."""
        place = {"task_uuid": UUID, "timestamp": 1795181013.25, "action_type": "app:work"}
        links = [{"trace_id": "1" * 32, "span_id": "2" * 16, "attributes": {"a": [1, 2]}}]
        more = {"otel:links": links, "otel:kind": "server", "otel:scope": "shop"}
        state = {"eliot:tracestate": "a=b,c=d", "x": [True], "y": 1.5, "z": None}
        start = {**place, "task_level": [2, 1], "action_status": "started", **more, **state}
        failed = {"action_status": "failed", "reason": "é", "exception": "app.Error"}
        log = [
            start,
            {**place, "task_level": [2, 2], "action_type": ""},
            {**place, "task_level": [2, 3], **failed},
        ]
        self.check(log, receiver)
        (expected,), (span,) = spans_of(log), receiver.spans
        # The SDK says nothing of W3C's flags, but whether the parent is in another process.
        assert span == replace(expected, flags=0x300, resource=span.resource)

    def test_real_program(self, receiver, messages):
        """What real actions log, in several threads and with failures, comes back."""

        def work(task_id):
            with Action.continue_task(task_id=task_id):
                for number in range(300):
                    log_message("app:step", number=number)

        with sending(receiver):
            with start_action(action_type="app:all", path="é") as action:
                ids = [action.serialize_task_id() for _ in range(3)]
                threads = [threading.Thread(target=work, args=(task_id,)) for task_id in ids]
                for thread in threads:
                    thread.start()
                with pytest.raises(OSError, match="no disk"), start_action(action_type="app:part"):
                    fail()
                for thread in threads:
                    thread.join()
                action.add_success_fields(size_bytes=3)
            log_message("app:over")
        assert roots(messages) == roots(messages_of(receiver.items))
        assert len(messages) == sum(map(messages_in, receiver.items))


class TestIllReceivers:
    """Whatever the receiver does: what is logged is delivered, or counted as lost."""

    def log(self, actions):
        """Log so many actions with a message each."""
        for number in range(actions):
            with start_action(action_type="app:work", number=number):
                log_message("app:step")

    def numbers(self, receiver):
        """Return which of the actions were received."""
        return sorted(span.attributes["number"] for span in receiver.spans)

    def test_nobody_listens(self):
        """Where nobody listens, messages are counted as failed when the SDK gives them up."""
        with http_receiver() as receiver:
            pass
        with sending(receiver, timeout_s=0.2) as destination:
            self.log(3)
            log_message("app:lone")
            assert destination.flush(60)
            assert destination.stats()["failed"] == 10
        assert destination.stats()["delivered"] == 0

    def test_slow(self, receiver):
        """A receiver that takes its time keeps nobody from logging, and gets everything."""
        receiver.answers.append(HANG)
        with sending(receiver) as destination:
            self.log(50)
            assert not destination.flush(0.01)
            receiver.goes_on.set()
            assert destination.flush(60)
        assert self.numbers(receiver) == list(range(50))

    @pytest.mark.parametrize("answers", [[503, 503], [429], [CLOSE], [503, CLOSE]])
    def test_recovers(self, receiver, answers):
        """What is refused for the moment is sent again, and comes once."""
        receiver.answers.extend(answers)
        with sending(receiver) as destination:
            self.log(5)
            assert destination.flush(60)
            assert destination.stats()["delivered"] == 15
        assert self.numbers(receiver) == list(range(5))

    def test_recovers_by_grpc(self):
        """The same over gRPC."""
        with grpc_receiver() as receiver:
            receiver.answers.append(503)
            with sending(receiver, protocol="grpc") as destination:
                self.log(5)
                assert destination.flush(60)
                assert destination.stats()["delivered"] == 15
            assert self.numbers(receiver) == list(range(5))

    def test_comes_back(self):
        """What is logged while there is no receiver is lost, and counted; then all is well."""
        with http_receiver() as receiver:
            port = int(receiver.url.rpartition(":")[2])
            destination = OtlpDestination(endpoint=receiver.url, timeout_s=0.2)
            add_destinations(destination)
            self.log(2)
            assert destination.flush(60)
        self.log(3)
        assert destination.flush(60)
        with http_receiver(port) as receiver:
            self.log(4)
            assert destination.flush(60)
            stats = destination.stats()
            destination.close(60)
        assert (stats["delivered"], stats["failed"]) == (18, 9)
        assert self.numbers(receiver) == list(range(4))

    def test_rejects(self, receiver):
        """What is refused for good is counted as failed; what comes then is delivered."""
        receiver.answers.append(400)
        with sending(receiver) as destination:
            self.log(1)
            assert destination.flush(60)
            self.log(2)
        stats = destination.stats()
        assert (stats["failed"], stats["delivered"]) == (3, 6)

    @pytest.mark.parametrize("messages", ["events", "logs"])
    def test_full(self, monkeypatch, receiver, messages):
        """What there is no room for is dropped, and counted; what was received was delivered."""
        for name in ("BSP", "BLRP"):
            monkeypatch.setenv(f"OTEL_{name}_MAX_QUEUE_SIZE", "10")
            monkeypatch.setenv(f"OTEL_{name}_MAX_EXPORT_BATCH_SIZE", "5")
        receiver.answer = HANG
        with sending(receiver, messages=messages) as destination:
            self.log(100)
            wait_until(lambda: destination.stats()["dropped"] > 100)
            receiver.goes_on.set()
            assert destination.flush(60)
        stats = destination.stats()
        assert settled(stats) == 300
        assert stats["delivered"] == sum(map(messages_in, receiver.items)) > 0

    @pytest.mark.parametrize("answer", [HANG, 503, CLOSE])
    def test_closed_while_ill(self, receiver, answer):
        """The end does not wait for a receiver that does not recover, and all is counted."""
        receiver.answer = answer
        with sending(receiver) as destination:
            self.log(10)
            with start_action(action_type="app:open"):
                began = monotonic()
                destination.close(0.2)
                # Far less than the SDK would take.
                assert monotonic() - began < 5
            self.log(1)
        stats = destination.stats()
        assert settled(stats) == 35
        assert (stats["delivered"], stats["queued"]) == (0, 0)


class TestEnds:
    """Flushing, closing, forking, and the end of a program."""

    def test_flush_leaves_open_actions(self, receiver):
        """What is flushed is what is over; the rest is sent when it is."""
        with sending(receiver) as destination:
            with start_action(action_type="app:open"):
                log_message("app:step")
                assert destination.flush(60)
                assert destination.stats()["queued"] == 2
                assert receiver.items == []
            assert destination.flush(60)
            assert [span.name for span in receiver.spans] == ["app:open"]

    def test_close_sends_open_actions(self, receiver):
        """What is open at the end is sent, and says so; what is logged later is counted."""
        with sending(receiver) as destination:
            with start_action(action_type="app:open"):
                log_message("app:step")
                destination.close(60)
                destination.close(60)
            (span,) = receiver.spans
            assert span.attributes["eliot.unfinished"]
            assert span.end_ns == span.events[0].time_ns
            assert destination.stats() == {
                "queued": 0,
                "delivered": 2,
                "failed": 0,
                "dropped": 1,
                "dropped_as_reentrant": 0,
                "unfinished": 1,
            }
            assert destination.flush(60)

    def test_no_more_threads(self, monkeypatch, receiver):
        """Where no thread can be started, as when the interpreter ends, all is sent just so."""
        start_any = threading.Thread.start

        def start(thread):
            if thread.name.startswith("eliot_etw"):
                raise RuntimeError("can't create new thread at interpreter shutdown")
            start_any(thread)

        with sending(receiver) as destination:
            monkeypatch.setattr(threading.Thread, "start", start)
            with start_action(action_type="app:work"):
                log_message("app:step")
            destination.close(60)
            monkeypatch.undo()
            assert destination.stats()["delivered"] == 3

    def run(self, receiver, tmp_path, program):
        """Run a program that logs to the receiver and to a file; return what is in the file."""
        (tmp_path / "program.py").write_text(f"{PROGRAM}{program}", "utf-8")
        environment = {
            **ENVIRONMENT,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            # What it is asked for is done at once, and nothing else wakes the SDK's threads.
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",
            "OTEL_BLRP_SCHEDULE_DELAY": "3600000",
        }
        subprocess.run(
            [sys.executable, "-W", "error", "program.py"],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
            check=True,
            timeout=120,
        )
        return list(FileSource(tmp_path / "test.log"))

    def test_exit(self, receiver, tmp_path):
        """A program that just ends has sent everything."""
        written = self.run(receiver, tmp_path, "log(100)")
        assert len(written) == 300
        assert roots(written) == roots(messages_of(receiver.items))

    def test_exit_within_an_action(self, receiver, tmp_path):
        """So has one that ends in the middle."""
        written = self.run(receiver, tmp_path, "start_action(action_type='a').log('m')")
        assert is_permutation(written, messages_of(receiver.items))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
    @pytest.mark.parametrize(
        "way",
        [
            "fork",
            "multiprocessing",
            pytest.param("c", marks=needs_proc),
            pytest.param("c_without_threads", marks=needs_proc),
        ],
    )
    def test_fork(self, receiver, tmp_path, way):
        """Parent and child send what each of them logged, once, over connections of their own."""
        written = self.run(receiver, tmp_path, f"fork_by_{way}()")
        assert len(written) > 600
        assert is_permutation(written, messages_of(receiver.items))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
    def test_fork_while_it_sends(self):
        """Threads of a child send what they log, though the parent has some that were sending.

        The system may well give them the same numbers.
        """
        run_forking("""
import threading
from eliot_etw.destinations import OtlpDestination
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

class Exporter(SpanExporter):
    def __init__(self):
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def export(self, spans):
        self.begun.set()
        assert self.goes_on.wait(60)
        return SpanExportResult.SUCCESS

def log():
    otlp({"message_type": "t", "task_uuid": "u", "task_level": [1], "timestamp": 1.5})

def work():
    barrier = threading.Barrier(20)
    threads = [threading.Thread(target=lambda: (barrier.wait(60), log())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exporter.goes_on.set()
    otlp.close(60)
    assert otlp.stats()["delivered"] == 20, otlp.stats()

exporter = Exporter()
otlp = OtlpDestination(span_exporter=exporter, messages="spans")
log()
threading.Thread(target=otlp.flush, args=(60,), daemon=True).start()
assert exporter.begun.wait(60)
in_child(work)
exporter.goes_on.set()
otlp.close(60)
assert otlp.stats()["delivered"] == 1, otlp.stats()
""")


PROGRAM = """
import multiprocessing, os, sys, threading, time
from pathlib import Path
from eliot_etw import add_destinations, log_message, start_action, to_file
from eliot_etw.destinations import OtlpDestination, _wrapper

# How long the end may take, however busy the machine is.
_wrapper.CLOSE_TIMEOUT_S = 60.0

def log(actions):
    for number in range(actions):
        with start_action(action_type="app:work", number=number):
            log_message("app:step")

def fork_by_fork(fork=os.fork):
    log(50)
    # The child logs to no action of the parent's here, for who forks in C has told nobody.
    assert otlp.flush(60)
    child = fork()
    log(50)
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with start_action(action_type="app:around"):
        log(50)

def wait_until_others_rest():
    # Each other thread sleeps, and has not been awake for a while. Who forks in C while a thread
    # waits for the interpreter's lock has a child that waits for that thread, which is not there.
    before, deadline = None, time.monotonic() + 60
    while True:
        now = [
            line
            for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()
            for line in (task / "status").read_text().splitlines()
            if line.startswith(("State", "Pid")) or "ctxt_switches" in line
        ]
        if now == before and not any("running" in line for line in now):
            return
        assert time.monotonic() < deadline, now
        before = now
        time.sleep(0.3)

def fork_by_c(in_child=lambda: None):
    import ctypes
    def fork(fork=ctypes.PyDLL(None).fork):
        wait_until_others_rest()
        child = fork()
        if not child:
            in_child()
        return child
    fork_by_fork(fork)

def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def fork_by_c_without_threads():
    fork_by_c(lambda: setattr(threading.Thread, "start", refuse))

def fork_by_multiprocessing():
    log(50)
    with start_action(action_type="app:around"):
        process = multiprocessing.get_context("fork").Process(target=log, args=(100,))
        process.start()
        log(50)
        process.join()
        assert process.exitcode == 0
    log(50)

otlp = OtlpDestination()
to_file("test.log")
add_destinations(otlp)
"""


class TestSettings:
    """What the environment and the constructor say."""

    def test_environment(self, monkeypatch, receiver):
        """The SDK's variables mean what they mean for any program."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=secret")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=a,zone=b")
        destination = OtlpDestination(resource={"zone": "c"})
        destination({"message_type": "t", **PLACE})
        destination.close(60)
        resource = receiver.logs[0].resource
        assert [resource[name] for name in ("service.name", "team", "zone")] == ["shop", "a", "c"]
        assert receiver.headers[0]["key"] == "secret"
        assert receiver.headers[0]["content-encoding"] == "gzip"

    def test_arguments_win(self, monkeypatch, receiver):
        """What is passed wins over the environment."""
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
        with sending(receiver, service_name="shop", headers={"Key": "mine"}):
            log_message("app:lone")
        assert receiver.logs[0].resource["service.name"] == "shop"
        assert receiver.headers[0]["key"] == "mine"

    @pytest.mark.parametrize("variable", ["PROTOCOL", "TRACES_PROTOCOL"])
    def test_protocol(self, monkeypatch, variable):
        """The protocol may be said by the environment, for all or for spans alone."""
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{variable}", "grpc")
        with grpc_receiver() as receiver:
            with sending(receiver, messages="spans", headers={"Key": "mine"}):
                log_message("app:lone")
            assert [span.name for span in receiver.spans] == ["app:lone"]
            assert receiver.headers[0]["key"] == "mine"

    def test_configure(self, receiver, messages):
        """It can be set up by settings."""
        table = {"kind": "otlp", "endpoint": receiver.url, "service_name": "shop"}
        with configure({"destinations": [table]}), start_action(action_type="app:work"):
            log_message("app:step")
        assert roots(messages) == roots(messages_of(receiver.items))

    def test_exporters(self):
        """Exporters that are given are used, and shut down."""
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        exporter = memory.InMemorySpanExporter()
        destination = OtlpDestination(span_exporter=exporter, messages="spans")
        destination({"message_type": "t", **PLACE})
        destination.close(60)
        assert [span.name for span in exporter.get_finished_spans()] == ["t"]
        assert exporter._stopped

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"messages": "all"}, "messages must be one of"),
            ({"protocol": "http"}, "protocol must be one of"),
            ({"endpoint": "localhost:4318"}, "endpoint must be a URL"),
            ({"endpoint": "http://"}, "endpoint must be a URL"),
            ({"endpoint": "http://[::1"}, "endpoint must be a URL"),
            ({"endpoint": "ftp://localhost", "protocol": "grpc"}, "endpoint must be a URL"),
            ({"endpoint": 4318}, "endpoint must be a URL"),
            ({"headers": [("key", "text")]}, "headers must be names with their texts"),
            ({"headers": {"key": 5}}, "headers must be names with their texts"),
            ({"headers": {"key": "a\nb: c"}}, "headers must be names with their texts"),
            ({"headers": {"ké": "text"}}, "headers must be names with their texts"),
            ({"timeout_s": 0}, "timeout_s must be a number of seconds above 0"),
            ({"timeout_s": "soon"}, "timeout_s must be a number of seconds above 0"),
            ({"max_held": 0}, "max_held must be at least 1"),
            ({"max_queued": 0}, "max_queued must be at least 1"),
            ({"when_full": "wait"}, "when_full must be one of"),
            ({"span_exporter": object()}, "must both be given"),
            ({"log_exporter": object(), "messages": "spans"}, "must both be given"),
        ],
    )
    def test_wrong(self, settings, words):
        """What cannot be is refused, with a reason."""
        with pytest.raises(ValueError, match=words):
            OtlpDestination(**settings)

    def test_wrong_environment(self, monkeypatch):
        """So is what the environment says."""
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")
        with pytest.raises(ValueError, match="OTEL_BSP_MAX_QUEUE_SIZE must be a whole number"):
            OtlpDestination()

    @pytest.mark.parametrize(
        ("protocol", "extra"), [("http/protobuf", "[otel]"), ("grpc", "[otel-grpc]")]
    )
    def test_not_installed(self, monkeypatch, protocol, extra):
        """Without the packages, the constructor says what to install."""
        kind = protocol.partition("/")[0]
        module = f"opentelemetry.exporter.otlp.proto.{kind}.trace_exporter"
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingDependency, match=re.escape(extra)):
            OtlpDestination(protocol=protocol)


class TestNoLoop:
    """What sending does itself is not sent."""

    def test_records_of_the_sdk(self, messages):
        """What the SDK logs while it sends goes to the other destinations only."""
        handler = EliotHandler()
        logging.getLogger().addHandler(handler)
        try:
            with http_receiver() as receiver:
                pass
            with sending(receiver, timeout_s=0.2) as destination:
                with start_action(action_type="app:work"):
                    pass
                assert destination.flush(60)
                stats = destination.stats()
        finally:
            logging.getLogger().removeHandler(handler)
        assert "eliot:stdlib" in {message.get("message_type") for message in messages}
        assert stats["dropped_as_reentrant"] == len(messages) - 2
        assert (stats["failed"], stats["queued"]) == (2, 0)

    def test_instrumented_client(self, receiver, messages):
        """Requests that send spans make none, though the client is instrumented."""
        requests = pytest.importorskip("requests")
        instrumentation = pytest.importorskip("opentelemetry.instrumentation.requests")
        trace = pytest.importorskip("opentelemetry.sdk.trace")
        provider = trace.TracerProvider()
        processors = pytest.importorskip("eliot_etw.opentelemetry")
        provider.add_span_processor(processors.EliotSpanProcessor())
        instrumentor = instrumentation.RequestsInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        try:
            with sending(receiver) as destination, start_action(action_type="app:work"):
                requests.post(f"{receiver.url}/v1/logs", data=b"", timeout=30)
                assert destination.flush(60)
        finally:
            instrumentor.uninstrument()
        kinds = [message["action_type"] for message in messages]
        assert kinds == ["app:work", "POST", "POST", "app:work"]
        assert sorted(span.name for span in receiver.spans) == ["POST", "app:work"]
