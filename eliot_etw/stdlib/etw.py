"""Event Tracing for Windows as a handler of the standard library's `logging`."""

from __future__ import annotations

import logging
from struct import Struct
from typing import Final, NamedTuple, final
from uuid import UUID

from eliot_etw._counter import Counter
from eliot_etw.etw._levels import FAILURES, MESSAGES, level_logged
from eliot_etw.etw._provider import Provider
from eliot_etw.etw._records import TRACELOGGING_CHANNEL
from eliot_etw.json import json_default
from eliot_etw.stdlib._handler import SharedHandler
from eliot_etw.stdlib._record_event import RecordEncoder
from eliot_etw.typing import JsonDefault

_ROOT = "root"
# A process can register 1,024; nobody wants to type as many names.
_MAX_PROVIDERS = 500
# Programs have fewer loggers, unless they make their names up.
_MAX_REMEMBERED = 10_000

_DESCRIPTOR: Final = Struct("<HBBBBHQ").pack


class _Kind(NamedTuple):
    """What all records of one level have in common, those with an exception apart."""

    level: int
    keyword: int
    descriptor: bytes


def _kind(levelno: int, keyword: int) -> _Kind:
    level = level_logged(levelno)
    descriptor = _DESCRIPTOR(0, 0, TRACELOGGING_CHANNEL, level, 0, 0, keyword)
    return _Kind(level, keyword, descriptor)


_NUMBERS: Final = range(10, 60, 10)
_USUAL: Final = {number: _kind(number, MESSAGES) for number in _NUMBERS}
_FAILED: Final = {number: _kind(number, MESSAGES | FAILURES) for number in _NUMBERS}


@final
class EtwHandler(SharedHandler):
    """Writes each record as one event, of a provider that is called as the logger is.

    So ``tracelog -guid *myapp.db`` listens to the logger ``myapp.db``, and ``*root`` to the root
    logger. A logger whose name no provider can have (empty, or with ``ß`` in it) writes to the
    provider of the nearest logger above it that can, as do those for which there is no room: at
    most 500 loggers have a provider of their own.

    The level is 1 for ``CRITICAL``, 2 ``ERROR``, 3 ``WARNING``, 4 ``INFO``, 5 for what is below.
    The keyword is 2, and 4 is added if there is an exception. While nobody listens to a logger,
    its records are not even formatted.

    Threads do not wait for one another, and a record that Windows refuses is counted by `stats`.
    """

    def __init__(
        self,
        level: int | str = logging.NOTSET,
        *,
        provider_name: str | None = None,
        guid: UUID | str | None = None,
        group: UUID | str | None = None,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Register the first provider.

        Args:
            level: Records below this level are ignored.
            provider_name: One provider for all loggers, in place of one for each.
            guid: What Windows knows that provider by, if that is not made from its name.
            group: The GUID of a group that the provider, or all of them, belong to.
            json_default: Converts values in `extra` that JSON does not know.

        Raises:
            ValueError: If the name or a GUID is none, or there is a GUID without a name.
            OSError: If this is not Windows, or Windows refuses.
        """
        if guid is not None and provider_name is None:
            msg = (
                f"a guid must be that of one provider, got {guid} and no provider_name. "
                "Pass both, or neither to have a provider for each logger."
            )
            raise ValueError(msg)
        self._encoder = RecordEncoder(json_default)
        self._encode = self._encoder.encode
        self._group = group
        self._has_many = provider_name is None
        self._top = Provider(
            provider_name if provider_name is not None else _ROOT, guid=guid, group=group
        )
        # Which provider the records of a logger go to; and those that are registered, by name.
        self._providers: dict[str, Provider] = {}
        self._registered = {self._top.name: self._top}
        self._refused: dict[int, Counter] = {}
        self._shared = Counter()
        self._is_closed = False
        self._after_close = Counter()
        # Last, because logging closes every handler that it knows when the program exits.
        super().__init__(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record if anybody wants it. Never raises."""
        try:
            provider = self._providers.get(record.name) or self._find(record.name)
            has_failed = record.exc_info or record.exc_text
            kinds = _FAILED if has_failed else _USUAL
            level, keyword, descriptor = kinds.get(record.levelno) or _kind(
                record.levelno, MESSAGES | FAILURES if has_failed else MESSAGES
            )
            if level > provider.level or not provider.is_enabled(level, keyword):
                if self._is_closed:
                    self._after_close.add()
                return
            try:
                event = self._encode(record, provider.traits, self.formatter)
            except Exception:  # noqa: BLE001 - a record may be anything
                event = self._encoder.encode_carefully(
                    record, provider.traits, self.formatter, self._message(record)
                )
            code = provider.write(descriptor, *event)
            if code:
                self._refused.setdefault(code, Counter()).add()
        except Exception:  # noqa: BLE001 - as all handlers do
            self._failed(record)

    def close(self) -> None:
        """Unregister the providers. Records that still come are counted. May be called twice."""
        self.acquire()
        try:
            self._is_closed = True
            self._providers.clear()
            for provider in self._registered.values():
                provider.close()
        finally:
            self.release()
        super().close()

    def stats(self) -> dict[str, int]:
        """Count what was not as usual.

        Returns:
            ``failed``: events that Windows refused, and the same by its codes, such as
            ``failed_8``, a disk that is too slow; ``errors``: records that could not be written,
            or whose arguments did not fit their message; ``truncated``: events of which something
            was cut; ``shared``: loggers that write to the provider of one above them;
            ``after_close``: records that came too late.
        """
        failed = {code: counter.value for code, counter in sorted(self._refused.items())}
        return {
            "failed": sum(failed.values()),
            **{f"failed_{code}": count for code, count in failed.items()},
            "errors": self._errors.value,
            "truncated": self._encoder.truncated.value,
            "shared": self._shared.value,
            "after_close": self._after_close.value,
        }

    # ---- providers ------------------------------------------------------------------------------

    def _find(self, name: str) -> Provider:
        """Find the provider of a logger that has not logged before."""
        self.acquire()
        try:
            provider = self._providers.get(name)
            if provider is None:
                provider = self._nearest(name)
                if len(self._providers) < _MAX_REMEMBERED:
                    self._providers[name] = provider
            return provider
        finally:
            self.release()

    def _nearest(self, name: str) -> Provider:
        """Return the provider of a logger, or of the nearest above it that can have one."""
        if self._is_closed or not self._has_many:
            return self._top
        nearer = name
        while nearer:
            provider = self._registered.get(nearer) or self._register(nearer)
            if provider is not None:
                break
            nearer = nearer.rpartition(".")[0]
        else:
            provider = self._top
        if provider.name != name:
            self._shared.add()
        return provider

    def _register(self, name: str) -> Provider | None:
        if len(self._registered) >= _MAX_PROVIDERS:
            return None
        try:
            provider = Provider(name, group=self._group)
        except (OSError, ValueError):
            return None
        self._registered[name] = provider
        return provider
