"""Messages to a collector over ZeroMQ: sent by a thread, numbered, kept until they are safe."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, final

from eliot_etw._require import require
from eliot_etw.destinations._queued import WhenFull
from eliot_etw.destinations._queued_lines import QueuedLines
from eliot_etw.destinations._wrapper import CLOSE_TIMEOUT_S, finish_at_exit
from eliot_etw.destinations.level_filter import LevelFilter
from eliot_etw.json import json_default
from eliot_etw.shipping._level_rules import LevelRules, Levels
from eliot_etw.shipping._logger_levels import LoggerLevels
from eliot_etw.shipping._spool import DiskSpool, MemorySpool
from eliot_etw.shipping._spool_folders import SpoolFolders
from eliot_etw.typing import JsonDefault

if TYPE_CHECKING:
    from eliot_etw.destinations._zmq_session import Session
    from eliot_etw.shipping._spool import WhenFull as WhenSpoolFull

MEMORY_BYTES: Final = 64 << 20
"""How much waits in memory at most, if nothing else is said."""
DISK_BYTES: Final = 1 << 30
"""How much waits on disk at most, if nothing else is said."""

# Sockets that forked children have inherited. To close them, or to have Python say that nobody
# did, is not for us.
_of_parents: Final[list[object]] = []
# What sessions count, and what is added up over them.
_COUNTED: Final = (
    "spooled", "acknowledged", "refused", "dropped", "sent", "recovered", "reconnects", "garbage",
)  # fmt: skip
# How long to wait for an answer, before the queue is looked at again.
_ANSWER_S: Final = 0.005
# How long the thread sleeps at most: so long may a change of levels take.
_SLEEP_S: Final = 0.25
# How long to wait before trying again what the system refused: files, threads, memory, disk.
_TRY_AGAIN_S: Final = 1.0
# How often loggers that were made meanwhile are looked for.
_LOGGERS_S: Final = 1.0


@final
class ZmqDestination(QueuedLines):
    """Sends messages to a collector, which acknowledges what it has in its stores.

    The thread that logs makes the line and queues it; another thread sends lines by the batch,
    and keeps them, in memory or in a folder, until they are acknowledged. After a new connection
    it sends again what was not, under the same numbers, so that the collector has each once.

    While the collector is away, messages wait: as many as `max_spool_bytes` and `max_queued`
    allow. Then the thread that logs waits, never longer than `block_timeout_s`, and then the
    message is dropped, as are those after it, without waiting, until there is room again. Or
    nobody waits: then the new message is dropped, or the oldest. Whatever is dropped is counted,
    and the log is told in a message ``eliot:dropped``.

    At the end of the program, what waits is sent, within `exit_timeout_s`. What is not
    acknowledged by then is lost, and counted; or it stays in the folder, for the next process that
    is given that folder. A process that is killed loses what it logged in the last 20 ms, or, if
    it has no folder, all that was not acknowledged.

    A forked child is a sender of its own. No lock is taken in the call that logs, so that a signal
    handler may log too.
    """

    _most_lines = 2_000
    _longest_sleep_s = _SLEEP_S

    def __init__(  # noqa: PLR0913 - all are named but the endpoint, and most are left out
        self,
        endpoint: str,
        *,
        server_key: str | bytes | os.PathLike[str] | None = None,
        keys: tuple[str | bytes, str | bytes] | str | os.PathLike[str] | None = None,
        unencrypted: bool = False,
        format: Literal["json", "msgpack"] = "json",  # noqa: A002 - what it is everywhere
        compression: Literal["", "zlib"] = "",
        spool_folder: str | os.PathLike[str] | None = None,
        max_spool_bytes: int | None = None,
        max_queued: int = 10_000,
        when_full: WhenFull = "block",
        block_timeout_s: float = 1.0,
        exit_timeout_s: float = CLOSE_TIMEOUT_S,
        heartbeat_s: float = 2.0,
        sets_loggers: bool = False,
        json_default: JsonDefault = json_default,
    ) -> None:
        """Check the settings; the first message starts the thread, which connects.

        Args:
            endpoint: Where the collector listens: ``"tcp://host:port"``, ``"ipc://path"``.
            server_key: The collector's public key, 40 characters; or, as a `pathlib.Path`, the
                file with it. With it, all is encrypted, and nobody else can be the collector.
            keys: Our own public and secret key; or the file with both. The collector knows us by
                them. New ones, for this process only, if left out.
            unencrypted: Whether another machine may be talked to without keys.
            format: What is sent: ``"json"`` lines, or ``"msgpack"``.
            compression: ``"zlib"`` sends less and takes longer; none if empty.
            spool_folder: Where messages wait that are not acknowledged; in memory if left out.
                Processes may share it: each makes a folder of its own there. What processes left
                there that are gone is sent by the others.
            max_spool_bytes: How many bytes wait there at most; 64 MiB in memory and 1 GiB on disk
                if left out.
            max_queued: How many messages may wait for the thread, besides.
            when_full: What happens to a message when there is no room: ``"block"`` waits for some,
                ``"drop_new"`` drops it, ``"drop_old"`` drops those that wait longest.
            block_timeout_s: How long ``"block"`` waits at most.
            exit_timeout_s: How long the end of the program may take.
            heartbeat_s: How long nothing is said before a sign of life. If the collector is silent
                for four of them, the connection is given up for a new one.
            sets_loggers: Whether levels that the collector sets are those of the standard
                library's loggers; see `drive` for those of messages.
            json_default: Converts values that JSON does not know. If it raises, the value's
                `repr` is written.

        Raises:
            MissingDependency: If pyzmq or msgspec is not installed.
            ValueError: If a setting is wrong, or the endpoint on another machine and no key given.
            OSError: If the folder, or a file with keys, cannot be used.
        """
        for package in ("zmq", "msgspec"):
            require(package, feature="ZmqDestination", extra="zmq")
        from eliot_etw.destinations._zmq_link import address_of  # noqa: PLC0415 - needs those
        from eliot_etw.destinations._zmq_session import Options, Session  # noqa: PLC0415 - too

        super().__init__(max_queued, when_full, block_timeout_s, exit_timeout_s, json_default)
        address = address_of(endpoint, server_key, keys, unencrypted=unencrypted)
        options = Options(address, format, compression, heartbeat_s)
        options.check()
        self._begin_session = partial(Session, options)
        self.endpoint = self._place = endpoint
        drops_old: WhenSpoolFull = "drop_old" if when_full == "drop_old" else "refuse"
        if max_spool_bytes is None:
            max_spool_bytes = MEMORY_BYTES if spool_folder is None else DISK_BYTES
        if max_spool_bytes < 1:
            msg = f"max_spool_bytes must be at least 1, got {max_spool_bytes!r}. Try 100_000_000."
            raise ValueError(msg)
        self._new_memory = partial(MemorySpool, max_bytes=max_spool_bytes, when_full=drops_old)
        self._folders: SpoolFolders | None = None
        if spool_folder is not None:
            self._folders = SpoolFolders(
                spool_folder, max_bytes=max_spool_bytes, when_full=drops_old
            )
        self._loggers = LoggerLevels() if sets_loggers else None
        self._filters: list[LevelFilter] = []
        self._levels: Levels = ()
        self._loggers_at = 0.0
        self._spool: DiskSpool | None = None
        self._forget()
        if self._folders is not None:
            # Now, so that a folder that cannot be used is an error.
            self._spool = self._folders.new()
            if self._folders.has_others():
                # Some may be of processes that are gone: they are not to wait for a message.
                self._wake()
        finish_at_exit(self)

    def _forget(self) -> None:
        """Begin as a new sender with an empty queue: at first, and in a forked child."""
        if vars(self).get("_session") is not None:
            _of_parents.append(self._session)
        super()._forget()
        if self._folders is not None:
            self._folders.forget()
        # The levels of the parent, which nobody may say the end of here, are set anew.
        self._apply_levels((), 0.0)
        self._spool = None
        self._rules = LevelRules(host=_HOST, program=_program(), pid=os.getpid())
        self._session: Session | None = None
        self._totals = dict.fromkeys(_COUNTED, 0)
        self._broken = 0
        self._stopped_at = -inf

    # ---- levels --------------------------------------------------------------------------------

    def drive(self, level_filter: LevelFilter) -> LevelFilter:
        """Have the levels that the collector sets count in a filter, and connect at once.

        They count before those that the filter has, and end by themselves.

        Args:
            level_filter: The filter, around this destination or any other.

        Returns:
            The filter.
        """
        self._filters.append(level_filter)
        level_filter.override(self._levels)
        if self._is_asleep:
            self._wake()
        return level_filter

    def _apply_levels(self, levels: Levels, now_s: float) -> None:
        """Put levels in force, if they are others; and in loggers that were made meanwhile."""
        is_new = levels != self._levels
        if is_new:
            self._levels = levels
            for each in list(self._filters):
                each.override(levels)
        if self._loggers is not None and (is_new or (levels and now_s >= self._loggers_at)):
            self._loggers_at = now_s + _LOGGERS_S
            self._loggers.apply(levels)

    # ---- the thread ----------------------------------------------------------------------------

    def _send_all(self) -> bool:
        naps = 0
        while not self._is_late():
            try:
                if self._step():
                    naps = 0
                elif self._may_end():
                    break
                else:
                    naps = self._rest(naps)
            except Exception:  # noqa: BLE001 - no more files, threads or memory: it may pass
                self._broken += 1
                if self._session is not None:
                    with suppress(Exception):
                        self._session.disconnect()
                self._bell.acquire(timeout=_TRY_AGAIN_S)
        return self._end_session()

    def _step(self) -> bool:
        """Take what is queued and what came, send what may be sent; say if there may be more."""
        now_s = monotonic()
        session = self._session
        if session is None:
            session = self._session = self._new_session()
        found = session.has_room() and self._take(session.put)
        session.receive(now_s)
        if session.sender.refusal:
            self._complain(session.sender.refusal)
        # Before it is said that they are in force.
        self._apply_levels(self._rules.in_force(now_s), now_s)
        session.send(now_s)
        return found

    def _rest(self, naps: int) -> int:
        """Wait for the collector if it is to answer; else sleep until woken, or for a while."""
        session = self._session
        if session is not None and (self._stops or session.sender.expects_answer):
            session.wait(_ANSWER_S)
            return naps
        return super()._rest(naps)

    def _new_session(self) -> Session:
        """Begin to talk to the collector, as a sender that it does not know yet."""
        spool: MemorySpool | DiskSpool | None
        spool, self._spool = self._spool, None
        if spool is None:
            spool = self._new_memory() if self._folders is None else self._folders.new()
        return self._begin_session(spool, self._rules, self._folders)

    # ---- the end -------------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        session = self._session
        return bool(self._queue) or self._is_taking or not (session is None or session.is_done)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what waits, and end. May be called twice; messages that still come are failures.

        Args:
            timeout_s: How long that may take.
        """
        super().close(timeout_s)
        self._apply_levels((), monotonic())

    def _finish(self, deadline: float) -> None:
        super()._finish(deadline)
        if self._folders is not None and self._spool is not None:  # nothing was ever logged
            spool, self._spool = self._spool, None
            self._folders.leave(spool)

    def _stop(self, deadline: float) -> None:
        self._stopped_at = monotonic()
        super()._stop(deadline)

    def _may_end(self) -> bool:
        """Say whether there is nothing left to wait for."""
        if not self._stops or self._queue or self._session is None:
            return self._stops and not self._queue
        return self._session.may_end(monotonic() - self._stopped_at)

    def _end_session(self) -> bool:
        """Give up what cannot be sent any more, unless it is on disk; say if all was sent."""
        session = self._session
        if session is None:
            return not self._queue
        # What is queued gets at least onto the disk.
        for _ in range(len(self._queue)):
            if not session.has_room() or not self._take(session.put):
                break
        with suppress(Exception):  # there is nothing to be done about it any more
            session.close()
        counts = session.stats()
        lost, left = counts.pop("held"), counts.pop("spooled")
        if isinstance(session.spool, DiskSpool) and self._folders is not None:
            counts["spooled"] = left
            self._folders.leave(session.spool)
        else:
            lost += left
        counts["dropped"] += lost
        self._totals = {name: self._totals[name] + counts.get(name, 0) for name in _COUNTED}
        self._session = None
        return not lost and not left

    def _all_dropped(self) -> int:
        # Read at one moment, as a run that ends meanwhile goes from the one to the other.
        session, totals = self._session, self._totals
        now = 0 if session is None else session.spool.dropped
        return self._dropped.value + totals["dropped"] + now

    def stats(self) -> dict[str, int]:
        """Count messages, in this process.

        Returns:
            ``queued``: those that wait for the thread; ``spooled``: those that wait for the
            collector; ``acknowledged``: those that it has; ``refused``: those that it will never
            take; ``dropped``: those for which there was no room, or no time at the end. All these
            together are what was logged, and ``reports``, the messages that told of dropped ones.

            ``sent``: messages that were sent, some perhaps again; ``recovered``: messages of
            processes that are gone, which this one has sent; ``reconnects``: how often the
            collector was found again; ``garbage``: answers that made no sense;
            ``system_errors``: how often the system had no files, threads or memory for us.
        """
        session, totals = self._session, self._totals  # at one moment, as above
        counts = dict(totals)
        held = 0
        if session is not None:
            now = session.stats()
            held = now.pop("held")
            counts = {name: counts[name] + now[name] for name in _COUNTED}
        counts["dropped"] += self._dropped.value
        return {
            "queued": len(self._queue) + held,
            **counts,
            "reports": self._reports,
            "system_errors": self._broken,
        }


def _name(text: str) -> str:
    """Make a name that can be sent: names of files may have bytes in them that are no text."""
    return text.encode("utf-8", "replace").decode()[:255]


_HOST: Final = _name(socket.gethostname())


def _program() -> str:
    """Name the program; its arguments are not there yet when Python is embedded."""
    path = sys.argv[0] if getattr(sys, "argv", None) else ""
    return _name(os.path.basename(path)) or "python"
