"""A message as one line of JSON, and back: a valid line comes out whatever the values are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date, time
from enum import Enum
from json.encoder import encode_basestring, encode_basestring_ascii
from math import isfinite
from threading import local
from typing import Any

import orjson

from eliot_etw._safe import name_beside, safe_repr
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault, MessageDict

# While it writes, orjson must call nothing that may be written in Python: it crashes the program
# if such code, or another thread meanwhile, changes a list or dict that is being written (a
# default function), or raises (a slot of a dataclass that was never set, a time zone). Only the
# attribute `value` of enums is left, for which it has no option.
VALUE_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
LINE_OPTIONS = VALUE_OPTIONS | orjson.OPT_APPEND_NEWLINE

# Beyond this depth a value becomes its repr. Readers give up earlier than writers: Python's json
# at its recursion limit of 1,000 frames, others at 512.
_MAX_DEPTH = 500
# How often the default function may convert what it returned itself.
_MAX_CONVERSIONS = 10
# Beyond the greatest number of 64-bit floating point, strict readers (orjson is one) reject the
# whole line.
_MAX_DOUBLE = int(sys.float_info.max)
# How deep orjson goes at most.
_ORJSON_DEPTH = 255
# What JSON knows as it is, but for large integers and odd texts.
_PLAIN = frozenset({str, int, float, bool, type(None)})
CIRCULAR = "eliot: circular reference"


def encode_line(message: MessageDict, default: JsonDefault = json_default) -> bytes:
    r"""Write a message as one line of JSON, in UTF-8, with the newline.

    orjson does it whenever it can. What it refuses is written piece by piece: integers beyond 64
    bits as digits (as text, if many JSON readers would take them for infinite), keys that are not
    text as text, lone surrogates as the six visible characters ``\udXXX`` (many JSON readers
    reject the real ones), a circular reference as the text `CIRCULAR`, and whatever no serializer
    takes as its `repr`. NaN and the infinities are not JSON: like orjson, this writes null.

    Args:
        message: The message. It is not changed.
        default: Converts values that JSON does not know; if it raises, the value's `repr` is
            written.

    Returns:
        The line. Never raises for what the message holds.
    """
    try:
        return orjson.dumps(message, None, LINE_OPTIONS)
    except TypeError:
        return encode_carefully(message, default)


def encode_strictly(message: MessageDict, default: JsonDefault) -> bytes:
    """Write a message as `encode_line` would, but refuse what has to be bent for it, as tests do.

    Raises:
        TypeError: If the message holds what JSON or the default function does not know.
    """
    return orjson.dumps(message, lambda value: _convert(value, default), VALUE_OPTIONS)


def encode_carefully(message: Any, default: JsonDefault = json_default) -> bytes:
    """Do what `encode_line` says for messages that orjson refuses, at a tenth of its speed."""
    try:
        # Mostly it is one value that is hard to write, and the rest can be left to orjson.
        parts = {
            name: value if type(value) in _PLAIN else _fragment(value, default)
            for name, value in list(dict.items(message))
        }
        return orjson.dumps(parts, None, LINE_OPTIONS)
    except TypeError:
        return "".join(_Pieces(default).of(message)).encode() + b"\n"


def _fragment(value: Any, default: JsonDefault) -> orjson.Fragment:
    """Write a value that becomes part of what orjson writes."""
    return orjson.Fragment(value_text(value, default).encode())


def value_text(value: Any, default: JsonDefault) -> str:
    """Write a value of a message as `encode_line` does within the line."""
    try:
        return orjson.dumps(value, None, VALUE_OPTIONS).decode()
    except TypeError:
        return "".join(_Pieces(default).of(value))


def json_float(number: float) -> float | str:
    """Return a float as the JSON of Protocol Buffers has it: NaN and the infinities as text.

    >>> json_float(0.5), json_float(float("-inf")), json_float(float("nan"))
    (0.5, '-Infinity', 'NaN')

    Returns:
        What Python's `float` reads back.
    """
    if isfinite(number):
        return number
    return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(number), "NaN")


def in_ascii(line: bytes) -> str:
    r"""Write a line of JSON with escapes in place of all that is not ASCII.

    >>> print(in_ascii('{"name":"José"}'.encode()))
    {"name":"Jos\u00e9"}
    """
    text = line.decode()
    return "".join(c if c.isascii() else encode_basestring_ascii(c)[1:-1] for c in text)


class _Pieces:
    """The JSON of one value in pieces; a loop and a stack, so that depth is no matter."""

    def __init__(self, default: JsonDefault) -> None:
        self._default = default
        # One entry for each open container: what is left of it, its end, and who it is.
        self._open: list[tuple[Iterator[tuple[str, Any]], str, int]] = []
        self._ids: set[int] = set()

    def of(self, value: Any) -> Iterator[str]:
        """Give the pieces one after another."""
        yield self._begin(value)
        while self._open:
            items, end, identity = self._open[-1]
            item = next(items, None)
            if item is None:
                yield end
                self._open.pop()
                self._ids.discard(identity)
            else:
                before, child = item
                yield before + self._begin(child)

    def _begin(self, value: Any) -> str:
        """Write what orjson takes, or what is no container; open a container."""
        identity = id(value)
        if identity in self._ids:
            return _text(CIRCULAR)
        try:
            for _ in range(_MAX_CONVERSIONS):
                native = self._native(value)
                if native is not None:
                    return native
                if isinstance(value, (dict, list)) or type(value) is tuple:
                    if len(self._open) >= _MAX_DEPTH:
                        break
                    return self._enter(value, identity)
                if isinstance(value, str):
                    return _text(value)
                if isinstance(value, int) and not isinstance(value, Enum):
                    return _integer(value)
                value = _convert(value, self._default)
        except Exception:  # noqa: BLE001, S110 - a user's default, or a value's own methods
            pass
        return _text(safe_repr(value))

    def _native(self, value: Any) -> str | None:
        """Write what orjson takes, unless it may be too deep."""
        if len(self._open) >= _MAX_DEPTH - _ORJSON_DEPTH and type(value) not in _PLAIN:
            return None
        try:
            return orjson.dumps(value, None, VALUE_OPTIONS).decode()
        except TypeError:
            return None

    def _enter(self, value: Any, identity: int) -> str:
        """Open a dict or a list."""
        # A copy: another thread may change the container meanwhile. By the methods of the built-in
        # types, as orjson reads it: those of a derived class may do anything.
        if isinstance(value, dict):
            self._open.append((_members(list(dict.items(value))), "}", identity))
        else:
            iterate = list.__iter__ if isinstance(value, list) else tuple.__iter__
            self._open.append((_elements([*iterate(value)]), "]", identity))
        self._ids.add(identity)
        return "{" if isinstance(value, dict) else "["


def _convert(value: Any, default: JsonDefault) -> Any:
    """Take one step from a rich value towards JSON: what orjson would do, or the default."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float):
        return float.__float__(value)
    if hasattr(type(value), "__dataclass_fields__"):
        return _attributes(value)
    try:
        return default(value)
    except Exception:
        if isinstance(value, tuple):
            return [*tuple.__iter__(value)]
        raise


def _attributes(value: Any) -> dict[str, Any]:
    """Take the attributes of a dataclass's instance that orjson takes."""
    from dataclasses import fields  # noqa: PLC0415 - slow to import, and here it is loaded anyway

    names = [field.name for field in fields(value)] + [*getattr(value, "__dict__", ())]
    return {
        name: getattr(value, name)
        for name in names
        if not name.startswith("_") and hasattr(value, name)
    }


def _visible(value: str) -> str:
    """Make lone surrogates visible."""
    return str.encode(value, "utf-8", "backslashreplace").decode()


def _text(value: str) -> str:
    """Quote a text, lone surrogates made visible."""
    return encode_basestring(_visible(value))


def _integer(value: int) -> str:
    """Write an integer beyond 64 bits."""
    digits = _digits(value)
    return digits if -_MAX_DOUBLE <= value <= _MAX_DOUBLE else _text(digits)


def _digits(value: int) -> str:
    """Write an integer of any size."""
    try:
        return int.__repr__(value)
    except ValueError:  # Python refuses to write more than 4,300 decimal digits
        return hex(value)


def _members(items: list[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    """Give what comes before each value of a dict, and the value."""
    comma = ""
    # Keys that are text keep their name; another that would be written alike gives way.
    taken = {key for key, _ in items if type(key) is str}
    for key, value in items:
        name = _visible(_key(key))
        if type(key) is not str or name != key:
            name = name_beside(name, taken)
            taken.add(name)
        yield f"{comma}{encode_basestring(name)}:", value
        comma = ","


def _elements(items: list[Any]) -> Iterator[tuple[str, Any]]:
    """Give what comes before each value of a list, and the value."""
    comma = ""
    for value in items:
        yield comma, value
        comma = ","


def _key(key: object) -> str:
    """Name a key: as Python's json does where it can, else by its text."""
    try:
        if isinstance(key, str):
            return str.__str__(key)
        if isinstance(key, bytes):
            return key.decode("utf-8", "backslashreplace")
        if type(key) in _PLAIN and type(key) is not int:
            return orjson.dumps(key).decode()
        if isinstance(key, int) and not isinstance(key, Enum):
            return _digits(key)
    except Exception:  # noqa: BLE001, S110 - a key's own methods may raise anything
        pass
    return safe_repr(key)


# Only a run of 19 digits can be an integer beyond 64 bits, which orjson would read as a float.
# Finding one this way costs a fifth of what a regular expression does.
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_BIG_INTEGER = b"0" * 19


def decode_line(line: bytes) -> Any:
    """Read one line of JSON exactly: integers keep every digit.

    Also read is what orjson rejects but Python's json takes: NaN, lone surrogates, deep nesting.

    Raises:
        ValueError: If it is not JSON.
    """
    # Not by suppress(), which costs as much as reading a short line.
    try:
        if _BIG_INTEGER not in line.translate(_DIGITS_AS_ZEROS):
            return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(line)
    except RecursionError:
        msg = f"A line must be nested less deeply, got {line[:80]!r}... Leave it out."
        raise ValueError(msg) from None


def choose_default(encoder: type[Any] | None, default: JsonDefault) -> JsonDefault:
    """Choose between a default function and the encoder class of older programs.

    Raises:
        RuntimeError: If both are given.
    """
    if encoder is None:
        return default if default is json_default else _NotFromWithin(default)
    if default is not json_default:
        msg = f"encoder and json_default must not both be given, got {encoder!r} and {default!r}."
        raise RuntimeError(f"{msg} Leave the encoder out.")
    return _NotFromWithin(encoder().default)


class _NotFromWithin:
    """A default function that is not called for what it logs itself: that would have no end."""

    def __init__(self, default: JsonDefault) -> None:
        self._default = default
        self._thread = local()

    def __call__(self, value: Any) -> Any:
        here = vars(self._thread)
        if here:
            return object.__repr__(value)
        here["is_within"] = True
        try:
            return self._default(value)
        finally:
            here.clear()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _NotFromWithin) and self._default == other._default

    def __hash__(self) -> int:
        return hash(self._default)
