"""Tests of the levels and keywords of events."""

import logging

import pytest

from eliot_etw.etw._levels import Rules, level_logged

STARTED = {"action_type": "app:work", "action_status": "started"}
SUCCEEDED = {"action_type": "app:work", "action_status": "succeeded"}
FAILED = {"action_type": "app:work", "action_status": "failed"}
TRACEBACK = {"message_type": "eliot:traceback"}
MESSAGE = {"message_type": "app:message"}


def levels(messages, levels=None):
    """Return the levels of messages."""
    rules = Rules(levels, None)
    return [rules.level_of(message) for message in messages]


def keywords(messages, keywords=None):
    """Return the keywords of messages."""
    rules = Rules(None, keywords)
    return [rules.keyword_of(message) for message in messages]


class TestLevels:
    """From 1 for critical to 5 for verbose."""

    def test_usual(self):
        """A failed action is an error, a traceback critical, all else information."""
        all_kinds = [STARTED, SUCCEEDED, FAILED, TRACEBACK, MESSAGE, {}]
        assert levels(all_kinds) == [4, 4, 2, 1, 4, 4]

    @pytest.mark.parametrize(
        ("expected", "level"),
        [
            (1, logging.CRITICAL),
            (1, 1000),
            (2, logging.ERROR),
            (3, logging.WARNING),
            (3, 39),
            (4, logging.INFO),
            (5, logging.DEBUG),
            (5, 1),
            (5, 0),
            (5, -(10**30)),
            (1, 10**30),
            (1, "CRITICAL"),
            (2, "error"),
            (3, "Warn"),
            (5, "debug"),
            (4, "loud"),
            (4, True),
            (4, None),
            (4, ["error"]),
        ],
    )
    def test_logged(self, expected, level):
        """A message may say its level by a name, or by a number of `logging`."""
        assert expected == level_logged(level)
        assert levels([{**MESSAGE, "log_level": level}]) == [expected]

    def test_start_and_end_are_alike(self):
        """What the start alone says must not hide it from those who see the end."""
        assert levels([{**STARTED, "log_level": "debug"}, SUCCEEDED]) == [4, 4]

    def test_mapped(self):
        """The first pattern that fits the type decides, but failures stay what they are."""
        mapped = {"app:w*": 5, "app:*": "warning", "*": 1}
        messages = [STARTED, SUCCEEDED, FAILED, {**MESSAGE, "log_level": 40}, {}, TRACEBACK]
        assert levels(messages, mapped) == [5, 5, 2, 3, 4, 1]

    def test_function(self):
        """A function decides for each message; None is the usual level."""
        chosen = {"app:work": "error", "app:message": 200}
        messages = [STARTED, FAILED, MESSAGE, TRACEBACK]
        assert levels(messages, lambda m: chosen.get(m.get("action_type"))) == [2, 2, 4, 1]
        assert levels(messages, lambda m: chosen.get(m.get("message_type"))) == [4, 2, 200, 1]

    @pytest.mark.parametrize("answer", [0, 256, -1, "loud", 3.0, True, [], object()])
    def test_no_level(self, answer):
        """What is no level is not one."""
        assert levels([MESSAGE], lambda _: answer) == [4]

    def test_function_that_raises(self):
        """It is counted, and the usual level holds."""
        rules = Rules(lambda message: message["level"], lambda message: message["keyword"])
        assert (4, 2, 2) == (
            rules.level_of(MESSAGE), rules.keyword_of(MESSAGE), rules.failures.value
        )  # fmt: skip


class TestKeywords:
    """Bits by which a session chooses."""

    def test_usual(self):
        """Actions, messages and failures have a bit each; who gets a start gets its end."""
        all_kinds = [STARTED, SUCCEEDED, FAILED, MESSAGE, TRACEBACK, {}]
        assert keywords(all_kinds) == [1, 1, 1 | 4, 2, 2 | 4, 2]

    def test_mapped(self):
        """The first pattern that fits the type decides, for start and end alike."""
        messages = [STARTED, FAILED, MESSAGE, {}, {"message_type": 7}]
        assert keywords(messages, {"app:work": 0x10, "app:*": 0x20}) == [16, 16, 32, 2, 2]

    @pytest.mark.parametrize(("expected", "answer"), [(8, 8), (2, 0), (2, 1 << 48), (2, None)])
    def test_function(self, expected, answer):
        """A function's keyword has one of the lower 48 bits; without one it is the usual."""
        assert keywords([MESSAGE], lambda _: answer) == [expected]

    def test_bits_of_windows(self):
        """The upper 16 bits are not ours."""
        assert keywords([MESSAGE], lambda _: 1 << 63 | 8) == [8]


class TestMistakes:
    """What is no mapping of levels or keywords is said at once."""

    @pytest.mark.parametrize("level", [0, 256, "loud", None, 1.5, True])
    def test_level(self, level):
        """A level is from 1 to 255, or a name."""
        with pytest.raises(ValueError, match="a level must be 1 to 255, or one of critical"):
            Rules({"*": level}, None)

    @pytest.mark.parametrize("keyword", [0, -1, 1 << 48, "x", True])
    def test_keyword(self, keyword):
        """A keyword is some of the lower 48 bits."""
        with pytest.raises(ValueError, match="a keyword must have one of the lower 48 bits"):
            Rules(None, {"*": keyword})

    def test_neither(self):
        """It is a mapping or a function."""
        with pytest.raises(TypeError, match="levels must be a mapping of types, or a function"):
            Rules(5, None)
        with pytest.raises(TypeError, match="keywords must be a mapping of types"):
            Rules(None, ["a"])
