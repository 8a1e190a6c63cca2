"""A small collector for the tests of what sends to one: it keeps what comes, and can misbehave."""

import atexit
import socket
import threading
from functools import cache

import zmq

from eliot_etw._json import decode_line
from eliot_etw.exceptions import ProtocolError
from eliot_etw.shipping._protocol import (
    Ack,
    Batch,
    Bye,
    Hello,
    Levels,
    LevelsInForce,
    Ping,
    Pong,
    Refused,
    Welcome,
    decode,
    encode,
)


def free_endpoint():
    """Return an address on which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


@cache
def shared():
    """Start a collector for all tests that only send, and look what arrived."""
    collector = Collector()
    atexit.register(collector.close)
    return collector


class Collector:
    """Listens in a thread of its own, until it is closed.

    Attributes:
        endpoint: Where.
        state: For each sender, its messages by their numbers; shared with the next collector, as
            if it were on disk.
        hellos: What senders said of themselves.
        heard: What else came, batches and signs of life apart.
    """

    def __init__(self, endpoint=None, state=None, *, acks=True, answer=None, curve=None, **limits):
        """Listen.

        Args:
            endpoint: Where; on any free port if left out.
            state: What the last collector had.
            acks: Whether it acknowledges.
            answer: Gives the frames with which it answers a message in place of what is right, or
                None.
            curve: Its secret key and public key.
            limits: What is otherwise in `Welcome`.
        """
        self.endpoint = endpoint or "tcp://127.0.0.1:*"
        self.state = {} if state is None else state
        self.acks = acks
        self.hellos = []
        self.heard = []
        self.batches = 0
        self._answer = answer
        self._curve = curve
        self._limits = {
            "max_batch_bytes": 1 << 20, "max_messages": 10_000, "window_bytes": 4 << 20, **limits
        }  # fmt: skip
        self._senders = {}
        self._orders = []
        self._is_ready = threading.Event()
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._is_ready.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End, without a word."""
        self._stops.set()
        self._thread.join(30)

    def messages(self):
        """List all messages, those of each sender in their order."""
        return [message for sender in list(self.state) for message in self.of(sender)]

    def of(self, sender):
        """List the messages of a sender in their order."""
        return [decode_line(line) for _, line in sorted(self.state[sender].items())]

    def numbers(self):
        """List what the messages have as number."""
        return [m["number"] for m in self.messages() if "number" in m]

    def tell(self, message):
        """Send something to all senders."""
        self._orders.append(message)

    def _run(self):
        context = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        if self._curve:
            router.curve_server = True
            router.curve_secretkey, router.curve_publickey = self._curve
        router.bind(self.endpoint)
        self.endpoint = router.last_endpoint.decode()
        self._is_ready.set()
        while not self._stops.is_set():
            while self._orders:
                order = self._orders.pop(0)
                for peer in list(self._senders):
                    frame = order if isinstance(order, bytes) else encode(order)
                    router.send_multipart([peer, frame])
            if router.poll(10):
                peer, *frames = router.recv_multipart()
                for frame in self._answers(peer, frames):
                    parts = frame if isinstance(frame, list) else [frame]
                    router.send_multipart([peer, *parts])
        context.destroy(linger=0)

    def _answers(self, peer, frames):
        (frame,) = frames
        message = decode(frame)
        if self._answer is not None:
            answers = self._answer(self, message)
            if answers is not None:
                return [a if isinstance(a, (bytes, list)) else encode(a) for a in answers]
        return map(encode, self._usual(peer, message))

    def _usual(self, peer, message):
        if isinstance(message, Hello):
            self.hellos.append(message)
            self._senders[peer] = message.sender
            return [self.welcome(message)]
        if peer not in self._senders:
            return [Refused("hello")]
        if isinstance(message, Batch):
            self.batches += 1
            self.take(message)
            return [Ack(message.sender, message.last)] if self.acks else []
        if isinstance(message, Ping):
            return [Pong(message.number)]
        if not isinstance(message, (Pong, LevelsInForce, Bye)):
            raise ProtocolError(f"A sender must not say {message!r}.")
        if not isinstance(message, Pong):
            self.heard.append(message)
        return []

    def welcome(self, hello):
        """Make the answer to a sender's first words."""
        known = max(self.state.get(hello.sender, {0: 0}))
        return Welcome(1, bytes(16), known if self.acks else 0, **self._limits)

    def take(self, batch):
        """Keep what is in a batch."""
        messages = self.state.setdefault(batch.sender, {})
        for number, line in enumerate(batch.lines(), batch.first):
            assert messages.setdefault(number, line) == line


def levels(*rules, revision=1):
    """Make a list of rules as a collector sends it."""
    return Levels(revision, rules)
