"""What `configure` does: a whole set-up from settings, entirely or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial, reduce
from operator import or_
from typing import Any, Final, Literal, NamedTuple, get_origin

from eliot_etw import _settings
from eliot_etw._levels import NUMBERS, level_number
from eliot_etw._logger import DESTINATIONS
from eliot_etw._names import RESERVED_IN_ACTION, RESERVED_IN_MESSAGE
from eliot_etw._output import Configuration
from eliot_etw._require import require
from eliot_etw._safe import safe_str
from eliot_etw._settings import checked_table, inside
from eliot_etw.exceptions import InvalidSettings
from eliot_etw.typing import Destination, MessageDict

_TABLES: Final[_settings.Types] = {
    "destinations": list[Any],
    "fields": dict[str, Any],
    "logging": dict[str, Any],
}
_LOGGING: Final[_settings.Types] = {
    "level": int | str,
    "loggers": list[str],
    "warnings": bool,
}
# What makes a destination, and is not a parameter of its constructor.
_KIND: Final = "kind"
_WRAPPERS: Final = "wrappers"
# The parameter by which a wrapper is known.
_INNER: Final = "inner"
# The parameter that is a rule of tail sampling, and the rules that settings may name.
_RULE: Final = "keep"
_RULES: Final = ("failed", "slower_than", "unfinished", "marked", "typed", "one_in")


class _Step(NamedTuple):
    """A constructor to call."""

    place: str
    constructor: Callable[..., Any]
    arguments: dict[str, Any]


class _Plan(NamedTuple):
    """What is to be set up."""

    fields: MessageDict
    destinations: list[tuple[_Step, list[_Step]]]
    """Each with its wrappers, the outermost first."""
    logging: dict[str, Any] | None


def set_up(settings: Mapping[str, Any] | str | os.PathLike[str]) -> Configuration:
    """Do what `configure` is for."""
    if isinstance(settings, Mapping):
        return _made_of(_plan(settings))
    if not isinstance(settings, (str, os.PathLike)):
        msg = f"configure() needs a dict, or the path of a TOML file, got {settings!r}."
        raise TypeError(msg)
    with _named(str(settings)):
        return _made_of(_plan(_read_toml(settings)))


def destination_maker(settings: Mapping[str, Any]) -> Callable[[ExitStack], Destination]:
    """Hold the settings of one destination against what takes them, as `configure` does.

    Returns:
        What makes it, and has what was made closed in the end.

    Raises:
        InvalidSettings: If something is wrong; what is returned raises it, too.
    """
    return partial(_made, *_planned_destination(settings, "destination"))


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Say in which file something is wrong."""
    try:
        yield
    except InvalidSettings as error:
        msg = f"{path}: {error}"
        raise InvalidSettings(msg) from error


def _read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InvalidSettings: If it is none.
    """
    # Python has it since 3.11.
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    toml = require(name, feature="configure() from a TOML file", extra="toml")
    with open(path, "rb") as file:
        try:
            settings: dict[str, Any] = toml.load(file)
        except ValueError as error:
            msg = f"not a TOML file: {error}"
            raise InvalidSettings(msg) from error
    return settings


# ---- to check --------------------------------------------------------------------------------


def _plan(settings: object) -> _Plan:
    """Hold all settings against what takes them. Nothing is made.

    Raises:
        InvalidSettings: If something is wrong.
    """
    table = checked_table(settings, "", _TABLES)
    fields = table.get("fields", {})
    for name in sorted(fields.keys() & (RESERVED_IN_MESSAGE | RESERVED_IN_ACTION)):
        msg = f"fields.{name} must not be: each message has its own. Choose another name."
        raise InvalidSettings(msg)
    destinations = [
        _planned_destination(item, inside("destinations", number))
        for number, item in enumerate(table.get("destinations", []))
    ]
    logging = None
    if "logging" in table:
        logging = checked_table(table["logging"], "logging", _LOGGING)
        if "level" in logging:
            logging["level"] = _level(logging["level"], "logging.level")
    return _Plan(fields, destinations, logging)


def _planned_destination(table: object, place: str) -> tuple[_Step, list[_Step]]:
    """Plan a destination and what is around it."""
    settings = dict(checked_table(table, place, {}, [_KIND], takes_any=True))
    given = settings.pop(_WRAPPERS, [])
    if not isinstance(given, list):
        msg = f"{inside(place, _WRAPPERS)} must be a list of tables, got {given!r}."
        raise InvalidSettings(msg)
    around = inside(place, _WRAPPERS)
    wrappers = [
        _planned_step(item, inside(around, number), is_wrapper=True)
        for number, item in enumerate(given)
    ]
    return _planned_step(settings, place, is_wrapper=False), wrappers


def _planned_step(table: object, place: str, *, is_wrapper: bool) -> _Step:
    """Plan the call of a constructor."""
    settings = dict(checked_table(table, place, {}, [_KIND], takes_any=True))
    kind_place = inside(place, _KIND)
    constructor = _constructor(settings.pop(_KIND), kind_place)
    types, required, takes_any = _settings.parameters_of(constructor)
    if (_INNER in types) is not is_wrapper:
        wanted, other = ("wrapper", "destination") if is_wrapper else ("destination", "wrapper")
        msg = (
            f"{kind_place} must be a {wanted}, "
            f"and {_settings.described(constructor)} is a {other}. "
            f"Wrappers are listed in '{_WRAPPERS}' of a destination, the outermost first."
        )
        raise InvalidSettings(msg)
    rule = settings.get(_RULE)
    # A table where a function is wanted: the rule of tail sampling.
    if rule is not None and get_origin(types.get(_RULE)) is Callable and not _is_function(rule):
        settings[_RULE] = _rule(rule, inside(place, _RULE))
    # The first and the last are not here any more, but told to whoever misspells them.
    own = {_KIND: Any, **types, **({} if is_wrapper else {_WRAPPERS: Any})}
    own.pop(_INNER, None)
    arguments = checked_table(settings, place, own, sorted(required - {_INNER}), takes_any)
    return _Step(place, constructor, arguments)


def _constructor(kind: object, place: str) -> Callable[..., Any]:
    """Find what makes a destination or a wrapper.

    Raises:
        InvalidSettings: If there is no such kind.
    """
    from eliot_etw import destinations  # noqa: PLC0415 - what is not named is not loaded

    if isinstance(kind, str):
        names = {module: name for name, module in destinations._MODULES.items()}
        if kind in names:
            kind = getattr(destinations, names[kind])
        elif "." in kind:
            kind = _settings.imported(kind, place)
        else:
            msg = f"{place} must be one of {', '.join(names)}, or a dotted name, got {kind!r}."
            raise InvalidSettings(msg)
    if not callable(kind):
        msg = f"{place} must be something that makes a destination, got {kind!r}."
        raise InvalidSettings(msg)
    return kind


def _is_function(rule: object) -> bool:
    """Say whether a rule is a function, or names one."""
    return callable(rule) or (isinstance(rule, str) and rule.startswith(_settings.IMPORTED))


def _rule(table: object, place: str) -> Any:
    """Make a rule of tail sampling: a task is kept if one of those that are named says so."""
    if not isinstance(table, Mapping):
        msg = (
            f"{place} must be a table such as {{ failed = true }}, of {', '.join(_RULES)}, "
            f"got {table!r}."
        )
        raise InvalidSettings(msg)
    named = checked_table(table, place, dict.fromkeys(_RULES, Any))
    rules = [
        rule
        for name, given in named.items()
        for rule in _rules_of(name, given, inside(place, name))
    ]
    if not rules:
        msg = f"{place} must name at least one of {', '.join(_RULES)}."
        raise InvalidSettings(msg)
    return reduce(or_, rules)


def _rules_of(name: str, given: object, place: str) -> list[Any]:
    """Make the rules of one name: true stands for no argument, a list for several rules."""
    from eliot_etw.destinations import tail_sampled  # noqa: PLC0415 - as above

    make = getattr(tail_sampled, name)
    types, required, _ = _settings.parameters_of(make)
    rules = []
    for value in given if isinstance(given, list) else [given]:
        if value is True and not required:
            rules.append(make())
            continue
        type_ = next(iter(types.values()), Literal[True])
        argument = _settings.checked(value, place, type_)
        try:
            rules.append(make(argument))
        except ValueError as error:
            msg = f"{place}: {error}"
            raise InvalidSettings(msg) from error
    return rules


def _level(level: object, place: str) -> int:
    """Return the number of a level.

    Raises:
        InvalidSettings: If it is none.
    """
    number = level_number(level)
    if number is None:
        msg = f"{place} must be a number, or one of {', '.join(NUMBERS)}, got {level!r}."
        raise InvalidSettings(msg)
    return number


# ---- to set up -------------------------------------------------------------------------------


def _made_of(plan: _Plan) -> Configuration:
    """Make everything, then put it to use.

    Raises:
        InvalidSettings: If something cannot be made; then nothing is.
    """
    with ExitStack() as undo:
        made = tuple(_made(step, wrappers, undo) for step, wrappers in plan.destinations)
        # From here on, nothing fails.
        before = DESTINATIONS._global_fields
        hidden = {name: before[name] for name in before.keys() & plan.fields.keys()}
        DESTINATIONS.add_global_fields(**plan.fields)
        undo.callback(DESTINATIONS.add_global_fields, **hidden)
        undo.callback(DESTINATIONS.remove_global_fields, *plan.fields)
        for destination in made:
            undo.callback(_remove, destination)
        DESTINATIONS.add(*made)
        if plan.logging is not None:
            _capture(plan.logging, undo)
        return Configuration(made, undo.pop_all())


def _made(step: _Step, wrappers: list[_Step], undo: ExitStack) -> Destination:
    """Make a destination, and what is around it."""
    made: Destination = _called(step, undo)
    for wrapper in reversed(wrappers):
        made = _called(wrapper._replace(arguments={_INNER: made, **wrapper.arguments}), undo)
    return made


def _called(step: _Step, undo: ExitStack) -> Any:
    """Call a constructor.

    Raises:
        InvalidSettings: If it raises.
    """
    try:
        made = step.constructor(**step.arguments)
    except Exception as error:
        msg = f"{step.place}: {safe_str(error)}"
        raise InvalidSettings(msg) from error
    if hasattr(made, "close"):
        undo.callback(made.close)
    if not callable(made):
        msg = f"{step.place} must make something that is called with a message, got {made!r}."
        raise InvalidSettings(msg)
    return made


def _remove(destination: Destination) -> None:
    """Remove a destination, unless the program did."""
    with suppress(ValueError):
        DESTINATIONS.remove(destination)


def _capture(settings: dict[str, Any], undo: ExitStack) -> None:
    """Make records of the standard library's `logging` messages."""
    import logging  # noqa: PLC0415 - as above
    import warnings  # noqa: PLC0415 - as above

    from eliot_etw.stdlib import EliotHandler  # noqa: PLC0415 - as above

    handler = EliotHandler()
    undo.callback(handler.close)
    for name in settings.get("loggers", [""]):
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(settings.get("level", logger.level))
        undo.callback(logger.removeHandler, handler)
        logger.addHandler(handler)
    if settings.get("warnings"):
        before = warnings.showwarning
        logging.captureWarnings(True)
        if warnings.showwarning is not before:  # else the program had done it before
            undo.callback(logging.captureWarnings, False)
