"""What does it cost to write OpenTelemetry's log records and spans to ETW?

A library in C stands for the functions of Windows. As a program it is one measurement:
``otel_etw_speed.py CASE CONTENDER LIBRARY CALLS`` prints the microseconds of a call, of ours those
beyond what the SDK takes without us; while nobody listens, how many percent of that they are.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from timeit import Timer
from typing import Any

from _measure import OURS, Question, Reach, Setting, printed_number
from etw_speed import _load, _use_standin, compile_standin

JSON = "json.dumps"
# So short that what else the machine does leaves some of them alone: differences are small.
BATCHES = 200
PROVIDER = "eliot-etw-bench"

# What instrumented servers say of a request.
ATTRIBUTES: dict[str, Any] = {
    "http.request.method": "POST",
    "http.route": "/api/orders/{id}",
    "url.scheme": "https",
    "url.path": "/api/orders/42",
    "http.response.status_code": 201,
    "network.protocol.version": "1.1",
    "server.address": "shop.example.com",
    "server.port": 443,
    "client.address": "192.0.2.17",
    "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox",
    "http.request.body.size": 512,
    "http.response.body.size": 2048,
    "enduser.id": "u-1234567",
    "order.total": 129.5,
    "cache.hit": False,
    "thread.id": 140245,
    "thread.name": "MainThread",
    "network.peer.address": "198.51.100.7",
    "session.id": "00112233-4455-6677-8899-aabbccddeeff",
    "retry.count": 0,
}

KINDS = {
    "log": f"a log record with {len(ATTRIBUTES)} attributes in EtwLogExporter",
    "span": f"a span with {len(ATTRIBUTES)} attributes in EtwSpanExporter",
}


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    library = compile_standin(setting.folder)
    if library is None:
        print("OpenTelemetry to ETW is not measured: that needs a C compiler, and not Windows.")
        return []
    return [
        *(
            Question(
                f"{what}, beyond the SDK",
                "µs",
                {name: partial(_ask, setting, kind, name, library) for name in (OURS, JSON)},
                [Reach(JSON, at_most=1.6)],
            )
            for kind, what in KINDS.items()
        ),
        *(
            Question(
                f"{what} with nobody listening, beyond the SDK",
                "% of it",
                {OURS: partial(_ask, setting, f"unheard {kind}", OURS, library)},
                [Reach(at_most=3)],
            )
            for kind, what in KINDS.items()
        ),
    ]


def _ask(setting: Setting, case: str, name: str, library: Path) -> float:
    """Measure one contender, in a process of its own."""
    return printed_number(setting.python, __file__, case, name, library, str(setting.size.calls))


# ---- in the child process: each sets up a contender, and returns what it does for one call ------

Call = Callable[[], object]


def _log(*processors: Any) -> Call:
    """Set up the SDK to log a record."""
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider

    provider = LoggerProvider(shutdown_on_exit=False)
    for processor in processors:
        provider.add_log_record_processor(processor)
    return partial(
        provider.get_logger("bench").emit,
        timestamp=1_795_181_013_250_000_000,
        severity_number=SeverityNumber.INFO,
        severity_text="INFO",
        body="order created",
        attributes=ATTRIBUTES,
    )


def _span(*processors: Any) -> Call:
    """Set up the SDK to start and end a span."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    start_span = provider.get_tracer("bench").start_span
    return lambda: start_span("POST /api/orders/{id}", attributes=ATTRIBUTES).end()


def _log_processor() -> Any:
    from eliot_etw.opentelemetry import EtwLogExporter, EtwLogRecordProcessor

    return EtwLogRecordProcessor(EtwLogExporter(PROVIDER))


def _span_processor() -> Any:
    from eliot_etw.opentelemetry import EtwSpanExporter, EtwSpanProcessor

    return EtwSpanProcessor(EtwSpanExporter(PROVIDER))


_CASES: dict[str, tuple[Callable[..., Call], Callable[[], Any]]] = {
    "log": (_log, _log_processor),
    "span": (_span, _span_processor),
}


def _seconds(calls: list[Call], batch: int) -> list[float]:
    """Measure calls in turn, batch by batch; return the quickest batch of each."""
    # The garbage collector runs, as it does in a program; timeit would stop it.
    timers = [Timer(call, gc.enable) for call in calls]
    every = [[timer.timeit(batch) for timer in timers] for _ in range(BATCHES + 1)]
    return [min(times) for times in zip(*every[1:], strict=True)]


def _measure(case: str, name: str, path: str, calls: int) -> float:
    """Measure the microseconds of a call, or the percents that nobody listening takes.

    Raises:
        RuntimeError: If other events arrived than were written.
    """
    from opentelemetry.sdk.trace import TracerProvider

    is_unheard, kind = case.startswith("unheard"), case.rpartition(" ")[2]
    library = _load(path)
    library.standin_listen(not is_unheard)
    _use_standin(path)
    set_up, processor = _CASES[kind]
    batch = max(calls // BATCHES, 1)
    # All of it is within a span, as most is.
    with TracerProvider(shutdown_on_exit=False).get_tracer("b").start_as_current_span("request"):
        if name == JSON:
            (seconds,) = _seconds([partial(json.dumps, ATTRIBUTES)], batch)
            alone = 0.0
        else:
            alone, seconds = _seconds([set_up(), set_up(processor())], batch)
    arrived = library.standin_events()
    expected = batch * (BATCHES + 1) if name == OURS and not is_unheard else 0
    if arrived != expected:
        msg = f"of {expected} calls, {name} wrote {arrived} events."
        raise RuntimeError(msg)
    # What is measured with a few calls only may be less than nothing.
    beyond = max(seconds - alone, 1e-9)
    return beyond / alone * 100 if is_unheard else beyond / batch * 1e6


def main() -> None:
    """Measure once."""
    case, name, library, calls = sys.argv[1:]
    print(_measure(case, name, library, int(calls)))


if __name__ == "__main__":
    main()
