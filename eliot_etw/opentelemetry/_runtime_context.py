"""OpenTelemetry's context and the current action, kept in step.

This module is loaded while `opentelemetry.context` is, if the environment says
``OTEL_PYTHON_CONTEXT=eliot``. Of OpenTelemetry it imports only what is there already by then.
"""

from __future__ import annotations

from contextvars import Token
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from opentelemetry.context.context import Context, _RuntimeContext
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from eliot_etw._action import Action
from eliot_etw._context import CURRENT

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SEEN: Final = "eliot_etw.seen"
"""The key under which a context says which action goes with its span: a `Seen`."""

_installing = Lock()


class Seen(NamedTuple):
    """Which action is the current one where this span is the current one.

    Attributes:
        span: The span of the context; None if it has none.
        action: The span's action; for a span that is not recorded, that of the nearest one around
            it.
    """

    span: Span | None
    action: Action


class _Attached(NamedTuple):
    """What `EliotRuntimeContext.detach` is to undo."""

    context: Token[Context]
    action: Token[Action | None]
    entered: Action
    is_new: bool


_Token: TypeAlias = Any  # opaque to those who keep it; the interface says Token[Context]


@final
class EliotRuntimeContext(_RuntimeContext):
    """Lets the current span and the current action be the same thing.

    Where a span is made the current one, so is its action; where an action is, the context has a
    span with its id. The innermost of both counts.
    """

    def __init__(self, wrapped: _RuntimeContext | None = None) -> None:
        """Wrap another one.

        Args:
            wrapped: What keeps OpenTelemetry's context; None for OpenTelemetry's own.
        """
        self._wrapped = ContextVarsRuntimeContext() if wrapped is None else wrapped
        self._loaded: ModuleType | None = None

    def _spans(self) -> ModuleType:
        """Load what could not be loaded with this module, see there."""
        from eliot_etw.opentelemetry import _spans  # noqa: PLC0415 - see above

        self._loaded = _spans
        return _spans

    def get_current(self) -> Context:
        """Return the current context; in an action that it does not know, one with its span."""
        context = self._wrapped.get_current()
        action = CURRENT.get()
        if action is None:
            return context
        seen = context.get(SEEN)
        if type(seen) is Seen and seen.action is action:
            return context
        found: Context = (self._loaded or self._spans()).within(context, action)
        return found

    def attach(self, context: Context) -> _Token:
        """Make a context the current one, and the action of its span with it."""
        current = CURRENT.get()
        context, action, is_new = (self._loaded or self._spans()).entered(context, current)
        token = self._wrapped.attach(context)
        if action is None or action is current:
            return token
        return _Attached(token, CURRENT.set(action), action, is_new)

    def detach(self, token: _Token) -> None:
        """Make the context and the action the current ones that were so before."""
        if not isinstance(token, _Attached):
            self._wrapped.detach(token)
            return
        try:
            self._wrapped.detach(token.context)
        finally:
            try:
                CURRENT.reset(token.action)
            except ValueError:
                # In another context than it was attached in, as with a generator's steps.
                token.entered._leave(token.action)
            if token.is_new:
                (self._loaded or self._spans()).left(token.entered)


def install() -> None:
    """Put an `EliotRuntimeContext` around OpenTelemetry's runtime context, if none is there.

    Raises:
        RuntimeError: If this version of OpenTelemetry keeps it elsewhere.
    """
    from opentelemetry import context  # noqa: PLC0415 - see the first lines

    with _installing:
        there = getattr(context, "_RUNTIME_CONTEXT", None)
        if not isinstance(there, _RuntimeContext):
            msg = (
                "opentelemetry.context._RUNTIME_CONTEXT must be a runtime context, got "
                f"{there!r}. Set the environment variable OTEL_PYTHON_CONTEXT to 'eliot' instead."
            )
            raise RuntimeError(msg)
        if not isinstance(there, EliotRuntimeContext):
            context._RUNTIME_CONTEXT = EliotRuntimeContext(there)
