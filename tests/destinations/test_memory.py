"""Tests of messages kept in a list."""

import threading

from eliot_etw import add_destinations, log_message, remove_destination, start_action
from eliot_etw.destinations import MemoryDestination


class TestMemoryDestination:
    """`MemoryDestination`."""

    def test_keeps(self):
        """All messages are there, oldest first, as they were logged."""
        memory = MemoryDestination()
        add_destinations(memory)
        value = object()
        log_message("t", value=value)
        start_action(action_type="a")
        assert memory.messages[0]["value"] is value
        assert memory.messages[1]["action_type"] == "a"

    def test_begins_empty(self):
        """Each begins with nothing, in a list of its own."""
        one, two = MemoryDestination(), MemoryDestination()
        one({})
        assert (one.messages, two.messages) == ([{}], [])

    def test_removed(self):
        """What it kept stays when it is removed."""
        memory = MemoryDestination()
        add_destinations(memory)
        log_message("t")
        remove_destination(memory)
        log_message("u")
        assert [message["message_type"] for message in memory.messages] == ["t"]

    def test_forgotten(self):
        """The list is the user's: what is taken out of it is gone, and it goes on."""
        memory = MemoryDestination()
        add_destinations(memory)
        log_message("t")
        memory.messages.clear()
        log_message("u")
        assert [message["message_type"] for message in memory.messages] == ["u"]

    def test_threads(self):
        """Several threads may log at once: nothing is lost."""
        memory = MemoryDestination()
        add_destinations(memory)

        def log():
            for _ in range(1_000):
                log_message("t")

        threads = [threading.Thread(target=log) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(memory.messages) == 4_000
