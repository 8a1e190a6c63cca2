"""What the papers show is run: their Python, their command lines, the docstrings; and the site.

Run as a program, this file runs the blocks of one page in the current directory.
"""

import contextlib
import dataclasses
import datetime
import decimal
import doctest
import enum
import fractions
import json
import os
import pathlib
import re
import subprocess
import sys
import uuid
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from eliot_etw import Action, destinations, log_message, start_action, to_file, write_traceback
from eliot_etw._json import encode_line
from eliot_etw._names import PLACE_FIELDS
from eliot_etw.exceptions import MissingDependency
from eliot_etw.sources import FileSource

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAPERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)

# The pages that need a journal of systemd.
WITH_JOURNAL = {DOCS / "destinations" / "journald.md"}

# The commands that pages show and that are not run here, by what they begin with.
NOT_RUN = {
    "python3 tools/demo.py": "makes an environment; tests/test_tools.py runs it",
    "python3 tools/test.py": "makes environments, and runs this very test",
    "python3 tools/services.py": "runs until Ctrl-C; tests/test_services.py tries it",
    "CI=true python3 tools/test.py": "makes environments, and runs this very test",
    ".ci/run": "makes environments, and runs this very test",
    "python3 tools/windows/": "installs Wine; tests/windows runs what is assembled",
    "ELIOT_ETW_WINDOWS=": "runs pytest",
    "python3 -m venv": "makes an environment",
    "pip install": "needs a network",
    ".venv/bin/pip install": "needs a network",
    ".venv/bin/pytest": "runs this very test",
    "eliot-etw tree --follow": "runs until it is interrupted",
}

# What is different each time is compared by its shape only.
_VARYING = [
    (re.compile(pattern, re.MULTILINE), shape)
    for pattern, shape in [
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
        (r"\[[0-9a-f]{8}\]", "[<uuid>]"),
        (r"(?<!\d)\d{4}-\d\d-\d\d(?!\d)", "<date>"),
        (r"\.\d{8}-\d{6}\.", ".<time>."),
        (r"(?<!\d)\d\d:\d\d:\d\d(\.\d+)?", "<time>"),
        (r"\b\d{10}\.\d+\b", "<seconds>"),
        (r"\b\d+(\.\d+)?(µs|ms|s)\b", "<duration>"),
        (r"◂", ""),  # how slow an action was
        (r'File ".*?([^/"]+)"', r'File "\1"'),
        (r"─+", "─"),  # columns are as wide as what is in them
        (r"[ \t]+", " "),
        (r" $", ""),
    ]
]


# ---- in a process of its own -------------------------------------------------------------------


def run_page(page):
    """Run the blocks of a page, in their order, in the current directory."""
    from sybil import Document
    from sybil.evaluators.python import PythonEvaluator
    from sybil.parsers.myst import CodeBlockParser

    python = PythonEvaluator()

    def run_python(example):
        """Run a block as it would be pasted; one with a caption is a file of that name."""
        caption = example.region.lexemes.get("options", {}).get("caption")
        if caption:
            Path(caption).write_text(example.parsed, "utf-8")
            return None
        return (run_doctest if example.parsed.startswith(">>>") else python)(example)

    document = Document.parse(
        str(page),
        CodeBlockParser("python", run_python),
        CodeBlockParser("json", lambda example: json.loads(example.parsed) and None),
        CodeBlockParser("console", run_console),
    )
    document.namespace["__name__"] = "__main__"
    for example in document.examples():
        example.evaluate()


def run_doctest(example):
    """Run what is typed at Python's prompt, and compare what it answers."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(
        example.parsed, example.namespace, example.path, example.path, example.line
    )
    test.globs = example.namespace
    report = []
    runner = doctest.DocTestRunner(optionflags=flags)
    if runner.run(test, out=report.append, clear_globs=False).failed:
        return "".join(report)
    return None


def run_console(example):
    """Run the lines that begin with a dollar sign, and compare the output that is shown."""
    for command, shown in commands(example.parsed):
        if any(command.startswith(beginning) for beginning in NOT_RUN):
            continue
        result = subprocess.run(
            ["bash", "-c", command],
            env=terminal(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        is_right = matches(shown, result.stdout) if shown else result.returncode == 0
        if not is_right:
            return (
                f"$ {command}\nended with status {result.returncode} and wrote\n\n"
                f"{result.stdout}\nthe page shows\n\n{shown}"
            )
    return None


def commands(block):
    """Split a block into its command lines, each with the output shown below it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    assert not parts[0].strip(), f"no command before {parts[0]!r}"
    for part in parts[1:]:
        command, *rest = part.split("\n")
        while rest and rest[0].startswith("> "):
            command += "\n" + rest.pop(0).removeprefix("> ")
        yield command, "\n".join(rest).strip("\n")


def terminal():
    """Return the environment of a terminal that has this Python's programs first on its PATH."""
    strange = ("PYTEST_", "CI", "COLUMNS", "FORCE_COLOR", "COV_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(strange)}
    programs = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return kept | {"PATH": programs, "TZ": "UTC", "NO_COLOR": "1", "PYTHONUTF8": "1"}


def matches(shown, output):
    """Say whether an output is the one that is shown; three dots stand for anything."""
    shown, output = (shape(text).strip() + "\n" for text in (shown, output))
    return doctest.OutputChecker().check_output(shown, output, doctest.ELLIPSIS)


def shape(text):
    """Replace in a text what is different each time."""
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text


# ---- the tests ---------------------------------------------------------------------------------


def name_of(path):
    """Name a file in the checkout."""
    return path.relative_to(ROOT).as_posix()


def run(*command, within=(), **options):
    """Run a program of this Python's, to its end."""
    line = [*within, sys.executable, *command]
    return subprocess.run(line, capture_output=True, encoding="utf-8", check=False, **options)


@contextlib.contextmanager
def journal_for(page, folder):
    """Begin a command line that runs in a folder, with an empty journal as the machine's."""
    if page not in WITH_JOURNAL:
        yield []
        return
    from tests import _journal

    with contextlib.closing(_journal.start()) as journal:
        yield journal.entering(folder)


class TestPages:
    """What a page shows is what happens."""

    @pytest.mark.skipif(os.name == "nt", reason="pages show the command lines of a POSIX shell")
    @pytest.mark.parametrize("page", PAGES + PAPERS, ids=name_of)
    def test_blocks_run(self, page, tmp_path):
        """Each block of a page runs, after those before it, and gives what is shown."""
        pytest.importorskip("sybil")
        with journal_for(page, tmp_path) as within:
            result = run("-W", "error", __file__, page, cwd=tmp_path, within=within)
        assert result.returncode == 0, result.stderr

    @pytest.mark.parametrize("page", PAGES + PAPERS, ids=name_of)
    def test_no_block_escapes(self, page):
        """Each block says what it is, and so what is to become of it; `text` is a picture."""
        fences = re.findall(r"^ *(?:```|~~~)(.*)$", page.read_text("utf-8"), re.MULTILINE)
        kinds = {fence.split()[0] for fence in fences if fence}
        languages = {kind for kind in kinds if not kind.startswith("{")}
        assert languages <= {"python", "console", "json", "text"}

    def test_exceptions_are_needed(self):
        """A command that is not run for a reason is on some page."""
        text = "\n".join(page.read_text("utf-8") for page in PAGES + PAPERS)
        unused = [beginning for beginning in NOT_RUN if f"$ {beginning}" not in text]
        assert unused == []


class TestRunner:
    """The way in which pages are run finds what is wrong in them."""

    @pytest.mark.parametrize(
        "block",
        [
            "```python\nassert False\n```",
            "```python\n>>> 1 + 1\n3\n```",
            "```console\n$ echo good\nbad\n```",
            "```console\n$ false\n```",
            "```json\n{]\n```",
        ],
    )
    def test_fails(self, block, tmp_path):
        """A page with a block that is not right fails."""
        pytest.importorskip("sybil")
        page = tmp_path / "page.md"
        page.write_text(f"# Page\n\n{block}\n", "utf-8")
        result = run(__file__, page, cwd=tmp_path)
        assert result.returncode == 1
        assert re.search("AssertionError|JSONDecodeError|SybilFailure", result.stderr)

    @pytest.mark.parametrize(
        ("shown", "output"),
        [
            ("12:30:01.500    80µs  ✓ shop:order", "14:26:55.363  1.25ms  ✓ shop:order"),
            ("a\n...\nb", "a\nx\ny\nb"),
            ('{"timestamp":1795184815.36}', '{"timestamp":1795184822.3630083}'),
        ],
    )
    def test_what_varies(self, shown, output):
        """Times, and what three dots stand for, may differ."""
        assert matches(shown, output)

    @pytest.mark.parametrize(("shown", "output"), [("12 pages", "13 pages"), ("a", "a\nb")])
    def test_what_does_not_vary(self, shown, output):
        """Anything else must be as shown."""
        assert not matches(shown, output)


def modules_with_examples():
    """Name the modules of the package that have an example in a docstring."""
    files = sorted((ROOT / "eliot_etw").rglob("*.py"))
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if ">>> " in file.read_text("utf-8")
    ]


@pytest.mark.parametrize("module", modules_with_examples())
def test_docstrings(module):
    """Examples in docstrings, with the public names at hand, give what they show."""
    program = (
        f"import doctest, eliot_etw, sys, {module} as module\n"
        "names = {name: getattr(eliot_etw, name) for name in eliot_etw.__all__}\n"
        "sys.exit(doctest.testmod(module, extraglobs=names).failed)"
    )
    result = run("-W", "error", "-c", program, cwd=ROOT)
    said = result.stdout + result.stderr
    if result.returncode and MissingDependency.__name__ in said:
        pytest.skip(said.strip().splitlines()[-1])
    assert result.returncode == 0, said


class TestAgreement:
    """What pages list is what there is."""

    def test_values(self):
        """The table of values in errors.md says what is written for them."""
        numpy = pytest.importorskip("numpy")
        names = {**vars(datetime), **vars(decimal), **vars(fractions), **vars(pathlib)}
        names |= {"UUID": uuid.UUID, "numpy": numpy, "Unprintable": Unprintable}
        names |= {"Colour": enum.Enum("Colour", {"RED": "red"}), "circular": []}
        names |= {"Point": dataclasses.make_dataclass("Point", ["x", "y"])}
        names["circular"].append(names["circular"])
        rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", section("errors.md", "Values"), re.M)
        written = [encode_line({"v": eval(value, names)}) for value, _ in rows]
        assert [f'{{"v":{json}}}\n'.encode() for _, json in rows] == written
        assert len(rows) > 15

    def test_architecture_names_every_room(self):
        """Each module and folder of the package is in the list of rooms, and nothing else is."""
        rooms = section("architecture.md", "The rooms").partition("tests/")[0]
        listed = set(re.findall(r"^  (\w+\.py|\w+/) ", rooms, re.MULTILINE))
        package = ROOT / "eliot_etw"
        modules = {path.name for path in package.glob("*.py")}
        folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
        assert modules | folders == listed

    @pytest.mark.parametrize(
        "module",
        [
            "",
            "dask",
            "destinations",
            "environment",
            "etw",
            "exceptions",
            "executors",
            "http",
            "json",
            "logwriter",
            "opentelemetry",
            "parse",
            "sources",
            "stdlib",
            "testing",
            "twisted",
        ],
    )
    def test_reference_names_all(self, module):
        """Each public name is in the reference: by a directive, or with its whole module."""
        text = (DOCS / "reference.md").read_text("utf-8")
        name = f"eliot_etw.{module}".rstrip(".")
        if f".. automodule:: {name}\n   :members:" in text:
            return
        public = {name for name in import_module(name).__all__ if not name.startswith("__")}
        named = set(re.findall(r":: (\w+)$|`(?:\w+\.)*(\w+)`", text, re.MULTILINE))
        assert sorted(public - {first or second for first, second in named}) == []

    def test_schema_describes_what_is_written(self, tmp_path):
        """Every message of a program is as the JSON Schema says; what is none is not."""
        jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is in no extra")
        schema = json.loads((DOCS / "message-schema.json").read_text("utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        to_file(tmp_path / "log")
        log_one_of_each()
        messages = list(FileSource(tmp_path / "log"))
        assert [error.message for m in messages for error in validator.iter_errors(m)] == []
        assert len(messages) == 7
        spoiled = [{**m, field: None} for m in messages for field in PLACE_FIELDS]
        assert not any(map(validator.is_valid, spoiled))

    def test_each_destination_has_a_page(self):
        """A destination that nobody explains is not there for users."""
        modules = set(destinations._MODULES.values())
        pages = {path.stem for path in (DOCS / "destinations").glob("*.md")} - {"index"}
        assert modules == pages


def log_one_of_each():
    """Log a message of each kind that there is."""
    log_message("app:message")
    log_message()
    with suppress(ValueError), start_action(action_type="app:failing", size=1):
        raise ValueError
    with Action.continue_task(task_id="0b9c@/2"):
        write_traceback()


class Unprintable:
    """A value that cannot even be shown."""

    def __repr__(self):
        raise RuntimeError


def section(page, title):
    """Return a section of a page."""
    text = (DOCS / page).read_text("utf-8")
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


class TestSite:
    """The site that Sphinx makes of docs/."""

    def test_builds_without_a_warning(self, tmp_path):
        """Nothing in it leads nowhere, and every name in the reference is there."""
        for package in ("sphinx", "furo", "myst_parser"):
            pytest.importorskip(package)
        result = run("-m", "sphinx", "-n", "-W", "--keep-going", "-q", DOCS, tmp_path, cwd=ROOT)
        assert (result.returncode, result.stdout + result.stderr) == (0, "")


if __name__ == "__main__":
    # Modules that a page writes are found as they would be from a prompt.
    sys.path[0] = os.getcwd()
    run_page(sys.argv[1])
