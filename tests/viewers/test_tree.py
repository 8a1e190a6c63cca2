"""Tests of drawing tasks as trees."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eliot_etw.viewers._forest import Task
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._text import Clock, width_of
from eliot_etw.viewers._tree import TreeText

pytest.importorskip("rich")

NOON = 1_795_176_000.0
TASK = "8c668cde-235b-4872-af4e-caea524bd1c0"


def stream(encoding="utf-8"):
    """Make a stream with an encoding."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


def drawing(messages, *, is_match=None, context=False, encoding="utf-8", **options):
    """Draw messages of one task, and return the text."""
    screen = Screen(
        stream(encoding), color=options.pop("color", "never"), width=options.pop("width", 0)
    )
    tree = TreeText(screen, Clock(utc=True), **options)
    return "".join(
        tree.draw(messages[0]["task_uuid"], task(messages).nodes(is_match, context=context))
    )


def task(messages):
    """Make a task of messages."""
    made = Task(messages[0]["task_uuid"], 1)
    for message in messages:
        made.add(tuple(message["task_level"]), message)
    return made


def shape(text):
    """Return the lines without date, time and duration, which stand in the first 22 columns."""
    return "\n".join(line[22:] for line in text.splitlines()[1:])


@pytest.fixture
def draw(log):
    """Return a function that draws what `log` makes, and cuts the first columns off."""
    return lambda text, **options: shape(drawing(log(text), **options))


class TestLines:
    """What the line of a node says."""

    def test_of_spans(self):
        """Of what a span has besides its attributes, its service and an unusual kind are shown."""
        of_span = {
            "otel:span_id": "00f067aa0ba902b7",
            "otel:parent_span_id": "b7ad6b7169203331",
            "otel:scope": "http",
            "otel:scope_version": "1.0",
        }
        place = {"task_uuid": TASK, "timestamp": NOON, "action_type": "GET"}
        place["action_status"] = "started"
        server = {"otel:kind": "server", "otel:resource": {"service.name": "shop", "host.id": "7"}}
        internal = {"otel:kind": "internal", "otel:resource": "none"}
        log = [
            {**place, "task_level": [1], **of_span, **server, "x": 1},
            {**place, "task_level": [2, 1], **of_span, **internal, "x": 2},
        ]
        assert shape(drawing(log)) == (
            "◌ GET [8c668cde] otel:kind=server service.name=shop x=1 (no end)\n"
            "└─ ◌ GET x=2 (no end)"
        )
        assert "otel:kind" not in TreeText(Screen(stream()), Clock()).plain_fields(log[0])
        whole = drawing(log, limit=0)
        assert 2 == whole.count(" otel:span_id=00f067aa0ba902b7 otel:parent_span_id=")
        assert "otel:resource={'service.name': 'shop', 'host.id': '7'}" in whole
        assert "otel:kind=internal" in whole

    def test_columns(self, log):
        """Day, time and duration stand before the tree."""
        text = drawing(log("1 start app:request n=1 \n 2 m \n 3 end app:request"))
        assert text == (
            "2026-11-20 UTC\n"
            "12:00:00.000   200ms  ✓ app:request [8c668cde] n=1\n"
            "12:00:00.100          └─ · m\n"
        )

    def test_guides(self, draw):
        """Lines lead from each action to what is within it."""
        assert draw("""
            1 start a
            2.1 start b
            2.2 m
            2.3.1 start c
            2.3.2 end c
            2.4 end b
            3 n
            4 end a
        """) == (
            "✓ a [8c668cde]\n"
            "├─ ✓ b\n"
            "│  ├─ · m\n"
            "│  └─ ✓ c\n"
            "└─ · n"
        )  # fmt: skip

    def test_results(self, draw):
        """What the end of an action logged comes after an arrow."""
        assert draw('1 start a n=1 \n 2 end a m=2 t="x"') == "✓ a [8c668cde] n=1 → m=2 t=x"

    def test_failure(self, draw):
        """A failed action has another sign and says why, below itself and above its children."""
        assert draw("""
            1 start a
            2 m
            3 fail a exception="builtins.ValueError" reason="no" errno=5
        """) == (
            "✗ a [8c668cde] → errno=5\n"
            "│  ValueError: no\n"
            "└─ · m"
        )  # fmt: skip

    def test_failure_of_a_class_of_ones_own(self, draw):
        """The names of exceptions are given with their modules, unless they are Python's own."""
        text = draw('1 start a \n 2 fail a exception="app.errors.Gone" reason="no"')
        assert text.splitlines()[1].strip() == "app.errors.Gone: no"

    @pytest.mark.parametrize(
        ("fields", "line"),
        [
            ('exception="E"', "E"),
            ('exception="E" reason=""', "E"),
            ('reason="no"', "no"),
            ("exception=5 reason=[1]", "5: [1]"),
        ],
    )
    def test_failure_with_little_to_say(self, draw, fields, line):
        """Whatever there is of an exception is shown."""
        text = draw(f"1 start a \n 2 fail a {fields}")
        assert text.splitlines()[1:] == [f"   {line}"]

    def test_failure_with_nothing_to_say(self, draw):
        """A failure of which nothing is known is no empty line."""
        assert draw("1 start a \n 2 fail a") == "✗ a [8c668cde]"

    def test_reason_of_several_lines(self, draw):
        """A reason is shown in full, each line in its place."""
        text = draw('1 start a \n 2 fail a exception="E" reason="one\\ntwo"')
        assert text == "✗ a [8c668cde]\n   E: one\n   two"

    def test_traceback(self, draw):
        """A traceback is shown in full, below what it is of."""
        lines = "".join(f"line{n}\\n" for n in range(30))
        text = draw(f'1 eliot:traceback exception="E" reason="no" traceback="{lines}" n=1')
        assert text.splitlines() == [
            "✗ eliot:traceback [8c668cde] n=1",
            "   E: no",
            *(f"   line{n}" for n in range(30)),
        ]

    def test_traceback_without_text(self, draw):
        """A traceback that lost its text leaves no empty line."""
        assert draw('1 eliot:traceback exception="E"') == "✗ eliot:traceback [8c668cde]\n   E"

    def test_many_names(self, log, monkeypatch):
        """A log that makes up names without end is drawn as any other."""
        monkeypatch.setattr("eliot_etw.viewers._tree._MOST_NAMES", 3)
        screen = Screen(stream())
        tree = TreeText(screen, Clock(utc=True))
        lines = []
        for n in range(20):
            lines += tree.draw("t", task(log(f"1 m{n % 9} x{n % 7}=1")).nodes())
        assert [line.split()[-3:] for line in lines[1:]] == [
            [f"m{n % 9}", "[t]", f"x{n % 7}=1"] for n in range(20)
        ]
        assert len(tree._names) <= 4
        assert len(tree._heads) <= 4

    def test_text_of_several_lines(self, draw):
        """A text of several lines stands below, under its name."""
        assert draw('1 start a \n 2 m sql="select\\n1" n=1 \n 3 end a') == (
            "✓ a [8c668cde]\n"
            "└─ · m n=1\n"
            "      sql=\n"
            "        select\n"
            "        1"
        )  # fmt: skip

    def test_long_text_of_many_lines(self, draw):
        """Of many lines the first are shown, and how many more there are."""
        lines = "\\n".join(map(str, range(1, 31)))
        text = draw(f'1 m t="{lines}"')
        assert text.splitlines()[-2:] == ["     20", "     … 10 more lines"]
        assert draw(f'1 m t="{lines}"', limit=0).splitlines()[-1] == "     30"

    def test_long_value(self, draw):
        """A long value is cut, unless all is wanted."""
        story = f'1 m t="{"x" * 400}"'
        assert draw(story) == f'· m [8c668cde] t="{"x" * 300}"… (400 characters)'
        assert draw(story, limit=0) == f"· m [8c668cde] t={'x' * 400}"

    def test_ids(self, log):
        """Of a UUID the beginning is shown; any other name of a task is shown whole."""
        drawn = [shape(drawing(log("1 m", uuid=uuid))) for uuid in (TASK, "job 5", "x" * 99)]
        assert drawn == [
            "· m [8c668cde]",
            '· m ["job 5"]',
            f'· m ["{"x" * 36}"… (99 characters)]',
        ]

    def test_no_type(self, log):
        """A message need not have a type."""
        assert shape(drawing(log("1 n=5"))) == "· (no type) [8c668cde] n=5"

    def test_strange_types(self, log):
        """A type that is no text, or a very long one, is shown as a value is."""
        messages = log("1 m")
        drawn = []
        for kind in ([1], "x" * 400, "a\x1bb"):
            messages[0]["message_type"] = kind
            drawn.append(shape(drawing(messages)))
        assert drawn == [
            "· [1] [8c668cde]",
            f"· {'x' * 300}… [8c668cde]",
            "· a\\x1bb [8c668cde]",
        ]

    def test_no_time(self, log):
        """A message without a usable time has dashes for it, and begins no day."""
        messages = log("1 m")
        messages[0]["timestamp"] = "noon"
        assert drawing(messages) == "--:--:--.---          · m [8c668cde]\n"


class TestIncomplete:
    """What is missing is said in its place."""

    def test_all_kinds(self, draw):
        """No start, no end, missing messages, messages after the end."""
        assert draw("""
            1 start a
            4 m
            5.1 start b
            6.2 end c
            7.2 m
            9 end a
            10 m
        """) == (
            "✓ a [8c668cde]\n"
            "├─ ┄ missing messages 2-3\n"
            "├─ · m\n"
            "├─ ◌ b (no end)\n"
            "├─ ✓ c (no start)\n"
            "├─ ◌ (unknown action) (no start, no end)\n"
            "│  └─ · m\n"
            "├─ ┄ missing message 8\n"
            "├─ ┄ logged after the end:\n"
            "└─ · m"
        )  # fmt: skip

    def test_rivals(self, draw):
        """A message whose place another holds says so."""
        assert draw("1 start a \n 2 m \n 2 n \n 3 end a") == (
            "✓ a [8c668cde]\n"
            "├─ · n (same place as another message)\n"
            "└─ · m"
        )  # fmt: skip


class TestSlow:
    """What took long stands out."""

    def test_slow_action(self, log):
        """An action that took as long as a slow one is marked."""
        text = drawing(log("1 start a \n 2 @1.0 end a"))
        assert text.splitlines()[1].startswith("12:00:00.000   1.00s◂ ✓")

    def test_limit(self, log):
        """What is slow can be chosen."""
        messages = log("1 start a \n 2 @1.0 end a")
        assert "◂" not in drawing(messages, slow_s=1.1)

    def test_where_the_time_went(self, log):
        """Within a slow action, what took at least half of its time is slow, and so on down."""
        text = drawing(
            log("""
            1 @0 start a
            2.1 @0 start b
            2.2.1 @0 start c
            2.2.2 @0.5 end c
            2.3 @0.7 end b
            3.1 @0.7 start d
            3.2 @1.0 end d
            4 @1.2 end a
        """)
        )
        assert [line.count("◂") for line in text.splitlines()[1:]] == [1, 1, 1, 0]

    def test_nothing_is_slow_in_a_quick_action(self, log):
        """In a quick action nothing is marked, whatever share it took."""
        messages = log("1 @0 start a \n 2.1 @0 start b \n 2.2 @0.5 end b \n 3 @0.5 end a")
        assert "◂" not in drawing(messages)


class TestSeveralTasks:
    """What stands between tasks."""

    def test_apart(self, log):
        """Trees stand apart; single lines follow one another."""
        tree = TreeText(Screen(stream()), Clock(utc=True))
        text = ""
        for n, story in enumerate(
            ["1 m1", "1 m2", "1 start a \n 2 m \n 3 end a", "1 m3", "1 start b \n 2 end b"]
        ):
            text += "".join(tree.draw(str(n), task(log(story)).nodes()))
        assert [line[22:] for line in text.splitlines()] == [
            "",
            '· m1 ["0"]',
            '· m2 ["1"]',
            "",
            '✓ a ["2"]',
            "└─ · m",
            "",
            '· m3 ["3"]',
            '✓ b ["4"]',
        ]

    def test_time_beyond_the_calendar(self, log):
        """A time that no calendar has begins no day."""
        messages = log("1 m")
        messages[0]["timestamp"] = 1e17
        assert drawing(messages) == "--:--:--.---          · m [8c668cde]\n"

    def test_days(self, log):
        """The day is said when it is another one."""
        tree = TreeText(Screen(stream()), Clock(utc=True))
        text = ""
        for time in (0, 1, 86400, 86401):
            text += "".join(tree.draw("t", task(log(f"1 @{time} m")).nodes()))
        days = [line for line in text.splitlines() if "UTC" in line]
        assert days == ["2026-11-20 UTC", "2026-11-21 UTC"]


class TestContext:
    """What is shown only because it leads to something."""

    def test_styles(self, log):
        """Context is faint."""
        text = drawing(
            log("1 start a n=1 \n 2.1 start b \n 2.2 end b \n 3 end a"),
            is_match=lambda node: node.type == "b",
            context=True,
            color="always",
        )
        root, inner = text.splitlines()[1:]
        assert "\x1b[2m✓ a\x1b[0m" in root
        assert "\x1b[2mn=1\x1b[0m" in root
        assert "\x1b[32m✓\x1b[0m \x1b[1mb\x1b[0m" in inner


class TestWidth:
    """What does not fit into a line."""

    def test_fields_go_on_below(self, draw):
        """Fields that do not fit come in further lines, under the guides."""
        text = draw(
            """
            1 start a
            2.1 start app:query name="alpha" other="beta" third="gamma"
            2.2 m
            2.3 end app:query
            3 end a
        """,
            width=64,
        )
        assert text == (
            "✓ a [8c668cde]\n"
            "└─ ✓ app:query name=alpha other=beta\n"
            "   │  third=gamma\n"
            "   └─ · m"
        )  # fmt: skip

    def test_long_value_is_broken(self, draw):
        """A value wider than the screen is broken."""
        assert draw(f'1 m t="{"0123456789" * 3}x"', width=22 + 3 + 20) == (
            "· m [8c668cde]\n"
            "   t=012345678901234567\n"
            "   890123456789x"
        )  # fmt: skip

    @settings(deadline=None)
    @given(
        st.dictionaries(st.text(max_size=20), st.text(max_size=200) | st.integers(), max_size=5),
        st.integers(46, 120),
        st.booleans(),
    )
    def test_nothing_is_wider_than_the_screen(self, fields, width, failed):
        """Whatever the values are, in whatever script: no line is wider than the screen."""
        fields = {f"x{key}": value for key, value in fields.items()}
        end = {"exception": "E", "reason": "long " * 40} if failed else {}
        messages = [
            {
                "task_uuid": "t",
                "task_level": [1],
                "timestamp": NOON,
                "action_type": "a",
                "action_status": "started",
                **fields,
            },
            {
                "task_uuid": "t",
                "task_level": [2],
                "timestamp": NOON,
                "action_type": "a",
                "action_status": "failed" if failed else "succeeded",
                **end,
            },
        ]
        text = drawing(messages, width=width)
        assert max(map(width_of, text.split("\n"))) <= width

    def test_deep_trees(self, log):
        """Beyond some depth lines are not indented any further, but say how deep they are."""
        depth = 60
        story = "\n".join(
            [
                ".".join(["1"] if n == 0 else ["2"] * n + ["1"]) + f" start a{n}"
                for n in range(depth)
            ]
        )
        lines = drawing(log(story)).splitlines()[1:]
        deepest = next(line for line in lines if "a59" in line)
        assert "a59 (depth 59) (no end)" in deepest
        assert len(deepest) < 22 + 3 * 40 + 40


class TestHostileLogs:
    """A log may say anything; it is shown, not obeyed."""

    HOSTILE = "\x1b[2J\x1b]0;title\x07\r\b\x9b31m\u202e\u2066\u2028\ud800\x00\x7f"

    def test_everywhere(self, log):
        """Names, types, keys, values, reasons, tracebacks: no control character comes out."""
        evil = self.HOSTILE
        messages = log("1 start a \n 2 m \n 3 eliot:traceback \n 4 fail a", uuid=evil)
        messages[0] |= {"action_type": evil, evil: evil, "nested": {evil: [evil]}}
        messages[1] |= {"message_type": evil, evil: f"{evil}\n{evil}"}
        messages[2] |= {"exception": evil, "reason": evil, "traceback": f"{evil}\n{evil}"}
        messages[3] |= {"action_type": evil, "exception": evil, "reason": f"{evil}\n{evil}"}
        text = drawing(messages)
        assert text.replace("\n", "").isprintable()

    def test_no_line_can_be_forged(self, log):
        """What looks like a line of the tree is under its field, or quoted."""
        forged = "ok\n12:00:00.000   200ms  ✗ app:forged [8c668cde]"
        messages = log("1 m")
        messages[0]["t"] = forged
        lines = drawing(messages).splitlines()
        assert [line for line in lines if line.startswith("12:00")] == [lines[1]]

    def test_ascii(self, log):
        """Where the encoding has no boxes, the tree is drawn in ASCII."""
        messages = log("""
            1 start a
            2.1 start b
            2.2 fail b reason="no"
            4.1 start c
            5 @2 end a n=5
        """)
        assert drawing(messages, encoding="ascii") == (
            "2026-11-20 UTC\n"
            "12:00:00.000   2.00s< + a [8c668cde] => n=5\n"
            "12:00:00.100   100ms  |- X b\n"
            + " " * 22
            + "|     no\n"
            + " " * 22
            + "|- ~ missing message 3\n"
            "12:00:00.300          `- ? c (no end)\n"
        )


class TestColour:
    """Styles."""

    def test_failure_is_red(self, log):
        """A failed action and its reason are red."""
        text = drawing(log('1 start a \n 2 fail a reason="no"'), color="always")
        assert "\x1b[1;31m✗ a\x1b[0m" in text
        assert "\x1b[1;31mno\x1b[0m" in text

    def test_same_text(self, log):
        """Styles add nothing but themselves."""
        import re

        messages = log('1 start a n=1 \n 3 m t="x\\ny" \n 4 @2 fail a reason="no" \n 5 late')
        plain, coloured = (drawing(messages, color=color) for color in ("never", "always"))
        assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain
