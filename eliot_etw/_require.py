"""Ask for an optional package where it is needed, and say what to install if it is not there."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from eliot_etw.exceptions import MissingDependency


def require(name: str, *, feature: str, extra: str) -> ModuleType:
    """Import a package that is installed only with one of our extras.

    Args:
        name: The module to import.
        feature: What needs it, as the user wrote it.
        extra: The extra of eliot-etw that brings it.

    Returns:
        The module.

    Raises:
        MissingDependency: If it is not installed. A package that is installed but cannot be
            imported raises its own error.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise
    package = name.partition(".")[0]
    msg = (
        f"{feature} needs the package '{package}', which is not installed. "
        f"Install it with: python -m pip install 'eliot-etw[{extra}]'"
    )
    raise MissingDependency(msg, name=package)
