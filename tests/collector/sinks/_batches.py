"""Batches for sinks."""

from eliot_etw._json import encode_line
from eliot_etw.collector.sinks import Batch


def some(number, **fields):
    """Make messages of one task."""
    return [
        {"task_uuid": "a", "task_level": [n], "timestamp": 1.0, "message_type": f"t{n}", **fields}
        for n in range(1, number + 1)
    ]


def batch_of(messages, *origins):
    """Make a batch of messages, which come from nobody if nothing is said."""
    return Batch([encode_line(message)[:-1] for message in messages], origins)
