"""Tests of `configure`: a whole set-up from settings, entirely or not at all."""

import logging
import sys
import warnings
from typing import ClassVar
from uuid import UUID

import pytest

from eliot_etw import (
    _logger,
    add_destinations,
    add_global_fields,
    configure,
    log_message,
    start_action,
)
from eliot_etw._settings import parameters_of
from eliot_etw.destinations import (
    BackgroundDestination,
    FileDestination,
    LevelFilter,
    MemoryDestination,
    RedactedDestination,
)
from eliot_etw.etw import read_etl
from eliot_etw.exceptions import InvalidSettings, MissingDependency
from eliot_etw.sources import FileSource
from eliot_etw.testing import RecordingEtw
from tests import _journal

MEMORY = {"kind": "memory"}


def kept(configuration, number=0):
    """Return the messages that a destination has, whatever is around it."""
    destination = configuration.destinations[number]
    while not isinstance(destination, MemoryDestination):
        destination = destination.inner
    return destination.messages


def types_in(messages):
    """List the types of messages."""
    return [message["message_type"] for message in messages]


class Outside:
    """A destination of the program's own."""

    made: ClassVar[list] = []

    def __init__(self, size: int, **others):
        self.size, self.others, self.is_closed = size, others, False
        self.made.append(self)

    def __call__(self, message):
        pass

    def close(self):
        self.is_closed = True


class OutsideWrapper:
    """A wrapper of the program's own."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, message):
        self.inner({**message, "wrapped": True})


class Broken:
    """A destination that cannot be made."""

    def __init__(self):
        raise RuntimeError("no")


@pytest.fixture(autouse=True)
def _forget():
    Outside.made.clear()


class TestDestinations:
    """The table `destinations`."""

    def test_kinds(self, tmp_path):
        """Each is made with the parameters that its constructor has."""
        path = tmp_path / "log"
        with configure({"destinations": [MEMORY, {"kind": "file", "file": path}]}) as made:
            log_message("app:x")
        assert [type(d) for d in made.destinations] == [MemoryDestination, FileDestination]
        assert kept(made) == list(FileSource(path))

    def test_wrappers(self):
        """Wrappers are nested as they are listed, the outermost first."""
        wrappers = [
            {"kind": "level_filter", "level": "warning", "types": {"app:*": "info"}},
            {"kind": "redacted", "keys": ["secret"]},
            {"kind": "background", "max_queued": 5},
        ]
        with configure({"destinations": [{**MEMORY, "wrappers": wrappers}]}) as made:
            log_message("app:x", secret="s")
            log_message("other:x")
        (outer,) = made.destinations
        expected = [LevelFilter, RedactedDestination, BackgroundDestination, MemoryDestination]
        nested = [outer, outer.inner, outer.inner.inner, outer.inner.inner.inner]
        assert expected == [type(destination) for destination in nested]
        assert types_in(kept(made)) == ["app:x"]
        assert kept(made)[0]["secret"] != "s"

    def test_of_the_program(self):
        """A dotted name stands for what the program has itself, and so does the thing itself."""
        for kind in (f"{__name__}.Outside", Outside):
            wrappers = [{"kind": f"{__name__}.OutsideWrapper"}]
            settings = {"kind": kind, "size": 3, "more": 4, "wrappers": wrappers}
            with configure({"destinations": [settings]}) as made:
                (wrapper,) = made.destinations
            assert (wrapper.inner.size, wrapper.inner.others) == (3, {"more": 4})
            assert wrapper.inner.is_closed

    def test_objects(self, capsys):
        """Where an object is wanted, its dotted name stands for it."""
        with configure({"destinations": [{"kind": "file", "file": "ext://sys.stdout"}]}):
            log_message("app:x")
        assert '"app:x"' in capsys.readouterr().out

    def test_guid(self, tmp_path):
        """A GUID is text."""
        guid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
        etl = {"kind": "etl", "path": tmp_path / "x.etl", "guid": guid}
        with configure({"destinations": [etl]}):
            log_message("app:x")
        (event, *_) = read_etl(tmp_path / "x.etl")
        assert event.provider_id == UUID(guid)

    @pytest.mark.parametrize(
        ("keep", "expected"),
        [
            ({"typed": "app:y"}, ["app:y"]),
            ({"typed": ["app:y", "*:z"]}, ["app:y", "app:z"]),
            ({"failed": True}, []),
            ({"failed": True, "marked": True}, ["app:z"]),
            ({"marked": "mark", "one_in": 10**9}, ["app:x"]),
            ({"slower_than": 1000.5}, []),
        ],
    )
    def test_rules(self, keep, expected):
        """The rule of tail sampling is a table: a task is kept if one of its rules says so."""
        wrappers = [{"kind": "tail_sampled", "keep": keep}]
        with configure({"destinations": [{**MEMORY, "wrappers": wrappers}]}) as made:
            log_message("app:x", mark=1)
            log_message("app:y")
            log_message("app:z", keep=1)
        assert types_in(kept(made)) == expected


class TestFields:
    """The table `fields`."""

    def test_in_each_message(self):
        """Each message has them, until the set-up is closed."""
        with configure({"fields": {"program": "shop"}, "destinations": [MEMORY]}) as made:
            log_message("app:x")
        assert kept(made)[0]["program"] == "shop"
        with configure({"destinations": [MEMORY]}) as made:
            log_message("app:x")
        assert "program" not in kept(made)[0]

    def test_of_the_program(self):
        """Those that the program had set are hidden meanwhile, and there again afterwards."""
        add_global_fields(program="mine", host="a")
        with configure({"fields": {"program": "shop"}, "destinations": [MEMORY]}) as made:
            log_message("app:x")
        add_destinations(after := MemoryDestination())
        log_message("app:y")
        assert [kept(made)[0][name] for name in ("program", "host")] == ["shop", "a"]
        assert [after.messages[0][name] for name in ("program", "host")] == ["mine", "a"]


class TestLogging:
    """The table `logging`."""

    def test_root(self):
        """Records of all loggers are messages, from the level on, until it is closed."""
        level = logging.getLogger().level
        settings = {"destinations": [MEMORY], "logging": {"level": "info"}}
        with configure(settings) as made, start_action(action_type="a"):
            logging.getLogger("app").info("x")
            logging.getLogger("app").debug("y")
        logging.getLogger("app").error("z")
        assert [m.get("message") for m in kept(made)] == [None, "x", None]
        assert logging.getLogger().level == level

    def test_named(self):
        """Only those of the loggers that are named."""
        settings = {"destinations": [MEMORY], "logging": {"loggers": ["app.a", "app.b"]}}
        with configure(settings) as made:
            for name in ("app.a", "app.b", "app.c", "app.b.c"):
                logging.getLogger(name).warning(name)
        assert [m["message"] for m in kept(made)] == ["app.a", "app.b", "app.b.c"]

    def test_warnings(self):
        """Warnings of Python's, if they are asked for, until it is closed."""
        settings = {"destinations": [MEMORY], "logging": {"warnings": True}}
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            shown_by = warnings.showwarning
            with configure(settings) as made:
                warnings.warn("old", DeprecationWarning, stacklevel=1)
            assert warnings.showwarning is shown_by
        assert "DeprecationWarning: old" in kept(made)[0]["message"]

    def test_warnings_that_are_captured_already(self):
        """What the program did before stays done."""
        with warnings.catch_warnings():
            logging.captureWarnings(True)
            shown_by = warnings.showwarning
            configure({"logging": {"warnings": True}}).close()
            assert warnings.showwarning is shown_by
            logging.captureWarnings(False)

    def test_both_ways(self):
        """Records may become messages, and messages records: there is no loop."""
        settings = {
            "destinations": [MEMORY, {"kind": "logging"}],
            "logging": {"level": "debug"},
        }
        with configure(settings) as made:
            logging.getLogger("app").info("x")
            log_message("app:y")
        assert types_in(kept(made)) == ["eliot:stdlib", "app:y"]


class TestClose:
    """`Configuration.close`."""

    def test_leaves_nothing(self):
        """Destinations are removed and closed; a second time does nothing."""
        configuration = configure({"destinations": [{"kind": Outside, "size": 1}]})
        configuration.close()
        configuration.close()
        assert Outside.made[0].is_closed
        assert Outside.made[0] not in _logger.DESTINATIONS._destinations

    def test_delivers(self, tmp_path):
        """What a wrapper holds back is delivered."""
        file = {
            "kind": "file",
            "file": str(tmp_path / "log"),
            "wrappers": [{"kind": "background"}],
        }
        with configure({"destinations": [file]}):
            log_message("app:x")
        assert types_in(FileSource(tmp_path / "log")) == ["app:x"]

    def test_what_the_program_removed(self):
        """A destination that the program removed itself is closed all the same."""
        configuration = configure({"destinations": [{"kind": Outside, "size": 1}]})
        _logger.DESTINATIONS.remove(configuration.destinations[0])
        configuration.close()
        assert Outside.made[0].is_closed


WRONG = [
    ({"place": 7}, "place is no setting. There are here: destinations, fields, logging."),
    ({"destinations": {}}, "destinations must be list, got {}."),
    ({"destinations": [7]}, "destinations[0] must be a table, got 7."),
    ({"destinations": [{}]}, "destinations[0].kind is missing. Add it."),
    ({"destinations": [MEMORY, {"kind": "no"}]}, "destinations[1].kind must be one of backgr"),
    ({"destinations": [{"kind": 7}]}, "destinations[0].kind must be something that makes a "),
    ({"destinations": [{"kind": "no.such.thing"}]}, "destinations[0].kind must name something "),
    ({"destinations": [{"kind": "file"}]}, "destinations[0].file is missing. Add it."),
    (
        {"destinations": [{"kind": "file", "file": "x", "fill": 1}]},
        "destinations[0].fill is no setting. "
        "There are here: kind, file, encoder, json_default, wrappers.",
    ),
    (
        {"destinations": [{**MEMORY, "wrapper": []}]},
        "destinations[0].wrapper is no setting. There are here: kind, wrappers.",
    ),
    (
        {"destinations": [{"kind": "file", "file": "x", "json_default": "repr"}]},
        "destinations[0].json_default must be a function, or 'ext://' and its dotted name, got ",
    ),
    (
        {"destinations": [{**MEMORY, "wrappers": [{"kind": "redacted", "keys": "password"}]}]},
        "destinations[0].wrappers[0].keys must be list[str], got 'password'.",
    ),
    (
        {"destinations": [{"kind": "journald", "sentences": "yes"}]},
        "destinations[0].sentences must be bool, got 'yes'.",
    ),
    (
        {"destinations": [{"kind": "etl", "path": "x", "guid": "y"}]},
        "destinations[0].guid must be a GUID, got 'y'.",
    ),
    ({"destinations": [{**MEMORY, "wrappers": 7}]}, "destinations[0].wrappers must be a list of "),
    (
        {"destinations": [{**MEMORY, "wrappers": [{"kind": "level_filter", "level": "loud"}]}]},
        "destinations[0].wrappers[0]: A level must be a number as in logging, or one of ",
    ),
    (
        {"destinations": [{**MEMORY, "wrappers": [{"kind": "level_filter", "inner": 7}]}]},
        "destinations[0].wrappers[0].inner is no setting. There are here: kind, level, types.",
    ),
    ({"destinations": [{"kind": "redacted"}]}, "destinations[0].kind must be a destination, and "),
    (
        {"destinations": [{**MEMORY, "wrappers": [MEMORY]}]},
        "destinations[0].wrappers[0].kind must be a wrapper, and MemoryDestination is a ",
    ),
    ({"destinations": [{"kind": Broken}]}, "destinations[0]: no"),
    ({"destinations": [{"kind": dict}]}, "destinations[0] must make something that is called"),
    ({"fields": []}, "fields must be dict, got []."),
    ({"fields": {"timestamp": 1}}, "fields.timestamp must not be: each message has its own."),
    ({"logging": {"level": "loud"}}, "logging.level must be a number, or one of critical, "),
    ({"logging": {"loggers": "app"}}, "logging.loggers must be list[str], got 'app'."),
]  # fmt: skip
WRONG_RULES = [
    ({}, " must name at least one of failed, "),
    ("failed", " must be a table such as { failed = true }, of failed, slower_than, "),
    (["failed"], " must be a table such as { failed = true }, of failed, slower_than, "),
    ({"fail": True}, ".fail is no setting. There are here: failed, "),
    ({"failed": False}, ".failed must be True, got False."),
    ({"slower_than": True}, ".slower_than must be float, got True."),
    ({"one_in": [10, 0]}, ".one_in: one_in() needs a number of at least 1, got 0."),
]


class TestErrors:
    """What is wrong is told with its place, and nothing is set up by halves."""

    @pytest.mark.parametrize(("settings", "text"), WRONG)
    def test_place(self, settings, text):
        """The text says where it is, what must be there and what was."""
        with pytest.raises(InvalidSettings) as caught:
            configure(settings)
        assert str(caught.value).startswith(text)

    @pytest.mark.parametrize(("keep", "text"), WRONG_RULES)
    def test_rules(self, keep, text):
        """So it is with the rule of tail sampling."""
        wrappers = [{"kind": "tail_sampled", "keep": keep}]
        with pytest.raises(InvalidSettings) as caught:
            configure({"destinations": [{**MEMORY, "wrappers": wrappers}]})
        assert str(caught.value).startswith("destinations[0].wrappers[0].keep" + text)

    def test_nothing_is_made_before_all_is_checked(self, tmp_path):
        """A mistake at the end keeps what is at the beginning from being made."""
        file = {"kind": "file", "file": tmp_path / "log"}
        with pytest.raises(InvalidSettings):
            configure({"destinations": [file, {"kind": "no"}]})
        assert not (tmp_path / "log").exists()

    def test_nothing_is_left(self):
        """What cannot be made has what was made before closed again; nothing is in use."""
        state = dict(vars(_logger.DESTINATIONS))
        handlers = [*logging.getLogger().handlers]
        settings = {
            "fields": {"program": "shop"},
            "destinations": [{"kind": Outside, "size": 1}, {"kind": Broken}],
            "logging": {},
        }
        with pytest.raises(InvalidSettings, match="no"):
            configure(settings)
        assert Outside.made[0].is_closed
        assert state == vars(_logger.DESTINATIONS)
        assert handlers == logging.getLogger().handlers

    def test_missing_package(self, monkeypatch):
        """A package that is missing is told, with the place of what needs it."""

        def needy():
            raise MissingDependency("it needs x, which is not installed")

        with pytest.raises(InvalidSettings, match=r"destinations\[0\]: it needs x, which is not"):
            configure({"destinations": [{"kind": needy}]})

    def test_no_settings(self):
        """What is neither a dict nor a path is refused."""
        with pytest.raises(TypeError, match=r"needs a dict, or the path of a TOML file, got 7\."):
            configure(7)


TOML = """
[fields]
program = "shop"

[[destinations]]
kind = "memory"
wrappers = [
    { kind = "level_filter", level = "info", types = { "app:db:*" = "error" } },
    { kind = "rate_limited" },
]
"""


# Each option of each destination and wrapper, as it is written in a TOML file.
EVERY_OPTION = {
    "file": """
        file = "{folder}/a.log"
        json_default = "ext://eliot_etw.json.json_default"
    """,
    "rotating_file": """
        path = "{folder}/b.log"
        max_bytes = 10_000
        every_s = 86_400
        keep = 3
        compress = "gz"
        json_default = "ext://eliot_etw.json.json_default"
    """,
    "etl": """
        path = "{folder}/c.etl"
        provider_name = "Shop"
        guid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
        group = "10010203-0405-0607-0809-0a0b0c0d0e0f"
        levels = {{ "app:*" = 5 }}
        keywords = {{ "app:*" = 16 }}
        max_schemas = 100
        flush_interval_s = 1
        final_path = "{folder}/d.etl"
        json_default = "ext://builtins.repr"
    """,
    "etw": """
        provider_name = "Shop"
        guid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
        group = "10010203-0405-0607-0809-0a0b0c0d0e0f"
        levels = {{ "app:*" = 5 }}
        keywords = {{ "app:*" = 16 }}
        max_schemas = 100
        json_default = "ext://builtins.repr"
    """,
    "journald": """
        identifier = "configured"
        sentences = true
        index_fields = true
        socket_path = "{socket}"
        max_wait_s = 0.5
        json_default = "ext://builtins.repr"
    """,
    "logging": """
        logger = "shop"
        json_default = "ext://builtins.repr"
    """,
    "memory": "",
}
EVERY_WRAPPER = """
    { kind = "redacted", keys = ["*pin*"], patterns = { card = '[0-9]{16}' }, allow = ["pins"],
      json_default = "ext://builtins.repr" },
    { kind = "level_filter", level = "debug", types = { "app:db:*" = 40, "*" = "info" } },
    { kind = "rate_limited", interval_s = 1, burst = 9, fields = ["host"], max_kinds = 5 },
    { kind = "tail_sampled", keep = { typed = "app:*" }, max_messages = 9, max_tasks = 9,
      max_bytes = 10_000, timeout_s = 10 },
    { kind = "background", max_queued = 9, when_full = "drop_old", block_timeout_s = 0.5 },
"""
# A namespace excludes a path, and an encoder and a function exclude one another.
EXCLUDED = {"namespace", "encoder"}


class TestFile:
    """Settings in a TOML file."""

    @pytest.fixture(autouse=True)
    def _needs_toml(self):
        if sys.version_info < (3, 11):
            pytest.importorskip("tomli")

    @pytest.mark.parametrize("kind", [str, lambda path: path])
    def test_read(self, tmp_path, kind):
        """They are what a dict of the same would be."""
        (tmp_path / "log.toml").write_text(TOML, "utf-8")
        with configure(kind(tmp_path / "log.toml")) as made:
            log_message("app:db:x")
            log_message("app:x")
        assert [(m["message_type"], m["program"]) for m in kept(made)] == [("app:x", "shop")]

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            (
                "[[destinations]]\nkind = 'no'",
                r"log\.toml: destinations\[0\]\.kind must be one of",
            ),
            ("destinations =", r"log\.toml: not a TOML file: "),
            ("x = '\udcff'", r"log\.toml: not a TOML file: "),
        ],
    )
    def test_wrong(self, tmp_path, text, error):
        """What is wrong is told with the name of the file."""
        (tmp_path / "log.toml").write_text(text, "utf-8", "surrogateescape")
        with pytest.raises(InvalidSettings, match=error):
            configure(tmp_path / "log.toml")

    @pytest.mark.parametrize("kind", EVERY_OPTION)
    def test_every_option(self, tmp_path, kind):
        """Each destination and each wrapper can be set up so, with all that they can be told."""
        values = {"folder": tmp_path.as_posix(), "socket": ""}
        if kind == "journald":
            values["socket"] = _journal.shared().socket_path
        options = [line.strip() for line in EVERY_OPTION[kind].format(**values).splitlines()]
        wrappers = " ".join(EVERY_WRAPPER.split())
        text = "\n".join(["[[destinations]]", f'kind = "{kind}"', *options])
        (tmp_path / "log.toml").write_text(f"{text}\nwrappers = [{wrappers}]\n", "utf-8")
        with RecordingEtw(), configure(tmp_path / "log.toml") as made:
            with start_action(action_type="app:a", pin=1234, card="4111111111111111"):
                log_message("app:m")
            (outer,) = made.destinations
            layers = [outer]
            while hasattr(layers[-1], "inner"):
                layers.append(layers[-1].inner)
        assert layers[-2].stats()["failed"] == 0  # of the wrappers, the innermost counts those
        named = {line.partition(" ")[0] for line in options if line}
        taken = parameters_of(type(layers[-1])).types.keys()
        assert named == taken - EXCLUDED
        for layer in layers[:-1]:
            for name in parameters_of(type(layer)).types.keys() - {"inner"}:
                assert f"{name} = " in wrappers

    def test_no_file(self, tmp_path):
        """A file that is not there is an error of the system's."""
        with pytest.raises(FileNotFoundError):
            configure(tmp_path / "log.toml")


def test_old_python_without_the_package(tmp_path, monkeypatch):
    """Before Python 3.11, what is to be installed is told."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(MissingDependency, match=r"the package 'tomli'.*eliot-etw\[toml\]"):
        configure(tmp_path / "log.toml")
