"""A collector that is killed in mid-stream, and the sender that then sends everything again."""

from tests.collector._processes import lines_of

_MESSAGES = 2_000
_IN_A_BATCH = 100


def kill_and_resume(collector, shipper, sinks):
    """Kill a collector that has acknowledged some of what came, and send all to the next one.

    Args:
        collector: The fixture.
        shipper: The fixture.
        sinks: The sinks of the configuration.

    Returns:
        The numbers of the messages, each of which is to be stored once.
    """
    program = collector(sinks).start()
    sender = shipper(program.endpoint)
    _send(sender)
    sender.hear_a(sender.protocol.Ack)
    program.kill()
    resumed = shipper(program.start().endpoint)
    resumed.sender = sender.sender
    _send(resumed)
    resumed.wait_for_ack(_MESSAGES)
    return [*range(1, _MESSAGES + 1)]


def _send(sender):
    """Send all messages."""
    sender.greet()
    for first in range(1, _MESSAGES, _IN_A_BATCH):
        sender.ship(lines_of(_IN_A_BATCH, start=first), first)
