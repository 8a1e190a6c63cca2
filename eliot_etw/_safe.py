"""Text for any object, whatever its own methods do."""

from collections.abc import Container

# What Eliot writes in this case; programs that search logs look for it.
UNPRINTABLE = "eliot: unknown, str() raised exception"


def safe_str(value: object) -> str:
    """Return `str(value)`, or a fixed text if that raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything; logging must not
        return UNPRINTABLE


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or a fixed text if that raises."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything; logging must not
        return UNPRINTABLE


def type_name(cls: type) -> str:
    """Return the dotted name of a class, as messages carry it in ``exception``."""
    return f"{cls.__module__}.{cls.__name__}"


def name_beside(name: str, taken: Container[str]) -> str:
    """Find a name like the given one that is not in `taken`: underscores are added at its end."""
    while name in taken:
        name += "_"
    return name
