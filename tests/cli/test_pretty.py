"""Tests of `eliot-etw pretty`."""

from eliot_etw._json import encode_line
from eliot_etw.prettyprint import compact_format, pretty_format

MESSAGES = [
    {
        "task_uuid": "a-task",
        "task_level": [n],
        "timestamp": 1_795_176_000.25 + n,
        "message_type": "app:said",
        "text": "two words \x1b[31m",
    }
    for n in (1, 2)
]
LOG = b"".join(map(encode_line, MESSAGES))


def test_messages(call):
    """Messages are written as `prettyprint` writes them, one after another."""
    expected = "".join(f"{pretty_format(message)}\n" for message in MESSAGES)
    assert call("pretty", stdin=LOG) == (0, expected, "")


def test_options(call):
    """Compact and in local time, by the same options as `eliot-prettyprint` has."""
    expected = "".join(f"{compact_format(message, True)}\n" for message in MESSAGES)
    assert call("pretty", "-c", "-l", stdin=LOG) == (0, expected, "")
    assert call("pretty", "--compact", "--local-timezone", stdin=LOG) == (0, expected, "")
