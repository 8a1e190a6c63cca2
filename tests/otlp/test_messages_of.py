"""Tests of spans and log records as messages: ours as they were, others in one tree a trace."""

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import decode_line, encode_line
from eliot_etw.otlp._messages_of import MessageMaker
from eliot_etw.otlp._spans_of import SpanMaker, messages_in
from tests.destinations.test_contract import json_messages
from tests.test_parse import damaged_logs, is_permutation, logs, odd_messages

hostile_logs = st.lists(
    json_messages | st.builds(lambda fields, odd: fields | odd, json_messages, odd_messages),
    max_size=15,
)
options = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.sampled_from(["events", "logs", "spans"]),
        "max_held": st.integers(1, 5),
    },
)


def spans_of(log, **options):
    """Make spans and log records of messages."""
    maker = SpanMaker(**options)
    items = [item for message in log for item in maker.add(message)]
    items += maker.rest()
    assert maker.held == 0
    return items


def messages_of(items, **options):
    """Make messages of spans and log records."""
    maker = MessageMaker(**options)
    return [message for item in items for message in maker.add(item)] + list(maker.rest())


class TestOurs:
    """What was a message of ours."""

    @given(logs() | damaged_logs() | hostile_logs, options)
    def test_law(self, log, options):
        """Messages come back, each once and with every value, whatever they are."""
        log = [decode_line(encode_line(message)) for message in log]
        items = spans_of(log, **options)
        assert sum(map(messages_in, items)) == len(log)
        assert is_permutation(log, messages_of(items))
