"""Tests of the fields of a journal entry: their form and their names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.destinations._journal_fields import (
    field,
    legal_name,
    priority_of,
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
        assert len(read(b"".join(user_fields(message, json_default)))) == len(
            message.keys() - {"message_type"}
        )
