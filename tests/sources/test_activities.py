"""Tests of events of other programs as messages, and as actions in a tree."""

import tracemalloc
from functools import cache
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._written import place_of
from eliot_etw.etw import EventEncoder, Field, InType, OutType, Schema, provider_traits
from eliot_etw.parse import Parser
from eliot_etw.sources import _activities
from eliot_etw.sources._activities import ActivityTracker
from tests.etw._traces import NOW, event

INFO, START, STOP = 0, 1, 2
A, B, C = (UUID(int=number) for number in (10, 11, 12))


@cache
def encoder_of(name):
    """Make what encodes events of this name."""
    return EventEncoder(Schema(name, (Field("x", InType.INT64),)))


def made(opcode=INFO, activity=None, related=None, name="work", pid=1, x=0, ticks=0, level=4):
    """Make an event."""
    encoder = encoder_of(name)
    return event(
        NOW + ticks, encoder.payload([x]), opcode=opcode, activity_id=activity, process_id=pid,
        related_activity_id=related, level=level,
    )._replace(metadata=encoder.metadata)  # fmt: skip


def messages(*events, tracker=None):
    """Make messages of events."""
    tracker = tracker or ActivityTracker("seed")
    return [tracker.message(one, one.decode()) for one in events]


def places(*events):
    """Return the places of messages, with a small number for each task."""
    numbers = {}
    return [
        (numbers.setdefault(one["task_uuid"], len(numbers)), *one["task_level"])
        for one in messages(*events)
    ]


class TestMessages:
    """Events outside any activity."""

    def test_fields(self):
        """The fields by name, and where the event comes from."""
        one = made(x=5, pid=7)._replace(thread_id=8, level=3)
        (message,) = messages(one)
        assert list(message.pop("task_uuid")).count("-") == 4
        assert message == {
            "message_type": "work",
            "x": 5,
            "etw:provider": "an-app",
            "etw:level": 3,
            "etw:pid": 7,
            "etw:tid": 8,
            "timestamp": 1_750_000_000.0,
            "task_level": [1],
        }

    def test_names_that_are_taken(self):
        """A field that is named like one of ours gets another name; nothing is lost."""
        names = ["task_uuid", "etw:pid", "event:etw:pid", "timestamp", "a", "a", "etw:pid_"]
        fields = [Field(name, InType.UINT8) for name in names]
        encoder = EventEncoder(Schema("n", tuple(fields)))
        payload = encoder.payload([1, 2, 3, 4, 5, 6, 7])
        (message,) = messages(event(payload=payload)._replace(metadata=encoder.metadata))
        assert {
            "event:task_uuid": 1,
            "event:etw:pid_": 2,
            "event:etw:pid": 3,
            "event:timestamp": 4,
            "a": 5,
            "a#2": 6,
            "event:etw:pid__": 7,
            "etw:pid": 0,
        }.items() <= message.items()

    def test_activity_that_was_never_started(self):
        """It stands alone, and says its activity."""
        assert [(0, 1), (1, 1)] == places(made(activity=A), made(activity=A))
        assert messages(made(activity=A))[0]["etw:activity"] == str(A)

    def test_opcodes_without_activity(self):
        """A start of nothing in particular is a message that says so."""
        (message,) = messages(made(START))
        assert ("work", 1) == (message["message_type"], message["etw:opcode"])

    def test_provider_without_a_name(self):
        """Its GUID stands for it."""
        (message,) = messages(made()._replace(traits=b""))
        assert "a61ea624-4944-55fc-c2a8-37838829438d" == message["etw:provider"]

    def test_values_are_of_json(self):
        """What JSON does not know is text."""
        encoder = EventEncoder(Schema("\ud800", (Field("b", InType.BINARY, OutType.HEX),)))
        one = event(payload=encoder.payload([b"\xff"]))._replace(
            metadata=encoder.metadata, traits=provider_traits("P")
        )
        (message,) = messages(one)
        assert ("\\ud800", "ff", "P") == tuple(
            message[name] for name in ("message_type", "b", "etw:provider")
        )

    def test_same_each_time(self):
        """Tasks have the same names each time a trace is read, and others in other traces."""
        one = made()
        first, again = messages(one), messages(one)
        other = messages(one, tracker=ActivityTracker("other"))
        assert first == again
        assert first[0]["task_uuid"] != other[0]["task_uuid"]


class TestActions:
    """Events that start and stop activities."""

    def test_tree(self):
        """Related activities are parents; what has an activity's id goes into it."""
        events = [
            made(START, A, ticks=1),
            made(INFO, A, name="hello", ticks=2),
            made(START, B, A, name="part", ticks=3),
            made(9, B, name="said", ticks=4),
            made(STOP, B, name="part", ticks=5, level=2),
            made(STOP, A, ticks=6, x=3),
        ]
        (task,) = Parser.parse_stream(messages(*events))
        root = task.root()
        assert task.is_complete()
        assert ("work", "succeeded") == (root.action_type, root.status)
        hello, part = root.children
        assert "hello" == hello.contents["message_type"]
        assert ("part", "failed") == (part.action_type, part.status)
        assert ("said", 9) == tuple(
            part.children[0].contents[n] for n in ("message_type", "etw:opcode")
        )
        assert 3 == root.end_message.contents["x"]
        assert str(A) == part.start_message.contents["etw:related"]

    @pytest.mark.parametrize(
        ("expected", "events"),
        [
            ([(0, 2)], [made(STOP, A)]),
            ([(0, 1), (0, 2), (1, 2)], [made(START, A), made(STOP, A), made(STOP, A)]),
            ([(0, 1), (0, 2), (1, 1)], [made(START, A), made(STOP, A), made(INFO, A)]),
            ([(0, 1), (1, 1), (1, 2)], [made(START, A), made(START, A), made(STOP, A)]),
            ([(0, 1), (1, 1)], [made(START, A, B), made(START, C, B)]),
            ([(0, 1), (0, 2, 1)], [made(START, A, B), made(START, B, A)]),
            ([(0, 1), (1, 1)], [made(START, A, A), made(START, A, A)]),
            ([(0, 1), (0, 2), (1, 1)], [made(START, A), made(STOP, A), made(START, B, A)]),
            (
                [(0, 1), (0, 2, 1), (0, 2, 2), (0, 3)],
                [made(START, A), made(START, A, name="in"), made(STOP, A, name="in"),
                 made(STOP, A)],
            ),
            (
                [(0, 1), (0, 2, 1), (0, 3), (0, 2, 2)],
                [made(START, A), made(START, A, name="in"), made(STOP, A),
                 made(STOP, A, name="in")],
            ),
            ([(0, 1), (1, 1), (0, 2)], [made(START, A), made(START, A, pid=2), made(STOP, A)]),
            ([(0, 1), (0, 2, 1)], [made(START, A), made(START, B, A, pid=2)]),
            ([(0, 1), (0, 2)], [made(START, A), made(INFO, A, pid=2)]),
            ([(0, 1), (1, 2)], [made(START, A), made(STOP, A, pid=2)]),
        ],
        ids=[
            "stop without start", "stopped twice", "after the stop", "started again",
            "unknown parent", "circle", "own parent", "parent that has stopped",
            "one id within itself", "one id, crossed", "same id in two processes",
            "parent in another process", "message from another process",
            "stop from another process",
        ],
    )  # fmt: skip
    def test_places(self, expected, events):
        """Whatever the order and the ids, each event has a place of its own."""
        assert expected == places(*events)

    def test_names_of_start_and_stop(self):
        """A stop of another name ends the action, and keeps its name beside."""
        start, stop = messages(made(START, A, name="WorkStart"), made(STOP, A, name="WorkStop"))
        assert start["task_uuid"] == stop["task_uuid"]
        assert ("WorkStart", "WorkStop") == (stop["action_type"], stop["etw:event"])

    def test_end_does_not_repeat(self):
        """Where an event comes from is said by the start; by the end, if that is different."""
        start, stop = messages(made(START, A, pid=3), made(STOP, A, pid=3, level=5))
        assert {"etw:provider", "etw:level", "etw:pid", "etw:tid"} < start.keys()
        assert {"etw:level": 5} == {n: stop[n] for n in stop if n.startswith("etw:")}

    ids = st.none() | st.sampled_from([A, B, C])

    @given(
        st.lists(
            st.builds(made, st.integers(0, 3), ids, ids, st.sampled_from("xyz"),
                      st.integers(1, 2), level=st.integers(0, 5)),
            max_size=40,
        )
    )  # fmt: skip
    def test_any_order(self, events):
        """No two messages claim one place, and each has one; nothing conflicts or is lost."""
        found = messages(*events)
        taken = [(one["task_uuid"], *one["task_level"]) for one in found]
        assert len(taken) == len(set(taken)) == len(events)
        assert all(map(place_of, found))
        tasks = list(Parser.parse_stream(found))
        assert len(events) == sum(len(list(task.messages())) for task in tasks)


class TestBounds:
    """Traces that were made to fill the memory."""

    def test_nothing_stops(self, monkeypatch):
        """Of too many open activities the oldest are given up, and counted."""
        monkeypatch.setattr(_activities, "_MAX_OPEN_BYTES", 100_000)
        tracker = ActivityTracker("x")
        tracemalloc.start()
        for number in range(5000):
            messages(made(START, UUID(int=number + 1)), tracker=tracker)
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert used < 400_000
        assert 4850 < tracker.given_up < 5000

    def test_deep(self):
        """Beyond a depth that nobody has, tasks begin anew: levels do not grow without end."""
        ids = [UUID(int=number + 1) for number in range(500)]
        events = [
            made(START, one, related) for one, related in zip(ids, [None, *ids], strict=False)
        ]
        found = messages(*events)
        assert 201 == max(len(one["task_level"]) for one in found)
        assert 3 == len({one["task_uuid"] for one in found})

    def test_many_of_one_id(self):
        """One id cannot be started within itself without end."""
        tracker = ActivityTracker("x")
        events = [made(START, A, name=str(number)) for number in range(100)]
        messages(*events, tracker=tracker)
        assert 36 == tracker.given_up

    def test_used_last(self, monkeypatch):
        """What is used stays open."""
        monkeypatch.setattr(_activities, "_MAX_OPEN_BYTES", 2500)
        one, two, three = made(START, A), made(START, B), made(START, C)
        found = messages(one, two, made(INFO, A), three, made(INFO, A), made(INFO, B))
        assert [2, 3] == [found[number]["task_level"][0] for number in (2, 4)]
        assert [1] == found[5]["task_level"]
