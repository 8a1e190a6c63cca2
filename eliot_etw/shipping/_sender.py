"""The sender's side of the conversation, without a socket: what to send, what answers do.

Whoever has the socket tells of connections and of frames that come, asks for frames to send, and
says what time it is. Nothing here waits, and nothing reads a clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, final

from eliot_etw.exceptions import ProtocolError
from eliot_etw.shipping._level_rules import LevelRules
from eliot_etw.shipping._protocol import (
    Ack,
    Batch,
    Bye,
    Compression,
    Format,
    Hello,
    LevelRule,
    Levels,
    LevelsInForce,
    Ping,
    Pong,
    Refused,
    Welcome,
    compressed,
    decode,
    encode,
    payload_of,
)
from eliot_etw.shipping._spool import DiskSpool, Entry, Spool
from eliot_etw.shipping._spool_folders import SpoolFolders

# How long to wait for an answer to `Hello`, and after the collector said that it ends.
_HELLO_AGAIN_S: Final = 1.0
# As each time it is twice as long, at most so long: a busy collector to which many come at once
# does not answer them all in time, and would be the busier the more often they ask.
_MOST_HELLO_AGAIN_S: Final = 8.0
# How long to wait after a collector took nothing from us: somebody has to change something.
_REFUSED_S: Final = 10.0
# How often to look for messages that others left on disk.
_LOOK_FOR_OTHERS_S: Final = 5.0
# After so many heartbeats without a word from the other side, the connection is taken for dead.
_PATIENCE: Final = 4
# So many answers wait at most: a collector that asks more often than it listens gets no more.
_MOST_ANSWERS: Final = 100


_S = TypeVar("_S", bound=Spool)


@dataclass(slots=True)
class _UnderWay:
    """A batch that was sent and not acknowledged; or one that nobody takes, in its place."""

    last: int
    count: int
    size_bytes: int
    is_refused: bool


@final
class _Stream(Generic[_S]):
    """Messages of one spool on their way: lines of JSON, each blob being some of them."""

    def __init__(self, spool: _S) -> None:
        self.spool = spool
        self.under_way: deque[_UnderWay] = deque()
        self.acknowledged = 0
        self.refused = 0
        self._bytes_under_way = 0
        self._sent_through = 0
        # Nothing beyond the batch that begins so is sent, as who takes them was busy; 0 for none.
        self._held_back = 0
        self._next = spool.first

    @property
    def has_more(self) -> bool:
        """Whether there is something that was not sent since `begin_again`."""
        return max(self._next, self.spool.first) < self.spool.next

    def begin_again(self, through: int = 0) -> None:
        """Send again what was not acknowledged, nor is safe according to who takes it now."""
        # Who takes it is not believed beyond what was sent.
        through = min(through, self._sent_through)
        self._settle(through)
        self.acknowledged += self.spool.release(through)
        self._held_back = 0
        # Also what was dropped after it was sent, and nobody acknowledges any more.
        self._rewind(0)
        self._next = self.spool.first

    def next_batch(self, welcome: Welcome, form: Format, compression: Compression) -> Batch | None:
        """Make the next batch, if there is one, and the window has room for it."""
        while not self.under_way or self._bytes_under_way < welcome.window_bytes:
            if 0 < self._held_back < self._next:
                return None
            entry = self.spool.read(self._next)
            if entry is None:
                return None
            first, count, blob = _piece_of(entry, self._next, welcome)
            self._next = first + count
            if len(blob) <= welcome.max_batch_bytes:
                most_bytes = welcome.max_batch_bytes
                batch = self._batch(first, count, blob, form, compression, most_bytes)
                self._push(_UnderWay(batch.last, count, len(batch.payload), is_refused=False))
                self._sent_through = max(self._sent_through, batch.last)
                return batch
            self._push(_UnderWay(first, 1, 0, is_refused=True))
            self._settle(0)
        return None

    def _batch(
        self,
        first: int,
        count: int,
        blob: bytes,
        form: Format,
        compression: Compression,
        most_bytes: int,
    ) -> Batch:
        """Make a batch of some lines."""
        payload = blob if form == "json" else payload_of(_lines_of(blob), form)
        if len(payload) > most_bytes:  # numbers may be longer there
            payload, form = blob, "json"
        packed = compressed(payload) if compression else payload
        if len(packed) >= len(payload):
            packed, compression = payload, ""
        return Batch(self.spool.identity, first, count, form, compression, packed)

    def acknowledge(self, through: int) -> None:
        """Release what is safe."""
        self._held_back = 0
        # Of what others left, it may be more than was sent from here; but no more is believed.
        self._settle(min(through, self._sent_through))

    def refuse(self, first: int) -> None:
        """Give a batch up that nobody takes."""
        self._held_back = 0
        for each in self.under_way:
            if each.last - each.count + 1 == first:
                each.is_refused = True
        self._settle(0)

    def send_again(self, first: int) -> None:
        """Send again the batch that begins with a number, and what followed once one is safe."""
        # Never forwards: what lies between would be left out.
        if any(each.last - each.count + 1 == first for each in self.under_way):
            self._held_back = first
            self._rewind(first)

    def _rewind(self, first: int) -> None:
        self._next = first
        while self.under_way and self.under_way[-1].last >= first:
            self._bytes_under_way -= self.under_way.pop().size_bytes

    def _push(self, each: _UnderWay) -> None:
        self.under_way.append(each)
        self._bytes_under_way += each.size_bytes

    def _settle(self, through: int) -> None:
        """Release what is acknowledged, and what stands before that and nobody takes."""
        while self.under_way and (
            self.under_way[0].last <= through or self.under_way[0].is_refused
        ):
            each = self.under_way[0]
            self._bytes_under_way -= each.size_bytes
            released = self.spool.release(each.last)
            if each.is_refused:
                self.refused += released
            else:
                self.acknowledged += released
            # Last, so that who finds nothing under way finds all of it counted.
            self.under_way.popleft()


def _piece_of(entry: Entry, at: int, welcome: Welcome) -> tuple[int, int, bytes]:
    """Take as many messages of a blob as a batch may have, but at least one.

    Returns:
        The number of the first, how many there are, and their lines.
    """
    first = max(entry.first, at)
    if (
        first == entry.first
        and entry.count <= welcome.max_messages
        and len(entry.blob) <= welcome.max_batch_bytes
    ):
        return first, entry.count, entry.blob
    lines = _lines_of(entry.blob)[first - entry.first :]
    size = 0
    for count, line in enumerate(lines[: welcome.max_messages]):
        size += len(line)
        if size > welcome.max_batch_bytes:
            return first, max(1, count), b"".join(lines[: max(1, count)])
    lines = lines[: welcome.max_messages]
    return first, len(lines), b"".join(lines)


def _lines_of(blob: bytes) -> list[bytes]:
    """Split lines of JSON, which have a newline at their end and nowhere else."""
    return [line + b"\n" for line in blob.split(b"\n")[:-1]]


@final
class Sender:
    """One side of a conversation with a collector.

    Attributes:
        rules: The rules about levels that are in force.
        is_connected: Whether there is a connection.
        refusal: Why the collector takes nothing from us, in its words; empty if it does.
        sent: How many messages were sent, those that were sent again included.
        recovered: How many of those that other processes left on disk are acknowledged.
        reconnects: How often a collector welcomed us, the first time apart.
        garbage: How many frames came that made no sense.
    """

    def __init__(
        self,
        spool: Spool,
        hello: Hello,
        rules: LevelRules,
        *,
        compression: Compression = "",
        heartbeat_s: float = 2.0,
        others: SpoolFolders | None = None,
    ) -> None:
        """Begin without a connection.

        Args:
            spool: What is to be sent, and released when it is acknowledged.
            hello: Who we are.
            rules: Where rules about levels are to be put.
            compression: How payloads are packed.
            heartbeat_s: How long nothing is said before a sign of life, in seconds.
            others: Where to look for what other processes left on disk.
        """
        self.rules = rules
        self.is_connected = False
        self.refusal = ""
        self.sent = 0
        self.recovered = 0
        self.reconnects = 0
        self.garbage = 0
        self._own = _Stream[Spool](spool)
        self._other: _Stream[DiskSpool] | None = None
        self._hello = hello
        self._compression = compression
        self._heartbeat_s = heartbeat_s
        self._others = others
        self._welcome: Welcome | None = None
        self._welcomes = 0
        self._answers: deque[Pong | LevelsInForce] = deque(maxlen=_MOST_ANSWERS)
        # When to say who we are, to go on sending, to look for others; when we last spoke and
        # heard.
        self._hello_at = self._resume_at = self._look_at = 0.0
        self._hello_again_s = _HELLO_AGAIN_S
        self._spoke_at = self._heard_at = 0.0

    @property
    def acknowledged(self) -> int:
        """How many of our messages are safe."""
        return self._own.acknowledged

    @property
    def refused(self) -> int:
        """How many of our messages the collector will never take."""
        return self._own.refused

    @property
    def is_welcome(self) -> bool:
        """Whether the collector takes messages."""
        return self._welcome is not None

    @property
    def expects_answer(self) -> bool:
        """Whether the collector is to say something soon."""
        return self.is_connected and (
            self._welcome is None or bool(self._own.under_way) or self._other is not None
        )

    @property
    def is_waiting(self) -> bool:
        """Whether anything of ours is not acknowledged, or just being counted."""
        return bool(len(self._own.spool) or self._own.under_way)

    @property
    def is_recovering(self) -> bool:
        """Whether the collector is just getting what others left on disk."""
        return self.is_welcome and self._other is not None

    # ---- the connection ------------------------------------------------------------------------

    def connected(self, now_s: float) -> None:
        """Take note of a new connection: all begins again."""
        self.is_connected = True
        self._welcome = None
        self._hello_at = self._heard_at = self._spoke_at = now_s
        self._hello_again_s = _HELLO_AGAIN_S
        self._answers.clear()

    def disconnected(self) -> None:
        """Take note that there is no connection any more."""
        self.is_connected = False
        self._welcome = None

    def is_dead(self, now_s: float) -> bool:
        """Say whether the other side has been silent for so long that it must be gone."""
        silent_s = now_s - self._heard_at
        return self._welcome is not None and silent_s > _PATIENCE * self._heartbeat_s

    # ---- what to send --------------------------------------------------------------------------

    def next_frame(self, now_s: float) -> bytes | None:
        """Give the frame that is to be sent now, if there is one; it must be sent, or the
        connection given up.
        """  # noqa: D205 - one sentence
        if not self.is_connected:
            return None
        message = self._next_message(now_s)
        if message is None:
            return None
        self._spoke_at = now_s
        return encode(message)

    def _next_message(self, now_s: float) -> Hello | Batch | Ping | Pong | LevelsInForce | None:
        if self._welcome is None:
            if now_s < self._hello_at:
                return None
            self._hello_at = now_s + self._hello_again_s
            self._hello_again_s = min(2 * self._hello_again_s, _MOST_HELLO_AGAIN_S)
            return self._hello
        if self._answers:
            return self._answers.popleft()
        if now_s >= self._resume_at:
            batch = self._next_batch(self._welcome, now_s)
            if batch is not None:
                self.sent += batch.count
                return batch
        if now_s >= max(self._spoke_at, self._heard_at) + self._heartbeat_s:
            return Ping()
        return None

    def _next_batch(self, welcome: Welcome, now_s: float) -> Batch | None:
        """Give the next batch: of ours, or of others as long as we have nothing to say."""
        form = self._hello.format
        batch = self._own.next_batch(welcome, form, self._compression)
        if batch is not None or self._own.has_more:
            return batch
        if self._others is not None and self._other is None and now_s >= self._look_at:
            self._look_at = now_s + _LOOK_FOR_OTHERS_S
            spool = self._others.find()
            self._other = None if spool is None else _Stream(spool)
        if self._other is None:
            return None
        batch = self._other.next_batch(welcome, form, self._compression)
        self._finish_other()
        return batch

    def _finish_other(self) -> None:
        """Leave what others left, if all of it is done with, and look for more at once."""
        if self._other is not None and not len(self._other.spool):
            self._leave_other()
            self._look_at = 0.0

    def _leave_other(self) -> None:
        other, self._other = self._other, None
        if other is not None and self._others is not None:
            self.recovered += other.acknowledged
            self._others.leave(other.spool)

    def close(self) -> bytes:
        """Leave what others left, and give the last frame."""
        self._leave_other()
        self._welcome = None
        return encode(Bye())

    # ---- what comes ----------------------------------------------------------------------------

    def received(self, frame: bytes, now_s: float) -> None:
        """Take a frame. Whatever is in it, it does no harm: what makes no sense is counted."""
        self._heard_at = now_s
        try:
            self._take(decode(frame), now_s)
        except ProtocolError:
            self.garbage += 1

    def _take(self, message: object, now_s: float) -> None:
        match message:
            case Welcome():
                self._begin(message, now_s)
            case Ack():  # also from a collector that ends, and takes nothing more
                self._stream_of(message.sender).acknowledge(message.through)
                self._finish_other()
            case Refused():
                self._be_refused(message, now_s)
            case Levels():
                self._set_levels(message.revision, message.rules, now_s)
            case Ping():
                self._answers.append(Pong(message.number))
            case Pong():
                pass
            case Bye():
                self._greet_again_at(now_s + _HELLO_AGAIN_S)
            case _:
                raise ProtocolError("A collector must not say that, or not now.")

    def _begin(self, welcome: Welcome, now_s: float) -> None:
        """Send what this collector does not have."""
        if welcome.version not in self._hello.versions:
            msg = f"The version must be one of {self._hello.versions}, got {welcome.version}."
            raise ProtocolError(msg)
        if self._welcome is not None:
            raise ProtocolError("A collector must welcome once.")
        self._welcome = welcome
        self._hello_again_s = _HELLO_AGAIN_S
        self.reconnects += bool(self._welcomes)
        self._welcomes += 1
        self.refusal = ""
        self._resume_at = now_s
        self._own.begin_again(welcome.acknowledged)
        if self._other is not None:
            self._other.begin_again()
        self._set_levels(welcome.revision, welcome.levels, now_s)

    def _stream_of(self, sender: bytes) -> _Stream[Any]:
        streams: tuple[_Stream[Any] | None, ...] = (self._own, self._other)
        for stream in streams:
            if stream is not None and stream.spool.identity == sender:
                return stream
        raise ProtocolError("An answer must be about a sender that speaks here.")

    def _be_refused(self, refused: Refused, now_s: float) -> None:
        wait_s = refused.retry_after_ms / 1000
        match refused.code:
            case "batch":
                self._stream_of(refused.sender).refuse(refused.first)
                self._finish_other()
            case "busy":
                self._resume_at = now_s + wait_s
                self._stream_of(refused.sender).send_again(refused.first)
            case "hello":
                self._greet_again_at(now_s)
            case "version" | "sender":
                self.refusal = refused.text or refused.code
                self._greet_again_at(now_s + max(wait_s, _REFUSED_S))
            case _:
                self._greet_again_at(now_s + max(wait_s, _HELLO_AGAIN_S))

    def _greet_again_at(self, when_s: float) -> None:
        self._welcome = None
        self._hello_at = when_s

    def _set_levels(self, revision: int, rules: tuple[LevelRule, ...], now_s: float) -> None:
        matching = self.rules.set(rules, now_s)
        self._answers.append(LevelsInForce(revision, matching))
