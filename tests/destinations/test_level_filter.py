"""Tests of the filter by levels: what passes, what never may be torn, and changes meanwhile."""

import threading

import pytest

from eliot_etw import add_destinations, log_message, start_action, write_traceback
from eliot_etw.destinations import LevelFilter, MemoryDestination


@pytest.fixture
def memory():
    """Return where messages go that pass."""
    return MemoryDestination()


def types_in(memory):
    """List the types of the messages that passed."""
    return [
        m.get("message_type") or f"{m['action_type']}:{m['action_status']}"
        for m in messages_in(memory)
    ]


def messages_in(memory):
    """Take the messages that passed."""
    messages, memory.messages = memory.messages, []
    return messages


def log_some():
    """Log one message of each level, an action that succeeds and one that fails."""
    for level in ("debug", "info", "warning", "error", "critical"):
        log_message(f"app:{level}", log_level=level)
    log_message("app:plain")
    with start_action(action_type="app:good"):
        pass
    with pytest.raises(ValueError, match="no"), start_action(action_type="app:bad"):
        raise ValueError("no")


LEAST_FIRST = [
    "app:debug",
    "app:info",
    "app:plain",
    "app:good:started",
    "app:good:succeeded",
    "app:bad:started",
    "app:warning",
    "app:error",
    "app:bad:failed",
    "app:critical",
]


@pytest.mark.parametrize(
    ("level", "dropped"),
    [("debug", 0), ("info", 1), (25, 6), ("warning", 6), ("error", 7), ("critical", 9), (99, 10)],
)
def test_levels(memory, level, dropped):
    """What is below the level does not pass, and is counted."""
    wrapper = LevelFilter(memory, level)
    add_destinations(wrapper)
    log_some()
    assert sorted(LEAST_FIRST[dropped:]) == sorted(types_in(memory))
    assert wrapper.stats() == {"dropped": dropped}


def test_default(memory):
    """If nothing is said, `INFO` passes."""
    add_destinations(LevelFilter(memory))
    log_some()
    assert sorted(LEAST_FIRST[1:]) == sorted(types_in(memory))


def test_passes_the_message_itself(memory):
    """What passes is the very message, and what is inside is to be had."""
    wrapper = LevelFilter(memory)
    message = {"message_type": "t"}
    wrapper(message)
    assert messages_in(memory)[0] is message
    assert wrapper.inner is memory


class TestTypes:
    """Levels by the types of actions and messages."""

    def test_first_that_fits(self, memory):
        """The first pattern that fits counts, and the general level if none does."""
        types = {"app:db:slow": "info", "app:db:*": "error", "*": "debug"}
        wrapper = LevelFilter(memory, "critical", types)
        for kind in ("app:db:slow", "app:db:query", "app:web"):
            wrapper({"message_type": kind, "log_level": "info"})
        wrapper({"message_type": 7})
        wrapper({"message_type": ["unhashable"]})
        wrapper({})
        assert types_in(memory) == ["app:db:slow", "app:web"]

    def test_actions_are_not_torn(self, memory):
        """Start and end pass together or not at all, whatever level their fields claim."""
        add_destinations(LevelFilter(memory, "info", {"app:noisy": "warning"}))
        with start_action(action_type="app:noisy", log_level="error"):
            pass
        with start_action(action_type="app:good", log_level="debug"):
            pass
        assert types_in(memory) == ["app:good:started", "app:good:succeeded"]

    def test_failures_pass(self, memory):
        """What went wrong is told, also of a type whose starts do not pass."""
        add_destinations(LevelFilter(memory, types={"*": "error"}))
        with pytest.raises(ValueError, match="no"), start_action(action_type="app:bad"):
            raise ValueError("no")
        try:
            raise KeyError
        except KeyError:
            write_traceback()
        assert types_in(memory) == ["app:bad:failed", "eliot:traceback"]

    def test_remembers_so_many_types(self, memory):
        """A program with ever new types does not fill the memory."""
        wrapper = LevelFilter(memory, "error", {"t9*": "info"})
        for number in range(5_000):
            wrapper({"message_type": f"t{number}"})
        assert len(wrapper._least) <= 1_000
        assert len(memory.messages) == 1 + 10 + 100


class TestChanges:
    """`LevelFilter.set_level`."""

    def test_general_level(self, memory):
        """It takes effect with the next message."""
        wrapper = LevelFilter(memory)
        wrapper({"message_type": "t"})
        wrapper.set_level("warning")
        wrapper({"message_type": "t"})
        wrapper.set_level(0)
        wrapper({"message_type": "t", "log_level": "debug"})
        assert len(memory.messages) == 2

    def test_pattern(self, memory):
        """The last that was set counts first, until it is forgotten."""
        wrapper = LevelFilter(memory, "error", {"a:*": "info"})
        wrapper.set_level("error", "a:b")
        wrapper({"message_type": "a:b"})
        wrapper.set_level("info", "*")
        wrapper({"message_type": "a:b", "number": 2})
        wrapper.set_level(None, "*")
        wrapper.set_level(None, "a:b")
        wrapper({"message_type": "c"})
        wrapper({"message_type": "a:b", "number": 4})
        assert [m["number"] for m in messages_in(memory)] == [2, 4]

    def test_forget_what_was_never_set(self, memory):
        """That changes nothing."""
        wrapper = LevelFilter(memory)
        wrapper.set_level(None, "x")
        wrapper({"message_type": "x"})
        assert types_in(memory) == ["x"]

    def test_override(self, memory):
        """Levels that override count before all others, for as long as they are given."""
        destination = LevelFilter(memory, "error", {"app:*": "warning"})
        add_destinations(destination)
        destination.override([("app:plain", "info"), ("app:w*", "critical"), ("*", 40)])
        destination.set_level("debug", "app:d*")
        log_some()
        assert types_in(memory) == ["app:error", "app:critical", "app:plain", "app:bad:failed"]
        destination.override()
        log_message("app:debug", log_level="debug")
        log_message("app:warning", log_level="warning")
        log_message("app:plain")
        assert types_in(memory) == ["app:debug", "app:warning"]

    def test_threads(self, memory):
        """Several threads may change levels while others log: no change is lost."""
        wrapper = LevelFilter(memory, "error")
        go = threading.Barrier(5)

        def change(thread):
            go.wait(30)
            for number in range(100):
                wrapper.set_level("info", f"t{thread}:{number}")
                wrapper({"message_type": f"t{thread}:{number}"})

        threads = [threading.Thread(target=change, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        go.wait(30)
        for thread in threads:
            thread.join()
        assert len(memory.messages) == 400


@pytest.mark.parametrize("level", ["loud", None, True, 1.5])
def test_no_level(memory, level):
    """What is no level is refused at once, and told which there are."""
    for attempt in (
        lambda: LevelFilter(memory, level),
        lambda: LevelFilter(memory, types={"a": level}),
        lambda: LevelFilter(memory).set_level(level),
    ):
        with pytest.raises(ValueError, match=r"A level must be .* critical, .*, got .*Write"):
            attempt()
