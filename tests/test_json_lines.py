"""Tests of messages as lines of JSON: what comes out is valid, and what was put in."""

import json
from collections import OrderedDict
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone, tzinfo
from enum import Enum
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import (
    _MAX_DOUBLE,
    CIRCULAR,
    choose_default,
    decode_line,
    encode_carefully,
    encode_line,
    encode_strictly,
    in_ascii,
)
from eliot_etw._safe import UNPRINTABLE
from eliot_etw.json import EliotJSONEncoder, json_default

# What forces orjson to give up on a whole message.
BEYOND_ORJSON = 2**64

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
json_messages = st.dictionaries(st.text(), values)


def read(line):
    """Read a line as every kind of reader does; all must agree."""
    assert isinstance(line, bytes)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert orjson.loads(line) == json.loads(line, parse_int=as_double_if_big)
    return json.loads(line)


def as_double_if_big(digits):
    """Read an integer as readers do that have 64 bits."""
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else float(value)


def type_name_of(value):
    """Name a parameter of a test."""
    return type(value).__name__


def written(value, **options):
    """Return what a value is read back as, alone and where orjson gives up on the message."""
    alone = read(encode_line({"v": value}, **options))["v"]
    message = read(encode_line({"v": value, "big": BEYOND_ORJSON}, **options))
    assert message["big"] == BEYOND_ORJSON
    assert alone == message["v"]
    return alone


class Raising(Exception):
    """What the methods of hostile values raise."""


class NoRepr:
    """Something that cannot be written as text."""

    def __repr__(self):
        raise Raising

    __str__ = __repr__


class NoClass:
    """Something that does not even tell its class."""

    @property
    def __class__(self):
        raise Raising

    def __repr__(self):
        return "no class"


class OddDict(dict):
    """A dict whose own methods raise."""

    def items(self):
        raise Raising

    __iter__ = keys = values = items


class OddList(list):
    """A list that cannot be iterated over."""

    def __iter__(self):
        raise Raising


class OddText(str):
    """A text whose own methods raise."""

    __slots__ = ()

    def encode(self, *args):
        raise Raising

    __str__ = __repr__ = encode

    def __eq__(self, other):
        raise Raising

    __hash__ = str.__hash__


class OddMeta(type):
    """The class of classes that do not let anybody look at them."""

    def __getattribute__(cls, name):
        raise Raising


class Secretive(metaclass=OddMeta):
    """A class that does not let anybody look at it."""


class Point(NamedTuple):
    """A place."""

    x: int
    y: int


class Half(float):
    """A number of a class of its own."""


class Colour(Enum):
    """A colour."""

    RED = "red"


@dataclass
class Plain:
    """A dataclass."""

    x: int
    _hidden: int = 0


@dataclass
class Slotted:
    """A dataclass that has no dict."""

    __slots__ = ("x",)
    x: int


@dataclass
class Node:
    """A dataclass that may refer to itself."""

    other: object = None
    values: list = field(default_factory=list)


class TestJSONMessages:
    """Messages that are JSON already."""

    @given(json_messages)
    def test_round_trip(self, message):
        """A message of JSON's own types is one line, is read back equal, and is not changed.

        That is so by orjson's way and by ours, which writes what orjson refuses.
        """
        before = deepcopy(message)
        for line in encode_line(message), encode_carefully(message):
            assert before == read(line)
            assert before == decode_line(line)
        assert before == message

    @given(st.integers(-_MAX_DOUBLE, _MAX_DOUBLE))
    def test_integers_of_any_size(self, value):
        """An integer of any size is read back with every digit."""
        assert {"v": value} == decode_line(encode_line({"v": value}))

    def test_left_alone(self):
        """A message with odd things in it is not changed either."""
        message = {"big": BEYOND_ORJSON, "odd": {1: {2}, "2": [Point(1, 2)]}}
        before = deepcopy(message)
        encode_line(message)
        assert before == message


class TestNumbers:
    """Numbers that are too much for somebody."""

    @pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**100, -(10**308), _MAX_DOUBLE])
    def test_beyond_64_bits(self, value):
        """Every digit is written, as a number."""
        assert value == written(value)

    @pytest.mark.parametrize("value", [10**309, -(10**309), _MAX_DOUBLE + 1])
    def test_beyond_doubles(self, value):
        """What strict readers refuse as infinite is written as text, so that they read the rest.

        orjson fails on the whole line, and the message would be lost.
        """
        assert str(value) == written(value)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_beyond_python(self, sign):
        """What Python refuses to write in decimal digits is written in hexadecimal ones."""
        value = sign * 16**5000
        assert hex(value) == written(value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_no_numbers(self, value):
        """JSON has no such numbers: they are null."""
        assert written(value) is None

    def test_of_a_class_of_its_own(self):
        """A number stays a number if its class is derived from float."""
        assert written(Half(1.5)) == 1.5

    def test_truth_is_no_number(self):
        """True and False stay what they are."""
        assert written([True, False]) == [True, False]


class TestText:
    """Text that UTF-8 does not know."""

    @pytest.mark.parametrize("value", ["\ud800", "a\udfffz", "\ude00\ud83d"])
    def test_lone_surrogates(self, value):
        r"""Half a character becomes visible: the six characters ``\udXXX``."""
        assert value.encode("utf-8", "backslashreplace").decode() == written(value)

    def test_bytes(self):
        r"""Bytes are text; what is not UTF-8 in them becomes ``\xNN``."""
        assert written("é".encode() + b"\xff") == "é\\xff"

    def test_memory(self):
        """A view of memory is its bytes."""
        assert written(memoryview(b"abc")) == "abc"

    def test_odd_text(self):
        """A text is read as it is, whatever the methods of its class do."""
        assert written(OddText("a\nb")) == "a\nb"

    @given(st.text(st.characters()))
    def test_any_text(self, text):
        """Any text makes a valid line, as a value and as a key."""
        visible = text.encode("utf-8", "backslashreplace").decode()
        assert {visible: visible} == read(encode_line({text: text}))


class TestKeys:
    """Keys that JSON does not know."""

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            (1, "1"),
            (1.5, "1.5"),
            (True, "true"),
            (None, "null"),
            (b"\xff", "\\xff"),
            ((1, 2), "(1, 2)"),
            (10**400, str(10**400)),
            ("\ud800", "\\ud800"),
            (OddText("k"), "k"),
            (NoRepr(), UNPRINTABLE),
            (NoClass(), "no class"),
        ],
        ids=type_name_of,
    )
    def test_no_text(self, key, expected):
        """A key that is no text becomes one, as Python's json does where it can."""
        assert {expected: 7} == read(encode_line({key: 7}))

    @pytest.mark.parametrize(
        "message",
        [
            {"1": "a", 1: "b", b"1": "c"},
            {1: "a", "1": "b", "1_": "c"},
            {"\ud800": "a", "\\ud800": "b"},
            {OddText("1"): "a", 1: "b"},
            {NoRepr(): "a", NoRepr(): "b"},
        ],
        ids=["numbers", "underscores", "surrogates", "odd text", "no repr"],
    )
    def test_written_alike(self, message):
        """Of two keys that would be written alike one gets an underscore; nothing is lost."""
        assert sorted(message.values()) == sorted(read(encode_line(message)).values())

    def test_text_keeps_its_name(self):
        """It is the key that was text before that keeps the name."""
        assert read(encode_line({1: "number", "1": "text"})) == {"1": "text", "1_": "number"}


class TestContainers:
    """Containers that are not JSON's, or have no end."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (Point(1, 2), [1, 2]),
            ((1, (2,)), [1, [2]]),
            ({7}, [7]),
            (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
            (Plain(1), {"x": 1}),
            (Slotted(1), {"x": 1}),
            (OddDict(a=1), {"a": 1}),
            (OddList([1, 2]), [1, 2]),
            (Colour.RED, "red"),
        ],
        ids=type_name_of,
    )
    def test_alike_both_ways(self, value, expected):
        """A value reads the same whether or not something else in the message is odd."""
        assert expected == written(value)

    def test_slot_never_set(self):
        """A dataclass with a slot that was never set is logged without it."""
        value = Slotted.__new__(Slotted)
        assert written([value]) == [{}]

    def test_added_attribute(self):
        """What was added to a dataclass's instance is logged too."""
        value = Plain(1)
        value.extra = 2
        assert written(value) == {"x": 1, "extra": 2}

    def test_circular_dict(self):
        """A dict within itself is told by a text in its place."""
        value = {"a": 1}
        value["self"] = value
        assert written(value) == {"a": 1, "self": CIRCULAR}

    def test_circular_list(self):
        """A list within itself is told by a text in its place."""
        value = [1]
        value.append([value])
        assert written(value) == [1, [CIRCULAR]]

    def test_circular_dataclass(self):
        """A dataclass within itself is told by a text in its place."""
        value = Node()
        value.values.append(value)
        assert written(value) == {"other": None, "values": [CIRCULAR]}

    def test_circular_by_default(self):
        """A value that the default function finds within itself is told by a text in its place."""
        marker = NoRepr()
        line = encode_line({"v": marker}, lambda o: {"inner": [o]})
        assert read(line)["v"] == {"inner": [CIRCULAR]}

    def test_twice_is_not_circular(self):
        """What is there twice, but not within itself, is written twice."""
        shared = [BEYOND_ORJSON]
        assert [shared, shared] == written([shared, shared])

    @pytest.mark.parametrize("depth", [200, 450])
    def test_deep(self, depth):
        """Nesting is kept to a depth of hundreds."""
        value = "bottom"
        for _ in range(depth):
            value = [value]
        assert value == written(value)

    @pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"in": inner}])
    def test_bottomless(self, make):
        """Nesting of many thousands becomes text where readers would give up."""
        value = "bottom"
        for _ in range(20_000):
            value = make(value)
        assert read(encode_line({"v": value, "after": 1}))["after"] == 1

    def test_default_without_end(self):
        """A default function that always returns something new to convert ends as text."""
        line = encode_line({"v": object(), "after": 1}, lambda o: [object()])
        assert read(line)["after"] == 1


class TestUnknownValues:
    """Values that no serializer knows."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (object, "<class 'object'>"),
            (ValueError("x"), "ValueError('x')"),
            (NoRepr(), UNPRINTABLE),
            (NoClass(), "no class"),
        ],
        ids=type_name_of,
    )
    def test_repr(self, value, expected):
        """The repr is written, or a fixed text if there is none."""
        assert expected == written(value)

    def test_class_that_hides(self):
        """A class that lets nobody look at it is written as something."""
        assert isinstance(written(Secretive), str)

    def test_default_raises(self):
        """If the default function raises, the repr is written."""

        def default(value):
            raise Raising(value)

        assert written(Colour, default=default) == repr(Colour)
        assert written(NoRepr(), default=default) == UNPRINTABLE

    def test_default_decides(self):
        """The default function is asked about named tuples, and only what it refuses is a list."""
        line = encode_line({"v": Point(1, 2)}, lambda value: value._asdict())
        assert read(line)["v"] == {"x": 1, "y": 2}
        assert written(Point(1, 2), default=lambda value: 1 / 0) == [1, 2]

    def test_default_returns_itself(self):
        """A default function that converts nothing leads to the repr."""
        value = ValueError("x")
        assert written(value, default=lambda o: o) == "ValueError('x')"

    def test_interrupt(self):
        """Ctrl-C while a value is converted goes through, and only once."""
        calls = []

        def default(value):
            calls.append(value)
            if len(calls) == 1:
                raise KeyboardInterrupt
            return "too late"

        with pytest.raises(KeyboardInterrupt):
            encode_line({"v": object()}, default)


class Nowhere(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, when):
        raise Raising


class TestTimes:
    """Dates and times."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (date(2024, 2, 29), "2024-02-29"),
            (time(1, 2, 3), "01:02:03"),
            (time(1, 2, tzinfo=timezone.utc), "01:02:00+00:00"),
            (datetime(2024, 2, 29, 1, 2, 3, 4), "2024-02-29T01:02:03.000004"),
            (datetime(2024, 2, 29, tzinfo=timezone.utc), "2024-02-29T00:00:00+00:00"),
        ],
    )
    def test_iso_8601(self, value, expected):
        """They are written as ISO 8601 says."""
        assert expected == written(value)

    def test_no_offset(self):
        """A time whose zone raises is written by its repr, if that can be had."""
        assert isinstance(written(datetime(2024, 2, 29, tzinfo=Nowhere())), str)


class TestLoggingWhileConverting:
    """A default function, or a repr, that encodes such a value itself, as one that logs does."""

    def test_repr_that_logs(self):
        """The inner line has Python's own repr in its place: no recursion."""
        lines = []

        class Logs:
            def __repr__(self):
                lines.append(encode_line({"me": self}))
                return "outer"

        assert written(Logs()) == "outer"
        assert lines
        for line in lines:
            assert read(line)["me"].startswith("<")

    def test_default_that_logs(self):
        """The inner line has Python's own repr in its place: no recursion."""
        lines = []

        def default(value):
            lines.append(encode_line({"me": value}, guarded))
            return "outer"

        guarded = choose_default(None, default)
        assert read(encode_line({"v": object()}, guarded)) == {"v": "outer"}
        assert len(lines) == 1
        assert read(lines[0])["me"].startswith("<object object at ")


class TestStrictly:
    """What tests check messages with."""

    @pytest.mark.parametrize("value", [BEYOND_ORJSON, "\ud800", {1: 2}])
    def test_refuses(self, value):
        """What would have to be bent for it is refused."""
        with pytest.raises(TypeError):
            encode_strictly({"v": value}, json_default)

    def test_takes(self):
        """What the default function knows is taken."""
        assert encode_strictly({"v": {1}}, json_default) == b'{"v":[1]}'


class TestDecodeLine:
    """Lines read back."""

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (b'{"v":NaN}', "nan"),
            (b'{"v":-Infinity}', "-inf"),
            (b'{"v":"\\ud800"}', "'\\ud800'"),
            (b'{"v":12345678901234567890123}', "12345678901234567890123"),
            (b'{"v":"1234567890123456789012"}', "'1234567890123456789012'"),
            (b'{"v":' + b"1" * 400 + b"}", "1" * 400),
            (b'\xef\xbb\xbf{"v":1}', "1"),
        ],
        ids=["nan", "infinity", "surrogate", "big", "digits", "beyond doubles", "mark"],
    )
    def test_what_others_write(self, line, expected):
        """What only some readers take is read, with every digit."""
        assert expected == repr(decode_line(line)["v"])

    def test_deep(self):
        """Nesting deeper than orjson's limit is read, as deep as Python's json goes."""
        assert decode_line(b"[" * 600 + b"]" * 600)

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"nonsense",
            b'{"v":',
            b"\xff\xfe",
            b'"\xff"',
            b"[" * 100_000,
            b"[" * 100_000 + b"1" * 20,
            b"1" * 10_000,
            b'{"v":1}{"v":2}',
        ],
        ids=[
            "empty",
            "word",
            "cut",
            "mark",
            "no text",
            "deep",
            "deep, digits",
            "digits",
            "two",
        ],
    )
    def test_no_json(self, line):
        """Anything else is a ValueError, whatever kind of error its reader found."""
        with pytest.raises(ValueError):  # noqa: PT011 - the words are the readers'
            decode_line(line)

    @given(st.binary())
    def test_nothing_else_is_raised(self, line):
        """Whatever the bytes are, they are JSON or a ValueError."""
        with suppress(ValueError):
            decode_line(line)


class TestInASCII:
    """Lines for files that do not take every character."""

    @given(json_messages)
    def test_reads_the_same(self, message):
        """A line in ASCII reads as the line itself."""
        line = in_ascii(encode_line(message))
        assert line.isascii()
        assert message == read(line.encode())


class TestChooseDefault:
    """Older programs pass an encoder class."""

    def test_neither(self):
        """Without an encoder it is the default function."""
        assert json_default is choose_default(None, json_default)

    def test_encoder(self):
        """An encoder's method is used."""

        class Encoder(EliotJSONEncoder):
            def default(self, o):
                return "encoder's"

        assert choose_default(Encoder, json_default)(object()) == "encoder's"

    def test_both(self):
        """Both are refused, with words that say what to do."""
        with pytest.raises(RuntimeError, match=r"must not both be given, got .* Leave the enc"):
            choose_default(EliotJSONEncoder, repr)
