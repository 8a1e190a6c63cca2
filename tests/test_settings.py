"""Tests of how settings are held against what takes them."""

import io
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, Union
from uuid import UUID

import pytest

from eliot_etw import FileDestination
from eliot_etw._settings import (
    checked,
    checked_table,
    described,
    fits,
    imported,
    inside,
    parameters_of,
)
from eliot_etw.exceptions import InvalidSettings


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        (int, [1], [True, 1.5, "1", None]),
        (float, [1, 1.5], [True, "1"]),
        (bool, [True], [1, "yes"]),
        (str, ["a"], [1, b"a"]),
        (Union[int, None], [1, None], ["a"]),  # noqa: UP007 - as older programs write it
        (int | str, [1, "a"], [None, 1.5]),
        (Literal["a", "b"], ["a"], ["c", 1]),
        (list[str], [["a"], []], ["a", [1], ("a",)]),
        (Iterable[str], [["a"], ("a",), {"a"}], ["a", [1], 1]),
        (Mapping[str, int | str], [{"a": 1}, {}], [{"a": None}, {1: 1}, [1]]),
        (dict[str, Any], [{"a": None}], [{1: 1}, []]),
        (Callable[[int], int], [len], [1, "len"]),
        (IO[Any], [io.BytesIO()], ["a"]),
        (Path, [Path("a")], ["a"]),
        (Any, [None, 1], []),
        (object, [None, 1], []),
    ],
)
def test_fits(type_, good, bad):
    """A value is of its type, and one of another is not; text is never taken for a list."""
    assert all(fits(value, type_) for value in good)
    assert not any(fits(value, type_) for value in bad)


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (int | None, "int or None"),
        (Literal["a", "b"], "'a' or 'b'"),
        (list[Any], "list"),
        (Mapping[str, int], "dict[str, int]"),
        (Iterable[str], "list[str]"),
        (Callable[[], Any], "a function, or 'ext://' and its dotted name"),
        (Callable[[int], int] | None, "a function, or 'ext://' and its dotted name or None"),
        (Any, "Any"),
    ],
)
def test_described(type_, text):
    """A type is written for people."""
    assert described(type_) == text


def test_inside():
    """A place is written as one would write it in Python."""
    assert inside(inside(inside("", "a"), 0), "b") == "a[0].b"


def test_parameters_of_a_class():
    """They are those of the constructor; what has no default is required."""
    types, required, takes_any = parameters_of(FileDestination)
    assert [*types] == ["file", "encoder", "json_default"]
    assert (required, takes_any) == ({"file"}, False)


def test_parameters_without_types():
    """What has no types, or such as cannot be found, takes anything."""

    def function(a: "NoSuchType", *rest, b=1, **others):  # noqa: F821 - that is the point
        pass

    assert parameters_of(function) == ({"a": Any, "b": Any}, {"a"}, True)


def test_parameters_that_cannot_be_known():
    """What is written in C takes anything; what has no types of its own takes any values."""
    assert parameters_of(dict) == ({}, frozenset(), True)
    assert parameters_of(partial(FileDestination, encoder=None)).types["file"] is Any


def test_checked():
    """Text that stands for an object is replaced by it."""
    guid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert checked(guid, "a", UUID | None) == UUID(guid)
    assert checked("ext://sys.stdout", "a", IO[Any]) is sys.stdout
    assert checked("ext", "a", str) == "ext"


@pytest.mark.parametrize("name", ["no.such", "sys.nothing", "7", ""])
def test_cannot_be_imported(name):
    """What is not there is told, with its place."""
    with pytest.raises(InvalidSettings, match=r"^a\[0\] must name something that can be imported"):
        imported(name, "a[0]")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("redis://user:s3c@ret@host", "sinks.a"),
        (["nats://s3cret@host"], "sinks.a.url"),
        ({"kind": "redis", "password": "s3cret"}, "sinks.a.url"),
        ("Authorization: s3cret", "sinks.a.headers"),
        (["s3cret"], "sinks.a.token"),
    ],
)
def test_no_password(value, place):
    """What may be a password is not in what is told of a mistake."""
    for type_ in (int, dict[str, int]):
        with pytest.raises(InvalidSettings, match=rf"^{place} .*that is not shown") as caught:
            checked(value, place, type_)
        assert "s3c" not in str(caught.value)
    with pytest.raises(InvalidSettings, match="that is not shown"):
        checked_table([value], place, {})


def test_shown():
    """Anything else is shown."""
    with pytest.raises(InvalidSettings, match=r"must be int, got 'redis://host'\."):
        checked("redis://host", "a", int)
