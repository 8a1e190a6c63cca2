"""What all tests share: a logging state of their own, and a list of what they logged."""

import pytest
from hypothesis import HealthCheck, settings

from eliot_etw import _extract, _logger, add_destinations
from eliot_etw._context import CURRENT
from eliot_etw._dispatch import Destinations
from eliot_etw.destinations.memory import MemoryDestination

# No test may fail because the machine is busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For where everything takes longer, and the same properties have been tried elsewhere.
settings.register_profile("few", settings.get_profile("patient"), max_examples=15)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def fresh_logging():
    """Give each test the logging state of a program that has just started, and clean up after it.

    The object that keeps the state stays the same one: modules hold references to it.
    """
    state = vars(_logger.DESTINATIONS)
    kept, extractors = dict(state), dict(_extract._extractors)
    default, captured = _logger._default, _logger._captured
    state.update(vars(Destinations()))
    token = CURRENT.set(None)
    yield
    CURRENT.reset(token)
    _logger._default, _logger._captured = default, captured
    state.update(kept)
    _extract._extractors.clear()
    _extract._extractors.update(extractors)


@pytest.fixture
def messages(fresh_logging):
    """Return the list in which everything that the test logs appears."""
    destination = MemoryDestination()
    add_destinations(destination)
    return destination.messages
