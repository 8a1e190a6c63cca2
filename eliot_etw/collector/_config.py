"""The collector's configuration: YAML held against types; a mistake is told with its line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from eliot_etw import _settings
from eliot_etw._levels import NUMBERS, level_number
from eliot_etw._require import require
from eliot_etw._settings import checked_table, inside
from eliot_etw.collector._kinds import Kinds
from eliot_etw.collector._lane import LaneOptions
from eliot_etw.collector._routes import Route
from eliot_etw.collector.inputs import INPUTS
from eliot_etw.collector.sinks import SINKS
from eliot_etw.exceptions import InvalidSettings

_yaml: Any = require("yaml", feature="The collector", extra="collector")

DEFAULT_HTTP: Final = "127.0.0.1:5516"

_KIND: Final = "kind"
_TABLES: Final[_settings.Types] = {
    "state": str,
    "inputs": list[Any],
    "sinks": dict[str, Any],
    "routes": list[Any],
    "dead_letters": str,
    "http": str | None,
}
_LANE: Final[_settings.Types] = {
    "required": bool,
    "memory_bytes": int,
    "spool_bytes": int,
    "spool_sync": bool,
}
_ROUTE: Final[_settings.Types] = {
    "to": list[str],
    "type": str | list[str],
    "level": int | str,
    "fields": dict[str, Any],
    "final": bool,
}
# How much there may be in a file: an alias of aliases is soon more than memory holds.
_MOST_PLACES: Final = 100_000
# What others' classes must have.
_INPUT_METHODS: Final = ("start", "stop", "close", "stats")
_SINK_METHODS: Final = ("write", "flush", "close", "stats")
# What is where a path says, and what listens: two would be in each other's way.
_FILES: Final = {"file", "jsonlines", "sqlite"}
_LISTENERS: Final = {"zmq", "zmq_pub"}
# Files that were put aside, of the default set-up: 2 GB in all.
_KEEP: Final = 20


class Spec(NamedTuple):
    """An input or a sink that is to be made. Two that are equal make the same.

    Attributes:
        kind: Its kind.
        options: What its constructor is called with.
        lane: How it is served, if it is a sink.
    """

    kind: str
    options: Mapping[str, Any]
    lane: LaneOptions = LaneOptions()


class Settings(NamedTuple):
    """All that a configuration says.

    Attributes:
        state: The folder for what the collector must know after a restart.
        inputs: Where messages come from, by place in the file.
        sinks: Where they go to, by name.
        routes: Which go where; none, if all go everywhere.
        dead_letters: The file for what no sink can take.
        http: Where to tell about itself: ``host:port``; None for nowhere.
        path: The file that says so; empty for the default set-up.
        lines: Each place in the file, and its line.
    """

    state: Path
    inputs: Mapping[str, Spec]
    sinks: Mapping[str, Spec]
    routes: Sequence[Route]
    dead_letters: Path
    http: str | None
    path: str = ""
    lines: Mapping[str, int] = {}

    def mistake(self, place: str, why: str) -> InvalidSettings:
        """Make the exception that says what is wrong where."""
        option = inside(place, why.partition(" ")[0])
        text = inside(place, why) if option in self.lines else f"{place}: {why}"
        return _located(text, self.path, self.lines)


def default_state() -> Path:
    """Return the folder that is used if none is named, as this system wants it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "eliot-etw"


def default_settings(state: Path) -> Settings:
    """Return the set-up of who has written none: this machine's messages, in two files."""
    return Settings(
        state,
        {"inputs[0]": Spec("zmq", {})},
        {
            "lines": Spec("jsonlines", {"path": str(state / "messages.jsonl"), "keep": _KEEP}),
            "store": Spec("sqlite", {"path": str(state / "messages.sqlite")}),
        },
        (),
        state / "dead-letters.jsonl",
        DEFAULT_HTTP,
    )


def read_settings(path: Path, state: Path | None = None) -> Settings:
    """Read a configuration.

    Args:
        path: The YAML file.
        state: The state folder, if that in the file does not count.

    Raises:
        InvalidSettings: If something is wrong in it; the text says what, and in which line.
        OSError: If it cannot be read.
    """
    name = str(path)
    lines: dict[str, int] = {}
    try:
        root = _yaml.compose(path.read_text("utf-8"), Loader=_yaml.SafeLoader)
        table = {} if root is None else _value(root, "", lines)
        return _settings_of(table, state, name, lines)
    except InvalidSettings as error:
        raise _located(str(error), name, lines) from error
    except _yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        msg = f"{name}:{line}: not YAML: {error.problem or error.context}"
        raise InvalidSettings(msg) from error
    except (_yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{name}:1: not YAML: {error}") from error
    except RecursionError as error:
        line = [1, *lines.values()][-1]
        msg = f"{name}:{line}: not a configuration: too deep, or an anchor within itself."
        raise InvalidSettings(msg) from error


def _located(text: str, path: str, lines: Mapping[str, int]) -> InvalidSettings:
    """Say in which line something is: that of the place that the text begins with."""
    places = (each for each in lines if text.startswith(each))
    place = max((each for each in places if text[len(each)] in ".[: "), key=len, default="")
    return InvalidSettings(f"{path}:{lines.get(place, 1)}: {text}" if path else text)


def _value(node: Any, place: str, lines: dict[str, int]) -> Any:
    """Take the value of a node, and note the line of each place in it.

    Raises:
        InvalidSettings: If a key is there twice, or is no text, or a value is none.
    """
    lines.setdefault(place, node.start_mark.line + 1)
    if len(lines) > _MOST_PLACES:
        msg = f"{place} must be within the first {_MOST_PLACES:,} values. Write fewer aliases."
        raise InvalidSettings(msg)
    if isinstance(node, _yaml.SequenceNode):
        return [
            _value(item, inside(place, number), lines) for number, item in enumerate(node.value)
        ]
    if not isinstance(node, _yaml.MappingNode):
        return _scalar(node, place)
    table: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node, place) if isinstance(key_node, _yaml.ScalarNode) else key_node
        where = inside(place, str(key))
        lines[where] = key_node.start_mark.line + 1
        if not isinstance(key, str):
            msg = f"{where} must be a name, got {key!r}. Put it in quotes."
            raise InvalidSettings(msg)
        if key in table:
            msg = f"{where} is there twice. Leave one out."
            raise InvalidSettings(msg)
        table[key] = _value(value_node, where, lines)
    return table


def _scalar(node: Any, place: str) -> Any:
    """Take the value of a single node, as YAML's safe types have it.

    Raises:
        InvalidSettings: If it is not what its tag, or its look, says: such as the 31st of June.
    """
    loader = _yaml.SafeLoader("")
    try:
        value = loader.construct_object(node, deep=True)
    except (ValueError, LookupError, AttributeError, OverflowError) as error:
        kind = node.tag.rpartition(":")[2]
        msg = f"{place} must be valid as {kind}, got {node.value!r}. Put text into quotes."
        raise InvalidSettings(msg) from error
    finally:
        loader.dispose()
    if isinstance(value, str) and "\0" in value:
        raise InvalidSettings(f"{place} must be text without zero bytes, got {value!r}.")
    return value


# ---- to check --------------------------------------------------------------------------------


def _settings_of(
    table: object, state: Path | None, path: str, lines: Mapping[str, int]
) -> Settings:
    """Hold everything against what takes it. Nothing is made."""
    top = checked_table(table, "", _TABLES, ["inputs", "sinks"])
    folder = state or Path(top.get("state") or default_state()).expanduser()
    inputs = {}
    for number, item in enumerate(top["inputs"]):
        place = inside("inputs", number)
        inputs[place] = _spec(item, place, INPUTS, {})
    sinks = {
        name: _spec(item, inside("sinks", name), SINKS, _LANE)
        for name, item in top["sinks"].items()
    }
    for name, found in (("inputs", inputs), ("sinks", sinks)):
        if not found:
            raise InvalidSettings(f"{name} must have at least one. Add it.")
    routes = [
        _route(item, inside("routes", number), sinks)
        for number, item in enumerate(top.get("routes", []))
    ]
    dead_letters = Path(top.get("dead_letters") or folder / "dead-letters.jsonl").expanduser()
    _check_apart({**inputs, **{inside("sinks", name): spec for name, spec in sinks.items()}})
    http = top.get("http", DEFAULT_HTTP)
    if http is not None:
        address_of(http, "http")
    return Settings(folder, inputs, sinks, routes, dead_letters, http, path, lines)


def _spec(table: object, place: str, kinds: Kinds, lane: _settings.Types) -> Spec:
    """Check what makes an input or a sink."""
    options = dict(checked_table(table, place, {_KIND: str, **lane}, [_KIND], takes_any=True))
    kind = options.pop(_KIND)
    constructor = _constructor(kind, inside(place, _KIND), kinds)
    served = {name: options.pop(name) for name in lane if name in options}
    for name in ("memory_bytes", "spool_bytes"):
        if served.get(name, 0) < 0:
            msg = f"{inside(place, name)} must not be below 0, got {served[name]}."
            raise InvalidSettings(msg)
    methods = _INPUT_METHODS if kinds is INPUTS else _SINK_METHODS
    # A function that makes one can be asked only when it has made it.
    lacks = [each for each in methods if not hasattr(constructor, each)]
    if lacks and isinstance(constructor, type):
        where, names = inside(place, _KIND), ", ".join(lacks)
        raise InvalidSettings(f"{where} must be of a class that has {names}, got {kind!r}.")
    types, required, takes_any = _settings.parameters_of(constructor)
    checked = checked_table(options, place, types, sorted(required), takes_any)
    return Spec(kind, checked, LaneOptions(**served))


def _check_apart(specs: Mapping[str, Spec]) -> None:
    """Refuse two that would use the same file, or listen in the same place.

    Args:
        specs: All inputs and sinks, by their places.
    """
    taken: dict[str, str] = {}
    for place, spec in specs.items():
        if spec.kind in _FILES:
            option, what = "path", os.path.realpath(Path(spec.options["path"]).expanduser())
        elif spec.kind in _LISTENERS and "endpoint" in spec.options:
            option, what = "endpoint", spec.options["endpoint"]
        else:
            continue
        where = inside(place, option)
        first = taken.setdefault(what, where)
        # Any free port is another one each time.
        if first != where and not what.endswith((":*", ":0")):
            given = spec.options[option]
            raise InvalidSettings(f"{where} must be another one than {first}, got {given!r}.")


def _constructor(kind: str, place: str, kinds: Kinds) -> Callable[..., Any]:
    """Find what makes a kind."""
    try:
        return kinds.find(kind)
    except KeyError:
        msg = f"{place} must be one of {', '.join(kinds.names())}, got {kind!r}."
        raise InvalidSettings(msg) from None
    except Exception as error:  # what a user's module raises when it is imported
        raise InvalidSettings(f"{place}: {kind!r} cannot be imported: {error}") from error


def _route(table: object, place: str, sinks: Mapping[str, Spec]) -> Route:
    """Check a route."""
    given = checked_table(table, place, _ROUTE, ["to"])
    for number, name in enumerate(given["to"]):
        if name not in sinks:
            where = inside(inside(place, "to"), number)
            msg = f"{where} must be a sink, one of {', '.join(sinks)}, got {name!r}."
            raise InvalidSettings(msg)
    types = given.get("type")
    level = level_number(given["level"]) if "level" in given else None
    if "level" in given and level is None:
        where, names = inside(place, "level"), ", ".join(NUMBERS)
        msg = f"{where} must be a number, or one of {names}, got {given['level']!r}."
        raise InvalidSettings(msg)
    return Route(
        tuple(given["to"]),
        None if types is None else (types,) if isinstance(types, str) else tuple(types),
        level,
        given.get("fields", {}),
        given.get("final", False),
    )


def address_of(text: str, place: str) -> tuple[str, int]:
    """Read ``host:port``.

    Raises:
        InvalidSettings: If it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        msg = f"{place} must be host:port, got {text!r}. Write {DEFAULT_HTTP}"
        raise InvalidSettings(msg)
    return host.strip("[]"), int(port)
