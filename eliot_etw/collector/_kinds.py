"""Sinks and inputs by their kind: ours by the name of their module, others by entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, final


@final
class Kinds:
    """What can be made by naming its kind.

    Args:
        package: Where ours are.
        group: The entry points by which other packages bring theirs.
        classes: Our kinds, which are modules of the package, and the class in each.
    """

    def __init__(self, package: str, group: str, classes: Mapping[str, str]) -> None:
        self._package = package
        self._group = group
        self._classes = classes

    def names(self) -> list[str]:
        """List all kinds, in the order of the alphabet."""
        return sorted({*self._classes, *(entry.name for entry in entry_points(group=self._group))})

    def find(self, kind: str) -> Callable[..., Any]:
        """Find what makes one of a kind.

        Raises:
            KeyError: If there is no such kind.
            ImportError, AttributeError: If it cannot be imported.
        """
        made: Callable[..., Any]
        if kind in self._classes:
            made = getattr(import_module(f"{self._package}.{kind}"), self._classes[kind])
            return made
        for entry in entry_points(group=self._group, name=kind):
            made = entry.load()
            return made
        raise KeyError(kind)
