"""The engines that messages are stored in, for tests of what holds for each of them."""

import signal
from uuid import uuid4

import pytest

from eliot_etw.shipping._clickhouse import ClickHouseTable
from eliot_etw.sources import ClickHouseSource, MongoSource, NatsSource, RedisSource
from tests import _mongodb, _services

# What has to be installed for them.
PACKAGES = {"nats": "nats", "redis": "redis", "mongodb": "pymongo"}
STREAMS = ["nats", "redis"]
SOURCES = {
    "nats": (NatsSource, "stream"),
    "redis": (RedisSource, "stream"),
    "clickhouse": (ClickHouseSource, "table"),
    "mongodb": (MongoSource, "collection"),
}


def skip_without(engine):
    """Skip a test of an engine whose package is not installed."""
    if engine in PACKAGES:
        pytest.importorskip(PACKAGES[engine])


class Place:
    """A stream, table or collection that no other test uses.

    Attributes:
        engine: Which engine it is in.
        url: Where that is.
        name: Its name there.
    """

    def __init__(self, engine, url=None):
        """Name one, in the engine that all tests share if nothing is said."""
        skip_without(engine)
        self.engine = engine
        self.url = url or _shared_url(engine)
        self.name = f"test-{uuid4()}"

    def source(self, **options):
        """Make what reads it."""
        source, what = SOURCES[self.engine]
        return source(self.url, **{what: self.name}, **options)

    def stored(self):
        """Read what is in it."""
        return list(self.source())

    def drop(self):
        """Remove it, where it would be in somebody's way."""
        if self.engine == "clickhouse":
            table = ClickHouseTable(self.url, self.name, timeout_s=30)
            table._ask(f"DROP TABLE IF EXISTS `{self.name}`".encode())
        elif self.engine == "mongodb":
            import pymongo

            with pymongo.MongoClient(self.url) as client:
                client["eliot"].drop_collection(self.name)


class Server:
    """An engine of one's own, which is to be stopped.

    Attributes:
        url: Where it is.
    """

    def __init__(self, engine, folder):
        skip_without(engine)
        if engine == "mongodb":
            self._server = _mongodb.MongoServer().start()
            self.stop = self._server.stop
        else:
            self._server = _services.start(engine, folder)
            self.stop = lambda: self._server.stop(signal.SIGKILL)
        self.start = self._server.start
        self.url = self._server.url


def _shared_url(engine):
    return _mongodb.shared_url() if engine == "mongodb" else _services.shared(engine).url
