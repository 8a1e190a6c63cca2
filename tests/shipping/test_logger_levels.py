"""Tests of loggers whose levels are set for a while."""

import logging

import pytest

pytest.importorskip("msgspec")

from eliot_etw.shipping._logger_levels import LoggerLevels


@pytest.fixture
def logger(request):
    """Return a logger of the test's own, which is gone after it, as are those below it."""
    name = f"levels_{request.node.name}"
    yield logging.getLogger(name)
    for made in [made for made in logging.root.manager.loggerDict if made.startswith(name)]:
        del logging.root.manager.loggerDict[made]


@pytest.fixture
def levels():
    """Return what sets levels, and puts all back after the test."""
    levels = LoggerLevels()
    yield levels
    levels.apply(())


def test_set_and_put_back(levels, logger):
    """The first that fits counts; when there is none any more, what was there is back."""
    logger.setLevel(30)
    below = logging.getLogger(f"{logger.name}.below")
    levels.apply(((below.name, 5), (f"{logger.name}*", 10)))
    assert (logger.level, below.level) == (10, 5)
    levels.apply(((f"{logger.name}*", 20),))
    assert (logger.level, below.level) == (20, 20)
    levels.apply(((below.name, 5),))
    assert (logger.level, below.level) == (30, 5)
    levels.apply(())
    assert (logger.level, below.level) == (30, 0)


def test_everything(levels, logger):
    """Level 0 lets everything pass; it does not mean that the logger above is asked."""
    levels.apply(((logger.name, 0),))
    assert logger.isEnabledFor(1)


def test_root(levels):
    """The root logger is called root."""
    before = logging.root.level
    levels.apply((("root", 7),))
    assert logging.root.level == 7
    levels.apply(())
    assert logging.root.level == before


def test_made_later(levels, logger):
    """A logger that is made meanwhile is found by the next call."""
    rules = ((f"{logger.name}.later", 10),)
    logging.getLogger(f"{logger.name}.later.and.below")  # makes a placeholder for the other
    levels.apply(rules)
    later = logging.getLogger(f"{logger.name}.later")
    assert later.level == 0
    levels.apply(rules)
    assert later.level == 10


def test_the_program_wins(levels, logger):
    """What the program itself sets meanwhile stays, also when all is put back."""
    levels.apply(((logger.name, 10),))
    logger.setLevel(40)
    levels.apply(((logger.name, 20),))
    assert logger.level == 40
    levels.apply(())
    assert logger.level == 40
