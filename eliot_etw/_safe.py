"""Text for any object, whatever its own methods do; and names for fields that want one name."""

from collections.abc import Callable, Container
from threading import local
from typing import Any

from eliot_etw.typing import MessageDict

# What Eliot writes in this case; programs that search logs look for it.
UNPRINTABLE = "eliot: unknown, str() raised exception"

# Which of the functions below this thread is in.
_asked = local()


def safe_str(value: object) -> str:
    """Return `str(value)`, or a fixed text if that raises."""
    return safely(str, value)


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or a fixed text if that raises."""
    return safely(repr, value)


def safely(text_of: Callable[[Any], str], value: object) -> str:
    """Make a text of an object; not if it makes one of that kind itself meanwhile.

    A ``__repr__`` that logs its own object would else be called for the message that it logs, and
    so on to the end of the stack.

    Args:
        text_of: Makes the text. It is known by its name.
        value: The object.

    Returns:
        The text; `UNPRINTABLE` if that raised; Python's own repr if this was called from within.
    """
    asked = vars(_asked)
    name = text_of.__name__
    if name in asked:
        return object.__repr__(value)
    asked[name] = True
    try:
        return text_of(value)
    except Exception:  # noqa: BLE001 - a user's method may raise anything; logging must not
        return UNPRINTABLE
    finally:
        del asked[name]


def type_name(cls: type) -> str:
    """Return the dotted name of a class, as messages carry it in ``exception``."""
    return safely(_dotted_name, cls)


def _dotted_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


def name_beside(name: str, taken: Container[str]) -> str:
    """Find a name like the given one that is not in `taken`: underscores are added at its end."""
    while name in taken:
        name += "_"
    return name


def make_room(fields: MessageDict, reserved: frozenset[str]) -> None:
    """Rename, in place, the fields that have a reserved name: underscores are added."""
    for name in reserved & fields.keys():
        fields[name_beside(name + "_", fields)] = fields.pop(name)
