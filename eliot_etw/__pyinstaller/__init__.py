"""What PyInstaller must be told of what we import by name, which it does not see."""

from __future__ import annotations

import os
from importlib.util import find_spec

__all__ = ["get_hook_dirs", "installed"]


def get_hook_dirs() -> list[str]:
    """Name the folder of the hooks, one for each module that needs one; PyInstaller calls this.

    Source:
        https://pyinstaller.org/en/stable/hooks.html: "Providing PyInstaller Hooks with your
        Package".
    """
    return [os.path.dirname(__file__)]


def installed(*modules: str) -> list[str]:
    """Leave out the modules of packages that are not installed."""
    return [module for module in modules if find_spec(module.partition(".")[0]) is not None]
