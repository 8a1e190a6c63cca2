"""Tests of OpenTelemetry's log records as messages, with the SDK."""

import logging
import sys
from threading import Thread

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import context as otel_context
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from eliot_etw import _names as names
from eliot_etw import add_destinations, start_action
from eliot_etw._bridge import was_record
from eliot_etw.destinations.logging import LoggingDestination
from eliot_etw.exceptions import MissingDependency
from eliot_etw.opentelemetry import EliotLogRecordProcessor
from eliot_etw.stdlib import EliotHandler
from tests._tracing import Tracing, paths

LOG = "otel:log"
OWN = {"timestamp", "task_uuid", "task_level", "message_type"}


class Logs:
    """A program in which OpenTelemetry takes log records."""

    def __init__(self, **options):
        self.processor = EliotLogRecordProcessor()
        self.provider = LoggerProvider(shutdown_on_exit=False, **options)
        self.provider.add_log_record_processor(self.processor)
        self.emit = self.provider.get_logger("shop").emit


@pytest.fixture
def logs():
    """Have OpenTelemetry take log records."""
    return Logs()


def own_fields(message):
    """Return what a message says, without its place, time and type."""
    return {name: value for name, value in message.items() if name not in OWN}


class TestFields:
    """What a record says is in the fields of its message."""

    def test_record(self, logs, messages):
        """Body, severity, name and attributes are fields; the time is the record's."""
        logs.emit(
            timestamp=1_700_000_000_123_456_000,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body="low on tea",
            attributes={"left": 1, "kinds": ["green", "black"]},
            event_name="stock.low",
        )
        (message,) = messages
        assert (LOG, 1700000000.123456) == (message["message_type"], message["timestamp"])
        assert {
            "log_level": "WARN",
            "logger": "shop",
            "message": "low on tea",
            "left": 1,
            "kinds": ["green", "black"],
            "otel:event_name": "stock.low",
        } == own_fields(message)

    @pytest.mark.parametrize(
        ("number", "text", "expected"),
        [
            (SeverityNumber.TRACE, None, {"log_level": "DEBUG", "otel:severity": "TRACE"}),
            (SeverityNumber.INFO2, None, {"log_level": "INFO", "otel:severity": "INFO2"}),
            (SeverityNumber.WARN, "Achtung", {"log_level": "WARNING", "otel:severity": "Achtung"}),
            (SeverityNumber.ERROR, "error", {"log_level": "error"}),
            (SeverityNumber.FATAL4, None, {"log_level": "CRITICAL", "otel:severity": "FATAL4"}),
            (SeverityNumber.UNSPECIFIED, None, {}),
            (None, "Achtung", {"otel:severity": "Achtung"}),
            (None, None, {}),
        ],
    )
    def test_severity(self, logs, messages, number, text, expected):
        """The level is one that we know; what that does not tell is kept."""
        logs.emit(severity_number=number, severity_text=text, body="")
        (message,) = messages
        assert {"message": "", "logger": "shop", **expected} == own_fields(message)

    def test_exception(self, logs, messages):
        """An exception is described as in a traceback of ours."""
        logs.emit(body="gave up", exception=KeyError("k"))
        (message,) = messages
        assert ("KeyError", "'k'") == (message["exception"], message["reason"])
        assert "KeyError" in message["traceback"]

    def test_reserved_names(self, logs, messages):
        """Attributes that have a name of ours get an underscore."""
        given = dict.fromkeys(["task_uuid", "message", "action_type", "logger"], "mine")
        logs.emit(body={"a": (1, b"2")}, attributes=given)
        (message,) = messages
        assert ["mine"] * 4 == [message[f"{name}_"] for name in given]
        assert {"a": [1, b"2"]} == message["message"]


class TestPlace:
    """A record is where it was emitted."""

    def test_in_an_action(self, logs, messages):
        """Within an action or a span it is a message of that."""
        logs.emit(body="outside")
        with start_action(action_type="action"):
            logs.emit(body="inside")
            with Tracing().tracer.start_as_current_span("span"):
                logs.emit(body="within")
        action = ("action",)
        within = [(*action, LOG), (*action, "span"), (*action, "span", LOG)]
        assert [action, *within, (LOG,)] == paths(messages)

    def test_explicit_context(self, logs, messages):
        """With a context of another place, it is there."""
        with start_action(action_type="action"):
            context = otel_context.get_current()
        thread = Thread(target=lambda: logs.emit(body="there", context=context))
        thread.start()
        thread.join(60)
        assert [("action",), ("action", LOG)] == paths(messages)

    def test_remote(self, logs, messages):
        """With the context of another process, it is in the tree of that trace."""
        parent = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 1, True, TraceFlags(1))
        context = set_span_in_context(NonRecordingSpan(parent), Context())
        logs.emit(body="there", context=context)
        assert [(names.REMOTE_TASK,), (names.REMOTE_TASK, LOG)] == paths(messages)
        assert "0af76519-16cd-43dd-8448-eb211c80319c" == messages[0]["task_uuid"]
        assert ["started", None, "succeeded"] == [m.get("action_status") for m in messages]


class TestNoLoops:
    """What comes from us does not come back."""

    @pytest.fixture
    def handled(self, logs):
        """Return a logger of the standard library whose records OpenTelemetry takes."""
        handler = pytest.importorskip("opentelemetry.instrumentation.logging.handler")
        logger = logging.getLogger("tests.otel")
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        taking = handler.LoggingHandler(logger_provider=logs.provider)
        logger.addHandler(taking)
        yield logger
        for handler in list(logger.handlers):
            logger.removeHandler(handler)

    def test_record(self, handled, messages):
        """A record of the standard library is one message by way of OpenTelemetry."""
        handled.warning("low on %s", "tea", extra={"left": 1})
        (message,) = messages
        assert {
            "log_level": "WARN",
            "logger": "tests.otel",
            "message": "low on tea",
            "left": 1,
        } == (own_fields(message))

    def test_both(self, logs, handled, messages):
        """Each of both ways makes a message of it, and neither a third."""
        handled.addHandler(EliotHandler())
        add_destinations(LoggingDestination(handled))
        handled.warning("low on tea")
        assert ["eliot:stdlib", LOG] == sorted(m["message_type"] for m in messages)
        assert all(map(was_record, messages))

    @pytest.mark.parametrize("limit", [None, 0])
    def test_message(self, handled, logs, messages, limit):
        """A message that became a record is no second message."""
        if limit is not None:
            # Even where nothing of the message is left in the record, it ends.
            logs.provider._log_record_limits = LogRecordLimits(max_log_record_attributes=limit)
        add_destinations(LoggingDestination(handled))
        with start_action(action_type="action"):
            pass
        types = [message.get("message_type") for message in messages]
        assert [None, None] == types or limit == 0
        assert len(types) <= 4

    def test_suppressed(self, logs, messages):
        """What exporters have to say of their work is left out, and counted."""
        token = otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        logs.emit(body="cannot export")
        otel_context.detach(token)
        assert [] == messages
        assert {"errors": 0, "ignored": 0, "suppressed": 1} == logs.processor.stats()

    def test_exporter_that_logs(self, handled, logs, messages):
        """What an exporter complains of is not logged: it would be exported, and so on."""
        exporting = LoggerProvider(shutdown_on_exit=False)
        exporting.add_log_record_processor(BatchLogRecordProcessor(Complaining(handled)))
        exporting.get_logger("shop").emit(body="hello")
        assert exporting.force_flush()
        exporting.shutdown()
        assert [] == messages
        assert {"errors": 0, "ignored": 0, "suppressed": 1} == logs.processor.stats()


class Complaining(LogRecordExporter):
    """An exporter that has nothing but complaints."""

    def __init__(self, logger):
        self._logger = logger

    def export(self, batch):
        self._logger.error("cannot export %d records", len(batch))
        return LogRecordExportResult.FAILURE

    def shutdown(self):
        """Do nothing."""

    def force_flush(self, timeout_millis=30000):
        """Have nothing to do."""
        return True


class TestProcessor:
    """The processor itself breaks nothing."""

    def test_errors(self, logs, messages):
        """What cannot be logged is counted, and does not reach the program."""
        logs.processor.on_emit(object())
        assert {"errors": 1, "ignored": 0, "suppressed": 0} == logs.processor.stats()

    def test_flush(self, logs):
        """There is nothing to flush or to close."""
        assert logs.provider.force_flush()
        logs.provider.shutdown()

    def test_no_package(self, monkeypatch):
        """Without the SDK, importing it says what to install."""
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
        monkeypatch.delitem(sys.modules, "eliot_etw.opentelemetry.log_record_processor")
        with pytest.raises(
            MissingDependency, match=r"EliotLogRecordProcessor .*eliot-etw\[otel\]"
        ):
            from eliot_etw.opentelemetry import EliotLogRecordProcessor  # noqa: F401
