"""Settings held against what takes them, before any of it is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import (
    IO,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeAlias,
    Union,
    cast,
    get_args,
    get_origin,
)
from uuid import UUID

from eliot_etw.exceptions import InvalidSettings

Types: TypeAlias = Mapping[str, Any]
"""The keys of a table, each with the type that its value must have."""

IMPORTED: Final = "ext://"
"""Put before the dotted name of an object, as in the configurations of `logging`."""

# What the name of a place has in it whose value may be a password; and a text that may tell one.
_WORDS: Final = r"(?:passw(?:or)?d|passphrase|secret|token|authorization|api[-_]?key|cookie)"
_SECRET_PLACE: Final = re.compile(_WORDS, re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(rf"://.*@|{_WORDS}\w*['\"]?\s*[:=]", re.IGNORECASE)


class Parameters(NamedTuple):
    """What something is called with.

    Attributes:
        types: The names of the parameters, and their types.
        required: Those that have no default.
        takes_any: Whether others are taken, too.
    """

    types: Types
    required: frozenset[str]
    takes_any: bool


def inside(place: str, key: object) -> str:
    """Name a place within another one: a key of a table, or a number of a list."""
    if isinstance(key, int):
        return f"{place}[{key}]"
    return f"{place}.{key}" if place else str(key)


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """Find out what a class or a function is called with."""
    # Not needed by programs that are set up by calls; takes 5 ms.
    from inspect import Parameter, signature  # noqa: PLC0415
    from typing import get_type_hints  # noqa: PLC0415

    try:
        found = signature(function).parameters.values()
    except ValueError:  # it is written in C
        return Parameters({}, frozenset(), takes_any=True)
    try:
        hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc] # the class's own
    except (NameError, TypeError):  # types for type checkers only; objects that have none
        hints = {}
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    named = [parameter for parameter in found if parameter.kind not in several]
    return Parameters(
        {parameter.name: hints.get(parameter.name, Any) for parameter in named},
        frozenset(p.name for p in named if p.default is Parameter.empty),
        any(parameter.kind is Parameter.VAR_KEYWORD for parameter in found),
    )


def checked_table(
    table: object, place: str, types: Types, required: Iterable[str] = (), takes_any: bool = False
) -> dict[str, Any]:
    """Hold a table against the keys that it may have.

    Args:
        table: What was given.
        place: Where; what is wrong is told with it.
        types: The keys, and the types of their values.
        required: The keys that must be there.
        takes_any: Whether there may be other keys.

    Returns:
        The table, with values as they are wanted: objects for the names of such, and GUIDs.

    Raises:
        InvalidSettings: If something is wrong.
    """
    if not isinstance(table, Mapping):
        msg = f"{place or 'The settings'} must be a table, got {shown(table, place)}."
        raise InvalidSettings(msg)
    for key in table:
        if key not in types and not takes_any:
            known = ", ".join(types)
            msg = f"{inside(place, key)} is no setting. There are here: {known}."
            raise InvalidSettings(msg)
    for key in required:
        if key not in table:
            msg = f"{inside(place, key)} is missing. Add it."
            raise InvalidSettings(msg)
    return {
        key: checked(value, inside(place, key), types.get(key, Any))
        for key, value in table.items()
    }


def checked(value: object, place: str, type_: Any) -> Any:
    """Hold a value against the type that it must have, and return it as it is wanted.

    Raises:
        InvalidSettings: If it has another type.
    """
    if isinstance(value, str) and value.startswith(IMPORTED):
        value = imported(value.removeprefix(IMPORTED), place)
    elif isinstance(value, str) and UUID in get_args(type_):
        try:
            value = UUID(value)
        except ValueError as error:
            msg = f"{place} must be a GUID, got {value!r}."
            raise InvalidSettings(msg) from error
    if not fits(value, type_):
        msg = f"{place} must be {described(type_)}, got {shown(value, place)}."
        raise InvalidSettings(msg)
    return value


def shown(value: object, place: str) -> str:
    """Write a value that is wrong, unless that may tell a password.

    >>> shown("redis://user:secret@host", "sinks.a")
    'a str that is not shown'
    """
    text = repr(value)
    if _SECRET_TEXT.search(text) or _SECRET_PLACE.search(place):
        return f"a {type(value).__name__} that is not shown"
    return text


def imported(name: str, place: str) -> Any:
    """Import what has a dotted name.

    Raises:
        InvalidSettings: If there is no such thing.
    """
    from pkgutil import resolve_name  # noqa: PLC0415 - as above

    try:
        return resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"{place} must name something that can be imported, got {name!r}: {error}."
        raise InvalidSettings(msg) from error


def fits(value: object, type_: Any) -> bool:
    """Say whether a value is of a type, as far as can be told.

    >>> fits(1, float), fits(True, int), fits(["a"], list[str]), fits("a", list[str])
    (True, False, True, False)
    """
    origin, parts = get_origin(type_), get_args(type_)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if type_ in _NUMBERS:
        return type(value) in _NUMBERS[type_]
    kind = origin or type_
    if kind is IO:
        return hasattr(value, "write")
    if kind is Any or not isinstance(kind, type):  # what is for type checkers
        return True
    if not isinstance(value, kind) or (isinstance(value, str) and kind is not str):
        return False
    if isinstance(value, Mapping):
        return not parts or all(
            fits(key, parts[0]) and fits(item, parts[-1]) for key, item in value.items()
        )
    if issubclass(kind, Iterable) and parts:
        return all(fits(item, parts[0]) for item in cast("Iterable[object]", value))
    return True


_NUMBERS: Final[dict[Any, tuple[type, ...]]] = {float: (int, float), int: (int,), bool: (bool,)}


def described(type_: Any) -> str:
    """Write a type for people.

    >>> described(int | None), described(Literal["a", "b"]), described(list[str])
    ('int or None', "'a' or 'b'", 'list[str]')
    """
    origin, parts = get_origin(type_), get_args(type_)
    if origin in (Union, UnionType):
        return " or ".join(map(described, parts))
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if type_ is NoneType:
        return "None"
    if origin is Callable:
        return f"a function, or '{IMPORTED}' and its dotted name"
    if origin is not None:
        text = str(type_).replace("typing.", "").replace("collections.abc.", "")
        text = text.replace("Iterable[", "list[").replace("Mapping[", "dict[")
        return text.replace("[str, Any]", "").replace("[Any]", "")
    return getattr(type_, "__name__", str(type_))
