"""An exception as fields and as text: the registry of extractors, and traceback text."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from eliot_etw import _names as names
from eliot_etw._safe import name_beside, safe_repr, safe_str, safely, type_name
from eliot_etw.typing import ExceptionExtractor, MessageDict

_E = TypeVar("_E", bound=BaseException)

_extractors: dict[type[BaseException], ExceptionExtractor] = {
    OSError: lambda error: {"errno": error.errno}
}


def register_exception_extractor(
    exception_class: type[_E], extractor: Callable[[_E], MessageDict]
) -> None:
    """Say which fields describe exceptions of a class, in failed actions and tracebacks.

    Args:
        exception_class: The class. An exception uses the extractor of its nearest base class.
        extractor: Takes the exception, returns the fields. One that raises is reported in an
            ``eliot:traceback`` message, and adds no fields.

    Raises:
        TypeError: If these are not an exception class and a callable.
    """
    if not (isinstance(exception_class, type) and issubclass(exception_class, BaseException)):
        msg = f"exception_class must be a class of exceptions, got {exception_class!r}."
        raise TypeError(f"{msg} Pass the class itself.")
    if not callable(extractor):
        msg = f"extractor must be callable with one exception, got {extractor!r}."
        raise TypeError(f"{msg} Pass a function that returns a dict.")
    _extractors[exception_class] = extractor


def extract(exception: BaseException) -> tuple[MessageDict, Exception | None]:
    """Return the fields that describe an exception, and what its extractor raised, if it did."""
    try:
        for class_ in type(exception).__mro__:
            extractor = _extractors.get(class_)
            if extractor is not None:
                return dict(extractor(exception)), None
    except Exception as error:  # noqa: BLE001 - a user's extractor; reported by the caller
        return {}, error
    return {}, None


def failure_fields(exception: BaseException) -> MessageDict:
    """Return what the end of a failed action says: the exception's class and text."""
    return {names.EXCEPTION: type_name(type(exception)), names.REASON: safe_str(exception)}


def traceback_fields(exception: BaseException | None) -> MessageDict:
    """Return the fields of an ``eliot:traceback`` message, not serialized yet."""
    return {
        names.MESSAGE_TYPE: names.TRACEBACK_TYPE,
        names.REASON: exception,
        names.TRACEBACK: _traceback_text(exception),
        names.EXCEPTION: type(exception),
    }


def _traceback_text(exception: BaseException | None) -> str:
    """Write an exception with its traceback, chain, notes and groups.

    Source lines are left out, so that no file is read in the middle of the program's work; frame
    locals are left out too, for what they may hold.
    """
    if exception is None:
        return "NoneType: None\n"
    return safely(_formatted, exception)


def _formatted(exception: BaseException) -> str:
    try:
        whole = traceback.TracebackException.from_exception(exception, lookup_lines=False)
        for part in _parts(whole):
            part.stack = _without_source(part.stack)
        return "".join(whole.format())
    except Exception as error:  # noqa: BLE001 - the exception's own attributes may raise anything
        name = type_name(type(exception))
        return f"{name}: no traceback, formatting it raised {safe_repr(error)}\n"


def _parts(whole: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """Give an exception, and all that it is chained to or groups."""
    waiting = [whole]
    while waiting:
        part = waiting.pop()
        yield part
        group: Any = getattr(part, "exceptions", None)  # new in Python 3.11
        linked = [part.__cause__, part.__context__, *(group or ())]
        waiting.extend(other for other in linked if other is not None)


def _without_source(stack: traceback.StackSummary) -> traceback.StackSummary:
    """Copy a stack so that formatting it reads no source file."""
    return traceback.StackSummary.from_list(
        [
            traceback.FrameSummary(
                frame.filename, frame.lineno, frame.name, lookup_line=False, line=""
            )
            for frame in stack
        ]
    )


def beside(fields: MessageDict, ours: MessageDict) -> MessageDict:
    """Join fields with ours, which keep their names; a user's field of such a name gives way."""
    result = dict(ours)
    for name, value in fields.items():
        result[name_beside(name, result)] = value
    return result
