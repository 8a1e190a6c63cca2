"""The collector as a whole: it makes inputs and sinks, changes them, and ends in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from itertools import chain
from threading import Lock
from time import monotonic
from typing import Any, Final, TypeVar, final

from eliot_etw import log_message, write_traceback
from eliot_etw._safe import safe_str
from eliot_etw.collector._config import Settings, Spec, address_of
from eliot_etw.collector._http import Figure, HttpServer, Report
from eliot_etw.collector._lane import Lane, Waiting
from eliot_etw.collector._lock import own
from eliot_etw.collector._pipeline import DeadLetters, Pipeline
from eliot_etw.collector._routes import Routes
from eliot_etw.collector.inputs import INPUTS, Input
from eliot_etw.collector.sinks import SINKS, Sink
from eliot_etw.exceptions import InvalidSettings

# How long a sink may take to store what waits, when it is changed while the collector runs.
_CHANGE_S: Final = 5.0

# What a file of a spool has in it that holds nothing.
_EMPTY_SPOOL_BYTES: Final = 64

_T = TypeVar("_T")


@final
class Collector:
    """Everything that runs, until it is stopped.

    Args:
        settings: What to run.

    Raises:
        InvalidSettings: If something of it cannot be made; the text says what, and where.
        OSError: If the state folder cannot be used, or belongs to another collector.

    Attributes:
        settings: What runs now.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._changing = Lock()
        self._lanes: dict[str, Lane] = {}
        self._inputs: dict[str, Input] = {}
        # What sinks had not stored when they were changed, nor had on disk.
        self._left: dict[str, list[Waiting]] = {}
        self._http: HttpServer | None = None
        # What they were made with, by name.
        self._specs: dict[str, Spec] = {}
        self._http_address: str | None = None
        self._since = monotonic()
        # What is wrong with the whole of it; mostly nothing.
        self._problem = ""
        self._counts = {"reloads": 0, "failed_reloads": 0, "left_behind": 0}
        with ExitStack() as undo:
            settings.state.mkdir(parents=True, exist_ok=True)
            undo.enter_context(own(settings.state / "lock"))
            pid = settings.state / "pid"
            undo.callback(pid.unlink, missing_ok=True)
            pid.write_text(f"{os.getpid()}\n")
            self._dead_letters = _made(
                settings, "dead_letters", DeadLetters, settings.dead_letters
            )
            undo.callback(self._dead_letters.close)
            self._pipeline = Pipeline(self._dead_letters)
            undo.callback(self._stop_all, 0.0)
            self._make(settings)
            self._undo = undo.pop_all()
        log_message("collector:started", **self.where())
        self._tell_of_orphans()

    def where(self) -> dict[str, Any]:
        """Say where messages come from and go to, for people."""
        settings = self.settings
        return {
            "state": str(settings.state),
            "inputs": [
                str(getattr(self._inputs[place], "endpoint", spec.options.get("path", spec.kind)))
                for place, spec in settings.inputs.items()
            ],
            "sinks": {
                name: str(spec.options.get("path", spec.kind))
                for name, spec in settings.sinks.items()
            },
            "http": ":".join(map(str, self._http.address)) if self._http else None,
        }

    # ---- to make and to change -----------------------------------------------------------------

    def _make(self, settings: Settings) -> None:
        """Make what is not there yet; what is there has the same settings."""
        for name, spec in settings.sinks.items():
            if name not in self._lanes:
                self._lanes[name] = self._lane(settings, name, spec)
                self._specs[name] = spec
                # Older than all that comes: else it would be taken for what came before.
                self._lanes[name].take_over(self._left.pop(name, ()))
        self._pipeline.open(self._lanes.copy(), Routes(settings.routes, settings.sinks))
        if self._http is None and settings.http is not None:
            address = address_of(settings.http, "http")
            self._http = _made(settings, "http", HttpServer, address, self.report)
            self._http_address = settings.http
        for place, spec in settings.inputs.items():
            if place not in self._inputs:
                made: Input = _made(settings, place, INPUTS.find(spec.kind), **spec.options)
                where = spec.options.get("path", spec.options.get("endpoint", ""))
                folder = settings.state / "inputs" / _file_name(f"{spec.kind}-{where}")
                try:
                    _made(settings, place, made.start, self._pipeline.take, folder)
                except InvalidSettings:
                    _close(made, 0.0)
                    raise
                self._inputs[place], self._specs[place] = made, spec

    def _lane(self, settings: Settings, name: str, spec: Spec) -> Lane:
        """Make a sink, and what stands before it."""
        place = f"sinks.{name}"
        sink: Sink = _made(settings, place, SINKS.find(spec.kind), **spec.options)
        folder = settings.state / "spool" / _file_name(name)
        put_aside = self._dead_letters.put_aside
        try:
            return _made(settings, place, Lane, name, sink, folder, spec.lane, put_aside)
        except InvalidSettings:
            with suppress(Exception):  # a sink of a user may raise anything
                sink.close(0.0)
            raise

    def reload(self, settings: Settings) -> None:
        """Run with other settings; what has not changed in them goes on as it is.

        Raises:
            InvalidSettings: If something of it cannot be made; then all is as before.
        """
        with self._changing:
            old = self.settings
            if (settings.state, settings.dead_letters) != (old.state, old.dead_letters):
                raise settings.mistake(
                    "state", "it and dead_letters change only with a restart. Leave them."
                )
            try:
                self._change(settings)
            except InvalidSettings:
                self._restore(old)
                raise
            self.settings = settings
            self._counts["reloads"] += 1
        log_message("collector:reloaded", **self.where())
        self._tell_of_orphans()

    def tell_of_failed_reload(self, why: str) -> None:
        """Say that other settings were wanted, and do not count."""
        self._counts["failed_reloads"] += 1
        log_message("collector:not_reloaded", log_level="error", reason=why)

    def _restore(self, old: Settings) -> None:
        """Make it what it was, after other settings could not be."""
        try:
            self._change(old)
        except InvalidSettings as error:
            # Such as a sink that hangs, and so lets nobody have its folder. Nothing is taken, and
            # so nothing lost, until somebody does something about it.
            self._problem = f"neither new nor old settings could be made: {error}"
            log_message("collector:not_restored", log_level="critical", reason=str(error))

    def _change(self, new: Settings) -> None:
        """End what has other settings now, and make what is new."""
        specs = self._specs
        for place in [each for each in self._inputs if new.inputs.get(each) != specs[each]]:
            _close(self._inputs.pop(place), _CHANGE_S)
        self._pipeline.close()
        for name in [each for each in self._lanes if new.sinks.get(each) != specs[each]]:
            lane = self._lanes.pop(name)
            lane.stop(_CHANGE_S)
            self._left.setdefault(name, []).extend(lane.give_away())
        if new.http != self._http_address and self._http is not None:
            self._http.close()
            self._http = None
        self._make(new)
        self._problem = ""
        self._drop_what_nobody_wants()

    def _drop_what_nobody_wants(self) -> None:
        """Let go of what waited in memory for sinks that are no more, and count it."""
        left, self._left = self._left, {}
        for waiting in chain.from_iterable(left.values()):
            self._counts["left_behind"] += len(waiting.batch)
            waiting.done()

    def _tell_of_orphans(self) -> None:
        """Say which folders have messages for sinks that are no more."""
        known = set(map(_file_name, self.settings.sinks))
        for folder in (self.settings.state / "spool").glob("*"):
            # In one that is known, files come and go.
            if folder.name in known:
                continue
            size = 0
            for file in folder.glob("*.spool"):
                with suppress(OSError):
                    size += file.stat().st_size
            if size > _EMPTY_SPOOL_BYTES:
                log_message(
                    "collector:orphaned_spool", log_level="warning", folder=str(folder), bytes=size
                )

    def look(self) -> None:
        """See whether a sink hangs. To be called now and then."""
        for lane in self._lanes.values():
            lane.look()

    # ---- the end -------------------------------------------------------------------------------

    def stop(self, timeout_s: float) -> None:
        """End in order: take nothing more, store what waits, acknowledge it."""
        with self._changing:
            log_message("collector:stopping")
            left = self._stop_all(timeout_s)
            log_message("collector:stopped", left=left)
            self._undo.close()

    def _stop_all(self, timeout_s: float) -> int:
        """Stop inputs, then sinks; return how many messages nobody has: their senders do."""
        until = monotonic() + timeout_s
        inputs, self._inputs = self._inputs, {}
        lanes, self._lanes = self._lanes, {}
        for each in inputs.values():
            each.stop(timeout_s)
        self._pipeline.close()
        left = sum(lane.stop(max(0.0, until - monotonic())) for lane in lanes.values())
        left += sum(len(waiting.batch) for waiting in chain.from_iterable(self._left.values()))
        for each in inputs.values():
            _close(each, max(1.0, until - monotonic()))
        if self._http is not None:
            self._http.close()
            self._http = None
        return left

    # ---- what it tells -------------------------------------------------------------------------

    def report(self) -> Report:
        """Say how it is."""
        lanes, inputs = self._lanes.copy(), self._inputs.copy()
        figures = [Figure(name, value) for name, value in self._pipeline.counts.items()]
        figures += [Figure(name, value) for name, value in self._counts.items()]
        figures.append(Figure("dead_letters", self._dead_letters.count))
        figures.append(Figure("uptime_seconds", int(monotonic() - self._since), is_gauge=True))
        problems = [self._problem] if self._problem else []
        for name, lane in lanes.items():
            labels = {"sink": name}
            gauges = lane.gauges()
            figures += _figures("sink", lane.stats(), labels)
            figures += _figures("sink", gauges, labels, is_gauge=True)
            if not gauges["up"]:
                problems.append(f"sink {name} is down")
        for place, each in inputs.items():
            if problem := getattr(each, "problem", ""):
                problems.append(f"{place}: {problem}")
            figures += _figures("input", each.stats(), {"input": place})
        return Report(problems, figures)


def _figures(
    what: str, numbers: Mapping[str, int], labels: Mapping[str, str], *, is_gauge: bool = False
) -> list[Figure]:
    return [Figure(f"{what}_{name}", value, labels, is_gauge) for name, value in numbers.items()]


def _made(
    settings: Settings, place: str, make: Callable[..., _T], *arguments: Any, **options: Any
) -> _T:
    """Call what makes something; say where in the settings it stands, if it cannot be made."""
    try:
        return make(*arguments, **options)
    except Exception as error:
        raise settings.mistake(place, safe_str(error)) from error


def _close(each: Input, timeout_s: float) -> None:
    """Stop an input and close it, whatever it raises."""
    try:
        each.stop(timeout_s)
        each.close(timeout_s)
    except Exception:  # noqa: BLE001 - an input of a user may raise anything
        write_traceback()


def _file_name(name: str) -> str:
    """Make the name of a folder of the name of a sink or an input."""
    return "".join(c if c.isalnum() or c in "-_" else f"%{ord(c):x}" for c in name)
