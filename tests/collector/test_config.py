"""Tests of the configuration: what it says, and that a mistake is told with its line."""

import os
from pathlib import Path

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")

from eliot_etw.collector._config import (
    DEFAULT_HTTP,
    Spec,
    default_settings,
    default_state,
    read_settings,
)
from eliot_etw.collector._lane import LaneOptions
from eliot_etw.collector._routes import Route
from eliot_etw.collector.sinks import SINKS
from eliot_etw.exceptions import InvalidSettings

RIGHT = """\
state: /var/lib/eliot-etw
dead_letters: /var/log/dead.jsonl
http: 127.0.0.1:9000
inputs:
  - kind: zmq
    endpoint: tcp://127.0.0.1:5555
  - kind: file
    path: /var/log/app.log
sinks:
  archive:
    kind: jsonlines
    path: /var/log/all.jsonl
    every_s: 86400
    compress: gz
    required: false
    spool_bytes: 1000
  store:
    kind: sqlite
    path: /var/log/store.sqlite
routes:
  - to: [archive]
  - type: "app:*"
    level: warning
    fields: {service: shop}
    to: [store]
    final: true
"""


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text as a configuration."""

    def read(text, **options):
        path = tmp_path / "collector.yaml"
        path.write_text(text, "utf-8")
        return read_settings(path, **options)

    return read


def test_all(read, tmp_path):
    """Everything that may be there is understood."""
    settings = read(RIGHT)
    assert settings.state == Path("/var/lib/eliot-etw")
    assert settings.dead_letters == Path("/var/log/dead.jsonl")
    assert settings.http == "127.0.0.1:9000"
    assert settings.inputs == {
        "inputs[0]": Spec("zmq", {"endpoint": "tcp://127.0.0.1:5555"}),
        "inputs[1]": Spec("file", {"path": "/var/log/app.log"}),
    }
    assert settings.sinks["archive"] == Spec(
        "jsonlines",
        {"path": "/var/log/all.jsonl", "every_s": 86400, "compress": "gz"},
        LaneOptions(required=False, spool_bytes=1000),
    )
    assert [*settings.routes] == [
        Route(("archive",)),
        Route(("store",), ("app:*",), 30, {"service": "shop"}, final=True),
    ]


def test_least(read, tmp_path):
    """What is not said has its default; the state folder of the command line counts."""
    text = "inputs: [{kind: zmq}]\nsinks: {a: {kind: sqlite, path: x}}\n"
    settings = read(text, state=tmp_path)
    assert settings.state == tmp_path
    assert settings.dead_letters == tmp_path / "dead-letters.jsonl"
    assert (settings.http, settings.routes) == (DEFAULT_HTTP, [])
    assert read("http: null\n" + text).http is None


@pytest.mark.parametrize(
    ("line", "words", "old", "new"),
    [
        (11, "sinks.archive.kind must be one of ", "jsonlines", "jsonlinez"),
        (
            12,
            "sinks.archive.pathh is no setting. There are here: path",
            "path: /var/log/all",
            "pathh: /x\n    path: /all",
        ),
        (12, "sinks.archive.path must be str, got 5", "/var/log/all.jsonl", "5"),
        (10, "sinks.archive.path is missing. Add it.", "    path: /var/log/all.jsonl\n", ""),
        (14, "sinks.archive.compress must be 'gz' or None, got 'xz'", "gz", "xz"),
        (15, "sinks.archive.required must be bool, got 'no one'", "false", "no one"),
        (16, "sinks.archive.spool_bytes must not be below 0, got -1", "1000", "-1"),
        (5, "inputs[0].kind must be one of file, ", "kind: zmq", "kind: zmp"),
        (6, "inputs[0].endpoint must be str, got None", "tcp://127.0.0.1:5555", ""),
        (21, "routes[0].to[0] must be a sink, one of archive, store, got 'a'", "[archive]", "[a]"),
        (23, "routes[1].level must be a number, or one of ", "warning", "loud"),
        (24, "routes[1].fields must be dict, got 'all'", "{service: shop}", "all"),
        (26, "routes[1].finall is no setting.", "final", "finall"),
        (22, "routes[1].to is missing", "    to: [store]\n", ""),
        (3, "http must be host:port, got '9000'", "127.0.0.1:9000", '"9000"'),
        (1, "stat is no setting. There are here: state, ", "state:", "stat:"),
        (17, "sinks.archive is there twice", "  store:", "  archive:"),
        (21, "not YAML: ", "routes:", "routes: ["),
        (17, "sinks.5 must be a name, got 5", "  store:", "  5:"),
        (
            14,
            "sinks.archive.compress must be valid as int, got 'gz'. Put text into quotes",
            "gz",
            "!!int gz",
        ),
        (15, "sinks.archive.required must be valid as bool, got 'x'", "false", "!!bool x"),
        (3, "http must be valid as timestamp, got '2026-06-31'", "127.0.0.1:9000", "2026-06-31"),
        (6, "inputs[0].endpoint must be valid as timestamp, got 'x'", "tcp:", "!!timestamp x #"),
        (1, "state must be text without zero bytes", "/var/lib/eliot-etw", r'"a\0b"'),
        (12, "not a configuration: too deep, or an anchor wi", "/var/log/all", "&a [*a] #"),
        (19, "sinks.store.path must be another one than sinks.arch", "store.sqlite", "all.jsonl"),
        (12, "sinks.archive.path must be another one than inputs[1].p", "all.jsonl", "app.log"),
        (
            8,
            "inputs[1].endpoint must be another one than inp",
            "file\n    path: /var/log/app.log",
            "zmq\n    endpoint: tcp://127.0.0.1:5555",
        ),
    ],
)
def test_mistakes(read, tmp_path, line, words, old, new):
    """What is wrong is told with the file, the line and what to do."""
    assert old in RIGHT
    with pytest.raises(InvalidSettings) as caught:
        read(RIGHT.replace(old, new, 1))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'collector.yaml'}:{line}: {words}")


@pytest.mark.parametrize(
    "text", ["", "sinks: {}", "inputs: []\nsinks: {}", "- a", "5", "a: !!python/object:os.x {}"]
)
def test_nothing(read, text):
    """A configuration without inputs or sinks is none; tags of Python are nothing."""
    with pytest.raises(InvalidSettings, match=r"collector\.yaml:\d+: "):
        read(text)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Path, "must be of a class that has write, flush, close, stats, got 'sqlite'"),
        (RuntimeError("x"), "'sqlite' cannot be imported: x"),
    ],
)
def test_broken_kinds(read, monkeypatch, made, words):
    """What another package brings may be no sink, or raise anything when it is imported."""

    def find(kind):
        if isinstance(made, Exception):
            raise made
        return made

    monkeypatch.setattr(SINKS, "find", find)
    with pytest.raises(InvalidSettings, match=words):
        read("inputs: [{kind: zmq}]\nsinks: {a: {kind: sqlite, path: x}}\n")


def test_odd_names(read, tmp_path):
    """The line is that of a sink whose name has dots, colons and spaces, too."""
    text = (
        'inputs: [{kind: zmq}]\nsinks:\n  a: {kind: sqlite, path: x}\n  "a: b. c":\n    kind: sq\n'
    )
    with pytest.raises(InvalidSettings, match=r"yaml:5: sinks.a: b. c.kind must be one of"):
        read(text)


def test_any_free_port(read):
    """Two may listen at any free port each."""
    zmq = '{kind: zmq, endpoint: "tcp://127.0.0.1:*"}'
    settings = read(f"inputs: [{zmq}, {zmq}]\nsinks: {{a: {{kind: sqlite, path: x}}}}\n")
    assert len(settings.inputs) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2_000,
        "\n".join(
            ["a0: &a0 [1,1]", *(f"a{n}: &a{n} [*a{n - 1},*a{n - 1}]" for n in range(1, 40))]
        ),
    ],
)
def test_too_much(read, text):
    """A file that is too deep, or becomes ever larger, is a mistake like others."""
    with pytest.raises(InvalidSettings, match=r"yaml:\d+: "):
        read(text)


def test_line_of_an_option():
    """What cannot be made is told with the line of the option that it speaks of."""
    lines = {"sinks.a": 3, "sinks.a.keep": 5}
    settings = default_settings(Path())._replace(path="x", lines=lines)
    assert str(settings.mistake("sinks.a", "keep must be")) == "x:5: sinks.a.keep must be"
    assert str(settings.mistake("sinks.a", "no room")) == "x:3: sinks.a: no room"


def test_not_there(tmp_path):
    """A file that is not there is an error of the system."""
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / "no.yaml")


def test_default(tmp_path, monkeypatch):
    """Without a configuration, everything is in the state folder."""
    settings = default_settings(tmp_path)
    assert {spec.kind for spec in settings.sinks.values()} == {"jsonlines", "sqlite"}
    assert all(str(tmp_path) in spec.options["path"] for spec in settings.sinks.values())
    name = "LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME"
    monkeypatch.setenv(name, str(tmp_path))
    assert default_state() == tmp_path / "eliot-etw"
