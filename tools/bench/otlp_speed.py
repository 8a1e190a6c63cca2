"""What does a span cost the thread that makes it, ours and OpenTelemetry's?

Both go to an exporter that does nothing, in bursts that the queues hold. As a program it is one
measurement: ``otlp_speed.py CASE CONTENDER SPANS`` prints microseconds of the processor's time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time, thread_time
from typing import Any, Final, NamedTuple

from _measure import Question, Reach, Setting, printed_number

OURS: Final = "OtlpDestination"
SDK: Final = "start_as_current_span"
# As many spans as wait in the SDK without waking its thread.
BURST: Final = 500
# An action with two in it.
SPANS_OF_A_TASK: Final = 3


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    return [
        Question(
            "a span in the thread that makes it",
            "µs",
            {name: partial(_measure, setting, "calling", name) for name in (OURS, SDK)},
            [Reach(SDK, ours=OURS, at_most=1)],
        ),
        Question(
            "a span in all threads, until it is with the exporter",
            "µs",
            {name: partial(_measure, setting, "all", name) for name in (OURS, SDK)},
        ),
    ]


def _measure(setting: Setting, case: str, name: str) -> float:
    return printed_number(setting.python, __file__, case, name, str(setting.size.calls))


# ---- in the child process ----------------------------------------------------------------------


class _Contender(NamedTuple):
    """Something that makes spans."""

    work: Callable[[int], object]
    """Makes those of so many tasks."""
    flush: Callable[[], object]
    """Waits until the exporter has them."""


def _exporter() -> Any:
    """Make an exporter that counts."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Exporter(SpanExporter):
        count = 0

        def export(self, spans: Any) -> Any:
            self.count += len(spans)
            return SpanExportResult.SUCCESS

    return Exporter()


def _ours(exporter: Any) -> _Contender:
    """Make spans of actions."""
    from eliot_etw import add_destinations, start_action
    from eliot_etw.destinations import OtlpDestination

    def work(tasks: int) -> None:
        for number in range(tasks):
            with start_action(action_type="shop:order", user_id=number, path="/orders"):
                with start_action(action_type="shop:pay", amount=3, currency="EUR"):
                    pass
                with start_action(action_type="shop:ship", weight_kg=3.5, city="Rome"):
                    pass

    destination = OtlpDestination(span_exporter=exporter, messages="spans")
    add_destinations(destination)
    return _Contender(work, partial(destination.flush, 60))


def _sdk(exporter: Any) -> _Contender:
    """Make spans as programs do that are instrumented by hand."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    processor = BatchSpanProcessor(exporter)
    provider.add_span_processor(processor)
    span = provider.get_tracer("bench").start_as_current_span

    def work(tasks: int) -> None:
        for number in range(tasks):
            with span("shop:order", attributes={"user_id": number, "path": "/orders"}):
                with span("shop:pay", attributes={"amount": 3, "currency": "EUR"}):
                    pass
                with span("shop:ship", attributes={"weight_kg": 3.5, "city": "Rome"}):
                    pass

    return _Contender(work, processor.force_flush)


def main() -> None:
    """Measure one contender.

    Raises:
        RuntimeError: If spans did not come through.
    """
    case, name, spans = sys.argv[1:]
    exporter = _exporter()
    contender = {OURS: _ours, SDK: _sdk}[name](exporter)
    tasks = min(int(spans), BURST) // SPANS_OF_A_TASK
    bursts = max(1, int(spans) // BURST)
    in_thread, in_all = [], []
    for _ in range(bursts):
        before_thread, before_all = thread_time(), process_time()
        contender.work(tasks)
        in_thread.append(thread_time() - before_thread)
        contender.flush()
        in_all.append(process_time() - before_all)
    expected = bursts * tasks * SPANS_OF_A_TASK
    if exporter.count != expected:
        msg = f"{exporter.count} of {expected} spans came to the exporter."
        raise RuntimeError(msg)
    seconds = median(in_thread if case == "calling" else in_all)
    print(seconds / tasks / SPANS_OF_A_TASK * 1e6)


if __name__ == "__main__":
    main()
