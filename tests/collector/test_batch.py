"""Tests of batches: what is read of a message, and what makes it the same when it comes again."""

import json

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.collector._batch import NO_HEAD, Batch, Entry, Origin, head_of
from tests.collector._processes import lines_of
from tests.test_parse import odd_messages


def test_entries():
    """Each message knows its line, its fields, its sender and its number there."""
    batch = Batch(lines_of(2), [Origin("a", [3]), Origin("b", [9])])
    first, second = batch
    assert [(first.sender, first.number), (second.sender, second.number)] == [("a", 3), ("b", 9)]
    assert (first.message["number"], second.line) == (1, lines_of(2)[1])
    assert batch[1] is second


def test_only():
    """A part of a batch keeps the numbers of its messages."""
    batch = Batch(lines_of(4), [Origin("a", range(1, 4)), Origin("b", range(1, 2))])
    part = batch.only([True, False, True, True])
    assert list(part.places()) == [("a", 1), ("a", 3), ("b", 1)]
    assert part.lines == [line for n, line in enumerate(lines_of(4)) if n != 1]


def test_joined():
    """Several batches are one, in their order."""
    one, two = Batch(lines_of(2), [Origin("a", [1, 2])]), Batch(lines_of(1), [Origin("b", [7])])
    joined = Batch.joined([one, two])
    assert list(joined.places()) == [("a", 1), ("a", 2), ("b", 7)]
    assert len(joined) == 3
    assert Batch.joined([one]) is one


class TestHead:
    """What a message says of itself."""

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ({"message_type": "a"}, ("a", 20)),
            ({"message_type": "a", "log_level": "error"}, ("a", 40)),
            ({"message_type": "a", "log_level": 10}, ("a", 10)),
            ({"message_type": "a", "log_level": 2**40}, ("a", 2**31 - 1)),
            ({"message_type": "a", "log_level": -(2**40)}, ("a", 1 - 2**31)),
            ({"message_type": "eliot:traceback"}, ("eliot:traceback", 50)),
            ({"action_type": "b", "action_status": "started"}, ("b", 20)),
            ({"action_type": "b", "action_status": "failed"}, ("b", 40)),
            ({"action_type": ["odd"], "action_status": "failed"}, ("", 40)),
            ({"message_type": 5, "log_level": [1]}, ("", 20)),
            ({}, ("", 20)),
        ],
    )
    def test_type_and_level(self, message, expected):
        """They are what the library's own levels say, as far as 32 bits hold it."""
        head = head_of(json.dumps(message).encode())
        assert expected == (head.type, head.level)

    @pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"1", b'"a"', b"{}x", b"[" * 100_000])
    def test_no_message(self, line):
        """What is no JSON object has no head."""
        assert head_of(line) is NO_HEAD

    @pytest.mark.parametrize("name", [b"task_uuid", b"message_type", b"log_level", b"other"])
    def test_no_text(self, name):
        """Nor has one with a text that is no UTF-8, unless nobody looks at that."""
        line = b'{"%s":"\x9a"}' % name
        assert (head_of(line) is NO_HEAD) == (name != b"other")

    @given(st.data())
    def test_any_bytes(self, data):
        """Whatever bytes are in a line, it has a head or none; nothing is raised."""
        line = bytearray(
            json.dumps(
                {
                    "task_uuid": "x",
                    "task_level": [1, 2],
                    "timestamp": 1.5,
                    "action_type": "a",
                    "action_status": "started",
                    "log_level": data.draw(st.sampled_from(["info", 10, None, [], 2**70])),
                    "message_type": data.draw(st.text()),
                }
            ).encode()
        )
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(line) - 1))
            line[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        head_of(bytes(line))

    @pytest.mark.parametrize(
        "line",
        [
            b'{"task_uuid": 5, "task_level": [1]}',
            b'{"task_uuid": "a", "task_level": [0]}',
            b'{"task_uuid": "a", "task_level": "1"}',
            b'{"task_uuid": "a", "task_level": []}',
            b'{"task_uuid": "a"}',
        ],
    )
    def test_no_place(self, line):
        """A place that is none is no place; the message counts all the same."""
        assert not head_of(line).has_place
        assert head_of(line) is not NO_HEAD

    def test_what_only_python_reads(self):
        """NaN, and halves of surrogate pairs, are read as the library's sources read them."""
        head = head_of(b'{"task_uuid":"a","task_level":[1],"message_type":"\\ud800","x":NaN}')
        assert (head.task_uuid, head.type) == ("a", "\\ud800")

    @given(odd_messages)
    def test_any_message(self, message):
        """Whatever a message holds, it has a head, and every text of it is UTF-8."""
        head = head_of(json.dumps(message).encode())
        assert head is not NO_HEAD
        assert isinstance(head.level, int)
        (head.type + head.task_uuid + head.action_status).encode()


class TestKey:
    """What makes a message the same."""

    def test_same(self):
        """The same line in the same place is the same, whoever sent it."""
        line = lines_of(1)[0]
        assert Entry(line, "a", 1).key == Entry(line, "b", 2).key
        assert Entry(line).key.task_level == "/1"

    def test_conflict(self):
        """Other contents in the same place are another message."""
        assert Entry(lines_of(1)[0]).key != Entry(lines_of(1, more=1)[0]).key

    def test_no_place(self):
        """Two that have no place are the same only if they are sent again."""
        assert Entry(b"{}", "a", 1).key == Entry(b"{}", "a", 1).key
        assert Entry(b"{}", "a", 1).key != Entry(b"{}", "a", 2).key

    @given(st.lists(st.integers(1, 2**40), min_size=1, max_size=5))
    def test_text(self, level):
        """Its text names the place, and can be told from others."""
        line = json.dumps({"task_uuid": "a", "task_level": level}).encode()
        assert str(Entry(line).key).startswith("a/" + "/".join(map(str, level)) + "#")
