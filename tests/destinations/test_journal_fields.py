"""Tests of the fields of a journal entry: their form, their names, and the line for people."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.destinations._journal_fields import (
    field,
    legal_name,
    priority_of,
    sentence_of,
    user_fields,
)
from eliot_etw.json import json_default
from tests.test_hostile_values import HOSTILE


def read(entry):
    """Read fields as journald does: name and value of each."""
    found = []
    while entry:
        name, _, rest = entry.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
        else:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        found.append((name, value))
        entry = rest
    return found


def visible(text):
    """Write half surrogates as they become visible."""
    return text.encode("utf-8", "backslashreplace")


class TestField:
    """One field."""

    @given(values=st.lists(st.text(alphabet=st.characters() | st.sampled_from("\n\0="))))
    def test_read_back(self, values):
        """Whatever the values are, each is one field with just that value."""
        written = b"".join(field(b"NAME", value) for value in values)
        assert read(written) == [(b"NAME", visible(value)) for value in values]


class TestName:
    """Names that the journal takes."""

    @given(name=st.text() | st.from_regex(r"[a-z_0-9]{1,80}", fullmatch=True))
    def test_legal(self, name):
        """Each name becomes one of capitals, digits and underscores that is not too long."""
        legal = legal_name(name).decode()
        assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", legal)

    @pytest.mark.parametrize(
        ("name", "legal"),
        [
            ("user_id", "USER_ID"),
            ("Größe", "GR_SSE"),
            ("é", "FIELD_"),
            ("", "FIELD_"),
            ("__pid", "PID"),
            ("_PID", "PID"),
            ("1st", "FIELD_1ST"),
            ("message", "FIELD_MESSAGE"),
            ("messages", "MESSAGES"),
            ("priority", "FIELD_PRIORITY"),
            ("syslog_identifier", "FIELD_SYSLOG_IDENTIFIER"),
            ("code_line", "FIELD_CODE_LINE"),
            ("eliot_task", "FIELD_ELIOT_TASK"),
            ("object_pid", "FIELD_OBJECT_PID"),
            ("unit", "FIELD_UNIT"),
            ("x" * 100, "X" * 64),
        ],
    )
    def test_examples(self, name, legal):
        """No name begins as the journal's own do, or means anything to it."""
        assert legal == legal_name(name).decode()


class TestUserFields:
    """The user's fields."""

    def test_values(self):
        """A text is its own value, anything else its JSON."""
        message = {"a": "x", "b": 1.5, "c": None, "d": [1, {"e": "é"}], "f": {1}, "g": True}
        values = [
            value.decode() for _, value in read(b"".join(user_fields(message, json_default)))
        ]
        assert values == ["x", "1.5", "null", '[1,{"e":"é"}]', "[1]", "true"]


class TestSentence:
    """The line for people."""

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
    def test_examples(self, sentence, message):
        """It has type, status and reason, then the other fields."""
        place = {"task_uuid": "u", "task_level": [1], "timestamp": 1.5}
        assert sentence == sentence_of({**message, **place}, json_default)

    @given(fields=st.dictionaries(st.text(), st.text() | st.integers()))
    def test_line(self, fields):
        """It is one line, and not a long one."""
        sentence = sentence_of(fields, json_default)
        assert "\n" not in sentence.replace("\\n", "")
        assert len(sentence.replace("\\n", " ")) <= 500

    def test_cut(self):
        """What is too long ends in dots."""
        assert sentence_of({"x": "y" * 1000}, json_default).endswith("yyy…")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name):
    """No value makes any of it raise, or begin a field of its own."""
    value = HOSTILE[name]()
    for message in (
        {"v": value},
        {"message_type": value},
        {"message_type": "t", "log_level": value},
    ):
        assert priority_of(message) in {2, 3, 4, 6, 7}
        assert "\n" not in sentence_of(message, json_default)
        assert len(read(b"".join(user_fields(message, json_default)))) == len(
            message.keys() - {"message_type"}
        )
