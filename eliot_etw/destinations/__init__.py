"""Every destination by name, imported when it is first asked for."""

from typing import TYPE_CHECKING

from eliot_etw._late import late_names

if TYPE_CHECKING:
    from eliot_etw.destinations.background import BackgroundDestination
    from eliot_etw.destinations.etl import EtlFileDestination
    from eliot_etw.destinations.etw import EtwDestination
    from eliot_etw.destinations.file import FileDestination
    from eliot_etw.destinations.journald import JournaldDestination
    from eliot_etw.destinations.level_filter import LevelFilter
    from eliot_etw.destinations.logging import LoggingDestination
    from eliot_etw.destinations.memory import MemoryDestination
    from eliot_etw.destinations.nats import NatsDestination
    from eliot_etw.destinations.otlp import OtlpDestination
    from eliot_etw.destinations.rate_limited import RateLimitedDestination
    from eliot_etw.destinations.redacted import RedactedDestination
    from eliot_etw.destinations.redis import RedisDestination
    from eliot_etw.destinations.rotating_file import RotatingFileDestination
    from eliot_etw.destinations.tail_sampled import TailSampledDestination
    from eliot_etw.destinations.zmq import ZmqDestination

__all__ = [
    "BackgroundDestination",
    "EtlFileDestination",
    "EtwDestination",
    "FileDestination",
    "JournaldDestination",
    "LevelFilter",
    "LoggingDestination",
    "MemoryDestination",
    "NatsDestination",
    "OtlpDestination",
    "RateLimitedDestination",
    "RedactedDestination",
    "RedisDestination",
    "RotatingFileDestination",
    "TailSampledDestination",
    "ZmqDestination",
]

_MODULES = {
    "BackgroundDestination": "background",
    "EtlFileDestination": "etl",
    "EtwDestination": "etw",
    "FileDestination": "file",
    "JournaldDestination": "journald",
    "LevelFilter": "level_filter",
    "LoggingDestination": "logging",
    "MemoryDestination": "memory",
    "NatsDestination": "nats",
    "OtlpDestination": "otlp",
    "RateLimitedDestination": "rate_limited",
    "RedactedDestination": "redacted",
    "RedisDestination": "redis",
    "RotatingFileDestination": "rotating_file",
    "TailSampledDestination": "tail_sampled",
    "ZmqDestination": "zmq",
}

if not TYPE_CHECKING:  # where any name would be taken for one of ours
    __getattr__, __dir__ = late_names(__name__, _MODULES)
