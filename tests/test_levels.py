"""Tests of the levels that messages have."""

import pytest

from eliot_etw import log_message, start_action, write_traceback
from eliot_etw._levels import CRITICAL, DEBUG, ERROR, INFO, WARNING, level_number, level_of


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (CRITICAL, "critical"),
        (CRITICAL, "FATAL"),
        (WARNING, "Warn"),
        (DEBUG, "verbose"),
        (35, 35),
        (-1, -1),
        (None, "loud"),
        (None, True),
        (None, 3.0),
        (None, ["info"]),
    ],
)
def test_number(expected, given):
    """A level is a name, in any case, or a number; nothing else is."""
    assert expected == level_number(given)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (INFO, {}),
        (INFO, {"message_type": ["no", "type"]}),
        (WARNING, {"message_type": "t", "log_level": "warning"}),
        (INFO, {"message_type": "t", "log_level": "loud"}),
        (CRITICAL, {"message_type": "eliot:traceback", "log_level": "debug"}),
        (ERROR, {"message_type": "eliot:destination_failure"}),
        (ERROR, {"message_type": "eliot:dropped"}),
        (INFO, {"action_type": "a", "action_status": "started", "log_level": "debug"}),
        (ERROR, {"action_type": "a", "action_status": "failed"}),
        (INFO, {"action_type": "a", "action_status": ["odd"]}),
    ],
)
def test_level(expected, message):
    """Failures have the level of failures, actions that of both their ends, others their own."""
    assert expected == level_of(message)


def test_of_what_is_logged(messages):
    """What a program logs has these levels."""
    try:
        with start_action(action_type="a"):
            log_message("t", log_level=10)
            raise ValueError
    except ValueError:
        write_traceback()
    assert [level_of(message) for message in messages] == [INFO, DEBUG, ERROR, CRITICAL]
