"""Messages from programs with a `ZmqDestination`, on a port of ZeroMQ."""

from __future__ import annotations

import secrets
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Final, final

from eliot_etw import log_message, write_traceback
from eliot_etw._require import require
from eliot_etw.collector import _control as control
from eliot_etw.collector._keys import AllowedKeys, check_listener, own_keys
from eliot_etw.collector._level_rules import LevelRules
from eliot_etw.collector.inputs import Batch, Deliver, Origin
from eliot_etw.collector.inputs._curve_port import CurvePort
from eliot_etw.collector.inputs._plain_port import PlainPort
from eliot_etw.collector.inputs._ports import Port, Received
from eliot_etw.collector.inputs._sessions import Sender, Session, Sessions, UnderWay
from eliot_etw.exceptions import ProtocolError
from eliot_etw.shipping import _protocol as protocol

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5515"

_MAX_BATCH_BYTES: Final = 4 << 20
_WINDOW_BYTES: Final = 8 << 20
_MOST_SENDERS: Final = 10_000
_MEMORY_BYTES: Final = 64 << 20
# So many may be connected besides senders: who changes levels, or has not yet said Hello.
_MORE_CONNECTIONS: Final = 100
# So many frames are taken before what was settled meanwhile is acknowledged.
_FRAMES_AT_ONCE: Final = 64
_LOOK_EVERY_S: Final = 0.25
_LINGER_S: Final = 0.5
_RETRY_MS: Final = 200
# How long to wait for a batch that was held back to come again.
_PATIENCE_S: Final = 3.0
# So many refusals are answered in a second: who sends garbage faster gets no answer.
_MOST_ANSWERS_PER_S: Final = 200


@final
class ZmqInput:
    """Takes what `ZmqDestination` ships, and acknowledges it when every required sink has it.

    Each batch has numbers; what comes again after a new connection is known by them. A sender may
    have so many bytes under way; a batch that there is no room for is refused, and comes again.

    With keys, all that is said is encrypted, and only who has a key in the folder of allowed ones
    can say anything. Without keys, it listens only where no other machine can reach it.

    What is said about levels, by ``eliot-etw level``, is taken from keys that are named as
    admins; without keys, from everybody on this machine.

    Args:
        endpoint: Where to listen: ``tcp://127.0.0.1:5515``, ``ipc:///run/eliot-etw.sock``.
        keys: The folder with the public keys that are allowed, ``NAME.key``. It is read again
            when it changes: a new key counts at once, and from who had one that is gone nothing is
            taken any more.
        secret_key: The collector's own keys: the file ``NAME.key_secret``.
        admins: The names of the keys that may change levels.
        allow_unencrypted: Whether to listen without keys where other machines may reach it.
        max_batch_bytes: How large a batch may be; a larger frame ends its connection.
        window_bytes: How many bytes a sender may have under way.
        max_senders: How many may be connected, and are remembered.
        memory_bytes: Without keys: how many bytes of unfinished frames and of answers that nobody
            reads are held, of all connections together.

    Raises:
        MissingDependency: If pyzmq is not installed.
        OSError: If the keys cannot be read.
        ValueError: If there must be keys, or those given are none.
    """

    def __init__(  # noqa: PLR0913 - one for each option of the configuration
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        keys: str | None = None,
        secret_key: str | None = None,
        admins: list[str] | None = None,
        allow_unencrypted: bool = False,
        max_batch_bytes: int = _MAX_BATCH_BYTES,
        window_bytes: int = _WINDOW_BYTES,
        max_senders: int = _MOST_SENDERS,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        require("zmq", feature="ZmqInput", extra="collector")
        check_listener(endpoint, keys, secret_key, allow_unencrypted)
        for name, value in (
            ("max_batch_bytes", max_batch_bytes),
            ("window_bytes", window_bytes),
            ("max_senders", max_senders),
        ):
            if value < 1:
                msg = f"{name} must be at least 1, got {value!r}. Leave it out for the usual one."
                raise ValueError(msg)
        self.endpoint = endpoint
        self._keys = AllowedKeys(Path(keys).expanduser()) if keys else None
        self._own_keys = own_keys(secret_key) if secret_key else None
        self._admins = frozenset(admins or ())
        most_bytes = protocol.MAX_FRAME_BYTES - protocol.MAX_OVERHEAD_BYTES
        self._max_batch_bytes = min(max_batch_bytes, most_bytes)
        self._window_bytes = window_bytes
        self._max_senders = max_senders
        if memory_bytes < self._max_batch_bytes + protocol.MAX_OVERHEAD_BYTES:
            msg = f"memory_bytes must have room for one batch, {self._max_batch_bytes} bytes and"
            msg = f"{msg} {protocol.MAX_OVERHEAD_BYTES}, got {memory_bytes!r}. Give more."
            raise ValueError(msg)
        self._memory_bytes = memory_bytes
        self._sessions = Sessions(max_senders)
        self._collector = secrets.token_bytes(16)
        # What sinks have settled, put in by their threads.
        self._settled: deque[tuple[Sender, UnderWay]] = deque()
        self._is_stopping = False
        self._is_closing = False
        self._answers = 0
        self._look_at = 0.0
        self._counts = dict.fromkeys(
            (
                "frames",
                "batches",
                "messages",
                "replayed",
                "garbage",
                "bad_batches",
                "held_back",
                "without_hello",
                "denied",
                "hung_up",
                "acknowledged",
                "failures",
            ),
            0,
        )
        self._thread: Thread | None = None

    # ---- its life ------------------------------------------------------------------------------

    def start(self, deliver: Deliver, folder: Path) -> None:
        """Listen. Raises OSError if that is not possible there."""
        self._deliver = deliver
        self._rules = LevelRules(folder / "levels.json")
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        try:
            self._port = self._listen()
        except BaseException:
            self._waker.close()
            self._wakened.close()
            raise
        self.endpoint = self._port.endpoint
        self._thread = Thread(target=self._run, name="eliot_etw input", daemon=True)
        self._thread.start()

    def _listen(self) -> Port:
        """Open the port: libzmq's where there are keys, as it is who can encrypt; else ours."""
        most_bytes = self._max_batch_bytes + protocol.MAX_OVERHEAD_BYTES
        if self._keys is not None and self._own_keys is not None:
            return CurvePort(
                self.endpoint,
                wakened=self._wakened,
                most_bytes=most_bytes,
                keys=self._keys,
                own_keys=self._own_keys,
                denied=partial(self._count, "denied"),
                hung_up=self._note_hung_up,
            )
        return PlainPort(
            self.endpoint,
            wakened=self._wakened,
            most_bytes=most_bytes,
            memory_bytes=self._memory_bytes,
            most_connections=self._max_senders + _MORE_CONNECTIONS,
            is_known=self._sessions.is_there,
            ended=self._sessions.end,
            hung_up=self._note_hung_up,
        )

    def _count(self, what: str) -> None:
        self._counts[what] += 1

    def _note_hung_up(self, why: str) -> None:
        """Take note that a connection was ended from here."""
        self._count("hung_up")
        log_message("collector:hung_up", log_level="warning", reason=why)

    def stop(self, timeout_s: float) -> None:
        """Take nothing more; go on acknowledging."""
        self._is_stopping = True

    def close(self, timeout_s: float) -> None:
        """Acknowledge what is settled, say goodbye, and let go of the port."""
        self._is_stopping = self._is_closing = True
        thread, self._thread = self._thread, None
        if thread is not None:
            self._wake()
            thread.join(timeout_s)

    def stats(self) -> dict[str, int]:
        """Count what happened."""
        return self._counts.copy()

    def gauges(self) -> dict[str, int]:
        """Say how many are connected."""
        return {"senders": len(self._sessions)}

    def _wake(self) -> None:
        """Have the thread look at what is new; never waits."""
        with suppress(OSError):  # full: it is awake; closed: it is gone
            self._waker.send(b"\0")

    # ---- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        """Take what comes, until the end."""
        try:
            while not self._is_closing:
                try:
                    self._turn()
                except Exception:  # noqa: BLE001 - whatever it is, the others are not to suffer
                    self._fail()
            self._acknowledge()
            for route, _ in self._sessions.all():
                self._send(route, protocol.Bye())
        finally:
            # What was said last gets a moment to leave.
            self._port.close(_LINGER_S)
            self._waker.close()
            self._wakened.close()

    def _turn(self) -> None:
        """Wait for what comes, and take it."""
        for number, received in enumerate(self._port.receive(_LOOK_EVERY_S), 1):
            # Each by itself: what else there is must be taken too.
            try:
                self._receive(received)
                if not number % _FRAMES_AT_ONCE:
                    self._acknowledge()
            except Exception:  # noqa: BLE001 - as above
                self._fail()
        self._acknowledge()
        self._look_around()

    def _fail(self) -> None:
        """Take note of a mistake of ours."""
        self._counts["failures"] += 1
        write_traceback()

    def _receive(self, received: Received) -> None:
        """Take a message, or say why not."""
        self._counts["frames"] += 1
        if received.data is None:
            self._refuse(received.route, "garbage", "A message must be one frame.")
            return
        try:
            self._take(received, received.data)
        except ProtocolError as error:
            self._refuse(received.route, error.code, str(error))

    def _take(self, received: Received, data: bytes | memoryview) -> None:
        """Do what a frame says. Raises ProtocolError if it says nothing."""
        route = received.route
        if data[: len(control.MAGIC)] == control.MAGIC:
            answer = self._control(received, control.decode(data))
            self._port.send(route, control.encode(answer))
            return
        message = protocol.decode(data)
        now_s = monotonic()
        if isinstance(message, protocol.Hello):
            self._greet(route, message, received.user, now_s)
            return
        session = self._sessions.find(route, now_s)
        if session is None:
            self._counts["without_hello"] += 1
            self._answer(route, protocol.Refused("hello", "Say Hello first."))
            return
        match message:
            case protocol.Batch():
                self._take_batch(route, session, message)
            case protocol.Ping():
                if not self._has_waited(route, session, now_s):
                    self._send(route, protocol.Pong(message.number))
            case protocol.LevelsInForce():
                session.revision, session.matching = message.revision, message.matching
            case protocol.Bye():
                self._sessions.end(route)
            case protocol.Pong():
                pass
            case _:
                raise ProtocolError("A sender must not say that.")

    def _greet(self, route: bytes, hello: protocol.Hello, user: str, now_s: float) -> None:
        """Welcome who says who it is."""
        if protocol.VERSION not in hello.versions:
            text = f"This collector speaks version {protocol.VERSION}."
            self._refuse(route, "version", text)
            return
        if self._is_stopping:
            self._answer(route, protocol.Refused("closing", retry_after_ms=_RETRY_MS))
            return
        key = "" if self._keys is None else self._keys.name_of_user(user)
        if key is None:
            self._counts["denied"] += 1
            self._refuse(route, "sender", "This key is not allowed any more.")
            return
        if not self._sessions.begin(route, Session(hello, key, user, now_s)):
            self._refuse(route, "sender", "Too many senders are connected.")
            return
        known = self._sessions.known(key, hello.sender)
        if known is not None:
            # First of all, or it would count them as acknowledged.
            for first in known.refused:
                if not self._refuse_for_ever(route, hello.sender, first):
                    return
        welcome = protocol.Welcome(
            protocol.VERSION,
            self._collector,
            known.acknowledged if known is not None else 0,
            self._max_batch_bytes,
            protocol.MAX_MESSAGES,
            self._window_bytes,
            self._rules.revision,
            self._rules.in_force(),
        )
        self._send(route, welcome)
        log_message(
            "collector:sender",
            host=hello.host,
            program=hello.program,
            pid=hello.pid,
            key=key,
        )

    # ---- batches -------------------------------------------------------------------------------

    def _take_batch(self, route: bytes, session: Session, batch: protocol.Batch) -> None:
        """Deliver a batch, or say why not."""
        sender = self._sessions.sender(session, batch.sender, route, batch.first)
        self._counts["batches"] += 1
        if batch.last <= sender.taken:
            self._answer_replayed(route, sender, batch)
            return
        if sender.waits_for and batch.first > sender.waits_for:
            # It was sent before its sender read that an earlier one is to come again.
            session.held_back = sender
            self._has_waited(route, session, monotonic())
            return
        lines = self._lines_of(route, sender, batch)
        if lines is None:
            return
        first = batch.first
        if first <= sender.taken:  # its sender has put its messages together in another way
            lines = lines[sender.taken + 1 - first :]
            first = sender.taken + 1
        name = f"{session.key}/{batch.sender.hex()}"
        numbered = Batch(lines, [Origin(name, range(first, first + len(lines)))])
        under_way = UnderWay(batch.last)
        # In the row before it is delivered: it may be settled at once, by another thread.
        sender.under_way.append(under_way)
        is_taken = False
        try:
            is_taken = not self._is_stopping and self._deliver(
                numbered, self._settler(sender, under_way)
            )
        except Exception:  # noqa: BLE001 - held back, or what follows would count for it, too
            self._fail()
        finally:
            if not is_taken:
                sender.under_way.pop()
        if not is_taken:
            sender.waits_since = monotonic()
            sender.waits_for = batch.first
            session.held_back = sender
            self._counts["held_back"] += 1
            code = "closing" if self._is_stopping else "busy"
            self._log_refused(code, "")
            # Not limited: who has said Hello is to know what to send when.
            refused = protocol.Refused(code, "", batch.sender, batch.first, _RETRY_MS)
            if not self._send(route, refused):
                self._sessions.end(route)
            return
        sender.taken = batch.last
        sender.waits_for = 0
        self._counts["messages"] += len(lines)

    def _has_waited(self, route: bytes, session: Session, now_s: float) -> bool:
        """Have who is on a connection begin anew, if what is to come again has not for long.

        It was dropped there, and there is no other way to find out.

        Returns:
            Whether it is to begin anew.
        """
        sender = session.held_back
        if sender is None or not sender.waits_for or now_s - sender.waits_since <= _PATIENCE_S:
            return False
        self._sessions.end(route)
        self._answer(route, protocol.Refused("hello", "Say Hello again."))
        return True

    def _answer_replayed(self, route: bytes, sender: Sender, batch: protocol.Batch) -> None:
        """Say again what became of a batch that came before."""
        self._counts["replayed"] += 1
        is_told = batch.first not in sender.refused or self._refuse_for_ever(
            route, batch.sender, batch.first
        )
        if is_told and sender.acknowledged:
            self._send(route, protocol.Ack(sender.identity, sender.acknowledged))

    def _lines_of(self, route: bytes, sender: Sender, batch: protocol.Batch) -> list[bytes] | None:
        """Read a batch; refuse it, and return None, if that is not possible."""
        try:
            return batch.lines(self._max_batch_bytes)
        except ProtocolError as error:
            self._counts["bad_batches"] += 1
            self._log_refused("batch", str(error))
            sender.refuse(batch.first)
            self._refuse_for_ever(route, batch.sender, batch.first, str(error)[:1000])
            return None

    def _settler(self, sender: Sender, under_way: UnderWay) -> Callable[[], None]:
        """Make what is called when a batch is settled, by any thread."""

        def settle() -> None:
            self._settled.append((sender, under_way))
            self._wake()

        return settle

    def _acknowledge(self) -> None:
        """Say what is settled by now."""
        moved: dict[int, Sender] = {}
        while self._settled:
            sender, under_way = self._settled.popleft()
            under_way.is_settled = True
            moved[id(sender)] = sender
        for sender in moved.values():
            if sender.settle():
                self._counts["acknowledged"] += 1
                self._send(sender.route, protocol.Ack(sender.identity, sender.acknowledged))

    # ---- levels --------------------------------------------------------------------------------

    def _control(self, received: Received, request: control.Control) -> control.Control:
        """Do what somebody asks who changes levels."""
        if self._keys is not None:
            key = self._keys.name_of_user(received.user)
            if key not in self._admins:
                return self._denied(f"The key {key!r} is none of the admins'.")
        elif not received.is_from_here:
            return self._denied("Without keys, levels are changed only from the same machine.")
        match request:
            case control.SetLevel():
                try:
                    self._rules.set(request.rule)
                except ValueError as error:
                    return control.Denied(str(error))
                self._spread_levels()
            case control.ClearLevels():
                self._rules.clear(request.pattern)
                self._spread_levels()
            case control.ListLevels():
                pass
            case _:
                return control.Denied("That is an answer, not a request.")
        return self._level_report()

    def _denied(self, why: str) -> control.Denied:
        """Say that somebody may not change levels."""
        self._counts["denied"] += 1
        log_message("collector:levels_denied", log_level="warning", reason=why)
        return control.Denied(why)

    def _level_report(self) -> control.LevelReport:
        """Say what is in force, and who has confirmed it."""
        senders = [
            control.SenderLevels(
                session.hello.host,
                session.hello.program,
                session.hello.pid,
                session.revision,
                session.matching,
            )
            for _, session in self._sessions.all()
        ]
        return control.LevelReport(self._rules.revision, list(self._rules.in_force()), senders)

    def _spread_levels(self) -> None:
        """Tell every sender what is in force now."""
        levels = protocol.Levels(self._rules.revision, self._rules.in_force())
        log_message("collector:levels", revision=levels.revision, rules=len(levels.rules))
        for route, _ in self._sessions.all():
            self._send(route, levels)

    # ---- now and then --------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Do what is not for each frame."""
        now_s = monotonic()
        if now_s < self._look_at:
            return
        self._look_at = now_s + _LOOK_EVERY_S
        self._answers = 0
        self._port.look_around(now_s)
        self._sessions.end_silent(now_s)
        if self._rules.expire():
            self._spread_levels()
        if self._keys is not None and self._keys.refresh():
            self._end_revoked(self._keys)

    def _end_revoked(self, keys: AllowedKeys) -> None:
        """Take nothing more from those whose keys are gone."""
        for route, session in self._sessions.all():
            if keys.name_of_user(session.user) != session.key:
                self._sessions.end(route)
                self._counts["denied"] += 1
                self._answer(
                    route, protocol.Refused("sender", "This key is not allowed any more.")
                )
                log_message("collector:revoked", log_level="warning", key=session.key)

    # ---- answers -------------------------------------------------------------------------------

    def _refuse(self, route: bytes, code: str, text: str) -> None:
        """Say why something is not taken, to its sender and in our own log."""
        self._counts["garbage"] += 1
        self._answer(route, protocol.Refused(code, text[:1000]))
        self._log_refused(code, text)

    def _log_refused(self, code: str, text: str) -> None:
        log_message("collector:refused", log_level="warning", code=code, reason=text)

    def _refuse_for_ever(
        self, route: bytes, sender: bytes, first: int, why: str = "It was refused before."
    ) -> bool:
        """Say that a batch can never be taken; who cannot be told must say Hello again.

        Until then nothing later is taken, so that nothing later is acknowledged.

        Returns:
            Whether it is told.
        """
        is_told = self._send(route, protocol.Refused("batch", why, sender, first))
        if not is_told:
            self._sessions.end(route)
        return is_told

    def _answer(self, route: bytes, refused: protocol.Refused) -> None:
        """Send a refusal, unless there were too many."""
        self._answers += 1
        if self._answers <= _MOST_ANSWERS_PER_S * _LOOK_EVERY_S:
            self._send(route, refused)

    def _send(self, route: bytes, message: protocol.Message) -> bool:
        """Send a message, if its receiver is there and reads; never waits."""
        return self._port.send(route, protocol.encode(message))
