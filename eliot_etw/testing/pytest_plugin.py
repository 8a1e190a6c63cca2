"""The pytest plugin: the fixture `captured_logs`, and the tree of what a failing test logged.

Every run of pytest imports this module where eliot-etw is installed, so it imports nothing that
is not needed before a test asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eliot_etw.testing import CapturedLogs

_INI = "eliot_validate"
_has_passed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(
        _INI,
        "Whether what the fixture captured_logs captured is checked against types and JSON.",
        type="bool",
        default=True,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        f"eliot(validate): whether captured_logs checks what was logged; beats {_INI}.",
    )


@pytest.fixture
def captured_logs(request: pytest.FixtureRequest) -> Iterator[CapturedLogs]:
    """Capture what is logged with eliot_etw from here to the end of the test.

    When a test that passed is over, tracebacks that it did not flush are an error, as are messages
    that do not fit their types or cannot be encoded. The latter are let pass with
    ``@pytest.mark.eliot(validate=False)``, or by ``eliot_validate = false`` in the ini file.
    """
    from eliot_etw.testing import CapturedLogs  # noqa: PLC0415 - see the module docstring
    from eliot_etw.testing._capture import (  # noqa: PLC0415 - see the module docstring
        CAPTURES,
        check_for_errors,
        check_tracebacks,
    )

    check = check_for_errors if _validates(request) else check_tracebacks
    logs = CapturedLogs()
    end = CAPTURES.begin(logs)
    yield logs
    end()
    if request.node.stash.get(_has_passed, False):
        wrong = _raised_by(check, logs)
        if wrong is not None:
            # Not raised as it is: the frames in between are not of interest.
            pytest.fail(f"{type(wrong).__name__}: {wrong}", pytrace=False)


def _raised_by(check: Callable[[CapturedLogs], None], logs: CapturedLogs) -> Exception | None:
    """Return what a check raises, if it does."""
    try:
        check(logs)
    except Exception as error:  # noqa: BLE001 - a type's own code may raise anything; it is shown
        return error
    return None


def _validates(request: pytest.FixtureRequest) -> bool:
    """Say whether the messages of a test are to be checked."""
    default: bool = request.config.getini(_INI)
    marker = request.node.get_closest_marker("eliot")
    if marker is None:
        return default
    if marker.args or marker.kwargs.keys() != {"validate"}:
        pytest.fail(
            f"The marker eliot must have the one argument 'validate', got {marker.args!r} and "
            f"{marker.kwargs!r}. Write @pytest.mark.eliot(validate=False).",
            pytrace=False,
        )
    return bool(marker.kwargs["validate"])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget what tests before this one logged."""
    capture = sys.modules.get("eliot_etw.testing._capture")
    if capture is not None:
        capture.CAPTURES.forget()


@pytest.hookimpl(hookwrapper=True)  # not `wrapper`, which older versions of pytest do not know
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show with a test that fails what it logged."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if report.when == "call":
        item.stash[_has_passed] = report.passed
    capture = sys.modules.get("eliot_etw.testing._capture")
    if report.failed and capture is not None:
        report.sections += [("eliot log", text) for text in map(_tree, capture.CAPTURES.loggers)]


def _tree(logger: Any) -> str:
    """Draw what was logged."""
    from eliot_etw.testing._tree_text import tree_text  # noqa: PLC0415 - see the module docstring

    try:
        return tree_text(logger)
    except Exception as error:  # noqa: BLE001 - it would end the whole run; a test may spoil a list
        return f"What was logged cannot be drawn: {error!r}"
