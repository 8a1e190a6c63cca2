"""What messages are read back from: one module for each stored form.

A source is an iterable of the messages that were logged, as dicts. A name is imported when it is
first asked for, so that a form that nobody reads costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eliot_etw._late import late_names

if TYPE_CHECKING:
    from eliot_etw.sources._lines import BadLine
    from eliot_etw.sources.clickhouse import ClickHouseSource, FollowedClickHouse
    from eliot_etw.sources.etl import EtlSource
    from eliot_etw.sources.file import FileSource, FollowedFile
    from eliot_etw.sources.journald import FollowedJournal, JournalSource
    from eliot_etw.sources.merged import merge_by_time
    from eliot_etw.sources.mongodb import FollowedMongo, MongoSource
    from eliot_etw.sources.nats import FollowedNats, NatsSource
    from eliot_etw.sources.otlp import OtlpJsonSource
    from eliot_etw.sources.redis import FollowedRedis, RedisSource
    from eliot_etw.sources.sqlite import FollowedSqlite, SqliteSource
    from eliot_etw.sources.zmq_sub import FollowedZmqSub, ZmqSubSource

_MODULES = {
    "BadLine": "_lines",
    "ClickHouseSource": "clickhouse",
    "EtlSource": "etl",
    "FileSource": "file",
    "FollowedClickHouse": "clickhouse",
    "FollowedFile": "file",
    "FollowedJournal": "journald",
    "FollowedMongo": "mongodb",
    "FollowedNats": "nats",
    "FollowedRedis": "redis",
    "FollowedSqlite": "sqlite",
    "FollowedZmqSub": "zmq_sub",
    "JournalSource": "journald",
    "MongoSource": "mongodb",
    "NatsSource": "nats",
    "OtlpJsonSource": "otlp",
    "RedisSource": "redis",
    "SqliteSource": "sqlite",
    "ZmqSubSource": "zmq_sub",
    "merge_by_time": "merged",
}

__all__ = [
    "BadLine",
    "ClickHouseSource",
    "EtlSource",
    "FileSource",
    "FollowedClickHouse",
    "FollowedFile",
    "FollowedJournal",
    "FollowedMongo",
    "FollowedNats",
    "FollowedRedis",
    "FollowedSqlite",
    "FollowedZmqSub",
    "JournalSource",
    "MongoSource",
    "NatsSource",
    "OtlpJsonSource",
    "RedisSource",
    "SqliteSource",
    "ZmqSubSource",
    "merge_by_time",
]

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
