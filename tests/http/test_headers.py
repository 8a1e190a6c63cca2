"""Tests of the headers that carry a task from one service to the next."""

from email.message import Message
from typing import ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import Action, add_destinations, remove_destination, start_action
from eliot_etw._task_level import TaskLevel, parse_task_id
from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.http import continue_from, outgoing_headers
from eliot_etw.http._headers import checked_trust
from eliot_etw.parse import Parser

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TASK = "0af76519-16cd-43dd-8448-eb211c80319c"


class TestOutgoing:
    """What is sent."""

    def test_no_action(self):
        """Without an action there is nothing to go on with."""
        assert outgoing_headers() == {}

    def test_place_and_parent(self):
        """Each request has a place of its own in the action, and the action as the parent."""
        with start_action(action_type="a") as action:
            first, second = outgoing_headers(), outgoing_headers()
        assert first["traceparent"] == second["traceparent"] == action.traceparent()
        ids = {first["X-Eliot-Task-Id"], second["X-Eliot-Task-Id"]}
        assert len(ids) == 2
        assert {(uuid, place.parent()) for uuid, place in map(parse_task_id, ids)} == {
            (action.task_uuid, TaskLevel())
        }
        assert first.keys() == {"traceparent", "X-Eliot-Task-Id"}

    def test_action(self):
        """It need not be the current one."""
        action = start_action(action_type="a")
        with start_action(action_type="b"):
            assert outgoing_headers(action)["traceparent"] == action.traceparent()

    def test_task_that_cannot_be_sent(self):
        """A task with a name that no header can have is sent as a trace alone."""
        action = Action(None, "a\nb", TaskLevel(), "a")
        assert outgoing_headers(action) == {"traceparent": action.traceparent()}

    def test_tracestate(self):
        """What came in with the task is passed on by all that is in it."""
        with Action.continue_task(traceparent=FOREIGN, tracestate="a=1, b=2"):
            with start_action(action_type="b"):
                assert outgoing_headers()["tracestate"] == "a=1, b=2"
            with start_action(action_type="b"):
                pass

    def test_there_and_back(self, messages):
        """What is sent is understood."""
        with start_action(action_type="a"):
            headers = outgoing_headers()
        continue_from(headers, action_type="b").finish()
        (task,) = Parser.parse_stream([*messages[:1], *messages[2:], messages[1]])
        assert task.is_complete()
        assert [child.action_type for child in task.root().children] == ["b"]

    def test_nobody_goes_on(self, messages):
        """Nothing is missing if the other service logs nothing, or somewhere else."""
        with start_action(action_type="a"):
            outgoing_headers()
        (task,) = Parser.parse_stream(messages)
        assert task.is_complete()


class TestContinueFrom:
    """What comes in."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Eliot-Task-Id": "x@/7"},
            {"x-eliot-task-id": "x@/7", "accept": "*/*"},
            [("X-ELIOT-TASK-ID", "x@/7")],
            [(b"accept", b"\xff"), (b"x-eliot-task-id", b" x@/7\t")],
            iter([["X-Eliot-Task-Id", "x@/7"]]),
        ],
    )
    def test_kinds_of_headers(self, messages, headers):
        """A mapping or pairs, text or bytes, in upper case or lower, with blanks around."""
        continue_from(headers, action_type="a", x=1)
        assert (messages[0]["task_uuid"], messages[0]["task_level"]) == ("x", [7, 1])
        assert (messages[0]["action_type"], messages[0]["x"]) == ("a", 1)

    def test_headers_of_the_standard_library(self, messages):
        """What `http.server` has is no mapping, but does for one."""
        headers = Message()
        headers["X-Eliot-Task-Id"] = "x@/7"
        continue_from(headers)
        assert messages[0]["task_level"] == [7, 1]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            [],
            {"accept": "*/*"},
            {"trace-parent": FOREIGN},
            {"trace.parent": FOREIGN},
            {"tracestate": "a=1"},
        ],
    )
    def test_nothing_came(self, messages, headers):
        """Without a task to go on with it is a new one, within another action too."""
        with start_action(action_type="outer"):
            action = continue_from(headers, action_type="a")
        start = messages[1]
        assert (start["task_level"], UUID(start["task_uuid"]).version) == ([1], 4)
        assert start.keys() == messages[0].keys()
        assert action.tracestate == ""

    @pytest.mark.parametrize(
        "value", [f" {FOREIGN}", f"{FOREIGN} ", f"\t{FOREIGN}", f"\t {FOREIGN} \t"]
    )
    def test_blanks_around(self, messages, value):
        """Blanks around a header's value are no part of it."""
        continue_from({"TraceParent": value})
        assert messages[0]["eliot:traceparent"] == FOREIGN

    @pytest.mark.parametrize("name", ["traceparent", "x-eliot-task-id"])
    def test_twice(self, messages, name):
        """A header that may be there once, and is there twice, is not followed."""
        value = FOREIGN if name == "traceparent" else "x@/7"
        continue_from([(name, value), (name, value)])
        assert messages[0]["task_level"] == [1]
        assert messages[0]["eliot:not_continued"]["reason"] == "refused"

    def test_tracestate_in_several(self):
        """Several headers `tracestate` are one list, in their order; empty ones do no harm."""
        states = [("tracestate", value) for value in ("foo=1,bar=2", "", "rojo=1", "baz=3")]
        action = continue_from([states[0], ("traceparent", FOREIGN), *states[1:]])
        assert action.tracestate == "foo=1,bar=2,,rojo=1,baz=3"

    @pytest.mark.parametrize("value", [7, [FOREIGN], {"a": 1}])
    def test_no_text(self, messages, value):
        """What is no text, as a queue's message may have it, is not followed."""
        continue_from({"traceparent": value, 7: None})
        assert messages[0]["eliot:not_continued"]["traceparent"] == repr(value)

    def test_none(self, messages):
        """A header of which there is no value is not there."""
        continue_from([("traceparent", None), ("x-eliot-task-id", bytearray(b"x@/7"))])
        assert messages[0]["task_level"] == [7, 1]
        assert "eliot:not_continued" not in messages[0]

    @pytest.mark.parametrize(
        "headers", [{}, {"traceparent": FOREIGN}, {"X-Eliot-Task-Id": "x@/7"}]
    )
    @pytest.mark.parametrize("trust", [True, False])
    def test_fields_of_any_name(self, messages, headers, trust):
        """A field is never taken for a header."""
        fields = {"task_id": "y@/1", "traceparent": "no", "tracestate": "b=2"}
        action = continue_from(headers, trust=trust, **fields)
        assert fields.items() <= messages[0].items()
        assert (action.task_uuid, action.tracestate) != ("y", "b=2")

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Eliot-Task-Id": f"{TASK}@/7"},
            {"X-Eliot-Task-Id": f"{TASK}@/7", "traceparent": FOREIGN, "tracestate": "a=1"},
            {"traceparent": FOREIGN},
            {"traceparent": FOREIGN, "X-Eliot-Task-Id": "x@/7"},
        ],
    )
    def test_once(self, messages, headers):
        """Who reads headers that somebody around him has read is in what was made of them."""
        with continue_from(headers, action_type="outer") as outer, start_action():
            inner = continue_from(headers, action_type="inner", x=1)
        assert [*outer.task_level, 2, 2] == [*inner.task_level]
        assert (inner.task_uuid, inner.tracestate) == (outer.task_uuid, outer.tracestate)
        assert messages[2]["x"] == 1
        assert messages[2].keys().isdisjoint({"eliot:traceparent", "eliot:not_continued"})

    def test_another_place(self, messages):
        """Within an action that is elsewhere, also in that task, headers are followed."""
        with start_action() as action, start_action():
            continue_from({"X-Eliot-Task-Id": f"{action.task_uuid}@/2/7"})
            continue_from({"X-Eliot-Task-Id": f"{action.task_uuid}@/7"})
            continue_from({"X-Eliot-Task-Id": "x@/2"})
        levels = [message["task_level"] for message in messages[2:5]]
        assert levels == [[2, 7, 1], [7, 1], [2, 1]]

    def test_type_if_none_is_given(self, messages):
        """The type is Eliot's for what goes on elsewhere, whatever came in."""
        for headers in ({"traceparent": FOREIGN}, {"traceparent": "no"}, {}):
            continue_from(headers)
        assert {"eliot:remote_task"} == {message["action_type"] for message in messages}

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["traceparent", "tracestate", "X-Eliot-Task-Id", "accept"]),
                st.text(max_size=20)
                | st.binary(max_size=20)
                | st.sampled_from([FOREIGN, "x@/7", None, 7, [FOREIGN], {}]),
            ),
            max_size=5,
        ),
        st.booleans(),
    )
    def test_nothing_is_raised(self, headers, trust):
        """Whatever the headers, there is an action, which starts at a place of its own."""
        logged = []
        add_destinations(logged.append)
        continue_from(headers, trust=trust).finish()
        remove_destination(logged.append)
        assert [message["action_status"] for message in logged] == ["started", "succeeded"]


class TestTrust:
    """Who may write into our trees."""

    HEADERS: ClassVar = {
        "traceparent": FOREIGN,
        "X-Eliot-Task-Id": f"{TASK}@/7",
        "tracestate": "a=1",
    }
    CAME: ClassVar = {"traceparent": FOREIGN, "task_id": f"{TASK}@/7", "tracestate": "a=1"}

    @pytest.mark.parametrize(
        "trust", [False, lambda _headers: False, lambda _headers: None, None, "yes"]
    )
    def test_untrusted(self, messages, trust):
        """It is a new task, which says where it would have come from."""
        action = continue_from(self.HEADERS, trust=trust)
        assert (messages[0]["task_level"], UUID(action.task_uuid).version) == ([1], 4)
        assert messages[0]["eliot:not_continued"] == {"reason": "untrusted", **self.CAME}
        assert action.tracestate == ""

    def test_asked(self, messages):
        """A function is asked about the headers, if they name a task."""
        asked = []
        continue_from({"accept": "*/*"}, trust=asked.append)
        continue_from(self.HEADERS, trust=lambda headers: "X-Eliot-Task-Id" in headers)
        assert asked == []
        assert messages[1]["task_level"] == [7, 1]

    def test_function_that_fails(self, messages):
        """A mistake in it fails no request, and nothing is trusted."""
        continue_from(self.HEADERS, trust=lambda headers: headers["nothing"])
        said = messages[0]["eliot:not_continued"]
        assert said == {"reason": "trust() raised KeyError", **self.CAME}

    @pytest.mark.filterwarnings("ignore:coroutine")
    def test_function_to_be_awaited(self, messages):
        """An answer that nobody waits for is no yes, and such a function is refused at once."""

        async def trust(headers):
            return True

        with pytest.raises(TypeError, match="trust must be"):
            checked_trust(trust)
        continue_from(self.HEADERS, trust=trust)
        assert messages[0]["eliot:not_continued"]["reason"] == "untrusted"

    def test_nothing_came(self, messages):
        """Who sends nothing is not told that nobody trusts him."""
        continue_from({}, trust=False)
        assert "eliot:not_continued" not in messages[0]

    @pytest.mark.parametrize("trust", [None, 1, "yes"])
    def test_neither(self, trust):
        """What is neither a bool nor a function is refused when a middleware is made."""
        with pytest.raises(TypeError, match="trust must be True, False or a function"):
            checked_trust(trust)


def test_position_of_a_foreign_span(messages):
    """Below a foreign span the place is drawn."""
    continue_from({"traceparent": FOREIGN})
    assert messages[0]["task_level"][0] >= FIRST_DRAWN
