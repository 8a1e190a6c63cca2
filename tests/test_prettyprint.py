"""Tests of writing messages for people to read."""

import io
import json
import subprocess
import sys
from collections import OrderedDict
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eliot_etw.prettyprint import REQUIRED_FIELDS, compact_format, main, pretty_format

pytest.importorskip("eliot.prettyprint")
eliot = pytest.importorskip("eliot")

MESSAGE = {
    "timestamp": 1443193754,
    "task_uuid": "8c668cde-235b-4872-af4e-caea524bd1c0",
    "task_level": [1, 2],
    "message_type": "app:sent",
    "sizes": [123, 456],
}
# What ordinary messages hold. Backslashes are left out: see test_backslashes.
texts = st.text(st.characters(exclude_characters="\\\x7f", exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
names = st.text("abcdefgh_", min_size=1, max_size=12)
messages = st.builds(
    lambda place, fields: {**fields, **place},
    st.fixed_dictionaries(
        {
            "timestamp": st.integers(0, 4 * 10**9) | st.floats(0, 4e9),
            "task_uuid": st.uuids().map(str),
            "task_level": st.lists(st.integers(1, 99), min_size=1),
        },
        optional={"message_type": texts, "action_type": texts, "action_status": texts},
    ),
    st.dictionaries(names, values, max_size=5),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
hostile_messages = st.dictionaries(st.sampled_from([*REQUIRED_FIELDS, "x"]) | st.text(), anything)
formats = pytest.mark.parametrize("form", [pretty_format, compact_format])


def nested(depth):
    """Make a list that is nested so deep."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


class TestFormat:
    """Both formats are Eliot's."""

    @given(messages)
    @example({**MESSAGE, "text": "hello\nthere\nmonkeys!\n", "x": "a\tb"})
    @example({**MESSAGE, "x": {"value": 123, "another": [1, 2, {"more": "data"}]}})
    @example({**MESSAGE, "x": OrderedDict(b=1, a=2), "long": "abc def " * 30})
    def test_as_eliot(self, message):
        """Ordinary messages are written as Eliot writes them."""
        for local in (False, True):
            expected = eliot.prettyprint.pretty_format(message, local)
            assert expected == pretty_format(message, local)
            expected = eliot.prettyprint.compact_format(message, local)
            assert expected == compact_format(message, local)

    def test_local_timezone(self):
        """Times are local ones if asked for."""
        expected = datetime.fromtimestamp(1443193754).isoformat()
        assert f"\n{expected}\n" in pretty_format(MESSAGE, local_timezone=True)
        assert f" {expected} " in compact_format(MESSAGE, local_timezone=True)

    def test_backslashes(self):
        """A backslash that was logged is not taken for a newline, as Eliot takes it."""
        assert r"  path: 'C:\\new\\\\top'" in pretty_format({**MESSAGE, "path": r"C:\new\\top"})


class TestHostile:
    """Nothing that was logged raises, or gets at the terminal."""

    @given(hostile_messages)
    def test_only_printable_characters(self, message):
        """No character comes out that a terminal would obey, whatever a message holds."""
        assert compact_format(message).isprintable()
        assert pretty_format(message).replace("\n", "").replace("\t", "").isprintable()

    @pytest.mark.parametrize("field", ["\x1b[2J", "a\x9bm", "b\x7f", "c\u202e"])
    @formats
    def test_field_names(self, form, field):
        """Names of fields are neutralised too."""
        shown = form({**MESSAGE, field: 1, "task_uuid": field})
        assert field not in shown
        assert shown.count(repr(field)[1:-1]) == 2

    def test_forged_field(self):
        """A value of several lines cannot look like another field."""
        shown = pretty_format({**MESSAGE, "a": "x\n  b: 'forged'"})
        assert not any(line.startswith("  b:") for line in shown.splitlines())

    @pytest.mark.parametrize(
        "time", ["noon", None, [], float("nan"), float("inf"), 1e300, -(10**30), {"x": 1}]
    )
    @pytest.mark.parametrize("local", [True, False])
    @formats
    def test_bad_timestamp(self, form, time, local):
        """What is no time is shown as it is."""
        assert str(time) in form({**MESSAGE, "timestamp": time}, local)

    @pytest.mark.parametrize("level", ["/1", 7, None, [[1], "x"]])
    @formats
    def test_bad_level(self, form, level):
        """What is no level is shown all the same."""
        shown = form({**MESSAGE, "task_level": level})
        assert "app:sent" in shown.replace('"', "'")

    @formats
    def test_missing_place(self, form):
        """A message without a place is shown all the same."""
        assert "sizes" in form({"sizes": 1})

    @pytest.mark.parametrize("depth", [300, 5_000])
    @formats
    def test_nested_deeply(self, form, depth):
        """Values nested deeper than Python's recursion limit are shown as far as JSON goes."""
        assert "[" * 300 in form({**MESSAGE, "x": nested(depth)}).replace("\n", "").replace(
            "|", ""
        ).replace(" ", "")

    @formats
    def test_foreign_values(self, form):
        """Messages that were never JSON may hold anything, in any key."""

        class Rude:
            def __repr__(self):
                raise ZeroDivisionError

        assert "app:sent" in form({**MESSAGE, "x": Rude(), 7: object(), None: {1, 2}})

    def test_foreign_repr(self):
        """The repr of an object of another type is neutralised too."""

        class Loud:
            def __repr__(self):
                return "\x1b[2J"

        assert "\x1b" not in pretty_format({**MESSAGE, "x": Loud()})


@pytest.fixture
def run(monkeypatch):
    """Run the command on lines; return its status and what it wrote, as bytes."""

    def run_main(*arguments, lines=(), encoding="utf-8"):
        output = io.BytesIO()
        log = io.BytesIO(b"".join(line + b"\n" for line in lines))
        monkeypatch.setattr(sys, "argv", ["eliot-prettyprint", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(log))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding, newline="\n"))
        return main(), output.getvalue()

    return run_main


class TestCommand:
    """`eliot-prettyprint`."""

    LINE = json.dumps(MESSAGE).encode()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], pretty_format(MESSAGE)),
            (["--compact"], compact_format(MESSAGE)),
            (["-c", "-l"], compact_format(MESSAGE, local_timezone=True)),
            (["--local-timezone"], pretty_format(MESSAGE, local_timezone=True)),
        ],
    )
    def test_formats(self, run, arguments, expected):
        """Each message is written in the format that is asked for, with a newline after it."""
        expected = f"{expected}\n{expected}\n".encode()
        assert (0, expected) == run(*arguments, lines=[self.LINE, self.LINE])

    def test_not_json(self, run):
        """A line that is not JSON is shown as such between the others."""
        _, shown = run("-c", lines=[self.LINE, b"NOT \x1b JSON!!", self.LINE])
        good = compact_format(MESSAGE)
        assert f"{good}\nNot JSON: b'NOT \\x1b JSON!!'\n\n{good}\n" == shown.decode()

    @pytest.mark.parametrize(
        "thing",
        [{k: v for k, v in MESSAGE.items() if k != name} for name in sorted(REQUIRED_FIELDS)]
        + [[1], 7, None, "text"],
    )
    def test_not_a_message(self, run, thing):
        """JSON that lacks what every message has is shown as such."""
        line = json.dumps(thing).encode()
        assert f"Not an Eliot message: {line!r}\n\n".encode() == run(lines=[line])[1]

    def test_barest_message(self, run):
        """A message needs no more than its place."""
        bare = {name: MESSAGE[name] for name in REQUIRED_FIELDS}
        _, shown = run(lines=[json.dumps(bare).encode()])
        assert f"{pretty_format(bare)}\n" == shown.decode()

    def test_output_that_cannot_show_a_letter(self, run):
        """A letter that the output cannot encode is escaped, and nothing is lost."""
        line = json.dumps({**MESSAGE, "x": "é€"}).encode()
        assert b"'\xe9\\u20ac'" in run(lines=[line], encoding="latin-1")[1]

    def test_output_of_any_kind(self, monkeypatch):
        """Standard output may have been replaced by anything that takes text."""
        monkeypatch.setattr(sys, "argv", ["eliot-prettyprint"])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(self.LINE)))
        monkeypatch.setattr(sys, "stdout", output := io.StringIO())
        assert main() == 0
        assert pretty_format(MESSAGE) + "\n" == output.getvalue()

    def test_closed_pipe(self, tmp_path):
        """The end of a pipe's reader is the end of the command, without a word."""
        log = tmp_path / "log"
        log.write_bytes((self.LINE + b"\n") * 20_000)
        command = [sys.executable, "-c", "from eliot_etw.prettyprint import main; exit(main())"]
        with (
            log.open("rb") as stdin,
            subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process,
        ):
            process.stdout.readline()
            process.stdout.close()
            assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)

    def test_help(self, monkeypatch, capsys):
        """The options are explained."""
        monkeypatch.setattr(sys, "argv", ["eliot-prettyprint", "--help"])
        with pytest.raises(SystemExit):
            main()
        assert "--compact" in capsys.readouterr().out
