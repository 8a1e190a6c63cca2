"""What the tests of the viewers share: logs written down in a few words."""

import json

import pytest

TASK = "8c668cde-235b-4872-af4e-caea524bd1c0"
NOON = 1_795_176_000.0


def _message(words, number, uuid):
    """Make a message of one line: see `log`."""
    level, *words = words.split()
    time = number / 10
    if words[0].startswith("@"):
        time = float(words.pop(0)[1:])
    role = words.pop(0) if words[0] in ("start", "end", "fail") else ""
    kind = words.pop(0) if words and "=" not in words[0] else None
    message = {
        "task_uuid": uuid,
        "task_level": [int(position) for position in level.split(".")],
        "timestamp": NOON + time,
    }
    if role:
        status = {"start": "started", "end": "succeeded", "fail": "failed"}[role]
        message |= {"action_type": kind, "action_status": status}
    elif kind:
        message["message_type"] = kind
    for word in words:
        key, _, value = word.partition("=")
        message[key] = json.loads(value)
    return message


@pytest.fixture
def log():
    """Return a function that makes the messages of a task from lines such as these.

    ``2.1 @0.5 start app:query n=5``: level; seconds after noon (a tenth more with each line if
    left out); start, end or fail for an action; type; fields as JSON without blanks.
    """

    def log(text, uuid=TASK):
        lines = filter(None, map(str.strip, text.splitlines()))
        return [_message(line, number, uuid) for number, line in enumerate(lines)]

    return log
