"""The tree as OpenTelemetry has it: traces and logs, sent by OTLP to any receiver of that."""

from __future__ import annotations

import os
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, Literal, TypeAlias, final, get_args
from urllib.parse import urlsplit

from eliot_etw._counter import Counter
from eliot_etw._json import choose_default, decode_line, encode_line
from eliot_etw._require import require
from eliot_etw.destinations._queued import WhenFull
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S, finish_at_exit
from eliot_etw.destinations.background import BackgroundDestination
from eliot_etw.json import json_default
from eliot_etw.otlp._model import Log, Span
from eliot_etw.otlp._spans_of import MAX_HELD, MessagesAs, SpanMaker, messages_in
from eliot_etw.typing import JsonDefault, MessageDict

Protocol: TypeAlias = Literal["http/protobuf", "grpc"]

# Where the SDK has the exporters.
_EXPORTERS: Final = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


@final
class OtlpDestination:
    """Sends the tree by OTLP: a task is a trace, an action a span, a message an event of it.

    Messages that no span takes are log records; `messages` says otherwise. What OpenTelemetry's
    SDK does, it does as for any program: batches, retries, ``OTEL_*`` in the environment.

    The call that logs puts the message into a queue; a thread of ours makes spans of them, and one
    of the SDK's sends those. A span is sent when its action is over; one that is not when the
    program ends, or when too many are open, is sent as it is, and says so.

    If the receiver is slow, 2,048 spans wait for it, and then the queue fills; if it is gone, the
    SDK tries again for 10 s, and then gives a batch up. What is lost in either case is counted by
    `stats`, message by message. At the end of the program, what waits is sent, within a deadline.

    A forked child begins with nothing, and with connections of its own.
    """

    closes_in_time: Final = True

    def __init__(  # noqa: PLR0913 - all are named, and most are left out
        self,
        *,
        endpoint: str | None = None,
        protocol: Protocol | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        service_name: str | None = None,
        resource: Mapping[str, Any] | None = None,
        messages: MessagesAs = "events",
        span_exporter: Any = None,
        log_exporter: Any = None,
        max_queued: int = 10_000,
        when_full: WhenFull = "block",
        max_held: int = MAX_HELD,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Make the SDK's exporters, which connect when there is something to send.

        Args:
            endpoint: The receiver, such as ``http://collector:4318``, or with the port 4317 for
                gRPC. If left out, the SDK finds it in the environment, or takes this machine.
            protocol: ``"http/protobuf"`` or ``"grpc"``; if left out, what the environment variable
                ``OTEL_EXPORTER_OTLP_PROTOCOL`` says, or else HTTP.
            headers: What is sent along with each request, such as keys of a service.
            timeout_s: How long the SDK tries to send a batch, in seconds.
            service_name: What the program is called; this and `resource` win over the environment.
            resource: Attributes of the program, such as ``deployment.environment.name``.
            messages: What messages become: ``"events"`` of their spans where there are such, and
                else log records; ``"logs"``, log records in any case; ``"spans"``, events or else
                spans of no length, for receivers that take nothing but traces.
            span_exporter: An exporter of the SDK's for spans that is ready to use, in place of
                all that is said above of the receiver.
            log_exporter: The same for log records. Both are given or none, but for ``"spans"``.
            max_queued: How many messages wait to be made into spans.
            when_full: What happens when as many wait, as in `BackgroundDestination`.
            max_held: How many messages of open actions are held at most.
            json_default: Converts values that JSON does not know.

        Raises:
            MissingDependency: If OpenTelemetry's SDK or exporters are not installed.
            ValueError: If arguments or the environment do not fit, or each other.
        """
        wanted = {"traces": span_exporter, "logs": log_exporter}
        if messages == "spans":
            del wanted["logs"]
        _check(messages, max_held, wanted, log_exporter)
        _check_receiver(endpoint, headers, timeout_s)
        exporters = {
            signal: partial(_same, given)
            if given is not None
            else _exporter_maker(signal, endpoint, protocol, headers, timeout_s)
            for signal, given in wanted.items()
        }
        # The threads that export: what is logged there is not sent, for that would have no end.
        self._exporting: set[int] = set()
        self._reentrant = Counter()
        named = {} if service_name is None else {"service.name": service_name}
        self._sender = _Sender(
            partial(SpanMaker, messages=messages, max_held=max_held),
            exporters,
            {**(resource or {}), **named},
            choose_default(None, json_default),
            self._exporting,
        )
        self._queue = BackgroundDestination(
            self._sender, max_queued=max_queued, when_full=when_full
        )
        # To the dispatcher: nothing that is called here logs.
        self.is_leaf = True

    def __call__(self, message: MessageDict) -> None:
        """Queue a message. Never raises, and waits only if the queue is full."""
        if self._exporting and get_ident() in self._exporting:
            self._reentrant.add()
        else:
            self._queue(message)

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Wait until the receiver has what was logged so far, but for actions that are open.

        Args:
            timeout_s: How long to wait at most.

        Returns:
            Whether all of it was sent, or given up; if not, it may still be, later.
        """
        deadline = monotonic() + timeout_s
        return self._queue.flush(timeout_s) and self._sender.flush(deadline)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what waits, and open actions as they are; then shut the SDK's exporters down.

        May be called twice. What is logged later is dropped, and counted.

        Args:
            timeout_s: How long it may take in all.
        """
        self._queue.close(timeout_s)

    def stats(self) -> dict[str, int]:
        """Count messages, in this process.

        Returns:
            ``queued``: those that wait, are in open actions, or are being sent; ``delivered``:
            those that the receiver took; ``failed``: those that it did not take, in spite of all
            that the SDK tried; ``dropped``: those for which there was no room, or no time at the
            end; ``dropped_as_reentrant``: those that the SDK logged while it sent others. And
            ``unfinished``: how many spans were sent without the end of their action.
        """
        queue, sender = self._queue.stats(), self._sender.stats()
        reentrant = queue["dropped_as_reentrant"] + self._reentrant.value
        return {
            "queued": queue["queued"] + sender["queued"],
            "delivered": sender["delivered"],
            "failed": queue["failed"] + sender["failed"],
            "dropped": queue["dropped"] + sender["dropped"],
            "dropped_as_reentrant": reentrant,
            "unfinished": sender["unfinished"],
        }


@final
class _Sender:
    """What the queue's thread calls with each message: makes spans, and hands them to the SDK."""

    closes_in_time: Final = True
    # The SDK may log, and a function of the user's.
    is_leaf: Final = False

    def __init__(
        self,
        make_maker: Callable[[], SpanMaker],
        exporters: Mapping[str, Callable[[], Any]],
        resource: Mapping[str, Any],
        default: JsonDefault,
        exporting: set[int],
    ) -> None:
        from eliot_etw.destinations import _otlp_sdk as sdk  # noqa: PLC0415 - needs the package

        self._make_maker = make_maker
        self._default = default
        self._converter = sdk.Converter(resource)
        self._batches = {
            signal: sdk.Batches(signal, make, exporting) for signal, make in exporters.items()
        }
        self._dropped = Counter()
        self._is_over = False
        self._begin()
        finish_at_exit(self)

    def _begin(self) -> None:
        self._maker = self._make_maker()
        self._pid = os.getpid()
        # Between the thread of the queue, and whoever ends it before that thread is done.
        self._making = allocate_lock()

    def _forget(self) -> None:
        """Begin with nothing, in a forked child."""
        self._begin()
        for batches in self._batches.values():
            batches.forget()

    def _notice_fork(self) -> None:
        """Begin with nothing, if the process was forked without Python's knowing."""
        if self._pid != os.getpid():
            self._forget()

    def __call__(self, message: MessageDict) -> None:
        """Take a message. Raises what the SDK does, which is nothing that is known."""
        if self._is_over:
            self._dropped.add()
            return
        self._notice_fork()
        with self._making:
            # As any reader of the JSON would have it, whatever the program does with its values.
            for item in self._maker.add(decode_line(encode_line(message, self._default))):
                self._hand_over(item)

    def _hand_over(self, item: Span | Log) -> None:
        """Hand something over to the SDK."""
        if isinstance(item, Span):
            self._batches["traces"].hand_over(self._converter.span(item), messages_in(item))
        else:
            self._batches["logs"].hand_over(self._converter.log(item), messages_in(item))

    def flush(self, deadline: float) -> bool:
        """Have everything sent that is finished; say whether it was, or given up."""
        self._notice_fork()
        if self._is_over:
            return True
        flushed = [batches.flush() for batches in self._batches.values()]
        return all(done.wait(max(0.0, deadline - monotonic())) for done in flushed)

    def _finish(self, deadline: float) -> None:
        """Send everything, and end; may come twice."""
        self._notice_fork()
        if self._is_over:
            return
        for batches in self._batches.values():
            batches.exporter.ends_at = deadline
        if self._making.acquire(timeout=max(0.0, deadline - monotonic())):
            for span in self._maker.rest():
                self._hand_over(span)
            self._making.release()
        self._is_over = True
        shut_down = [batches.shut_down() for batches in self._batches.values()]
        for batches, done in zip(self._batches.values(), shut_down, strict=True):
            if not done.wait(max(0.0, deadline - monotonic())):
                batches.exporter.shutdown()

    def close(self, timeout_s: float) -> None:
        """End, if that was not done before."""
        self._finish(monotonic() + timeout_s)

    def stats(self) -> dict[str, int]:
        """Count messages."""
        counts = [batches.counts() for batches in self._batches.values()]
        waiting, delivered, failed, dropped = map(sum, zip(*counts, strict=True))
        waiting += self._maker.held
        return {
            "queued": 0 if self._is_over else waiting,
            "delivered": delivered,
            "failed": failed,
            "dropped": dropped + self._dropped.value + (waiting if self._is_over else 0),
            "unfinished": self._maker.unfinished,
        }


def _check(messages: str, max_held: int, exporters: Mapping[str, Any], log_exporter: Any) -> None:
    """Refuse settings that do not fit.

    Raises:
        ValueError: If so.
    """
    if messages not in get_args(MessagesAs):
        msg = f"messages must be one of {get_args(MessagesAs)}, got {messages!r}. Choose one."
        raise ValueError(msg)
    if max_held < 1:
        msg = f"max_held must be at least 1, got {max_held!r}. Say how many may be held."
        raise ValueError(msg)
    are_given = {exporter is not None for exporter in exporters.values()}
    if len(are_given) > 1 or (messages == "spans" and log_exporter is not None):
        msg = (
            "span_exporter and log_exporter must both be given, or none, but for log records with "
            f"messages='spans', of which there are none; got messages={messages!r}."
        )
        raise ValueError(msg)


def _check_receiver(
    endpoint: str | None, headers: Mapping[str, str] | None, timeout_s: float | None
) -> None:
    """Refuse what the SDK would take, and fail with whenever it sends.

    Raises:
        ValueError: If the endpoint is no URL, or a header or the timeout cannot be one.
    """
    if endpoint is not None and not _is_url(endpoint):
        msg = f"endpoint must be a URL such as 'http://localhost:4318', got {endpoint!r}."
        raise ValueError(msg)
    if headers is not None and not (
        isinstance(headers, Mapping) and all(map(_is_header_text, (*headers, *headers.values())))
    ):
        msg = "headers must be names with their texts, in printable ASCII. Write {'name': 'text'}."
        raise ValueError(msg)  # what came may be secret
    if timeout_s is not None and not (isinstance(timeout_s, (int, float)) and timeout_s > 0):
        msg = f"timeout_s must be a number of seconds above 0, got {timeout_s!r}."
        raise ValueError(msg)


def _is_header_text(text: object) -> bool:
    """Say whether something can be the name or the text of a header."""
    return isinstance(text, str) and text.isascii() and text.isprintable()


def _is_url(text: object) -> bool:
    """Say whether a text is a URL that names a receiver."""
    with suppress(ValueError):
        parts = urlsplit(text) if isinstance(text, str) else None
        return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
    return False


def _same(exporter: Any) -> Any:
    """Return an exporter that was given, in a forked child too."""
    return exporter


def _exporter_maker(
    signal: str,
    endpoint: str | None,
    protocol: str | None,
    headers: Mapping[str, str] | None,
    timeout_s: float | None,
) -> Callable[[], Any]:
    """Find what makes the SDK's exporter.

    Raises:
        MissingDependency: If it is not installed.
        ValueError: If there is no such protocol.
    """
    spoken = (
        protocol
        or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if spoken not in get_args(Protocol):
        msg = f"protocol must be one of {get_args(Protocol)}, got {spoken!r}. Choose one."
        raise ValueError(msg)
    is_http = spoken != "grpc"
    if endpoint is not None and is_http:
        endpoint = f"{endpoint.rstrip('/')}/v1/{signal}"
    module, name = _EXPORTERS[signal]
    found = require(
        f"opentelemetry.exporter.otlp.proto.{'http' if is_http else 'grpc'}.{module}",
        feature=f"OtlpDestination with {spoken}",
        extra="otel" if is_http else "otel-grpc",
    )
    return partial(
        getattr(found, name),
        endpoint=endpoint,
        # As HTTP/2 has them.
        headers=None if headers is None else {key.lower(): headers[key] for key in headers},
        timeout=timeout_s,
    )
