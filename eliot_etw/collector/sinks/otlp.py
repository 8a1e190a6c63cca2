"""Messages as spans and log records, for any receiver of OTLP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from threading import Timer
from typing import Any, Final, final

from eliot_etw.collector.sinks._one_by_one import OneByOneSink
from eliot_etw.destinations.otlp import Protocol, _check, _check_receiver, _exporter_maker
from eliot_etw.otlp._model import Log, Span
from eliot_etw.otlp._spans_of import MAX_HELD, MessagesAs, SpanMaker
from eliot_etw.typing import MessageDict

_SUCCESS: Final = "SUCCESS"
# So many are one request, as many as in the SDK's batches.
_AT_ONCE: Final = 512
# After so many failures, spans are sent one by one, to find out if the receiver takes any.
_MOST_TRIES: Final = 3
_MOST_ALONE: Final = 3


@final
class OtlpSink(OneByOneSink):
    """Sends a span for each action when it is over, and log records for messages outside.

    What the receiver does not take is sent again; the ids of spans are computed, so that one that
    is sent twice is one span. What it refuses while it takes others is dropped, and counted.

    Messages of open actions are held until their end. They count as stored: if the collector is
    killed, the ends of those actions are log records.
    """

    def __init__(  # noqa: PLR0913 - all are named, and most are left out
        self,
        endpoint: str | None = None,
        protocol: Protocol | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 10.0,
        service_name: str = "eliot-etw",
        resource: dict[str, Any] | None = None,
        messages: MessagesAs = "events",
        max_held: int = MAX_HELD,
    ) -> None:
        """Make the SDK's exporters, which connect when there is something to send.

        Args:
            endpoint: The receiver, as for `OtlpDestination`; so are the others.
            protocol: ``"http/protobuf"`` or ``"grpc"``.
            headers: What is sent along with each request.
            timeout_s: How long a request may take, with what the SDK does to try it again.
            service_name: What those are called whose messages come.
            resource: Their attributes.
            messages: What messages become: ``"events"``, ``"logs"`` or ``"spans"``.
            max_held: How many messages of open actions are held at most.

        Raises:
            MissingDependency: If OpenTelemetry's SDK or exporters are not installed.
            ValueError: If settings do not fit.
        """
        super().__init__()
        exporters: dict[str, Any] = {"traces": None, "logs": None}
        if messages == "spans":
            del exporters["logs"]
        _check(messages, max_held, exporters, None)
        _check_receiver(endpoint, headers, timeout_s)
        self._exporters = {
            signal: _exporter_maker(signal, endpoint, protocol, headers, timeout_s)()
            for signal in exporters
        }
        from eliot_etw.destinations import _otlp_sdk as sdk  # noqa: PLC0415 - needs the package

        self._converter = sdk.Converter({"service.name": service_name, **(resource or {})})
        self._maker = SpanMaker(messages=messages, max_held=max_held)
        self._waiting: dict[str, list[Any]] = {signal: [] for signal in exporters}
        self._tries = 0
        self._is_closed = False
        self._counts = {"sent": 0, "dropped": 0}

    def take(self, message: MessageDict) -> None:
        """Make spans of a message."""
        self._put(self._maker.add(message))

    def _put(self, items: Sequence[Span | Log]) -> None:
        """Have something sent."""
        for item in items:
            if isinstance(item, Span):
                self._waiting["traces"].append(self._converter.span(item))
            else:
                self._waiting["logs"].append(self._converter.log(item))

    def settle(self) -> None:
        """Send what is finished. Raises OSError if the receiver does not take it."""
        for signal, waiting in self._waiting.items():
            while waiting:
                some = waiting[:_AT_ONCE]
                if self._is_taken(signal, some):
                    self._tries = 0
                    self._counts["sent"] += len(some)
                else:
                    self._tries += 1
                    if self._tries < _MOST_TRIES or not self._sort_out(signal, some):
                        raise ConnectionError(f"The receiver did not take {len(some)} {signal}.")
                del waiting[: len(some)]

    def _is_taken(self, signal: str, items: Sequence[Any]) -> bool:
        """Send a request; say whether the receiver took it."""
        exporter = self._exporters.get(signal)  # there is none any more at the end
        return exporter is not None and exporter.export(items).name == _SUCCESS

    def _sort_out(self, signal: str, items: Sequence[Any]) -> bool:
        """Send one by one, and drop what the receiver refuses; say whether it took any."""
        taken: list[Any] = []
        for number, item in enumerate(items):
            if self._is_taken(signal, [item]):
                taken.append(item)
            elif not taken and number + 1 >= _MOST_ALONE:
                return False
        # It may have gone meanwhile: then it has refused nothing.
        if not taken or not self._is_taken(signal, taken[-1:]):
            return False
        self._counts["sent"] += len(taken)
        self._counts["dropped"] += len(items) - len(taken)
        return True

    def close(self, timeout_s: float) -> None:
        """Send actions that are open as they are, and shut the SDK's exporters down."""
        if self._is_closed:
            return
        self._is_closed = True
        # The SDK gives up what it sends when it is shut down.
        deadline = Timer(timeout_s, self._shut_down)
        deadline.daemon = True
        deadline.start()
        self._put([*self._maker.rest()])
        with suppress(OSError):
            self.settle()
        deadline.cancel()
        self._shut_down()

    def _shut_down(self) -> None:
        """Shut the exporters down that were not yet."""
        while self._exporters:
            _, exporter = self._exporters.popitem()
            exporter.shutdown()

    def stats(self) -> dict[str, int]:
        """Count spans and log records: ``sent``; ``dropped``, which the receiver refused."""
        return self._counts.copy()
