"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def late_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make what a package needs to import its names late.

    Put it where type checkers do not look, or they take any name for one of the package's; they
    are told of the names by imports that they alone see.

    Args:
        package: The package's name.
        modules: The names, and the modules in the package that have them.

    Returns:
        The package's ``__getattr__`` and ``__dir__``.
    """

    def getattr_(name: str) -> Any:
        if name not in modules:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def dir_() -> list[str]:
        return sorted({*vars(import_module(package)), *modules})

    return getattr_, dir_
