"""Tests of what values that JSON does not know become."""

import json
import sys
from array import array
from collections import ChainMap, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple
from uuid import UUID

import pytest

from eliot_etw._json import encode_line
from eliot_etw._safe import UNPRINTABLE
from eliot_etw.json import EliotJSONEncoder, json_default


class Pair(NamedTuple):
    """Two values."""

    one: int
    two: int


class Celsius(float):
    """A temperature."""


class NoRepr:
    """Something that cannot be written as text."""

    def __repr__(self):
        raise ValueError


def logged(value):
    """Return what is read back of a value, converted as often as it takes."""
    return json.loads(encode_line({"v": value}))["v"]


class TestStandardLibrary:
    """Values of Python's own types."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"caf\xc3\xa9", "café"),
            (b"\xff\x00", "\\xff\x00"),
            (bytearray(b"abc"), "abc"),
            (memoryview(array("B", b"abc")), "abc"),
            (date(2024, 2, 29), "2024-02-29"),
            (time(12, 30, 1, 5), "12:30:01.000005"),
            (datetime(2024, 2, 29, 1, 2, 3, tzinfo=timezone.utc), "2024-02-29T01:02:03+00:00"),
            (PurePosixPath("/a/b"), "/a/b"),
            (PureWindowsPath("c:/a"), "c:\\a"),
            (Decimal("1.10"), "1.10"),
            (1 + 2j, {"real": 1.0, "imag": 2.0}),
            (Pair(1, 2), [1, 2]),
            (MappingProxyType({"a": 1}), {"a": 1}),
            (ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
            ({"a": 1}.keys(), ["a"]),
            (frozenset({1}), [1]),
            (deque([1, 2]), "deque([1, 2])"),
            (timedelta(seconds=90), "datetime.timedelta(seconds=90)"),
            (ValueError("no"), "ValueError('no')"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_becomes(self, value, expected):
        """A value becomes what reads best in a log."""
        assert expected == json_default(value)

    def test_uuid(self):
        """An identifier is text also where orjson has another interpreter's class of it."""
        assert json_default(UUID(int=1)) == "00000000-0000-0000-0000-000000000001"

    def test_derived_number(self):
        """A number of a class of its own is a plain one: an encoder may ask only once."""
        assert (1.5, float) == (json_default(Celsius(1.5)), type(json_default(Celsius(1.5))))

    def test_set(self):
        """A set is a list of its elements, whose order is nobody's promise."""
        assert sorted(json_default({3, 1, 2})) == [1, 2, 3]

    def test_generator(self):
        """A generator is not run: it belongs to the program."""
        generator = (letter for letter in "abc")
        assert json_default(generator).startswith("<generator object")
        assert list("abc") == list(generator)

    def test_no_repr(self):
        """What cannot even be written as text becomes a fixed text."""
        assert json_default(NoRepr()) == UNPRINTABLE


class TestNumPy:
    """Values of NumPy."""

    np = pytest.importorskip("numpy")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.int64(-7), -7),
            (np.uint64(2**64 - 1), 2**64 - 1),
            (np.float32(0.5), 0.5),
            (np.float64(0.5), 0.5),
            (np.float64("nan"), None),
            (np.longdouble(0.5), 0.5),
            (np.bool_(True), True),
            (np.str_("text"), "text"),
            (np.bytes_(b"text"), "text"),
            (np.complex64(1 + 2j), {"real": 1.0, "imag": 2.0}),
            (np.clongdouble(1 + 2j), {"real": 1.0, "imag": 2.0}),
            (np.datetime64("2024-02-29T01:02"), "2024-02-29T01:02"),
            (np.timedelta64(5, "s"), "5 seconds"),
            (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
            (np.array(5), 5),
            (np.array([1.5, float("inf")]), [1.5, None]),
            (np.array([b"\xff", b"a"], dtype=object), ["\\xff", "a"]),
            (np.array([(1, 0.5)], dtype=[("a", "i4"), ("b", "f4")]), [[1, 0.5]]),
        ],
        ids=lambda value: getattr(getattr(value, "dtype", None), "name", "expected"),
    )
    def test_becomes(self, value, expected):
        """Scalars are numbers, truth values and texts; arrays are lists."""
        assert expected == logged(value)

    def test_large_array(self):
        """Of a large array the beginning is logged, and its shape."""
        array = self.np.zeros((2, 5_001), dtype="int8")
        assert logged(array) == {"array_start": [0] * 10_000, "original_shape": [2, 5001]}

    def test_largest_whole_array(self):
        """An array of 10,000 items is logged whole."""
        assert logged(self.np.zeros(10_000, dtype="int8")) == [0] * 10_000

    def test_half_imported(self, monkeypatch):
        """While NumPy is still being imported, a value is logged as what it is without."""
        monkeypatch.setitem(sys.modules, "numpy", SimpleNamespace())
        assert logged(Decimal(1)) == "1"
        assert logged(ValueError("no")) == "ValueError('no')"


def module(name, **classes):
    """Make what stands for a package that is not installed here: classes of the same methods."""
    made = {key: type(key, (), methods) for key, methods in classes.items()}
    return SimpleNamespace(__name__=name, **made)


class TestOtherPackages:
    """Values of packages that are looked for only among what the program has imported."""

    def test_pandas(self, monkeypatch):
        """Tables are lists of records, columns lists, intervals dicts, periods text."""
        pandas = module(
            "pandas",
            Series={"to_list": lambda self: [1]},
            DataFrame={"to_dict": lambda self, orient: [{"orient": orient}]},
            Interval={"left": 1, "right": 2, "closed": "both"},
            Period={"__str__": lambda self: "2024Q1"},
        )
        monkeypatch.setitem(sys.modules, "pandas", pandas)
        assert logged(pandas.Series()) == [1]
        assert logged(pandas.DataFrame()) == [{"orient": "records"}]
        assert logged(pandas.Interval()) == {"left": 1, "right": 2, "closed": "both"}
        assert logged(pandas.Period()) == "2024Q1"
        assert logged(ValueError("no")) == "ValueError('no')"

    def test_polars(self, monkeypatch):
        """Tables are lists of records, columns lists."""
        polars = module(
            "polars",
            Series={"to_list": lambda self: [1]},
            DataFrame={"to_dicts": lambda self: [{"a": 1}]},
        )
        monkeypatch.setitem(sys.modules, "polars", polars)
        assert logged(polars.Series()) == [1]
        assert logged(polars.DataFrame()) == [{"a": 1}]
        assert logged(ValueError("no")) == "ValueError('no')"

    def test_pydantic(self, monkeypatch):
        """Models are dicts."""
        pydantic = module("pydantic", BaseModel={"model_dump": lambda self: {"a": 1}})
        monkeypatch.setitem(sys.modules, "pydantic", pydantic)
        assert logged(pydantic.BaseModel()) == {"a": 1}
        assert logged(ValueError("no")) == "ValueError('no')"

    @pytest.mark.parametrize("name", ["numpy", "pandas", "polars", "pydantic"])
    def test_absent(self, monkeypatch, name):
        """A package that was not imported, or may not be, is not missed."""
        monkeypatch.setitem(sys.modules, name, None)
        assert logged(ValueError("no")) == "ValueError('no')"


class TestEncoder:
    """The encoder class of older programs."""

    def test_with_json(self):
        """Python's json writes with it what the default function knows."""
        assert json.dumps({"v": {1}}, cls=EliotJSONEncoder) == '{"v": [1]}'
