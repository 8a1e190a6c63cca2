"""What tests of OTLP share: messages to spans and back, and messages that make no sense."""

from hypothesis import strategies as st

from eliot_etw.otlp._messages_of import MessageMaker
from eliot_etw.otlp._spans_of import SpanMaker
from tests.destinations.test_contract import json_messages
from tests.test_parse import odd_messages

hostile_logs = st.lists(
    json_messages | st.builds(lambda fields, odd: fields | odd, json_messages, odd_messages),
    max_size=15,
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
