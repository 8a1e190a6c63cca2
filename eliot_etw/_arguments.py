"""What `log_call` logs of a call: which arguments and the result, and how much of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

from eliot_etw._safe import name_beside, safe_repr
from eliot_etw.typing import MessageDict

RESULT = "result"
REDACTED = "[redacted]"

Names: TypeAlias = Iterable[str] | None

# What comes first in the signature of a method: the object it belongs to, which is not logged.
_RECEIVERS = frozenset({"self", "cls"})
_NONE = inspect.Parameter.empty


class Selection:
    """What to log of the calls of one function.

    Attributes:
        names: The arguments that are logged.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        include_args: Names,
        exclude_args: Names,
        redact: Names,
        max_length: int | None,
    ) -> None:
        """Check what was asked for against the function.

        The parameters are those of `log_call`.

        Raises:
            ValueError: If there is no argument of such a name, or max_length is not above 0.
        """
        _check_length(max_length)
        signature = _signature(f)
        known = list(signature.parameters)
        first = 1 if known and known[0] in _RECEIVERS else 0
        included = known[first:] if include_args is None else list(include_args)
        excluded = frozenset(exclude_args or ())
        hidden = frozenset(redact or ())
        _check_names("include_args", included, known)
        _check_names("exclude_args", excluded, known)
        _check_names("redact", hidden, [*known, RESULT])
        self.names = [name for name in included if name not in excluded]
        self._hides_result = RESULT in hidden
        self._shorten = None if max_length is None else partial(shortened, max_length=max_length)
        self._bind: Any = _binder(signature, self.names, hidden, self._shorten)
        # So that its TypeErrors read as those of the function.
        self._bind.__qualname__ = getattr(f, "__qualname__", "")
        self._is_exact = _is_exact(f)

    def fields(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MessageDict:
        """Return what is logged of a call's arguments.

        Raises:
            TypeError: If the function does not take these; in the words of the function's own.
        """
        try:
            fields: MessageDict = self._bind(*args, **kwargs)
        except TypeError:
            if self._is_exact:
                raise
            return {}
        return fields

    def result(self, value: object) -> object:
        """Return what is logged of a call's result."""
        if self._hides_result:
            return REDACTED
        return value if self._shorten is None else self._shorten(value)


def _signature(f: Callable[..., Any]) -> inspect.Signature:
    """Return what a function says that it takes; some of those written in C say nothing."""
    try:
        return inspect.signature(f)
    except ValueError:
        return inspect.signature(lambda *args, **kwargs: None)


def _is_exact(f: Callable[..., Any]) -> bool:
    """Say whether a function is sure to take exactly what its signature says.

    That of a wrapper is commonly the signature of what it wraps.
    """
    function = getattr(f, "__func__", f)  # of a bound method
    return inspect.isfunction(function) and not (
        hasattr(function, "__wrapped__") or hasattr(function, "__signature__")
    )


def _binder(
    signature: inspect.Signature,
    names: Iterable[str],
    hidden: frozenset[str],
    shorten: Callable[[object], object] | None,
) -> Any:
    """Make a function that takes what the signature says and returns it as a dict.

    Python does the work then, and does it as for the function itself: 0.16 us, where
    `Signature.bind` and `inspect.getcallargs` take 5 us and more.
    """
    parameters = signature.parameters.values()
    # Defaults are added as objects, so that in the source there are only names.
    bare = [
        p.replace(annotation=_NONE, default=_NONE if p.default is _NONE else None)
        for p in parameters
    ]
    shorten_name = name_beside("shorten", signature.parameters)
    form = "{0}" if shorten is None else f"{shorten_name}({{0}})"
    items = [f"{n!r}: {repr(REDACTED) if n in hidden else form.format(n)}" for n in names]
    source = f"lambda {str(inspect.Signature(bare))[1:-1]}: {{{', '.join(items)}}}"
    bind = eval(source, {shorten_name: shorten})  # noqa: S307 - made of identifiers only
    given = [p for p in parameters if p.default is not _NONE]
    bind.__defaults__ = tuple(p.default for p in given if p.kind is not p.KEYWORD_ONLY)
    bind.__kwdefaults__ = {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY}
    return bind


def _check_names(option: str, names: Iterable[str], known: list[str]) -> None:
    """Raise ValueError if a name is none of those that are known."""
    wrong = [name for name in names if name not in known]
    if wrong:
        msg = (
            f"{option} must name arguments of the function, got {wrong!r}. "
            f"Pass a list of some of these: {', '.join(known)}."
        )
        raise ValueError(msg)


def _check_length(max_length: object) -> None:
    """Raise ValueError if that is no length."""
    if max_length is not None and not (type(max_length) is int and max_length > 0):
        msg = (
            f"max_length must be a whole number above 0, got {max_length!r}. "
            "Leave it out to log values of any length."
        )
        raise ValueError(msg)


def shortened(value: object, max_length: int) -> object:
    """Cut a value that is long: text, bytes, or what else has a long `repr`.

    >>> shortened("abcdefgh", 3)
    'abc… (8 characters)'
    >>> shortened([1000, 2000], 20)
    [1000, 2000]

    Args:
        value: Any value.
        max_length: How many characters or bytes are not yet too many, and are left of the rest.

    Returns:
        The value itself if it is short enough, else text that says how long it was.
    """
    # By type(), since isinstance() asks the value, which may raise.
    if type(value) in (bytes, bytearray):
        data: Any = value
        length, unit = len(data), "bytes"
        beginning = data[:max_length].decode("utf-8", "backslashreplace")
    else:
        text = str.__str__(value) if issubclass(type(value), str) else safe_repr(value)
        length, unit = len(text), "characters"
        beginning = text[:max_length]
    return value if length <= max_length else f"{beginning}… ({length} {unit})"
