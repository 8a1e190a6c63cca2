"""A MongoDB for tests: a real one if the environment names it, else what speaks its protocol.

``ELIOT_ETW_MONGODB_URL`` names a real one. The other keeps documents in memory, and knows no more
of MongoDB's commands than our sink and our source use, as its manual describes them.
"""

import os
import socketserver
import struct
import threading
from functools import cache, cmp_to_key
from itertools import count, islice

ENVIRONMENT = "ELIOT_ETW_MONGODB_URL"
_REPLY, _QUERY, _MSG = 1, 2004, 2013
_MOST_IN_BATCH = 101
_COMPARE = {
    "$gt": lambda value, other: value is not None and value > other,
    "$gte": lambda value, other: value is not None and value >= other,
    "$lt": lambda value, other: value is not None and value < other,
    "$ne": lambda value, other: value != other,
    "$in": lambda value, others: value in others,
}


@cache
def shared_url():
    """Return where a MongoDB is for all tests that use names of their own there."""
    return os.environ.get(ENVIRONMENT) or MongoServer().start().url


class MongoServer:
    """Speaks MongoDB's wire protocol on a free port of loopback.

    Attributes:
        databases: For each database, its collections; for each of them, its documents by id.
        commands: The names of the commands that came.
        failing: What to answer to commands by name, instead of doing them.
    """

    def __init__(self):
        self.databases = {}
        self.validators = {}
        self.commands = []
        self.failing = {}
        self.lock = threading.Lock()
        self.cursors = {}
        self.numbers = count(1)
        self.port = 0
        self._server = None

    @property
    def url(self):
        """Where it is."""
        return f"mongodb://127.0.0.1:{self.port}/"

    def start(self):
        """Listen; on the same port, if it did before."""
        self._server = _Server(("127.0.0.1", self.port), _Connection)
        self._server.mongo = self
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        return self

    def stop(self):
        """Hang up on everybody; what is stored stays."""
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    # ---- commands ------------------------------------------------------------------------------

    def do(self, command):
        """Do a command, and return the answer."""
        name = next(iter(command))
        with self.lock:
            self.commands.append(name)
            if name in self.failing:
                return {"ok": 0.0, **self.failing[name]}
            do = getattr(self, f"do_{name.lower()}", None)
            if do is None:
                return {"ok": 0.0, "code": 59, "errmsg": f"no such command: {name}"}
            return {"ok": 1.0, **do(command)}

    def _collection(self, command, name):
        return self.databases.setdefault(command["$db"], {}).setdefault(name, {})

    def do_hello(self, _):
        return {
            "helloOk": True,
            "isWritablePrimary": True,
            "ismaster": True,
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "minWireVersion": 0,
            "maxWireVersion": 21,
        }

    do_ismaster = do_hello

    def do_ping(self, _):
        return {}

    do_endsessions = do_createindexes = do_ping

    def do_create(self, command):
        self._collection(command, command["create"])
        self.validators[command["$db"], command["create"]] = command.get("validator", {})
        return {}

    def do_drop(self, command):
        self.databases.get(command["$db"], {}).pop(command["drop"], None)
        return {}

    def do_insert(self, command):
        collection = self._collection(command, command["insert"])
        validator = self.validators.get((command["$db"], command["insert"]), {})
        errors = []
        for index, document in enumerate(command["documents"]):
            if document["_id"] in collection:
                own = {"keyPattern": {"_id": 1}, "code": 11000}
                errors.append({"index": index, "errmsg": "E11000 duplicate key", **own})
            elif not _is_match(document, validator):
                why = {"code": 121, "errmsg": "Document failed validation"}
                errors.append({"index": index, **why})
            else:
                collection[document["_id"]] = document
        done = {"n": len(command["documents"]) - len(errors)}
        return {**done, "writeErrors": errors} if errors else done

    def do_find(self, command):
        collection = self._collection(command, command["find"])
        found = [each for each in collection.values() if _is_match(each, command["filter"])]
        for name, direction in reversed(command.get("sort", {}).items()):
            found.sort(key=cmp_to_key(_order_of(name, direction)))
        chosen = command.get("projection") or {}
        if chosen:
            found = [{n: each[n] for n in ("_id", *chosen) if n in each} for each in found]
        if command.get("limit"):
            found = found[: command["limit"]]
        name = f"{command['$db']}.{command['find']}"
        size = command.get("batchSize", _MOST_IN_BATCH)
        number = 0 if command.get("singleBatch") else next(self.numbers)
        return self._batch(number, iter(found), name, size, "firstBatch")

    def do_getmore(self, command):
        rest, name = self.cursors.pop(command["getMore"])
        size = command.get("batchSize", 1000)
        return self._batch(command["getMore"], rest, name, size, "nextBatch")

    def do_killcursors(self, command):
        for number in command["cursors"]:
            self.cursors.pop(number, None)
        return {"cursorsKilled": command["cursors"]}

    def _batch(self, number, rest, name, size, kind):
        """Give some of what was found, and keep the rest for later."""
        from bson import Int64

        batch = list(islice(rest, size))
        if number and len(batch) == size:
            self.cursors[number] = (rest, name)
        else:
            number = 0
        return {"cursor": {"id": Int64(number), "ns": name, kind: batch}}


def _is_match(document, query):
    """Say whether a document is what a query asks for."""
    for name, wanted in query.items():
        value = _value_in(document, name)
        conditions = wanted if isinstance(wanted, dict) else {"$in": [wanted]}
        if not all(_COMPARE[operator](value, other) for operator, other in conditions.items()):
            return False
    return True


def _value_in(document, path):
    """Return a value in a document, also within others; None if there is none."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _order_of(name, direction):
    """Make what compares documents by a field."""

    def compare(one, other):
        first, second = one.get(name), other.get(name)
        return direction * ((first > second) - (first < second))

    return compare


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments):
        self.connections = set()
        super().__init__(*arguments)

    def hang_up(self):
        """End all connections."""
        for connection in list(self.connections):
            connection.shutdown(2)

    def handle_error(self, *_):
        """Say nothing of clients that hang up."""


class _Connection(socketserver.StreamRequestHandler):
    """Reads messages, as MongoDB's manual describes them under "Wire Protocol"."""

    def setup(self):
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def handle(self):
        import bson

        while len(header := self.rfile.read(16)) == 16:
            length, request, _, code = struct.unpack("<iiii", header)
            body = self.rfile.read(length - 16)
            if code == _QUERY:  # the first one of a connection
                start = body.index(b"\0", 4) + 9
                answer = bson.encode(self.server.mongo.do(bson.decode(body[start:])))
                self._send(_REPLY, request, struct.pack("<iqii", 8, 0, 0, 1) + answer)
                continue
            flags, command = _command_of(body)
            answer = self.server.mongo.do(command)
            if not flags & 2:  # more to come: no answer is wanted
                self._send(_MSG, request, struct.pack("<ib", 0, 0) + bson.encode(answer))

    def _send(self, code, request, body):
        header = struct.pack("<iiii", 16 + len(body), 1, request, code)
        self.wfile.write(header + body)


def _command_of(body):
    """Read the sections of a message: a command, and lists of documents that belong to it."""
    import bson

    (flags,) = struct.unpack_from("<i", body)
    at, end = 4, len(body) - (4 if flags & 1 else 0)
    command, lists = {}, {}
    while at < end:
        kind = body[at]
        (size,) = struct.unpack_from("<i", body, at + 1)
        section = body[at + 1 : at + 1 + size]
        if kind == 0:
            command = bson.decode(section)
        else:
            name, _, documents = section[4:].partition(b"\0")
            lists[name.decode()] = bson.decode_all(documents)
        at += 1 + size
    return flags, command | lists
