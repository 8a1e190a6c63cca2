"""Tests of the shape of the code: imports go down only, and every file says what it is for."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "eliot_etw"

# Each room, from the bottom to the top. A name that ends in a dot stands for a whole package.
LAYERS = [
    {  # values: pure, no state of the process
        "_arguments",
        "_bridge",
        "_counter",
        "_extract",
        "_fields",
        "_json",
        "_late",
        "_levels",
        "_names",
        "_program",
        "_require",
        "_safe",
        "_settings",
        "_task_level",
        "_temporary",
        "_trace_context",
        "_written",
        "exceptions",
        "json",
        "serializers",
        "typing",
    },
    {  # state of the process
        "_context",
        "_dispatch",
        "_logger",
    },
    {  # what users call
        "",
        "_action",
        "_compat",
        "_decorators",
        "_fork",
        "_generators",
        "_message",
        "_output",
        "_traceback",
        "_types",
        "environment",
        "executors",
    },
    {  # edges
        "_tree",
        "destinations.",
        "etw.",
        "filter",
        "journald",
        "otlp.",
        "parse",
        "prettyprint",
        "shipping.",
        "sources.",
    },
    {  # programs and kits
        "__pyinstaller.",
        "_configure",
        "cli.",
        "collector.",
        "dask",
        "http.",
        "logwriter",
        "opentelemetry.",
        "stdlib.",
        "testing.",
        "twisted",
        "viewers.",
    },
]
VALUES, STATE, CALLED, EDGES, PROGRAMS = range(len(LAYERS))
ROOMS = set().union(*LAYERS)

# The edges that belong together.
ONE_EDGE = [
    {"_tree", "parse"},
    # Its thread tells the dispatcher of failures, as if the dispatcher had called.
    {"destinations.background", "destinations.", "_logger"},
    # What writes and reads traces is bytes and files of `etw`, as messages.
    *({module, "sources.", "etw."} for module in ("sources._activities", "sources._metrics")),
    # Spans and log records, as `otlp` has them, are messages to who reads them.
    *({module, "sources.", "otlp."} for module in ("sources.otlp", "sources._spans")),
    *({mod, "sources.", "etw.", "otlp."} for mod in ("sources.etl", "sources._common_schema")),
    # What a source and a sink have of one engine is in `shipping`.
    *(
        {module, "sources.", "shipping."}
        for module in ("sources.clickhouse", "sources.mongodb", "sources.nats", "sources.redis")
    ),
    # To connect to a collector is the same for who sends and for who listens.
    {"sources.zmq_sub", "sources.", "destinations."},
    {"destinations.etl", "destinations.", "etw."},
    {"journald", "destinations."},
    {"destinations.etw", "destinations.", "etw."},
    *(
        {module, "destinations.", "otlp."}
        for module in ("destinations.otlp", "destinations._otlp_sdk")
    ),
    # A spool is locked as a file of messages is; the rest of a destination is in `shipping`.
    {"shipping._spool", "shipping.", "destinations."},
    *(
        {module, "destinations.", "shipping."}
        for module in (
            "destinations._engine",
            "destinations.nats",
            "destinations.redis",
            "destinations.zmq",
            "destinations._zmq_link",
            "destinations._zmq_session",
        )
    ),
]
# What reads logs, and must not touch the logging of its own process.
READERS = {
    "_tree",
    "cli.",
    "etw.",
    "filter",
    "otlp.",
    "parse",
    "prettyprint",
    "sources.",
    "viewers.",
}
# The imports that go another way, and why.
EXCEPTIONS = {
    ("_output", "destinations.file"): "to_file adds a FileDestination",
    ("_output", "_configure"): "configure() is a public name; what it does is loaded when needed",
    ("", "destinations.file"): "FileDestination is a public name of the package, as in Eliot",
    ("cli._commands", ""): "its version",
}


# Tests that are about more than one module.
OF_THE_WHOLE = {
    "architecture",
    "bench",
    "cli/terminal",
    "collector/faults",
    "collector/faults_hostile",
    "collector/sinks/contract",
    "collector_system",
    "destinations/contract",
    "docs",
    "eliot_suite",
    "etw/fuzz",
    "examples",
    "examples/django_app",
    "examples/fastapi_app",
    "examples/flask_app",
    "hostile_values",
    "http/services",
    "hot_path",
    "import",
    "json_lines",
    "opentelemetry_system",
    "project",
    "public_api",
    "running",
    "runs_anywhere",
    "services",
    "shipping/system",
    "sources/contract",
    "tools",
    "windows/destination",
    "windows/handler",
    "windows/opentelemetry",
    "windows/real",
}


def name_of(path):
    """Name a module, without the package in front of it."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module):
    """Name the room of a module: its package, or itself."""
    package = module.partition(".")[0] + "."
    return package if any(package in layer for layer in LAYERS) else module


def layer_of(module):
    """Return how far up a module is."""
    return next(number for number, layer in enumerate(LAYERS) if room_of(module) in layer)


@cache
def tree_of(module):
    """Parse a module."""
    return ast.parse(MODULES[module].read_text("utf-8"))


def imports_of(module, *, at_once=False):
    """List the modules of ours that a module imports.

    Args:
        module: The module.
        at_once: Whether only what is imported when the module itself is.
    """
    found = set()
    waiting = list(tree_of(module).body)
    for node in waiting:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if at_once and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        found.update(map(module_named, filter(is_ours, names)))
        waiting.extend(ast.iter_child_nodes(node))
    return found


def is_ours(name):
    """Say whether something that is imported is in our package."""
    return name == "eliot_etw" or name.startswith("eliot_etw.")


def module_named(name):
    """Find the module that something is imported from."""
    name = name.partition(".")[2]
    return name if name in MODULES else name.rpartition(".")[0]


def each(*rooms, but_not=()):
    """Run a test for each module in some rooms."""
    chosen = [m for m in MODULES if room_of(m) in rooms and room_of(m) not in but_not]
    return pytest.mark.parametrize("module", chosen)


class TestModules:
    """Rules for each module."""

    @pytest.mark.parametrize("module", MODULES)
    def test_has_a_room(self, module):
        """A module has its place in the table above."""
        assert any(room_of(module) in layer for layer in LAYERS)

    @pytest.mark.parametrize("module", MODULES)
    def test_says_what_it_is_for(self, module):
        """Its first line is a sentence that says what it is for."""
        docstring = ast.get_docstring(tree_of(module)) or ""
        first = MODULES[module].read_text("utf-8").partition("\n")[0]
        assert first.startswith(('"""', 'r"""'))
        assert re.fullmatch(r"\S.*[.:]", docstring.partition("\n")[0])

    @each(*ROOMS)
    def test_imports_go_down(self, module):
        """It imports what is below it, or beside it in its layer."""
        up = {
            other
            for other in imports_of(module)
            if layer_of(other) > layer_of(module) and (module, other) not in EXCEPTIONS
        }
        assert up == set()

    @each(*LAYERS[EDGES])
    def test_edges_do_not_meet(self, module):
        """An edge imports only values, and what belongs to it."""
        own = next((edge for edge in ONE_EDGE if module in edge), {room_of(module)})
        others = {
            other
            for other in imports_of(module)
            if layer_of(other) != VALUES and room_of(other) not in own
        }
        assert others == set()

    @each(*READERS)
    def test_readers_do_not_log(self, module):
        """What reads logs imports nothing of what makes them."""
        makers = {
            other
            for other in imports_of(module)
            if layer_of(other) in {STATE, CALLED} and (module, other) not in EXCEPTIONS
        }
        assert makers == set()

    @each(*ROOMS, but_not={"_compat", "logwriter", "testing.", "twisted"})
    def test_spelling(self, module):
        """What it defines is in snake_case; Eliot's other names have rooms of their own."""
        defined = {
            node.name
            for node in ast.walk(tree_of(module))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        for node in tree_of(module).body:
            if isinstance(node, ast.Assign):
                defined.update(t.id for t in node.targets if isinstance(t, ast.Name))
        assert {name for name in defined if re.match(r"_*[a-z]+[A-Z]", name)} == set()


class TestPackage:
    """Rules for all of them together."""

    def test_table(self):
        """Every room in the tables is there."""
        assert {room_of(module) for module in MODULES} >= ROOMS >= READERS
        assert MODULES.keys() >= {name for pair in EXCEPTIONS for name in pair}

    def test_no_cycle(self):
        """No module imports itself by way of others."""
        done = set()

        def visit(module, path):
            assert module not in path, " -> ".join([*path, module])
            if module not in done:
                for other in imports_of(module, at_once=True) - {""}:
                    visit(other, [*path, module])
            done.add(module)

        for module in MODULES:
            visit(module, [])

    def test_documented(self):
        """docs/architecture.md names every room."""
        text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
        rooms = {room_of(module) for module in MODULES} - {""}
        lines = {
            room: room.replace(".", "/") if room[-1] == "." else f"{room}.py" for room in rooms
        }
        missing = {room for room in rooms if f"\n  {lines[room]} " not in text}
        assert missing == set()


def all_tests_in(path):
    """List the tests of a file."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    ]


def each_file(pattern):
    """Run a test for each of these files of tests."""
    tests = ROOT / "tests"
    ids = [str(path.relative_to(tests)) for path in sorted(tests.rglob(pattern))]
    return pytest.mark.parametrize("path", sorted(tests.rglob(pattern)), ids=ids)


class TestTests:
    """Rules for the tests."""

    @each_file("*.py")
    def test_say_what_they_are_for(self, path):
        """A file of tests says in its first line what it is for."""
        assert ast.get_docstring(ast.parse(path.read_text("utf-8")))

    @each_file("test_*.py")
    def test_state_their_rule(self, path):
        """Each test has a docstring: the rule that it guards."""
        silent = {test.name for test in all_tests_in(path) if not ast.get_docstring(test)}
        assert silent == set()

    @each_file("test_*.py")
    def test_stand_where_the_source_does(self, path):
        """A file of tests is named after what it tests, path for path."""
        subject = path.relative_to(ROOT / "tests").with_name(path.stem.removeprefix("test_"))
        names = [f"{subject.name}.py", f"_{subject.name}.py", f"__{subject.name}__.py"]
        tested = [PACKAGE / subject.with_name(name) for name in names]
        assert subject.as_posix() in OF_THE_WHOLE or any(map(Path.exists, tested))
