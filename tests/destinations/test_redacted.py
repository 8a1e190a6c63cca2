"""Tests of redaction: what is secret goes, all else stays, and nothing gets past a failure."""

import dataclasses
import datetime
import enum
import re
import uuid
from contextlib import suppress
from copy import deepcopy
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import MessageType, add_destinations, fields, log_message, start_action
from eliot_etw.destinations import MemoryDestination, RedactedDestination

SECRET = "hunter2"


def redacted(message, *arguments, **options):
    """Return what a message becomes."""
    memory = MemoryDestination()
    RedactedDestination(memory, *arguments, **options)(message)
    return memory.messages[0]


def field(value, *arguments, **options):
    """Return what the value of an innocent field becomes."""
    return redacted({"value": value}, *arguments, **options)["value"]


class TestKeys:
    """Values that are gone because of their keys."""

    @pytest.mark.parametrize(
        "key",
        [
            "password", "Password", "db_password", "PASSWORDS", "client-secret", "token",
            "accessToken", "Authorization", "Set-Cookie", "api_key", "X-Api-Key", "apikey",
            "aws_credentials", "private_key", "passphrase", "PASSWD",
        ],
    )  # fmt: skip
    def test_usual_ones(self, key):
        """What is usually secret is so without being named, on every level."""
        for message in (
            {key: SECRET},
            {"v": {key: SECRET}},
            {"v": [{"a": ({key: [SECRET]}, 1)}]},
        ):
            assert SECRET not in repr(redacted(message))

    def test_says_why(self):
        """The text in the value's place names the rule."""
        assert redacted({"db_password": SECRET}) == {"db_password": "[redacted: key *password*]"}

    def test_own_keys(self):
        """Keys that are named replace the usual ones; capitals and dashes do not count."""
        message = {"Tax-Number": 1, "x": {"TAX_NUMBER": [2]}, "password": "public"}
        gone = "[redacted: key tax_n*]"
        assert redacted(message, ["tax-n*"]) == {
            "Tax-Number": gone, "x": {"TAX_NUMBER": gone}, "password": "public",
        }  # fmt: skip

    def test_all_else_stays(self):
        """What is not secret is passed on as it is: the very message, if there is nothing."""
        message = {"a": 1, "b": ["x", {"c": None}], "task_level": [1], "t": datetime.date.today()}
        assert redacted(message) is message

    def test_message_is_not_changed(self):
        """Other destinations have the message as it was."""
        message = {"a": {"password": SECRET, "b": [1]}, "token": SECRET}
        before = deepcopy(message)
        redacted(message, patterns=["1"])
        assert message == before

    def test_what_makes_a_message_stays(self):
        """Place, types and status are no values."""
        message = {
            "task_uuid": "x", "task_level": [1], "timestamp": 1.0,
            "action_type": "token", "action_status": "started", "message_type": "password",
        }  # fmt: skip
        assert redacted(message, ["*"], ["."]) == message

    @pytest.mark.parametrize("key", [1, None, b"password", ("password", 1)])
    def test_odd_keys(self, key):
        """Keys that are not text are compared by their text."""
        message = {key: SECRET, "value": {key: SECRET}}
        assert (SECRET not in repr(redacted(message))) == ("password" in repr(key))


class TestAllow:
    """What stays whatever else is said."""

    MESSAGE = {"token": 1, "a": {"token": 2, "b": [{"token": 3}]}, "text": "x1"}  # noqa: RUF012 - only read

    @pytest.mark.parametrize(
        ("allow", "left"),
        [([], ""), (["token"], "123"), (["a.token"], "2"), (["A.b.*"], "3"), (["a"], "23")],
    )
    def test_keys_and_paths(self, allow, left):
        """A key stays everywhere, a path there only, with what is in it."""
        assert re.findall("[123]", repr(redacted(self.MESSAGE, allow=allow)))[:-1] == list(left)

    def test_before_patterns(self):
        """Texts that are allowed are not searched."""
        assert redacted(self.MESSAGE, (), ["x"], ["text"]) is self.MESSAGE
        assert redacted(self.MESSAGE, (), ["x"])["text"] == "[redacted: pattern x]1"


class TestPatterns:
    """Parts of texts that are gone because of what they look like."""

    def test_part_of_a_text(self):
        """Only what was found goes, and the rest can be read."""
        options = {"patterns": {r"card \d": r"\b\d{16}\b", "mail": re.compile(r"\S+@\S+")}}
        text = "paid with 4111111111111111 by a@b.c and d@e.f"
        assert field(text, **options) == (
            r"paid with [redacted: pattern card \d] by [redacted: pattern mail] and "
            "[redacted: pattern mail]"
        )

    def test_everywhere(self):
        """Texts are searched on every level, and so are the keys of dicts, which may be data."""
        assert field([("s1", {"s2": {"x": "s3"}})], patterns=[r"s\d"]) == [
            (
                r"[redacted: pattern s\d]",
                {r"[redacted: pattern s\d]": {"x": r"[redacted: pattern s\d]"}},
            )
        ]

    def test_keys_that_become_the_same(self):
        """No value is lost for that."""
        assert len(field({"s1": 1, "s2": 2}, patterns=[r"s\d"])) == 2

    def test_exceptions(self):
        """The reason of a failed action is a text as any other."""
        memory = MemoryDestination()
        add_destinations(RedactedDestination(memory, patterns=["hunter."]))
        with pytest.raises(ValueError, match=SECRET), start_action(action_type="a"):
            raise ValueError(f"no user {SECRET}")
        assert memory.messages[1]["reason"] == "no user [redacted: pattern hunter.]"


@dataclasses.dataclass
class User:
    """Somebody with a secret."""

    name: str
    password: str


class Opaque:
    """An object whose secret is in its repr only."""

    def __repr__(self):
        return f"<Opaque Api-Key={SECRET}>"


class Colour(enum.Enum):
    """A value of which a file has the value."""

    RED = "red"


class Broken(dict):
    """A dict that cannot be looked into."""

    def items(self):
        raise RuntimeError(SECRET)


class TestObjects:
    """Values that are no JSON."""

    @pytest.mark.parametrize(
        ("expected", "value"),
        [
            ({"name": "x", "password": "[redacted: key *password*]"}, User("x", SECRET)),
            ("[redacted: text that mentions *api_key*]", Opaque()),
            (["[redacted: text that mentions *api_key*]"], {Opaque()}),
            ("red", Colour.RED),
            ("secret/path", b"secret/path"),
            ([1], {1}),
            ({"1": "x"}, {1: "x"}),
            ({"1": "x", "token": "[redacted: key *token*]"}, {1: "x", b"token": SECRET}),
        ],
    )
    def test_become_what_a_file_has(self, expected, value):
        """They are looked through as what would be written of them."""
        assert expected == field(value)

    @pytest.mark.parametrize(
        "value",
        [1, 1.5, True, None, datetime.datetime.now(), Decimal("1.5"), uuid.uuid4(), "text", 2**70],
    )
    def test_harmless_ones(self, value):
        """Numbers and times keep their types."""
        assert field(value) is value

    def test_own_default(self):
        """What a program's own function makes of an object is looked through."""
        assert field(Opaque(), json_default=lambda _: {"token": 1, "x": 2}) == {
            "token": "[redacted: key *token*]", "x": 2,
        }  # fmt: skip

    def test_text_of_another_kind(self):
        """A subclass of str is searched as a text."""

        class Text(str):
            __slots__ = ()

        assert field(Text("a1"), patterns=[r"\d"]) == r"a[redacted: pattern \d]"


class TestReports:
    """Reports of ours that have the text of a whole message."""

    def test_of_a_failed_destination(self):
        """The text of a message that mentions a secret key goes; of which type it was, stays."""
        memory = MemoryDestination()

        def broken(message):
            raise OSError

        add_destinations(RedactedDestination(memory), broken)
        log_message("t", password=SECRET)
        log_message("t", name="x")
        log_message("t", request={"headers": {"X-Api-Key": SECRET}})
        texts = [m["message"] for m in memory.messages if "message" in m]
        assert texts[0] == "[redacted: text that mentions *password*, of t]"
        assert "'x'" in texts[1]
        assert texts[2] == "[redacted: text that mentions *api_key*, of t]"

    def test_of_a_message_that_cannot_be_serialized(self):
        """Likewise."""
        memory = MemoryDestination()
        add_destinations(RedactedDestination(memory, ["pa[sz]sword"]))
        MessageType("t", fields(port=int)).log(password=SECRET)
        assert SECRET not in repr(memory.messages)

    def test_that_is_none(self):
        """A lookalike whose text is none is not passed on."""
        message = {"message_type": "eliot:destination_failure", "message": [SECRET]}
        assert redacted(message)["message"] == "[redacted: not a text]"

    def test_other_message(self):
        """A field of that name is a field like any other."""
        message = {"message_type": "t", "message": "forgot my password"}
        assert redacted(message) is message


class TestNothingGetsPast:
    """What cannot be looked through is gone."""

    def test_circular(self):
        """Each circle ends where it begins."""
        circle = {"password": SECRET, "list": [1]}
        circle["list"].append(circle)
        assert field(circle) == {
            "password": "[redacted: key *password*]",
            "list": [1, "[redacted: circular reference]"],
        }

    def test_deep(self):
        """Beyond a depth, values are gone."""
        value = SECRET
        for _ in range(150):
            value = [{"a": value}]
        text = repr(field(value))
        assert SECRET not in text
        assert "[redacted: too large to look through]" in text

    def test_wide(self):
        """Beyond a number of containers, too: shared ones may be exponentially many."""
        value = [SECRET]
        for _ in range(60):
            value = [value, value]
        memory = MemoryDestination()
        destination = RedactedDestination(memory)
        destination({"value": value})
        assert destination.stats()["failed"] > 0

    def test_raises(self):
        """A value that raises is gone, and counted."""

        class Raises:
            def __repr__(self):
                raise RuntimeError(SECRET)

        def default(value):
            raise RuntimeError(SECRET)

        memory = MemoryDestination()
        destination = RedactedDestination(memory, patterns=["x"], json_default=default)
        destination({"value": Raises(), "broken": Broken(password=SECRET)})
        assert SECRET not in repr(memory.messages)

    def test_stack_is_full(self):
        """If there is no room to look, it is gone."""
        memory = MemoryDestination()
        destination = RedactedDestination(memory)
        value = [[[[[{"password": SECRET}]]]]]

        def down():
            try:
                down()
            except RecursionError:
                destination({"value": value})

        with suppress(RecursionError):
            down()
        assert SECRET not in repr(memory.messages)

    def test_message_that_cannot_be_looked_through(self, monkeypatch):
        """Its place stays, and nothing else."""
        memory = MemoryDestination()
        destination = RedactedDestination(memory)
        monkeypatch.setattr(destination, "_plans", None)
        destination({"task_uuid": "x", "value": SECRET})
        assert memory.messages == [
            {"task_uuid": "x", "redacted": "[redacted: the message could not be looked through]"}
        ]
        assert destination.stats()["failed"] == 1

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3) | st.just(SECRET),
            lambda inner: st.lists(inner, max_size=3)
            | st.tuples(inner)
            | st.dictionaries(st.sampled_from(["a", "Token", "b.token", 1]), inner),
            max_leaves=10,
        )
    )
    def test_any_value(self, value):
        """No secret is left, and a value without a secret is what it was."""
        result = field(value, patterns=["hunter."])
        text = repr(value)
        assert SECRET not in repr(result)
        if SECRET not in text and "oken" not in text and "1:" not in text:
            assert result is value


def test_counts():
    """Each value that is gone is counted, and each match in a text."""
    destination = RedactedDestination(MemoryDestination(), patterns=["x"])
    destination({"token": 1, "a": {"token": 2}, "b": "xx"})
    assert destination.stats() == {"redacted": 4, "failed": 0}


def test_remembers_so_much():
    """A program with ever new keys does not fill the memory."""
    destination = RedactedDestination(MemoryDestination())
    for number in range(3_000):
        destination({f"key{number}": {"a": 1}})
    assert len(destination._plans) <= 1_000
    assert len(destination._fates._known) <= 1_000


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (TypeError, r"keys must be several texts, got one, 'x'. Write \['x'\]", {"keys": "x"}),
        (TypeError, "allow must be several texts", {"allow": "x"}),
        (TypeError, "patterns must be several, got one text", {"patterns": "x"}),
        (ValueError, r"must be a regular expression, got '\('", {"patterns": ["("]}),
    ],
)
def test_refuses(error, words, options):
    """Rules that are none are refused at once, before anything is logged."""
    with pytest.raises(error, match=words):
        RedactedDestination(print, **options)
