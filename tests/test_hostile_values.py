"""Tests that whatever is logged becomes a valid line of JSON, and never an error."""

import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eliot_etw import Logger, Message, log_message, start_action, to_file
from eliot_etw._json import decode_line


class Odd(Exception):
    """What the methods of hostile values raise."""

    def __str__(self):
        raise Odd

    __repr__ = __str__


def raising(*names):
    """Make a class of whose objects these methods raise."""

    def raise_(*args, **kwargs):
        raise Odd

    return type("Hostile", (), dict.fromkeys(names, raise_))


class NoClass:
    """Something that does not tell its class."""

    @property
    def __class__(self):
        raise Odd


class NoAttributes:
    """Something that lets nobody look at it."""

    def __getattribute__(self, name):
        raise Odd


class OddDict(dict):
    """A dict whose methods raise."""

    def items(self):
        raise Odd

    __iter__ = keys = values = __len__ = __bool__ = __getitem__ = __contains__ = items


class OddList(list):
    """A list whose methods raise."""

    def __iter__(self):
        raise Odd

    __len__ = __bool__ = __getitem__ = __iter__


class OddText(str):
    """A text whose methods raise."""

    __slots__ = ()

    def encode(self, *args):
        raise Odd

    __str__ = __repr__ = __len__ = __iter__ = encode


class OddNumber(int):
    """An integer whose methods raise."""

    def __repr__(self):
        raise Odd

    __str__ = __int__ = __index__ = __bool__ = __repr__


class OddFloat(float):
    """A number whose methods raise."""

    def __repr__(self):
        raise Odd

    __str__ = __float__ = __bool__ = __repr__


class OddSet(set):
    """A set whose methods raise."""

    def __iter__(self):
        raise Odd

    __len__ = __bool__ = __iter__


class OddReprText:
    """Something whose repr is a text that is none of UTF-8's."""

    def __repr__(self):
        return OddText("\ud800")


class ReprIsNoText:
    """Something whose repr is no text at all."""

    def __repr__(self):
        return 7


class OddMeta(type):
    """The class of classes that do not let anybody look at them."""

    def __getattribute__(cls, name):
        raise Odd

    def __instancecheck__(cls, instance):
        raise Odd


class Secretive(metaclass=OddMeta):
    """A class that does not let anybody look at it."""


class Colour(Enum):
    """An enumeration of values that are themselves hard."""

    RED = "red"
    BIG = 2**80
    SET = frozenset({1})
    TUPLE = (2**80,)


class Level(IntEnum):
    """An enumeration of integers."""

    HIGH = 3
    BIG = 2**80


class Point(NamedTuple):
    """Two values."""

    x: object
    y: object


@dataclass
class Record:
    """A dataclass."""

    value: object
    __hash__ = object.__hash__


@dataclass
class OddRecord:
    """A dataclass one of whose attributes raises, and one was never set."""

    value: object = 1

    def __getattribute__(self, name):
        if name == "value":
            raise Odd
        return super().__getattribute__(name)


def circular_dict():
    value = {"a": 1}
    value["self"] = value
    return value


def circular_list():
    value = [{}]
    value[0]["self"] = value
    return value


def circular_record():
    value = Record(None)
    value.value = [value]
    return value


def nested(depth, wrap):
    value = "bottom"
    for _ in range(depth):
        value = wrap(value)
    return value


def chained_error():
    try:
        raise Odd from ValueError("\ud800")
    except Odd as error:
        return error


HOSTILE = {
    "object": object,
    "lambda": lambda: lambda: None,
    "class": lambda: Odd,
    "module": lambda: json,
    "not implemented": lambda: NotImplemented,
    "ellipsis": lambda: ...,
    "64 bits": lambda: [2**63, 2**64 - 1, -(2**63)],
    "beyond 64 bits": lambda: [2**64, -(2**63) - 1, 2**200],
    "beyond doubles": lambda: [10**400, -(10**400)],
    "beyond Python's digits": lambda: [16**5000, -(16**5000)],
    "no numbers": lambda: [float("nan"), float("inf"), float("-inf")],
    "lone surrogates": lambda: ["\ud800", "\udfff", "a\ude00\ud83d"],
    "control characters": lambda: "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029\ufeff",
    "not UTF-8": lambda: [b"\xff", bytearray(b"\xc3"), memoryview(b"\x80")],
    "keys": lambda: {1: 1, None: 2, 1.5: 3, False: 4, b"\xff": 5, (1, 2): 6, "\ud800": 7},
    "key without text": lambda: {raising("__repr__")(): 1, NoClass(): 2},
    "key beyond 64 bits": lambda: {2**64: 1, 10**400: 2, Level.HIGH: 3, Colour.RED: 4},
    "no numbers as keys": lambda: {float("nan"): 1, float("inf"): 2},
    "dates as keys": lambda: {date(2024, 1, 1): 1, UUID(int=1): 2},
    "set": lambda: {1, "a", None, (1, 2), frozenset({2})},
    "circular dict": circular_dict,
    "circular list": circular_list,
    "circular dataclass": circular_record,
    "hundreds of lists": lambda: nested(400, lambda v: [v]),
    "hundreds of dicts": lambda: nested(400, lambda v: {"a": v}),
    "hundreds of dataclasses": lambda: nested(400, Record),
    "hundreds of sets": lambda: nested(400, lambda v: frozenset({v})),
    "hundreds of tuples": lambda: nested(400, lambda v: Point(v, 2**80)),
    "thousands of lists": lambda: nested(50_000, lambda v: [v]),
    "thousands of dicts": lambda: nested(50_000, lambda v: {"a": v}),
    "thousands of dataclasses": lambda: nested(5_000, Record),
    "thousands of sets": lambda: nested(5_000, lambda v: frozenset({v})),
    "no repr": raising("__repr__"),
    "no text": raising("__repr__", "__str__", "__format__"),
    "no class": NoClass,
    "no attributes": NoAttributes,
    "no comparison": raising("__eq__", "__hash__", "__lt__", "__bool__"),
    "no iteration": raising("__iter__", "__len__", "__getitem__", "__contains__"),
    "no attribute": raising("__getattr__"),
    "secretive class": lambda: Secretive,
    "object of a secretive class": Secretive,
    "odd dict": lambda: OddDict(a=1),
    "odd dict in a hard message": lambda: [OddDict(a=2**80)],
    "odd list": lambda: OddList([1]),
    "odd list in a hard message": lambda: [OddList([2**80])],
    "odd text": lambda: OddText("a"),
    "odd text in a hard message": lambda: [OddText("a"), 2**80],
    "odd text with surrogates": lambda: OddText("\ud800"),
    "odd number": lambda: [OddNumber(7), OddNumber(2**80), OddFloat(1.5)],
    "odd set": lambda: OddSet({1}),
    "repr that is odd text": OddReprText,
    "repr that is no text": ReprIsNoText,
    "enum": lambda: list(Colour) + list(Level),
    "named tuple": lambda: Point(1, Point(2, {3})),
    "dataclass": lambda: Record(Record({2**80})),
    "dataclass that raises": lambda: [OddRecord(), 2**80],
    "uuid": lambda: UUID(int=1),
    "times": lambda: [
        datetime(1, 1, 1),
        datetime(9999, 12, 31, tzinfo=timezone.utc),
        date(1, 1, 1),
        time(1, tzinfo=timezone.utc),
        timedelta(1),
    ],
    "decimal": lambda: [Decimal("NaN"), Decimal("1E+999999"), Decimal("0.1")],
    "path": lambda: [Path("a"), PurePosixPath("/\udcff")],
    "exceptions": lambda: [ValueError("x"), Odd(), chained_error(), KeyboardInterrupt()],
    "generator": lambda: (x for x in "abc"),
    "iterators": lambda: [
        iter([1]),
        zip("a", strict=False),
        range(3),
        {}.items(),
        {1: 2}.values(),
    ],
    "mappings": lambda: [OrderedDict(a=1), defaultdict(list), MappingProxyType({1: 2})],
    "deque": lambda: deque([1]),
    "huge text": lambda: "\U0001f600" * 1_000_000,
    "huge list": lambda: [{}] * 300_000,
    "complex": lambda: [1j, complex("nan"), complex("inf")],
    "threads": lambda: [threading.Lock(), threading.current_thread(), threading.local()],
    "files": lambda: sys.stdout,
    "our own": lambda: [Logger(), Message({"a": 1}), start_action(action_type="a"), log_message],
}
if find_spec("numpy") is not None:
    import numpy as np

    HOSTILE |= {
        "numpy scalars": lambda: [np.int8(1), np.float32("nan"), np.longdouble(1), np.bool_(1)],
        "numpy arrays": lambda: [np.array([[1.5, np.inf]]), np.array(7), np.zeros((200, 200))],
        "numpy objects": lambda: np.array([b"\xff", 2**80, NoClass(), None], dtype=object),
        "numpy records": lambda: np.array([(1, b"x")], dtype=[("a", "i8"), ("b", "S1")]),
        "numpy times": lambda: [np.datetime64("NaT", "s"), np.timedelta64(1, "D")],
        "numpy keys": lambda: {np.int64(1): 1, np.str_("a"): 2, np.float32(1.5): 3},
    }


@pytest.fixture
def log(tmp_path):
    """Log to a file, and return what reads what is new in it as json and as orjson do."""
    path = tmp_path / "test.log"
    to_file(path)

    def read_new():
        written = path.read_bytes()
        os.truncate(path, 0)
        return read(written)

    return read_new


def read(written):
    """Read whole lines; all readers must agree that they are JSON."""
    assert written.endswith(b"\n")
    for line in written.splitlines():
        json.dumps(orjson.loads(line), allow_nan=False)
        assert json.loads(line) == decode_line(line)
    return [json.loads(line) for line in written.splitlines()]


@pytest.mark.parametrize("name", HOSTILE)
class TestHostileValues:
    """Each value in each place."""

    def test_as_a_field(self, log, name):
        """The message is one valid line, with the value in it and all else as it was."""
        log_message("t", before=1, value=HOSTILE[name](), after={"a": [None]})
        message = log()[-1]
        assert ("t", 1, {"a": [None]}) == (
            message["message_type"],
            message["before"],
            message["after"],
        )
        assert "value" in message

    def test_within_values(self, log, name):
        """The same deep within other values."""
        log_message("t", values=[{"value": [HOSTILE[name]()]}, (2**70, {"after": 1})])
        message = log()[-1]
        assert message["values"][1] == [2**70, {"after": 1}]
        assert len(message["values"][0]["value"]) == 1

    def test_in_an_action(self, log, name):
        """In the start, a success field and a message of an action: the tree has no gap."""
        value = HOSTILE[name]()
        with start_action(action_type="x", value=value) as action:
            action.log("y", value=value)
            action.add_success_fields(value=value)
        messages = [m for m in log() if m["task_uuid"] == action.task_uuid]
        assert [m["task_level"] for m in messages] == [[1], [2], [3]]
        assert all("value" in m for m in messages)

    def test_as_a_type(self, log, name):
        """As the type of a message, and of an action."""
        value = HOSTILE[name]()
        log_message(value)
        start_action(action_type=value).finish()
        message, start, end = log()[-3:]
        assert "message_type" in message
        assert ("started", "succeeded") == (start["action_status"], end["action_status"])


class TestFieldNames:
    """Names of fields that are somebody else's."""

    @pytest.mark.parametrize(
        "name",
        [
            "self",
            "cls",
            "logger",
            "_serializers",
            "_serializer",
            "serializer",
            "message",
            "fields",
            "exception",
            "reason",
            "action",
            "parent",
            "task_id",
            "f",
            "args",
            "kwargs",
            "message_type_",
            "timestamp_",
            "",
            " ",
            "a.b",
            "é",
            "\ud800",
            "class",
            "x" * 10_000,
        ],
    )
    def test_any_name(self, log, name):
        """Any text is a legal name, everywhere that fields are given."""
        visible = name.encode("utf-8", "backslashreplace").decode()
        log_message("t", **{name: "mine"})
        Message.log(message_type="t", **{name: "mine"})
        Message.new(message_type="t").bind(**{name: "mine"}).write()
        with start_action(action_type="a", **{name: "mine"}) as action:
            action.log("t", **{name: "mine"})
            action.add_success_fields(**{name: "mine"})
        messages = log()
        assert ["mine"] * 6 == [message[visible] for message in messages]

    @pytest.mark.parametrize("name", ["timestamp", "task_uuid", "task_level", "action_type"])
    def test_reserved_in_a_message(self, log, name):
        """A field with a reserved name is kept with an underscore after it; ours stays right."""
        with start_action(action_type="a") as action:
            log_message("t", **{name: "mine"})
        message = log()[1]
        assert message[name + "_"] == "mine"
        assert (action.task_uuid, [2]) == (message["task_uuid"], message["task_level"])
        assert isinstance(message["timestamp"], float)
        assert "action_type" not in message

    @pytest.mark.parametrize("name", ["timestamp", "task_uuid", "task_level", "action_status"])
    def test_reserved_in_an_action(self, log, name):
        """The same in the start and the end of an action."""
        with start_action(action_type="a", **{name: "mine"}) as action:
            action.add_success_fields(**{name: "mine"})
        start, end = log()
        assert (start[name + "_"], end[name + "_"]) == ("mine", "mine")
        assert ("started", "succeeded") == (start["action_status"], end["action_status"])
        assert {action.task_uuid} == {start["task_uuid"], end["task_uuid"]}

    def test_underscore_taken(self, log):
        """If the name with the underscore is taken as well, another one is added."""
        log_message("t", timestamp=1, timestamp_=2, timestamp__=3)
        message = log()[0]
        assert (message["timestamp_"], message["timestamp__"], message["timestamp___"]) == (
            2,
            3,
            1,
        )

    def test_type_twice(self, log):
        """A type given twice is the first one; the other is kept under another name."""
        log_message("t", message_type="mine")
        start_action(None, "a", action_type="mine").finish()
        message, start, _ = log()
        assert ("t", "mine") == (message["message_type"], message["message_type_"])
        assert ("a", "mine") == (start["action_type"], start["action_type_"])

    def test_no_type(self, log):
        """A message or an action without a type has an empty one."""
        log_message()
        start_action().finish()
        start_action().log(x=1)
        types = [m.get("message_type", m.get("action_type")) for m in log()]
        assert types == [""] * 5

    def test_parameters_as_fields(self, log):
        """`logger` and `_serializers` are fields if their values cannot be what they mean."""
        start_action(action_type="a", logger="root", _serializers=[1]).finish()
        start = log()[0]
        assert ("root", [1]) == (start["logger"], start["_serializers"])

    def test_names_that_are_no_text(self, log):
        """Names of fields that are no text at all become text."""
        Message({1: "a", None: "b", b"\xff": "c", ("d",): "d", "message_type": "t"}).write()
        message = log()[0]
        assert ("a", "b", "c", "d") == tuple(
            message[name] for name in ("1", "null", "\\xff", "('d',)")
        )


class TestChangedMeanwhile:
    """Values that change while they are written."""

    def test_by_another_thread(self, log):
        """A dict that another thread changes all the time is written as it was at some moment."""
        value = {"big": 2**70}
        stop = threading.Event()

        def change():
            while not stop.is_set():
                for number in range(100):
                    value[str(number)] = [number]
                for number in range(100):
                    del value[str(number)]

        thread = threading.Thread(target=change)
        thread.start()
        for _ in range(300):
            log_message("t", value=value)
        stop.set()
        thread.join()
        messages = log()
        assert [2**70] * 300 == [message["value"]["big"] for message in messages]


# What orjson, if it is left alone with it, ends the whole process for.
CRASHES = {
    "list changed by a repr": """
class Changing:
    def __repr__(self):
        value.clear()
        return "changing"

value = [Changing() for _ in range(1_000)]
""",
    "slot that was never set": """
@dataclasses.dataclass
class Slotted:
    __slots__ = ("x", "y")
    x: int
    y: int

value = Slotted.__new__(Slotted)
value.x = 1
""",
    "property that raises": """
@dataclasses.dataclass(init=False)
class Slotted:
    __slots__ = ()
    x: int

    @property
    def x(self):
        raise ValueError

value = Slotted()
""",
    "time zone that raises": """
class Nowhere(datetime.tzinfo):
    pass

value = datetime.datetime(2024, 1, 1, tzinfo=Nowhere())
""",
}
CRASH = """
import dataclasses, datetime, sys
import eliot_etw as eliot

eliot.to_file(sys.argv[1])
{}
eliot.log_message("t", value=[value], after=1)
"""


@pytest.mark.parametrize("name", CRASHES)
def test_crash(tmp_path, name):
    """No value ends the process."""
    path = tmp_path / "test.log"
    program = CRASH.format(CRASHES[name])
    result = subprocess.run([sys.executable, "-c", program, path], timeout=60, check=False)
    assert result.returncode == 0
    assert read(path.read_bytes())[0]["after"] == 1


class Piece(NamedTuple):
    """Stands for a hostile value: Hypothesis would itself fail on it."""

    name: str


class Plan(NamedTuple):
    """Stands for a container of such values."""

    kind: str
    parts: list


KEYS = ["a", "1", 1, None, b"\xff", "\ud800"]
KINDS = {
    "list": list,
    "tuple": tuple,
    "dict": lambda parts: dict(zip(KEYS, parts, strict=False)),
    "record": Record,
    "point": lambda parts: Point(parts, tuple(parts)),
    "odd list": OddList,
    "odd dict": lambda parts: OddDict(zip(KEYS, parts, strict=False)),
    "same twice": lambda parts: [parts, parts],
}


def built(plan):
    """Make the value that a plan stands for."""
    if isinstance(plan, Piece):
        return HOSTILE[plan.name]()
    if isinstance(plan, Plan):
        return KINDS[plan.kind]([built(part) for part in plan.parts])
    return plan


plans = st.recursive(
    st.builds(Piece, st.sampled_from([n for n in HOSTILE if "thousand" not in n]))
    | st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18)
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
    | st.decimals()
    | st.datetimes()
    | st.uuids(),
    lambda inner: st.builds(
        Plan, st.sampled_from(sorted(KINDS)), st.lists(inner, max_size=len(KEYS))
    ),
    max_leaves=8,
)


class TestAnyValue:
    """Values built at random of all that."""

    @given(plan=plans)
    @settings(
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    def test_valid_line(self, log, plan):
        """Whatever is logged is a valid line, with the rest of the message as it was."""
        log_message("t", value=built(plan), after=1)
        message = log()[-1]
        assert ("t", 1) == (message["message_type"], message["after"])
