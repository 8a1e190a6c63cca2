"""A program that says whatever it likes to a collector's port for some seconds.

    python -m tests.collector._fuzzer ENDPOINT SECONDS SEED

Below ZeroMQ: noise, greetings and commands of ZMTP that are half right, frames that are longer
than they say, connections that are left open. By ZeroMQ: messages of ours with bytes changed, in
several parts, too large, replayed, floods of questions whose answers nobody reads. It prints how
often it did what.
"""

import json
import os
import pickle
import random
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from threading import Thread

import zmq

from eliot_etw.collector import _control as control
from eliot_etw.shipping import _protocol as protocol

_MOST_OPEN = 50
# https://rfc.zeromq.org/spec/37/: the beginning of a connection, and the command READY.
_MINORS = (b"\x00", b"\x01", b"\x01", b"\x01", b"\xff")
_MECHANISMS = (b"NULL", b"NULL", b"CURVE", b"PLAIN", b"GSSAPI", b"\xff" * 20)


class Bomb:
    """Makes a folder called ``harm``, if it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def greeting(chance):
    """Begin a connection of ZMTP, mostly right."""
    return greeting_of(chance.choice(_MINORS), chance.choice(_MECHANISMS))


def greeting_of(minor, mechanism):
    """Begin a connection of ZMTP 3."""
    return b"\xff" + b"\0" * 7 + b"\x01\x7f\x03" + minor + mechanism.ljust(20, b"\0") + b"\0" * 32


def command(name, body):
    """Make a command of ZMTP."""
    text = bytes([len(name)]) + name + body
    return b"\x06" + struct.pack(">Q", len(text)) + text


def ready(chance):
    """Say what kind of socket this is, perhaps."""
    kind = chance.choice([b"DEALER", b"REQ", b"ROUTER", b"PUB", b"", b"\xff" * 100])
    size = len(kind) if chance.random() < 0.8 else chance.getrandbits(32)
    return ready_of(kind, size)


def ready_of(kind, size):
    """Say what kind of socket this is, and how long that is."""
    return command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", size) + kind)


def frames(chance):
    """Make frames of ZMTP that may be longer than there is memory, or never end."""
    return chance.choice(
        [
            b"\x02" + struct.pack(">Q", chance.choice([2**63, 2**40, 5 << 20])) + b"x" * 1000,
            b"\x01\x00" * 5_000,  # one message of many empty parts, and no end
            b"\x00\x05hello" * 1_000,
            command(b"PING", b"\0\0" + chance.randbytes(chance.choice([0, 16, 100]))),
            command(b"SUBSCRIBE", b""),
            command(chance.randbytes(chance.randrange(255)), chance.randbytes(50)),
            chance.randbytes(chance.randrange(3_000)),
        ]
    )


def bytes_of(chance):
    """Say something below ZeroMQ."""
    said = [greeting(chance), ready(chance), *(frames(chance) for _ in range(chance.randrange(9)))]
    if chance.random() < 0.2:
        said = [chance.randbytes(chance.randrange(2_000))]
    return changed(chance, b"".join(said)) if chance.random() < 0.3 else b"".join(said)


def changed(chance, data):
    """Change some of what is said: bytes, the end, or all that follows."""
    data = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 5])):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data) + 1) :]
    return bytes(data)


def message(chance, sender):
    """Make a message that is right, or was made with care to be wrong."""
    line = b'{"task_uuid":"fuzz","task_level":[1],"timestamp":1.5,"message_type":"fuzz"}\n'
    bomb = pickle.dumps(Bomb())
    payload = chance.choice([line, line * 100, b"[" * 100_000, b"\0" * 1_000, bomb])
    unpacked = chance.choice([payload, b"\0" * (20 << 20)])
    first = chance.choice([1, 2**62])
    ours = [
        protocol.Hello((1,), sender, "h", 1, "p", 0, "json"),
        protocol.Batch(sender, first, payload.count(b"\n") or 1, "json", "", payload),
        protocol.Batch(sender, first, 100, "msgpack", "", payload),
        protocol.Batch(sender, first, 1, "json", "zlib", protocol.compressed(unpacked)),
        protocol.Ping(1),
        protocol.LevelsInForce(2**62, 7),
        protocol.Bye(),
    ]
    others = [control.encode(control.ListLevels()), bomb, b"\0" * (6 << 20)]
    return chance.choice([*map(protocol.encode, ours), *others])


class Fuzzer:
    """Speaks to a port until it is over.

    Attributes:
        counts: How often it did what.
    """

    def __init__(self, endpoint, seconds, seed):
        self._endpoint = endpoint
        self._address = endpoint.removeprefix("tcp://").split(":")
        self._until = time.monotonic() + seconds
        self._seed = seed
        self.counts = Counter()

    def run(self):
        """Do all at once."""
        ways = [self.below, self.below, self.by_zeromq, self.by_zeromq, self.flood, self.hold]
        threads = [
            Thread(target=way, args=(random.Random(self._seed * 100 + number),))
            for number, way in enumerate(ways)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def below(self, chance):
        """Say what is no ZeroMQ, or half of it, and leave some connections open."""
        left_open = []
        while time.monotonic() < self._until:
            with suppress(OSError):
                connection = socket.create_connection(self._address, timeout=2)
                self.counts["connections"] += 1
                left_open.append(connection)
                connection.sendall(bytes_of(chance))
                if chance.random() < 0.5:
                    connection.settimeout(0.01)
                    connection.recv(1000)
            if len(left_open) > _MOST_OPEN or chance.random() < 0.7:
                left_open.pop(0).close()
        for connection in left_open:
            connection.close()

    def hold(self, chance):
        """Have it hold as much as it will: frames but for their ends, parts without end, and short
        connections, all of whose frames wait to be read.
        """  # noqa: D205 - one sentence
        size = 4 << 20
        large = b"\x02" + struct.pack(">Q", size) + b"x" * (size - 1)
        noise = b"\x02" + struct.pack(">Q", 8_000) + b"x" * 8_000
        begun = []
        while time.monotonic() < self._until:
            with suppress(OSError):
                connection = socket.create_connection(self._address, timeout=2)
                mechanism = chance.choice([b"NULL", b"CURVE"])
                connection.sendall(greeting_of(b"\x00", mechanism) + ready_of(b"DEALER", 6))
                self.counts["held"] += 1
                way = chance.choice(["large", "parts", "short", "short", "short"])
                if way == "large":
                    begun.append(connection)
                    connection.sendall(large)
                elif way == "parts":
                    begun.append(connection)
                    for _ in range(20):
                        connection.sendall(b"\x01\x00" * 30_000)
                else:
                    with connection:
                        connection.sendall(noise * 15)
            if len(begun) > 4 * _MOST_OPEN:
                begun.pop(0).close()
        for connection in begun:
            connection.close()

    def by_zeromq(self, chance):
        """Say what is almost ours, in sockets of several kinds."""
        with zmq.Context() as context:
            while time.monotonic() < self._until:
                kind = chance.choice([zmq.DEALER, zmq.DEALER, zmq.DEALER, zmq.PUSH, zmq.ROUTER])
                with context.socket(kind) as its:
                    its.linger, its.sndtimeo = 0, 100
                    if chance.random() < 0.3:
                        its.routing_id = chance.choice([b"same", b"x" * 255])
                    its.connect(self._endpoint)
                    self._say(chance, its)

    def _say(self, chance, its):
        sender = chance.randbytes(16)
        with suppress(zmq.ZMQError):
            if chance.random() < 0.7:
                its.send(protocol.encode(protocol.Hello((1,), sender, "h", 1, "p", 0, "json")))
            for _ in range(chance.randrange(30)):
                parts = chance.choice([1, 1, 1, 1, 2, 200])
                said = [message(chance, sender) for _ in range(min(parts, 2))]
                said = [changed(chance, part) if chance.random() < 0.5 else part for part in said]
                its.send_multipart(said + [b"part"] * (parts - len(said)))
                self.counts["messages"] += 1
            if chance.random() < 0.5 and its.type == zmq.DEALER:
                its.poll(20)

    def flood(self, chance):
        """Ask and ask, and read no answer."""
        ping = protocol.encode(protocol.Ping(1))
        with zmq.Context() as context:
            while time.monotonic() < self._until:
                with context.socket(zmq.DEALER) as its, suppress(zmq.ZMQError):
                    its.linger, its.sndtimeo = 0, 100
                    its.connect(self._endpoint)
                    hello = protocol.Hello((1,), chance.randbytes(16), "h", 1, "p", 0, "json")
                    its.send(protocol.encode(hello))
                    for _ in range(2_000):
                        its.send(ping)
                        self.counts["questions"] += 1


def main():
    """Do what the command line says."""
    endpoint, seconds, seed = sys.argv[1:]
    fuzzer = Fuzzer(endpoint, float(seconds), int(seed))
    fuzzer.run()
    print(json.dumps(fuzzer.counts))


if __name__ == "__main__":
    main()
