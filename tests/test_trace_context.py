"""Tests of W3C's Trace Context: what is accepted and refused, and which ids tasks have there."""

import contextlib
import re
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eliot_etw._task_level import new_task_uuid, parse_task_id
from eliot_etw._trace_context import (
    FIRST_DRAWN,
    TraceParent,
    drawn_position,
    drawn_task_id,
    parse_traceparent,
    span_id_of,
    task_uuid_of,
    trace_id_of,
    valid_tracestate,
)
from eliot_etw.exceptions import EliotError, InvalidTraceParent

TRACE = "12345678901234567890123456789012"
SPAN = "1234567890123456"
GOOD = f"00-{TRACE}-{SPAN}-01"

digits = st.text("0123456789abcdef")
levels = st.lists(st.integers(1, 1 << 52), max_size=5)


def hex_of(size):
    """Draw so many hexadecimal digits, not all of them zeros."""
    return st.text("0123456789abcdef", min_size=size, max_size=size).filter(
        lambda text: text.strip("0")
    )


class TestTraceParent:
    """The header `traceparent`."""

    @given(hex_of(32), hex_of(16), st.integers(0, 255))
    def test_round_trip(self, trace_id, parent_id, flags):
        """What is written is read back."""
        value = TraceParent(trace_id, parent_id, flags)
        assert value == parse_traceparent(value.to_string())

    @pytest.mark.parametrize(
        ("text", "flags"),
        [
            (GOOD, 1),
            (f"00-{TRACE}-{SPAN}-00", 0),
            (f"00-{TRACE}-{SPAN}-ff", 255),
            (f"01-{TRACE}-{SPAN}-01", 1),
            (f"cc-{TRACE}-{SPAN}-01", 1),
            (f"cc-{TRACE}-{SPAN}-01-", 1),
            (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
            (f"fe-{TRACE}-{SPAN}-0a-9", 10),
        ],
    )
    def test_accepted(self, text, flags):
        """Version 00 exactly; a later one if it begins like that, with a dash before the rest."""
        assert (TRACE, SPAN, flags) == parse_traceparent(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "00",
            "---",
            # Versions.
            f"ff-{TRACE}-{SPAN}-01",
            f".0-{TRACE}-{SPAN}-01",
            f"0.-{TRACE}-{SPAN}-01",
            f"000-{TRACE}-{SPAN}-01",
            f"0-{TRACE}-{SPAN}-01",
            f"0A-{TRACE}-{SPAN}-01",
            f"0x-{TRACE}-{SPAN}-01",
            # More than there may be.
            f"{GOOD}.",
            f"{GOOD}-",
            f"{GOOD}-what-the-future-will-be-like",
            f"{GOOD}\n",
            f"cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like",
            f"cc-{TRACE}-{SPAN}-011",
            f"cc-{TRACE}-{SPAN}-01\n",
            # Traces.
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-.{TRACE[1:]}-{SPAN}-01",
            f"00-{TRACE[1:]}.-{SPAN}-01",
            f"00-{TRACE}1-{SPAN}-01",
            f"00-{TRACE[1:]}-{SPAN}-01",
            f"00-{TRACE[1:]}A-{SPAN}-01",
            f"00-{TRACE[1:]}\u0661-{SPAN}-01",
            # Parents.
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE}-.{SPAN[1:]}-01",
            f"00-{TRACE}-{SPAN}1-01",
            f"00-{TRACE}-{SPAN[1:]}-01",
            f"00-{TRACE}-{SPAN[1:]}F-01",
            # Flags.
            f"00-{TRACE}-{SPAN}",
            f"00-{TRACE}-{SPAN}-",
            f"00-{TRACE}-{SPAN}-.0",
            f"00-{TRACE}-{SPAN}-0.",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}-001",
            f"00-{TRACE}-{SPAN}-0F",
            f"cc-{TRACE}-{SPAN}-1",
            # Blanks, other separators, several headers in one.
            f" {GOOD}",
            f"{GOOD} ",
            f"\t{GOOD}",
            f"00-{TRACE}-{SPAN} -01",
            GOOD.replace("-", "_"),
            GOOD.replace("-", ""),
            f"{GOOD},{GOOD}",
            f"{GOOD}, {GOOD}",
            None,
            7,
            GOOD.encode(),
            [GOOD],
        ],
    )
    def test_refused(self, text):
        """Anything else is refused, with words that say what it must look like."""
        with pytest.raises(InvalidTraceParent, match=r"must look like '00-<32 hex digits>-"):
            parse_traceparent(text)

    @given(st.text() | st.from_regex(r"[0-9a-fA-F]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.?"))
    def test_nothing_else_is_raised(self, text):
        """Whatever the text, it is a `TraceParent` whose text is one again, or refused."""
        with contextlib.suppress(InvalidTraceParent):
            value = parse_traceparent(text)
            assert value == parse_traceparent(value.to_string())

    def test_hostile_value(self):
        """What cannot be written in the words is refused all the same."""

        class Hostile:
            def __repr__(self):
                raise ZeroDivisionError

        with pytest.raises(InvalidTraceParent):
            parse_traceparent(Hostile())

    def test_caught_as_value_error(self):
        """The error is one of ours, and the built-in one that callers expect."""
        assert issubclass(InvalidTraceParent, EliotError)
        assert issubclass(InvalidTraceParent, ValueError)


class TestTraceID:
    """Tasks as traces."""

    @given(hex_of(32))
    def test_round_trip(self, trace_id):
        """Any trace is a task, and that task is the trace."""
        assert trace_id == trace_id_of(task_uuid_of(trace_id))

    @given(st.uuids().map(str))
    def test_of_a_uuid(self, task_uuid):
        """A task is the trace of its UUID, and is given back."""
        assert UUID(task_uuid).hex == trace_id_of(task_uuid)
        assert task_uuid == task_uuid_of(trace_id_of(task_uuid))

    def test_of_a_new_task(self):
        """The tasks that we make are given back."""
        task_uuid = new_task_uuid()
        assert task_uuid == task_uuid_of(trace_id_of(task_uuid))

    @given(st.text() | st.uuids().map(lambda uuid: str(uuid).upper()))
    @example("00000000-0000-0000-0000-000000000000")
    @example("\ud800")
    def test_of_anything_else(self, task_uuid):
        """Any text has a trace of its own, which is never all zeros."""
        trace_id = trace_id_of(task_uuid)
        assert re.fullmatch("[0-9a-f]{32}", trace_id)
        assert trace_id.strip("0")
        assert trace_id == trace_id_of(task_uuid)
        assert trace_id != trace_id_of(task_uuid + "x")

    def test_does_not_change(self):
        """The ids are the same in every version: logs of several are put together."""
        assert "7fd13b3352c414fe424af4ad64db489a" == trace_id_of("request-7")


class TestSpanID:
    """Actions as spans."""

    @given(st.text(), levels, levels)
    def test_of_its_place(self, task_uuid, level, other):
        """Each place of a task has an id of its own, of 16 digits, however the level is kept."""
        span_id = span_id_of(task_uuid, level)
        assert re.fullmatch("[0-9a-f]{16}", span_id)
        assert span_id.strip("0")
        assert span_id == span_id_of(task_uuid, tuple(level))
        assert (level == other) == (span_id == span_id_of(task_uuid, other))

    def test_of_another_task(self):
        """A name of a task that looks like a place is not taken for one."""
        assert span_id_of("a@/1", [2]) != span_id_of("a", [1, 2])

    def test_does_not_change(self):
        """The ids are the same in every version: logs of several are put together."""
        assert "4817f3cf6e505d12" == span_id_of("0af76519-16cd-43dd-8448-eb211c80319c", (2, 1))


class TestDrawnPosition:
    """Positions for actions whose parent is somebody else's."""

    def test_drawn(self):
        """Each is another one, of 52 bits, and beyond what is counted."""
        drawn = {drawn_position() for _ in range(1_000)}
        assert len(drawn) == 1_000
        assert all(FIRST_DRAWN <= position < 1 << 52 for position in drawn)


member = st.from_regex(r"[a-z][a-z0-9_*/@-]{0,200}=[!-+\--<>-~]{1,250}", fullmatch=True)


class TestDrawnTaskID:
    """Places for what may be logged elsewhere, or not at all."""

    @given(st.uuids().map(str), levels)
    def test_place(self, task_uuid, level):
        """It is a task id, of another place in the action each time."""
        ids = {drawn_task_id(task_uuid, level) for _ in range(2)}
        assert len(ids) == 2
        for task_id in ids:
            uuid, place = parse_task_id(task_id)
            assert (uuid, place[:-1], place[-1] >= FIRST_DRAWN) == (task_uuid, tuple(level), True)

    def test_odd_task(self):
        """A task with a name that is not ASCII has one, if not of itself."""
        assert drawn_task_id("\ud800é", ()).isascii()

    @pytest.mark.parametrize("task_uuid", ["a\nb", "a\0", " a", "\x7f"])
    def test_task_that_cannot_be_sent(self, task_uuid):
        """What no header can have is not put into one: it would break the request."""
        assert drawn_task_id(task_uuid, (2,)) == ""


class TestTraceState:
    """The header `tracestate`."""

    @pytest.mark.parametrize(
        "text",
        [
            "foo=1",
            "foo=1,bar=2",
            "foo=1 \t , \t bar=2, \t baz=3",
            "foo=1,",
            "foo=1, ,bar=2",
            "foo= 1",
            "foo=a b!~",
            "0@v=1",
            "fw529a3039@dt=FfAC1hAAAIAA",
            "foo-_*/bar=bar4",
            f"{'z' * 256}=1",
            f"foo={'.' * 256}",
            ",".join(f"bar{n:02}=1" for n in range(32)),
        ],
    )
    def test_passed_on(self, text):
        """What is valid is passed on as it is."""
        assert text == valid_tracestate(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " , ",
            "foo",
            "foo=",
            "=1",
            "foo@=1,bar",
            "Foo=1",
            "foo =1",
            "foo.bar=1",
            "@foo=1",
            "foo=1,foo=2",
            "foo=bar=baz",
            "foo=\u00e9",
            "foo=\x7f",
            f"{'z' * 257}=1",
            f"foo={'.' * 257}",
            ",".join(f"bar{n:02}=1" for n in range(33)),
            None,
            b"foo=1",
        ],
    )
    def test_discarded(self, text):
        """What breaks the rules in one member is discarded as a whole; nothing is raised."""
        assert "" == valid_tracestate(text)

    def test_large_members_are_left_out_first(self):
        """Of what is too long, members of more than 128 characters are left out."""
        small, large = f"b={'x' * 126}", f"a={'x' * 127}"
        text = ",".join([large, small, "c=1", f"d={'y' * 255}"])
        assert f"{small},c=1" == valid_tracestate(text)

    def test_then_the_last_ones(self):
        """What is still too long loses members from its end."""
        members = [f"k{n}={'x' * 97}" for n in range(9)]
        assert ",".join(members[:5]) == valid_tracestate(",".join(members))

    @given(st.lists(member, unique_by=lambda m: m.partition("=")[0], max_size=40))
    def test_what_is_passed_on_is_valid(self, members):
        """What is passed on is passed on by the next one too, and fits."""
        passed = valid_tracestate(",".join(members))
        assert len(passed) <= 512
        assert passed == valid_tracestate(passed)
        assert set(passed.split(",")) <= {*members, ""}
