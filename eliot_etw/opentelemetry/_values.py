"""What spans and log records have in common, as fields of messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.context.context import Context

from eliot_etw.otlp._attributes import EXCEPTION_ATTRIBUTES, EXCEPTION_ESCAPED
from eliot_etw.typing import MessageDict

_SCALARS: Final = (str, bool, int, float, bytes, type(None))


def is_suppressed(context: Context) -> bool:
    """Say whether what happens in a context is an exporter's own work, and is not to be recorded.

    An exporter whose work was logged would export that too, and so on.
    """
    return bool(context.get(_SUPPRESS_INSTRUMENTATION_KEY))


def plain(attributes: Mapping[str, Any]) -> MessageDict:
    """Return attributes as fields."""
    return {name: plain_value(value) for name, value in attributes.items()}


def plain_value(value: Any) -> Any:
    """Return what an attribute or a body holds: with lists and dicts, which JSON has too."""
    if isinstance(value, _SCALARS):
        return value
    # To ask for these is slow, and they are rare.
    if isinstance(value, Mapping):
        return plain(value)
    return [plain_value(item) for item in value] if isinstance(value, Sequence) else value


def exception_of(attributes: MessageDict) -> MessageDict:
    """Take what is known of an exception out of attributes.

    Returns:
        ``exception``, ``reason`` and ``traceback``, as far as they are known.
    """
    attributes.pop(EXCEPTION_ESCAPED, None)
    return {
        ours: attributes.pop(theirs)
        for ours, theirs in EXCEPTION_ATTRIBUTES.items()
        if theirs in attributes
    }
