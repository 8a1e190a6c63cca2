"""Tests of the line that people read of a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.destinations._sentence import sentence_of
from eliot_etw.json import json_default
from tests.test_hostile_values import HOSTILE


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("app:hello", {"message_type": "app:hello"}),
        ("app:paid amount=3 to=Ada", {"message_type": "app:paid", "amount": 3, "to": "Ada"}),
        (
            "app:order started n=1",
            {"action_type": "app:order", "action_status": "started", "n": 1},
        ),
        (
            "app:order failed: ValueError: no tea",
            {
                "action_type": "app:order",
                "action_status": "failed",
                "exception": "ValueError",
                "reason": "no tea",
            },
        ),
        (
            "eliot:traceback: ValueError: no tea",
            {
                "message_type": "eliot:traceback",
                "exception": "ValueError",
                "reason": "no tea",
                "traceback": "Traceback ...",
            },
        ),
        ("message x=1", {"x": 1}),
        ("a\\nb c=d\\ne", {"message_type": "a\nb", "c": "d\ne"}),
    ],
)
def test_examples(sentence, message):
    """It has type, status and reason, then the other fields."""
    place = {"task_uuid": "u", "task_level": [1], "timestamp": 1.5}
    assert sentence == sentence_of({**message, **place}, json_default)


@given(fields=st.dictionaries(st.text(), st.text() | st.integers()))
def test_line(fields):
    """It is one line, and not a long one."""
    sentence = sentence_of(fields, json_default)
    assert "\n" not in sentence.replace("\\n", "")
    assert len(sentence.replace("\\n", " ")) <= 500


def test_cut():
    """What is too long ends in dots."""
    assert sentence_of({"x": "y" * 1000}, json_default).endswith("yyy…")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name):
    """No value makes it raise, or more than a line."""
    value = HOSTILE[name]()
    for message in ({"v": value}, {"message_type": value}, {"message_type": "t", "reason": value}):
        assert "\n" not in sentence_of(message, json_default)
