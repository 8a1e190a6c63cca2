"""Tests of repeats folded into one message: each is passed on or counted, and no tree is torn."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import add_destinations, log_message, start_action, write_traceback
from eliot_etw.destinations import MemoryDestination, RateLimitedDestination, rate_limited
from eliot_etw.parse import Parser
from tests._programs import run_forking


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test sets."""
    clock = [100.0]
    monkeypatch.setattr(rate_limited, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def memory():
    """Return where messages go that pass."""
    return MemoryDestination()


def send(destination, kind, *numbers, **fields):
    """Send messages of a type, with numbers that are their times as well."""
    for number in numbers:
        destination({"message_type": kind, "timestamp": number, "n": number, **fields})


def seen(memory):
    """List the numbers that came; one that stands for others with how many, and since when."""
    result = []
    for message in memory.messages:
        about = message.get("eliot:repeated")
        if about:
            assert about["last"] == message["timestamp"]
            result.append((message["n"], about["times"], about["first"]))
        else:
            result.append(message["n"])
    return result


class TestFolding:
    """What passes, and what stands for the rest."""

    def test_repeats(self, clock, memory):
        """The first passes, the others are one when the interval is over."""
        destination = RateLimitedDestination(memory, interval_s=10)
        send(destination, "t", 1, 2, 3, 4)
        assert seen(memory) == [1]
        clock[0] += 10
        send(destination, "t", 5, 6)
        assert seen(memory) == [1, (4, 3, 2), 5]
        assert destination.stats() == {"folded": 4, "told": 1}

    def test_single_one(self, clock, memory):
        """A single one that was held is passed on as it was."""
        destination = RateLimitedDestination(memory, interval_s=10)
        send(destination, "t", 1, 2)
        destination.close()
        assert memory.messages[1] == {"message_type": "t", "timestamp": 2, "n": 2}

    def test_burst(self, clock, memory):
        """So many pass in each interval."""
        destination = RateLimitedDestination(memory, interval_s=10, burst=3)
        send(destination, "t", *range(6))
        clock[0] += 11
        send(destination, "t", *range(6, 12))
        destination.close()
        assert seen(memory) == [0, 1, 2, (5, 3, 3), 6, 7, 8, (11, 3, 9)]

    def test_types(self, clock, memory):
        """Types are counted by themselves, and told of when any message comes."""
        destination = RateLimitedDestination(memory, interval_s=10)
        for number in range(3):
            send(destination, "t", number)
            send(destination, "u", number + 10)
        assert seen(memory) == [0, 10]
        clock[0] += 11
        destination({"action_type": "a", "action_status": "started", "n": 20})
        assert seen(memory) == [0, 10, (2, 2, 1), (12, 2, 11), 20]

    def test_fields(self, clock, memory):
        """Fields may make kinds of messages of one type, whatever their values are."""
        destination = RateLimitedDestination(memory, fields=["host", "port"])
        for number, host in enumerate(["a", "b", "a", ["b"], ["b"], None]):
            send(destination, "t", number, host=host)
        assert seen(memory) == [0, 1, 3, 5]

    def test_as_it_was(self, clock, memory):
        """What is held is what was true then."""
        destination = RateLimitedDestination(memory)
        values = [1]
        send(destination, "t", 1, 2, values=values)
        values.append(2)
        destination.close()
        assert memory.messages[1]["values"] == [1]

    def test_clock_set_back(self, memory):
        """Times in messages may be anything: intervals do not depend on the time of day."""
        destination = RateLimitedDestination(memory, interval_s=1000)
        send(destination, "t", 30, 20, 10)
        destination.close()
        assert seen(memory) == [30, (10, 2, 20)]


class TestWhatAlwaysPasses:
    """Trees are not torn, and failures are told apart."""

    def test_actions(self, clock, memory):
        """Starts and ends pass, however often they come; the trees have gaps, but both ends."""
        destination = RateLimitedDestination(memory)
        add_destinations(destination)
        for _ in range(5):
            with start_action(action_type="a"):
                log_message("t")
        destination.close()
        tasks = list(Parser.parse_stream(memory.messages))
        assert len(tasks) == 5
        assert all(task.root().end_message is not None for task in tasks)
        assert len(memory.messages) == 12

    def test_without_a_type(self, clock, memory):
        """Messages without a type, or with an odd one, are no repeats of each other."""
        destination = RateLimitedDestination(memory)
        for message in ({}, {}, {"message_type": ["t"]}, {"message_type": ["t"]}):
            destination(message)
        assert len(memory.messages) == 4

    def test_tracebacks(self, clock, memory):
        """Tracebacks of the same exception are repeats, others are not."""
        add_destinations(RateLimitedDestination(memory))
        for text in "aabab":
            try:
                raise ValueError(text)
            except ValueError:
                write_traceback()
        assert [m["reason"] for m in memory.messages] == ["a", "b"]


class TestBounds:
    """Memory, threads, failures, the end."""

    def test_kinds(self, clock, memory):
        """With too many kinds, the oldest one's interval ends early; nothing is lost."""
        destination = RateLimitedDestination(memory, max_kinds=2)
        send(destination, "a", 1, 2, 3)
        send(destination, "b", 4)
        send(destination, "c", 5)
        assert seen(memory) == [1, 4, (3, 2, 2), 5]
        assert len(destination._kinds) == 2

    @given(
        st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3))),
        st.integers(1, 3),
        st.integers(1, 3),
    )
    def test_adds_up(self, steps, burst, max_kinds):
        """Whatever comes when: what passed, and what is told of, is what was logged."""
        memory, now = MemoryDestination(), [0.0]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rate_limited, "monotonic", lambda: now[0])
            destination = RateLimitedDestination(
                memory, interval_s=2, burst=burst, max_kinds=max_kinds
            )
            for kind, seconds in steps:
                now[0] += seconds
                send(destination, kind, 1)
            destination.close()
        assert total(memory) == len(steps)

    def test_threads(self, memory):
        """Threads lose nothing, also when intervals end all the time."""
        destination = RateLimitedDestination(memory, interval_s=0.0005, max_kinds=2)

        def work():
            for number in range(2_000):
                send(destination, "abc"[number % 3], number)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        destination.close()
        assert total(memory) == 16_000

    def test_inner_raises(self, clock):
        """The message that comes is passed on, if telling of others fails."""
        came = []

        def inner(message):
            came.append(message["n"])
            if "eliot:repeated" in message:
                raise OSError

        destination = RateLimitedDestination(inner, interval_s=10, max_kinds=1)
        send(destination, "t", 1, 2, 3)
        clock[0] += 11
        with pytest.raises(OSError):  # noqa: PT011 - it has no text
            send(destination, "t", 4)
        send(destination, "t", 5, 6)
        with pytest.raises(OSError):  # noqa: PT011 - it has no text
            send(destination, "u", 7)
        assert came == [1, 3, 4, 6, 7]

    def test_close(self, clock, memory):
        """What is folded is told; what comes later passes."""
        destination = RateLimitedDestination(memory)
        send(destination, "t", 1, 2, 3)
        destination.close()
        destination.close()
        send(destination, "t", 4, 5)
        assert seen(memory) == [1, (3, 2, 2), 4, 5]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
    def test_forked(self):
        """A child tells nothing of what its parent has folded."""
        run_forking("""
from eliot_etw.destinations import MemoryDestination, RateLimitedDestination

memory = MemoryDestination()
destination = RateLimitedDestination(memory, interval_s=3600)
for number in (1, 2, 3):
    destination({"message_type": "t", "timestamp": number, "n": number})

def work():
    destination.close()
    assert [message["n"] for message in memory.messages] == [1]

in_child(work)
destination.close()
first, repeats = memory.messages
assert first["n"] == 1
assert repeats["eliot:repeated"]["times"] == 2
""")


def total(memory):
    """Count the messages that came, and those that they stand for."""
    return sum(m.get("eliot:repeated", {"times": 1})["times"] for m in memory.messages)


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (TypeError, r"fields must be several texts, got one, 'x'", {"fields": "x"}),
        (ValueError, "interval_s must be above 0, got 0", {"interval_s": 0}),
        (ValueError, "burst must be at least 1, got 0", {"burst": 0}),
        (ValueError, "max_kinds must be at least 1, got 0", {"max_kinds": 0}),
    ],
)
def test_refuses(error, words, options):
    """Options that make no sense are refused at once."""
    with pytest.raises(error, match=words):
        RateLimitedDestination(print, **options)
