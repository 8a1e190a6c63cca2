"""Assertions about what was logged, for tests of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from eliot_etw import _names as names
from eliot_etw._logger import MemoryLogger
from eliot_etw._types import ActionType, MessageType
from eliot_etw.testing._logged import LoggedAction, LoggedMessage, name_of
from eliot_etw.typing import MessageDict

_ABSENT = object()


def issuperset(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Say whether `a` has all fields of `b`, with the same values.

    `assertContainsFields` says what is different.
    """
    return not _differences(a, b)


def assertContainsFields(  # noqa: N802 - Eliot's name
    test: object, message: MessageDict, fields: Mapping[str, Any]
) -> None:
    """Assert that a message has these fields, among others.

    Args:
        test: The `unittest.TestCase`, whose `failureException` is raised; None in other tests.
        message: The message.
        fields: Names and values that it must have.

    Raises:
        AssertionError: If one is missing or different.
    """
    __tracebackhide__ = True
    differences = _differences(message, fields)
    if differences:
        _fail(test, f"{'; '.join(differences)}. The message is {message!r}.")


def assertHasMessage(  # noqa: N802 - Eliot's name
    test: object,
    logger: MemoryLogger,
    messageType: MessageType | str,  # noqa: N803 - Eliot's name
    fields: Mapping[str, Any] | None = None,
) -> LoggedMessage:
    """Assert that a message of a type was logged, the first of them with these fields.

    Can also be given to `capture_logging` as the assertion.

    Args:
        test: The `unittest.TestCase`; None in other tests.
        logger: What it was logged to.
        messageType: The type, or its name.
        fields: Names and values that the message must have; None if it does not matter.

    Returns:
        The message.

    Raises:
        AssertionError: If it is not so.
    """
    __tracebackhide__ = True
    found = LoggedMessage.of_type(logger.messages, messageType)
    if not found:
        _fail(test, _none_of("message", names.MESSAGE_TYPE, name_of(messageType), logger))
    assertContainsFields(test, found[0].message, fields or {})
    return found[0]


def assertHasAction(  # noqa: N802 - Eliot's name
    test: object,
    logger: MemoryLogger,
    actionType: ActionType | str,  # noqa: N803 - Eliot's name
    succeeded: bool,
    startFields: Mapping[str, Any] | None = None,  # noqa: N803 - Eliot's name
    endFields: Mapping[str, Any] | None = None,  # noqa: N803 - Eliot's name
) -> LoggedAction:
    """Assert that an action of a type was logged, the first of them ending so, with these fields.

    Can also be given to `capture_logging` as the assertion.

    Args:
        test: The `unittest.TestCase`; None in other tests.
        logger: What it was logged to.
        actionType: The type, or its name.
        succeeded: Whether it must have succeeded, or else failed.
        startFields: Names and values that its start must have; None if it does not matter.
        endFields: Names and values that its end must have; None if it does not matter.

    Returns:
        The action.

    Raises:
        AssertionError: If it is not so.
        ValueError: If an action of that type, or one within, has not ended.
    """
    __tracebackhide__ = True
    found = LoggedAction.of_type(logger.messages, actionType)
    if not found:
        _fail(test, _none_of("action", names.ACTION_TYPE, name_of(actionType), logger))
    action = found[0]
    if action.succeeded is not bool(succeeded):
        wanted = names.SUCCEEDED if succeeded else names.FAILED
        kind = name_of(actionType)
        _fail(test, f"The action {kind!r} must have {wanted}. Its end is {action.endMessage!r}.")
    assertContainsFields(test, action.startMessage, startFields or {})
    assertContainsFields(test, action.endMessage, endFields or {})
    return action


def _differences(message: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
    """Say, for each field that is not as expected, why."""
    differences = []
    for name, expected in fields.items():
        actual = message.get(name, _ABSENT)
        if actual is _ABSENT:
            differences.append(f"Field {name!r} must be {expected!r}, but is missing")
        elif actual is not expected and actual != expected:
            differences.append(f"Field {name!r} must be {expected!r}, got {actual!r}")
    return differences


def _none_of(what: str, field: str, wanted: str, logger: MemoryLogger) -> str:
    """Say that there is nothing of a type, and what there is."""
    types = sorted({str(message[field]) for message in logger.messages if field in message})
    return f"No {what} of type {wanted!r} was logged. Logged were: {', '.join(types) or 'none'}."


def _fail(test: object, message: str) -> NoReturn:
    __tracebackhide__ = True
    raise getattr(test, "failureException", AssertionError)(message)
