"""Messages as events in a trace (`.etl`) that the tools of Windows open, on every system."""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Lock
from uuid import UUID
from weakref import WeakSet, finalize

from eliot_etw.etw import EtlWriter, provider_guid, provider_traits
from eliot_etw.etw._etl_writer import MessageLane
from eliot_etw.etw._guid import as_guid
from eliot_etw.etw._levels import Keywords, Levels
from eliot_etw.etw._message_event import MAX_SCHEMAS, PROVIDER_NAME, MessageEncoder
from eliot_etw.etw._message_plan import Event, IsEnabled
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

# The longest event fits into it, with its headers.
_BUFFER_BYTES = 128 * 1024
# How often to try when others put files to the same place.
_TRIES = 100


class EtlFileDestination(MessageLane):
    """Writes each message as one TraceLogging event to a trace, which PerfView and WPA open.

    The file can be read at any time, also by `EtlSource` and ``eliot-etw``, which give back the
    messages that were logged. Several threads may log at once.

    **What a crash loses.** A message waits in memory for up to `flush_interval_s`; that of a
    failure does not wait, nor does what was logged before it. A program that ends in whatever way
    that Python knows of loses nothing; one that is killed, what was logged last, for that long.
    With an interval of 0 each message reaches the operating system before the call that logs
    returns, as with `FileDestination`, at several times the cost.

    **A file that is there already** is kept: it gets the time of its last change into its name
    (``app.20261121-140500.etl``).

    **A forked process** writes to a file of its own, with its number in the name
    (``app.1234.etl``), and each message at once, for it may end without warning.

    **While the disk is full,** or after `close`, each message is a destination failure, which is
    counted. Nothing is torn: when there is room again, so do the messages.

    Attributes:
        path: The file that this process writes to.
    """

    def __init__(  # noqa: PLR0913 - all are named but the path, and most are left out
        self,
        path: str | os.PathLike[str],
        *,
        provider_name: str = PROVIDER_NAME,
        guid: UUID | str | None = None,
        group: UUID | str | None = None,
        levels: Levels | None = None,
        keywords: Keywords | None = None,
        json_default: JsonDefault = json_default,
        max_schemas: int = MAX_SCHEMAS,
        flush_interval_s: float = 0.1,
        final_path: str | os.PathLike[str] | None = None,
    ) -> None:
        """Begin a trace.

        Args:
            path: Where to write; usually ``*.etl``.
            provider_name: What tools show as the provider of the events.
            guid: What they know it by. Made from the name, as all tools make it, if left out;
                PerfView draws activities only for such.
            group: The GUID of a group of providers that it belongs to.
            levels: Which level events have: patterns of types to levels, such as
                ``{"app:db:*": 5}``, or a function that takes a message and returns a level, or
                None for the usual one.
            keywords: Which keyword they have, in the same way.
            json_default: Converts values that JSON does not know.
            max_schemas: How many different sets of fields, with their types, events may have;
                further ones share an event with one field for all.
            flush_interval_s: How long messages may wait in memory, up to 3,600.
            final_path: Where the trace says that it is, if it will be moved when it is whole.

        Raises:
            OSError: If the file cannot be written, or one of that name cannot be set aside.
            TypeError: If `levels` or `keywords` is neither a mapping nor a function.
            ValueError: If the name is none that all tools can work with, a GUID, level or keyword
                is none, or `max_schemas` or the interval is out of range.
        """
        self.path = os.path.abspath(path)
        self._first_path = Path(self.path)
        self._provider_name = provider_name
        traits = provider_traits(provider_name, group)
        encoder = MessageEncoder(
            traits=traits,
            levels=levels,
            keywords=keywords,
            json_default=json_default,
            max_schemas=max_schemas,
        )
        own_guid = provider_guid(provider_name) if guid is None else as_guid(guid)
        super().__init__(own_guid, traits, encoder)
        # To the dispatcher: nothing that is called here logs, as a function of the user's may.
        self.is_leaf = not (callable(levels) or callable(keywords))
        self._is_closed = False
        self._opening = Lock()
        self._open(flush_interval_s, final_path)
        _ALL.add(self)

    def flush(self) -> None:
        """Hand all messages to the operating system. Raises OSError if it does not take them."""
        if self._finish.alive:
            self._writer.flush()

    def close(self) -> None:
        """Finish the trace. What is logged later is a failure.

        Raises:
            OSError: If messages that waited are lost; they are counted as failed.
        """
        self._is_closed = True
        if self._finish.detach() is None:
            return
        try:
            self._writer.close()
        finally:
            for _ in range(self._writer.waiting):
                self._failed.add()

    def stats(self) -> dict[str, int]:
        """Count what went wrong.

        Returns:
            ``failed``: the messages that were not written; ``truncated``: those of which
            something was cut, for an event has at most 64 KiB; ``schema_fallbacks``: those that
            share a schema with others, because there were too many; ``rule_failures``: how often
            a function for levels or keywords raised; and ``schemas``: how many there are.
        """
        return {"failed": self._failed.value, **self._encoder.stats()}

    def _open(
        self, flush_interval_s: float, final_path: str | os.PathLike[str] | None = None
    ) -> None:
        """Begin the file of this process."""
        name = self._provider_name
        self._use(_new_writer(self.path, name, flush_interval_s, final_path))
        self._finish = finalize(self, _close_at_exit, self._writer)

    def _forget_parent(self) -> None:
        """Leave the file to the parent: this is a process that was forked."""
        if self._finish.detach() is not None:
            self._writer.close()  # for this process; nothing is written
            self._opening = Lock()
            # So that each message comes to what begins the file, until it is there.
            self._known = {}
            self._encode_unknown = self._open_and_encode

    def _open_and_encode(self, message: MessageDict, is_enabled: IsEnabled | None) -> Event | None:
        """Begin the file of a forked process with its first message."""
        self._own_writer()
        return self._encoder.encode_if(message, is_enabled)

    def _own_writer(self) -> EtlWriter:
        """Return what writes the file of this process; begin it if this is a forked one.

        Raises:
            OSError: If the file cannot be written.
            ValueError: If the destination is closed.
        """
        if self._is_closed:
            msg = "A message must be logged before close(). Make a new EtlFileDestination."
            raise ValueError(msg)
        with self._opening:
            if not self._finish.alive:
                first = self._first_path
                self.path = str(first.with_name(f"{first.stem}.{os.getpid()}{first.suffix}"))
                self._open(0.0)
        return self._writer


def _new_writer(
    path: str, name: str, flush_interval_s: float, final_path: str | os.PathLike[str] | None
) -> EtlWriter:
    """Begin a trace; a file that is there already is kept under another name."""
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            return EtlWriter(
                path,
                replaces=_holds_nothing(path),
                logger_name=name,
                final_path=final_path,
                buffer_size_bytes=_BUFFER_BYTES,
                flush_interval_s=flush_interval_s,
            )
        try:
            _set_aside(Path(path))
        except PermissionError:
            if os.name != "nt":
                raise
            break  # Windows renames no file that is open
    msg = f"A trace must have its path for itself, got {path!r}, which others use. Take another."
    raise FileExistsError(msg)


def _holds_nothing(path: str) -> bool:
    """Say whether nothing is lost if a file is replaced.

    It is empty, or a device, or there is but a link to where it shall be.
    """
    with suppress(FileNotFoundError):
        status = os.stat(path)
        return not (stat.S_ISREG(status.st_mode) and status.st_size)
    return os.path.islink(path)


def _set_aside(path: Path) -> None:
    """Put the time of its last change into a file's name."""
    # Another process may be doing the same.
    with suppress(FileNotFoundError):
        changed = time.strftime("%Y%m%d-%H%M%S", time.localtime(path.stat().st_mtime))
        more = (f"-{number}" if number > 1 else "" for number in count(1))
        names = (path.with_name(f"{path.stem}.{changed}{one}{path.suffix}") for one in more)
        path.rename(next(name for name in names if not name.exists()))


def _close_at_exit(writer: EtlWriter) -> None:
    """Finish a trace that nobody closed; say what is lost, for there is nobody else to tell."""
    try:
        writer.close()
    except OSError as error:
        with suppress(Exception):
            sys.stderr.write(f"eliot_etw: {writer.waiting} messages are lost: {error}\n")


_ALL: WeakSet[EtlFileDestination] = WeakSet()


def _after_in_child() -> None:
    for destination in list(_ALL):
        destination._forget_parent()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_in_child)
