"""Tests of the assertions: they pass for what was logged, and say what is wrong otherwise."""

import re
from unittest import TestCase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import ActionType, MemoryLogger, Message, MessageType, fields, start_action
from eliot_etw.testing import (
    LoggedAction,
    LoggedMessage,
    assertContainsFields,
    assertHasAction,
    assertHasMessage,
    issuperset,
)

COPY = ActionType("app:copy", fields(path=str), fields(size=int), "Copies a file.")
FOUND = MessageType("app:found", fields(path=str), "A file was found.")

some_fields = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2))


class OtherFailure(Exception):
    """What a kind of test raises that has exceptions of its own."""


class OtherTest(TestCase):
    """A test of that kind."""

    failureException = OtherFailure


@pytest.fixture
def logger():
    """A logger with two messages and two actions, one of them failed."""
    logger = MemoryLogger()
    FOUND(path="a").write(logger)
    FOUND(path="b").write(logger)
    with COPY(logger, path="a") as action:
        action.add_success_fields(size=1)
    with pytest.raises(KeyError), start_action(logger, "app:fail"):
        raise KeyError
    return logger


class TestContainsFields:
    """`issuperset` and `assertContainsFields`."""

    @given(some_fields, some_fields)
    def test_as_items(self, one, other):
        """A message has the fields if all of their items are among its own."""
        assert (other.items() <= one.items()) is issuperset(one, other)

    @given(some_fields, some_fields)
    def test_assertion(self, one, other):
        """The assertion fails exactly if it is no superset."""
        try:
            assertContainsFields(None, one, other)
            has_passed = True
        except AssertionError:
            has_passed = False
        assert issuperset(one, other) is has_passed

    def test_nan(self):
        """A value is the same as itself, even if it is not equal to itself."""
        nan = float("nan")
        assertContainsFields(None, {"x": nan}, {"x": nan})

    def test_expected_none(self):
        """A missing field is not one that is None."""
        with pytest.raises(AssertionError, match="'x' must be None, but is missing"):
            assertContainsFields(None, {}, {"x": None})

    def test_says_what_is_different(self):
        """The failure names each field that is missing or different, and no other."""
        with pytest.raises(AssertionError) as raised:
            assertContainsFields(None, {"same": 1, "x": 2}, {"same": 1, "x": 3, "y": 4})
        said = str(raised.value).partition(" The message is ")[0]
        assert said == "Field 'x' must be 3, got 2; Field 'y' must be 4, but is missing."

    def test_failure_is_the_tests_own(self):
        """A TestCase with another exception for failures gets that."""
        with pytest.raises(OtherFailure):
            assertContainsFields(OtherTest(), {}, {"x": 1})


@pytest.mark.parametrize("test", [None, TestCase()])
class TestHasMessage:
    """`assertHasMessage`, in a function and in a TestCase."""

    @pytest.mark.parametrize("expected", [None, {}, {"path": "a"}])
    def test_passes(self, test, logger, expected):
        """The first message of the type is returned if its fields are right."""
        found = assertHasMessage(test, logger, FOUND, expected)
        assert LoggedMessage(logger.messages[0]) == found

    def test_by_name(self, test, logger):
        """The type may be given by its name."""
        assert assertHasMessage(test, logger, FOUND) == assertHasMessage(test, logger, "app:found")

    def test_only_the_first_counts(self, test, logger):
        """That another message of the type has the fields is not enough."""
        with pytest.raises(AssertionError, match="'path' must be 'b', got 'a'"):
            assertHasMessage(test, logger, FOUND, {"path": "b"})

    def test_none_there(self, test, logger):
        """Without such a message, the failure tells which there are."""
        Message.new(message_type="app:other").write(logger)
        said = "No message of type 'app:copy' was logged. Logged were: app:found, app:other."
        with pytest.raises(AssertionError, match=f"^{re.escape(said)}$"):
            assertHasMessage(test, logger, "app:copy")


@pytest.mark.parametrize("test", [None, TestCase()])
class TestHasAction:
    """`assertHasAction`, in a function and in a TestCase."""

    def test_passes(self, test, logger):
        """The first action of the type is returned if all is right."""
        found = assertHasAction(test, logger, COPY, True, {"path": "a"}, {"size": 1})
        assert LoggedAction.of_type(logger.messages, COPY)[0] == found

    def test_failed(self, test, logger):
        """An action that failed is what is wanted if that is wanted."""
        end = {"exception": "builtins.KeyError"}
        found = assertHasAction(test, logger, "app:fail", succeeded=False, endFields=end)
        assert not found.succeeded

    @pytest.mark.parametrize(
        ("action_type", "succeeded", "wanted"),
        [("app:copy", False, "failed"), ("app:fail", True, "succeeded")],
    )
    def test_wrong_end(self, test, logger, action_type, succeeded, wanted):
        """The failure tells how the action should have ended, and how it did."""
        with pytest.raises(
            AssertionError, match=rf"'{action_type}' must have {wanted}\. Its end is .*status"
        ):
            assertHasAction(test, logger, action_type, succeeded)

    @pytest.mark.parametrize(
        "expected", [{"startFields": {"path": "b"}}, {"endFields": {"size": 2}}]
    )
    def test_wrong_fields(self, test, logger, expected):
        """The fields of both ends count, each of its own."""
        with pytest.raises(AssertionError, match="must be"):
            assertHasAction(test, logger, COPY, True, **expected)

    def test_none_there(self, test, logger):
        """Without such an action, the failure tells which there are."""
        said = "No action of type 'app:found' was logged. Logged were: app:copy, app:fail."
        with pytest.raises(AssertionError, match=f"^{re.escape(said)}$"):
            assertHasAction(test, logger, "app:found", True)

    def test_nothing_there(self, test, logger):
        """If there is no action at all, the failure says so."""
        logger.reset()
        with pytest.raises(AssertionError, match=r"Logged were: none\.$"):
            assertHasAction(test, logger, "app:found", True)
